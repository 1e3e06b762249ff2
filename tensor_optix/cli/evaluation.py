"""`tensor-optix evaluate`: a run directory comes in, the figures of its best policy go out."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.cli.building import build_agent, episode_seed, open_environments
from tensor_optix.cli.errors import CommandError
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.pipeline.play import play_bounded
from tensor_optix.pipeline.vector_env import make_vector_env
from tensor_optix.runs import words
from tensor_optix.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from tensor_optix.cli.options import EvaluateOptions
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.types import Array, PolicySnapshot
    from tensor_optix.pipeline.play import Played
    from tensor_optix.runs.run_directory import RunConfig

MAX_ENVS = 16
MOST_STEPS = 10_000
"""So many steps an episode is given to end, where no time limit is known that is longer."""
_BACKENDS = {"envpool-async": "envpool", "single": "sync"}
"""What steps the episodes, where it is something else than in training."""


@dataclass(frozen=True)
class Evaluation:
    """What was played, and what came of it."""

    config: RunConfig
    snapshot: PolicySnapshot
    backend: str
    seed: int
    """As given; the environments' own follow from it."""
    episodes: int
    """How many were asked for."""
    played: Played


def evaluate(options: EvaluateOptions) -> int:
    """Play the best policy of a run, and print how it did.

    Returns:
        0.

    Raises:
        CommandError: If there is no run, or none of its policies is intact.
    """
    played = _play(options)
    if options.json:
        print(json.dumps(_as_json(played), indent=1, allow_nan=False))
    else:
        print(_as_text(played))
    return 0


def _play(options: EvaluateOptions) -> Evaluation:
    directory = RunDirectory(options.run_dir)
    if not directory.path.is_dir():
        raise CommandError(f"{directory.path} is no directory; give that of a run")
    config = _rebuildable(directory)
    damage = _Warnings()
    logger = logging.getLogger("tensor_optix")
    logger.addHandler(damage)
    try:
        registry = CheckpointRegistry(directory.checkpoints)
        if not registry.snapshots:
            raise CommandError(_nothing_to_play(directory))
        seed = (config.seed or 0) if options.seed is None else options.seed
        # First come, first served would pair the episodes with other batches in every run.
        backend = _BACKENDS.get(config.backend, config.backend)
        count = min(options.episodes, MAX_ENVS)
        env = open_environments(
            config.env_id,
            lambda: make_vector_env(config.env_id, count, backend, episode_seed(seed)),
            damage.messages.append,
        )
        try:
            agent = build_agent(env, config)
            snapshot = _load_best(registry, agent, directory)
            for message in damage.messages:
                print(f"warning: {message}", file=sys.stderr)
            # A limit that no episode of the training reached may be beyond any patience.
            limit = env.max_episode_steps if snapshot.eval_metrics.score_count else None
            played = play_bounded(agent, env, options.episodes, max(MOST_STEPS, limit or 0))
        finally:
            env.close()
    finally:
        logger.removeHandler(damage)
    return Evaluation(config, snapshot, env.name, seed, options.episodes, played)


def _rebuildable(directory: RunDirectory) -> RunConfig:
    config = directory.read_config()
    if config.is_rebuildable:
        return config
    if not config.algorithm:
        missing = f"its agent, a {config.agent_class}, was not made by make_agent"
    else:
        missing = "its environments were not made from an id alone"
    raise CommandError(
        f"the run in {directory.path} cannot be played from here: {missing}; play it from Python, "
        f"where CheckpointRegistry({str(directory.checkpoints)!r}).load_best(agent) gives the policy"
    )


def _load_best(
    registry: CheckpointRegistry, agent: BaseAgent, directory: RunDirectory
) -> PolicySnapshot:
    try:
        snapshot = registry.load_best(agent)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise CommandError(
            f"the best policy in {directory.checkpoints} does not fit {directory.config} "
            f"({type(error).__name__}: {error}); restore the files, or train anew"
        ) from error
    if snapshot is None:
        raise CommandError(
            f"every checkpoint in {directory.checkpoints} is damaged (size or SHA-256 differ); "
            "restore the files, or train anew"
        )
    return snapshot


def _nothing_to_play(directory: RunDirectory) -> str:
    return (
        f"{directory.checkpoints} holds no readable checkpoint: the run ended before its first "
        "score, or the files are damaged; restore them, or train anew"
    )


class _Warnings(logging.Handler):
    """Keeps what the library warned of, to be told after what matters more."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _figures(values: Array) -> dict[str, float | None]:
    """Mean, standard deviation, least and greatest of those that are finite; None if none is."""
    finite = values[np.isfinite(values)]
    names = ("mean", "std", "min", "max")
    if not len(finite):
        return dict.fromkeys(names)
    figures = (finite.mean(), finite.std(), finite.min(), finite.max())
    return {name: float(figure) for name, figure in zip(names, figures, strict=True)}


def _as_json(evaluation: Evaluation) -> dict[str, Any]:
    played, score = evaluation.played, evaluation.snapshot.eval_metrics.primary_score
    return {
        "env_id": evaluation.config.env_id,
        "backend": evaluation.backend,
        "seed": evaluation.seed,
        "training_seed": evaluation.config.seed,
        "snapshot": evaluation.snapshot.snapshot_id,
        "training_score": score if np.isfinite(score) else None,
        "steps": played.steps,
        "reward_per_step": played.reward_per_step if np.isfinite(played.reward_per_step) else None,
        "episodes": len(played.returns),
        "episodes_without_end": evaluation.episodes - len(played.returns),
        "episodes_without_finite_return": int(np.count_nonzero(~np.isfinite(played.returns))),
        "return": _figures(played.returns),
        "length": _figures(played.lengths),
        "returns": [float(one) if np.isfinite(one) else None for one in played.returns],
        "lengths": played.lengths.tolist(),
    }


def _as_text(evaluation: Evaluation) -> str:
    config, played = evaluation.config, evaluation.played
    count = len(played.returns)
    lines = [
        f"{config.env_id}: {count} episodes, best actions, on {evaluation.backend}",
        f"policy   {_described(evaluation.snapshot)}",
        f"seed     {evaluation.seed}, of fresh episodes; --seed {evaluation.seed} plays them again",
        *_table({"return": _figures(played.returns), "length": _figures(played.lengths)}),
    ]
    if not count:
        reward = words.number(played.reward_per_step)
        return "\n".join(
            [*lines[:3], f"no episode ended in {played.steps:,} steps", f"reward   {reward} a step"]
        )
    if count < evaluation.episodes:
        lines.append(
            f"{evaluation.episodes - count} episodes did not end in {played.steps:,} steps in all"
        )
    lost = int(np.count_nonzero(~np.isfinite(played.returns)))
    if lost:
        lines.append(
            f"{lost} episodes had rewards that are not finite, and are not in these figures"
        )
    return "\n".join(lines)


def _table(rows: dict[str, dict[str, float | None]]) -> list[str]:
    """Return lines of figures below their names, as wide as they need."""
    names = list(next(iter(rows.values())))
    said = {name: [words.number(figure) for figure in row.values()] for name, row in rows.items()}
    width = 2 + max(8, *(len(text) for texts in said.values() for text in texts))
    return [
        f"{name:<7}" + "".join(f"{text:>{width}}" for text in texts)
        for name, texts in {"": names, **said}.items()
    ]


def _described(snapshot: PolicySnapshot) -> str:
    metrics = snapshot.eval_metrics
    if metrics.never_scored:
        return f"{snapshot.snapshot_id}, the last one of the training: it was never scored"
    basis = " a step" if metrics.is_per_step else words.of_episodes(metrics.score_count)
    return (
        f"{snapshot.snapshot_id}, scored {words.number(metrics.primary_score)}{basis} in training"
    )
