"""Evolution that was interrupted in any window goes on as if it had not been."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tensor_optix.core.checkpoints.run_keeper import RunKeeper
from tensor_optix.core.meta_controller import MetaAction, MetaController
from tests.core.population import Arena, Evolution, Talent
from tests.core.test_resume import KillAt, Killed, told

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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
    "one at a time": ([3, 9], {"manager": {"max_spawns": 2, "max_ensemble_size": 1}}, 2),
    "no budget": ([9, 3, 3, 3, 3], {"manager": {}}, 5),
    "live": ([9, 3], {"is_live": True}, 3),
    "meta": ([9, 3, 12, 2], {"meta": Ruthless()}, 3),
    "cut short": ([60], {"max_episodes": 14}, 2),
}


@pytest.mark.parametrize("case", CASES)
def test_evolution_interrupted_in_any_window_ends_as_if_it_had_not_been(tmp_path, case):
    talents, options, every = CASES[case]
    options = dict(options)
    meta = options.pop("meta", None)
    straight = Resumable(tmp_path / "straight", talents, 0, **options).run(meta=meta)
    windows, events = told(straight.setup)
    assert any(kind == "trainee" for kind, *_ in events)
    for window in range(1, len(windows), every):
        directory = tmp_path / str(window)
        killed = Resumable(directory, talents, window, **options)
        with pytest.raises(Killed):
            killed.run(meta=meta)
        resumed = Resumable(directory, talents, window, resume=True, **options).run(meta=meta)
        rows, decisions = told(resumed.setup)
        assert rows == windows[window:]
        known = [one for one in told(killed.setup)[1] if one[1] < window and one[0] != "stop"]
        assert known + decisions[1:] == events
        assert outcome(resumed) == outcome(straight)
