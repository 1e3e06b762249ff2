"""PPO within the loop: what acts between two windows leaves no trace in the rows learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix import RLOptimizer
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tests.algorithms.small_ppo import make_agent
from tests.pipeline.counting_env import Counter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tensor_optix.core.types import EpisodeData

NAMES = ("observations", "actions", "log_probs")


class Recording(BatchPipeline):
    """Keeps a copy of every window, with the log-probabilities of the policy that acted in it."""

    def episodes(self) -> Iterator[EpisodeData]:
        self.windows: list[tuple[np.ndarray, ...]] = []
        for window in super().episodes():
            log_probs = self._agent._log_probs(window.observations, window.actions)
            self.windows.append((window.observations.copy(), window.actions.copy(), log_probs))
            yield window


@pytest.fixture
def learned(monkeypatch):
    """An agent and the rows of every window that it learns from."""
    agent = make_agent(obs_shape=(2,), num_actions=2, n_epochs=2)
    rows: list[tuple[np.ndarray, ...]] = []
    original = agent._run_epochs

    def spy(rollout: Any, chosen: np.ndarray) -> Any:
        np.testing.assert_array_equal(chosen, np.arange(len(rollout["actions"])))
        rows.append(tuple(np.array(rollout[name]) for name in NAMES))
        return original(rollout, chosen)

    monkeypatch.setattr(agent, "_run_epochs", spy)
    return agent, rows


def assert_same(rows: list[tuple[np.ndarray, ...]], windows: list[tuple[np.ndarray, ...]]) -> None:
    assert len(rows) == len(windows) > 0
    for learned, collected in zip(rows, windows, strict=True):
        for name, got, expected in zip(NAMES, learned, collected, strict=True):
            np.testing.assert_array_equal(got, expected, err_msg=name)


def run(agent: Any, directory: Any, **options: Any) -> list[tuple[np.ndarray, ...]]:
    """Train for a few windows; return them."""
    pipeline = Recording(env=Counter(1), window_size=24)
    options = {"checkpoint_dir": str(directory), "max_episodes": 5, "seed": 3} | options
    RLOptimizer(agent, pipeline, **options).run()
    return pipeline.windows


def test_rows_are_the_training_windows_own_where_validation_acts_between_them(learned, tmp_path):
    """Validation observes [2, steps], training [1, steps]: no row of the one may be in the other."""
    agent, rows = learned
    validation = BatchPipeline(env=Counter(2), window_size=24)
    windows = run(agent, tmp_path, val_pipeline=validation)
    assert_same(rows, windows)
    assert all((observations[:, 0] == 1).all() for observations, *_ in rows)


def test_rows_are_the_training_windows_own_where_a_score_of_the_users_acts(learned, tmp_path):
    agent, rows = learned

    def score(acting: Any) -> float:
        return float(sum(acting.act(np.array([9, k], np.float32)) for k in range(50)))

    windows = run(agent, tmp_path, checkpoint_score_fn=score)
    assert_same(rows, windows)


def test_rows_are_the_training_windows_own_in_a_second_run(learned, tmp_path):
    agent, rows = learned
    for name in ("first", "second"):
        rows.clear()
        windows = run(agent, tmp_path / name)
        assert_same(rows, windows)
