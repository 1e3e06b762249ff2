"""The contract of a hyperparameter optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import EvalMetrics, HyperparamSet


class BaseOptimizer(ABC):
    """Proposes the hyperparameters of the next window from the scores so far."""

    @abstractmethod
    def suggest(
        self, current_hyperparams: HyperparamSet, metrics_history: Sequence[EvalMetrics]
    ) -> HyperparamSet:
        """Return the next hyperparameters. The history is oldest first; if empty, a plain copy."""

    @abstractmethod
    def on_improvement(self, metrics: EvalMetrics) -> None:
        """Hear that the score improved."""

    @abstractmethod
    def on_plateau(self, metrics_history: Sequence[EvalMetrics]) -> None:
        """Hear that the score has stopped improving."""

    @property
    def is_probing(self) -> bool:
        """Whether the hyperparameters in force are an experiment: its score is never a best."""
        return False
