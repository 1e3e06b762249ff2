"""The factory mode of `RLOptimizer`: factories come in; trials find the hyperparameters of the full run."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from tensor_optix.core.backoff_scheduler import AutoScheduler, BackoffScheduler
from tensor_optix.core.base_evaluator import BaseEvaluator
from tensor_optix.core.base_optimizer import BaseOptimizer, FixedHyperparams
from tensor_optix.core.callbacks import LoopCallback
from tensor_optix.core.decisions.run_state import check_run_settings
from tensor_optix.core.run_log import RunLog
from tensor_optix.core.types import LoopState
from tensor_optix.optimizer import RLOptimizer
from tensor_optix.optimizers.diagnostic_controller import DIAGNOSTIC_ARGUMENTS, DiagnosticController
from tensor_optix.trials.orchestrator import TrialOrchestrator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.types import PolicySnapshot
    from tensor_optix.trials.space import ParamSpace

UNLIMITED_RUN_WINDOWS = 2000
"""What a run without a cap counts as, for the length of a trial."""

LEAST_TRIAL_WINDOWS = 5
"""A shorter trial tells next to nothing: its first score is that of a policy which has not learned."""

_NOT_OF_TRIALS = frozenset(
    {
        "callbacks",
        "checkpoint_dir",
        "checkpoint_score_fn",
        "finalists",
        "max_episodes",
        "optimizer",
        "resume",
        "run_dir",
        "seed",
        "target_score",
        "val_pipeline",
        "verbose",
        "verbose_log_file",
    }
)
"""Arguments of `RLOptimizer` that concern the full run only, or reach the trials in another way."""


@dataclass(frozen=True)
class Factories:
    """What the parts of a run are made by. The fields are arguments of `RLOptimizer`."""

    agent_factory: Callable[[dict[str, Any]], BaseAgent]
    """`fn(params) -> agent`."""
    pipeline_factory: Callable[[], BasePipeline]
    param_space: ParamSpace | None = None
    """As `TrialOrchestrator` has it. None: no search, the agent is `agent_factory({})`."""
    n_trials: int = 20
    trial_steps_fraction: float = 0.01
    """The length of a trial as a share of `max_episodes`, of 2000 windows where there is no such cap;
    never less than 5 windows."""
    val_pipeline_factory: Callable[[], BasePipeline] | None = None
    trial_agent_factory: Callable[[dict[str, Any]], BaseAgent] | None = None
    """Makes the agents of the trials, smaller ones for instance. None: `agent_factory` does."""


class FactoryRun:
    """Searches hyperparameters by trials, then trains a new agent with the best of them.

    Nothing is made before `run`.

    Args:
        factories: Make the parts.
        options: The other arguments of `RLOptimizer`.

    Raises:
        ImportError: If there is something to search, and Optuna is not installed.
        TypeError: If an option is of the wrong kind.
        ValueError: If `trial_steps_fraction` is not in (0, 1], an option of the full run is out of range,
            its `run_dir` holds another run, or `TrialOrchestrator` refuses the space.
    """

    def __init__(self, factories: Factories, options: Mapping[str, Any]) -> None:
        if not 0.0 < factories.trial_steps_fraction <= 1.0:
            raise ValueError(
                f"trial_steps_fraction must be in (0, 1], got {factories.trial_steps_fraction}"
            )
        _check(options)
        self._factories = factories
        self._options = dict(options)
        self._callbacks = list(self._options.pop("callbacks", None) or [])
        self._search = None if factories.param_space is None else _search(factories, options)
        self._optimizer: RLOptimizer | None = None
        self._stop_reason: str | None = None
        self._params: dict[str, Any] = {}
        self._agent: BaseAgent | None = None

    @property
    def agent(self) -> BaseAgent | None:
        """The agent of the full run; None before it begins."""
        return self._agent

    @property
    def params(self) -> dict[str, Any]:
        """The hyperparameters that the search found; empty before it is over."""
        return dict(self._params)

    @property
    def state(self) -> LoopState:
        """What the loop believes about the training; ACTIVE before the full run."""
        return LoopState.ACTIVE if self._optimizer is None else self._optimizer.state

    @property
    def best_snapshot(self) -> PolicySnapshot | None:
        """The best policy of the full run so far."""
        return None if self._optimizer is None else self._optimizer.best_snapshot

    def add_callback(self, callback: LoopCallback) -> None:
        """Add a listener to the full run."""
        if self._optimizer is None:
            self._callbacks.append(callback)
        else:
            self._optimizer.add_callback(callback)

    def stop(self, reason: str = "stop() was called") -> None:
        """End the run, or the search and so the run, after the window under way.

        Before `run()`: let it return at once.
        """
        self._stop_reason = reason
        if self._optimizer is not None:
            self._optimizer.stop(reason)
        elif self._search is not None:
            self._search.stop(reason)

    def run(self) -> None:
        """Search, then train; a later call only trains on.

        Raises:
            RuntimeError: If no trial of the search was complete.
        """
        try:
            optimizer = self.prepare()
            if optimizer is not None:
                optimizer.run()
        finally:
            self._stop_reason = None

    def prepare(self) -> RLOptimizer | None:
        """Search, and return what trains with the best hyperparameters; None if `stop` was called."""
        if self._optimizer is not None:
            return self._optimizer
        if self._search is not None and self._stop_reason is None:
            self._params = self._found(self._search)
        if self._stop_reason is not None:
            return None
        factories, options = self._factories, dict(self._options)
        if factories.val_pipeline_factory is not None:
            options["val_pipeline"] = factories.val_pipeline_factory()
        self._agent = factories.agent_factory(self.params)
        self._optimizer = RLOptimizer(
            self._agent, factories.pipeline_factory(), callbacks=self._callbacks, **options
        )
        return self._optimizer

    def _found(self, search: TrialOrchestrator) -> dict[str, Any]:
        try:
            return search.run()[0]
        except RuntimeError:
            if self._stop_reason is None:
                raise
            return {}


def _check(options: Mapping[str, Any]) -> None:
    """Refuse what only the full run would find to be wrong, after the whole search."""
    parameters = inspect.signature(RLOptimizer).parameters
    given = {name: one.default for name, one in parameters.items()} | dict(options)
    for name, kind in (("optimizer", BaseOptimizer), ("evaluator", BaseEvaluator)):
        if given[name] is not None:
            _require(given[name], kind, name)
    if isinstance(given["callbacks"], LoopCallback):
        raise TypeError(f"callbacks must be a list, got one {type(given['callbacks']).__name__}")
    check_run_settings(**{name: given[name] for name in _names(check_run_settings)})
    AutoScheduler(**{name: given[name] for name in _names(BackoffScheduler) if name in given})
    rules = {name: given[name] for name in DIAGNOSTIC_ARGUMENTS if name in given}
    DiagnosticController.from_arguments(FixedHyperparams(), {}, rules)
    if given["run_dir"] is not None:
        RunLog(given["run_dir"])  # refuses another run's directory, and writes nothing yet


def _names(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def _require(value: Any, kind: type, name: str) -> None:
    if isinstance(value, type):
        raise TypeError(
            f"{name} must be a {kind.__name__}, got the class {value.__name__}; give an instance"
        )
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def _search(factories: Factories, options: Mapping[str, Any]) -> TrialOrchestrator:
    shared = {name: value for name, value in options.items() if name not in _NOT_OF_TRIALS}
    return TrialOrchestrator(
        factories.trial_agent_factory or factories.agent_factory,
        factories.pipeline_factory,
        factories.param_space,
        n_trials=factories.n_trials,
        trial_steps=None,
        rloptimizer_kwargs=shared | {"max_episodes": _trial_windows(factories, options)},
        val_pipeline_factory=factories.val_pipeline_factory,
        checkpoint_score_fn=options.get("checkpoint_score_fn"),
        seed=options.get("seed"),
    )


def _trial_windows(factories: Factories, options: Mapping[str, Any]) -> int:
    total = options.get("max_episodes") or UNLIMITED_RUN_WINDOWS
    windows = max(math.ceil(factories.trial_steps_fraction * total), LEAST_TRIAL_WINDOWS)
    return min(windows, total)


def factory_run(given: Mapping[str, Any]) -> FactoryRun:
    """Return the run that arguments of `RLOptimizer` with factories ask for.

    Args:
        given: Every argument by name, `diagnostics` those that begin with `diag_`.

    Raises:
        TypeError: If a factory is missing, or a part is given as well.
    """
    for name in ("agent", "pipeline", "val_pipeline"):
        if given[name] is not None:
            raise TypeError(f"give either {name} or {name}_factory, not both")
    for name in ("agent_factory", "pipeline_factory"):
        if not callable(given[name]):
            raise TypeError(f"{name} must be a function, got {given[name]!r}")
    made = {field.name: given[field.name] for field in fields(Factories)}
    others = {"agent", "pipeline", "val_pipeline", "diagnostics", *made}
    options = {name: value for name, value in given.items() if name not in others}
    return FactoryRun(Factories(**made), options | given["diagnostics"])
