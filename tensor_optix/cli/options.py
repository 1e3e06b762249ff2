"""The options of the subcommands: what the command line parser reads, and the help texts with it.

The parser makes these values from `sys.argv`; `check` tells whether they are in range.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path  # noqa: TC003 (the parser reads the annotations)
from typing import Annotated

import tyro

from tensor_optix.algorithms.hyperparams import PPOHyperparams


@dataclass(frozen=True)
class UncheckedPPO(PPOHyperparams):
    """The hyperparameters of PPO (Schulman et al. 2017)."""

    def __post_init__(self) -> None:
        # The parser would wrap the error into a box; `TrainOptions.check` raises it plainly.
        pass


@dataclass(frozen=True)
class TrainOptions:
    """Train PPO on an environment until nothing is left to gain."""

    env_id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV_ID")]
    """A Gymnasium or EnvPool id, for instance CartPole-v1. "module:id" imports the module first."""
    num_envs: int = 8
    """Environments that step together."""
    window_size: int = 256
    """Steps of each environment between two updates."""
    backend: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """Who steps the environments: auto, envpool, envpool-async, sync, async or vector."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Makes the run reproducible. None: one is drawn, and recorded."""
    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where everything is kept. None: runs/ENV_ID/TIME."""
    max_steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """The most environment steps. None: until nothing is left to gain."""
    hidden_sizes: Annotated[tuple[int, ...], tyro.conf.arg(metavar="INT [INT ...]")] = (64, 64)
    """Widths of the hidden layers of actor and critic."""
    device: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, ..."""
    plain: bool = False
    """Print plain lines, also to a terminal."""
    ppo: UncheckedPPO = field(default_factory=UncheckedPPO)

    @property
    def rows_per_window(self) -> int:
        """The most environment steps that a window holds."""
        return self.num_envs * self.window_size

    @property
    def hyperparams(self) -> PPOHyperparams:
        """The hyperparameters, checked; raises ValueError if one is out of range."""
        return PPOHyperparams.from_params(asdict(self.ppo))

    def check(self) -> None:
        """Check every number.

        Raises:
            ValueError: If one is out of range.
        """
        _require_at_least_1("num-envs", self.num_envs)
        _require_at_least_1("window-size", self.window_size)
        _require_seed(self.seed)
        for size in self.hidden_sizes:
            _require_at_least_1("hidden-sizes", size)
        if self.max_steps is not None and self.max_steps < self.rows_per_window:
            raise ValueError(
                "--max-steps must be at least one window, which is --num-envs times --window-size "
                f"= {self.rows_per_window}, got {self.max_steps}"
            )
        _ = self.hyperparams


@dataclass(frozen=True)
class EvaluateOptions:
    """Play the best policy of a run on episodes that it was not trained on."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """The run directory that `tensor-optix train` printed."""
    episodes: int = 20
    """How many episodes to play."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Of these episodes; never those of the training. None: one that follows from the run's."""
    json: bool = False
    """Print one JSON object instead of text."""

    def check(self) -> None:
        """Check every number.

        Raises:
            ValueError: If one is out of range.
        """
        _require_at_least_1("episodes", self.episodes)
        _require_seed(self.seed)


def _require_at_least_1(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"--{name} must be at least 1, got {value}")


def _require_seed(seed: int | None) -> None:
    if seed is not None and not 0 <= seed < 2**63:
        raise ValueError(f"--seed must be at least 0 and below 2**63, got {seed}")
