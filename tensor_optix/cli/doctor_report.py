"""What a doctor tells: a diagnosis comes in, a short text or one JSON object goes out."""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.text import Text

from tensor_optix.core.observation_layout import ALONE, Encoding, layout_of
from tensor_optix.core.replay.storage import size_text
from tensor_optix.pipeline.examination.findings import Grade
from tensor_optix.runs import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from tensor_optix.algorithms.suitability import Fit
    from tensor_optix.core.observation_layout import AnySpace, ObservationField
    from tensor_optix.pipeline.examination.findings import Finding
    from tensor_optix.pipeline.examination.speeds import Speed
    from tensor_optix.pipeline.examination.trace import Episode, Trace

MAX_WIDTH, NAME_WIDTH = 110, 14
COLOURS = {Grade.OK: "green", Grade.NOTE: "yellow", Grade.PROBLEM: "bold red"}
_MOST_PARTS = 6


@dataclass(frozen=True)
class Diagnosis:
    """All that is told of an environment."""

    title: str
    spaces: tuple[AnySpace, AnySpace]
    """Of observations and of actions."""
    time_limit: int | None
    """In steps, None where it is not known."""
    trace: Trace | None
    """None where the environment failed at once."""
    num_envs: int
    """How many environments were measured together."""
    speeds: Sequence[Speed]
    algorithm: str
    """That would learn."""
    why: str
    """Why it was chosen; empty where somebody asked for it."""
    fits: Sequence[Fit]
    """Of every algorithm; none where that could not be told."""
    framework: str
    findings: Sequence[Finding]

    @property
    def has_problem(self) -> bool:
        """Whether something has to be mended."""
        return any(one.grade is Grade.PROBLEM for one in self.findings)


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Print facts, then findings, problems last: where the eye ends."""
    console.print(Text(diagnosis.title, "bold"), soft_wrap=True)
    for name, text in _facts(diagnosis):
        _print(console, Text(name, "dim"), text)
    console.print()
    well = [one.text for one in diagnosis.findings if one.grade is Grade.OK]
    if well:
        _print(console, Text("ok", COLOURS[Grade.OK]), "; ".join(well))
    for grade in (Grade.NOTE, Grade.PROBLEM):
        for one in diagnosis.findings:
            if one.grade is grade:
                _print(console, Text(grade.value, COLOURS[grade]), one.text)


def _print(console: Console, name: Text, text: str) -> None:
    """Print a name, and a text beside it."""
    width = max(min(console.width, MAX_WIDTH) - NAME_WIDTH, NAME_WIDTH)
    name.pad_right(NAME_WIDTH - len(name))
    lines = textwrap.wrap(text, width, break_on_hyphens=False) or [""]
    console.print(name + Text(("\n" + " " * NAME_WIDTH).join(lines)), soft_wrap=True)


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return what can be written as JSON."""
    observation_space, action_space = diagnosis.spaces
    layout = layout_of(observation_space)
    return {
        "environment": diagnosis.title,
        "observation_space": str(observation_space),
        "action_space": str(action_space),
        "observation_layout": [_field_json(field) for field in layout.fields],
        "left_out": list(layout.left_out),
        "time_limit": diagnosis.time_limit,
        "played": None if diagnosis.trace is None else _played(diagnosis.trace),
        "num_envs": diagnosis.num_envs,
        "speeds": [asdict(one) for one in diagnosis.speeds],
        "algorithm": diagnosis.algorithm,
        "framework": diagnosis.framework,
        "fits": [asdict(one) for one in diagnosis.fits],
        "findings": [asdict(one) | {"grade": one.grade.value} for one in diagnosis.findings],
    }


def _field_json(field: ObservationField) -> dict[str, Any]:
    return {
        "name": field.name,
        "columns": [field.columns.start, field.columns.stop],
        "shape": list(field.shape),
        "encoding": field.encoding.value,
    }


def _played(trace: Trace) -> dict[str, Any]:
    finite = trace.rewards[np.isfinite(trace.rewards)]
    totals = [one.total for one in trace.episodes if math.isfinite(one.total)]
    return {
        "steps": trace.steps,
        "episodes": len(trace.episodes),
        "terminated": sum(one.terminated for one in trace.episodes),
        "truncated": sum(one.truncated for one in trace.episodes),
        "lengths": _range([one.length for one in trace.episodes]),
        "returns": _range(totals),
        "rewards": _range(finite.tolist()),
        "share_of_steps_with_reward": float(np.mean(trace.rewards != 0.0)),
    }


def _range(values: Sequence[float]) -> list[float] | None:
    return [min(values), max(values)] if values else None


# ---- facts


def _facts(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    observation_space, action_space = diagnosis.spaces
    facts = [("observations", _observations(observation_space)), ("actions", str(action_space))]
    if diagnosis.trace is not None:
        facts += [
            ("episodes", _episodes(diagnosis.trace, diagnosis.time_limit)),
            ("rewards", _rewards(diagnosis.trace)),
        ]
    if diagnosis.speeds:
        facts.append(("steps/s", _speeds(diagnosis)))
    return facts + _algorithms(diagnosis)


def _observations(space: AnySpace) -> str:
    layout = layout_of(space)
    parts = [_field(field) for field in layout.fields[:_MOST_PARTS]]
    more = len(layout.fields) - len(parts)
    said = "; ".join([*parts, *([f"{more} more parts"] if more else [])]) or str(space)
    if layout.left_out:
        said += f"; left out, as they are no numbers of a fixed count: {', '.join(layout.left_out)}"
    return said


def _field(field: ObservationField) -> str:
    is_alone = field.name == ALONE and field.first == 0
    size, dtype = " x ".join(map(str, field.shape)) or "1", field.space.dtype
    first, last = field.columns.start, field.columns.stop - 1
    kinds = {
        Encoding.VALUES: f"{size} number{'s' * (field.size != 1)}, {dtype}",
        Encoding.ONE_HOT: f"{field.space}, seen one-hot" + f" in {field.size} columns" * is_alone,
        Encoding.IMAGE: f"image of {size}, {dtype}, seen by convolutions",
        Encoding.MASK: f"mask of {field.size} actions",
    }
    columns = f"column {first}" if first == last else f"columns {first} to {last}"
    return ("" if is_alone else f"{field.name} in {columns}: ") + kinds[field.encoding]


def _episodes(trace: Trace, limit: int | None) -> str:
    known = "no time limit known" if limit is None else f"time limit {limit:,}"
    played = f"{trace.steps:,} random steps"
    if not trace.episodes:
        return f"none ended in {played}; {known}"
    ends = _ends(trace.episodes)
    lengths = _span([one.length for one in trace.episodes])
    count = len(trace.episodes)
    return f"{count:,} of {lengths} steps{ends}, in {played}; {known}"


def _ends(episodes: Sequence[Episode]) -> str:
    cut = sum(one.truncated and not one.terminated for one in episodes)
    if cut == len(episodes):
        return ", all truncated"
    return f", {cut:,} of them truncated" if cut else ""


def _rewards(trace: Trace) -> str:
    finite = trace.rewards[np.isfinite(trace.rewards)].tolist()
    if not finite:
        return "none is finite"
    paid = float(np.mean(trace.rewards != 0.0))
    said = f"{_span(finite)} a step" + (f", {paid:.1%} of them not 0" if paid < 1.0 else "")
    totals = [one.total for one in trace.episodes if math.isfinite(one.total)]
    return said + (f"; {_span(totals)} an episode" if totals else "")


def _span(values: Sequence[float]) -> str:
    low, high = words.number(min(values)), words.number(max(values))
    return low if low == high else f"{low} to {high}"


def _speeds(diagnosis: Diagnosis) -> str:
    told = [_speed(one, len(diagnosis.speeds) > 1) for one in diagnosis.speeds]
    return f"{', '.join(told)}; with {diagnosis.num_envs} environments"


def _speed(speed: Speed, are_several: bool) -> str:
    if speed.steps_per_second is None:
        return f"{speed.backend} not measured ({speed.reason})"
    chosen = " (chosen)" if speed.is_chosen and are_several else ""
    return f"{speed.backend} {speed.steps_per_second:,.0f}{chosen}"


def _algorithms(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    if not diagnosis.fits:
        return [("algorithm", diagnosis.algorithm)]
    (chosen,) = (one for one in diagnosis.fits if one.algorithm == diagnosis.algorithm)
    others = [one for one in diagnosis.fits if one is not chosen]
    facts = [("algorithm", f"{_fit(chosen)}, in {diagnosis.framework}")]
    if diagnosis.why:
        facts.append(("", diagnosis.why))
    if chosen.updates_by:
        facts.append(("updates", f"by {chosen.updates_by}"))
    fitting = [_fit(one) for one in others if not one.refusal]
    if fitting:
        facts.append(("others", "; ".join(fitting)))
    return facts


def _fit(fit: Fit) -> str:
    if fit.refusal:
        return f"{fit.algorithm} does not fit"
    total = sum(fit.weights.values())
    plural = "" if len(fit.weights) == 1 else "s"
    said = f"{fit.algorithm}: {total:,} weights in {len(fit.weights)} network{plural}"
    if fit.replay_rows:
        said += f", a replay of {fit.replay_rows:,} steps takes {size_text(fit.replay_bytes)}"
    return said
