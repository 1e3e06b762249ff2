"""Checkpoints of a whole run in a directory: sealed ones go in, the newest sound one comes out.

    ckpt_<windows>/manifest.json    what the run was, and size and hash of every other file
    ckpt_<windows>/NAME.json, NAME.safetensors    the states of its parts
    ckpt_<windows>/agents/<n>/      what an agent's `save_state` wrote
    replay/                         the rows of replay buffers, shared by the checkpoints that name them
    .staging_<owner>_<8 hex>        unfinished work of one process

A checkpoint appears by a single rename, when all it holds is on the disk already. All paths are relative, so
that the directory may be moved. Plain JSON and safetensors, no pickle.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensor_optix.core.checkpoints.durable_files import (
    digest,
    files_below,
    regular_file,
    seal_below,
    sync_directory,
    sync_tree,
    unaltered_file,
    write_json,
)
from tensor_optix.core.checkpoints.saved_state import (
    CheckpointError,
    State,
    read_json,
    read_state,
    reading,
)
from tensor_optix.core.checkpoints.staging import private_path, remove_at_once, remove_leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

FORMAT = 1
_MANIFEST = "manifest.json"
_NAME = re.compile(r"ckpt_([0-9]{8,15})")
_AGENTS = "agents"


@dataclass(frozen=True)
class RunCheckpoint:
    """A checkpoint whose files are what was written."""

    path: Path
    manifest: dict[str, Any]
    """What was said when it was written; see `RunCheckpoints.publish`."""

    def state(self, name: str) -> State:
        """Return the state of a part.

        Raises:
            CheckpointError: If there is none, or it is damaged.
        """
        return read_state(self.path / name)

    def learner(self, number: int) -> Path:
        """Return where an agent's files are."""
        return learner_path(self.path, number)


def learner_path(checkpoint: Path, number: int) -> Path:
    """Return where the files of an agent belong in a checkpoint, or in a staged one."""
    return checkpoint / _AGENTS / str(number)


class RunCheckpoints:
    """Reads and writes the checkpoints of one run. It knows files, not what is in them.

    Args:
        directory: Of the run's state; created by the first `stage`.
        keep: How many checkpoints stay, the newest ones.
    """

    def __init__(self, directory: Path, keep: int = 2) -> None:
        self.directory = directory
        self._keep = keep
        self._is_clean = False

    @property
    def exist(self) -> bool:
        """Whether there is a checkpoint, sound or not."""
        return bool(self._found())

    def stage(self) -> Path:
        """Return a new private directory on the same filesystem, for the files of a checkpoint."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self._is_clean:
            remove_leftovers(self.directory)
            for folder in (self.directory.parent, self.directory.parent.parent):
                sync_directory(folder)
            self._is_clean = True
        path = private_path(self.directory)
        path.mkdir()
        (path / _AGENTS).mkdir()
        return path

    def discard(self, staged: Path) -> None:
        """Delete a staged checkpoint."""
        shutil.rmtree(staged, ignore_errors=True)

    def publish(self, staged: Path, windows: int, manifest: dict[str, Any]) -> list[dict[str, Any]]:
        """Bring a staged checkpoint onto the disk, put it in place, and delete those that are too old.

        Args:
            staged: What `stage` returned, with all files in it.
            windows: Of the run so far: its number. One of that number is replaced.
            manifest: What the checkpoint says of itself, in JSON form.

        Returns:
            The manifests of the checkpoints that stay, the newest first, as far as they can be read.

        Raises:
            ValueError: If an agent wrote a link or a device.
            OSError: When the disk refuses; the earlier checkpoints are untouched.
        """
        files = seal_below(staged)
        content = {"format": FORMAT, "windows": windows, **manifest, "files": files}
        write_json(staged / _MANIFEST, {"sha256": digest(content), "manifest": content})
        sync_tree(staged)
        self._put_in_place(staged, self.directory / f"ckpt_{windows:08}")
        stay = []
        for number, path in enumerate(self._found()):
            if number >= self._keep:
                remove_at_once(path)
                continue
            try:
                stay.append(_read_manifest(path))
            except CheckpointError:
                continue
        return stay

    def sound(self) -> Iterator[RunCheckpoint]:
        """Yield the checkpoints whose files are what was written, the newest first; warn of the others.

        Raises:
            CheckpointError: If one was written by a later version of the library.
        """
        for path in self._found():
            try:
                manifest = _read_manifest(path)
                _verify(path, manifest["files"])
            except CheckpointError as error:
                logger.warning("the checkpoint %s is damaged: %s", path, error)
                continue
            if manifest["format"] > FORMAT:
                raise CheckpointError(
                    f"{path} has format {manifest['format']}, this version reads up to {FORMAT}: "
                    "resume with the version of tensor_optix that wrote it, or a later one"
                )
            yield RunCheckpoint(path, manifest)

    def _put_in_place(self, staged: Path, target: Path) -> None:
        try:
            os.rename(staged, target)
        except OSError:
            if not target.is_dir():
                raise
            # One of the same number, from before the run was resumed: what replaces it is on the disk.
            remove_at_once(target)
            os.rename(staged, target)
        sync_directory(self.directory)

    def _found(self) -> list[Path]:
        """Return the directories of checkpoints, the newest first."""
        if not self.directory.is_dir():
            return []
        found = {path: _NAME.fullmatch(path.name) for path in self.directory.iterdir()}
        numbered = [(int(match[1]), path) for path, match in found.items() if match]
        return [path for _, path in sorted(numbered, reverse=True)]


def _read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint, if it is what was written."""
    with reading(f"{path.name}/{_MANIFEST}"):
        sealed = read_json(regular_file(path, _MANIFEST))
        manifest = sealed["manifest"]
        if sealed["sha256"] != digest(manifest):
            raise ValueError("its content is not what was written (SHA-256 differs)")
        if not isinstance(manifest["files"], dict) or not isinstance(manifest["format"], int):
            raise ValueError("it names no files")
        checked: dict[str, Any] = manifest
        return checked


def _verify(path: Path, files: dict[str, Any]) -> None:
    """Check that a checkpoint holds these files as they were written, and no others."""
    with reading(path.name):
        for name, mark in files.items():
            unaltered_file(path, name, mark)
        if others := set(files_below(path)) - files.keys() - {_MANIFEST}:
            raise ValueError(f"{min(others)} does not belong to it")
