"""Optimizers of the native engine: settings come in, their state is kept in plain arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.adapters.native.memory import aligned
from tensor_optix.adapters.native.views import LeafView, OptimizerSettings, Rule
from tensor_optix.core.argument_checks import above, in_unit_interval, not_negative

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.core.types import Array


class NativeOptimizer(ABC):
    """What the two have in common: the arrays that they step, and moments of these.

    A fresh one becomes that of the networks of the agent that it is given to, and stays theirs.

    Attributes:
        learning_rate: The step size; may be set.
    """

    rule: Rule
    is_decoupled = False
    is_nesterov = False
    step: Array | None
    """int64 `[1]`: how many were made."""

    def __init__(self, learning_rate: float, moments: int) -> None:
        self.learning_rate = float(not_negative("learning_rate", learning_rate))
        self.step = self._count = np.zeros(1, np.int64)
        self._values: list[Array] | None = None
        self._moments: list[list[Array]] = [[] for _ in range(moments)]

    def bind(self, name: str, values: Sequence[Array]) -> None:
        """Become the optimizer of some arrays, float32.

        Args:
            name: What errors call it.
            values: In the order of the networks.

        Raises:
            ValueError: If it is that of others already.
        """
        if self._values is None:
            self._values = list(values)
            self._moments = [[aligned(np.zeros_like(one)) for one in values] for _ in self._moments]
        if [id(one) for one in self._values] != [id(one) for one in values]:
            raise ValueError(
                f"the {name} is that of other networks already: make a fresh {type(self).__name__}"
            )

    def places(self) -> tuple[int, ...]:
        """Return nothing, as its memory never moves."""
        return ()

    @abstractmethod
    def fresh(self) -> NativeOptimizer:
        """Return one of the same settings, of no networks yet."""

    @abstractmethod
    def settings(self) -> OptimizerSettings:
        """Return its numbers as they are now."""

    def leaves(self) -> list[LeafView]:
        """Return the arrays with their moments."""
        assert self._values is not None
        columns = [self._values, *self._moments]
        return [LeafView(*row, *[None] * (4 - len(row))) for row in zip(*columns, strict=True)]

    def state(self) -> dict[str, Array]:
        """Return all that files keep, by name: what is written there is in force, but for the rate."""
        named = {
            f"{place}.{name}": moment
            for name, moments in zip(("first", "second"), self._moments, strict=False)
            for place, moment in enumerate(moments)
        }
        return named | {"step": self._count, "learning_rate": np.array([self.learning_rate])}

    def take_on(self, state: Mapping[str, Array]) -> None:
        """Take on what `state` returned of one of the same kind and networks."""
        self.learning_rate = float(state["learning_rate"][0])
        for name, array in self.state().items():
            array[...] = state[name]


class NativeAdam(NativeOptimizer):
    """Adam (Kingma and Ba 2015) of the native engine, to the formula as PyTorch's; AdamW with a decay.

    Args:
        learning_rate: The step size.
        betas: How much of the means of gradients and of their squares stays with each step.
        epsilon: Beside the root of the mean of squares; the 1e-5 of ready-made PPO agents keeps first steps
            from jumping.
        weight_decay: By how much of themselves, times the learning rate, weights shrink with each step
            (Loshchilov and Hutter 2019).

    Raises:
        ValueError: If a number is out of range.

    Examples:
        >>> from tensor_optix import NativeAdam, NativeDQNAgent, Perceptron
        >>> agent = NativeDQNAgent(Perceptron(4, 2), 2, NativeAdam(1e-3, weight_decay=0.01))
    """

    rule = Rule.ADAM
    is_decoupled = True

    def __init__(
        self,
        learning_rate: float = 3e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, moments=2)
        beta1, beta2 = betas
        self._betas = (in_unit_interval("betas", beta1), in_unit_interval("betas", beta2))
        self._epsilon = float(above("epsilon", epsilon, 0.0))
        self._decay = float(not_negative("weight_decay", weight_decay))

    def fresh(self) -> NativeAdam:
        """Return one of the same settings, of no networks yet."""
        return NativeAdam(self.learning_rate, self._betas, self._epsilon, self._decay)

    def settings(self) -> OptimizerSettings:
        """Return its numbers as they are now."""
        beta1, beta2 = self._betas
        return OptimizerSettings(self.learning_rate, beta1, beta2, self._epsilon, self._decay)


class NativeSGD(NativeOptimizer):
    """Gradient descent of the native engine, to the formula as PyTorch's.

    Args:
        learning_rate: The step size.
        momentum: How much of the last step stays in the next.

    Raises:
        ValueError: If a number is out of range.

    Examples:
        >>> from tensor_optix import NativeAgent, NativeSGD, Perceptron
        >>> agent = NativeAgent(Perceptron(4, 2), NativeSGD(1e-2, momentum=0.9))
    """

    rule = Rule.SGD

    def __init__(self, learning_rate: float, momentum: float = 0.0) -> None:
        super().__init__(learning_rate, moments=1 if momentum else 0)
        self._momentum = in_unit_interval("momentum", momentum)

    def fresh(self) -> NativeSGD:
        """Return one of the same settings, of no networks yet."""
        return NativeSGD(self.learning_rate, self._momentum)

    def settings(self) -> OptimizerSettings:
        """Return its numbers as they are now."""
        return OptimizerSettings(self.learning_rate, beta1=self._momentum)
