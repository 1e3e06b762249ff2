"""What `load` takes and refuses: directories, damaged files, agents and networks of the user's own."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

import tensor_optix
from tensor_optix import BatchPipeline, HyperparamSet, Policy, RLOptimizer, make_agent
from tensor_optix.core.checkpoints.saved_state import CheckpointError
from tensor_optix.pipeline.action_scaling import environment_actions
from tensor_optix.runs.run_directory import RunDirectory, RunDirectoryError
from tests.core.ensemble_members import ensemble_of
from tests.pipeline.any_space_env import BufferedEnv
from tests.policies.stored import Spaces, pipelines_actions, ready_made, samples, store

if TYPE_CHECKING:
    from tests.frameworks import Framework

VECTOR = Box(-1.0, 1.0, (3,), np.float32)
FORCE = Box(-2.0, 2.0, (2,), np.float32)
OBSERVATION = np.array([0.5, -1.0, 0.2], np.float32)


def files_of(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run; not to be changed."""
    path = tmp_path_factory.mktemp("run") / "run"
    agent = make_agent("CartPole-v1", framework="native", hidden_sizes=(8,), seed=0)
    pipeline = BatchPipeline(env_id="CartPole-v1", window_size=128)
    RLOptimizer(agent, pipeline, run_dir=path, seed=0, max_episodes=6).run()
    return path


def test_a_run_its_checkpoints_and_a_snapshot_are_taken(run: Path) -> None:
    before = files_of(run)
    policy = tensor_optix.load(run)
    assert isinstance(policy, Policy)
    best = policy.snapshot.snapshot_id
    observation = np.zeros(4, np.float32)
    for path in (str(run), run / "checkpoints", run / "checkpoints" / f"snapshot_{best}"):
        found = tensor_optix.load(path)
        assert found.snapshot.snapshot_id == best
        assert found.predict(observation) == policy.predict(observation)
    others = [path for path in (run / "checkpoints").glob("snapshot_*") if best not in path.name]
    assert others
    assert tensor_optix.load(others[0]).snapshot.snapshot_id in others[0].name
    assert files_of(run) == before
    assert best in repr(policy)


def test_nothing_is_written_where_the_manifest_is_lost(run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(run, tmp_path / "moved")
    (moved / "checkpoints" / "manifest.json").unlink()
    before = files_of(moved)
    tensor_optix.load(moved)
    assert files_of(moved) == before


def test_a_snapshot_is_enough_by_itself(run: Path, tmp_path: Path) -> None:
    policy = tensor_optix.load(run)
    name = f"snapshot_{policy.snapshot.snapshot_id}"
    alone = shutil.copytree(run / "checkpoints" / name, tmp_path / "elsewhere" / name)
    env = gymnasium.make("CartPole-v1")
    observations = np.stack(samples(env.observation_space, 20)).clip(-1, 1)
    found = tensor_optix.load(alone)
    np.testing.assert_array_equal(found.predict(observations), policy.predict(observations))
    assert found.observation_space == env.observation_space
    for name in ("critic.safetensors", "optimizer.safetensors", "agent.json"):
        (alone / "weights" / name).unlink(missing_ok=True)
    with pytest.raises(RunDirectoryError, match="no policy that is sound"):
        tensor_optix.load(alone)


def test_the_run_records_both_spaces(run: Path) -> None:
    config = json.loads((run / "run.json").read_text())
    assert config["action_space"] == {"type": "Discrete", "n": 2, "start": 0, "dtype": "int64"}
    assert config["observation_space"]["type"] == "Box"
    assert config["rescale_actions"] is True
    del config["observation_space"], config["action_space"], config["rescale_actions"]
    before = RunDirectory(run).read_config()
    assert before.observation_space is not None


def test_a_run_of_an_earlier_version_is_read(run: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(run, tmp_path / "moved")
    config = json.loads((moved / "run.json").read_text())
    del config["observation_space"], config["action_space"], config["rescale_actions"]
    (moved / "run.json").write_text(json.dumps(config))
    assert RunDirectory(moved).read_config().observation_space is None
    assert tensor_optix.load(moved).predict(np.zeros(4, np.float32)) in (0, 1)
    for snapshot in (moved / "checkpoints").glob("snapshot_*"):
        # As earlier versions left it: not one of its files.
        metadata = json.loads((snapshot / "metadata.json").read_text())
        del metadata["files"]["weights/policy.json"], metadata["metadata_sha256"]
        (snapshot / "metadata.json").write_text(json.dumps(metadata))
        (snapshot / "weights" / "policy.json").unlink()
    with pytest.raises(RunDirectoryError, match=r"of an earlier version: make its agent .*agent="):
        tensor_optix.load(moved)
    agent: Any = make_agent("CartPole-v1", framework="native", hidden_sizes=(8,))
    policy = tensor_optix.load(moved, agent=agent)
    assert policy.predict(np.zeros(4, np.float32)) == tensor_optix.load(run).predict(
        np.zeros(4, np.float32)
    )
    assert policy.agent() is agent


@pytest.mark.parametrize("damage", ["actor.safetensors", "policy.json"])
def test_the_next_best_policy_is_taken_where_the_best_was_altered(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent = ready_made(Spaces(VECTOR, Discrete(4)), "ppo", "native")
    second = store(agent, tmp_path, 1.0)
    expected = agent.predict(OBSERVATION)
    agent.perturb_weights(1.0)
    best = store(agent, tmp_path, 2.0)
    assert tensor_optix.load(tmp_path).snapshot.snapshot_id == best.snapshot_id
    path = Path(best.weights_path) / damage
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        policy = tensor_optix.load(tmp_path)
    assert policy.snapshot.snapshot_id == second.snapshot_id
    assert policy.predict(OBSERVATION) == expected
    assert (
        f"skipping a damaged checkpoint: snapshot {best.snapshot_id}: weights/{damage}"
        in caplog.text
    )
    (Path(second.weights_path) / damage).unlink()
    with pytest.raises(RunDirectoryError, match="no policy that is sound"):
        tensor_optix.load(tmp_path)


@pytest.mark.parametrize("name", ["", "nothing", "file"])
def test_a_directory_without_a_run_is_a_clear_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="holds no run: give a run directory, its check"):
        tensor_optix.load(tmp_path / name)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(RunDirectoryError, match="no policy that is sound: the run ended before"):
        tensor_optix.load(tmp_path)


def altered(snapshot: Any, **changes: Any) -> None:
    """Change what is said of a policy, and the hash of it."""
    path = Path(snapshot.weights_path) / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    repair(snapshot)


def repair(snapshot: Any) -> None:
    """Make the hashes of a snapshot those of its files."""
    from tensor_optix.core.checkpoints.durable_files import seal

    folder = Path(snapshot.weights_path).parent
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["files"] = {name: seal(folder / name) for name in metadata["files"]}
    del metadata["metadata_sha256"]  # as earlier versions left them
    (folder / "metadata.json").write_text(json.dumps(metadata))


RECIPE = {
    "algorithm": "ppo", "framework": "native", "hidden_sizes": [8], "device": "cpu",
    "normalize_observations": True, "normalize_rewards": False, "channels": None, "engine": "auto",
}  # fmt: skip
HOSTILE: list[dict[str, Any]] = [
    {"format": 2},
    {"kind": "best"},
    {"kind": []},
    {"kind": "squashed_gaussian"},
    {"kind": "tanh"},
    {"network": "../actor"},
    {"network": "critic"},
    {"network": "log_alpha"},
    {"network": 3},
    {"dtype": "U"},
    {"dtype": "datetime64"},
    {"recipe": 7},
    {"recipe": {}},
    {"recipe": RECIPE | {"hidden_sizes": [10**9, 10**9]}},
    {"recipe": RECIPE | {"hidden_sizes": [0]}},
    {"recipe": RECIPE | {"hidden_sizes": [9]}},
    {"recipe": RECIPE | {"algorithm": "nothing"}},
    {"recipe": RECIPE | {"extra": 1}},
    {"recipe": None},
    {"recipe": None, "activations": ["TANH"]},
    {"normalizer_clip": "x"},
    {"normalizer_clip": -1.0},
    {"normalizer_clip": None},
    {"observation_space": {"type": "Box"}},
    {"observation_space": {"type": "unknown"}},
    {"observation_space": {"type": "Discrete", "n": 2**26, "start": 0, "dtype": "int64"}},
    {"action_space": {"type": "unknown"}},
    {"action_space": {"type": "Discrete", "n": 2**26, "start": 0, "dtype": "int64"}},
    {"action_space": {"type": "MultiBinary", "shape": [2**26], "dtype": "int8"}},
]


@pytest.mark.parametrize("changes", HOSTILE, ids=str)
def test_a_hostile_description_is_a_clean_error(changes: dict[str, Any], tmp_path: Path) -> None:
    agent = ready_made(Spaces(VECTOR, Discrete(4)), "ppo", "native", normalize_observations=True)
    snapshot = store(agent, tmp_path)
    altered(snapshot, **changes)
    with pytest.raises((CheckpointError, RunDirectoryError), match=r"policy"):
        tensor_optix.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"[" * 100_000, b"{}", b"PK\x03\x04" * 9])
@pytest.mark.parametrize("name", ["policy.json", "actor.safetensors", "obs_normalizer.npz"])
def test_hostile_files_are_a_clean_error(name: str, content: bytes, tmp_path: Path) -> None:
    agent = ready_made(Spaces(VECTOR, Discrete(4)), "ppo", "native", normalize_observations=True)
    snapshot = store(agent, tmp_path)
    (Path(snapshot.weights_path) / name).write_bytes(content)
    repair(snapshot)
    with pytest.raises(CheckpointError, match="cannot be read"):
        tensor_optix.load(tmp_path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    agent = ready_made(Spaces(VECTOR, Discrete(4)), "ppo", "native")
    agent.perturb_weights(np.nan)
    store(agent, tmp_path)
    with pytest.raises(CheckpointError, match="not finite"):
        tensor_optix.load(tmp_path)


def own_ppo(framework: Framework, kind: Any = None) -> Any:
    actor, critic = framework.perceptron((3, 8, 4)), framework.perceptron((3, 8, 1), 1)
    optimizer = framework.adam(0.01, actor, critic)
    agent = (kind or framework.PPO)(actor, critic, optimizer, device="cpu")
    agent.check_spaces(VECTOR, Discrete(4))
    return agent


def test_perceptrons_of_the_users_own_are_loaded(framework: Framework, tmp_path: Path) -> None:
    agent = own_ppo(framework)
    elements = samples(VECTOR, 30)
    expected = pipelines_actions(agent, Spaces(VECTOR, Discrete(4)), elements)
    store(agent, tmp_path)
    policy = tensor_optix.load(tmp_path)
    np.testing.assert_array_equal(policy.predict(np.stack(elements)), expected)
    assert [policy.predict(one) for one in elements] == expected.tolist()
    with pytest.raises(RunDirectoryError, match=r"make_agent did not make its agent.*agent=my_ag"):
        policy.agent()
    assert tensor_optix.load(tmp_path, agent=agent).agent() is agent


def test_the_generic_agent_and_continuous_ones_are_loaded(
    framework: Framework, tmp_path: Path
) -> None:
    model = framework.perceptron((3, 8, 4))
    generic = framework.Generic(model, framework.adam(0.01, model))
    actor, critic = framework.perceptron((3, 8, 4)), framework.perceptron((3, 8, 1), 1)
    gaussian = framework.GaussianPPO(actor, critic, framework.adam(0.01, actor, critic), 2)
    for name, agent, actions in (("a", generic, Discrete(4)), ("b", gaussian, FORCE)):
        agent.check_spaces(VECTOR, actions)
        store(agent, tmp_path / name)
        found = tensor_optix.load(tmp_path / name).predict(OBSERVATION)
        expected = pipelines_actions(agent, Spaces(VECTOR, actions), [OBSERVATION])[0]
        np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_other_networks_need_the_agent(torch_framework: Framework, tmp_path: Path) -> None:
    from torch import nn

    actor = nn.Sequential(nn.Linear(3, 8), nn.Softplus(), nn.Linear(8, 4))
    critic = torch_framework.perceptron((3, 8, 1))
    agent = torch_framework.PPO(actor, critic, torch_framework.adam(0.1, actor, critic))
    agent.check_spaces(VECTOR, Discrete(4))
    store(agent, tmp_path)
    with pytest.raises(RunDirectoryError, match="nor a plain perceptron: make its agent as for"):
        tensor_optix.load(tmp_path)
    policy = tensor_optix.load(tmp_path, agent=agent)
    assert policy.predict(OBSERVATION) == agent.predict(OBSERVATION)


def test_a_subclass_that_acts_in_its_own_way_needs_the_agent(
    framework: Framework, tmp_path: Path
) -> None:
    class Last(framework.PPO):  # type: ignore[name-defined, misc]
        def _greedy(self, observations: Any) -> Any:
            return np.full(len(observations), 3)

    class Learner(framework.PPO):  # type: ignore[name-defined, misc]
        def learn(self, episode_data: Any) -> Any:
            return super().learn(episode_data)

    agent = own_ppo(framework, Last)
    store(agent, tmp_path / "last")
    with pytest.raises(
        RunDirectoryError, match=r"acts in a way of its own: make its agent.*agent="
    ):
        tensor_optix.load(tmp_path / "last")
    assert tensor_optix.load(tmp_path / "last", agent=agent).predict(OBSERVATION) == 3
    learner = own_ppo(framework, Learner)
    store(learner, tmp_path / "learner")
    policy = tensor_optix.load(tmp_path / "learner")
    assert policy.predict(OBSERVATION) == learner.predict(OBSERVATION)


class Own:
    """An agent of the user's own, for a Dict of actions."""

    def __init__(self, pick: int = 0) -> None:
        self.pick = pick

    def act(self, observation: Any) -> dict[str, Any]:
        return {"pick": self.pick, "strength": observation["past"].astype(np.float32)}

    def learn(self, episode_data: Any) -> dict[str, Any]:
        return {}

    def get_hyperparams(self) -> HyperparamSet:
        return HyperparamSet({})

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        pass

    def save_weights(self, path: Any) -> None:
        Path(path).write_text(str(self.pick))

    def load_weights(self, path: Any) -> None:
        self.pick = int(Path(path).read_text())


def test_agents_of_the_users_own_act_by_themselves(tmp_path: Path) -> None:
    pipeline = BatchPipeline(BufferedEnv(), window_size=6)
    RLOptimizer(Own(2), pipeline, run_dir=tmp_path, max_episodes=3).run()
    with pytest.raises(RunDirectoryError, match="its agent is of your own making"):
        tensor_optix.load(tmp_path)
    agent = Own()
    policy = tensor_optix.load(tmp_path, agent=agent)
    action = policy.predict({"target": 1, "past": np.array([1, 2])})
    assert action["pick"] == agent.pick == 2
    np.testing.assert_array_equal(action["strength"], [1.0, 2.0])
    assert policy.agent() is agent
    assert isinstance(policy.observation_space, Dict)
    with pytest.raises(TypeError, match="agent must be a BaseAgent, got int"):
        tensor_optix.load(tmp_path, agent=3)  # type: ignore[arg-type]


def test_an_ensemble_needs_the_agent(native_framework: Framework, tmp_path: Path) -> None:
    members = [own_ppo(native_framework), own_ppo(native_framework)]
    ensemble = ensemble_of(tmp_path / "other", *members)
    ensemble.check_spaces(VECTOR, Discrete(4))
    store(ensemble, tmp_path)
    with pytest.raises(RunDirectoryError, match="that of an ensemble: make its agent as for the"):
        tensor_optix.load(tmp_path)
    policy = tensor_optix.load(tmp_path, agent=ensemble)
    assert policy.predict(OBSERVATION) == ensemble.act_greedy(OBSERVATION[None])[0]


def test_actions_that_were_not_stretched_in_training_are_not(tmp_path: Path) -> None:
    agent = make_agent("Pendulum-v1", framework="native", hidden_sizes=(8,), seed=0)
    agent.perturb_weights(1.0)  # type: ignore[attr-defined]
    pipeline = BatchPipeline(env_id="Pendulum-v1", window_size=256, rescale_actions=False)
    RLOptimizer(agent, pipeline, run_dir=tmp_path, max_episodes=2).run()
    policy = tensor_optix.load(tmp_path)
    tensor_optix.CheckpointRegistry(tmp_path / "checkpoints").load_best(agent)
    observation = np.array([1.0, 0.0, 3.0], np.float32)
    to_env = environment_actions(agent, policy.action_space, False)
    expected = to_env(agent.act_greedy(observation[None]))[0]
    np.testing.assert_allclose(policy.predict(observation), expected, rtol=1e-6)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "sac", "td3"])
def test_the_whole_learner_comes_back(algorithm: str, framework: Framework, tmp_path: Path) -> None:
    parts = Dict({"speed": VECTOR, "number": Discrete(2)})
    spaces = Spaces(parts, Discrete(3) if algorithm in ("ppo", "dqn") else FORCE)
    agent = ready_made(
        spaces, algorithm, framework.name, normalize_rewards=True, normalize_observations=True
    )
    store(agent, tmp_path / "checkpoints")
    policy = tensor_optix.load(tmp_path)
    found = policy.agent()
    assert type(found) is type(agent)
    assert found is not policy.agent()
    assert found.get_hyperparams().params == agent.get_hyperparams().params
    for one, name in ((agent, "before"), (found, "after")):
        one.save_state(tmp_path / name)
    before, after = (files_of(tmp_path / name) for name in ("before", "after"))
    assert before.keys() == after.keys()
    assert not [name for name in before if before[name][1] != after[name][1]]
    element = samples(parts, 1)[0]
    np.testing.assert_allclose(found.predict(element), policy.predict(element), rtol=2e-5)


def test_saving_loading_and_saving_gives_the_same_description(
    framework: Framework, tmp_path: Path
) -> None:
    for agent in (
        own_ppo(framework),
        ready_made(Spaces(VECTOR, Discrete(4)), "dqn", framework.name),
    ):
        agent.save_weights(tmp_path / "one")
        agent.load_weights(tmp_path / "one")
        agent.save_weights(tmp_path / "two")
        one, two = (files_of(tmp_path / name) for name in ("one", "two"))
        assert {name: content for name, (_, content) in one.items()} == {
            name: content for name, (_, content) in two.items()
        }
