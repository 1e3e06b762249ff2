"""Exploration that lasts: a generator of independent numbers comes in, numbers and actions that last go out.

Independent noise cancels over many steps: a heavy thing shaken at random stays where it is. Pink noise, whose
power falls with the frequency, explores near and far (Eberhard et al. 2023, "Pink noise is all you need:
colored noise exploration in deep reinforcement learning"); among discrete actions, random ones that are held
for a while do (Dabney et al. 2021, "Temporally-extended epsilon-greedy exploration").
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
        """Return what goes on from what `state_dict` returned. Raises ValueError if that is none."""
        noise = cls(rng, whole_number("memory", state["memory"]))
        noise._parts = None if state["parts"] is None else np.array(state["parts"], np.float64)
        return noise


class HeldActions:
    """Epsilon-greedy actions, of which the random ones are held for a while.

    How long is drawn from the zeta distribution of exponent 2, up to a memory: most are short, some are as
    long as it allows. They begin so much more rarely that `epsilon` is the share of random actions all the
    same.

    Attributes:
        rng, memory: As given.

    Args:
        rng: Drives them.
        memory: Steps, at least 1.
    """

    def __init__(self, rng: np.random.Generator, memory: int) -> None:
        self.rng, self.memory = rng, memory
        shares = 1.0 / np.square(np.arange(1, memory + 1, dtype=np.float64))
        self._cumulated = np.cumsum(shares / shares.sum())
        self._mean = float(np.dot(shares / shares.sum(), np.arange(1, memory + 1)))
        self._held = np.zeros(0, np.int64)
        self._left = np.zeros(0, np.int64)

    def choose(self, best: Array, epsilon: float, num_actions: int, masks: Array | None) -> Array:
        """Return actions `[N]`: the best ones, or random ones that are allowed.

        Args:
            best: `[N]`, the best actions; with another N than the last time nothing is held any more.
            epsilon: The share of random ones, in [0, 1].
            num_actions: A.
            masks: `[N, A]` bool, which are allowed; None: all. What is held, and no longer allowed, is let
                go.
        """
        count = len(best)
        if len(self._held) != count:
            self._held, self._left = np.zeros(count, np.int64), np.zeros(count, np.int64)
        if masks is not None:
            self._left[~masks[np.arange(count), self._held]] = 0
        share = epsilon / (self._mean * (1.0 - epsilon) + epsilon)
        begins = (self._left == 0) & (self.rng.random(count) < share)
        preferred = self.rng.random((count, num_actions))
        if masks is not None:
            preferred = np.where(masks, preferred, -1.0)
        spans = 1 + np.searchsorted(self._cumulated, self.rng.random(count))
        self._held = np.where(begins, preferred.argmax(axis=1), self._held)
        self._left = np.where(begins, np.minimum(spans, self.memory), self._left)
        is_held = self._left > 0
        self._left -= is_held
        return np.where(is_held, self._held, best)

    def state_dict(self) -> dict[str, Any]:
        """Return what the next actions depend on, beside the generator."""
        return {"memory": self.memory, "held": self._held.tolist(), "left": self._left.tolist()}

    @classmethod
    def of_state(cls, rng: np.random.Generator, state: Mapping[str, Any]) -> HeldActions:
        """Return what goes on from what `state_dict` returned.

        Raises:
            ValueError: If that is none.
        """
        actions = cls(rng, whole_number("memory", state["memory"]))
        held, left = (np.array(state[name], np.int64) for name in ("held", "left"))
        if held.ndim != 1 or held.shape != left.shape or (held < 0).any():
            raise ValueError("held and left must be as long as each other, and count from 0")
        actions._held, actions._left = held, left
        return actions
