"""A run from its settings: an agent, a pipeline and settings come in, a loop that has them goes out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.backoff_scheduler import AutoScheduler
from tensor_optix.core.base_evaluator import MeanReturnEvaluator
from tensor_optix.core.base_optimizer import FixedHyperparams
from tensor_optix.core.callbacks import RunLog, VerboseCallback
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.checkpoints.run_keeper import RunKeeper
from tensor_optix.core.environment_recipe import EnvironmentRecipe
from tensor_optix.core.foreign_agent import as_agent, own_object
from tensor_optix.core.loop_controller import LoopController
from tensor_optix.core.recorded_spaces import space_to_json
from tensor_optix.runs.record import TrainingRecord
from tensor_optix.runs.run_directory import RunConfig, RunDirectory
from tensor_optix.runs.run_files import RunFiles
from tensor_optix.settings import require_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_optimizer import BaseOptimizer
    from tensor_optix.core.base_pipeline import BasePipeline, Source
    from tensor_optix.core.callbacks import LoopCallback
    from tensor_optix.core.foreign_agent import AgentLike
    from tensor_optix.core.observation_layout import AnySpace
    from tensor_optix.core.types import PathLike
    from tensor_optix.settings import RunSettings


def assemble(
    agent: AgentLike | None,
    pipeline: BasePipeline | None,
    settings: RunSettings,
    keeper: RunKeeper | None = None,
) -> LoopController:
    """Return the loop that trains the agent as the settings have it.

    Args:
        agent: Is trained.
        pipeline: Gives the windows.
        settings: Of the run.
        keeper: Keeps it in checkpoints. None: one in the settings' `run_dir` does, if there is one.

    Raises:
        TypeError: If agent or pipeline is None or something else, or a callback is none.
        ValueError: If `run_dir` holds another run, or both pipelines step one environment object.
    """
    learner = as_agent(agent)
    source = require_pipeline("pipeline", pipeline)
    _require_own_environments(source, settings.val_pipeline)
    output = settings.output
    if keeper is None and output.run_dir is not None:
        directory = RunDirectory(Path(output.run_dir))
        keeper = RunKeeper(directory.state, output.checkpoint_seconds, output.resume)
    controller = LoopController(
        learner,
        settings.evaluator or MeanReturnEvaluator(),
        _tuner(learner, settings),
        source,
        CheckpointRegistry(output.checkpoints, output.max_snapshots),
        _scheduler(learner, settings),
        callbacks=_listeners(learner, source, settings),
        val_pipeline=settings.val_pipeline,
        checkpoint_score_fn=settings.checkpoint_score_fn,
        verbose=output.verbose and output.verbose_log_file is None,
        keeper=keeper,
        **asdict(settings.loop),
    )
    if settings.seed is not None:
        _seed(settings.seed, learner, source, settings.val_pipeline)
    return controller


def _require_own_environments(pipeline: BasePipeline, val_pipeline: BasePipeline | None) -> None:
    """Refuse one environment object in both: validation would put training's episodes back to their start."""
    if val_pipeline is None or val_pipeline is pipeline:
        return
    trained_on = {id(env) for env in pipeline.environments}
    for env in val_pipeline.environments:
        if id(env) in trained_on:
            raise ValueError(
                "pipeline and val_pipeline must step environments of their own, got one "
                f"{type(env).__name__} object in both: make a second one for val_pipeline"
            )


def _tuner(agent: BaseAgent, settings: RunSettings) -> BaseOptimizer:
    bounds = dict(agent.default_param_bounds)
    tuner = settings.optimizer or FixedHyperparams()
    if settings.optimizer is None and bounds:
        from tensor_optix.optimizers.spsa_optimizer import SPSAOptimizer

        log_params = list(agent.default_log_params)
        tuner = SPSAOptimizer(bounds, log_params=log_params, seed=settings.seed)
    if settings.diagnostics is not None:
        from tensor_optix.optimizers.diagnostic_controller import DiagnosticController

        return DiagnosticController(tuner, bounds=bounds, **asdict(settings.diagnostics))
    return tuner


def _scheduler(agent: BaseAgent, settings: RunSettings) -> AutoScheduler:
    least = agent.default_min_episodes_before_dormant
    chosen: dict[str, Any] = {"min_episodes_before_dormant": least, **settings.scheduler}
    return AutoScheduler(**chosen)


def _listeners(
    agent: BaseAgent, pipeline: BasePipeline, settings: RunSettings
) -> list[LoopCallback]:
    listeners, output = list(settings.callbacks or []), settings.output
    params, record = agent.get_hyperparams().params, TrainingRecord()

    def describe() -> RunConfig:
        return _described(agent, params, pipeline.source, settings)

    if output.run_dir is not None:
        listeners.append(RunLog(output.run_dir, output.resume))
        listeners.append(RunFiles(RunDirectory(Path(output.run_dir)), describe, record))
    if output.progress:
        listeners += [] if output.run_dir is not None else [record]
        listeners.append(_progress(record, describe))
    if output.verbose_log_file is not None:
        listeners.append(_VerboseFile(output.verbose_log_file))
    return listeners


def _progress(record: TrainingRecord, describe: Callable[[], RunConfig]) -> LoopCallback:
    try:
        from tensor_optix.runs.display import Progress
    except ImportError as error:
        raise ImportError("progress needs rich: pip install 'tensor-optix[cli]'") from error
    return Progress(record, describe)


def _described(
    agent: BaseAgent, hyperparams: dict[str, Any], source: Source, settings: RunSettings
) -> RunConfig:
    """Return what a run was asked to do, as far as its parts can tell."""
    recipe, environment = agent.recipe, source.recipe or EnvironmentRecipe("")
    return RunConfig(
        env_id=environment.env_id,
        env_kwargs=dict(environment.kwargs),
        wrappers=tuple(map(str, environment.wrappers)),
        backend=source.backend,
        seed=settings.seed,
        num_envs=source.num_envs,
        window_size=source.window_size,
        max_steps=settings.loop.max_steps,
        target_score=settings.loop.target_score,
        hidden_sizes=() if recipe is None else recipe.hidden_sizes,
        device="" if recipe is None else recipe.device,
        hyperparams=hyperparams,
        algorithm="" if recipe is None else recipe.algorithm,
        normalize_observations=recipe is not None and recipe.normalize_observations,
        normalize_rewards=recipe is not None and recipe.normalize_rewards,
        framework="" if recipe is None else recipe.framework,
        channels=None if recipe is None else recipe.channels,
        engine="auto" if recipe is None else recipe.engine,
        updates_by=agent.updates_by,
        tune=not isinstance(settings.optimizer, FixedHyperparams),
        agent_class=type(own_object(agent)).__name__,
        observation_space=_recorded(source.observation_space),
        action_space=_recorded(source.action_space),
        rescale_actions=source.rescale_actions,
    )


def _recorded(space: AnySpace | None) -> dict[str, Any] | None:
    return None if space is None else space_to_json(space)


class _VerboseFile(VerboseCallback):
    """The verbose lines, in a file that is open while the loop runs."""

    def __init__(self, path: PathLike) -> None:
        super().__init__()
        self._path = Path(path).expanduser()

    def on_loop_start(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self._path.open("a", encoding="utf-8")

    def on_loop_stop(self) -> None:
        if self._stream is not None:
            self._stream.close()


def _seed(seed: int, agent: BaseAgent, *pipelines: BasePipeline | None) -> None:
    children = np.random.SeedSequence(seed).generate_state(1 + len(pipelines))
    agent.seed(int(children[0]))
    for child, pipeline in zip(children[1:], pipelines, strict=True):
        if pipeline is not None:
            pipeline.seed(int(child) % 2**31)
