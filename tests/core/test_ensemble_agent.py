from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.ensemble_agent import EnsembleAgent
from tensor_optix.core.loop_controller import LoopController
from tensor_optix.core.policy_manager import PolicyManager
from tensor_optix.core.types import HyperparamSet
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tests.core.ensemble_members import (
    OBSERVATION_SPACE,
    Mover,
    OffPolicy,
    Prober,
    Voter,
    ensemble_of,
    window,
)
from tests.core.scripted_loop import Setup

MANY = np.zeros((4000, 2), np.float32)


def test_discrete_actions_are_ints_of_the_action_space(tmp_path):
    ensemble = ensemble_of(tmp_path, Voter(0), Voter(2), space=Discrete(3))
    actions = [ensemble.act(np.zeros(2)) for _ in range(50)]
    assert all(type(action) is int and action in (0, 2) for action in actions)
    assert set(actions) == {0, 2}


def test_an_action_space_may_begin_elsewhere(tmp_path):
    ensemble = ensemble_of(tmp_path, Voter(5), Voter(7), space=Discrete(3, start=5))
    assert set(ensemble.act_batch(MANY).tolist()) == {5, 7}


def test_actions_are_drawn_from_the_mixed_probabilities(tmp_path):
    agents = Prober(0.8, 0.2, 0.0), Prober(0.0, 0.4, 0.6)
    ensemble = ensemble_of(tmp_path, *agents, weights=[3.0, 1.0], space=Discrete(3))
    ensemble.seed(0)
    shares = np.bincount(ensemble.act_batch(MANY), minlength=3) / len(MANY)
    np.testing.assert_allclose(shares, [0.6, 0.25, 0.15], atol=0.03)
    np.testing.assert_allclose(ensemble.action_probs(MANY[:1]), [[0.6, 0.25, 0.15]])


def test_greedy_is_the_most_probable_of_the_mixture_and_not_of_the_votes(tmp_path):
    """Two agents lean to 0 by a trifle, the third one is sure of 1."""
    agents = Prober(0.51, 0.49), Prober(0.51, 0.49), Prober(0.0, 1.0)
    ensemble = ensemble_of(tmp_path, *agents, space=Discrete(2))
    assert ensemble.act_greedy(MANY[:3]).tolist() == [1, 1, 1]


def test_an_agent_without_probabilities_counts_as_certain(tmp_path):
    ensemble = ensemble_of(
        tmp_path, Prober(0.6, 0.4), Voter(1), weights=[1.0, 0.5], space=Discrete(2)
    )
    assert ensemble.act_greedy(MANY[:1]).tolist() == [1]
    with pytest.raises(NotImplementedError, match="does not tell"):
        ensemble.action_probs(MANY[:1])


def test_continuous_actions_are_averaged_and_single_ones_keep_their_shape(tmp_path):
    ensemble = ensemble_of(
        tmp_path, Mover(0.0), Mover(1.0), weights=[1.0, 3.0], space=Box(-1.0, 1.0, (2,))
    )
    np.testing.assert_allclose(ensemble.act(np.zeros(2)), [0.75, 1.0])
    np.testing.assert_allclose(ensemble.act_greedy(MANY[:2]), [[0.75, 1.0]] * 2)
    assert ensemble.has_unit_actions


def test_without_a_known_space_the_first_actions_tell_what_kind_they_are(tmp_path):
    assert type(ensemble_of(tmp_path, Voter(0), Voter(1)).act(np.zeros(2))) is int
    mean = ensemble_of(tmp_path, Mover(0.0), Mover(1.0)).act(np.zeros(2))
    np.testing.assert_allclose(mean, [0.5, 1.0])


def test_a_batch_takes_one_call_per_agent(tmp_path):
    agents = Voter(0), Voter(1)
    ensemble_of(tmp_path, *agents, space=Discrete(2)).act_batch(MANY)
    assert [agent.batches for agent in agents] == [1, 1]


def test_a_single_agent_acts_by_itself_and_none_cannot(tmp_path):
    action = object()
    assert ensemble_of(tmp_path, Voter(action)).act(np.zeros(2)) is action
    empty = EnsembleAgent(PolicyManager(CheckpointRegistry(tmp_path)), Voter())
    with pytest.raises(RuntimeError, match="no agents"):
        empty.act(np.zeros(2))


def test_all_members_learn_and_the_primary_one_reports(tmp_path):
    agents = Voter(0), Voter(1)
    ensemble = ensemble_of(tmp_path, *agents, primary=agents[1])
    assert ensemble.learn(window([0, 1])) == {"by": 1}
    assert [agent.weights[0] for agent in agents] == [1.0, 1.0]


def test_what_a_member_raises_is_not_hidden(tmp_path):
    class Broken(Voter):
        def learn(self, episode_data):
            raise ArithmeticError("broken")

    with pytest.raises(ArithmeticError, match="broken"):
        ensemble_of(tmp_path, Voter(), Broken()).learn(window([0]))


def test_members_learn_with_the_probabilities_that_really_acted(tmp_path):
    agents = Prober(0.8, 0.2), Prober(0.0, 1.0)
    ensemble = ensemble_of(tmp_path, *agents, weights=[3.0, 1.0], space=Discrete(2))
    ensemble.learn(window([0, 1]))
    for agent in agents:
        np.testing.assert_allclose(np.exp(agent.log_probs[0]), [0.6, 0.4], rtol=1e-6)


def test_probabilities_that_the_window_tells_or_nobody_knows_stay_as_they_are(tmp_path):
    told = np.array([-1.0, -2.0], np.float32)
    agents = Prober(0.8, 0.2), Prober(0.0, 1.0)
    ensemble_of(tmp_path, *agents, space=Discrete(2)).learn(window([0, 1], log_probs=told))
    assert agents[0].log_probs[0] is told
    voters = Voter(0), Voter(1)
    ensemble_of(tmp_path, *voters, space=Discrete(2)).learn(window([0, 1]))
    assert voters[0].log_probs == [None]


def test_a_member_alone_acted_itself(tmp_path):
    agent = Prober(0.8, 0.2)
    ensemble_of(tmp_path, agent, space=Discrete(2)).learn(window([0]))
    assert agent.log_probs == [None]


def test_steps_checks_and_seeds_reach_every_member(tmp_path):
    agents = Voter(0), Voter(1)
    ensemble = ensemble_of(tmp_path, *agents)
    ensemble.observe("a step")
    assert [agent.observed for agent in agents] == [["a step"]] * 2
    ensemble.reduce_step()
    assert [agent.reduced for agent in agents] == [True, True]
    assert ensemble.has_finite_weights()
    agents[1].finite = False
    assert not ensemble.has_finite_weights()
    ensemble.seed(7)
    ensemble.seed(7)
    streams = [agent.seeds for agent in agents]
    assert streams[0][0] == streams[0][1] != streams[1][0]


def test_hyperparameters_are_the_primary_agents(tmp_path):
    agents = Voter(0), Voter(1)
    ensemble = ensemble_of(tmp_path, *agents, primary=agents[1])
    ensemble.set_hyperparams(HyperparamSet({"learning_rate": 0.5}))
    assert ensemble.get_hyperparams().params == {"learning_rate": 0.5}
    assert agents[0].get_hyperparams().params == {"learning_rate": 0.1}
    assert ensemble.policy_manager.agents == list(agents)


def test_what_may_be_tuned_is_the_primary_agents(tmp_path):
    class Tunable(Voter):
        default_param_bounds: ClassVar = {"learning_rate": (0.1, 1.0)}
        default_log_params = ("learning_rate",)
        default_min_episodes_before_dormant = 60

    ensemble = ensemble_of(tmp_path, Voter(), Tunable(), primary=Tunable())
    assert ensemble.default_param_bounds == {"learning_rate": (0.1, 1.0)}
    assert ensemble.default_log_params == ("learning_rate",)
    assert ensemble.default_min_episodes_before_dormant == 60


@pytest.mark.parametrize(
    ("other", "name"), [(OffPolicy(), "is_on_policy"), (Mover(), "has_unit_actions")]
)
def test_members_of_different_kinds_are_refused(tmp_path, other, name):
    with pytest.raises(ValueError, match=f"the same {name}: it is"):
        ensemble_of(tmp_path, Voter(), other)
    ensemble = ensemble_of(tmp_path, Voter())
    ensemble.policy_manager.add_agent(other)
    with pytest.raises(ValueError, match=f"the same {name}: it is"):
        ensemble.learn(window([0]))


def test_an_ensemble_of_off_policy_agents_is_one(tmp_path):
    assert not ensemble_of(tmp_path, OffPolicy(), OffPolicy()).is_on_policy


def test_action_spaces_that_cannot_be_mixed_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Discrete, MultiDiscrete, MultiBinary or Box"):
        ensemble_of(tmp_path, Voter(), space=Dict({"a": Discrete(2)}))
    ensemble = ensemble_of(tmp_path, Prober(0.5, 0.5), Prober(0.2, 0.3, 0.5), space=Discrete(3))
    with pytest.raises(ValueError, match="the same actions"):
        ensemble.act(np.zeros(2))


def test_a_discrete_environment_takes_the_actions(tmp_path):
    """Every step is a real one: no window is a row of failures."""
    ensemble = ensemble_of(tmp_path, Voter(0), Voter(1))
    pipeline = BatchPipeline(gymnasium.make("CartPole-v1"), ensemble, window_size=60, seed=0)
    pipeline.setup()
    episode = next(iter(pipeline.episodes()))
    pipeline.teardown()
    assert sum(episode.rewards) == 60
    assert set(np.asarray(episode.actions).tolist()) == {0, 1}


def test_a_subclass_that_overrides_act_is_asked_for_batches_too(tmp_path):
    class Shifted(EnsembleAgent):
        def act(self, observation):
            return 10 + super().act(observation)

    manager = ensemble_of(tmp_path, Prober(0.9, 0.1), Prober(0.8, 0.2)).policy_manager
    ensemble = Shifted(manager, manager.agents[0])
    ensemble.check_spaces(OBSERVATION_SPACE, Discrete(2))
    for act in (ensemble.act_batch, ensemble.act_greedy):
        assert set(act(MANY[:20]).tolist()) <= {10, 11}
    with pytest.raises(NotImplementedError, match="does not tell"):
        ensemble.action_probs(MANY[:1])


def test_it_satisfies_the_loop(tmp_path):
    ensemble = ensemble_of(tmp_path, Voter(0), Voter(1))
    pipeline = BatchPipeline(gymnasium.make("CartPole-v1"), ensemble, window_size=100, seed=0)
    setup = Setup(tmp_path / "loop", None, ensemble, pipeline=pipeline, max_episodes=3)
    assert isinstance(setup.run().controller, LoopController)
    assert setup.controller.best_snapshot is not None


def test_every_agent_hears_that_the_environments_begin_anew(tmp_path):
    class Beginner(Voter):
        begun = 0

        def begin_episodes(self):
            self.begun += 1

    agents = Beginner(0), Beginner(1)
    ensemble = ensemble_of(tmp_path, *agents, space=Discrete(2))
    pipeline = BatchPipeline(gymnasium.make("CartPole-v1"), ensemble, window_size=5)
    pipeline.setup()
    pipeline.restart()
    assert [agent.begun for agent in agents] == [2, 2]
