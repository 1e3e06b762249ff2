"""`tensor-optix evaluate`: a run directory comes in, the figures of its best policy go out."""

from __future__ import annotations

import json
import math
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.cli.building import build_agent, episode_seed, open_environments
from tensor_optix.cli.errors import CommandError
from tensor_optix.cli.kept_warnings import kept_warnings
from tensor_optix.cli.own_output import everything_on_stderr
from tensor_optix.cli.recording import FILM, Films, make_drawing
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.decisions.episode_ends import MOST_STEPS, did_not_end, steps_to_end
from tensor_optix.core.environment_ids import envpool_ids, gymnasium_spec
from tensor_optix.core.json_values import to_readable_json
from tensor_optix.pipeline.play import play_bounded
from tensor_optix.pipeline.vector_env import make_vector_env
from tensor_optix.runs import words
from tensor_optix.runs.interruption import Interruption
from tensor_optix.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tensor_optix.cli.options import EvaluateOptions
    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.types import Array, PolicySnapshot
    from tensor_optix.pipeline.play import Played
    from tensor_optix.pipeline.vector_env import VectorEnv
    from tensor_optix.runs.run_directory import RunConfig

MAX_ENVS = 16
_BACKENDS = {"envpool-async": "envpool", "single": "sync"}
"""What steps the episodes, where it is something else than in training."""


@dataclass(frozen=True)
class Evaluation:
    """What was played, and what came of it."""

    config: RunConfig
    snapshot: PolicySnapshot
    env: VectorEnv
    """In which; it is closed."""
    seed: int
    """As given; the environments' own follow from it."""
    episodes: int
    """How many were asked for."""
    played: Played
    signal: str = ""
    """What ended it early, empty if nothing did."""
    films: tuple[Path, ...] = ()
    """What was filmed."""

    @property
    def score(self) -> float:
        """The mean of the finite returns; where no episode ended, the mean reward a step."""
        returns = self.played.returns
        mean = _figures(returns)["mean"] if len(returns) else self.played.reward_per_step
        return math.nan if mean is None else mean


def evaluate(options: EvaluateOptions) -> int:
    """Play the best policy of a run, and print how it did; after a signal, how it did so far.

    Returns:
        0: done. 128 + n: signal n ended it.

    Raises:
        CommandError: If there is no run, or none of its policies is intact.
    """
    with Interruption() as interruption:
        try:
            with everything_on_stderr() if options.json else nullcontext():
                played = _play(options, interruption)
        except KeyboardInterrupt:
            print("tensor-optix: interrupted before anything was played", file=sys.stderr)
            return interruption.exit_code
        if options.json:
            print(json.dumps(_as_json(played), indent=1, allow_nan=False))
        else:
            print(_as_text(played))
        return interruption.exit_code


def _play(options: EvaluateOptions, interruption: Interruption) -> Evaluation:
    directory = RunDirectory(options.run_dir)
    if not directory.path.is_dir():
        raise CommandError(f"{directory.path} is no directory; give that of a run")
    config = _rebuildable(directory)
    with kept_warnings() as damage:
        registry = CheckpointRegistry(directory.checkpoints)
        if not registry.snapshots:
            raise CommandError(_nothing_to_play(directory))
        seed = (config.seed or 0) if options.seed is None else options.seed
        films = _films(options, directory, seed)
        env = _open(config, options, seed, films, damage.append)
        try:
            agent = build_agent(env, replace(config, engine=options.engine or config.engine))
            snapshot = _load_best(registry, agent, directory)
            for message in damage:
                print(f"warning: {message}", file=sys.stderr)
            is_scored = snapshot.eval_metrics.score_count > 0
            most = _steps_to_end(env.max_episode_steps, is_scored)
            interruption.stop = lambda reason: None
            # With a seed: a second reset would go on from where the first one left the random state.
            played = play_bounded(
                agent,
                env,
                options.count,
                most,
                lambda: interruption.signal is not None,
                seed=episode_seed(seed),
            )
        finally:
            env.close()
    return Evaluation(
        config,
        snapshot,
        env,
        seed,
        options.count,
        played,
        interruption.name,
        () if films is None else tuple(films.paths),
    )


def _films(options: EvaluateOptions, directory: RunDirectory, seed: int) -> Films | None:
    if options.record is None:
        return None
    return Films(options.record, f"{directory.path.resolve().name}-seed-{seed}", options.gif)


def _open(
    config: RunConfig,
    options: EvaluateOptions,
    seed: int,
    films: Films | None,
    warn: Callable[[str], None],
) -> VectorEnv:
    """Make the environments of a run again."""
    if options.is_drawn:
        mode = options.render or FILM
        return open_environments(
            config.environment, lambda: make_drawing(config.environment, mode, films), warn
        )
    recipe, backend = config.environment, options.backend or config.backend
    # First come, first served would pair the episodes with other batches in every run.
    backend = _BACKENDS.get(backend, backend)
    if options.backend is None and backend == "envpool" and _only_gymnasium_has(recipe.env_id):
        backend = "sync"
        warn(f"EnvPool stepped the training, but has no {recipe.env_id} here: Gymnasium steps it")
    return open_environments(
        recipe,
        lambda: make_vector_env(
            recipe.env_id,
            min(options.count, MAX_ENVS),
            backend,
            episode_seed(seed),
            env_kwargs=recipe.kwargs,
            wrappers=recipe.wrappers,
        ),
        warn,
    )


def _only_gymnasium_has(env_id: str) -> bool:
    return env_id not in envpool_ids() and gymnasium_spec(env_id) is not None


def _steps_to_end(time_limit: int | None, is_scored: bool) -> int:
    """Return how many steps an episode is given: a limit that none reached in training may be any number."""
    known = steps_to_end(time_limit)
    return known if is_scored else min(known, MOST_STEPS)


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
        "env_kwargs": to_readable_json(evaluation.config.env_kwargs),
        "wrappers": list(evaluation.config.wrappers),
        "backend": evaluation.env.name,
        "seed": evaluation.seed,
        "training_seed": evaluation.config.seed,
        # Environment n was reset with env_seed + n, an EnvPool was made with env_seed.
        "env_seed": episode_seed(evaluation.seed),
        "num_envs": evaluation.env.num_envs,
        "snapshot": evaluation.snapshot.snapshot_id,
        "training_score": score if np.isfinite(score) else None,
        "steps": played.steps,
        "reward_per_step": played.reward_per_step if np.isfinite(played.reward_per_step) else None,
        "score": evaluation.score if np.isfinite(evaluation.score) else None,
        "score_is_per_step": not len(played.returns),
        "interrupted": bool(evaluation.signal),
        "episodes": len(played.returns),
        "episodes_without_end": played.given_up,
        "most_steps": played.most_steps,
        "episodes_without_finite_return": int(np.count_nonzero(~np.isfinite(played.returns))),
        "return": _figures(played.returns),
        "length": _figures(played.lengths),
        "returns": [float(one) if np.isfinite(one) else None for one in played.returns],
        "lengths": played.lengths.tolist(),
        "films": [str(path) for path in evaluation.films],
    }


def _as_text(evaluation: Evaluation) -> str:
    config, played = evaluation.config, evaluation.played
    count = len(played.returns)
    lines = [
        f"{config.title}: {count} episode{'' if count == 1 else 's'}, best actions, on {evaluation.env.name}",
        f"policy   {_described(evaluation.snapshot)}",
        f"seed     {evaluation.seed}, of fresh episodes; --seed {evaluation.seed} plays them again",
    ]
    if count:
        lines += _table({"return": _figures(played.returns), "length": _figures(played.lengths)})
    else:
        reward = words.number(played.reward_per_step)
        lines.append(f"score    {reward}, the mean reward a step, as no episode ended")
    if played.given_up:
        lines.append(did_not_end(played.given_up, evaluation.episodes, played.most_steps))
    if evaluation.signal:
        lines.append(
            f"{evaluation.signal} ended it after {played.steps:,} steps, with {count} of "
            f"{evaluation.episodes} episodes{': the short ones are the first to end' * bool(count)}"
        )
    lost = int(np.count_nonzero(~np.isfinite(played.returns)))
    if lost:
        lines.append(
            f"{lost} episodes had rewards that are not finite, and are not in these figures"
        )
    lines += [f"film     {path}" for path in evaluation.films]
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
