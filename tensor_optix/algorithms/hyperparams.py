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


@dataclass(frozen=True)
class PolicyGradientHyperparams(Hyperparams):
    """The hyperparameters of a plain policy gradient: a learning rate and a discount."""


@dataclass(frozen=True)
class ReplayHyperparams(Hyperparams):
    """The hyperparameters of every algorithm that learns from a replay buffer."""

    batch_size: int = 64
    """Rows per update."""
    replay_capacity: int = 100_000
    """Rows that the replay buffer keeps. Fixed once it holds rows."""
    learning_starts: int = 0
    """Steps before the first update; never less than a batch."""
    updates_per_step: float = 1.0
    """Updates per environment step; 0.25 is one every four steps."""
    n_step: int = 1
    """Rewards summed before the bootstrap. Fixed once the replay buffer holds rows."""
    per_alpha: float = 0.0
    """How much priorities matter in sampling (Schaul et al. 2016); 0 samples uniformly."""
    per_beta: float = 0.4
    """How much of the bias of prioritised sampling is corrected; 1 is all of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_count("batch_size", "replay_capacity", "n_step")
        self._require_unit("per_alpha", "per_beta")
        self._require_not_negative("learning_starts")
        self._require_positive("updates_per_step")
        if self.replay_capacity < self.batch_size:
            raise ValueError(
                f"replay_capacity must be at least batch_size, {self.batch_size}, got "
                f"{self.replay_capacity}"
            )


@dataclass(frozen=True)
class DQNHyperparams(ReplayHyperparams):
    """The hyperparameters of DQN (Mnih et al. 2015)."""

    epsilon: float = 1.0
    """Probability of a random action, as it is now."""
    epsilon_min: float = 0.05
    """Where it ends."""
    epsilon_decay: float = 0.995
    """Factor per `learn` call."""
    epsilon_decay_steps: int = 0
    """Environment steps in which epsilon falls from 1 to epsilon_min in a line; 0: epsilon_decay is used."""
    target_update_freq: int = 100
    """Updates between two copies into the target network."""
    updates_per_step: float = 0.5
    max_grad_norm: float = 10.0
    """The gradient is clipped to this norm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_unit("epsilon", "epsilon_min", "epsilon_decay")
        self._require_not_negative("epsilon_decay_steps")
        self._require_count("target_update_freq")
        self._require_positive("max_grad_norm")


@dataclass(frozen=True)
class SACHyperparams(ReplayHyperparams):
    """The hyperparameters of SAC (Haarnoja et al. 2018)."""

    batch_size: int = 256
    replay_capacity: int = 1_000_000
    tau: float = 0.005
    """How far the target critics follow the critics with each update."""
    log_alpha_init: float = 0.0
    """Where the logarithm of the entropy's weight starts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_unit("tau")
        if not math.isfinite(self.log_alpha_init):
            raise ValueError(f"log_alpha_init must be finite, got {self.log_alpha_init}")
