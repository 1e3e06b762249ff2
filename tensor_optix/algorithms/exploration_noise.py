"""Exploration noise that remembers: a generator of independent numbers comes in, correlated ones go out.

Independent noise cancels over many steps: a heavy thing shaken at random stays where it is. Pink noise, whose
power falls with the frequency, explores near and far (Eberhard et al. 2023, "Pink noise is all you need:
colored noise exploration in deep reinforcement learning").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.argument_checks import whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.core.types import Array

RATIO = 4.0
"""Of one time constant to the one before: the sum's spectrum is within a decibel of 1/f between the ends."""


class PinkNoise:
    """Standard normal numbers, each of which is correlated with those before it.

    They are sums of first-order autoregressive processes of equal variance, whose time constants are 1, 4,
    16, ... steps up to a memory: between the frequencies of 1/memory and 1 their power is that of 1/f. Each
    number by itself is drawn from N(0, 1), as it would be without a memory.

    Attributes:
        rng, memory: As given.

    Args:
        rng: Drives them.
        memory: Steps, at least 1.
    """

    def __init__(self, rng: np.random.Generator, memory: int) -> None:
        self.memory = memory
        self.rng = rng
        constants = RATIO ** np.arange(1 + int(np.log(memory) / np.log(RATIO) + 1e-9))
        self._decay = np.exp(-1.0 / constants)
        self._drive = np.sqrt(1.0 - np.square(self._decay))
        self._parts: Array | None = None

    def standard_normal(self, size: tuple[int, ...], dtype: Any = np.float64) -> Array:
        """Return the next numbers; with another size than the last time they begin anew."""
        shape = (*size, len(self._decay))
        drawn = self.rng.standard_normal(shape)
        if self._parts is None or self._parts.shape != shape:
            self._parts = drawn
        else:
            self._parts = self._decay * self._parts + self._drive * drawn
        return np.asarray(self._parts.sum(axis=-1) / np.sqrt(len(self._decay)), dtype)

    def state_dict(self) -> dict[str, Any]:
        """Return what the next numbers depend on, beside the generator."""
        parts = None if self._parts is None else self._parts.tolist()
        return {"memory": self.memory, "parts": parts}

    @classmethod
    def of_state(cls, rng: np.random.Generator, state: Mapping[str, Any]) -> PinkNoise:
        """Return what goes on from what `state_dict` returned."""
        noise = cls(rng, whole_number("memory", state["memory"]))
        noise._parts = None if state["parts"] is None else np.array(state["parts"], np.float64)
        return noise
