"""Hyperparameters that follow a function of the progress of a run: every agent, in every framework."""

from __future__ import annotations

import copy
import json
import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix import HyperparamSet
from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.core.ensemble_agent import EnsembleAgent
from tensor_optix.core.evolution.variants import vary
from tensor_optix.core.policy_manager import PolicyManager
from tensor_optix.trials.space import space_of
from tests.algorithms import small_dqn, small_generic, small_ppo, small_sac, small_td3
from tests.frameworks import framework_engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.frameworks import Framework

SMALL = {"ppo": small_ppo, "dqn": small_dqn, "sac": small_sac, "td3": small_td3}
MOVED_IN_UPDATES: dict[str, tuple[str, Callable[[float], float]]] = {
    "ppo": ("clip_ratio", lambda progress: 0.2 * progress),
    "dqn": ("max_grad_norm", lambda progress: 10.0 * progress),
    "sac": ("tau", lambda progress: 0.01 * progress),
    "td3": ("tau", lambda progress: 0.01 * progress),
}
"""What each algorithm takes into its updates anew with every window."""


def linear(progress: float) -> float:
    return 3e-4 * progress


def params_of(agent: Any, *names: str) -> list[Any]:
    params = agent.get_hyperparams().params
    return [params[name] for name in names]


@pytest.fixture(params=SMALL)
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestEveryAgent:
    """What an agent does with its schedules, whatever it learns by."""

    @pytest.fixture
    def make(self, algorithm: str, framework: Framework) -> Callable[..., Any]:
        return lambda **params: SMALL[algorithm].make_agent(framework=framework, **params)

    def test_it_begins_at_1_and_follows_the_progress_it_is_told(self, make):
        agent = make(learning_rate=linear, gamma=lambda progress: 0.9 + 0.09 * progress)
        assert params_of(agent, "learning_rate", "gamma") == pytest.approx([3e-4, 0.99])
        agent.set_progress(0.5)
        assert params_of(agent, "learning_rate", "gamma") == pytest.approx([1.5e-4, 0.945])
        agent.set_progress(1.0)
        assert params_of(agent, "learning_rate") == pytest.approx([3e-4])

    def test_what_it_tells_are_numbers(self, make):
        agent = make(learning_rate=linear, batch_share=lambda progress: np.float32(progress))
        params = agent.get_hyperparams().params
        assert json.loads(json.dumps(params)) == params
        assert params["batch_share"] == 1.0

    def test_it_learns_like_one_that_was_given_the_numbers(self, make, algorithm):
        name, schedule = MOVED_IN_UPDATES[algorithm]
        schedules = {name: schedule, "learning_rate": linear, "gamma": lambda left: 0.9 + left / 20}
        follows, is_told = make(**schedules), make()
        for progress in (1.0, 0.7, 0.4, 0.1):
            follows.set_progress(progress)
            numbers = {name: schedule(progress) for name, schedule in schedules.items()}
            is_told.set_hyperparams(HyperparamSet(numbers))
            episode = SMALL[algorithm].make_episode()
            assert follows.learn(episode) == is_told.learn(episode)

    def test_a_linear_schedule_to_0_is_above_0_to_the_end(self, make):
        agent = make(learning_rate=linear, weight=lambda progress: progress)
        agent.set_progress(0.0)
        assert params_of(agent, "learning_rate", "weight") == pytest.approx([3e-10, 1e-6])

    def test_it_says_which_names_are_the_schedules(self, make):
        assert make().scheduled_params == frozenset()
        agent = make(learning_rate=linear, weight=lambda progress: progress)
        assert agent.scheduled_params == {"learning_rate", "weight"}

    def test_numbers_that_are_set_hold_until_it_is_told_the_progress(self, make):
        """As when the best policy comes back with the hyperparameters that were in force then."""
        agent = make(learning_rate=linear)
        agent.set_hyperparams(HyperparamSet({"learning_rate": 1e-3}))
        assert params_of(agent, "learning_rate") == pytest.approx([1e-3])
        agent.set_progress(0.5)
        assert params_of(agent, "learning_rate") == pytest.approx([1.5e-4])

    def test_a_schedule_can_come_later_and_takes_the_place_of_another(self, make):
        agent = make(learning_rate=linear)
        agent.set_progress(0.5)
        agent.set_hyperparams(HyperparamSet({"learning_rate": lambda progress: 1e-2 * progress}))
        assert params_of(agent, "learning_rate") == pytest.approx([5e-3])
        agent.set_progress(0.25)
        assert params_of(agent, "learning_rate") == pytest.approx([2.5e-3])

    def test_a_step_that_was_reduced_stays_reduced(self, make):
        agent = make(learning_rate=linear)
        agent.reduce_step()
        agent.reduce_step()
        assert params_of(agent, "learning_rate") == pytest.approx([7.5e-5])
        agent.set_progress(0.5)
        assert params_of(agent, "learning_rate") == pytest.approx([3.75e-5])

    def test_a_state_that_is_read_leaves_the_schedule_where_it_is(self, make, tmp_path: Path):
        agent = make(learning_rate=linear)
        agent.save_state(tmp_path / "state")
        agent.set_progress(0.5)
        agent.load_state(tmp_path / "state")
        agent.set_progress(0.25)
        assert params_of(agent, "learning_rate") == pytest.approx([7.5e-5])

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (math.nan, "learning_rate must be a finite number, got nan"),
            (-0.1, "learning_rate must be positive, got -0.1"),
            ("high", "learning_rate must be a finite number, got 'high'"),
            (None, "learning_rate must be a finite number, got None"),
            (True, "learning_rate must be a finite number, got True"),
        ],
    )
    def test_a_value_out_of_range_is_named_and_changes_nothing(self, make, value, said):
        agent = make(learning_rate=lambda progress: 0.1 if progress != 0.25 else value)
        agent.set_progress(0.5)
        with pytest.raises(ValueError, match=r"^the schedule of learning_rate") as refused:
            agent.set_progress(0.25)
        assert str(refused.value) == (
            "the schedule of learning_rate failed with 0.25 of the run left: " + said
        )
        assert params_of(agent, "learning_rate") == pytest.approx([0.1])

    @pytest.mark.parametrize("schedule", [lambda left: -left, lambda left: left - 0.5])
    def test_both_its_ends_are_tried_when_the_agent_is_made(self, make, schedule):
        with pytest.raises(ValueError, match=r"gamma failed with (1|1e-06) of the run left: gamma"):
            make(gamma=schedule)

    def test_a_function_of_something_else_is_refused_when_the_agent_is_made(self, make):
        with pytest.raises(ValueError, match=r"^the schedule of gamma failed with 1 of the run"):
            make(gamma=lambda: 0.9)

    def test_a_slip_in_the_name_of_a_schedule_is_one(self, make):
        with pytest.raises(ValueError, match=r"^unknown hyperparameter 'gama'; did you mean"):
            make(gama=lambda progress: progress)

    @pytest.mark.parametrize("remaining", [-0.1, 1.1, math.nan])
    def test_a_progress_that_is_no_share_is_refused(self, make, remaining):
        with pytest.raises(ValueError, match=r"^remaining must be in \[0, 1\]"):
            make().set_progress(remaining)

    def test_variants_and_searches_leave_it_alone(self, make):
        agent = make(learning_rate=linear)
        before = params_of(agent, "learning_rate")
        vary(agent, 0.1, (1.0, 1))
        assert params_of(agent, "learning_rate") == before
        assert "learning_rate" not in space_of(agent)
        assert "gamma" in space_of(agent)


@pytest.mark.parametrize("small", [small_sac, small_td3])
def test_the_optimizers_keep_their_ratio(small, framework):
    agent = small.make_agent(framework=framework, learning_rate=linear)
    actor, critic = (agent._optimizers[f"{name}_optimizer"] for name in ("actor", "critic"))
    framework.backend.set_learning_rate(critic, 9e-4)
    for progress in (0.7, 0.1, 0.0, 1.0):
        agent.set_progress(progress)
        rates = [framework.backend.learning_rate(one) for one in (actor, critic)]
        assert rates[1] == pytest.approx(3.0 * rates[0])


def test_it_may_move_any_number_whole_ones_included():
    agent = small_ppo.make_agent(n_epochs=lambda progress: 1 + round(4 * progress))
    agent.set_progress(0.5)
    assert params_of(agent, "n_epochs") == [3]
    assert isinstance(params_of(agent, "n_epochs")[0], int)
    with pytest.raises(ValueError, match=r"n_epochs must be a whole number of at least 1, got 7.5"):
        small_ppo.make_agent(n_epochs=lambda progress: 7.5)


@pytest.mark.parametrize("name", ["replay_capacity", "n_step"])
def test_what_the_rows_in_the_replay_depend_on_follows_none(name):
    with pytest.raises(ValueError, match=f"^{name} cannot follow a schedule"):
        small_dqn.make_agent(**{name: lambda progress: 1000})


def test_a_class_is_no_schedule():
    with pytest.raises(ValueError, match=r"hyperparams\['layer'\] must be a number, string"):
        small_ppo.make_agent(layer=dict)


def test_the_exponent_of_importance_weights_comes_to_the_replay():
    agent = small_dqn.make_agent(per_alpha=0.6, per_beta=lambda left: 1.0 - 0.6 * left)
    agent.learn(small_dqn.make_episode())
    agent.set_progress(0.5)
    assert agent._replay._beta == pytest.approx(0.7)


class TestEpsilon:
    """DQN has a schedule of its own for epsilon, which gives way."""

    def agent(self, **params: Any) -> Any:
        return small_dqn.make_agent(epsilon=lambda left: max(0.1, 2.0 * left - 1.0), **params)

    @pytest.mark.parametrize("own", [{}, {"epsilon_decay_steps": 50}])
    def test_the_agents_own_decay_leaves_it_alone(self, own):
        agent = self.agent(**own)
        agent.set_progress(0.75)
        assert agent.learn(small_dqn.make_episode())["epsilon"] == 0.5

    def test_exploration_is_over_once_it_is_where_it_ends(self):
        agent = self.agent()
        assert agent.is_exploring
        agent.set_progress(0.6)
        assert agent.is_exploring
        agent.set_progress(0.5)
        assert not agent.is_exploring


def test_schedulers_of_the_optimizer_keep_working(torch_framework):
    torch = pytest.importorskip("torch")
    agent = small_ppo.make_agent(clip_ratio=lambda progress: 0.2 * progress)
    scheduler = torch.optim.lr_scheduler.StepLR(agent._optimizers["optimizer"], 1, gamma=0.5)
    agent.learn(small_ppo.make_episode())
    scheduler.step()
    agent.set_progress(0.5)
    assert params_of(agent, "learning_rate", "clip_ratio") == pytest.approx([5e-4, 0.1])


def test_a_scheduler_that_has_come_down_to_0_stays_there(torch_framework):
    torch = pytest.importorskip("torch")
    agent = small_ppo.make_agent(clip_ratio=lambda progress: 0.2 * progress)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        agent._optimizers["optimizer"], lambda step: 1.0 - step
    )
    agent.learn(small_ppo.make_episode())
    scheduler.step()
    agent.set_progress(0.5)
    assert params_of(agent, "learning_rate", "clip_ratio") == pytest.approx([0.0, 0.1])


def test_schedules_of_keras_keep_working(tensorflow_framework):
    keras = pytest.importorskip("keras")
    decay = keras.optimizers.schedules.PiecewiseConstantDecay([1], [1e-2, 1e-3])
    framework = tensorflow_framework
    actor, critic = (framework.perceptron((4, 8, outputs)) for outputs in (3, 1))
    schedule = {"clip_ratio": lambda progress: 0.2 * progress}
    optimizer = keras.optimizers.SGD(decay)
    agent = framework.PPO(actor, critic, optimizer, HyperparamSet(schedule), device="cpu")
    agent.learn(small_ppo.make_episode())
    agent.set_progress(0.5)
    assert params_of(agent, "learning_rate", "clip_ratio") == pytest.approx([1e-3, 0.1])


@pytest.mark.parametrize("algorithm", SMALL)
def test_nothing_is_traced_anew_in_tensorflow(algorithm, tensorflow_framework):
    name, schedule = MOVED_IN_UPDATES[algorithm]
    params = {name: schedule, "learning_rate": linear, "gamma": lambda left: 0.9 + 0.09 * left}
    with framework_engine():
        agent = SMALL[algorithm].make_agent(framework=tensorflow_framework, **params)
    for progress in (1.0, 0.7, 0.4, 0.1):
        agent.set_progress(progress)
        agent.learn(SMALL[algorithm].make_episode())
    loop = agent._epoch if algorithm == "ppo" else agent._loop
    assert loop.trace_count == 1


@pytest.mark.parametrize("normalize_rewards", [False, True])
def test_ready_made_agents_take_them(framework, normalize_rewards):
    agent = make_agent(
        "CartPole-v1",
        framework=framework.name,
        hyperparams=HyperparamSet({"learning_rate": linear, "gamma": lambda left: 1.0 - left / 9}),
        normalize_rewards=normalize_rewards,
    )
    assert agent.scheduled_params == {"learning_rate", "gamma"}
    agent.set_progress(0.5)
    assert params_of(agent, "learning_rate") == pytest.approx([1.5e-4])


def test_a_schedule_that_does_not_fit_is_refused_by_ready_made_agents_too():
    with pytest.raises(ValueError, match=r"^the schedule of clip_ratio failed with 1 of the run"):
        make_agent("CartPole-v1", hyperparams=HyperparamSet({"clip_ratio": lambda left: -left}))


def test_a_copy_of_a_set_of_hyperparameters_holds_the_same_schedules():
    given = HyperparamSet({"learning_rate": linear})
    assert given.copy().params == given.params
    assert copy.deepcopy(given).params == given.params


def test_a_variant_of_an_agent_without_bounds_keeps_to_the_schedule():
    agent = small_generic.make_agent(params={"learning_rate": linear, "weight": 2.0})
    vary(agent, 0.1, (1.0, 1))
    weight, rate = params_of(agent, "weight", "learning_rate")
    assert rate == pytest.approx(3e-4)
    assert weight != 2.0


def test_every_agent_of_an_ensemble_is_told_the_progress(tmp_path: Path):
    from tensor_optix.core.checkpoint_registry import CheckpointRegistry

    first, second = (small_ppo.make_agent(seed, learning_rate=linear) for seed in (0, 1))
    manager = PolicyManager(CheckpointRegistry(tmp_path))
    manager.add_agent(first)
    manager.add_agent(second)
    ensemble = EnsembleAgent(manager, first)
    assert ensemble.scheduled_params == {"learning_rate"}
    ensemble.set_progress(0.5)
    assert [params_of(agent, "learning_rate") for agent in (first, second)] == [[1.5e-4]] * 2


def test_what_is_carried_along_is_still_named_once(caplog):
    caplog.set_level(logging.INFO, "tensor_optix")
    agent = small_ppo.make_agent(weight=lambda progress: progress)
    agent.set_progress(0.5)
    messages = [record.getMessage() for record in caplog.records]
    assert [message for message in messages if "carried along" in message] == [
        "hyperparameters that TorchPPOAgent does not know are carried along for your own code: weight"
    ]
