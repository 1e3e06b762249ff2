"""A run whose hyperparameters are tuned goes on with the experiment that was under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from tensor_optix.optimizers.backoff_optimizer import BackoffOptimizer
from tensor_optix.optimizers.diagnostic_controller import DiagnosticController
from tensor_optix.optimizers.momentum_optimizer import MomentumOptimizer
from tensor_optix.optimizers.pbt_optimizer import PBTOptimizer
from tensor_optix.optimizers.spsa_optimizer import SPSAOptimizer
from tests.core.scripted_loop import EVERY_WINDOW, Setup
from tests.core.test_evolution_resumed import KeptBefore
from tests.core.test_resume import LastingPipeline, told
from tests.scripted import CountingAgent, KillAt, Killed

if TYPE_CHECKING:
    from pathlib import Path

    from tensor_optix.core.types import EpisodeData

WINDOWS = 60


class Tunable(CountingAgent):
    """Scores by its learning rate; its loss is a spike now and then."""

    default_param_bounds: ClassVar[Any] = {"learning_rate": (0.01, 1.0)}

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        super().learn(episode_data)
        return {"policy_loss": 100.0 if self.updates % 17 == 16 else 1.0}


class Tuned(LastingPipeline):
    """Pays by the learning rate, with noise that follows from the window."""

    def window(self, window: int) -> EpisodeData:
        episode = super().window(window)
        assert self.agent is not None
        noise = 0.2 * float(np.random.default_rng(window).normal())
        episode.rewards = [noise - 9.0 * (self.agent.params["learning_rate"] - 0.5) ** 2]
        return episode


def start(directory: Path, tuner: Any, window: int, resume: bool = False) -> Setup:
    return Setup(
        directory / "checkpoints",
        None,
        Tunable(),
        pipeline=Tuned(lambda updates, window: 0.0),
        optimizer=tuner,
        scheduler=EVERY_WINDOW | {"dormant_threshold": WINDOWS},
        callbacks=[KillAt(window)] if window and not resume else [],
        keeper=KeptBefore(directory, window, resume) if window else None,
        max_episodes=WINDOWS,
    )


@pytest.mark.parametrize(
    "make",
    [
        SPSAOptimizer,
        BackoffOptimizer,
        MomentumOptimizer,
        PBTOptimizer,
        lambda seed: DiagnosticController(SPSAOptimizer(seed=seed)),
    ],
)
def test_a_tuned_run_killed_in_any_window_ends_as_if_it_had_not_been(tmp_path, make):
    windows, events = told(start(tmp_path / "straight", make(seed=0), 0).run())
    assert sum(kind == "tuned" for kind, *_ in events) > 5
    for window in range(1, WINDOWS, 4):
        directory = tmp_path / str(window)
        with pytest.raises(Killed):
            start(directory, make(seed=0), window).run()
        rows, decisions = told(start(directory, make(seed=1), window, resume=True).run())
        assert rows == windows[window:]
        assert decisions[1:] == [one for one in events if one[1] >= window]
