"""A search whose best hyperparameters are known, over scripted agents and pipelines."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from tensor_optix.trials.orchestrator import TrialOrchestrator
from tests.scripted import CountingAgent, ScriptedPipeline

SPACE = {"x": ("float", 0.0, 1.0)}


class ParamAgent(CountingAgent):
    """Its score rises by `1 - (x - 0.3)^2` with every update."""

    def __init__(self, params: dict[str, Any]) -> None:
        super().__init__()
        self.params = {"x": 0.5} | params
        self.seeds: list[int] = []

    def seed(self, seed: int) -> None:
        self.seeds.append(seed)


class ParamPipeline(ScriptedPipeline):
    def __init__(self) -> None:
        super().__init__(self.score)

    def score(self, updates: int, window: int) -> float:
        assert self.agent is not None
        return (1 - (self.agent.params["x"] - 0.3) ** 2) * updates


@pytest.fixture(scope="module")
def quick_collections() -> None:
    """What other tests have left behind need not be searched for garbage after every trial."""
    gc.collect()
    gc.freeze()


def search(**changes: Any) -> TrialOrchestrator:
    """A small search of parameters whose best is x = 0.3."""
    parts: dict[str, Any] = {
        "agent_factory": ParamAgent,
        "pipeline_factory": ParamPipeline,
        "param_space": SPACE,
        "n_trials": 5,
        "trial_steps": 4,
        "n_startup_trials": 3,
        "seed": 7,
        "finalists": 0,
    }
    return TrialOrchestrator(**parts | changes)


def states(orchestrator: TrialOrchestrator) -> list[str]:
    return [trial.state.name for trial in orchestrator.study.trials]
