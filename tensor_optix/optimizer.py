"""`RLOptimizer`: an agent and a pipeline come in, the best policy comes out. Assembles and delegates."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from tensor_optix.core.auto_scheduler import AutoScheduler
from tensor_optix.core.base_agent import BaseAgent
from tensor_optix.core.base_evaluator import BaseEvaluator, MeanReturnEvaluator
from tensor_optix.core.base_optimizer import BaseOptimizer
from tensor_optix.core.base_pipeline import BasePipeline
from tensor_optix.core.callbacks import LoopCallback, VerboseCallback
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.loop_controller import LoopController
from tensor_optix.core.run_log import RunLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tensor_optix.core.types import LoopState, PathLike, PolicySnapshot


class RLOptimizer:
    """Trains an agent until nothing is left to gain, and leaves it with the best policy found.

    Args:
        agent: Acts and learns.
        pipeline: Gives the windows.
        val_pipeline: Held-out windows: the agent acts greedily there and never learns; their score is the
            one that counts.
        evaluator: Scores windows. None: the mean return of finished episodes.
        optimizer: Proposes hyperparameters after each evaluation. None: they stay as they are.
        checkpoint_dir: Where the best policies are kept. None: `run_dir/checkpoints`, or "./checkpoints".
        max_snapshots: How many of them are kept, of this run: a directory may hold several.
        checkpoint_score_fn: `fn(agent) -> float`, decides which checkpoint is the best, and nothing else.
        max_episodes: Collect at most so many windows. None: until nothing is left to gain.
        base_interval: Windows between two evaluations. None: a small share of the windows so far.
        backoff_factor: The interval grows by this after an evaluation without improvement.
        max_interval_episodes: The longest interval.
        plateau_threshold: Evaluations without improvement until COOLING.
        dormant_threshold: Evaluations without improvement until DORMANT. None: until a statistical test
            confirms a plateau.
        score_smoothing: Evaluated scores whose mean is compared with the best.
        improvement_margin: The least gain that counts as an improvement.
        noise_k: Standard deviations of the score's noise that an improvement must exceed.
        score_window: Scores from which the noise is measured.
        rollback_on_degradation: Restore the best policy when the score has fallen (on-policy agents).
        degradation_threshold: The score has fallen when it is below `best - |best| * (1 - this)`.
        min_episodes_before_dormant: Evaluations before DORMANT may be declared. None: the agent's own.
        min_episodes_before_degradation: Evaluations before a degradation may be declared.
        callbacks: Listeners.
        verbose: Print one line per evaluation.
        verbose_log_file: Write these lines to this file instead.
        trend_window: Scores whose slope shows an improvement.
        min_degradation_drop: The least fall that is a degradation, for a best near 0.
        seed: Makes agent and environments reproducible. None: they keep their own.
        run_dir: Keep `metrics.jsonl` and `events.jsonl` there, and the checkpoints.

    Raises:
        TypeError: On an unknown argument, with the closest match.
        ValueError: If a number is out of range, or `run_dir` holds another run.
    """

    def __init__(
        self,
        agent: BaseAgent,
        pipeline: BasePipeline,
        val_pipeline: BasePipeline | None = None,
        evaluator: BaseEvaluator | None = None,
        optimizer: BaseOptimizer | None = None,
        checkpoint_dir: PathLike | None = None,
        max_snapshots: int = 10,
        checkpoint_score_fn: Callable[[BaseAgent], float] | None = None,
        max_episodes: int | None = None,
        base_interval: int | None = None,
        backoff_factor: float | None = None,
        max_interval_episodes: int | None = None,
        plateau_threshold: int | None = None,
        dormant_threshold: int | None = None,
        score_smoothing: int = 2,
        improvement_margin: float = 0.0,
        noise_k: float | None = None,
        score_window: int | None = None,
        rollback_on_degradation: bool = False,
        degradation_threshold: float | None = None,
        min_episodes_before_dormant: int | None = None,
        min_episodes_before_degradation: int | None = None,
        callbacks: Sequence[LoopCallback] | None = None,
        verbose: bool = False,
        verbose_log_file: PathLike | None = None,
        trend_window: int | None = None,
        min_degradation_drop: float | None = None,
        seed: int | None = None,
        run_dir: PathLike | None = None,
        **unknown: Any,
    ) -> None:
        _refuse(unknown)
        _require(agent, BaseAgent, "agent")
        _require(pipeline, BasePipeline, "pipeline")
        for value, kind, name in (
            (val_pipeline, BasePipeline, "val_pipeline"),
            (evaluator, BaseEvaluator, "evaluator"),
            (optimizer, BaseOptimizer, "optimizer"),
        ):
            if value is not None:
                _require(value, kind, name)
        scheduler = AutoScheduler(
            base_interval=base_interval,
            backoff_factor=backoff_factor,
            max_interval_episodes=max_interval_episodes,
            plateau_threshold=plateau_threshold,
            dormant_threshold=dormant_threshold,
            degradation_threshold=degradation_threshold,
            min_degradation_drop=min_degradation_drop,
            min_episodes_before_dormant=(
                agent.default_min_episodes_before_dormant
                if min_episodes_before_dormant is None
                else min_episodes_before_dormant
            ),
            min_episodes_before_degradation=min_episodes_before_degradation,
            noise_k=noise_k,
            score_window=score_window,
            trend_window=trend_window,
        )
        if isinstance(callbacks, LoopCallback):
            raise TypeError(f"callbacks must be a list, got one {type(callbacks).__name__}")
        listeners = list(callbacks or [])
        if run_dir is not None:
            listeners.append(RunLog(run_dir))
        if verbose_log_file is not None:
            listeners.append(_VerboseFile(verbose_log_file))
        if checkpoint_dir is None:
            checkpoint_dir = "./checkpoints" if run_dir is None else Path(run_dir) / "checkpoints"
        self._controller = LoopController(
            agent,
            evaluator or MeanReturnEvaluator(),
            optimizer,
            pipeline,
            CheckpointRegistry(checkpoint_dir, max_snapshots),
            scheduler,
            rollback_on_degradation=rollback_on_degradation,
            improvement_margin=improvement_margin,
            max_episodes=max_episodes,
            callbacks=listeners,
            val_pipeline=val_pipeline,
            score_smoothing=score_smoothing,
            checkpoint_score_fn=checkpoint_score_fn,
            verbose=verbose and verbose_log_file is None,
        )
        if seed is not None:
            _seed(seed, agent, pipeline, val_pipeline)

    def run(self) -> None:
        """Train until nothing is left to gain, the cap, or `stop()`; blocks.

        On return, also by an exception, the agent holds the best policy found.
        """
        self._controller.run()

    def stop(self, reason: str = "stop() was called") -> None:
        """End the run after the window under way; before `run()`: let it return at once.

        Args:
            reason: What the log says of it.
        """
        self._controller.stop(reason)

    def add_callback(self, callback: LoopCallback) -> None:
        """Add a listener."""
        self._controller.add_callback(callback)

    @property
    def state(self) -> LoopState:
        """What the loop believes about the training."""
        return self._controller.state

    @property
    def best_snapshot(self) -> PolicySnapshot | None:
        """The best policy so far; None before the first evaluation."""
        return self._controller.best_snapshot


class _VerboseFile(VerboseCallback):
    """The verbose lines, in a file that is open while the loop runs."""

    def __init__(self, path: PathLike) -> None:
        super().__init__()
        self._path = Path(path)
        self._file: TextIO | None = None

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


def _require(value: Any, kind: type, name: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def _refuse(unknown: dict[str, Any]) -> None:
    for name in unknown:
        known = [p for p in inspect.signature(RLOptimizer).parameters if p != "unknown"]
        close = get_close_matches(name, known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise TypeError(f"RLOptimizer has no argument {name!r}{hint}")
