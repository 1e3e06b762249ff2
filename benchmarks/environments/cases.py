"""What is trained for the table of environments: what comes after `tensor-optix train`, and for how long."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

STEPS = 20_000
EPISODES = 10


@dataclass(frozen=True)
class Case:
    """One environment, as a user would name it on the command line."""

    family: str
    env_id: str
    options: str = ""
    """Further words of the command line."""
    steps: int = STEPS
    """Fewer where a second has less than some fifty, of a slow simulator or of learning from large images."""
    episodes: int = EPISODES
    """That are evaluated: 16 at most, so that each has an environment of its own."""

    @property
    def command(self) -> str:
        """The command without seed and directory."""
        words = ["tensor-optix train", shlex.quote(self.env_id), self.options]
        return " ".join([*filter(None, words), f"--max-steps {self.steps}"])

    @property
    def words(self) -> list[str]:
        """What comes after `train`, but for seed and directory."""
        return [self.env_id, *shlex.split(self.options), "--max-steps", str(self.steps)]


ENVPOOL = "--backend envpool"
REWARD = "--wrapper benchmarks.environments.wrappers:one_reward"
SMALL = "--num-envs 2 --window-size 256"
"""Windows of which a budget of few steps holds several."""

CASES = [
    Case("minigrid", "minigrid:MiniGrid-Empty-5x5-v0"),
    Case("minigrid", "minigrid:MiniGrid-DoorKey-5x5-v0"),
    Case("minigrid", "minigrid:MiniGrid-LavaGapS5-v0"),
    Case("minigrid", "minigrid:MiniGrid-FourRooms-v0"),
    Case("minigrid", "minigrid:BabyAI-GoToRedBall-v0"),
    Case("highway-env", "highway_env:highway-fast-v0", SMALL, 2_048, 4),
    Case("highway-env", "highway_env:parking-v0", f"{SMALL} --algo sac", 4_096, 4),
    Case("highway-env", "highway_env:racetrack-v0", SMALL, 1_024, 4),
    Case("gymnasium-robotics", "gymnasium_robotics:FetchReachDense-v4"),
    Case("gymnasium-robotics", "gymnasium_robotics:PointMaze_UMaze-v3"),
    Case("gymnasium-robotics", "gymnasium_robotics:AdroitHandDoor-v1"),
    Case("gymnasium-robotics", "gymnasium_robotics:HandReach-v3"),
    Case("gymnasium-robotics", "gymnasium_robotics:FrankaKitchen-v1", steps=10_000, episodes=4),
    Case("panda-gym", "panda_gym:PandaReach-v3", "--env-kwargs reward_type=dense"),
    Case("panda-gym", "panda_gym:PandaPush-v3"),
    Case("flappy-bird-gymnasium", "flappy_bird_gymnasium:FlappyBird-v0"),
    Case(
        "flappy-bird-gymnasium",
        "flappy_bird_gymnasium:FlappyBird-v0",
        "--env-kwargs use_lidar=False",
    ),
    Case("gym-anytrading", "gym_anytrading:stocks-v0"),
    Case("gym-anytrading", "gym_anytrading:forex-v0", "--env-kwargs window_size=10"),
    Case("gym-pusht", "gym_pusht:gym_pusht/PushT-v0"),
    Case("mo-gymnasium", "mo_gymnasium:deep-sea-treasure-v0", REWARD),
    Case("mo-gymnasium", "mo_gymnasium:mo-mountaincar-v0", REWARD),
    Case("shimmy, dm_control", "shimmy:dm_control/cartpole-balance-v0"),
    Case("shimmy, dm_control", "shimmy:dm_control/reacher-easy-v0"),
    Case("shimmy, dm_control", "shimmy:dm_control/walker-walk-v0", episodes=4),
    Case("ale-py", "ALE/Pong-v5", episodes=2),
    Case("ale-py", "ALE/Breakout-v5", steps=6_144, episodes=4),
    Case("ale-py", "ALE/Breakout-v5", "--no-atari --env-kwargs obs_type=ram", episodes=4),
    Case("mujoco", "HalfCheetah-v5"),
    Case("mujoco", "Hopper-v5", "--backend sync"),
    Case("mujoco", "Humanoid-v5"),
    Case("box2d", "LunarLander-v3"),
    Case("box2d", "BipedalWalker-v3", "--backend sync"),
    Case("box2d", "CarRacing-v3", "--num-envs 4 --env-kwargs continuous=False", 2_048, 2),
    Case("toy text", "Taxi-v4"),
    Case("toy text", "Blackjack-v1"),
    Case("toy text", "CliffWalking-v1", "--env-kwargs max_episode_steps=200"),
    Case("toy text", "FrozenLake-v1", "--env-kwargs map_name=8x8 is_slippery=False"),
    Case("tetris-gymnasium", "tetris_gymnasium.envs:tetris_gymnasium/Tetris"),
    Case("pybullet", "pybullet_envs_gymnasium:ReacherBulletEnv-v0"),
    Case("pybullet", "pybullet_envs_gymnasium:HopperBulletEnv-v0"),
    Case("EnvPool, classic control", "Pendulum-v1", ENVPOOL),
    Case("EnvPool, MuJoCo", "InvertedDoublePendulum-v5", ENVPOOL),
    Case("EnvPool, Box2D", "LunarLanderContinuous-v3", ENVPOOL),
    Case("EnvPool, Atari", "Breakout-v5", steps=6_144, episodes=4),
    Case("EnvPool, dm_control", "CartpoleBalance-v1", ENVPOOL),
    Case("EnvPool, dm_control", "WalkerWalk-v1", ENVPOOL),
    Case("EnvPool, minigrid", "MiniGrid-Empty-8x8-v0", ENVPOOL),
    Case("EnvPool, minigrid", "MiniGrid-DoorKey-5x5-v0", ENVPOOL),
    Case("EnvPool, jumanji", "Game2048-v1", ENVPOOL),
    Case("EnvPool, jumanji", "Snake-v1", ENVPOOL),
    Case("EnvPool, jumanji", "Maze-v0", ENVPOOL),
    Case("EnvPool, highway", "highway-v0", ENVPOOL),
    Case("EnvPool, robotics", "FetchReachDense-v4", ENVPOOL),
    Case("EnvPool, Meta-World", "MetaWorld/Reach-v3", ENVPOOL),
    Case(
        "EnvPool, ViZDoom",
        "HealthGathering-v1",
        f"{ENVPOOL} --num-envs 4 --window-size 128",
        2_048,
        4,
    ),
]
