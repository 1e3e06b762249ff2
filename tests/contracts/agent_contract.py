"""What every agent must do. Inherit `AgentContract` and give it the two fixtures."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.core.checkpoints.saved_state import read_state, write_state
from tensor_optix.core.types import EpisodeData, HyperparamSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tensor_optix.core.base_agent import BaseAgent


def all_files(directory: Path) -> dict[str, bytes]:
    """Return the content of every file below a directory."""
    found = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


class AgentContract:
    """A subclass provides `make_agent(seed) -> agent` and `episode`, a window that it can learn from."""

    @pytest.fixture
    def make_agent(self) -> Callable[[int], BaseAgent]:
        raise NotImplementedError

    @pytest.fixture
    def episode(self) -> EpisodeData:
        raise NotImplementedError

    def greedy(self, agent: BaseAgent, episode: EpisodeData) -> Any:
        return agent.act_greedy(np.asarray(episode.observations))

    def files(self, directory: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}

    def save_all(self, agent: BaseAgent, directory: Path) -> None:
        """Save the learner; to be overridden where `save_state` leaves something out."""
        agent.save_state(directory)

    def load_all(self, agent: BaseAgent, directory: Path) -> None:
        """Read what `save_all` wrote."""
        agent.load_state(directory)

    def test_act_takes_one_observation_and_act_batch_many(self, make_agent, episode):
        agent = make_agent(0)
        observations = np.asarray(episode.observations)
        assert np.shape(agent.act(observations[0])) == np.shape(episode.actions[0])
        assert np.shape(agent.act_batch(observations[:3])) == np.shape(episode.actions[:3])

    def test_learning_changes_what_is_saved_and_saved_weights_come_back(
        self, make_agent, episode, tmp_path
    ):
        agent = make_agent(0)
        agent.save_weights(tmp_path / "before")
        assert isinstance(agent.learn(episode), dict)
        agent.save_weights(tmp_path / "after")
        assert self.files(tmp_path / "before") != self.files(tmp_path / "after")
        agent.load_weights(tmp_path / "before")
        agent.save_weights(tmp_path / "again")
        assert self.files(tmp_path / "before") == self.files(tmp_path / "again")

    def test_the_same_seed_acts_the_same(self, make_agent, episode):
        observations = np.asarray(episode.observations)
        first, same = make_agent(0).act_batch(observations), make_agent(0).act_batch(observations)
        np.testing.assert_array_equal(first, same)

    def test_the_same_seed_learns_the_same_whoever_acted_before(self, make_agent, episode):
        """Validation, an external score, a second run: all may call `act` between two windows."""
        quiet, busy = make_agent(0), make_agent(0)
        observations = np.asarray(episode.observations)
        for observation in observations[:20]:
            busy.act(observation)
        busy.act_greedy(observations)
        assert quiet.learn(episode) == busy.learn(episode)

    def test_a_copy_is_an_agent_of_its_own(self, make_agent, episode, tmp_path):
        agent = make_agent(0)
        agent.learn(episode)
        agent.save_state(tmp_path / "before")
        copied = copy.deepcopy(agent)
        learned = copied.learn(episode)
        agent.save_state(tmp_path / "after")
        assert self.files(tmp_path / "before") == self.files(tmp_path / "after")
        assert agent.learn(episode) == learned
        np.testing.assert_array_equal(self.greedy(agent, episode), self.greedy(copied, episode))

    def test_hyperparams_come_as_a_copy(self, make_agent):
        agent = make_agent(0)
        agent.get_hyperparams().params.clear()
        assert agent.get_hyperparams().params

    def test_hyperparams_that_are_set_are_in_force(self, make_agent):
        agent = make_agent(0)
        for name, (low, high) in agent.default_param_bounds.items():
            value = (low + high) / 2
            params = agent.get_hyperparams().params
            agent.set_hyperparams(HyperparamSet(params | {name: value}))
            assert agent.get_hyperparams().params[name] == pytest.approx(value)

    def test_a_stored_learner_brings_finite_weights_and_the_policy_back(
        self, make_agent, episode, tmp_path
    ):
        agent = make_agent(0)
        agent.learn(episode)
        assert agent.has_finite_weights()
        before = self.greedy(agent, episode)
        agent.save_state(tmp_path / "state")
        agent.perturb_weights(0.5)
        agent.learn(episode)
        agent.load_state(tmp_path / "state")
        np.testing.assert_array_equal(self.greedy(agent, episode), before)
        agent.perturb_weights(math.nan)
        agent.load_state(tmp_path / "state")
        assert agent.has_finite_weights()

    def test_a_restored_learner_goes_on_bit_for_bit(self, make_agent, episode, tmp_path):
        straight, resumed = make_agent(0), make_agent(1)
        straight.learn(episode)
        self.save_all(straight, tmp_path / "state")
        self.load_all(resumed, tmp_path / "state")
        resumed.set_hyperparams(straight.get_hyperparams())
        assert straight.learn(episode) == resumed.learn(episode)
        observations = np.asarray(episode.observations)
        np.testing.assert_array_equal(
            straight.act_batch(observations), resumed.act_batch(observations)
        )

    def save_run(self, agent: BaseAgent, directory: Path) -> None:
        """Save all that a checkpoint of a run holds of a learner, in files."""
        agent.save_state(directory / "learner")
        params, state = agent.unscheduled_params(), agent.run_state()
        write_state(directory / "run", {"params": params, "state": state})
        replays = {name: one.state_dict() for name, one in agent.replays.items()}
        write_state(directory / "replays", replays)

    def load_run(self, agent: BaseAgent, directory: Path) -> None:
        """Read what `save_run` wrote, in the order that a resumed run does."""
        kept = read_state(directory / "run")
        agent.load_state(directory / "learner")
        agent.set_hyperparams(HyperparamSet(kept["params"]))
        agent.load_replays(read_state(directory / "replays"))
        agent.load_run_state(kept["state"])

    def test_a_learner_in_a_checkpoint_is_whole(self, make_agent, episode, tmp_path):
        agent, other = make_agent(0), make_agent(1)
        for _ in range(3):
            agent.learn(episode)
        agent.set_progress(0.75)
        agent.reduce_step()
        agent.learn(episode)
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
        self.save_run(agent, tmp_path / "one")
        other.learn(episode)
        self.load_run(other, tmp_path / "one")
        assert_alike(agent, other)
        self.save_run(other, tmp_path / "two")
        assert all_files(tmp_path / "one") == all_files(tmp_path / "two")
        observations = np.asarray(episode.observations)
        np.testing.assert_array_equal(agent.act_batch(observations), other.act_batch(observations))
        np.testing.assert_equal(agent.learn(episode), other.learn(episode))
        for name, one in (("three", agent), ("four", other)):
            (tmp_path / name).mkdir()
            self.save_run(one, tmp_path / name)
        assert all_files(tmp_path / "three") == all_files(tmp_path / "four")

    def test_reducing_the_step_lowers_the_learning_rate_at_most(self, make_agent):
        agent = make_agent(0)
        before = agent.get_hyperparams().params
        agent.reduce_step()
        after = agent.get_hyperparams().params
        assert 0.0 < after.pop("learning_rate") <= before.pop("learning_rate")
        assert after == before


SCRATCH = {
    "_drawn": "the memory of the last batch, which the next one is written over",
    "_buffers": "that of the last minibatches, likewise",
    "_reward": "that of the last reward pushed, likewise",
    "_signature": "what the rows looked like that were written last; checks are skipped for the like",
    "changes": "what the last call to a replay changed, taken in by then",
    "_has_warned_of_actions": "a warning is said again",
    "_warned": "likewise",
    "_masked": "comes with check_spaces",
    "_settings": "what a replay was asked for; its layout says what it became",
    "history": "how the rows of a replay came there; its files go by that",
    "_stored": "past members of an ensemble; with the population's state",
    "learned": "the diary of a scripted agent",
}
"""What may differ between an agent and its twin that was resumed from a checkpoint, and why."""


def assert_alike(one: Any, other: Any) -> None:
    """Two objects of the library are alike in all that they consist of.

    Functions and a framework's objects are passed over: what these hold is in the files of `save_state`.
    """
    found = list(_differences(one, other, "agent", set()))
    assert not found, "\n".join(found)


def _differences(one: Any, other: Any, path: str, seen: set[int]) -> Iterator[str]:
    if _is_own(one) and id(one) in seen:
        return
    seen.add(id(one))
    if isinstance(one, np.random.Generator):
        one, other = one.bit_generator.state, other.bit_generator.state
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        yield from _differing_items(one, other, path, seen)
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        yield from _differing_items(dict(enumerate(one)), dict(enumerate(other)), path, seen)
    elif isinstance(one, np.ndarray):
        if one.dtype.kind in "biuf" and not np.array_equal(
            one, other, equal_nan=one.dtype.kind == "f"
        ):
            yield path
    elif one is None or isinstance(one, bool | int | float | str | np.generic | frozenset | set):
        if one != other and not (one != one and other != other):
            yield f"{path}: {one!r} and {other!r}"
    elif _is_own(one):
        if type(one) is not type(other):
            yield f"{path}: {type(one).__name__} and {type(other).__name__}"
        else:
            yield from _differing_items(_parts(one), _parts(other), path, seen)


def _differing_items(
    one: Mapping[Any, Any], other: Mapping[Any, Any], path: str, seen: set[int]
) -> Iterator[str]:
    if one.keys() != other.keys():
        yield f"{path}: {sorted(map(str, one))} and {sorted(map(str, other))}"
    for name in one.keys() & other.keys():
        if name not in SCRATCH:
            yield from _differences(one[name], other[name], f"{path}.{name}", seen)


def _is_own(value: Any) -> bool:
    is_of_us = type(value).__module__.split(".")[0] in ("tensor_optix", "tests")
    return (
        is_of_us and not isinstance(value, type) and not callable(getattr(value, "__code__", None))
    )


def _parts(value: Any) -> dict[str, Any]:
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    kinds = type(value).__mro__
    cached = {n for k in kinds for n, one in vars(k).items() if isinstance(one, cached_property)}
    own = {
        name: part for name, part in getattr(value, "__dict__", {}).items() if name not in cached
    }
    return own | {n: getattr(value, n) for n in slots if hasattr(value, n)}


class ReplayAgentContract(AgentContract):
    """The same of an agent whose replay buffer is kept apart from its state."""

    def save_all(self, agent, directory):
        super().save_all(agent, directory)
        agent.save_replay(directory)

    def load_all(self, agent, directory):
        super().load_all(agent, directory)
        agent.load_replay(directory)
