"""The factory mode of `RLOptimizer`: factories come in; trials find the hyperparameters of the full run."""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
import uuid
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensor_optix.assembly import assemble
from tensor_optix.core.argument_checks import instance_of, share
from tensor_optix.core.callbacks import Ending, LoopCallback, RunLog
from tensor_optix.core.foreign_agent import as_agent
from tensor_optix.core.types import LoopState
from tensor_optix.settings import OutputSettings
from tensor_optix.trials.orchestrator import TrialSearch
from tensor_optix.trials.trial import TrialSetup

if TYPE_CHECKING:
    from collections.abc import Callable

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.foreign_agent import AgentLike
    from tensor_optix.core.loop_controller import LoopController
    from tensor_optix.core.types import PolicySnapshot
    from tensor_optix.settings import RunSettings
    from tensor_optix.trials.space import ParamSpace

logger = logging.getLogger(__name__)

UNLIMITED_RUN_WINDOWS = 2000
"""What a run without a cap counts as, for the length of a trial."""

LEAST_TRIAL_WINDOWS = 5
"""A shorter trial tells next to nothing: its first score is that of a policy which has not learned."""


@dataclass(frozen=True)
class Factories:
    """What the parts of a run are made by. The fields are arguments of `RLOptimizer`.

    Raises:
        ValueError: If `trial_steps_fraction` is not in (0, 1], or `warm_start` is asked for where no trial's
            agent fits.
    """

    agent_factory: Callable[[dict[str, Any]], AgentLike]
    """`fn(params) -> agent`."""
    pipeline_factory: Callable[[], BasePipeline]
    param_space: ParamSpace | None = None
    """As `TrialOrchestrator` has it. None: no search, the agent is `agent_factory({})`."""
    n_trials: int = 20
    trial_steps_fraction: float = 0.01
    """The length of a trial as a share of `max_episodes`, of 2000 windows where there is no such cap;
    never less than 5 windows."""
    val_pipeline_factory: Callable[[], BasePipeline] | None = None
    trial_agent_factory: Callable[[dict[str, Any]], AgentLike] | None = None
    """Makes the agents of the trials, smaller ones for instance. None: `agent_factory` does."""
    warm_start: bool = False
    """Whether the agent of the full run goes on from what the best trial has learned."""

    def __post_init__(self) -> None:
        share("trial_steps_fraction", self.trial_steps_fraction)
        if self.warm_start and self.param_space is None:
            raise ValueError("warm_start needs trials to start from: give a param_space")
        if self.warm_start and self.trial_agent_factory is not None:
            raise ValueError(
                "warm_start goes on with an agent of the trials: leave trial_agent_factory out"
            )


STUDY_FILE = "study.journal"


class FactoryRun:
    """Searches hyperparameters by trials, then trains a new agent with the best of them.

    Nothing is made before `run`. With a `run_dir` the search is kept there, too, and goes on with the run.

    Args:
        factories: Make the parts.
        settings: Of the full run; the trials share what is not the full run's alone.

    Raises:
        ImportError: If there is something to search, and Optuna is not installed.
        ValueError: If `run_dir` holds another run, or `TrialOrchestrator` refuses the space.
    """

    def __init__(self, factories: Factories, settings: RunSettings) -> None:
        run_dir = settings.output.run_dir
        if run_dir is not None:
            # Refuses another run's directory before the search, and writes nothing yet.
            RunLog(run_dir, settings.output.resume)
            if not settings.output.resume and (Path(run_dir).expanduser() / STUDY_FILE).exists():
                raise ValueError(
                    f"{run_dir} holds another run ({STUDY_FILE}); choose a new directory, or go on with "
                    "that run by resume=True"
                )
        self._factories = factories
        self._settings = settings
        self._callbacks = list(settings.callbacks or [])
        self._learners = self._place_of_learners() if factories.warm_start else None
        self._search = (
            None if factories.param_space is None else _search(factories, settings, self._learners)
        )
        self._loop: LoopController | None = None
        self._stop_reason: str | None = None
        self._params: dict[str, Any] = {}
        self._agent: AgentLike | None = None

    @property
    def agent(self) -> Any:
        """The agent of the full run; None before it begins."""
        return self._agent

    @property
    def params(self) -> dict[str, Any]:
        """The hyperparameters that the search found; empty before it is over."""
        return dict(self._params)

    @property
    def state(self) -> LoopState:
        """What the loop believes about the training; ACTIVE before the full run."""
        return LoopState.ACTIVE if self._loop is None else self._loop.state

    @property
    def best_snapshot(self) -> PolicySnapshot | None:
        """The best policy of the full run so far."""
        return None if self._loop is None else self._loop.best_snapshot

    def add_callback(self, cb: LoopCallback) -> None:
        """Add a listener to the full run.

        Raises:
            TypeError: If it is no `LoopCallback`.
        """
        if self._loop is None:
            self._callbacks.append(instance_of("a callback", cb, LoopCallback))
        else:
            self._loop.add_callback(cb)

    def stop(self, reason: str = "stop() was called", ending: Ending = Ending.FINISHED) -> None:
        """End the run, or the search and so the run, after the window under way.

        Before `run()`: let it return at once.
        """
        self._stop_reason = reason
        if self._loop is not None:
            self._loop.stop(reason, ending)
        elif self._search is not None:
            self._search.stop(reason)

    def run(self) -> None:
        """Search, then train; a later call only trains on.

        Raises:
            RuntimeError: If no trial of the search was complete.
        """
        try:
            loop = self.prepare()
            if loop is not None:
                loop.run()
        finally:
            self._stop_reason = None

    def prepare(self) -> LoopController | None:
        """Search, and return what trains with the best hyperparameters; None if `stop` was called."""
        if self._loop is not None:
            return self._loop
        if self._search is not None and self._stop_reason is None:
            self._params = self._found(self._search)
        if self._stop_reason is not None:
            return None
        factories = self._factories
        validation = factories.val_pipeline_factory
        settings = replace(
            self._settings,
            callbacks=self._callbacks,
            val_pipeline=None if validation is None else validation(),
        )
        self._agent = factories.agent_factory(self.params)
        self._start_warm(as_agent(self._agent))
        self._loop = assemble(self._agent, factories.pipeline_factory(), settings)
        return self._loop

    def _start_warm(self, agent: BaseAgent) -> None:
        """Give the agent of the full run what the best trial has learned, where that was asked for."""
        if self._learners is None or self._search is None:
            return
        best = self._learners / self._search.best_name
        if not best.is_dir():
            logger.warning("the best trial's agent was not kept: the run starts with a new one")
            return
        agent.load_state(best)
        for other in self._learners.iterdir():
            if other != best:
                shutil.rmtree(other, ignore_errors=True)

    def _place_of_learners(self) -> Path:
        """Return where the agents of the trials are kept until one of them is chosen; nothing is made yet."""
        run_dir = self._settings.output.run_dir
        if run_dir is not None:
            return Path(run_dir).expanduser() / "learners"
        place = Path(tempfile.gettempdir()) / f"tensor-optix-learners-{uuid.uuid4().hex}"
        weakref.finalize(self, shutil.rmtree, place, ignore_errors=True)
        return place

    def _found(self, search: TrialSearch) -> dict[str, Any]:
        try:
            return search.run()[0]
        except RuntimeError:
            if self._stop_reason is None:
                raise
            return {}


def _search(factories: Factories, settings: RunSettings, learners: Path | None) -> TrialSearch:
    windows = _trial_windows(factories.trial_steps_fraction, settings.loop.max_episodes)
    output = settings.output
    run_dir = None if output.run_dir is None else Path(output.run_dir).expanduser()
    trial = replace(
        settings,
        callbacks=None,
        loop=replace(settings.loop, max_episodes=windows, max_steps=None, target_score=None),
        output=OutputSettings(
            max_snapshots=output.max_snapshots, checkpoint_seconds=output.checkpoint_seconds
        ),
    )
    setup = TrialSetup(
        factories.trial_agent_factory or factories.agent_factory,
        factories.pipeline_factory,
        factories.val_pipeline_factory,
        settings=trial,
        directory=None if run_dir is None else run_dir / "trials",
        learners=learners,
    )
    study = {} if run_dir is None else {"storage": run_dir / STUDY_FILE, "study_name": "trials"}
    return TrialSearch(
        setup, factories.param_space, n_trials=factories.n_trials, seed=settings.seed, **study
    )


def _trial_windows(fraction: float, max_episodes: int | None) -> int:
    total = max_episodes or UNLIMITED_RUN_WINDOWS
    return min(max(math.ceil(fraction * total), LEAST_TRIAL_WINDOWS), total)
