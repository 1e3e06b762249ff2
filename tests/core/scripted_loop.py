"""A loop over scripted scores, with everything that it touches."""

from __future__ import annotations

from typing import Any

from tensor_optix.core.backoff_scheduler import BackoffScheduler
from tensor_optix.core.base_evaluator import MeanReturnEvaluator
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.loop_controller import LoopController
from tests.scripted import CountingAgent, Diary, ScriptedPipeline


class Setup:
    """A loop over scripted scores, with everything that it touches."""

    def __init__(self, directory: Any, score_of: Any, agent: Any = None, **options: Any) -> None:
        scheduler_options = options.pop("scheduler", {})
        self.agent = agent or CountingAgent()
        self.pipeline = options.pop("pipeline", None) or ScriptedPipeline(score_of)
        self.diary = Diary()
        self.registry = CheckpointRegistry(directory, options.pop("max_snapshots", 10))
        self.scheduler = BackoffScheduler(**scheduler_options)
        options.setdefault("score_smoothing", 1)
        self.controller = LoopController(
            self.agent,
            options.pop("evaluator", None) or MeanReturnEvaluator(),
            options.pop("optimizer", None),
            self.pipeline,
            self.registry,
            self.scheduler,
            callbacks=[self.diary, *options.pop("callbacks", [])],
            **options,
        )

    def run(self) -> Setup:
        self.controller.run()
        return self


EVERY_WINDOW = {"max_interval_episodes": 1}


def rising_then_falling(updates: int, window: int) -> float:
    """The policy with 5 updates is the best one: 100."""
    return 100.0 - 10.0 * abs(updates - 5)
