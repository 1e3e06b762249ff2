"""A power cut at any moment, simulated: what was not flushed to the disk is dropped, and the rest is read.

A disk is what was flushed of it: the content of each file and the names in each directory, as of their last
`fsync`. Names may have reached it without one, and without what they stand for.
"""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING, Any

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.checkpoints.run_checkpoints import RunCheckpoints, learner_path
from tensor_optix.core.checkpoints.saved_state import write_state
from tensor_optix.core.types import EvalMetrics, HyperparamSet
from tests.scripted import CountingAgent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


class Disk:
    """What a power cut leaves of the files below a directory."""

    def __init__(self, root: Path, copies: Path, check: Callable[[Path], None]) -> None:
        self.root, self.copies, self.check = root, copies, check
        self.contents: dict[int, bytes] = {}
        self.names: dict[int, dict[str, int]] = {}
        self.cuts = 0
        self._sync = os.fsync
        self._flush_directory(root)

    def fsync(self, descriptor: int) -> None:
        """Flush a file or a directory, with a power cut just before and just after it."""
        self.cut()
        self._sync(descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if path.startswith(str(self.root)):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                self._flush_directory(path)
            else:
                self._flush_file(os.fstat(descriptor).st_ino, path)
        self.cut()

    def cut(self) -> None:
        """Check what is left, with names that were not flushed and without."""
        for has_all_names in (False, True):
            copy = self.copies / str(self.cuts)
            self.cuts += 1
            self._rebuild(self.root.stat().st_ino, copy, has_all_names)
            self.check(copy)
            shutil.rmtree(copy)

    def _flush_file(self, inode: int, path: str) -> None:
        if inode not in self.contents:
            # So that no later file gets this number.
            self.copies.mkdir(exist_ok=True)
            os.link(path, self.copies / f"inode{inode}")
        with open(path, "rb") as file:
            self.contents[inode] = file.read()

    def _flush_directory(self, path: Any) -> None:
        self.names[os.stat(path).st_ino] = {one.name: one.inode() for one in os.scandir(path)}

    def _rebuild(self, inode: int, copy: Path, has_all_names: bool) -> None:
        copy.mkdir(parents=True)
        names = self._present[inode] if has_all_names else self.names.get(inode, {})
        for name, found in names.items():
            if found in self._present:
                self._rebuild(found, copy / name, has_all_names)
            elif found not in self._directories_gone:
                (copy / name).write_bytes(self.contents.get(found, b""))

    @property
    def _present(self) -> dict[int, dict[str, int]]:
        """The directories that there are, with the names in them."""
        walked = [self.root, *(path for path in self.root.rglob("*") if path.is_dir())]
        return {
            path.stat().st_ino: {one.name: one.inode() for one in os.scandir(path)}
            for path in walked
        }

    @property
    def _directories_gone(self) -> set[int]:
        return set(self.names) - set(self._present)


def write_checkpoint(checkpoints: RunCheckpoints, windows: int) -> None:
    staged = checkpoints.stage()
    write_state(staged / "loop", {"windows": windows})
    folder = learner_path(staged, 0)
    folder.mkdir()
    (folder / "weights").write_bytes(bytes([windows]) * 1000)
    checkpoints.publish(staged, windows, {"replays": {}})


def test_a_run_s_checkpoints_outlast_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    done = [0]

    def check(copy: Path) -> None:
        found = [one.manifest["windows"] for one in RunCheckpoints(copy / "state").sound()]
        # The last one that was done is there, or the next one already.
        assert done[-1] == 0 or found[0] >= done[-1]
        for one in RunCheckpoints(copy / "state").sound():
            content = (one.learner(0) / "weights").read_bytes()
            assert content == bytes([one.manifest["windows"]]) * 1000

    disk = Disk(run, tmp_path / "copies", check)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    checkpoints = RunCheckpoints(run / "state")
    for windows in (1, 2, 3, 4):
        write_checkpoint(checkpoints, windows)
        done.append(windows)
    assert disk.cuts > 60


def test_the_best_policy_outlasts_a_power_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "checkpoints"
    place.mkdir()
    done = [-1.0]

    def check(copy: Path) -> None:
        agent = CountingAgent()
        registry = CheckpointRegistry(copy, read_only=True)
        best = registry.load_best(agent)
        assert best is not None or done[-1] < 0
        if best is not None:
            assert best.eval_metrics.primary_score >= done[-1]
            assert agent.updates == best.eval_metrics.primary_score

    disk = Disk(place, tmp_path / "copies", check)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    registry, agent = CheckpointRegistry(place, max_snapshots=2), CountingAgent()
    registry.begin_run("run")
    for score in (1.0, 2.0, 3.0, 4.0):
        agent.updates = int(score)
        registry.save(agent, EvalMetrics(score, {}, int(score)), HyperparamSet({}))
        done.append(score)
    assert disk.cuts > 60
