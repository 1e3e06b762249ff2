"""The hyperparameters of each algorithm: names, defaults, meanings and ranges, documented once."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from difflib import get_close_matches
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Hyperparams:
    """What the hyperparameters of every algorithm have in common."""

    learning_rate: float = 3e-4
    """Step size of the optimizer."""
    gamma: float = 0.99
    """Discount, in [0, 1]."""

    def __post_init__(self) -> None:
        self._require_unit("gamma")
        self._require_positive("learning_rate")

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Read the hyperparameters from a dict; those that are missing take their defaults.

        Raises:
            ValueError: On an unknown name, with the closest match, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        for name in params:
            if name not in known:
                close = get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
                raise ValueError(f"unknown hyperparameter {name!r}; {hint}")
            if not isinstance(params[name], Real | np.number):
                raise ValueError(f"{name} must be a number, got {params[name]!r}")
        return cls(**params)

    def _require_unit(self, *names: str) -> None:
        for name in names:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")

    def _require_positive(self, *names: str) -> None:
        for name in names:
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def _require_not_negative(self, *names: str) -> None:
        for name in names:
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def _require_count(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if isinstance(value, bool) or not value >= 1 or value % 1 != 0:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value}")
            object.__setattr__(self, name, int(value))


@dataclass(frozen=True)
class PPOHyperparams(Hyperparams):
    """The hyperparameters of PPO (Schulman et al. 2017)."""

    clip_ratio: float = 0.2
    """How far the probability ratio may move before its gain is cut."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the critic's squared error."""
    gae_lambda: float = 0.95
    """Trade of bias for variance in the advantages, in [0, 1]."""
    n_epochs: int = 10
    """Passes over a window."""
    minibatch_size: int = 64
    """Rows per update."""
    max_grad_norm: float = 0.5
    """The gradient of actor and critic together is clipped to this norm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_unit("gae_lambda")
        self._require_positive("clip_ratio", "max_grad_norm")
        self._require_not_negative("entropy_coef", "vf_coef")
        self._require_count("n_epochs", "minibatch_size")
