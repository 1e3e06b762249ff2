"""What checkpoints hold in JSON comes back as it was, or is refused beforehand."""

import math

import numpy as np
import pytest

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.types import EvalMetrics, HyperparamSet
from tests.core.array_agent import ArrayAgent, evaluation, listing, save


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def registry(directory):
    return CheckpointRegistry(directory)


def test_numpy_values_come_back_as_plain_numbers(registry, directory):
    params = {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": np.arange(2)}
    agent = ArrayAgent(params=params)
    registry.save(
        agent, EvalMetrics(np.float32(1.5), {"m": np.float64(2)}, np.int64(3)), agent.hyperparams
    )
    best = CheckpointRegistry(directory).best
    assert best.hyperparams.params == {"a": 0.5, "b": 3, "c": True, "d": [0, 1]}
    assert [type(value) for value in best.hyperparams.params.values()] == [float, int, bool, list]
    assert type(best.eval_metrics.primary_score) is type(best.eval_metrics.metrics["m"]) is float
    assert type(best.episode_id) is int


def test_every_kind_of_setting_survives_the_round_trip(registry, directory):
    params = {
        "int": 3,
        "float": 0.1,
        "bool": False,
        "none": None,
        "text": "adam é",
        "tuple": (64, (64, 1.5)),
        "list": [1, [2.0]],
        "dict": {"inner": (1, math.inf)},
        "minus_inf": -math.inf,
    }
    save(registry, 1.0, params=params)
    back = CheckpointRegistry(directory).best.hyperparams.params
    assert back == params
    assert [type(value) for value in back.values()] == [type(value) for value in params.values()]


def test_nan_metrics_are_saved_and_come_back(registry, directory):
    registry.save(ArrayAgent(), evaluation(1.0, episode_length=math.nan), HyperparamSet({}))
    assert math.isnan(CheckpointRegistry(directory).best.eval_metrics.metrics["episode_length"])


def test_timestamps_and_ids_come_back(registry, directory):
    metrics = EvalMetrics(1.0, {}, episode_id=4, timestamp=12.5)
    registry.save(ArrayAgent(), metrics, HyperparamSet({}, episode_id=3, timestamp=11.5))
    best = CheckpointRegistry(directory).best
    assert best.eval_metrics == metrics
    assert best.hyperparams == HyperparamSet({}, 3, 11.5)
    assert best.episode_id == 4


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"schedule": lambda: 0}, r"hyperparams\['schedule'\]"),
        ({"net": {"act": [object()]}}, r"hyperparams\['net'\]\['act'\]\[0\]"),
        ({"z": np.array([1j])}, r"hyperparams\['z'\]\[0\]"),
        ({"layers": {1: 2}}, r"hyperparams\['layers'\] must have string keys"),
    ],
)
def test_a_value_that_json_cannot_hold_is_named_before_anything_is_written(
    registry, directory, params, name
):
    with pytest.raises(ValueError, match=name):
        save(registry, 1.0, params=params)
    assert not directory.exists()
    save(registry, 1.0)
    before = listing(directory)
    with pytest.raises(ValueError, match=r"metrics\['bad'\]"):
        registry.save(ArrayAgent(), evaluation(2.0, bad=object()), HyperparamSet({}))
    assert listing(directory) == before
