"""What `tensor-optix tune` says at its end: what was found comes in, plain text goes out."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from tensor_optix.cli import words

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tensor_optix.cli.run_directory import RunConfig
    from tensor_optix.cli.tune_options import TuneOptions


def closing_report(
    options: TuneOptions, config: RunConfig, path: Path, found: Mapping[str, Any]
) -> str:
    """Tell what was found, and the command that trains with it.

    Args:
        options: Of the search.
        config: Of its trials.
        path: Where `found` was written.
        found: With `best_params` and `best_score`.
    """
    return (
        f"\n{config.env_id}: the search is over\n\n"
        f"best    score {words.number(found['best_score'])}, in {path}\n"
        f"train   {train_command(options, config, found['best_params'])}"
    )


def going_on(options: TuneOptions, storage: str | Path) -> str:
    """Return the command, in words, by which a search goes on.

    Args:
        options: Of the search.
        storage: Where its study is kept.
    """
    where = f"--storage {shlex.quote(str(storage))} --study-name {shlex.quote(study_name(options))}"
    elsewhere = "" if options.run_dir is None else " and another --run-dir"
    return f"the same command with {where}{elsewhere}"


def study_name(options: TuneOptions) -> str:
    """Return the name of a search's study, given or chosen."""
    return options.study_name or options.env_id


def train_command(options: TuneOptions, config: RunConfig, params: Mapping[str, Any]) -> str:
    """Return the command that trains with these hyperparameters, all else as in the trials."""
    parts = ["tensor-optix", "train", config.env_id, "--algo", config.algorithm]
    parts += ["--framework", config.framework, "--num-envs", str(config.num_envs)]
    parts += ["--window-size", str(config.window_size)]
    for name in ("backend", "device"):
        value = getattr(options, name)
        parts += [] if value == "auto" else [f"--{name}", value]
    if options.hidden_sizes is not None:
        parts += ["--hidden-sizes", *map(str, options.hidden_sizes)]
    for name in ("normalize_observations", "normalize_rewards"):
        parts += [f"--{name.replace('_', '-')}"] if getattr(options, name) else []
    for name, value in {**options.hyperparams, **params}.items():
        said = f"{value:.6g}" if isinstance(value, float) else str(value)
        parts += [f"--{config.algorithm}.{name.replace('_', '-')}", said]
    return shlex.join(parts)
