"""Evolution that was interrupted in any window goes on as if it had not been."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.checkpoints.run_keeper import RunKeeper
from tensor_optix.core.checkpoints.saved_state import CheckpointError
from tensor_optix.core.decisions.run_state import MOST_HISTORY
from tensor_optix.core.ensemble_agent import EnsembleAgent
from tensor_optix.core.evolution.variants import RECENT
from tensor_optix.core.meta_controller import MetaAction, MetaController
from tensor_optix.core.policy_manager import PolicyManager
from tensor_optix.core.types import EvalMetrics, HyperparamSet
from tests.core.population import Arena, Evolution, Talent
from tests.core.scripted_loop import Setup
from tests.core.test_resume import told
from tests.scripted import KillAt, Killed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tensor_optix.core.types import EpisodeData


class Gifted(Talent):
    """Brings talent and luck along when a run goes on with it; a policy that it is given has neither."""

    def __init__(self, talent: int = 0) -> None:
        super().__init__(talent)
        self.luck = 0.0

    def run_state(self) -> dict[str, Any]:
        return {"talent": self.talent, "luck": self.luck}

    def load_run_state(self, state: dict[str, Any]) -> None:
        self.talent, self.luck = state["talent"], state["luck"]


class Fortune:
    """The luck of agents, which they have themselves."""

    def get(self, agent: Any, default: float) -> float:
        return getattr(agent, "luck", default)

    def __setitem__(self, agent: Gifted, luck: float) -> None:
        agent.luck = luck


class LastingArena(Arena):
    """Goes on with its windows, if it is told which is the next."""

    def __init__(self, is_live: bool = False) -> None:
        super().__init__(is_live)
        self.luck: Any = Fortune()

    def episodes(self) -> Iterator[EpisodeData]:
        while True:
            self.collected += 1
            yield self.window(self.collected - 1)

    def state_dict(self) -> dict[str, Any]:
        return {"collected": self.collected}

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        self.collected = state["collected"]
        return True


class KeptBefore(RunKeeper):
    """Keeps the run once, before a window."""

    def __init__(self, directory: Path, window: int, resume: bool) -> None:
        super().__init__(directory / "state", 0.0, resume)
        self.boundaries = window

    @property
    def is_due(self) -> bool:
        self.wait()
        self.boundaries -= 1
        return self.boundaries == 0


class Resumable(Evolution):
    """An evolution whose variants follow from their numbers alone."""

    def __init__(self, directory: Path, talents: list[int], window: int, **options: Any) -> None:
        resume = options.pop("resume", False)
        callbacks = [] if resume or not window else [KillAt(window)]
        keeper = KeptBefore(directory, window, resume) if window else None
        options["arena"] = LastingArena(options.pop("is_live", False))
        options.setdefault("agent", Gifted(options.pop("first", 3)))
        super().__init__(
            directory / "checkpoints", talents, callbacks=callbacks, keeper=keeper, **options
        )

    def make(self) -> Gifted:
        variant = Gifted(self.talents[self.manager.spawn_count % len(self.talents)])
        variant.luck = self.luck.get(self.manager.spawn_count, 0.0)
        self.made.append(variant)
        return variant


def outcome(evolution: Evolution) -> dict[str, Any]:
    """Return what became of the population and of the run."""
    best = evolution.setup.registry.best
    return {
        "status": evolution.manager.status(),
        "numbers": [member.number for member in evolution.manager.members],
        "updates": [agent.updates for agent in evolution.manager.agents],
        "params": [agent.params for agent in evolution.manager.agents],
        "first": evolution.first.get_hyperparams().params,
        "best": None if best is None else best.eval_metrics.primary_score,
        "reason": evolution.stop_reason,
    }


class Ruthless(MetaController):
    """Prunes and spawns by the number of scores since its last decision; it remembers nothing."""

    def decide(self, metrics_history: Any, pm_status: Mapping[str, Any]) -> MetaAction:
        if pm_status["ensemble_size"] > 1 and len(metrics_history) == 2:
            return MetaAction.PRUNE
        return MetaAction.SPAWN if len(metrics_history) == 5 else MetaAction.NO_OP


CASES: dict[str, tuple[list[int], dict[str, Any], int]] = {
    "better and worse": ([12, 3, 15], {}, 1),
    "lucky": ([3], {"luck": {0: 50.0}, "max_snapshots": 1, "first": 8}, 1),
    "one at a time": ([3, 9], {"manager": {"max_spawns": 2, "max_ensemble_size": 1}}, 2),
    "no budget": ([9, 3, 3, 3, 3], {"manager": {}}, 5),
    "live": ([9, 3], {"is_live": True}, 3),
    "meta": ([9, 3, 12, 2], {"meta": Ruthless()}, 3),
    "cut short": ([60], {"max_episodes": 14}, 2),
}


def require_same_however_interrupted(
    make: Callable[..., Resumable], every: int, run: dict[str, Any]
) -> Resumable:
    """Assert that runs interrupted in every so many windows end like one that was not, and return that.

    Args:
        make: Makes a run that is interrupted in a window (0: never), or resumed there.
        every: So many.
        run: Arguments of its `run`.
    """
    straight = make(0).run(**run)
    windows, events = told(straight.setup)
    for window in range(1, len(windows), every):
        killed = make(window)
        with pytest.raises(Killed):
            killed.run(**run)
        resumed = make(window, resume=True).run(**run)
        rows, decisions = told(resumed.setup)
        assert rows == windows[window:]
        known = [one for one in told(killed.setup)[1] if one[1] < window and one[0] != "stop"]
        assert known + decisions[1:] == events
        assert outcome(resumed) == outcome(straight)
    return straight


@pytest.mark.parametrize("case", CASES)
def test_evolution_interrupted_in_any_window_ends_as_if_it_had_not_been(tmp_path, case):
    talents, options, every = CASES[case]
    run = {"meta": options["meta"]} if "meta" in options else {}
    options = {name: value for name, value in options.items() if name != "meta"}

    def make(window: int, **more: Any) -> Resumable:
        return Resumable(tmp_path / str(window), talents, window, **options, **more)

    straight = require_same_however_interrupted(make, every, run)
    assert "trainee" in straight.setup.diary.kinds()


class Continuous(Gifted):
    def act(self, observation: Any) -> Any:
        return np.float64(self.skill)


class KeptEnsemble(EnsembleAgent):
    """Keeps what its members are."""

    def run_state(self) -> dict[str, Any]:
        return {
            str(one.number): [one.agent.run_state(), one.agent.get_hyperparams().params]
            for one in self.policy_manager.members
        }

    def load_run_state(self, state: dict[str, Any]) -> None:
        for one in self.policy_manager.members:
            own, params = state[str(one.number)]
            one.agent.load_run_state(own)
            one.agent.set_hyperparams(HyperparamSet(params))


class Together(Resumable):
    """An evolution of an ensemble that is trained as one."""

    def __init__(self, directory: Path, talents: list[int], window: int, **options: Any) -> None:
        self.member = Continuous(3)
        manager = PolicyManager(CheckpointRegistry(directory), max_spawns=len(talents))
        manager.add_agent(self.member)
        options["agent"] = KeptEnsemble(manager, self.member)
        super().__init__(directory, talents, window, **options)
        self.manager = manager

    def make(self) -> Continuous:
        return Continuous(self.talents[self.manager.spawn_count % len(self.talents)])


def test_an_ensemble_in_evolution_goes_on_with_its_members_present_and_past(tmp_path):
    def make(window: int, **more: Any) -> Resumable:
        return Together(tmp_path / str(window), [12, 1, 9], window, **more)

    straight = require_same_however_interrupted(make, 2, {})
    assert straight.manager.ensemble_size == 3
    assert len(straight.setup.agent.stored_members) == 4


def test_members_that_the_script_adds_are_known_by_number_and_not_made_anew(tmp_path):
    def make(window: int, **more: Any) -> Resumable:
        evolution = Resumable(tmp_path / str(window), [9], window, max_episodes=16, **more)
        evolution.manager.add_agent(Gifted(1), weight=0.5)
        evolution.manager.add_agent(evolution.first)
        return evolution

    require_same_however_interrupted(make, 3, {})
    resumed = make(15, resume=False)
    with pytest.raises(Killed):
        resumed.run()
    resumed = make(15, resume=True)
    helper = resumed.manager.agents[0]
    resumed.run()
    assert resumed.manager.agents[:2] == [helper, resumed.first]
    assert len(resumed.made) == 1


def test_an_agent_that_left_the_population_and_still_matters_is_kept(tmp_path):
    """Somebody prunes a variant while it is under training."""
    population = PolicyManager(CheckpointRegistry(tmp_path), max_spawns=3)
    first = Gifted(3)
    callback = population.as_callback(first, lambda: Gifted(5))
    control = Setup(tmp_path, None, first, pipeline=LastingArena()).controller
    control.add_callback(callback)
    control.registry.save(first, EvalMetrics(9.0, {}, 0), first.get_hyperparams())
    callback.on_dormant(0)
    [variant] = callback.agents().values()
    population.remove(variant)
    assert callback.agents() == {"variant": variant}
    state = callback.state_dict()

    other = PolicyManager(control.registry, max_spawns=3)
    resumed = other.as_callback(first, lambda: Gifted(5))
    resumed.load_state_dict(state)
    assert list(resumed.agents()) == ["variant"]
    assert resumed.state_dict() == state
    assert other.agents == [first]


def test_members_that_nobody_can_make_are_named(tmp_path):
    with pytest.raises(Killed):
        Resumable(tmp_path, [9], 15).run()
    resumed = Resumable(tmp_path, [9], 15, resume=True)
    resumed.setup.controller.add_callback(resumed.manager.as_callback(resumed.first))
    with pytest.raises(CheckpointError, match=r"the agents 1 .* give as_callback an agent_factory"):
        resumed.setup.run()


def test_scores_and_evaluations_of_a_long_run_do_not_fill_the_memory(tmp_path):
    agent = Gifted()
    manager = PolicyManager(CheckpointRegistry(tmp_path))
    manager.add_agent(agent)
    callback = manager.as_callback(agent)
    for window in range(3 * MOST_HISTORY):
        callback.on_episode_end(window, EvalMetrics(float(window), {}, window))
    state = callback.state_dict()
    assert len(state["since_decision"]) <= MOST_HISTORY
    assert len(state["training"]["history"]) <= MOST_HISTORY
    assert state["training"]["history"][-1]["episode_id"] == 3 * MOST_HISTORY - 1
    assert len(state["training"]["scores"]) == RECENT


def test_a_variant_that_was_spawned_in_the_last_window_of_a_run_is_trained_in_the_next(tmp_path):
    """The cap came before the loop had handed over to it."""
    options: dict[str, Any] = {"luck": {0: 50.0}}
    straight = Resumable(tmp_path / "straight", [9, 3], 0, max_steps=60, **options).run()
    windows, events = told(straight.setup)
    for cap in range(8, len(windows)):
        directory = tmp_path / str(cap)
        # Kept at its end alone.
        capped = Resumable(directory, [9, 3], 1000, resume=True, max_steps=cap, **options).run()
        assert len(capped.setup.diary.windows) == cap
        resumed = Resumable(directory, [9, 3], 1000, resume=True, max_steps=60, **options).run()
        rows, decisions = told(resumed.setup)
        assert rows == windows[cap:]
        known = [one for one in told(capped.setup)[1] if one[0] != "stop"]
        assert known + decisions[1:] == events
