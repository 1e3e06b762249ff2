"""Figures and decisions in words: numbers come in, short plain text goes out."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from tensor_optix.core.callbacks import (
    Baseline,
    Best,
    Chosen,
    Degradation,
    Dormant,
    Error,
    Finals,
    Forked,
    Forking,
    Looked,
    Plateau,
    Recovered,
    Rescored,
    Resumed,
    Rollback,
    Tuned,
    Unsaved,
)
from tensor_optix.core.types import LoopState
from tensor_optix.runs.record import Decision, Surer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STATES = {
    LoopState.ACTIVE: "learning",
    LoopState.COOLING: "no recent gain",
    LoopState.WATCHDOG: "checking a fall",
    LoopState.DORMANT: "nothing left to gain",
}
_DIAGNOSTICS = {
    "loss": "loss",
    "critic_loss": "critic loss",
    "epsilon": "epsilon",
    "alpha": "alpha",
    "entropy": "entropy",
    "approx_kl": "KL",
    "explained_var": "explained variance",
    "buffer_size": "replay",
}
_BARS = "▁▂▃▄▅▆▇█"


def number(value: float | None) -> str:
    """Return a score with four significant digits or so; "-" for none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def signed(value: float) -> str:
    """Return a change with its sign."""
    return ("+" if value >= 0 else "") + number(value)


def clock(seconds: float) -> str:
    """Return a duration as 1:02:03, or 02:03 below an hour."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def interval(windows: int) -> str:
    """Say how often the policy is evaluated."""
    return "every window evaluated" if windows == 1 else f"every {windows} windows evaluated"


def decision(made: Decision, count: int = 1) -> str:
    """Say what the loop decided, `count` times in a row."""
    return _decision(made) + (f" ({count} in a row)" if count > 1 else "")


def _decision(made: Decision) -> str:
    match made.event:
        case Looked(steps=steps, episodes=episodes):
            return f"looked at {steps:,} random steps{of_episodes(episodes)}"
        case Chosen(option=option, value=value, reason=reason):
            return f"chose {chosen(option, value)}: {reason}"
        case Baseline(score=score, episodes=episodes):
            return f"first score {number(score)}{of_episodes(episodes)}"
        case Best(score=score, episodes=episodes):
            return f"new best {number(score)}{of_episodes(episodes)}"
        case Surer(score=score, episodes=episodes):
            return f"kept a surer policy, score {number(score)}{of_episodes(episodes)}"
        case Rescored(per_step=True, windows=windows):
            return f"no episode ended in {windows} windows: scored by the mean reward a step"
        case Rescored():
            return "an episode ended after all: scored by its return, anew"
        case Plateau():
            return "no gain in the last evaluations"
        case Degradation(smoothed=smoothed, best=best):
            return f"the score fell to {number(smoothed)} from {number(best)}"
        case Rollback():
            return "went back to the best policy"
        case Recovered(reason=reason):
            return f"{reason}: went back to the best policy, with smaller steps"
        case Finals(scores=scores, episodes=episodes):
            reached = ", ".join(number(score) for score in scores.values())
            return f"{len(scores)} policies played for the best{of_episodes(episodes)}: {reached}"
        case Forking(reason=reason, tried=tried):
            return f"{reason}: trying {len(tried) - 1} other settings"
        case Forked():
            return forked(made.event)
        case Tuned(before=before, effective=effective):
            return f"tuned: {_changes(before, effective)}"
        case Dormant():
            return "nothing left to gain"
        case Resumed(after=after, episodes_go_on=go_on):
            begun = "" if go_on else "; all environments began new episodes"
            return f"went on after the run was {after}{begun}"
        case Unsaved(reason=reason):
            return f"a checkpoint could not be written: {reason}"
        case Error(reason=reason):
            return f"failed: {reason}"
        case _:
            return made.kind


def forked(event: Forked) -> str:
    """Say what came of what was tried."""
    names = [_setting(one) for one in event.tried[1:]]
    reached = ", ".join(
        f"{name} {number(score)}"
        for name, score in zip(["as it was", *names], event.scores, strict=True)
    )
    tried = f"tried in {event.steps:,} steps: {reached}"
    if not event.has_gained:
        return f"no other settings were better ({tried})"
    if event.winner == 0:
        return f"went on with the same settings from the best policy ({tried})"
    return f"went on with {names[event.winner - 1]} ({tried})"


def _setting(changed: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} {value:.3g}" for name, value in changed.items())


def chosen(option: str, value: Any) -> str:
    """Say what was chosen for an option."""
    name = option.removeprefix("hyperparams.").replace("_", " ")
    if isinstance(value, bool):
        return name if value else f"no {name}"
    told = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"{name} {told}"


def of_episodes(episodes: int) -> str:
    """Say of how many episodes a score is the mean, where that is known."""
    return f" ({episodes} episode{'' if episodes == 1 else 's'})" if episodes else ""


def plateau(dormant: Dormant) -> str:
    """Say what the decision to stop rests on."""
    test = dormant.plateau_test
    waited = f"{dormant.non_improvements} evaluations in a row brought no improvement"
    if test is None or not all(map(math.isfinite, test.improvements)):
        return f"{waited}."
    changes = " and ".join(
        f"{signed(change)} over the last {number(horizon)} windows (noise alone makes up to {number(error)})"
        for change, horizon, error in zip(
            test.improvements, test.horizons, test.uncertainties, strict=True
        )
    )
    reason = "A plateau is confirmed" if test.is_plateau else waited
    if test.only_wanders and not test.is_plateau:
        reason = "It has long been at its best, and only goes up and down since"
    if test.has_gained:
        scale = f"small against the {number(test.gain)} gained since the start"
    else:
        scale = "and nothing that stands out of the noise was gained since the start"
    return f"{reason}. Evaluations changed by {changes}: {scale}."


def diagnostics(figures: Mapping[str, Any]) -> str:
    """Say how learning goes: those of the figures that `learn` returned which mean something alone."""
    known = [(text, figures[name]) for name, text in _DIAGNOSTICS.items() if name in figures]
    return ", ".join(f"{text} {number(value)}" for text, value in known)


def diagnostic(name: str) -> str:
    """Return the name of a figure that `learn` returned, as people say it."""
    return _DIAGNOSTICS.get(name, name)


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw a series as at most `width` bars; neighbours share one by their mean."""
    values = [value for value in values if math.isfinite(value)]
    if not values:
        return ""
    width = min(width, len(values))
    edges = [index * len(values) // width for index in range(width + 1)]
    means = [sum(values[begin:end]) / (end - begin) for begin, end in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    changed = [name for name in after if after[name] != before.get(name)]
    return ", ".join(f"{name} {before.get(name):.4g} -> {after[name]:.4g}" for name in changed)
