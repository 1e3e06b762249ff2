"""The files of a checkpoint directory: sealed snapshots go in, verified ones come out.

    manifest.json                     an index, for people and tools
    snapshot_<8 hex>/metadata.json    score, metrics, hyperparameters, run, hash of each file
    snapshot_<8 hex>/weights/         what the agent wrote; a file, where it writes one
    .staging_<owner>_<8 hex>          unfinished work of one process

The snapshot directories are the truth. One appears by a single rename, when all it holds is on the
disk already, so that a killed process leaves either a whole snapshot or a staging directory. The
manifest follows from them and can be rebuilt. All paths inside the files are relative, so that the
directory may be moved. Plain JSON, no pickle.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import re
import shutil
import uuid
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensor_optix.core.checkpoints.durable_files import matches, seal, sync_directory, write_json
from tensor_optix.core.json_values import from_json, to_json
from tensor_optix.core.types import EvalMetrics, HyperparamSet, PolicySnapshot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_METADATA = "metadata.json"
_WEIGHTS = "weights"
_SNAPSHOT_NAME = re.compile(r"snapshot_([0-9a-f]{8})")
_ASIDE = "later_"
_STAGING_NAME = re.compile(r"\.staging_([0-9a-f]{8})_([0-9]+)_([0-9a-f]{8})_[0-9a-f]{8}")
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
# Tells this process from an earlier one that had the same process id.
_PROCESS = uuid.uuid4().hex[:8]


class SnapshotError(RuntimeError):
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
            snapshot_id=metadata["snapshot_id"],
            run_id=metadata["run_id"],
            sequence=int(metadata["sequence"]),
            score=float(from_json(metadata["score"])),
            files=dict(metadata["files"]),
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
                metrics=dict(stored["metrics"]),
                episode_id=episode_id,
                timestamp=float(stored["eval_timestamp"]),
            ),
            hyperparams=HyperparamSet(
                params=dict(stored["hyperparams"]),
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
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._known: dict[str, SnapshotRecord | None] = {}
        self._is_clean = self._has_checked_manifest = False

    def stage(self) -> StagedSnapshot:
        """Make an empty private directory on the same filesystem."""
        if not self._is_clean:
            self._remove_leftovers()
            self._is_clean = True
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self._private_path()
        path.mkdir()
        return StagedSnapshot(path)

    def seal(self, staged: StagedSnapshot, metadata: dict[str, Any]) -> SnapshotRecord:
        """Add metadata with the size and hash of each file, and bring everything onto the disk.

        Args:
            staged: What `stage` returned, with the agent's files in it.
            metadata: In JSON form; without the fields that follow from the files and the directory.
        """
        if not staged.weights.exists():
            staged.weights.mkdir()
        marks = {
            path.relative_to(staged.path).as_posix(): seal(path)
            for path in sorted(staged.path.rglob("*"))
            if path.is_file() and path != staged.path / _METADATA
        }
        name = self._free_name()
        sealed = {
            "snapshot_id": name.removeprefix("snapshot_"),
            **metadata,
            "weights_path": f"{name}/{_WEIGHTS}",
            "files": marks,
        }
        write_json(staged.path / _METADATA, sealed)
        for folder in [staged.path, *(path for path in staged.path.rglob("*") if path.is_dir())]:
            sync_directory(folder)
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
        self._replace_json(self.directory / _MANIFEST, entries)

    def rewrite(self, record: SnapshotRecord, changes: dict[str, Any]) -> None:
        """Replace fields of a stored snapshot's metadata, in JSON form, in one step.

        Other stores that have read the snapshot do not notice.
        """
        metadata = record.metadata | changes
        self._replace_json(self.directory / record.directory_name / _METADATA, metadata)
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
        """Check every file of a snapshot.

        Raises:
            SnapshotError: Naming the first file that is missing or differs in size or SHA-256.
        """
        for name, mark in record.files.items():
            path = self.directory / record.directory_name / name
            try:
                same = matches(path, mark)
            except (OSError, KeyError, TypeError) as error:
                raise SnapshotError(f"snapshot {record.snapshot_id}: {name}: {error}") from error
            if not same:
                raise SnapshotError(
                    f"snapshot {record.snapshot_id}: {name} is not what was saved (size or SHA-256 "
                    "differ); restore the file or load another snapshot"
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

    def remove(self, path: Path) -> None:
        """Delete a snapshot or staged directory; a failure is only logged."""
        try:
            # The rename makes the removal atomic: no half-deleted snapshot can ever be read.
            hidden = self._private_path()
            os.rename(path, hidden)
            shutil.rmtree(hidden)
        except FileNotFoundError:
            return
        except OSError:
            logger.warning("could not remove %s", path, exc_info=True)

    def _ensure_manifest(self, records: Sequence[SnapshotRecord]) -> None:
        """Rebuild the manifest, with a warning, if it is missing or no JSON list."""
        try:
            if isinstance(json.loads((self.directory / _MANIFEST).read_bytes()), list):
                return
            problem = "it is not a list"
        except (OSError, ValueError) as error:
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

    def _remove_leftovers(self) -> None:
        """Delete what dead processes of this host left unfinished. Nothing else is touched."""
        if not self.directory.is_dir():
            return
        for path in self.directory.iterdir():
            match = _STAGING_NAME.fullmatch(path.name)
            if match is None or _may_be_alive(match[1], int(match[2]), match[3]):
                continue
            logger.info("removing %s, left by a process that has ended", path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _replace_json(self, path: Path, content: Any) -> None:
        draft = self._private_path()
        try:
            write_json(draft, content)
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise

    def _private_path(self) -> Path:
        owner = f"{_HOST}_{os.getpid()}_{_PROCESS}"
        return self.directory / f".staging_{owner}_{uuid.uuid4().hex[:8]}"

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
            record = SnapshotRecord.parse(json.loads((folder / _METADATA).read_bytes()))
            record.policy_snapshot(self.directory)
            if record.snapshot_id != snapshot_id:
                raise ValueError(f"snapshot_id must be {snapshot_id}, got {record.snapshot_id}")
            return record
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("ignoring %s: its metadata cannot be read: %r", folder, error)
            return None


def _may_be_alive(host: str, pid: int, process: str) -> bool:
    if host != _HOST or os.name != "posix":
        return True
    if pid == os.getpid():
        return process == _PROCESS
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
