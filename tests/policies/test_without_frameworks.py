"""Policies where no framework can be imported play what `tensor-optix evaluate` plays, to the same scores."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tensor_optix import BatchPipeline, HyperparamSet, RLOptimizer, load, make_agent
from tensor_optix.cli.main import main
from tests.frameworks import require

if TYPE_CHECKING:
    from pathlib import Path

PARTS = "tests.policies.parts_env:Parts-v0"
RUNS = {
    "cart": ("CartPole-v1", "ppo", {"window_size": 128, "max_episodes": 6}),
    "pendulum": ("Pendulum-v1", "sac", {"window_size": 300, "max_episodes": 3}),
    "parts": (PARTS, "dqn", {"window_size": 128, "max_episodes": 4}),
}
SCREEN = "tests.policies.image_env:Screen-v0"
IMAGES = {"screen": (SCREEN, "ppo", {"window_size": 128, "max_episodes": 3})}
EPISODES = 3
SCRIPT = """
import json, sys
for name in ("torch", "tensorflow", "keras"):
    sys.modules[name] = None
import gymnasium, tensor_optix
returns = {}
for place, env_id, seed in json.loads(sys.argv[1]):
    policy, env = tensor_optix.load(place), gymnasium.make(env_id)
    returns[env_id] = []
    for episode in range(%d):
        (observation, _), total, is_over = env.reset(seed=seed + episode), 0.0, False
        while not is_over:
            observation, reward, ended, cut, _ = env.step(policy.predict(observation))
            total, is_over = total + float(reward), ended or cut
        returns[env_id].append(total)
print(json.dumps(returns))
"""


def trained(path: Path, name: str, framework: str) -> None:
    """Let a small run learn a little."""
    env_id, algorithm, settings = (RUNS | IMAGES)[name]
    small = (
        {} if algorithm == "ppo" else {"batch_size": 8, "learning_starts": 64, "update_every": 8}
    )
    agent = make_agent(
        env_id,
        algorithm,
        framework,
        hidden_sizes=(16, 16),
        seed=1,
        device="cpu",
        normalize_observations=name == "cart",
        hyperparams=HyperparamSet(small),
    )
    pipeline = BatchPipeline(env_id=env_id, window_size=settings["window_size"], seed=0)
    episodes = settings["max_episodes"]
    RLOptimizer(agent, pipeline, run_dir=path, seed=0, max_episodes=episodes).run()


@pytest.mark.parametrize("framework", ["native", "torch", "tensorflow"])
def test_policies_play_to_the_scores_of_evaluate(
    framework: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require(framework)
    played, asked = {}, []
    runs = RUNS if framework == "native" else RUNS | IMAGES
    for name, (env_id, _, _) in runs.items():
        trained(tmp_path / name, name, framework)
        (tmp_path / name).rename(tmp_path / f"moved-{name}")
        run = tmp_path / f"moved-{name}"
        capsys.readouterr()
        options = ["--episodes", str(EPISODES), "--json", "--backend", "sync"]
        assert main(["evaluate", str(run), *options]) == 0
        said = json.loads(capsys.readouterr().out)
        played[env_id] = said["returns"]
        asked.append((str(run), env_id, said["env_seed"]))
    command = [sys.executable, "-c", SCRIPT % EPISODES, json.dumps(asked)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(result.stdout)
    assert found["CartPole-v1"] == played["CartPole-v1"]
    assert found[PARTS] == played[PARTS]
    assert found.get(SCREEN) == played.get(SCREEN)
    np.testing.assert_allclose(found["Pendulum-v1"], played["Pendulum-v1"], rtol=1e-3)


def test_neither_the_environments_package_nor_a_framework_is_imported(tmp_path: Path) -> None:
    require("torch")
    trained(tmp_path / "run", "parts", "torch")
    policy = load(tmp_path / "run")
    observation = {"cart": np.zeros(2), "pole": (np.ones(2), 2)}
    script = (
        "import sys\nfor name in ('torch', 'tensorflow', 'keras', 'tests', 'envpool'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np, tensor_optix\n"
        f"policy = tensor_optix.load({str(tmp_path / 'run')!r})\n"
        "observation = {'cart': np.zeros(2), 'pole': (np.ones(2), 2)}\n"
        "print(policy.predict(observation), type(policy.agent()).__name__)\n"
    )
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    # The learner comes back on what is installed.
    assert result.stdout.split() == [str(policy.predict(observation)), "NativeDQNAgent"]
