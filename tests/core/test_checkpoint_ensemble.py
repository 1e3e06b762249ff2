"""Ensembles from checkpoints: the mean of the best, or the best alone."""

import numpy as np
import pytest

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tests.core.array_agent import ArrayAgent, damage, save


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def registry(directory):
    return CheckpointRegistry(directory)


def test_an_ensemble_is_the_mean_of_the_best_within_the_band(registry):
    for score in (100.0, 95.0, 91.0, 89.0, 10.0):
        save(registry, score, params={"learning_rate": score})
    agent = ArrayAgent(can_average=True)
    loaded = registry.load_ensemble(agent, top_k=5)
    assert loaded.eval_metrics.primary_score == 100
    assert agent.weights == pytest.approx(np.full(3, (100 + 95 + 91) / 3))
    assert agent.hyperparams.params == {"learning_rate": 100}
    registry.load_ensemble(agent, top_k=2)
    assert agent.weights == pytest.approx(np.full(3, 97.5))


def test_the_band_of_a_negative_best_reaches_downwards(registry):
    for score in (-100.0, -109.0, -111.0):
        save(registry, score)
    agent = ArrayAgent(can_average=True)
    registry.load_ensemble(agent)
    assert len(agent.averaged) == 2


def test_an_agent_that_cannot_average_gets_the_best(registry):
    for score in (100.0, 99.0):
        save(registry, score, params={"learning_rate": score})
    agent = ArrayAgent(can_average=False)
    assert registry.load_ensemble(agent) == registry.best
    assert agent.weights.tolist() == [100, 100, 100]
    assert agent.hyperparams.params == {"learning_rate": 100}


def test_a_damaged_member_is_left_out_of_the_ensemble(registry):
    for score in (100.0, 98.0, 96.0):
        save(registry, score)
    damage(registry.best)
    agent = ArrayAgent(can_average=True)
    assert registry.load_ensemble(agent).eval_metrics.primary_score == 98
    assert agent.weights == pytest.approx(np.full(3, 97.0))


def test_ensemble_arguments_are_checked(registry):
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        registry.load_ensemble(ArrayAgent(), top_k=0)
    with pytest.raises(ValueError, match=r"score_band must be >= 0, got -0\.1"):
        registry.load_ensemble(ArrayAgent(), score_band=-0.1)
