"""The closing report: the record of a run and its end come in, plain words go out."""

from __future__ import annotations

import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tensor_optix.core.callbacks import Dormant, Ending
from tensor_optix.runs import words
from tensor_optix.runs.record import merged

if TYPE_CHECKING:
    from tensor_optix.core.callbacks import Stop
    from tensor_optix.core.types import PolicySnapshot
    from tensor_optix.runs.record import Decision, TrainingRecord
    from tensor_optix.runs.run_directory import RunConfig, RunDirectory

WIDTH = 79
MAX_DECISIONS = 40
"""More of them are left out in the middle; events.jsonl has them all."""


@dataclass(frozen=True)
class Outcome:
    """The end of a training."""

    ending: Ending | None
    """None: the log tells of no end."""
    snapshot: PolicySnapshot | None
    """The best policy."""
    reason: str = ""
    """Why it ended there."""
    signal: str = ""
    """The name of the signal."""


def outcome_of(stop: Stop | None, snapshot: PolicySnapshot | None) -> Outcome:
    """Return the end that a run's last event tells of.

    Args:
        stop: The event; None: there was none.
        snapshot: The best policy.
    """
    if stop is None:
        return Outcome(None, snapshot)
    reason = stop.reason or ""
    return Outcome(
        stop.ending, snapshot, reason, "SIGTERM" if reason.startswith("SIGTERM") else "Ctrl-C"
    )


def closing_report(
    record: TrainingRecord, config: RunConfig, directory: RunDirectory, outcome: Outcome
) -> str:
    """Return how the training went, in lines of at most 79 characters where paths allow."""
    seconds = record.seconds
    speed = record.total_steps / seconds if seconds > 0 else 0.0
    lines = [
        f"{config.title}: {title(outcome)}",
        "",
        *_paragraph("why", why(record, outcome)),
        *_paragraph(
            "steps", f"{record.total_steps:,} in {words.clock(seconds)} ({speed:,.0f} steps/s)"
        ),
        *_paragraph("run", f"{config.learner}, {config.environments}, {config.origin}"),
        *_learning(record),
        *_best(record, directory, outcome),
        *_decisions(record.decisions),
        "",
    ]
    if outcome.snapshot is not None and config.is_rebuildable:
        lines.append(f"evaluate   tensor-optix evaluate {shlex.quote(str(directory.path))}")
    if outcome.ending is None and config.is_rebuildable and directory.state.exists():
        lines.append(f"go on      tensor-optix train --resume {shlex.quote(str(directory.path))}")
    if config.tensorboard:
        lines.append(f"watch      tensorboard --logdir {shlex.quote(str(directory.path))}")
    return "\n".join([*lines, *_files(directory)]) + "\n"


_TITLES = {
    Ending.FINISHED: "training is done",
    Ending.CAPPED: "training reached its limit",
    Ending.INTERRUPTED: "training was interrupted",
    Ending.CRASHED: "training crashed",
    None: "training is under way, or was killed",
}


def title(outcome: Outcome) -> str:
    """Say how a training ended."""
    return _TITLES[outcome.ending]


def why(record: TrainingRecord, outcome: Outcome) -> str:
    """Say why it ended."""
    match outcome.ending:
        case None:
            return f"its log tells of no end (state: {words.STATES[record.state]})."
        case Ending.INTERRUPTED:
            return f"{outcome.signal} ended it. What was learned until then is kept."
        case Ending.CRASHED:
            return f"{outcome.reason}. What was learned before is kept."
        case Ending.CAPPED:
            return (
                f"{outcome.reason} (state: {words.STATES[record.state]}); "
                "more steps may give a better policy."
            )
    dormant = [made.event for made in record.decisions if isinstance(made.event, Dormant)]
    if not dormant:
        return f"{outcome.reason}."
    return f"nothing is left to gain. {words.plateau(dormant[-1])}"


def _learning(record: TrainingRecord) -> list[str]:
    text = words.diagnostics(record.diagnostics)
    return _paragraph("learning", f"{text} at the end") if text else []


def _best(record: TrainingRecord, directory: RunDirectory, outcome: Outcome) -> list[str]:
    snapshot = outcome.snapshot
    if snapshot is None:
        return _paragraph("best", "no policy was scored, so none was kept")
    kept = f"           {directory.checkpoints / Path(snapshot.weights_path).parent.name}"
    return [*_paragraph("best", best(record, snapshot)), kept]


def best(record: TrainingRecord, snapshot: PolicySnapshot) -> str:
    """Say what the best policy reached; where it is kept is to follow."""
    if snapshot.eval_metrics.never_scored:
        return (
            "no policy was ever scored, as no episode ended in time: the last weights, of which "
            "nothing is known, are kept in"
        )
    score = words.number(snapshot.eval_metrics.primary_score)
    return f"{score}{basis(record, snapshot)}; kept in"


def basis(record: TrainingRecord, snapshot: PolicySnapshot) -> str:
    """Say when a best policy that was scored was found, and what its score is the mean of."""
    found = record.best_decision
    when = f" after {found.total_steps:,} steps" if found is not None else ""
    if snapshot.eval_metrics.is_per_step:
        return f"{when}, the mean reward a step, as no episode ends"
    episodes = snapshot.eval_metrics.score_count
    plural = "" if episodes == 1 else "s"
    return when + (f", the mean return of {episodes} episode{plural}" if episodes else "")


def _decisions(decisions: list[Decision]) -> list[str]:
    if not decisions:
        return []
    rows = [line for made, count in merged(decisions) for line in _row(made, count)]
    if len(rows) > MAX_DECISIONS:
        half = MAX_DECISIONS // 2
        left_out = f"           ... {len(rows) - MAX_DECISIONS} more, see events.jsonl ..."
        rows = [*rows[:half], left_out, *rows[-half:]]
    return ["", "decisions      time         steps", *rows]


def _row(made: Decision, count: int) -> list[str]:
    head = f"{words.clock(made.seconds):>19}  {made.total_steps:>12,}  "
    return textwrap.wrap(
        words.decision(made, count), WIDTH, initial_indent=head, subsequent_indent=" " * len(head)
    )


def _files(directory: RunDirectory) -> list[str]:
    kept = [directory.curve, directory.report, directory.metrics, directory.events]
    maybe = [directory.progress, directory.traceback]
    names = [path.name for path in [*kept, *maybe] if path.exists()]
    return [f"files      {directory.path}", *_paragraph("", ", ".join(names))]


def _paragraph(name: str, text: str) -> list[str]:
    text = " ".join(text.split())
    return textwrap.wrap(text, WIDTH, initial_indent=f"{name:<11}", subsequent_indent=" " * 11)
