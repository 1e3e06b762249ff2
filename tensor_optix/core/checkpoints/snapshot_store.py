"""The files of a checkpoint directory: sealed snapshots go in, verified ones come out.

    manifest.json                     an index, for people and tools
    snapshot_<8 hex>/metadata.json    score, metrics, hyperparameters, run, hash of each file, and its own
    snapshot_<8 hex>/weights/         what the agent wrote; a file, where it writes one
    .staging_<owner>_<8 hex>          unfinished work of one process

The snapshot directories are the truth. One appears by a single rename, when all it holds is on the
disk already, so that a killed process leaves either a whole snapshot or a staging directory. The
manifest follows from them and can be rebuilt. All paths inside the files are relative, so that the
directory may be moved. Plain JSON, no pickle. What is read is held to be what somebody may have altered.
"""

from __future__ import annotations

import logging
import math
import os
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensor_optix.core.checkpoints.durable_files import (
    digest,
    files_below,
    replace_json,
    seal_below,
    sync_directory,
    sync_tree,
    unaltered_file,
    write_json,
)
from tensor_optix.core.checkpoints.saved_state import CheckpointError, read_json, reading
from tensor_optix.core.checkpoints.staging import private_path, remove_at_once, remove_leftovers
from tensor_optix.core.json_values import from_json, to_json
from tensor_optix.core.types import EvalMetrics, HyperparamSet, PolicySnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_METADATA = "metadata.json"
_MOST_METADATA = 16 * 2**20
"""Bytes that metadata may have."""
_DIGEST = "metadata_sha256"
_WEIGHTS = "weights"
_SNAPSHOT_NAME = re.compile(r"snapshot_([0-9a-f]{8})")
_ASIDE = "later_"
_DISCARDED = "gone_"


class SnapshotError(CheckpointError):
    """A snapshot is missing, incomplete or altered."""


@dataclass(frozen=True)
class SnapshotRecord:
    """One snapshot's metadata."""

    snapshot_id: str
    run_id: str
    sequence: int
    """Counts the commits of the directory, over all runs."""
    score: float
    """What the snapshot is ranked by; may be NaN."""
    files: dict[str, dict[str, Any]]
    """Size and SHA-256 of each file, by its path inside the snapshot's directory."""
    metadata: dict[str, Any]
    """As it stands in metadata.json."""

    @property
    def directory_name(self) -> str:
        """The name of its directory."""
        return f"snapshot_{self.snapshot_id}"

    @classmethod
    def parse(cls, metadata: dict[str, Any]) -> SnapshotRecord:
        """Read metadata; KeyError, TypeError or ValueError if they are no snapshot's."""
        return cls(
            snapshot_id=_typed(metadata, "snapshot_id", str),
            run_id=_typed(metadata, "run_id", str),
            sequence=_typed(metadata, "sequence", int),
            score=float(from_json(metadata["score"])),
            files=_typed(metadata, "files", dict),
            metadata=metadata,
        )

    def policy_snapshot(self, directory: Path) -> PolicySnapshot:
        """Return it as the value that travels through the library, with an absolute path."""
        stored = from_json(self.metadata)
        episode_id = int(stored["episode_id"])
        return PolicySnapshot(
            snapshot_id=self.snapshot_id,
            eval_metrics=EvalMetrics(
                primary_score=float(stored["primary_score"]),
                metrics=_typed(stored, "metrics", dict),
                episode_id=episode_id,
                timestamp=float(stored["eval_timestamp"]),
            ),
            hyperparams=HyperparamSet(
                params=_typed(stored, "hyperparams", dict),
                episode_id=int(stored["hyperparams_episode_id"]),
                timestamp=float(stored["hyperparams_timestamp"]),
            ),
            weights_path=str(directory / self.directory_name / "weights"),
            episode_id=episode_id,
            timestamp=float(stored["timestamp"]),
        )


def rank(records: Sequence[SnapshotRecord]) -> list[SnapshotRecord]:
    """Sort best first: finite scores descending, the older first among equals, the others last."""
    return sorted(
        records,
        key=lambda record: (
            not math.isfinite(record.score),
            -record.score if math.isfinite(record.score) else 0.0,
            record.sequence,
        ),
    )


def describe(
    eval_metrics: EvalMetrics, hyperparams: HyperparamSet, score: float | None
) -> dict[str, Any]:
    """Return the metadata in JSON form: what JSON cannot hold fails here, before any write."""
    primary_score = float(eval_metrics.primary_score)
    return {
        "episode_id": int(eval_metrics.episode_id),
        "primary_score": to_json(primary_score, "primary_score"),
        "score": to_json(primary_score if score is None else float(score), "score"),
        "metrics": to_json(eval_metrics.metrics, "metrics"),
        "eval_timestamp": to_json(float(eval_metrics.timestamp), "eval_timestamp"),
        "hyperparams": to_json(hyperparams.params, "hyperparams"),
        "hyperparams_episode_id": int(hyperparams.episode_id),
        "hyperparams_timestamp": to_json(float(hyperparams.timestamp), "hyperparams_timestamp"),
    }


@dataclass(frozen=True)
class StagedSnapshot:
    """An agent's state, written to a private directory and not yet part of the checkpoints."""

    path: Path
    """The private directory; it is renamed when the snapshot is committed."""

    @property
    def weights(self) -> Path:
        """The directory that the agent writes into; or the file, where that is what it makes of a path."""
        return self.path / _WEIGHTS


class SnapshotStore:
    """Reads and writes the snapshots of one directory. It knows files, not which policy is good.

    Args:
        directory: Need not exist; it is created by the first `stage`.
        read_only: Whether reading leaves a damaged manifest as it is.
    """

    def __init__(self, directory: Path, read_only: bool = False) -> None:
        self.directory = directory
        self._known: dict[str, SnapshotRecord | None] = {}
        self._is_clean, self._has_checked_manifest = False, read_only

    def stage(self) -> StagedSnapshot:
        """Make an empty private directory on the same filesystem."""
        if not self._is_clean:
            remove_leftovers(self.directory)
            self._is_clean = True
        self.directory.mkdir(parents=True, exist_ok=True)
        path = private_path(self.directory)
        path.mkdir()
        return StagedSnapshot(path)

    def seal(self, staged: StagedSnapshot, metadata: dict[str, Any]) -> SnapshotRecord:
        """Add metadata with the size and hash of each file, and bring everything onto the disk.

        Args:
            staged: What `stage` returned, with the agent's files in it.
            metadata: In JSON form; without the fields that follow from the files and the directory.

        Raises:
            ValueError: If the agent wrote a link or a device, or the metadata are too large to be read.
            OSError: When the disk refuses.
        """
        if not staged.weights.exists():
            staged.weights.mkdir()
        marks = seal_below(staged.path)
        marks.pop(_METADATA, None)
        name = self._free_name()
        sealed = _digested(
            {
                "snapshot_id": name.removeprefix("snapshot_"),
                **metadata,
                "weights_path": f"{name}/{_WEIGHTS}",
                "files": marks,
            }
        )
        write_json(staged.path / _METADATA, sealed)
        read_json(staged.path / _METADATA, _MOST_METADATA)
        sync_tree(staged.path)
        return SnapshotRecord.parse(sealed)

    def publish(
        self, staged: StagedSnapshot, record: SnapshotRecord, manifest: Sequence[SnapshotRecord]
    ) -> None:
        """Put a sealed snapshot in place, with the manifest that lists it; both or neither.

        Raises:
            OSError: When the disk refuses; the directory is then as before.
        """
        target = self.directory / record.directory_name
        os.rename(staged.path, target)
        try:
            self.write_manifest(manifest)
        except BaseException:
            os.rename(target, staged.path)
            raise
        try:
            sync_directory(self.directory)
        except OSError:
            # All is in place and readable; only a power failure right now could undo it.
            logger.warning("could not flush %s to the disk", self.directory, exc_info=True)

    def write_manifest(self, records: Sequence[SnapshotRecord]) -> None:
        """Replace the manifest in one step."""
        entries = [
            {
                "snapshot_id": record.snapshot_id,
                "snapshot_dir": record.directory_name,
                "primary_score": record.metadata["primary_score"],
                "score": to_json(record.score, "score"),
                "episode_id": record.metadata["episode_id"],
                "timestamp": record.metadata["timestamp"],
                "run_id": record.run_id,
            }
            for record in sorted(records, key=lambda record: record.sequence)
        ]
        replace_json(self.directory / _MANIFEST, entries)

    def rewrite(self, record: SnapshotRecord, changes: dict[str, Any]) -> None:
        """Replace fields of a stored snapshot's metadata, in JSON form, in one step.

        Other stores that have read the snapshot do not notice.
        """
        metadata = _digested(record.metadata | changes)
        replace_json(self.directory / record.directory_name / _METADATA, metadata)
        self._known[record.snapshot_id] = SnapshotRecord.parse(metadata)

    def records(self) -> list[SnapshotRecord]:
        """Return the metadata of every snapshot in the directory, oldest first."""
        if not self.directory.is_dir():
            return []
        names = (_SNAPSHOT_NAME.fullmatch(name) for name in os.listdir(self.directory))
        found = {match[1] for match in names if match}
        for snapshot_id in found - self._known.keys():
            self._known[snapshot_id] = self._read(snapshot_id)
        # Metadata never change once in place, so that only new directories are read.
        self._known = {name: record for name, record in self._known.items() if name in found}
        records = [record for record in self._known.values() if record is not None]
        records.sort(key=lambda record: record.sequence)
        if records and not self._has_checked_manifest:
            self._has_checked_manifest = True
            self._ensure_manifest(records)
        return records

    def verify(self, record: SnapshotRecord) -> None:
        """Check every file of a snapshot, and that there are no others.

        Names that begin with a dot may be there, as desktops and network drives make such files.

        Raises:
            SnapshotError: Naming the first file that is missing, is no regular file of the snapshot's
                directory, differs in size or SHA-256, or was not saved with it.
        """
        folder = self.directory / record.directory_name
        title = f"snapshot {record.snapshot_id}"
        try:
            for name, mark in record.files.items():
                with reading(f"{title}: {name}"):
                    unaltered_file(folder, name, mark)
            with reading(title):
                known = {*record.files, _METADATA}
                found = [name for name in files_below(folder) if name not in known]
        except CheckpointError as error:
            raise SnapshotError(f"{error}; restore the file or load another snapshot") from error
        for name in found:
            if not any(part.startswith(".") for part in name.split("/")):
                raise SnapshotError(
                    f"{title}: {name} was not saved with it; remove the file or load another snapshot"
                )

    def set_aside(self, record: SnapshotRecord) -> None:
        """Hide a snapshot, until `bring_back`."""
        path = self.directory / record.directory_name
        os.rename(path, path.with_name(f"{_ASIDE}{record.snapshot_id}"))

    def bring_back(self, after: int = -1) -> None:
        """Show the snapshots again that were set aside; delete those of windows up to `after`."""
        if not self.directory.is_dir():
            return
        for path in sorted(self.directory.glob(f"{_ASIDE}*")):
            shown = path.with_name(f"snapshot_{path.name.removeprefix(_ASIDE)}")
            if _SNAPSHOT_NAME.fullmatch(shown.name) is None or shown.exists():
                continue
            os.rename(path, shown)
            record = self._read(shown.name.removeprefix("snapshot_"))
            if record is not None and int(record.metadata["episode_id"]) <= after:
                self.remove(shown)

    def discard(self, snapshot_id: str) -> None:
        """Hide a snapshot, until `settle_discarded`. Does nothing if it is gone already."""
        path = self.directory / f"snapshot_{snapshot_id}"
        if path.is_dir():
            os.rename(path, path.with_name(f"{_DISCARDED}{snapshot_id}"))

    def settle_discarded(self, wanted: Iterable[str] = ()) -> None:
        """Show the snapshots again that were discarded and are wanted after all, by id; delete the others."""
        ids = frozenset(wanted)
        for path in sorted(self.directory.glob(f"{_DISCARDED}*")):
            snapshot_id = path.name.removeprefix(_DISCARDED)
            shown = path.with_name(f"snapshot_{snapshot_id}")
            if _SNAPSHOT_NAME.fullmatch(shown.name) is None:
                continue
            if snapshot_id in ids and not shown.exists():
                os.rename(path, shown)
            else:
                self.remove(path)

    def remove(self, path: Path) -> None:
        """Delete a snapshot or staged directory; a failure is only logged."""
        try:
            remove_at_once(path)
        except FileNotFoundError:
            return
        except OSError:
            logger.warning("could not remove %s", path, exc_info=True)

    def _ensure_manifest(self, records: Sequence[SnapshotRecord]) -> None:
        """Rebuild the manifest, with a warning, if it is missing or no JSON list."""
        try:
            if isinstance(read_json(self.directory / _MANIFEST), list):
                return
            problem = "it is not a list"
        except CheckpointError as error:
            problem = str(error)
        logger.warning(
            "rebuilding the manifest of %s from %d snapshots: %s",
            self.directory,
            len(records),
            problem,
        )
        try:
            self.write_manifest(records)
        except OSError:
            logger.warning("could not write the manifest of %s", self.directory, exc_info=True)

    def _free_name(self) -> str:
        while True:
            name = f"snapshot_{uuid.uuid4().hex[:8]}"
            if not (self.directory / name).exists():
                return name

    def _read(self, snapshot_id: str) -> SnapshotRecord | None:
        folder = self.directory / f"snapshot_{snapshot_id}"
        if folder.is_symlink():
            return None
        try:
            with reading(f"{folder.name}/{_METADATA}"):
                metadata = read_json(folder / _METADATA, _MOST_METADATA)
                # Those of earlier versions have no digest.
                if metadata.get(_DIGEST, digest := _digest(metadata)) != digest:
                    raise ValueError(f"it is not what was saved ({_DIGEST} differs)")
                record = SnapshotRecord.parse(metadata)
                record.policy_snapshot(self.directory)
                if record.snapshot_id != snapshot_id:
                    raise ValueError(f"snapshot_id must be {snapshot_id}, got {record.snapshot_id}")
                return record
        except CheckpointError as error:
            logger.warning("ignoring %s: its metadata cannot be read: %s", folder, error)
            return None


def _typed(metadata: dict[str, Any], name: str, kind: type) -> Any:
    value = metadata[name]
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be of type {kind.__name__}, got {type(value).__name__}")
    return value


def _digested(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata with the hash of all the rest, so that a digit that was altered shows."""
    return metadata | {_DIGEST: _digest(metadata)}


def _digest(metadata: dict[str, Any]) -> str:
    return digest({name: value for name, value in metadata.items() if name != _DIGEST})
