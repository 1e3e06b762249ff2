"""How much of a run is left: who is told, when, and what becomes of schedules that follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import pytest

from tensor_optix import BatchPipeline, HyperparamSet, RLOptimizer
from tensor_optix.core.base_optimizer import FixedHyperparams
from tensor_optix.core.callbacks import LoopCallback
from tensor_optix.optimizers.diagnostic_controller import DiagnosticController
from tensor_optix.optimizers.spsa_optimizer import SPSAOptimizer
from tests.algorithms import small_dqn, small_ppo
from tests.core.scripted_loop import EVERY_WINDOW, Setup
from tests.scripted import CountingAgent, ScriptedPipeline

if TYPE_CHECKING:
    from tensor_optix.core.types import EpisodeData


class Listening(CountingAgent):
    """Follows a schedule, and notes what it is told before each window is learned from."""

    scheduled_params = frozenset({"learning_rate"})

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []
        self.diagnostics: dict[str, Any] = {}

    def set_progress(self, remaining: float) -> None:
        self.told.append(round(remaining, 6))
        self.params["learning_rate"] = 0.1 * remaining

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        self.told.append("learn")
        super().learn(episode_data)
        return self.diagnostics


class TenSteps(ScriptedPipeline):
    """Windows of ten steps."""

    def window(self, window: int) -> EpisodeData:
        episode = super().window(window)
        for name in ("observations", "actions", "rewards", "terminated", "truncated", "infos"):
            setattr(episode, name, [*getattr(episode, name)] * 10)
        return episode


def rising(updates: int, window: int) -> float:
    return float(window)


def told(tmp_path: Any, **options: Any) -> list[Any]:
    return Setup(tmp_path, rising, Listening(), **options).run().agent.told


def test_it_is_told_before_each_window_beginning_with_1(tmp_path):
    assert told(tmp_path, max_episodes=4) == [
        1.0, "learn", 0.75, "learn", 0.5, "learn", 0.25, "learn",
    ]  # fmt: skip


def test_it_is_told_before_the_window_is_collected(tmp_path):
    """Agents that learn while collecting have the schedule's value from its first row on."""

    class Watching(ScriptedPipeline):
        def window(self, window: int) -> EpisodeData:
            assert self.agent is not None
            seen.append(self.agent.params["learning_rate"])
            return super().window(window)

    seen: list[float] = []
    Setup(tmp_path, rising, Listening(), pipeline=Watching(rising), max_episodes=2).run()
    assert seen == [0.1, 0.05]


def test_steps_count_like_windows(tmp_path):
    shares = told(tmp_path, pipeline=TenSteps(rising), max_steps=40)
    assert [one for one in shares if one != "learn"] == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize(
    ("caps", "last"),
    [({"max_steps": 100, "max_episodes": 4}, 0.25), ({"max_steps": 40, "max_episodes": 99}, 0.25)],
)
def test_the_cap_that_is_nearer_its_end_counts(tmp_path, caps, last):
    shares = told(tmp_path, pipeline=TenSteps(rising), **caps)
    assert shares[-2:] == [last, "learn"]


def test_a_second_run_has_a_budget_of_its_own(tmp_path):
    setup = Setup(tmp_path, rising, Listening(), max_episodes=2).run()
    setup.agent.told.clear()
    setup.run()
    assert setup.agent.told == [1.0, "learn", 0.5, "learn"]


def test_another_agent_is_told_as_soon_as_it_is_the_one_that_is_trained(tmp_path):
    class Handing(LoopCallback):
        def on_attach(self, control: Any) -> None:
            self.control = control

        def on_episode_end(self, episode_id: int, eval_metrics: Any) -> None:
            if episode_id == 1:
                self.control.train(other)

    other = Listening()
    Setup(tmp_path, rising, Listening(), callbacks=[Handing()], max_episodes=4).run()
    assert other.told == [0.5, "learn", 0.25, "learn"]


def test_a_schedule_without_an_end_is_refused_before_the_first_step(tmp_path):
    setup = Setup(tmp_path, rising, Listening())
    with pytest.raises(ValueError, match=r"^learning_rate") as refused:
        setup.run()
    assert str(refused.value) == (
        "learning_rate follows a schedule over the run, so the run needs an end: give max_steps= or "
        "max_episodes="
    )
    assert setup.pipeline.setups == setup.pipeline.collected == 0
    assert not setup.diary.events


def test_an_agent_without_schedules_needs_no_end(tmp_path):
    setup = Setup(tmp_path, lambda u, w: 1.0, scheduler={"dormant_threshold": 2}).run()
    assert setup.agent.learned


class Greedy(FixedHyperparams):
    """Asks for another value of everything that it sees."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def suggest(self, current_hyperparams: HyperparamSet, metrics_history: Any) -> HyperparamSet:
        self.seen.append(dict(current_hyperparams.params))
        params = {name: 2.0 * value for name, value in current_hyperparams.params.items()}
        return HyperparamSet(params | {"learning_rate": 7.0})


def test_a_tuner_neither_sees_nor_moves_what_follows_a_schedule(tmp_path):
    agent, tuner = Listening(), Greedy()
    agent.params["gamma"] = 0.5
    setup = Setup(
        tmp_path, rising, agent, optimizer=tuner, max_episodes=8, scheduler=EVERY_WINDOW
    ).run()
    assert len(tuner.seen) > 1
    assert all(seen.keys() == {"gamma"} for seen in tuner.seen)
    tuned = [event for event in setup.diary.events if event.kind == "tuned"]
    assert tuned
    for event in tuned:
        assert event.asked["learning_rate"] == event.before["learning_rate"] <= 0.1
        assert event.effective["gamma"] == 2.0 * event.before["gamma"]


def test_corrections_leave_it_alone_too(tmp_path):
    """A learning rate that the alarm of a large KL would halve."""
    agent = Listening()
    agent.diagnostics = {"approx_kl": 9.0}
    Setup(
        tmp_path,
        rising,
        agent,
        optimizer=DiagnosticController(bounds={"learning_rate": (1e-6, 1.0)}, min_episodes=1),
        max_episodes=8,
        scheduler=EVERY_WINDOW,
        callbacks=[seen := InForce(agent, "learning_rate")],
    ).run()
    assert seen.values == pytest.approx([0.1 * (8 - k) / 8 for k in range(8)])


def cartpole(agent: Any, directory: Any, **options: Any) -> RLOptimizer:
    pipeline = BatchPipeline(gymnasium.make("CartPole-v1"), agent, 32)
    options = {"checkpoint_dir": directory, "base_interval": 1, "seed": 0, "finalists": 0} | options
    return RLOptimizer(agent, pipeline, **options)


class InForce(LoopCallback):
    """Notes a hyperparameter after each window."""

    def __init__(self, agent: Any, name: str) -> None:
        self.agent, self.name = agent, name
        self.values: list[float] = []

    def on_episode_end(self, episode_id: int, eval_metrics: Any) -> None:
        self.values.append(self.agent.get_hyperparams().params[self.name])


@pytest.mark.parametrize("small", [small_ppo, small_dqn], ids=["on-policy", "while collecting"])
def test_a_run_follows_the_schedules_of_its_agent(small, framework, tmp_path):
    options = {"num_actions": 2} if small is small_ppo else {}
    agent = small.make_agent(
        framework=framework, learning_rate=lambda progress: 1e-3 * progress, **options
    )
    seen = InForce(agent, "learning_rate")
    # With bounds that name it, the user's own tuner leaves it alone.
    tuner = SPSAOptimizer({"learning_rate": (1e-5, 1e-1), "gamma": (0.9, 0.999)}, seed=0)
    run = cartpole(agent, tmp_path, max_episodes=20, callbacks=[seen], optimizer=tuner)
    run.run()
    assert seen.values == pytest.approx([1e-3 * (20 - k) / 20 for k in range(20)], rel=1e-6)
    assert run.best_snapshot is not None
    # What an agent counts down by itself is that of the end.
    kept, in_force = run.best_snapshot.hyperparams.params, agent.get_hyperparams().params
    assert kept | {"epsilon": 0.0} == in_force | {"epsilon": 0.0}


def test_the_schedule_goes_on_from_the_progress_of_the_run_after_the_best_came_back(tmp_path):
    class Breaking(LoopCallback):
        def on_episode_end(self, episode_id: int, eval_metrics: Any) -> None:
            if episode_id == 3:
                agent.perturb_weights(float("nan"))

    agent = small_ppo.make_agent(num_actions=2, learning_rate=lambda progress: 1e-3 * progress)
    seen = InForce(agent, "learning_rate")
    cartpole(agent, tmp_path, max_steps=320, callbacks=[Breaking(), seen]).run()
    assert seen.values[:4] == pytest.approx([1e-3, 9e-4, 8e-4, 7e-4])
    # Learning broke down in the fifth window: from there on steps are half of what the schedule says.
    assert seen.values[4:] == pytest.approx([3e-4, 2.5e-4, 2e-4, 1.5e-4, 1e-4, 5e-5])


def test_a_schedule_that_fails_on_the_way_ends_the_run_in_one_line(tmp_path):
    agent = small_ppo.make_agent(
        num_actions=2, clip_ratio=lambda progress: 0.2 if progress != 0.5 else -0.2
    )
    said = (
        "^the schedule of clip_ratio failed with 0.5 of the run left: clip_ratio must be positive"
    )
    with pytest.raises(ValueError, match=said):
        cartpole(agent, tmp_path, max_episodes=4).run()
