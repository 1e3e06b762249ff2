"""The checkpoint registry: what was saved comes back, and the best is kept."""

import json
import math
import os

import numpy as np
import pytest

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.checkpoints.snapshot_store import SnapshotError
from tensor_optix.core.types import HyperparamSet
from tests.core.array_agent import ArrayAgent, FileAgent, evaluation, save, scores


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def registry(directory):
    return CheckpointRegistry(directory)


# ---- saving and loading


def test_a_saved_policy_comes_back_with_its_hyperparameters(registry):
    saved = save(registry, 5.0, params={"learning_rate": 0.003})
    agent = ArrayAgent(99)
    loaded = registry.load_best(agent)
    assert loaded == saved == registry.best
    assert agent.weights.tolist() == [5, 5, 5]
    assert agent.hyperparams.params == {"learning_rate": 0.003}


def test_an_agent_may_write_a_file_at_the_path(registry):
    for score in (5.0, 4.8):
        agent = FileAgent(score)
        registry.save(agent, evaluation(score), agent.get_hyperparams())
    best = registry.load_best(loaded := FileAgent())
    assert loaded.weights.tolist() == [5, 5, 5]
    registry.load_ensemble(loaded)
    assert loaded.weights == pytest.approx([4.9, 4.9, 4.9])
    with open(best.weights_path, "ab") as file:
        file.write(b"more")
    with pytest.raises(SnapshotError, match="weights is not what was saved"):
        registry.load(best, loaded)


def test_an_agent_may_write_beside_the_path(registry):
    class Beside(ArrayAgent):
        def save_weights(self, path):
            np.savez(path, weights=self.weights)

        def load_weights(self, path):
            self.weights = np.load(f"{path}.npz")["weights"]

    registry.save(Beside(3.0), evaluation(3.0), HyperparamSet({}))
    registry.load_best(loaded := Beside())
    assert loaded.weights.tolist() == [3, 3, 3]


def test_the_default_directory_is_the_documented_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry = CheckpointRegistry()
    monkeypatch.chdir("/")
    assert registry.directory == tmp_path / "checkpoints"


def test_nothing_is_on_the_disk_before_the_first_stage(registry, directory):
    registry.begin_run()
    assert registry.best is None
    assert registry.snapshots == []
    assert registry.load_best(ArrayAgent()) is None
    assert registry.load_ensemble(ArrayAgent()) is None
    assert not directory.exists()
    registry.discard(registry.stage(ArrayAgent()))
    assert list(directory.iterdir()) == []


def test_the_files_have_the_documented_names_and_fields(registry, directory):
    snapshot = save(registry, 5.0)
    (entry,) = json.loads((directory / "manifest.json").read_text())
    folder = f"snapshot_{snapshot.snapshot_id}"
    assert len(snapshot.snapshot_id) == 8
    assert entry["snapshot_dir"] == folder
    assert {"snapshot_id", "primary_score", "score", "episode_id", "timestamp", "run_id"} < set(
        entry
    )
    metadata = json.loads((directory / folder / "metadata.json").read_text())
    assert metadata["snapshot_id"] == entry["snapshot_id"] == snapshot.snapshot_id
    assert metadata["episode_id"] == 7
    assert metadata["primary_score"] == metadata["score"] == 5.0
    assert metadata["hyperparams"] == {"learning_rate": 0.1}
    assert metadata["weights_path"] == f"{folder}/weights"
    assert metadata["run_id"] == registry.run_id
    assert set(metadata["files"]) == {"weights/weights.npy"}
    assert set(metadata["files"]["weights/weights.npy"]) == {"size", "sha256"}


def test_a_second_registry_sees_the_snapshots_of_the_first(registry, directory):
    save(registry, 1.0)
    other = CheckpointRegistry(directory)
    assert other.snapshots == registry.snapshots
    save(registry, 2.0)
    assert scores(other) == [2, 1]
    save(other, 3.0)
    assert scores(registry) == [3, 2, 1]


def test_a_staged_policy_is_the_one_that_was_scored_not_the_one_that_learned_since(registry):
    agent = ArrayAgent(5)
    staged = registry.stage(agent)
    agent.learn(None)
    registry.commit(staged, evaluation(100.0), agent.get_hyperparams())
    registry.load_best(agent)
    assert agent.weights.tolist() == [5, 5, 5]


def test_staging_shows_nothing_until_committed(registry, directory):
    staged = registry.stage(ArrayAgent())
    assert CheckpointRegistry(directory).snapshots == []
    registry.commit(staged, evaluation(1.0), HyperparamSet({}))
    assert scores(CheckpointRegistry(directory)) == [1]
    assert not staged.path.exists()


def test_staging_does_not_wait_for_the_disk(registry, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", calls.append)
    registry.stage(ArrayAgent())
    assert calls == []


def test_a_discarded_or_committed_stage_is_used_up(registry, directory):
    staged = registry.stage(ArrayAgent())
    registry.discard(staged)
    registry.discard(staged)
    assert list(directory.iterdir()) == []
    with pytest.raises(ValueError, match="committed or discarded already"):
        registry.commit(staged, evaluation(1.0), HyperparamSet({}))
    staged = registry.stage(ArrayAgent())
    registry.commit(staged, evaluation(1.0), HyperparamSet({}))
    registry.discard(staged)
    assert scores(registry) == [1]


def test_an_agent_that_cannot_save_leaves_nothing_behind(registry, directory):
    class Stubborn(ArrayAgent):
        def save_weights(self, path):
            os.makedirs(path)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        registry.stage(Stubborn())
    assert list(directory.iterdir()) == []


def test_a_snapshot_handed_out_can_be_changed_without_harm(registry):
    save(registry, 1.0)
    registry.best.hyperparams.params["learning_rate"] = -1
    registry.best.eval_metrics.primary_score = 1e9
    assert registry.best.hyperparams.params == {"learning_rate": 0.1}
    assert scores(registry) == [1]


# ---- ranking and pruning


def test_the_best_is_the_highest_score_not_the_latest(registry):
    for score in (1.0, 500.0, 3.0):
        save(registry, score)
    assert scores(registry) == [500, 3, 1]
    assert registry.best.eval_metrics.primary_score == 500


def test_pruning_keeps_the_best_and_deletes_the_rest(directory):
    registry = CheckpointRegistry(directory, max_snapshots=3)
    for score in (500.0, 1.0, 2.0, 3.0):
        save(registry, score)
    assert scores(registry) == [500, 3, 2]
    assert len(list(directory.iterdir())) == 4
    assert len(json.loads((directory / "manifest.json").read_text())) == 3
    save(registry, 0.5)
    assert scores(registry) == [500, 3, 2]


def test_of_equal_scores_the_older_is_the_better(registry):
    first, second = save(registry, 1.0, weights=1), save(registry, 1.0, weights=2)
    assert registry.snapshots == [first, second]


def test_an_external_score_ranks_and_survives_a_restart(registry, directory):
    for primary, external in ((100.0, 1.0), (50.0, 2.0)):
        registry.commit(
            registry.stage(ArrayAgent()), evaluation(primary), HyperparamSet({}), score=external
        )
    reopened = CheckpointRegistry(directory)
    assert scores(reopened) == [50, 100]
    assert reopened.score_of(reopened.best) == 2


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_never_the_best(registry, directory, score, caplog):
    save(registry, score)
    assert "can never be the best" in caplog.text
    assert registry.best is None
    assert registry.load_best(ArrayAgent()) is None
    save(registry, -1e9)
    assert registry.best.eval_metrics.primary_score == -1e9
    reopened = CheckpointRegistry(directory).snapshots[1]
    assert reopened.eval_metrics.primary_score == pytest.approx(score, nan_ok=True)
    for path in directory.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)


def test_scores_that_are_no_numbers_are_pruned_first(directory):
    registry = CheckpointRegistry(directory, max_snapshots=2)
    for score in (1.0, math.inf, math.nan, 0.0):
        save(registry, score)
    assert scores(registry) == [1, 0]


def test_max_snapshots_below_one_is_an_error():
    with pytest.raises(ValueError, match="max_snapshots must be at least 1, got 0"):
        CheckpointRegistry(max_snapshots=0)


# ---- runs


def test_an_old_run_does_not_compete_with_a_new_one(registry, directory):
    save(registry, 1000.0)
    old = CheckpointRegistry(directory)
    registry.begin_run()
    assert registry.best is None
    save(registry, 5.0)
    assert scores(registry) == [5]
    assert scores(old) == scores(CheckpointRegistry(directory)) == [5]


def test_an_earlier_run_can_be_continued(registry, directory):
    first = registry.begin_run()
    save(registry, 1.0)
    assert registry.begin_run() != first
    save(registry, 2.0)
    resumed = CheckpointRegistry(directory)
    assert resumed.begin_run(first) == first
    assert scores(resumed) == [1]
    save(resumed, 3.0)
    assert scores(resumed) == scores(CheckpointRegistry(directory)) == [3, 1]


def test_pruning_leaves_other_runs_alone(directory):
    registry = CheckpointRegistry(directory, max_snapshots=1)
    first = registry.begin_run()
    save(registry, 1.0)
    registry.begin_run()
    save(registry, 2.0)
    save(registry, 3.0)
    assert scores(registry) == [3]
    registry.begin_run(first)
    assert scores(registry) == [1]
    assert registry.load_best(ArrayAgent()) is not None


def test_an_empty_run_id_is_an_error(registry):
    with pytest.raises(ValueError, match="run_id must not be empty"):
        registry.begin_run("")


def test_a_policy_that_a_checkpoint_names_comes_back_after_it_was_discarded(tmp_path):
    """Otherwise a run that goes on from there would do without the best policy that it had."""
    registry = CheckpointRegistry(tmp_path)
    second, third = (save(registry, score) for score in (2.0, 3.0))
    registry.pin()
    first = save(registry, 1.0)
    stored = [one.snapshot_id for one in registry.snapshots]
    for snapshot in (second, third, second):
        registry.discard_snapshot(snapshot)
    assert registry.snapshots == [first]

    resumed = CheckpointRegistry(tmp_path)
    resumed.begin_run(registry.run_id)
    resumed.go_back_to(stored[1:], is_repeated=False)
    assert resumed.snapshots == [second, first]
    resumed.discard_snapshot(second)
    resumed.forget_discarded()
    assert resumed.snapshots == [first]
    assert len(list(tmp_path.glob("*_*"))) == 1


def test_policies_that_the_last_checkpoints_name_stay_on_the_disk(tmp_path):
    registry = CheckpointRegistry(tmp_path, max_snapshots=2)
    named = []
    for score in range(12):
        save(registry, float(score))
        named.append(registry.pin())
        there = {path.name.removeprefix("snapshot_") for path in tmp_path.glob("snapshot_*")}
        assert there >= set().union(*named[-3:])
    assert len(there) <= 6
