"""What every hyperparameter optimizer must do. Inherit `OptimizerContract` and give it the fixture."""

from __future__ import annotations

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

    def test_it_says_whether_it_is_probing(self, optimizer):
        assert optimizer.is_probing in (True, False)
