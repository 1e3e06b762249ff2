"""A pipeline that goes on with the state of another: to the bit where it can, else with fresh episodes."""

from __future__ import annotations

import multiprocessing
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import NormalizeReward, TimeLimit

from tensor_optix.core.checkpoints.saved_state import read_state, write_state
from tensor_optix.pipeline import checked_env
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.checked_env import CheckedEnv
from tensor_optix.pipeline.gymnasium_env import wrap_gymnasium
from tensor_optix.pipeline.rollout_pipeline import RolloutPipeline
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.masked_envs import OnlyItsMethodTells, OnlyMasksTell
from tests.pipeline.row_envs import ScriptedEnv, ScriptedVectorEnv
from tests.scripted import CountingAgent

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.types import EpisodeData

WINDOWS = 4


class Seeded(CountingAgent):
    """Acts by a generator of its own, within what a mask behind the observation allows."""

    def __init__(self, seed: int, unit_actions: bool = False, sees_rows: bool = True) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)
        self.begun = 0
        self._sees_rows, self._has_unit_actions = sees_rows, unit_actions
        self.space: Any = None

    @property
    def sees_rows(self) -> bool:
        return self._sees_rows

    @property
    def takes_action_masks(self) -> bool:
        return True

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        self.seen, self.space = observation_space, action_space

    def begin_episodes(self) -> None:
        self.begun += 1

    def act_batch(self, observations: Any) -> Any:
        count = len(observations)
        if isinstance(self.space, Box):
            return self.rng.uniform(-1, 1, (count, *self.space.shape)).astype(self.space.dtype)
        chances = self.rng.random((count, int(self.space.n)))
        size = getattr(self.seen, "mask_size", 0)
        if size:
            chances *= observations[:, -size:]
        return chances.argmax(axis=1)


def resumed(
    make: Callable[[], BasePipeline], tmp_path: Any, at: int = WINDOWS
) -> tuple[list[EpisodeData], list[EpisodeData], bool]:
    """Return the last windows of a run straight through, those of a resumed one, and whether it went on."""
    straight, first, second = make(), make(), make()
    agents = [Seeded(0), Seeded(0)]
    for pipeline, agent in zip((straight, first), agents, strict=True):
        pipeline.set_agent(agent)
        pipeline.setup()
    try:
        expected = list(islice(straight.episodes(), at + WINDOWS))[at:]
        list(islice(first.episodes(), at))
        state = first.state_dict()
        assert state is not None
        write_state(tmp_path / "pipeline", state)
        second.set_agent(agents[1])
        second.setup()
        goes_on = second.load_state_dict(read_state(tmp_path / "pipeline"))
        return expected, list(islice(second.episodes(), WINDOWS)), goes_on
    finally:
        for pipeline in (straight, first, second):
            pipeline.teardown()


def require_same(expected: list[EpisodeData], given: list[EpisodeData]) -> None:
    for one, other in zip(expected, given, strict=True):
        np.testing.assert_equal(vars(other) | {"timestamp": one.timestamp}, vars(one))


class Parts(gymnasium.Env[Any, Any]):
    """Two parts, one of them drawn anew at every step."""

    observation_space = Dict(place=Box(-9, 9, (2,), np.float32), drawn=Discrete(5))
    action_space = Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self._shown(), {}

    def step(self, action: Any) -> Any:
        self.place[int(action) % 2] += np.float32(0.5)
        far = bool(np.abs(self.place).max() > 4)
        return self._shown(), float(self.place[0]), far, False, {}

    def _shown(self) -> Any:
        return {"place": self.place.copy(), "drawn": int(self.np_random.integers(5))}


class Pushed(gymnasium.Env[Any, Any]):
    """Clips its action in place, and ends at random."""

    observation_space = Box(-9, 9, (2,), np.float64)
    action_space = Box(-0.5, 0.5, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.place = np.zeros(2)
        return self.place.copy(), {}

    def step(self, action: Any) -> Any:
        np.clip(action, -0.1, 0.1, out=action)
        self.place += action
        return self.place.copy(), 1.0, bool(self.np_random.random() < 0.1), False, {}


class Hidden(Pushed):
    """Draws from the generator that all share: nothing of that is in its `np_random`."""

    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        return observation + np.random.standard_normal(2), *rest  # noqa: NPY002


KINDS: dict[str, Any] = {
    "CartPole": partial(gymnasium.make, "CartPole-v1"),
    "Pendulum": partial(gymnasium.make, "Pendulum-v1", max_episode_steps=13),
    "Dict": Parts,
    "clips in place": Pushed,
    "masks": OnlyMasksTell,
    "masks in a part": partial(OnlyMasksTell, "observation"),
    "masks by a method": OnlyItsMethodTells,
}


def single(kind: Any) -> BasePipeline:
    return BatchPipeline(env=kind(), window_size=11, seed=3)


def sync(kind: Any) -> BasePipeline:
    return VectorBatchPipeline([kind] * 3, window_size=11, seed=3)


def workers(kind: Any) -> BasePipeline:
    return VectorBatchPipeline([kind] * 2, window_size=11, seed=3, async_envs=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [single, sync, workers])
def test_windows_after_a_resume_are_those_of_a_run_straight_through(tmp_path, form, kind):
    expected, given, goes_on = resumed(partial(form, KINDS[kind]), tmp_path)
    assert goes_on
    require_same(expected, given)


def test_so_are_they_after_any_number_of_windows(tmp_path):
    """Also where an environment is about to be reset."""
    was_over = False
    for at in range(9):
        make = partial(sync, lambda: TimeLimit(Parts(), 5))
        expected, given, goes_on = resumed(make, tmp_path, at)
        assert goes_on
        require_same(expected, given)
        valid = given[0].valid
        was_over |= valid is not None and not valid[:3].all()
    assert was_over


def test_so_are_they_in_processes_that_begin_empty(tmp_path, monkeypatch):
    context = multiprocessing.get_context("spawn")
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: context)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    expected, given, goes_on = resumed(partial(workers, KINDS["CartPole"]), tmp_path)
    assert goes_on
    require_same(expected, given)


@pytest.mark.parametrize("kind", ["CartPole", "masks", "Dict"])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_so_are_they_in_whatever_way_environments_are_reset(tmp_path, mode, kind):
    def make_env(seed: int | None) -> Any:
        makers = [lambda: CheckedEnv(KINDS[kind](), in_rows=True)] * 2
        return wrap_gymnasium(SyncVectorEnv(makers, autoreset_mode=mode), "sync", owned=True)

    for at in (1, 4):
        make = partial(RolloutPipeline, make_env, None, 11, 3)
        expected, given, goes_on = resumed(make, tmp_path, at)
        assert goes_on
        require_same(expected, given)


class Changing(Pushed):
    """Pays more in every episode."""

    paid = 0.0

    def reset(self, **given: Any) -> Any:
        self.paid += 1.0
        return super().reset(**given)

    def step(self, action: Any) -> Any:
        observation, _, *rest = super().step(action)
        return observation, self.paid, *rest


class Failing(Pushed):
    """Breaks in its 70th step since it was made, and wherever it is played once more."""

    def __init__(self, breaks_at: int = 70) -> None:
        self.left = breaks_at

    def step(self, action: Any) -> Any:
        self.left -= 1
        if not self.left:
            raise OSError("no such device")
        return super().step(action)


class Endless(Pushed):
    def step(self, action: Any) -> Any:
        observation, reward, *_ = super().step(action)
        return observation, reward, False, False, {}


class Bare:
    """No environment of Gymnasium's, and without a generator."""

    observation_space, action_space = Pushed.observation_space, Pushed.action_space

    def reset(self, seed: int | None = None) -> Any:
        return np.zeros(2), {}

    def step(self, action: Any) -> Any:
        return np.ones(2), 1.0, False, False, {}


def by_pool(kind: Any = None) -> BasePipeline:
    pytest.importorskip("envpool")
    return VectorBatchPipeline(
        env_id="CartPole-v1", num_envs=3, backend="envpool", window_size=11, seed=3
    )


def by_vector(kind: Any = None) -> BasePipeline:
    return VectorBatchPipeline(env=ScriptedVectorEnv(2), window_size=11, seed=3)


def by_own_vector(kind: Any = None) -> BasePipeline:
    return VectorBatchPipeline(env=SyncVectorEnv([Pushed] * 2), window_size=11, seed=3)


RESTARTING = {
    "another generator": (sync, Hidden),
    "another generator in a worker": (workers, Hidden),
    "a count of episodes": (single, ScriptedEnv),
    "rewards by those of before": (sync, lambda: NormalizeReward(Parts())),
    "rewards by a count": (workers, Changing),
    "no generator": (single, Bare),
    "an EnvPool": (by_pool, None),
    "another's vector": (by_vector, None),
    "the user's vector": (by_own_vector, None),
}


@pytest.mark.parametrize("case", RESTARTING)
def test_where_they_cannot_be_the_same_all_environments_begin_fresh_episodes(tmp_path, case):
    form, kind = RESTARTING[case]
    _, given, goes_on = resumed(partial(form, kind), tmp_path)
    assert not goes_on
    assert [window.episode_id for window in given] == [4, 5, 6, 7]
    lengths = given[0].finished_lengths
    assert not len(lengths) or lengths.max() <= 11, "nothing is counted of the episodes before"


def test_fresh_episodes_are_others_than_at_the_begin_and_the_same_at_each_resume(monkeypatch):
    monkeypatch.setattr(checked_env, "MOST_STEPS", 0)
    shown = []
    for window in (None, 1, 1, 2):
        pipeline = sync(Parts)
        agent = Seeded(0)
        pipeline.set_agent(agent)
        pipeline.setup()
        list(islice(pipeline.episodes(), 3))
        state = pipeline.state_dict()
        assert state is not None
        assert state["episodes"] is None
        pipeline.setup()
        begun = agent.begun
        if window is not None:
            assert pipeline.load_state_dict(state | {"window": window}) is False
            assert agent.begun == begun + 1
        first = next(iter(pipeline.episodes()))
        assert first.episode_id == (window or 0)
        shown.append(np.array(first.observations[0]).tolist())
        pipeline.teardown()
    assert shown[1] == shown[2]
    assert len({tuple(one) for one in shown}) == 3


@pytest.mark.parametrize("form", [single, sync, workers])
def test_after_an_error_in_the_middle_of_a_window_a_state_says_that_episodes_begin_anew(form):
    pipeline = form(Failing)
    pipeline.set_agent(Seeded(0))
    pipeline.setup()
    windows = pipeline.episodes()
    with pytest.raises(OSError, match="no such device"):
        list(islice(windows, 20))
    state = pipeline.state_dict()
    assert state is not None
    assert state["episodes"] is None
    assert 3 <= state["window"] <= 8
    pipeline.teardown()


def test_an_environment_that_breaks_while_its_episode_is_played_once_more_begins_another():
    def at(breaks_at: int) -> BasePipeline:
        pipeline = BatchPipeline(env=Failing(breaks_at), window_size=11, seed=3)
        pipeline.set_agent(Seeded(0))
        pipeline.setup()
        return pipeline

    first = at(1000)
    next(iter(first.episodes()))
    state = first.state_dict()
    assert state is not None
    assert len(state["episodes"][0]["actions"]) == 2
    second = at(1)
    assert second.load_state_dict(state) is False
    assert next(iter(second.episodes())).episode_id == 1


def test_an_episode_that_is_too_long_or_would_take_too_long_begins_anew(monkeypatch):
    def begun() -> BasePipeline:
        pipeline = sync(Endless)
        pipeline.set_agent(Seeded(0))
        pipeline.setup()
        return pipeline

    monkeypatch.setattr(checked_env, "MOST_STEPS", 33)
    first = begun()
    windows = first.episodes()
    list(islice(windows, 3))
    state = first.state_dict()
    assert state is not None
    assert len(state["episodes"][0]["actions"]) == 33
    assert begun().load_state_dict(state) is True
    monkeypatch.setattr("tensor_optix.pipeline.gymnasium_env.MOST_SECONDS", 0.0)
    assert begun().load_state_dict(state) is False
    next(windows)
    later = first.state_dict()
    assert later is not None
    assert later["episodes"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": -1}, "window must be a whole number"),
        ({"observations": np.zeros((3, 9), np.float32)}, "they are of other environments"),
        ({"episodes": [{}]}, "must be 3 episodes to go on with, got 1"),
        ({"counter": {"returns": np.zeros(2), "lengths": np.zeros(2)}}, "another number of"),
    ],
)
def test_a_state_of_something_else_is_refused(change, message):
    pipeline = sync(Parts)
    pipeline.set_agent(Seeded(0))
    pipeline.setup()
    state = pipeline.state_dict()
    assert state is not None
    with pytest.raises(ValueError, match=message):
        pipeline.load_state_dict(state | change)


def test_before_it_is_set_up_there_is_no_state():
    assert sync(Parts).state_dict() is None
