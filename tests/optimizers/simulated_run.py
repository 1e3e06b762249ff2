"""A training run without training: scores are a function of the hyperparameters and the window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.types import EvalMetrics, HyperparamSet

if TYPE_CHECKING:
    from tensor_optix.core.base_optimizer import BaseOptimizer

Score = Callable[[dict[str, Any], int], float]


@dataclass
class SimulatedRun:
    """Asks an optimizer as the loop does, and keeps what it said.

    `kept` are the hyperparameters of the windows that were no probe; `agent` is what an agent makes of
    those asked for.
    """

    optimizer: BaseOptimizer
    params: dict[str, Any]
    score: Score
    tells: bool = False
    agent: Callable[[dict[str, Any]], dict[str, Any]] = dict
    history: list[EvalMetrics] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    cycles: int = 0
    """How many cycles have ended: a verdict follows windows without one."""
    _best: float = -np.inf
    _idle: int = 0

    def go(self, windows: int) -> SimulatedRun:
        for _ in range(windows):
            self.step()
        return self

    def step(self) -> dict[str, Any]:
        window = len(self.history)
        self.history.append(EvalMetrics(self.score(self.params, window), {}, window))
        if self.tells:
            self._tell()
        suggestion = self.optimizer.suggest(HyperparamSet(dict(self.params)), self.history)
        self.asked.append(suggestion.params)
        self._record(self.optimizer.describe())
        self.params = self.agent(suggestion.params)
        if not self.optimizer.is_probing:
            self.kept.append(dict(self.params))
        return self.params

    def until_cycles(self, cycles: int, at_most: int) -> SimulatedRun:
        while self.cycles < cycles and len(self.history) < at_most:
            self.step()
        return self

    def _record(self, decision: dict[str, Any]) -> None:
        was_open = bool(self.decisions) and self.decisions[-1].get("phase") in (
            "probing",
            "testing",
        )
        self.cycles += was_open and decision.get("verdict") in ("kept", "undone", "no evidence")
        self.decisions.append(decision)

    def _tell(self) -> None:
        """As the loop: the mean of two scores against the best, a plateau after five without one."""
        smoothed = float(np.mean([metrics.primary_score for metrics in self.history[-2:]]))
        if smoothed > self._best:
            self._best, self._idle = smoothed, 0
            self.optimizer.on_improvement(self.history[-1])
            return
        self._idle += 1
        if self._idle >= 5:
            self.optimizer.on_plateau(self.history)


def noise(seed: int, size: float = 1.0) -> Callable[[], float]:
    rng = np.random.default_rng(seed)
    return lambda: size * float(rng.normal())
