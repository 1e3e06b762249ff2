"""The best policies of a run: an agent and the score of its very weights go in, the best come out.

The score of a window belongs to the weights that collected it, before they learned from it. So the
loop stages the agent first, and commits or discards when the score is known. What the files look
like is `snapshot_store`'s business.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections import deque
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tensor_optix.core.argument_checks import at_least
from tensor_optix.core.checkpoints.saved_state import CheckpointError
from tensor_optix.core.checkpoints.snapshot_store import (
    SnapshotError,
    SnapshotRecord,
    SnapshotStore,
    StagedSnapshot,
    describe,
    rank,
)
from tensor_optix.core.foreign_agent import as_agent, has_averaged
from tensor_optix.core.json_values import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tensor_optix.core.foreign_agent import AgentLike
    from tensor_optix.core.types import EvalMetrics, HyperparamSet, PathLike, PolicySnapshot

logger = logging.getLogger(__name__)

LOADING = ("load_weights", "set_hyperparams")
"""What a snapshot is loaded by."""
MOST_PINS = 3
"""Checkpoints of a run whose policies stay: the two that are kept, and the one that is being written."""
_SKIPPED = "skipping a damaged checkpoint: %s"


class CheckpointRegistry:
    """Keeps the best snapshots of the current run on disk.

    The current run is the one named by `begin_run`; without it, the run that last saved into the
    directory. Other runs' snapshots stay where they are and never compete.

    A snapshot with a NaN or infinite score is saved with a warning; it ranks last and is never the
    best. Nothing is written before the first `stage` or `save`, and an interrupted or failed save
    leaves the earlier snapshots as they were.

    Args:
        checkpoint_dir: The directory; may be moved or copied as a whole.
        max_snapshots: How many snapshots of the run are kept: the best ones.
        read_only: Whether a damaged manifest, which nothing is read from, is left as it is, so that reading
            writes nothing at all.

    Raises:
        ValueError: If `max_snapshots` is below 1.

    Examples:
        >>> from tensor_optix import CheckpointRegistry, EvalMetrics, make_agent
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> registry = CheckpointRegistry("kept", max_snapshots=3)
        >>> for window, score in enumerate((10.0, 30.0, 20.0)):
        ...     _ = registry.save(agent, EvalMetrics(score, {}, window), agent.get_hyperparams())
        >>> registry.load_best(agent).eval_metrics.primary_score
        30.0
    """

    def __init__(
        self,
        checkpoint_dir: PathLike = "./checkpoints",
        max_snapshots: int = 10,
        *,
        read_only: bool = False,
    ) -> None:
        at_least("max_snapshots", max_snapshots, 1)
        directory = Path(checkpoint_dir).expanduser().absolute()
        self._store = SnapshotStore(directory, read_only)
        self._max_snapshots = max_snapshots
        self._run_id: str | None = None
        self._pins: deque[frozenset[str]] = deque(maxlen=MOST_PINS)

    @property
    def directory(self) -> Path:
        """The checkpoint directory, absolute."""
        return self._store.directory

    @property
    def run_id(self) -> str | None:
        """The current run; None when there is none yet."""
        return self._current_run(self._store.records())

    @property
    def snapshots(self) -> list[PolicySnapshot]:
        """The current run's snapshots, best first; of equal scores the older first."""
        return [record.policy_snapshot(self.directory) for record in self._ranked()]

    @property
    def best(self) -> PolicySnapshot | None:
        """The current run's best snapshot; None if no snapshot has a finite score."""
        contenders = self._contenders()
        return contenders[0].policy_snapshot(self.directory) if contenders else None

    def begin_run(self, run_id: str | None = None) -> str:
        """Make a run the current one, so that only its own snapshots are seen and ranked.

        Args:
            run_id: An earlier run's id continues that run; None begins a new one.

        Returns:
            The run's id. Other registries on the directory see the run from its first snapshot on.
        """
        if run_id == "":
            raise ValueError("run_id must not be empty; pass None for a new run")
        self._run_id = uuid.uuid4().hex if run_id is None else run_id
        return self._run_id

    def pin(self) -> list[str]:
        """Return the ids of the run's best `max_snapshots`, for a checkpoint of the run to name.

        These, and those that the two calls before returned, stay on the disk even where the run comes to hold
        enough better ones.
        """
        pinned = [one.snapshot_id for one in self._ranked()[: self._max_snapshots]]
        self._pins.append(frozenset(pinned))
        return pinned

    @property
    def _pinned(self) -> frozenset[str]:
        return frozenset().union(*self._pins)

    def go_back_to(self, snapshot_ids: Sequence[str], is_repeated: bool) -> None:
        """Go back to the time when the run held these snapshots.

        Args:
            snapshot_ids: What it held.
            is_repeated: Whether those that came afterwards are to be made again. They are set aside, and
                nobody sees them, until `settle_repeated`; otherwise they stay.
        """
        self._store.bring_back()
        self._store.settle_discarded(snapshot_ids)
        self._pins.clear()
        self._pins.append(frozenset(snapshot_ids))
        own = (one for one in self._store.records() if one.run_id == self._run_id)
        later = [record for record in own if record.snapshot_id not in self._pinned]
        for record in later if is_repeated else ():
            self._store.set_aside(record)

    def settle_repeated(self, episode_id: int) -> None:
        """End what `go_back_to` began: snapshots set aside from windows up to this one were made again.

        Args:
            episode_id: The last window of the run. Policies of later ones are brought back: they are lost
                otherwise.
        """
        self._store.bring_back(after=episode_id)

    def forget_discarded(self) -> None:
        """Delete the snapshots that `discard_snapshot` has hidden: no checkpoint names them any more."""
        self._store.settle_discarded()

    def save(
        self, agent: AgentLike, eval_metrics: EvalMetrics, hyperparams: HyperparamSet
    ) -> PolicySnapshot:
        """Save the agent as it is now: `stage` and `commit` in one.

        Raises:
            ValueError: Naming the value that JSON cannot hold; nothing is written.
            OSError: When the disk refuses; the earlier snapshots are untouched.
        """
        describe(eval_metrics, hyperparams, score=None)  # refuses what JSON cannot hold
        staged = self.stage(agent)
        try:
            return self.commit(staged, eval_metrics, hyperparams)
        except BaseException:
            self.discard(staged)
            raise

    def stage(self, agent: AgentLike) -> StagedSnapshot:
        """Write the agent's whole state aside, in case its score turns out to be worth keeping.

        Cheap, as nothing waits for the disk. End it with `commit` or `discard`.
        """
        staged = self._store.stage()
        try:
            as_agent(agent, needs=("save_weights",)).save_state(str(staged.weights))
        except BaseException:
            self.discard(staged)
            raise
        return staged

    def commit(
        self,
        staged: StagedSnapshot,
        eval_metrics: EvalMetrics,
        hyperparams: HyperparamSet,
        score: float | None = None,
    ) -> PolicySnapshot:
        """Make a staged snapshot part of the run, and prune the run to its best `max_snapshots`.

        Args:
            staged: What `stage` returned. After an error it can still be committed or discarded.
            eval_metrics: The evaluation of exactly these weights.
            hyperparams: The hyperparameters in force with them.
            score: Rank by this instead of `eval_metrics.primary_score`.

        Returns:
            The snapshot. Its files are gone again if the run holds `max_snapshots` better ones.

        Raises:
            ValueError: Naming the value that JSON cannot hold, or if `staged` is used up.
            OSError: When the disk refuses; the earlier snapshots are untouched.
        """
        description = describe(eval_metrics, hyperparams, score)
        if not staged.path.is_dir():
            raise ValueError(f"{staged.path.name} is committed or discarded already; stage again")
        records = self._store.records()
        run_id = self._current_run(records) or self.begin_run()
        sequence = 1 + max((record.sequence for record in records), default=0)
        record = self._store.seal(
            staged,
            {**description, "run_id": run_id, "sequence": sequence, "timestamp": time.time()},
        )
        self._publish(staged, record, records)
        if not (math.isfinite(record.score) or eval_metrics.never_scored):
            logger.warning("a snapshot with score %s can never be the best", record.score)
        return record.policy_snapshot(self.directory)

    def discard(self, staged: StagedSnapshot) -> None:
        """Delete a staged snapshot. Does nothing if it is committed or discarded already."""
        self._store.remove(staged.path)

    def discard_snapshot(self, snapshot: PolicySnapshot) -> None:
        """Delete a stored snapshot. Does nothing if it is gone already.

        One that a checkpoint of the run names is only hidden: a run that goes on from there has it again.
        """
        if snapshot.snapshot_id in self._pinned:
            self._store.discard(snapshot.snapshot_id)
        else:
            self._store.remove(self.directory / f"snapshot_{snapshot.snapshot_id}")
        self._store.write_manifest(self._store.records())

    def score_of(self, snapshot: PolicySnapshot) -> float:
        """Return the score that a stored snapshot is ranked by.

        Raises:
            SnapshotError: If the directory does not hold the snapshot.
        """
        return self._find(snapshot).score

    def reorder(self, ranked: Sequence[tuple[PolicySnapshot, float]]) -> None:
        """Rank stored snapshots anew among themselves, in the places that they hold together.

        Args:
            ranked: The best first, each with the score that says so: its metric `confirmed_score`.

        Raises:
            SnapshotError: If the directory does not hold one of them.
            OSError: When the disk refuses.
        """
        records = [self._find(snapshot) for snapshot, _ in ranked]
        bound = math.inf
        places = sorted((record.score for record in records), reverse=True)
        for record, place, (_, confirmed) in zip(records, places, ranked, strict=True):
            bound = min(place, math.nextafter(bound, -math.inf))  # equal ones would go by their age
            metrics = record.metadata["metrics"] | {"confirmed_score": to_json(confirmed, "score")}
            self._store.rewrite(record, {"score": to_json(bound, "score"), "metrics": metrics})
        self._store.write_manifest(self._store.records())

    def load(self, snapshot: PolicySnapshot, agent: AgentLike) -> None:
        """Put a snapshot's state and hyperparameters into the agent, after checking every file.

        Raises:
            SnapshotError: If files are missing or not what was saved; the agent is untouched. Also if they
                are what was saved, but the agent can make nothing of them.
        """
        record = self._find(snapshot)
        self._store.verify(record)
        learner = as_agent(agent, needs=LOADING)
        try:
            learner.load_state(record.policy_snapshot(self.directory).weights_path)
        except CheckpointError as error:
            raise SnapshotError(f"snapshot {record.snapshot_id}: {error}") from error
        learner.set_hyperparams(snapshot.hyperparams.copy())

    def load_best(self, agent: AgentLike) -> PolicySnapshot | None:
        """Load the best snapshot whose files are sound.

        Where none was scored, that is the one of the run's last weights (`EvalMetrics.never_scored`).

        Returns:
            The snapshot that was loaded; None if there is none, the agent then being untouched.
        """
        learner = as_agent(agent, needs=LOADING)
        for snapshot in self.sound_snapshots():
            try:
                learner.load_state(snapshot.weights_path)
            except CheckpointError as error:
                logger.warning(_SKIPPED, error)
                continue
            learner.set_hyperparams(snapshot.hyperparams.copy())
            return snapshot
        return None

    def sound_snapshots(self, snapshot_id: str | None = None) -> Iterator[PolicySnapshot]:
        """Yield the snapshots of the current run whose files are sound, best first; others with a warning.

        Where none was scored, that is the one of the run's last weights (`EvalMetrics.never_scored`).

        Args:
            snapshot_id: Of any run: this one alone.
        """
        records = self._contenders() or self._never_scored()
        if snapshot_id is not None:
            every = self._store.records()
            records = [record for record in every if record.snapshot_id == snapshot_id]
        for _, snapshot in self._sound(records):
            yield snapshot

    def load_ensemble(
        self, agent: AgentLike, top_k: int = 3, score_band: float = 0.1
    ) -> PolicySnapshot | None:
        """Load the mean of the best snapshots' weights, and the best one's hyperparameters.

        Args:
            agent: If its `average_weights` returns False, the best snapshot alone is loaded.
            top_k: How many snapshots to average at most.
            score_band: Only those with `score >= best - |best| * score_band`.

        Returns:
            The best of them; None if no snapshot is sound, the agent then being untouched.

        Raises:
            ValueError: If `top_k` is below 1 or `score_band` negative.
        """
        at_least("top_k", top_k, 1)
        if not score_band >= 0:
            raise ValueError(f"score_band must be >= 0, got {score_band}")
        sound = list(islice(self._sound(self._contenders()), top_k))
        if not sound:
            return None
        score, best = sound[0]
        lowest = score - abs(score) * score_band
        paths = [snapshot.weights_path for score, snapshot in sound if score >= lowest]
        learner = as_agent(agent, needs=LOADING)
        if len(paths) == 1 or not has_averaged(learner, paths):
            learner.load_state(best.weights_path)
        learner.set_hyperparams(best.hyperparams.copy())
        return best

    def _publish(
        self, staged: StagedSnapshot, record: SnapshotRecord, records: Sequence[SnapshotRecord]
    ) -> None:
        """Put a sealed snapshot among the stored ones, of whose run only the best stay."""
        others = [other for other in records if other.run_id != record.run_id]
        own = rank([*(other for other in records if other.run_id == record.run_id), record])
        kept, dropped = own[: self._max_snapshots], own[self._max_snapshots :]
        kept += [record for record in dropped if record.snapshot_id in self._pinned]
        dropped = [record for record in dropped if record.snapshot_id not in self._pinned]
        self._store.publish(staged, record, [*others, *kept])
        for old in dropped:
            self._store.remove(self.directory / old.directory_name)

    def _current_run(self, records: Sequence[SnapshotRecord]) -> str | None:
        if self._run_id is not None:
            return self._run_id
        return records[-1].run_id if records else None

    def _ranked(self) -> list[SnapshotRecord]:
        records = self._store.records()
        run_id = self._current_run(records)
        ranked = rank([record for record in records if record.run_id == run_id])
        # What is there only because a checkpoint names it is none of the run's best.
        return ranked[: self._max_snapshots] if self._pins else ranked

    def _contenders(self) -> list[SnapshotRecord]:
        return [record for record in self._ranked() if math.isfinite(record.score)]

    def _never_scored(self) -> list[SnapshotRecord]:
        ranked = ((one, one.policy_snapshot(self.directory)) for one in self._ranked())
        return [record for record, snapshot in ranked if snapshot.eval_metrics.never_scored]

    def _sound(self, records: Sequence[SnapshotRecord]) -> Iterator[tuple[float, PolicySnapshot]]:
        """Yield scores and snapshots of those whose files are sound."""
        for record in records:
            try:
                self._store.verify(record)
            except SnapshotError as error:
                logger.warning(_SKIPPED, error)
            else:
                yield record.score, record.policy_snapshot(self.directory)

    def _find(self, snapshot: PolicySnapshot) -> SnapshotRecord:
        for record in self._store.records():
            if record.snapshot_id == snapshot.snapshot_id:
                return record
        raise SnapshotError(f"{self.directory} holds no snapshot {snapshot.snapshot_id}")
