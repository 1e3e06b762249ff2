"""The scripted agents, pipelines and optimizers of the tests keep the contracts themselves."""

from __future__ import annotations

import numpy as np
import pytest

from tensor_optix.core.types import EpisodeData
from tests.contracts.agent_contract import AgentContract
from tests.contracts.optimizer_contract import OptimizerContract
from tests.contracts.pipeline_contract import PipelineContract
from tests.scripted import CountingAgent, ScriptedOptimizer, ScriptedPipeline


class TestCountingAgent(AgentContract):
    @pytest.fixture
    def make_agent(self):
        return lambda seed: CountingAgent()

    @pytest.fixture
    def episode(self) -> EpisodeData:
        return EpisodeData(
            observations=np.zeros((4, 2), np.float32),
            actions=np.zeros(4, np.int64),
            rewards=[1.0] * 4,
            terminated=[False] * 4,
            truncated=[False] * 4,
            infos=[{}] * 4,
            episode_id=0,
        )


class TestScriptedPipeline(PipelineContract):
    @pytest.fixture
    def pipeline(self):
        return ScriptedPipeline(lambda updates, window: 1.0)


class TestScriptedOptimizer(OptimizerContract):
    @pytest.fixture
    def optimizer(self):
        return ScriptedOptimizer()

    @pytest.fixture
    def another(self):
        return ScriptedOptimizer()
