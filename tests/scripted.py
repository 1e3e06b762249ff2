"""Agents and pipelines without a framework, whose every score is known beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.base_agent import BaseAgent
from tensor_optix.core.base_optimizer import BaseOptimizer, require_kind
from tensor_optix.core.base_pipeline import BasePipeline
from tensor_optix.core.callbacks import LoopCallback, LoopEvent, WindowReport
from tensor_optix.core.types import EpisodeData, HyperparamSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class CountingAgent(BaseAgent):
    """Six methods; its only weight is the number of updates made."""

    def __init__(self) -> None:
        self.updates = 0
        self.params: dict[str, Any] = {"learning_rate": 0.1}
        self.learned: list[EpisodeData] = []

    def act(self, observation: Any) -> int:
        return 0

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        self.learned.append(episode_data)
        self.updates += 1
        return {}

    def get_hyperparams(self) -> HyperparamSet:
        return HyperparamSet(dict(self.params))

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        self.params = dict(hyperparams.params)

    def save_weights(self, path: Any) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)
        (Path(path) / "weights.json").write_text(json.dumps(self.updates))

    def load_weights(self, path: Any) -> None:
        self.updates = json.loads((Path(path) / "weights.json").read_text())


class OffPolicyAgent(CountingAgent):
    @property
    def is_on_policy(self) -> bool:
        return False


class ScriptedPipeline(BasePipeline):
    """Each window is one finished episode whose return is `score_of(weights that collected it)`.

    The window's number is given, too: `score_of(updates, window) -> float`.
    """

    def __init__(self, score_of: Callable[[int, int], float]) -> None:
        self.score_of = score_of
        self.collected = 0
        self.setups = 0
        self.teardowns = 0
        self.agent: CountingAgent | None = None

    def set_agent(self, agent: BaseAgent) -> None:
        self.agent = agent  # type: ignore[assignment]

    def setup(self) -> None:
        self.setups += 1

    def episodes(self) -> Iterator[EpisodeData]:
        window = 0
        while True:
            self.collected += 1
            yield self.window(window)
            window += 1

    def window(self, window: int) -> EpisodeData:
        assert self.agent is not None
        score = self.score_of(getattr(self.agent, "updates", 0), window)
        return EpisodeData(
            observations=np.zeros((1, 1), np.float32),
            actions=np.zeros(1, np.int64),
            rewards=[score],
            terminated=[True],
            truncated=[False],
            infos=[{}],
            episode_id=window,
        )

    def teardown(self) -> None:
        self.teardowns += 1

    @property
    def is_live(self) -> bool:
        return False


class ScriptedOptimizer(BaseOptimizer):
    """Proposes `{"learning_rate": 0.1 * (n + 1)}` at its n-th call; may claim to be probing."""

    def __init__(self, probing: bool = False) -> None:
        self.probing = probing
        self.calls: list[str] = []

    def suggest(self, current_hyperparams: HyperparamSet, metrics_history: Any) -> HyperparamSet:
        self.calls.append("suggest")
        count = self.calls.count("suggest")
        return HyperparamSet(current_hyperparams.params | {"learning_rate": 0.1 * (count + 1)})

    def on_improvement(self, metrics: Any) -> None:
        self.calls.append("improvement")

    def on_plateau(self, metrics_history: Any) -> None:
        self.calls.append("plateau")

    def state_dict(self) -> dict[str, Any]:
        return {"class": type(self).__name__, "calls": list(self.calls)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        require_kind(self, state)
        self.calls = list(state["calls"])

    @property
    def is_probing(self) -> bool:
        return self.probing


class Diary(LoopCallback):
    """Remembers everything it hears."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.windows: list[WindowReport] = []
        self.events: list[LoopEvent] = []

    def on_loop_start(self) -> None:
        self.calls.append(("on_loop_start", None))

    def on_loop_stop(self) -> None:
        self.calls.append(("on_loop_stop", None))

    def on_episode_end(self, episode_id: int, eval_metrics: Any) -> None:
        self.calls.append(("on_episode_end", (episode_id, eval_metrics)))

    def on_improvement(self, snapshot: Any) -> None:
        self.calls.append(("on_improvement", snapshot))

    def on_plateau(self, episode_id: int, state: Any) -> None:
        self.calls.append(("on_plateau", (episode_id, state)))

    def on_dormant(self, episode_id: int) -> None:
        self.calls.append(("on_dormant", episode_id))

    def on_degradation(self, episode_id: int, eval_metrics: Any) -> None:
        self.calls.append(("on_degradation", episode_id))

    def on_hyperparam_update(self, old_params: Any, new_params: Any) -> None:
        self.calls.append(("on_hyperparam_update", (old_params, new_params)))

    def on_window(self, report: WindowReport) -> None:
        self.windows.append(report)

    def on_event(self, event: LoopEvent) -> None:
        self.events.append(event)

    def named(self, hook: str) -> list[Any]:
        return [value for name, value in self.calls if name == hook]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


class Killed(BaseException):
    """Stands for the end of the process: nothing of the run hears of it."""


class KillAt(LoopCallback):
    """Ends the process with a window."""

    def __init__(self, window: int) -> None:
        self.window = window

    def on_window(self, report: WindowReport) -> None:
        if report.episode_id == self.window:
            raise Killed
