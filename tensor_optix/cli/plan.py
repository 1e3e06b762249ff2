"""What would be trained: a run that is not begun comes in, its description in words goes out."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from tensor_optix.runs import words
from tensor_optix.runs.record import Decision

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tensor_optix.core.callbacks import LoopEvent
    from tensor_optix.pipeline.vector_env import VectorEnv
    from tensor_optix.runs.run_directory import RunConfig, RunDirectory

WIDTH = 79
_INDENT = 14


def plan(
    config: RunConfig, env: VectorEnv, directory: RunDirectory, before: Sequence[LoopEvent]
) -> str:
    """Return what a run would be, in lines of at most 79 characters where paths allow.

    Args:
        config: Of the run.
        env: Would be trained in.
        directory: Would keep it.
        before: What was found and chosen for it.
    """
    lines = [f"{config.title}: nothing is trained, this is what would be", ""]
    for name, text in _entries(config, env, directory):
        lines += _paragraph(name, text)
    told = [words.decision(Decision(event, 0.0)) for event in before]
    for place, text in enumerate(told):
        lines += _paragraph("" if place else "choices", text)
    return "\n".join(lines)


def _entries(
    config: RunConfig, env: VectorEnv, directory: RunDirectory
) -> Iterator[tuple[str, str]]:
    limit = env.max_episode_steps
    longest = "without a time limit" if limit is None else f"of at most {limit:,} steps"
    window = config.window_size or 0
    most = (
        "no limit of steps" if config.max_steps is None else f"at most {config.max_steps:,} steps"
    )
    goal = "" if config.target_score is None else f", or score {words.number(config.target_score)}"
    yield "environments", f"{config.num_envs} on {config.backend}, episodes {longest}"
    yield "observation", str(env.observation_space)
    yield "action", str(env.action_space)
    yield "learner", f"{config.learner}, {config.origin}, updates by {config.updates_by}"
    yield "hidden layers", " ".join(map(str, config.hidden_sizes)) or "none"
    yield "normalized", _normalized(config)
    yield "window", f"{window:,} steps of each environment, {window * config.num_envs:,} in all"
    yield "ends", f"when nothing is left to gain{goal}; {most}"
    params = (f"{name} {value:g}" for name, value in config.hyperparams.items())
    yield "hyperparams", ", ".join(params)
    yield "tuned", "while it trains" if config.tune else "no"
    yield "would be in", str(directory.path)


def _normalized(config: RunConfig) -> str:
    names = {"observations": config.normalize_observations, "rewards": config.normalize_rewards}
    return ", ".join(name for name, is_normalized in names.items() if is_normalized) or "nothing"


def _paragraph(name: str, text: str) -> list[str]:
    text = " ".join(text.split())
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"{name:<{_INDENT}}", subsequent_indent=" " * _INDENT
    )
