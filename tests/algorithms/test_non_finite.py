"""What is not finite never becomes a weight, a moment, a priority or an action: every agent, both frameworks.

The agents are made, and what they learn by is compiled, once; every test begins with the same learner.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load_file

from tensor_optix.core.types import HyperparamSet
from tests.algorithms import small_dqn, small_gaussian, small_generic, small_ppo, small_sac
from tests.frameworks import NAMES, framework_engine, load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tensor_optix.core.types import Array, EpisodeData

ON_POLICY = {"n_epochs": 2, "minibatch_size": 32}
OFF_POLICY = {"per_alpha": 0.6, "updates_per_step": 0.5, "batch_size": 16}
ROWS = 64
MAKERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ppo": (small_ppo, ON_POLICY),
    "gaussian ppo": (small_gaussian, ON_POLICY),
    "dqn": (small_dqn, OFF_POLICY),
    "sac": (small_sac, OFF_POLICY),
    "generic": (small_generic, {}),
}
BAD = [math.nan, 1e38]
"""The last is a number like any other, but its square is more than float32 holds."""


class Case(NamedTuple):
    """An agent that has learned once, and what it was then."""

    agent: Any
    small: Any
    stored: Path

    @property
    def replays(self) -> bool:
        return not self.agent.is_on_policy

    def window(self) -> EpisodeData:
        episode: EpisodeData = self.small.make_episode(ROWS)
        return episode

    def arrays(self, directory: Path, names: Any = None) -> dict[str, dict[str, Array]]:
        """Return what the agent would store: of networks, targets and optimizers, or of some of these."""
        self.agent.save_state(directory)
        paths = sorted(directory.glob("*.safetensors"))
        return {path.stem: load_file(path) for path in paths if not names or path.stem in names}


CASES = [f"{kind}, {name}" for kind in MAKERS for name in NAMES]
# Another distribution, but the same updates as those of PPO, which take seconds to compile.
CASES.remove("gaussian ppo, tensorflow")


@pytest.fixture(scope="module", params=CASES)
def learned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    kind, name = request.param.split(", ")
    small, params = MAKERS[kind]
    # The frameworks' own updates: those of the native engine are the native agents'.
    with nullcontext() if name == "native" else framework_engine():
        agent = small.make_agent(framework=load(name), **params)
    case = Case(agent, small, tmp_path_factory.mktemp("stored"))
    agent.learn(case.window())
    agent.save_state(case.stored)
    return case


@pytest.fixture
def case(learned: Case) -> Case:
    """The learner as it was, with an empty replay buffer."""
    rate = 1e-2 if learned.small is small_generic else 1e-3
    learned.agent.set_hyperparams(HyperparamSet({"learning_rate": rate}))
    learned.agent.load_state(learned.stored)
    if learned.replays:
        learned.agent.load_replay(learned.stored / "no replay")
        # Good batches first, so that the bad ones meet moments and priorities.
        learned.agent.learn(learned.window())
    return learned


def poison(
    case: Case, monkeypatch: pytest.MonkeyPatch, bad: float, every: bool
) -> Callable[[], Any]:
    """Return what lets the agent learn from minibatches of which every one, or one, holds a bad number."""
    agent, window = case.agent, case.window()
    if case.replays:
        monkeypatch.setattr(agent, "_make_updates", _spoiled_batches(agent, bad, every))
    elif case.small is small_generic:
        window.observations[:] = math.inf if math.isfinite(bad) else bad
    else:
        rows = slice(None) if every else slice(1)
        monkeypatch.setattr(agent, "_run_epochs", _spoiled(agent._run_epochs, rows, bad))
    return lambda: agent.learn(window)


def _spoiled_batches(agent: Any, bad: float, every: bool) -> Any:
    make_updates, size = agent._make_updates, agent.get_hyperparams().params["batch_size"]
    calls: list[int] = []

    def spoiled(fields: dict[str, Array], batches: int) -> Any:
        if every or not calls:
            fields["rewards"] = fields["rewards"].copy()
            fields["rewards"][::size] = bad
            if not math.isfinite(bad):
                fields["observations"] = fields["observations"].copy()
                fields["observations"][::size] = bad
        calls.append(batches)
        return make_updates(fields, batches)

    return spoiled


def _spoiled(run_epochs: Any, rows: slice, bad: float) -> Any:
    def spoiled(rollout: dict[str, Array], learned_from: Array) -> Any:
        rollout["returns"][rows] = bad
        if not math.isfinite(bad):
            rollout["advantages"][rows] = bad
        return run_epochs(rollout, learned_from)

    return spoiled


def assert_identical(after: dict[str, Any], before: dict[str, Any]) -> None:
    assert after.keys() == before.keys()
    for file, arrays in before.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(after[file][name], array, err_msg=f"{file} {name}")


def priorities(agent: Any) -> Array:
    raw: Array = agent._replay.priorities.raw.copy()
    return raw


@pytest.mark.parametrize("bad", BAD)
def test_where_every_minibatch_is_bad_weights_and_moments_stay_bit_for_bit(
    case, bad, monkeypatch, tmp_path
):
    names = {*case.agent._networks, *case.agent._optimizers, "target"}
    if case.small is small_sac and math.isfinite(bad):
        # The actor learns nothing from rewards, and rightly goes on.
        names = {"critic1", "critic2", "critic_optimizer"}
    before = case.arrays(tmp_path / "before", names)
    learn = poison(case, monkeypatch, bad, every=True)
    diagnostics = learn()
    assert_identical(case.arrays(tmp_path / "after", names), before)
    assert diagnostics["n_updates"] == 0
    assert diagnostics["n_skipped_updates"] > 0
    assert type(diagnostics["n_skipped_updates"]) is int
    assert case.agent.has_finite_weights()
    assert any(math.isnan(v) for k, v in diagnostics.items() if "loss" in k)


@pytest.mark.parametrize("bad", BAD)
def test_where_one_minibatch_is_bad_the_others_are_learned_from(case, bad, monkeypatch, tmp_path):
    if case.small is small_generic:
        pytest.skip("its window is one minibatch")
    names = set(case.agent._networks)
    before = case.arrays(tmp_path / "before", names)
    diagnostics = poison(case, monkeypatch, bad, every=False)()
    after = case.arrays(tmp_path / "after", names)
    assert 0 < diagnostics["n_skipped_updates"] < diagnostics["n_updates"] + 2
    assert diagnostics["n_updates"] > 0
    for value in diagnostics.values():
        assert np.isfinite(value)
    for name in names:
        assert any((after[name][key] != array).any() for key, array in before[name].items())
        assert all(np.isfinite(array).all() for array in after[name].values())
    assert case.agent.has_finite_weights()


def test_a_good_window_leaves_out_nothing(case):
    diagnostics = case.agent.learn(case.window())
    assert diagnostics["n_skipped_updates"] == 0
    assert diagnostics["n_updates"] > 0


def test_rows_of_updates_left_out_keep_their_priorities(case, monkeypatch):
    if not case.replays:
        pytest.skip("it has no replay buffer")
    agent = case.agent
    agent._replay.update_priorities(np.arange(60), np.linspace(0.1, 3.0, 60, dtype=np.float32))
    before = priorities(agent)
    poison(case, monkeypatch, 1e38, every=True)()
    after = priorities(agent)
    np.testing.assert_array_equal(after[:60], before[:60])
    assert np.isfinite(after).all()


def test_an_absurd_learning_rate_neither_gives_bad_actions_nor_is_missed(case, tmp_path):
    agent, window = case.agent, case.window()
    agent.set_hyperparams(HyperparamSet({"learning_rate": 1e6}))
    stored = {*agent._networks, *agent._targets}
    for number in range(4):
        agent.learn(window)
        files = case.arrays(tmp_path / str(number), stored)
        is_finite = all(np.isfinite(a).all() for arrays in files.values() for a in arrays.values())
        assert agent.has_finite_weights() == is_finite
        observations = 1e3 * window.observations[:8]
        for actions in (
            agent.act(observations[0]),
            agent.act_batch(observations),
            agent.act_greedy(observations),
        ):
            assert np.isfinite(actions).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_found_and_a_restored_policy_is_sound(case, bad, caplog):
    agent, window = case.agent, case.window()
    assert agent.has_finite_weights()
    agent.perturb_weights(bad)
    assert not agent.has_finite_weights()
    for _ in range(2):
        assert np.isfinite(agent.act_batch(window.observations)).all()
        assert np.isfinite(agent.act_greedy(window.observations)).all()
    assert caplog.text.count("actions that are not finite") == int(agent.has_unit_actions)
    # The weights alone: what else holds on to the old ones must follow.
    agent.load_weights(case.stored)
    assert agent.has_finite_weights()
    assert agent.learn(window)["n_skipped_updates"] == 0


def test_a_target_network_that_is_not_finite_is_found(case):
    agent = case.agent
    for target, network in agent._targets.values():
        agent.perturb_weights(math.nan)
        agent.ops.blend(target, network, 1.0)
        for name, own in agent._networks.items():
            agent.ops.load_network(own, case.stored / name)
        assert not agent.has_finite_weights()
        agent.ops.blend(target, network, 1.0)
        assert agent.has_finite_weights()


def test_the_learning_rate_is_halved_for_all_optimizers_down_to_a_thousandth(case, caplog):
    agent = case.agent
    initial = agent.get_hyperparams().params["learning_rate"]
    optimizers = list(agent._optimizers.values())
    ratios = [agent.ops.learning_rate(optimizer) / initial for optimizer in optimizers]
    agent.reduce_step()
    assert agent.get_hyperparams().params["learning_rate"] == pytest.approx(initial / 2)
    assert f"from {initial:g} to {initial / 2:g}" in caplog.text
    for _ in range(12):
        agent.reduce_step()
    rate = agent.get_hyperparams().params["learning_rate"]
    assert rate == pytest.approx(initial / 1000, rel=1e-5)
    for optimizer, ratio in zip(optimizers, ratios, strict=True):
        assert agent.ops.learning_rate(optimizer) == pytest.approx(ratio * rate, rel=1e-5)
    agent.set_hyperparams(HyperparamSet({"learning_rate": 0.1 * rate}))
    agent.reduce_step()
    assert agent.get_hyperparams().params["learning_rate"] == pytest.approx(0.1 * rate, rel=1e-5)


def test_nothing_is_traced_again_for_what_is_not_finite(case, monkeypatch):
    loops = [getattr(case.agent, name, None) for name in ("_epoch", "_loop", "_step")]
    counts = [loop.trace_count for loop in loops if hasattr(loop, "trace_count")]
    poison(case, monkeypatch, math.nan, every=False)()
    assert [loop.trace_count for loop in loops if hasattr(loop, "trace_count")] == counts
    assert counts == [1] * (type(case.agent).__name__.startswith("TF"))


@pytest.mark.parametrize("kind", ["ppo", "generic"])
def test_rewards_beyond_what_sums_can_hold_cost_their_rows_only(kind):
    """Without a warning of NumPy's: the sums of rewards, and their squares, overflow."""
    small, params = MAKERS[kind]
    agent, window = small.make_agent(**params), small.make_episode(ROWS)
    window.rewards = np.asarray(window.rewards, np.float32)
    window.rewards[1:4] = 3e38
    diagnostics = agent.learn(window)
    assert agent.has_finite_weights()
    assert math.isfinite(diagnostics["explained_variance"])


def test_a_learning_rate_that_cannot_be_changed_stays_and_is_said_so(caplog):
    agent = small_ppo.make_agent()

    def refuse(optimizer: Any, value: float) -> None:
        raise ValueError("it is a function")

    ops = agent.ops
    agent.ops = SimpleNamespace(learning_rate=ops.learning_rate, set_learning_rate=refuse)
    agent.reduce_step()
    assert agent.get_hyperparams().params["learning_rate"] == 1e-3
    assert "stays at 0.001: it is a function" in caplog.text


def test_an_action_for_an_observation_that_is_not_finite_is_0_and_said_once(caplog):
    agent = small_sac.make_agent()
    observations = np.zeros((3, 4), np.float32)
    observations[1] = math.nan
    for _ in range(2):
        actions = agent.act_batch(observations)
        assert (actions[1] == 0.0).all()
        assert (actions[[0, 2]] != 0.0).all()
        assert actions.dtype == np.float32
    assert len(caplog.records) == 1
