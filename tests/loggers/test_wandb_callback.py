"""A run on Weights & Biases, offline, read back from the file that would be sent."""

from __future__ import annotations

import json
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest

from tensor_optix.loggers.wandb_callback import WandbCallback
from tests.loggers.reports import begin, finish, resume, windows

wandb = pytest.importorskip("wandb")
from wandb.proto import wandb_internal_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


BLOCK, HEADER = 32 * 1024, 7


def records(content: bytes) -> Iterator[bytes]:
    """Yield the records of a LevelDB log behind the file's own header."""
    at, parts = HEADER, b""
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + HEADER])
        parts += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # All of a record, or the last part of one.
            yield parts
            parts = b""


def logged(directory: Path) -> list[dict[str, Any]]:
    """Return what each call of `log` sent, of all runs in a directory, in order."""
    rows = []
    for path in sorted(directory.rglob("*.wandb")):
        for data in records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                rows.append(
                    {
                        one.key or ".".join(one.nested_key): json.loads(one.value_json)
                        for one in record.history.item
                    }
                )
    return rows


def offline(directory: Path) -> WandbCallback:
    quiet = wandb.Settings(silent=True, console="off")
    return WandbCallback(
        "cart", "first", {"seed": 1}, mode="offline", dir=str(directory), settings=quiet
    )


def test_rows_are_sent_and_a_resumed_run_is_the_same_one(tmp_path: Path) -> None:
    made = offline(tmp_path)
    begin(made)
    windows(made, 0, 2)
    state = made.state_dict()
    finish(made)
    # The directories of offline runs are named by the second; one of the same name is written over.
    time.sleep(1.0)
    again = offline(tmp_path)
    resume(again, state, 2)
    windows(again, 2, 3)
    finish(again)
    assert again.state_dict()["id"] == state["id"] is not None
    rows = logged(tmp_path)
    scores = [one["rollout/ep_rew_mean"] for one in rows if "rollout/ep_rew_mean" in one]
    assert scores == [10.0, 11.0, 12.0]
    assert [one["time/total_timesteps"] for one in rows if "time/fps" in one] == [100, 200, 300]
    assert sum("events" in "".join(one) for one in rows) == 2
