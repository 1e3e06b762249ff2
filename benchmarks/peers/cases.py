"""Who is measured and with what: contenders, cases of steps a second, and cases of time to a score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.peers.settings import DQN, PPO, SAC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.peers.settings import Settings


@dataclass(frozen=True)
class Contender:
    """Who trains, in a process of its own."""

    title: str
    module: str
    """In `contenders`."""
    requirements: str
    """In `requirements`: what its virtual environment holds."""
    packages: tuple[str, ...]
    """Whose versions are told."""
    framework: str = ""
    """Of ours."""

    @property
    def is_ours(self) -> bool:
        """Whether it is this library."""
        return bool(self.framework)


CONTENDERS = {
    "sb3": Contender(
        "Stable-Baselines3",
        "stable_baselines3",
        "stable_baselines3",
        ("stable-baselines3", "torch", "gymnasium"),
    ),
    "sbx": Contender("SBX", "sbx", "sbx", ("sbx-rl", "jax", "gymnasium")),
    "plain": Contender(
        "PyTorch, a single file", "plain", "stable_baselines3", ("torch", "gymnasium")
    ),
    "tianshou": Contender("Tianshou", "tianshou", "tianshou", ("tianshou", "torch", "gymnasium")),
    "torch": Contender(
        "tensor-optix, PyTorch", "ours", "ours", ("torch", "gymnasium", "envpool"), "torch"
    ),
    "tensorflow": Contender(
        "tensor-optix, TensorFlow",
        "ours",
        "ours",
        ("tensorflow", "keras", "gymnasium", "envpool"),
        "tensorflow",
    ),
    "native": Contender(
        "tensor-optix, native", "ours", "ours", ("numpy", "gymnasium", "envpool"), "native"
    ),
}


@dataclass(frozen=True)
class Speed:
    """All contenders train with the same settings; what counts is environment steps a second."""

    title: str
    settings: Settings
    steps: int
    """Of a round."""
    warm_up: int
    """Steps before the first round: in them is all that happens once, such as compiling."""
    own: Mapping[str, Settings] = field(default_factory=dict)
    """Of contenders that know the environment by another id."""

    def settings_of(self, contender: str) -> Settings:
        """Return what a contender is given."""
        return self.own.get(contender, self.settings)


def _pong(env_id: str) -> PPO:
    return PPO(
        env_id,
        rows=1024,
        minibatch=256,
        epochs=4,
        learning_rate=2.5e-4,
        clip=0.1,
        entropy_coef=0.01,
        is_atari=True,
    )


_EXPLORED = 1_000
"""Steps after which epsilon is at its least, so that all rounds have the same one."""

SPEED: Mapping[str, Mapping[str, Speed]] = {
    "classic": {
        "cartpole-ppo": Speed("PPO, CartPole-v1, 8 environments", PPO("CartPole-v1"), 4096, 4096),
        "lunarlander-ppo": Speed(
            "PPO, LunarLander-v3, 16 environments", PPO("LunarLander-v3", num_envs=16), 4096, 4096
        ),
        "cartpole-dqn": Speed(
            "DQN, CartPole-v1, the settings of Stable-Baselines3's zoo",
            DQN("CartPole-v1", epsilon_steps=_EXPLORED),
            2048,
            3072,
        ),
        "pendulum-sac": Speed("SAC, Pendulum-v1", SAC("Pendulum-v1"), 256, 768),
    },
    "mujoco": {
        "halfcheetah-ppo": Speed(
            "PPO, HalfCheetah-v5, 8 environments", PPO("HalfCheetah-v5"), 4096, 4096
        ),
        "halfcheetah-sac": Speed("SAC, HalfCheetah-v5", SAC("HalfCheetah-v5"), 256, 768),
    },
    "atari": {
        "pong-ppo": Speed(
            "PPO, Pong, 8 environments; ale-py's, those of tensor-optix EnvPool's",
            _pong("PongNoFrameskip-v4"),
            1024,
            1024,
            {name: _pong("Pong-v5") for name, one in CONTENDERS.items() if one.is_ours},
        )
    },
}


@dataclass(frozen=True)
class Score:
    """From the start of a process to the first greedy evaluation that reaches a score.

    Every contender has the settings that its own authors recommend; ours are those of `tensor-optix train`.
    """

    env_id: str
    score: float
    every: int
    """Steps of the peers between two evaluations. Ours are evaluated after each window."""
    settings: Mapping[str, Mapping[str, Settings]]
    """Of each peer, by the algorithm."""


def _zoo_dqn(env_id: str) -> DQN:
    return DQN(
        env_id,
        learning_rate=6.3e-4,
        batch=128,
        capacity=50_000,
        learning_starts=0,
        target_every=250,
        train_every=4,
        updates=4,
        epsilon_steps=12_000,
        epsilon_min=0.1,
    )


def _single_file_ppo(env_id: str) -> PPO:
    """The defaults of CleanRL's ppo.py."""
    return PPO(
        env_id,
        num_envs=4,
        rows=512,
        minibatch=128,
        epochs=4,
        learning_rate=2.5e-4,
        entropy_coef=0.01,
        anneal_steps=500_000,
    )


def _single_file_dqn(env_id: str) -> DQN:
    """The defaults of CleanRL's dqn.py."""
    return DQN(
        env_id,
        hidden_sizes=(120, 84),
        learning_rate=2.5e-4,
        batch=128,
        capacity=10_000,
        learning_starts=10_000,
        target_every=50,
        train_every=10,
        updates=1,
        epsilon_steps=250_000,
        epsilon_min=0.05,
    )


def _zoo(**settings: Settings) -> dict[str, Mapping[str, Settings]]:
    """Those of RL Baselines3 Zoo's hyperparams/*.yml, which SBX takes as well."""
    return {"sb3": settings, "sbx": settings}


SCORES: Mapping[str, Score] = {
    "cartpole": Score(
        "CartPole-v1",
        475,
        1024,
        {
            **_zoo(
                ppo=PPO(
                    "CartPole-v1",
                    rows=256,
                    minibatch=256,
                    epochs=20,
                    learning_rate=1e-3,
                    gamma=0.98,
                    gae_lambda=0.8,
                    anneal_steps=100_000,
                    anneals_clip=True,
                ),
                dqn=DQN("CartPole-v1"),
            ),
            "plain": {
                "ppo": _single_file_ppo("CartPole-v1"),
                "dqn": _single_file_dqn("CartPole-v1"),
            },
            # test/discrete/test_ppo_discrete.py and test_dqn.py.
            "tianshou": {
                "ppo": PPO("CartPole-v1", num_envs=20, rows=2000, normalizes_advantages=False),
                "dqn": DQN(
                    "CartPole-v1",
                    num_envs=10,
                    hidden_sizes=(128, 128, 128, 128),
                    learning_rate=1e-3,
                    capacity=20_000,
                    learning_starts=640,
                    gamma=0.9,
                    n_step=3,
                    target_every=320,
                    train_every=10,
                    updates=1,
                    epsilon=0.1,
                    epsilon_steps=50_000,
                    epsilon_min=0.01,
                    is_double=True,
                ),
            },
        },
    ),
    "acrobot": Score(
        "Acrobot-v1",
        -100,
        2048,
        {
            **_zoo(
                ppo=PPO(
                    "Acrobot-v1", num_envs=16, rows=4096, epochs=4, gae_lambda=0.94, normalizes=True
                ),
                dqn=_zoo_dqn("Acrobot-v1"),
            ),
            "plain": {"ppo": _single_file_ppo("Acrobot-v1"), "dqn": _single_file_dqn("Acrobot-v1")},
            # examples/box2d/acrobot_dualdqn.py.
            "tianshou": {
                "dqn": DQN(
                    "Acrobot-v1",
                    num_envs=10,
                    hidden_sizes=(128,),
                    dueling_sizes=(128, 128),
                    learning_rate=1e-3,
                    capacity=20_000,
                    learning_starts=640,
                    gamma=0.95,
                    n_step=3,
                    target_every=320,
                    train_every=100,
                    updates=1,
                    epsilon=0.5,
                    epsilon_steps=500_000,
                    epsilon_min=0.25,
                    is_double=True,
                )
            },
        },
    ),
    "pendulum": Score(
        "Pendulum-v1",
        -200,
        512,
        {
            "sb3": {
                "sac": SAC("Pendulum-v1", learning_rate=1e-3),
                "ppo": PPO(
                    "Pendulum-v1", num_envs=4, rows=4096, learning_rate=1e-3, gamma=0.9, sde_freq=4
                ),
            },
            # Its PPO has no state-dependent noise, which the zoo's settings ask for.
            "sbx": {"sac": SAC("Pendulum-v1", learning_rate=1e-3)},
            # The defaults of CleanRL's sac_continuous_action.py.
            "plain": {
                "sac": SAC("Pendulum-v1", critic_rate=1e-3, learning_starts=5000, policy_every=2)
            },
            # test/continuous/test_sac_with_il.py.
            "tianshou": {
                "sac": SAC(
                    "Pendulum-v1",
                    num_envs=10,
                    hidden_sizes=(128, 128),
                    learning_rate=1e-3,
                    batch=128,
                    capacity=20_000,
                    learning_starts=130,
                    n_step=3,
                    train_every=10,
                    updates=1,
                )
            },
        },
    ),
    "lunarlander": Score(
        "LunarLander-v3",
        200,
        8192,
        {
            **_zoo(
                ppo=PPO(
                    "LunarLander-v3",
                    num_envs=16,
                    rows=16_384,
                    epochs=4,
                    gamma=0.999,
                    gae_lambda=0.98,
                    entropy_coef=0.01,
                ),
                dqn=_zoo_dqn("LunarLander-v3"),
            ),
            "plain": {
                "ppo": _single_file_ppo("LunarLander-v3"),
                "dqn": _single_file_dqn("LunarLander-v3"),
            },
            # examples/box2d/lunarlander_dqn.py.
            "tianshou": {
                "dqn": DQN(
                    "LunarLander-v3",
                    num_envs=10,
                    hidden_sizes=(128, 128),
                    dueling_sizes=(128, 128),
                    learning_rate=0.013,
                    batch=128,
                    learning_starts=130,
                    n_step=4,
                    target_every=500,
                    train_every=20,
                    updates=1,
                    epsilon=0.73,
                    epsilon_steps=800_000,
                    epsilon_min=0.01,
                    is_double=True,
                )
            },
        },
    ),
}
