"""What metadata.json says of a snapshot: an evaluated policy goes in, JSON comes out, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensor_optix.core.json_values import from_json, to_json
from tensor_optix.core.types import EvalMetrics, HyperparamSet, PolicySnapshot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


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
