"""Learning that broke down: an agent and its diagnostics come in, an agent that can go on comes out."""

from __future__ import annotations

import logging
import math
from numbers import Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.best_policy import BestPolicy
    from tensor_optix.core.types import HyperparamSet

logger = logging.getLogger(__name__)

MOST_ROLLBACKS = 3


class Rollbacks:
    """Says whether a fall is rolled back: where that was asked for, and has not failed three times in a row.

    Args:
        are_wanted: Whether it was asked for.
    """

    def __init__(self, are_wanted: bool) -> None:
        self.are_wanted = are_wanted
        """Whether it was asked for."""
        self.renew()

    def renew(self) -> None:
        """Forget those so far: a better policy was found, or a run begins."""
        self._left = MOST_ROLLBACKS if self.are_wanted else 0

    def spend(self) -> bool:
        """Take one, if there is one left; return whether there was."""
        if not self._left:
            return False
        self._left -= 1
        return True


def breakdown(agent: BaseAgent, diagnostics: dict[str, Any]) -> str | None:
    """Return what shows that learning broke down: weights or a loss that are not finite; None if nothing."""
    for name, value in diagnostics.items():
        if "loss" in name and isinstance(value, Real) and not math.isfinite(value):
            return f"{name} became {value}"
    return None if agent.has_finite_weights() else "the weights are not finite"


def recover(
    agent: BaseAgent, best: BestPolicy, accepted: HyperparamSet | None, trouble: str
) -> None:
    """Put the best policy back into the agent, and let it learn in smaller steps from there.

    Args:
        agent: Learned something that is not finite.
        best: Has the best policy.
        accepted: The hyperparameters to go on with, but for the smaller step; None: those in force. Never
            the best policy's, with which the steps would be reduced from the same start each time.
        trouble: What `breakdown` said.

    Raises:
        FloatingPointError: If the weights are not finite, and no policy was kept yet.
    """
    kept = agent.get_hyperparams() if accepted is None else accepted
    restored = best.restore(agent)
    if restored is None and not agent.has_finite_weights():
        raise FloatingPointError(f"{trouble} before any policy was kept: lower the learning rate")
    agent.set_hyperparams(kept)
    agent.reduce_step()
    logger.warning("%s: the best policy was restored, and learns in smaller steps", trouble)
