"""Run directories made by hand, with what the loop's own log writes: scores and decisions go in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensor_optix.core.callbacks import Baseline, Best, Ending, RunLog, Start, Stop, WindowReport
from tensor_optix.core.types import LoopState
from tensor_optix.runs.run_directory import RunConfig, RunDirectory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tensor_optix.core.callbacks import LoopEvent

HYPERPARAMS = {"learning_rate": 3e-4, "gamma": 0.99, "n_epochs": 10}
WINDOW = 1000


def made_config(**changes: Any) -> RunConfig:
    settings: dict[str, Any] = {
        "env_id": "Cart-v1",
        "backend": "sync",
        "seed": 0,
        "num_envs": 8,
        "window_size": 125,
        "max_steps": None,
        "hidden_sizes": (64, 64),
        "device": "auto",
        "hyperparams": dict(HYPERPARAMS),
        "framework": "native",
    }
    return RunConfig(**(settings | changes))


def made_run(
    path: Path,
    scores: Sequence[float | None],
    events: Sequence[LoopEvent] = (),
    window: int = WINDOW,
    ending: Ending | None = Ending.FINISHED,
    **config: Any,
) -> Path:
    """Make the directory of a run of these scores, one a window of so many steps and of half a second.

    Args:
        path: Of the directory.
        scores: Of the windows.
        events: Decisions beside those on the best policy, ordered by their windows.
        window: Steps.
        ending: None: the process was killed.
        **config: Changes to `made_config`.
    """
    RunDirectory(path).create(made_config(**config))
    log = RunLog(path)
    log.on_loop_start()
    log.on_event(Start())
    best: float | None = None
    for number, score in enumerate(scores):
        steps = window * (number + 1)
        if score is not None and (best is None or score > best):
            kind = Baseline if best is None else Best
            log.on_event(kind(number, steps, score=score, rank=score, episodes=4))
            best = score
        for event in events:
            if event.episode_id == number:
                log.on_event(event)
        log.on_window(
            WindowReport(
                episode_id=number,
                num_steps=window,
                total_steps=steps,
                seconds=0.5 * (number + 1),
                collect_seconds=0.1,
                learn_seconds=0.1,
                score=score,
                smoothed=score,
                best=best,
                state=LoopState.ACTIVE,
                interval=1,
                diagnostics={"approx_kl": 0.01, "entropy": 0.5},
            )
        )
    if ending is not None:
        last = (len(scores) - 1, window * len(scores))
        log.on_event(Stop(*last, reason="nothing left to gain", best=best, ending=ending))
    log.on_loop_stop()
    return path
