"""Ensembles whose actions are several choices, or are counted from elsewhere than 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete

from tensor_optix.core.base_optimizer import FixedHyperparams
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.evolution.members import Choices
from tensor_optix.core.policy_manager import PolicyManager
from tensor_optix.optimizer import RLOptimizer
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tests.algorithms.test_ppo_choices import make_agent
from tests.core.ensemble_members import OBSERVATION_SPACE, Voter, ensemble_of, window
from tests.pipeline.test_action_forms import Strict

OBSERVATIONS = np.zeros((4, 2), np.float32)
SPACE = MultiDiscrete([2, 3], start=[5, -1])


class RowVoter(Voter):
    """Always gives the same row of choices, counted from 0."""

    counts_from_zero = True

    def act_batch(self, observations: Any) -> Any:
        return np.tile(self.action, (len(observations), 1))

    act_greedy = act_batch


class RowProber(RowVoter):
    """Tells its probabilities, those of each choice side by side."""

    def __init__(self, *probs: float) -> None:
        super().__init__([0, 0])
        self.probs = np.array(probs)

    def action_probs(self, observations: Any) -> Any:
        return np.tile(self.probs, (len(observations), 1))


class OwnRowVoter(RowVoter):
    """Acts in the environment's own terms."""

    counts_from_zero = False


def test_each_choice_is_the_likeliest_by_itself(tmp_path):
    members = RowVoter([0, 2]), RowVoter([1, 2]), RowProber(0.2, 0.8, 0.0, 0.9, 0.1)
    ensemble = ensemble_of(tmp_path, *members, weights=[2.0, 1.0, 2.0], space=SPACE)
    probs = ensemble._choices.certain(np.array([[0, 2]]))
    np.testing.assert_array_equal(probs, [[1, 0, 0, 0, 1]])
    # 2 + 0.4 against 1 + 1.6 of 5; 0 and 1.8 against 3.2.
    np.testing.assert_array_equal(ensemble.act_greedy(OBSERVATIONS), [[1, 2]] * 4)
    np.testing.assert_array_equal(ensemble.act(OBSERVATIONS[0]).shape, (2,))


def test_choices_are_drawn_from_the_mixed_probabilities(tmp_path):
    members = RowProber(0.2, 0.8, 0.0, 0.9, 0.1), RowProber(0.6, 0.4, 0.5, 0.5, 0.0)
    ensemble = ensemble_of(tmp_path, *members, space=SPACE)
    ensemble.seed(0)
    actions = ensemble.act_batch(np.zeros((20_000, 2), np.float32))
    assert actions.dtype == np.int64
    for k, expected in enumerate(([0.4, 0.6], [0.25, 0.7, 0.05])):
        found = np.bincount(actions[:, k], minlength=len(expected)) / len(actions)
        np.testing.assert_allclose(found, expected, atol=0.015)


def test_agents_learn_with_the_probability_of_the_whole_row(tmp_path):
    members = RowProber(0.2, 0.8, 0.0, 0.9, 0.1), RowProber(0.6, 0.4, 0.5, 0.5, 0.0)
    ensemble = ensemble_of(tmp_path, *members, space=SPACE)
    ensemble.learn(window([[0, 1], [1, 2]]))
    expected = np.log([0.4 * 0.7, 0.6 * 0.05])
    np.testing.assert_allclose(members[1].log_probs[0], expected, rtol=1e-6)


@pytest.mark.parametrize("space", [SPACE, MultiBinary((1, 2))])
def test_agents_of_the_users_own_keep_the_environments_terms(tmp_path, space):
    action = np.asarray(space.sample())
    ensemble = ensemble_of(tmp_path, _own(action), _own(action), space=space)
    np.testing.assert_array_equal(ensemble.act_greedy(OBSERVATIONS), [action] * 4)


def _own(action: Any) -> OwnRowVoter:
    agent = OwnRowVoter(action)
    agent.act_greedy = lambda observations: np.stack([action] * len(observations))
    return agent


@pytest.mark.parametrize("space", [SPACE, Discrete(3, start=2), MultiBinary((2, 2))])
def test_who_counts_from_0_and_who_does_not_cannot_be_one(tmp_path, space):
    with pytest.raises(ValueError, match="must have the same counts_from_zero"):
        ensemble_of(tmp_path, RowVoter([0, 0]), OwnRowVoter([5, 0]), space=space)
    ensemble_of(tmp_path, RowVoter([0, 0]), OwnRowVoter([0, 0]), space=MultiDiscrete([2, 3]))


def test_numbers_that_are_counted_from_0_stay_so(tmp_path):
    members = Voter(1), Voter(1), Voter(0)
    for member in members:
        member.counts_from_zero = True
    ensemble = ensemble_of(tmp_path, *members, space=Discrete(3, start=7))
    np.testing.assert_array_equal(ensemble.act_greedy(OBSERVATIONS), [1] * 4)


def test_votes_beyond_a_choice_are_refused(tmp_path):
    ensemble = ensemble_of(tmp_path, RowVoter([0, 3]), RowVoter([0, 0]), space=SPACE)
    with pytest.raises(ValueError, match=r"the same actions, .*up to action \[0, 3\]"):
        ensemble.act_greedy(OBSERVATIONS)
    ensemble = ensemble_of(tmp_path, RowVoter([0, -1]), RowVoter([0, 0]), space=SPACE)
    with pytest.raises(ValueError, match=r"whole numbers from \[0, 0\] on, RowVoter chose"):
        ensemble.act_greedy(OBSERVATIONS)


def test_rows_of_choices_of_an_unknown_space_are_never_averaged(tmp_path):
    manager = PolicyManager(CheckpointRegistry(tmp_path))
    for action in ([0, 2], [1, 0]):
        manager.add_agent(RowVoter(np.array(action)))
    with pytest.raises(ValueError, match="call its check_spaces first"):
        manager.ensemble_action(OBSERVATIONS[0])
    with pytest.raises(ValueError, match="call its check_spaces first"):
        ensemble_of(tmp_path, RowVoter([0, 2]), RowVoter([1, 0])).act_batch(OBSERVATIONS)


def test_the_choices_of_a_space_as_either_kind_of_agent_names_them():
    assert Choices.of(SPACE, True).first.tolist() == [0, 0]
    assert Choices.of(SPACE, False).first.tolist() == [5, -1]
    grid = MultiDiscrete([[2, 3]])
    assert (Choices.of(grid, True).shape, Choices.of(grid, False).shape) == ((2,), (1, 2))


class FourStrict(Strict):
    """Observes four numbers."""

    def __init__(self) -> None:
        super().__init__(MultiDiscrete([[2, 2, 3]], start=[[1, 0, -1]]))
        self.observation_space = type(OBSERVATION_SPACE)(-1e6, 1e6, (4,), np.float32)

    def observation(self) -> np.ndarray:
        return np.repeat(super().observation(), 2)


def test_ensembles_of_networks_train_and_come_back(tmp_path, torch_framework):
    agents = [make_agent(seed, torch_framework) for seed in range(2)]
    ensemble = ensemble_of(tmp_path, *agents)
    optimizer = RLOptimizer(
        agent=ensemble,
        pipeline=BatchPipeline(env=FourStrict(), window_size=64),
        optimizer=FixedHyperparams(),
        checkpoint_dir=tmp_path,
        max_episodes=2,
        seed=0,
    )
    optimizer.run()
    assert optimizer.best_snapshot.eval_metrics.primary_score == 3.0


def test_a_variant_of_an_agent_of_several_choices_joins_it(tmp_path, torch_framework):
    first = make_agent(0, torch_framework, n_epochs=1)
    registry = CheckpointRegistry(tmp_path)
    manager = PolicyManager(registry, max_spawns=1)
    optimizer = RLOptimizer(
        agent=first,
        pipeline=BatchPipeline(env=FourStrict(), window_size=16),
        optimizer=FixedHyperparams(),
        checkpoint_dir=tmp_path,
        max_episodes=60,
        dormant_threshold=6,
        seed=0,
    )
    optimizer.add_callback(
        manager.as_callback(first, lambda: make_agent(0, torch_framework, n_epochs=1))
    )
    optimizer.run()
    assert manager.spawn_count == 1
    assert optimizer.best_snapshot.eval_metrics.primary_score == 3.0
