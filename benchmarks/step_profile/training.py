"""A case as it trains: settings in, an agent with its pipeline and the time of a step out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.peers.contenders.ours import ROWS, dqn_hyperparams, ppo_hyperparams, sac_hyperparams
from benchmarks.peers.settings import DQN, PPO
from tensor_optix import HyperparamSet, VectorBatchPipeline, make_agent

if TYPE_CHECKING:
    from benchmarks.peers.settings import Settings
    from tensor_optix.core.types import EpisodeData

WINDOWS = 5
"""Of which the fastest counts."""


@dataclass(frozen=True)
class Times:
    """Microseconds of a vector step, in the fastest window."""

    total: float
    collecting: float
    """Of it. An agent with a replay learns meanwhile."""


class Training:
    """An agent of `framework="native"`, as `benchmarks.peers` measures it.

    Args:
        settings: Of the case.
        backend: Who steps the environments.
    """

    def __init__(self, settings: Settings, backend: str) -> None:
        self.settings = settings
        is_ppo = isinstance(settings, PPO)
        self.window_size = (settings.rows if is_ppo else ROWS) // settings.num_envs
        self.pipeline = VectorBatchPipeline(
            env_id=settings.env_id,
            num_envs=settings.num_envs,
            window_size=self.window_size,
            backend=backend,
            seed=0,
        )
        algorithm, hyperparams = _agent_of(settings)
        self.agent: Any = make_agent(
            self.pipeline.env,
            algorithm,
            "native",
            hyperparams=HyperparamSet(hyperparams),
            hidden_sizes=settings.hidden_sizes,
            seed=0,
            engine="native",
        )
        self.pipeline.set_agent(self.agent)
        self._windows = self.pipeline.episodes()
        self.window: EpisodeData

    @property
    def updates(self) -> float:
        """How many are made for a vector step."""
        settings = self.settings
        if isinstance(settings, PPO):
            return settings.epochs / settings.minibatch * settings.num_envs
        return settings.updates / settings.train_every * settings.num_envs

    def train(self, warm_up: int) -> Times:
        """Train, and time the windows after so many steps."""
        while warm_up > 0:
            self._timed_window()
            warm_up -= self.window.num_steps
        return min((self._timed_window() for _ in range(WINDOWS)), key=lambda times: times.total)

    def collect(self) -> float:
        """Return microseconds of a vector step without learning."""
        next(self._windows)
        return min(self._timed_window(learns=False).collecting for _ in range(2 * WINDOWS))

    def _timed_window(self, learns: bool = True) -> Times:
        begun = time.perf_counter()
        self.window = next(self._windows)
        collected = time.perf_counter()
        if learns:
            self.agent.learn(self.window)
        ended = time.perf_counter()
        scale = 1e6 / self.window_size
        return Times((ended - begun) * scale, (collected - begun) * scale)


def _agent_of(settings: Settings) -> tuple[str, dict[str, Any]]:
    if isinstance(settings, PPO):
        return "ppo", ppo_hyperparams(settings)
    if isinstance(settings, DQN):
        return "dqn", dqn_hyperparams(settings)
    return "sac", sac_hyperparams(settings)
