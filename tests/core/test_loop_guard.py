"""Learning that breaks down: what is not finite never acts, and nothing already reached is lost."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.core.scripted_loop import EVERY_WINDOW, Setup
from tests.scripted import CountingAgent


class Breaking(CountingAgent):
    """Its learning breaks down in the given calls, until its step was reduced often enough."""

    def __init__(self, breaks_at: set[int], weights: bool = True, steps_needed: int = 1) -> None:
        super().__init__()
        self.breaks_at = breaks_at
        self.in_weights = weights
        self.steps_needed = steps_needed
        self.reductions = 0
        self.is_broken = False
        self.acted_broken = False
        self.calls = 0

    def learn(self, episode_data: Any) -> dict[str, Any]:
        self.acted_broken |= self.is_broken
        super().learn(episode_data)
        self.calls += 1
        breaks = self.calls in self.breaks_at and self.reductions < self.steps_needed
        self.is_broken = breaks and self.in_weights
        return {"policy_loss": math.nan if breaks and not self.in_weights else 0.5}

    def load_weights(self, path: Any) -> None:
        super().load_weights(path)
        self.is_broken = False

    def has_finite_weights(self) -> bool:
        return not self.is_broken

    def reduce_step(self) -> None:
        self.reductions += 1
        self.params["learning_rate"] /= 2.0


def rising(updates: int, window: int) -> float:
    return float(updates)


@pytest.mark.parametrize("in_weights", [True, False])
def test_a_breakdown_restores_the_best_policy_and_learns_on_in_smaller_steps(tmp_path, in_weights):
    agent = Breaking({6}, in_weights)
    setup = Setup(tmp_path, rising, agent, scheduler=EVERY_WINDOW, max_episodes=12).run()
    assert agent.reductions == 1
    assert not agent.acted_broken
    events = [event for event in setup.diary.events if event.kind == "recovered"]
    assert len(events) == 1
    assert events[0].numbers["hyperparams"]["learning_rate"] == pytest.approx(0.05)
    # Learn call 6 is undone: the policy of 5 updates is the best then.
    assert setup.controller.best_snapshot.eval_metrics.primary_score == 10.0


def test_steps_go_on_getting_smaller_while_learning_goes_on_breaking(tmp_path):
    agent = Breaking({4, 5, 6}, steps_needed=3)
    Setup(tmp_path, rising, agent, scheduler=EVERY_WINDOW, max_episodes=12).run()
    assert agent.reductions == 3
    # The best policy of all was found after the last reduction, and comes with its learning rate.
    assert agent.params["learning_rate"] == pytest.approx(0.1 / 8)


def test_a_breakdown_between_two_evaluations_is_noticed_before_the_next_action(tmp_path):
    agent = Breaking({14})
    setup = Setup(tmp_path, lambda u, w: 1.0, agent, max_episodes=18).run()
    assert agent.reductions == 1
    assert not agent.acted_broken
    assert "recovered" in setup.diary.kinds()


def test_with_no_policy_to_go_back_to_the_run_ends_and_says_what_to_do(tmp_path):
    agent = Breaking({1})
    setup = Setup(tmp_path, lambda u, w: math.nan, agent, max_episodes=5)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        setup.run()


def test_the_first_windows_policy_is_enough_to_go_back_to(tmp_path):
    agent = Breaking({1})
    Setup(tmp_path, rising, agent, scheduler=EVERY_WINDOW, max_episodes=5).run()
    assert agent.reductions == 1
    assert agent.updates == 3
