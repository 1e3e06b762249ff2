"""What every hyperparameter optimizer must do. Inherit `OptimizerContract` and give it the fixture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from tensor_optix.core.types import EvalMetrics, HyperparamSet

if TYPE_CHECKING:
    from tensor_optix.core.base_optimizer import BaseOptimizer


class OptimizerContract:
    """A subclass provides `optimizer`."""

    @pytest.fixture
    def optimizer(self) -> BaseOptimizer:
        raise NotImplementedError

    def history(self, length: int) -> list[EvalMetrics]:
        return [EvalMetrics(float(i % 3), {}, i) for i in range(length)]

    def test_an_empty_history_is_tolerated_and_what_was_given_is_untouched(self, optimizer):
        given = HyperparamSet({"learning_rate": 0.1})
        assert set(optimizer.suggest(given, []).params) == {"learning_rate"}
        assert given.params == {"learning_rate": 0.1}

    def test_it_goes_on_suggesting_whatever_it_hears(self, optimizer):
        params = HyperparamSet({"learning_rate": 0.1})
        for length in range(1, 12):
            history = self.history(length)
            optimizer.on_improvement(history[-1])
            optimizer.on_plateau(history)
            params = optimizer.suggest(params, history)
            assert set(params.params) == {"learning_rate"}

    def test_a_score_that_is_not_finite_is_tolerated(self, optimizer):
        params = HyperparamSet({"learning_rate": 0.1})
        for score in (1.0, math.nan, 2.0, -math.inf, 3.0):
            params = optimizer.suggest(params, [*self.history(9), EvalMetrics(score, {}, 9)])
            assert math.isfinite(params.params["learning_rate"])

    def test_after_a_restart_it_is_not_probing_and_goes_on(self, optimizer):
        optimizer.suggest(HyperparamSet({"learning_rate": 0.1}), self.history(9))
        optimizer.on_restart()
        assert not optimizer.is_probing
        params = optimizer.suggest(HyperparamSet({"learning_rate": 0.2}), self.history(10)).params
        assert set(params) == {"learning_rate"}

    def test_it_says_whether_it_is_probing(self, optimizer):
        assert optimizer.is_probing in (True, False)

    def test_what_it_calls_accepted_has_every_hyperparameter_and_is_no_experiment(self, optimizer):
        params = HyperparamSet({"learning_rate": 0.1, "other": "text"})
        for length in range(1, 40):
            was_probing = optimizer.is_probing
            accepted = optimizer.accepted(params)
            if accepted is None:
                assert was_probing
            else:
                assert set(accepted.params) == set(params.params)
                assert was_probing or accepted.params == params.params
            params = optimizer.suggest(params, self.history(length))
