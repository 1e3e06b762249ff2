"""What a contender is to train: the settings of an algorithm in nobody's framework's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Learner(Protocol):
    """What a contender makes of settings and a seed."""

    def train(self, steps: int) -> int:
        """Go on by so many environment steps, or to the end of the rollout under way; return how many."""

    def play(self, episodes: int) -> float:
        """Return the mean return of so many greedy episodes, in environments of its own."""


@dataclass(frozen=True)
class PPO:
    """Of Schulman et al. 2017. Two perceptrons with tanh; for Atari one network, of Mnih et al. 2015."""

    env_id: str
    num_envs: int = 8
    rows: int = 2048
    """Of all environments together, between two rounds of updates."""
    minibatch: int = 64
    epochs: int = 10
    hidden_sizes: tuple[int, ...] = (64, 64)
    learning_rate: float = 3e-4
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    anneal_steps: int | None = None
    """Over which the learning rate falls to 0 in a line. None: it stays."""
    anneals_clip: bool = False
    """Whether the clip range falls with it."""
    normalizes: bool = False
    """Observations, and rewards by their discounted returns."""
    normalizes_advantages: bool = True
    sde_freq: int | None = None
    """Steps between two draws of state-dependent noise (Raffin et al. 2021). None: plain noise."""
    is_atari: bool = False


@dataclass(frozen=True)
class DQN:
    """Of Mnih et al. 2015. Perceptrons with ReLU."""

    env_id: str
    num_envs: int = 1
    hidden_sizes: tuple[int, ...] = (256, 256)
    learning_rate: float = 2.3e-3
    batch: int = 64
    capacity: int = 100_000
    learning_starts: int = 1000
    gamma: float = 0.99
    n_step: int = 1
    target_every: int = 10
    """Steps, or updates, whichever the contender counts."""
    train_every: int = 256
    """Steps of all environments between two rounds of updates."""
    updates: int = 128
    """In a round."""
    epsilon: float = 1.0
    """At first."""
    epsilon_steps: int = 8_000
    """In which epsilon falls to `epsilon_min` in a line."""
    epsilon_min: float = 0.04
    dueling_sizes: tuple[int, ...] = ()
    """Of the two streams of Wang et al. 2016. Empty: there are none."""
    is_double: bool = False


@dataclass(frozen=True)
class SAC:
    """Of Haarnoja et al. 2018, the temperature learned. Perceptrons with ReLU."""

    env_id: str
    num_envs: int = 1
    hidden_sizes: tuple[int, ...] = (256, 256)
    learning_rate: float = 3e-4
    critic_rate: float | None = None
    """Of the critics and the temperature. None: the learning rate."""
    batch: int = 256
    capacity: int = 1_000_000
    learning_starts: int = 100
    gamma: float = 0.99
    tau: float = 0.005
    n_step: int = 1
    train_every: int = 1
    """Steps of all environments between two rounds of updates."""
    updates: int = 1
    """In a round."""
    policy_every: int = 1
    """Updates of the critics to a round of as many of the policy."""


Settings = PPO | DQN | SAC
