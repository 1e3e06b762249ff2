"""The options of `tensor-optix tune`: what the command line parser reads, and the help texts with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from tensor_optix.cli.options import LearnerOptions, require_at_least_1

LEAST_WINDOWS = 2


@dataclass(frozen=True)
class TuneOptions(LearnerOptions):
    """Search hyperparameters by short trainings; those given stay as they are."""

    trials: int = 20
    """How many trials. The best 3 are then trained again, with 3 fresh seeds each."""
    trial_steps: int = 50_000
    """Environment steps of a trial."""
    storage: Annotated[str | None, tyro.conf.arg(metavar="PATH_OR_URL")] = None
    """Where the study is kept, to go on later or to share it between processes: a path that ends in
    .journal, or an URL such as sqlite:///study.db. None: in the run directory."""
    study_name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Of the study in the storage. A study that is there already goes on."""

    max_steps: Annotated[str | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    """Not here, but of train: see --trial-steps."""

    def check(self) -> None:
        """Check every number.

        Raises:
            ValueError: If one is out of range, or is an option of another algorithm.
        """
        if self.max_steps is not None:
            raise ValueError(
                "--max-steps is an option of train; the environment steps of a trial are --trial-steps"
            )
        super().check()
        require_at_least_1("trials", self.trials)
        least = LEAST_WINDOWS * self.rows_per_window
        if self.trial_steps < least:
            raise ValueError(
                f"--trial-steps must be at least {LEAST_WINDOWS} windows of --num-envs times "
                f"--window-size steps = {least}, got {self.trial_steps}"
            )
        if self.storage is not None and self.study_name is None:
            raise ValueError("--storage needs a --study-name, by which the study is found again")
