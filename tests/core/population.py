"""Agents whose skill is what they act by, and a loop in which they evolve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tensor_optix.core.policy_manager import PolicyManager
from tests.core.scripted_loop import EVERY_WINDOW, Setup
from tests.scripted import CountingAgent, ScriptedPipeline

if TYPE_CHECKING:
    from tensor_optix.core.types import EpisodeData

START = 10


class Talent(CountingAgent):
    """Gets one better with each update, up to its talent; its action is its skill."""

    default_param_bounds: ClassVar[Any] = {"learning_rate": (0.01, 1.0)}
    default_log_params: ClassVar[Any] = ("learning_rate",)

    def __init__(self, talent: int) -> None:
        super().__init__()
        self.talent = talent

    @property
    def skill(self) -> int:
        return START + min(self.updates, self.talent)

    def act(self, observation: Any) -> int:
        return self.skill


class Arena(ScriptedPipeline):
    """One episode per window, which pays what the action says; `luck` is added for agents in training."""

    def __init__(self, is_live: bool = False) -> None:
        super().__init__(lambda skill, window: float(skill))
        self.luck: dict[Any, float] = {}
        self.trained: list[Any] = []
        self._is_live = is_live

    @property
    def is_live(self) -> bool:
        return self._is_live

    def window(self, window: int) -> EpisodeData:
        assert self.agent is not None
        episode = super().window(window)
        skill = float(np.asarray(self.agent.act(np.zeros(1))))
        episode.rewards = [skill + self.luck.get(self.agent, 0.0)]
        if isinstance(self.agent, Talent) and self.agent not in self.trained:
            self.trained.append(self.agent)
        return episode


class Evolution:
    """A loop over `Talent`s: the first one, then one per talent given."""

    def __init__(self, directory: Any, talents: list[int], first: int = 3, **options: Any) -> None:
        manager_options = options.pop("manager", {"max_spawns": len(talents)})
        self.first = options.pop("agent", None) or Talent(first)
        self.arena = options.pop("arena", None) or Arena(is_live=options.pop("is_live", False))
        self.made: list[Talent] = []
        self.talents = list(talents)
        self.luck = options.pop("luck", {})
        self.scheduler = EVERY_WINDOW | {"plateau_threshold": 2, "dormant_threshold": 6}
        self.setup = Setup(
            directory,
            None,
            self.first,
            pipeline=self.arena,
            scheduler=self.scheduler,
            **({"max_episodes": 400} | options),
        )
        self.manager = PolicyManager(self.setup.registry, **manager_options)

    def make(self) -> Talent:
        number = len(self.made)
        variant = Talent(self.talents[number % len(self.talents)])
        self.made.append(variant)
        self.arena.luck[variant] = self.luck.get(number, 0.0)
        return variant

    def run(self, agent: Any = None, factory: Any = None, meta: Any = None) -> Evolution:
        callback = self.manager.as_callback(agent or self.first, factory or self.make, meta)
        self.setup.controller.add_callback(callback)
        self.setup.run()
        return self

    @property
    def stop_reason(self) -> str:
        return str(self.setup.diary.events[-1].numbers["reason"])
