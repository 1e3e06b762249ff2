"""A short run as a loop tells it to a callback."""

from __future__ import annotations

from typing import Any

from tensor_optix.core import callbacks as events
from tensor_optix.core.callbacks import Ending, LoopCallback, WindowReport
from tensor_optix.core.types import LoopState


def report(number: int, **figures: Any) -> WindowReport:
    usual: dict[str, Any] = {
        "episode_id": number,
        "num_steps": 100,
        "total_steps": 100 * (number + 1),
        "seconds": 0.5 * (number + 1),
        "collect_seconds": 0.1,
        "learn_seconds": 0.1,
        "score": 10.0 + number,
        "smoothed": 10.0,
        "best": 20.0,
        "state": LoopState.ACTIVE,
        "interval": 1,
        "diagnostics": {
            "policy_loss": 0.25,
            "entropy": 0.5,
            "approx_kl": 0.01,
            "explained_var": 0.9,
            "explained_variance": 0.9,
            "epsilon": 0.05,
            "n_updates": 10,
            "baseline_type": "values",
            "ratio": float("nan"),
        },
    }
    return WindowReport(**usual | figures)


def begin(callback: LoopCallback) -> None:
    callback.on_loop_start()
    callback.on_event(events.Start())


def resume(callback: LoopCallback, state: dict[str, Any] | None, windows: int) -> None:
    callback.on_loop_start()
    if state is not None:
        callback.load_state_dict(state)
    callback.on_event(
        events.Resumed(
            total_steps=100 * windows,
            windows=windows,
            seconds=0.5 * windows,
            after="killed",
            episodes_go_on=True,
            state="ACTIVE",
        )
    )


def windows(callback: LoopCallback, first: int, last: int) -> None:
    for number in range(first, last):
        callback.on_window(report(number))
        callback.on_hyperparam_update({}, {"learning_rate": 1e-3, "n_epochs": 4, "name": "x"})


def finish(callback: LoopCallback, ending: Ending = Ending.FINISHED) -> None:
    callback.on_event(events.Stop(total_steps=300, reason="done", best=20.0, ending=ending))
    callback.on_loop_stop()
