"""A run on TensorBoard, read back by TensorBoard's own reader."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from tensor_optix.loggers.tensorboard_callback import TensorBoardCallback
from tests.loggers.reports import begin, finish, report, resume, windows

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

if TYPE_CHECKING:
    from pathlib import Path


def board(directory: Path) -> Any:
    read = EventAccumulator(str(directory))
    read.Reload()
    return read


def points(read: Any, tag: str) -> list[tuple[int, float]]:
    return [(one.step, one.value) for one in read.Scalars(tag)]


def test_scalars_stand_at_environment_steps_and_decisions_are_texts(tmp_path: Path) -> None:
    made = TensorBoardCallback(tmp_path / "new")
    begin(made)
    windows(made, 0, 3)
    made.on_window(report(3, score=None))
    finish(made)
    read = board(tmp_path / "new")
    assert points(read, "rollout/ep_rew_mean") == [(100, 10.0), (200, 11.0), (300, 12.0)]
    assert len(points(read, "train/approx_kl")) == 4
    assert points(read, "hyperparams/n_epochs")[0] == (200, 4.0)
    (stop,) = read.Tensors("events/stop")
    assert b'"reason": "done"' in stop.tensor_proto.string_val[0]


def test_a_resumed_run_shows_no_window_twice(tmp_path: Path) -> None:
    killed = TensorBoardCallback(tmp_path)
    begin(killed)
    windows(killed, 0, 2)
    state = killed.state_dict()
    windows(killed, 2, 4)
    killed.on_loop_stop()
    made = TensorBoardCallback(tmp_path)
    resume(made, state, 2)
    windows(made, 2, 5)
    finish(made)
    (tmp_path / "curve.png").write_bytes(b"\x89PNG...")
    made.show("learning_curve", tmp_path / "curve.png", 500)
    steps = [step for step, _ in points(board(tmp_path), "rollout/ep_rew_mean")]
    assert steps == [100, 200, 300, 400, 500]


def test_a_picture_can_be_added_after_the_run(tmp_path: Path) -> None:
    made = TensorBoardCallback(tmp_path / "board")
    begin(made)
    windows(made, 0, 1)
    finish(made)
    (tmp_path / "curve.png").write_bytes(b"\x89PNG...")
    made.show("learning_curve", tmp_path / "curve.png", 100)
    (shown,) = board(tmp_path / "board").Images("learning_curve")
    assert (shown.step, shown.encoded_image_string) == (100, b"\x89PNG...")


def test_without_tensorboard_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with pytest.raises(ImportError, match=r"pip install 'tensor-optix\[tensorboard\]'"):
        TensorBoardCallback("nowhere")
