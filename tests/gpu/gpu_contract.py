"""What agents on a GPU must do, whatever the framework. Inherit `GpuContract` and say which it is."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.core.types import HyperparamSet
from tests.algorithms.test_agent_factory import Spaces
from tests.parity.windows import ACTION_DIM, NUM_ACTIONS, make_window

if TYPE_CHECKING:
    from tensor_optix.core.types import EpisodeData

VECTOR = Box(-5.0, 5.0, (4,), np.float32)
FRAMES = Box(0, 255, (84, 84, 4), np.uint8)
CHOICE = Discrete(NUM_ACTIONS)
FORCE = Box(-1.0, 1.0, (ACTION_DIM,), np.float32)
GPU = "cuda"


class Case(NamedTuple):
    """An agent and its task."""

    algorithm: str
    observations: Any
    actions: Any
    params: dict[str, Any]
    loop: str
    """The agent's loop of updates."""

    def agent(self, framework: str, device: str) -> Any:
        """Return a ready-made agent."""
        env = Spaces(self.observations, self.actions)
        hyperparams = HyperparamSet({"learning_rate": 1e-3} | self.params)
        return make_agent(
            env, self.algorithm, framework, hyperparams=hyperparams, seed=3, device=device
        )

    def window(self, seed: int = 0, **changes: Any) -> EpisodeData:
        """Return a window of 46 transitions."""
        shape, is_discrete = self.observations.shape, isinstance(self.actions, Discrete)
        return make_window(shape, is_discrete, seed, **changes)


WINDOWS = {"n_epochs": 2, "minibatch_size": 8}
REPLAY = {"learning_starts": 16, "batch_size": 8, "updates_per_step": 0.5}
CASES = {
    "ppo": Case("ppo", VECTOR, CHOICE, WINDOWS, "_epoch"),
    "gaussian ppo": Case("ppo", VECTOR, FORCE, WINDOWS, "_epoch"),
    "ppo of images": Case("ppo", FRAMES, CHOICE, WINDOWS, "_epoch"),
    "dqn": Case("dqn", VECTOR, CHOICE, REPLAY, "_loop"),
    "sac": Case("sac", VECTOR, FORCE, REPLAY, "_loop"),
    "td3": Case("td3", VECTOR, FORCE, REPLAY, "_critic_loop"),
}
TOLERANCE = 1e-4
FEW = 2e-3
"""The share of weights that may be further off: Adam makes a whole step of a gradient of mere rounding."""


def arrays_of(agent: Any) -> dict[str, np.ndarray]:
    """Return the weights of all networks and of all targets, by their names."""
    networks = agent._networks | {name: target for name, (target, _) in agent._targets.items()}
    return {
        f"{name} {place}": as_array(variable)
        for name, network in networks.items()
        for place, variable in enumerate(variables_of(network))
    }


def variables_of(network: Any) -> list[Any]:
    if hasattr(network, "state_dict"):
        return list(network.state_dict().values())
    return list(network.variables)


def as_array(variable: Any) -> np.ndarray:
    on_cpu = variable.cpu() if hasattr(variable, "cpu") else variable
    return np.array(on_cpu.numpy())


def assert_alike(agent: Any, other: Any, tolerance: float = TOLERANCE) -> None:
    """Assert that two agents have the same weights, up to rounding."""
    ours, theirs = arrays_of(agent), arrays_of(other)
    assert list(ours) == list(theirs)
    off = [
        np.abs(ours[name] - theirs[name]).ravel() > tolerance * (1.0 + np.abs(theirs[name]).ravel())
        for name in ours
    ]
    assert np.concatenate(off).mean() <= FEW
    assert all(np.isfinite(array).all() for array in ours.values())


def assert_says_alike(found: Any, wanted: Any, tolerance: float = 10.0 * TOLERANCE) -> None:
    """Assert that two `learn` returned the same, up to rounding."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        same = pytest.approx(value, rel=tolerance, abs=tolerance, nan_ok=True)
        assert found[name] == same, name


class GpuContract:
    """A subclass gives `framework`, the name of one, and `place`, where a variable is."""

    framework: str

    def place(self, variable: Any) -> str:
        raise NotImplementedError

    def pair(self, case: Case, directory: Any, device: str = GPU) -> tuple[Any, Any]:
        """Return an agent on the CPU, and one on a GPU that has read its state."""
        agent, twin = (case.agent(self.framework, one) for one in ("cpu", device))
        agent.save_state(directory)
        twin.load_state(directory)
        assert_alike(agent, twin, 0.0)
        return agent, twin

    @pytest.mark.parametrize("device", [GPU, "auto"])
    @pytest.mark.parametrize("name", CASES)
    def test_windows_teach_on_a_gpu_what_they_teach_on_the_cpu(self, name, device, tmp_path):
        case = CASES[name]
        on_cpu, on_gpu = self.pair(case, tmp_path, device)
        before = arrays_of(on_gpu)
        for seed in range(2):
            found, wanted = (agent.learn(case.window(seed)) for agent in (on_gpu, on_cpu))
            assert_says_alike(found, wanted)
            assert found["n_updates"] > 3
        assert_alike(on_gpu, on_cpu)
        assert max(np.abs(a - before[n]).max() for n, a in arrays_of(on_gpu).items()) > 1e-3
        for network in on_gpu._networks.values():
            assert all("gpu" in self.place(v).replace("cuda", "gpu") for v in variables_of(network))

    @pytest.mark.parametrize("name", CASES)
    def test_a_learner_goes_to_the_cpu_and_back(self, name, tmp_path):
        case = CASES[name]
        on_cpu, on_gpu = self.pair(case, tmp_path / "first")
        on_gpu.learn(case.window())
        on_gpu.save_state(tmp_path / "second")
        on_cpu.load_state(tmp_path / "second")
        assert_alike(on_cpu, on_gpu, 0.0)
        on_cpu.save_state(tmp_path / "third")
        back = case.agent(self.framework, GPU)
        back.load_state(tmp_path / "third")
        assert_alike(back, on_gpu, 0.0)
        on_cpu.learn(case.window(1))
        back.learn(case.window(1))
        assert_alike(back, on_cpu)

    @pytest.mark.parametrize("name", CASES)
    def test_a_copy_goes_on_as_its_original_and_shares_nothing(self, name):
        case = CASES[name]
        agent = case.agent(self.framework, GPU)
        agent.learn(case.window())
        copied = copy.deepcopy(agent)
        before = arrays_of(copied)
        agent.learn(case.window(1))
        for name_of, array in arrays_of(copied).items():
            np.testing.assert_array_equal(array, before[name_of])
        copied.learn(case.window(1))
        if case.loop == "_epoch":
            assert_alike(copied, agent)

    @pytest.mark.parametrize("name", CASES)
    def test_a_rollback_leads_to_the_same_updates_again(self, name, tmp_path):
        case = CASES[name]
        agent = case.agent(self.framework, GPU)
        agent.learn(case.window())
        agent.save_state(tmp_path / "state")
        if case.loop != "_epoch":
            agent.save_replay(tmp_path / "replay")
        found = []
        for _ in range(2):
            agent.load_state(tmp_path / "state")
            if case.loop != "_epoch":
                agent.load_replay(tmp_path / "replay")
            found.append((agent.learn(case.window(1)), arrays_of(agent)))
        (first, weights), (second, again) = found
        assert_says_alike(second, first)
        off = [np.abs(weights[n] - again[n]).ravel() > TOLERANCE for n in weights]
        assert np.concatenate(off).mean() <= FEW

    def test_minibatches_that_are_not_finite_are_left_out_as_on_the_cpu(self, tmp_path):
        case = CASES["ppo"]
        on_cpu, on_gpu = self.pair(case, tmp_path)
        for spoilt in (False, True, False):
            log_probs = np.random.default_rng(0).uniform(-2.0, 0.0, 51).astype(np.float32)
            if spoilt:
                log_probs[30] = np.nan
            window = case.window(log_probs=log_probs)
            found, wanted = (agent.learn(window) for agent in (on_gpu, on_cpu))
            assert found["n_skipped_updates"] == wanted["n_skipped_updates"] == 2 * spoilt
        assert_alike(on_gpu, on_cpu, 10.0 * TOLERANCE)

    @pytest.mark.parametrize("name", CASES)
    def test_actions_are_arrays(self, name):
        case = CASES[name]
        agent = case.agent(self.framework, GPU)
        rows = case.window().observations[:5]
        for actions in (agent.act_batch(rows), agent.act_greedy(rows)):
            assert isinstance(actions, np.ndarray)
            assert len(actions) == 5
        assert isinstance(agent.act(rows[0]), np.ndarray | np.generic | int)
