"""Hyperparameters of the user's own: carried along everywhere, and told from slips of known names."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gymnasium
import pytest

from tensor_optix import BatchPipeline, HyperparamSet, RLOptimizer, TrialOrchestrator
from tensor_optix.algorithms.dqn import DQNHyperparams
from tensor_optix.algorithms.network_agent import Hyperparams
from tensor_optix.algorithms.ppo import PPOHyperparams
from tests.algorithms import small_dqn, small_generic, small_ppo

if TYPE_CHECKING:
    from pathlib import Path

OWN = {"hidden": 32, "activation": "tanh", "sizes": [64, 64], "lookback": None}


@pytest.mark.parametrize("make", [small_ppo.make_agent, small_dqn.make_agent])
def test_they_are_carried_along(make, framework):
    agent = make(framework=framework, gamma=0.9, **OWN)
    assert OWN.items() <= agent.get_hyperparams().params.items()
    agent.set_hyperparams(HyperparamSet({"hidden": 16, "learning_rate": 0.01}))
    params = agent.get_hyperparams().params
    assert (params["hidden"], params["activation"], params["gamma"]) == (16, "tanh", 0.9)


def test_what_the_agent_hands_out_is_a_copy():
    agent = small_ppo.make_agent(hidden=32)
    agent.get_hyperparams().params["hidden"] = 1
    assert agent.get_hyperparams().params["hidden"] == 32


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        (PPOHyperparams, "learning_rat", "learning_rate"),
        (PPOHyperparams, "Gamma", "gamma"),
        (PPOHyperparams, "gamma_", "gamma"),
        (PPOHyperparams, "entropy_coeff", "entropy_coef"),
        (PPOHyperparams, "ent_coef", "entropy_coef"),
        (PPOHyperparams, "epochs", "n_epochs"),
        (PPOHyperparams, "batch_size", "minibatch_size"),
        (DQNHyperparams, "epsilon_end", "epsilon_min"),
    ],
)
def test_a_slip_of_a_known_name_is_refused(kind, name, meant):
    said = f"^unknown hyperparameter '{name}'; did you mean '{meant}'\\?$"
    with pytest.raises(ValueError, match=said):
        kind.from_params({name: 0.1})


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (PPOHyperparams, "hidden"),
        (PPOHyperparams, "n_layers"),
        (PPOHyperparams, "learning_rate_end"),
        (PPOHyperparams, "actor_learning_rate"),
        (PPOHyperparams, "dropout"),
        (PPOHyperparams, "own"),
        (DQNHyperparams, "weight_decay"),
        (Hyperparams, "clip_ratio"),
        (Hyperparams, "entropy_coeff"),
    ],
)
def test_a_name_of_ones_own_is_none(kind, name):
    assert kind.from_params({name: 7}).params[name] == 7


def test_what_no_checkpoint_can_hold_is_refused_before_the_first_step():
    with pytest.raises(ValueError, match=r"hyperparams\['layer'\] must be a number, string"):
        small_ppo.make_agent(layer=object())


def test_a_known_one_must_still_be_a_number():
    with pytest.raises(ValueError, match="gamma must be a number, got 'high'"):
        small_ppo.make_agent(gamma="high")


def test_they_are_named_once(caplog):
    caplog.set_level(logging.INFO, "tensor_optix")
    agent = small_ppo.make_agent(hidden=32)
    agent.set_hyperparams(HyperparamSet({"hidden": 16}))
    messages = [record.getMessage() for record in caplog.records]
    assert [message for message in messages if "carried along" in message] == [
        "hyperparameters that TorchPPOAgent does not know are carried along for your own code: hidden"
    ]


def test_they_read_like_a_set_of_hyperparameters():
    read = DQNHyperparams.from_params({"gamma": 0.9, "hidden": 32})
    assert (read.params["gamma"], read.params["hidden"], read.params["epsilon"]) == (0.9, 32, 1.0)
    assert read.copy().params == dict(read.params)
    assert replace(read, epsilon=0.5).params["hidden"] == 32
    with pytest.raises(TypeError):
        read.params["gamma"] = 0.5  # type: ignore[index]


def test_snapshots_hold_them_and_tuners_leave_them_alone(tmp_path: Path):
    agent = small_generic.make_agent(params={"gamma": 0.9} | OWN)
    pipeline = BatchPipeline(gymnasium.make("CartPole-v1"), agent, 64)
    run = RLOptimizer(agent, pipeline, checkpoint_dir=tmp_path, max_episodes=5, base_interval=1)
    run.run()
    assert run.best_snapshot is not None
    assert OWN.items() <= run.best_snapshot.hyperparams.params.items()
    assert OWN.items() <= agent.get_hyperparams().params.items()


def test_a_search_may_draw_them():
    pytest.importorskip("optuna")
    made = []

    def make(params: dict[str, Any]) -> Any:
        made.append(params["hidden"])
        return small_generic.make_agent(params=params)

    params, _ = TrialOrchestrator(
        agent_factory=make,
        pipeline_factory=lambda: BatchPipeline(env_id="CartPole-v1", n_steps=64),
        param_space={"gamma": ("float", 0.9, 0.99), "hidden": ("categorical", 16, 32)},
        n_trials=2,
        trial_steps=128,
        finalists=0,
    ).run()
    assert params["hidden"] in made
