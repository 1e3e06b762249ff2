"""Where the windows come from: pipelines and the agent to be trained come in, windows and contests go out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensor_optix.core.validation import Validation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tensor_optix.core.base_agent import BaseAgent
    from tensor_optix.core.base_evaluator import BaseEvaluator
    from tensor_optix.core.base_pipeline import BasePipeline
    from tensor_optix.core.types import Array, EpisodeData


class Collector:
    """Collects windows with the agent in training, and lets policies play between two windows.

    Args:
        pipeline: Trained on.
        val_pipeline: Held-out, or None.
        evaluator: Scores windows.

    Raises:
        ValueError: If both pipelines are the same.
    """

    def __init__(
        self,
        pipeline: BasePipeline,
        val_pipeline: BasePipeline | None,
        evaluator: BaseEvaluator,
    ) -> None:
        if val_pipeline is pipeline:
            raise ValueError("val_pipeline must be another pipeline than the one trained on")
        self._pipeline = pipeline
        self._evaluator = evaluator
        self.validation = None if val_pipeline is None else Validation(val_pipeline, evaluator)
        """Plays held-out episodes, if there are any."""
        self.is_set_up = False
        """Whether there is something to tear down."""
        self._is_restarted = False

    def begin(self, agent: BaseAgent) -> None:
        """Set the pipeline up, with the agent to train."""
        self.is_set_up = True
        self._pipeline.set_agent(agent)
        self._pipeline.setup()

    def windows(self) -> Iterator[EpisodeData]:
        """Yield the pipeline's windows; after a restart, those of the fresh episodes."""
        while True:
            self._is_restarted = False
            for episode in self._pipeline.episodes():
                yield episode
                if self._is_restarted:
                    break
            else:
                return

    def hand_over(self, agent: BaseAgent) -> None:
        """Go on with another agent, in fresh episodes where the data are not live."""
        self._pipeline.set_agent(agent)
        if not self._pipeline.is_live:
            self._pipeline.restart()
            self._is_restarted = True

    def play(self, agents: Sequence[BaseAgent], episodes: int, trainee: BaseAgent) -> Array:
        """Play the same greedy episodes with each agent; return `[len(agents), episodes]` returns.

        Held-out ones, or else fresh ones of the training pipeline, which goes on with `trainee` then.

        Raises:
            RuntimeError: If the data are live and cannot be replayed.
        """
        if self.validation is not None:
            return self.validation.play(agents, episodes)
        contest = self.contest()
        if contest is None:
            raise RuntimeError("live data cannot be played again: give a val_pipeline")
        try:
            return contest.play(agents, episodes)
        finally:
            self.hand_over(trainee)

    def contest(self) -> Validation | None:
        """Return a validation in the training pipeline itself; None if its data are live."""
        if self._pipeline.is_live:
            return None
        return Validation(self._pipeline, self._evaluator, is_set_up=True)

    def teardown_training(self) -> None:
        """Let go of the training pipeline."""
        self.is_set_up = False
        self._pipeline.teardown()

    def teardown_validation(self) -> None:
        """Let go of the held-out pipeline, if it was used."""
        if self.validation is not None:
            self.validation.teardown()
