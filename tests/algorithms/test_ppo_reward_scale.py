"""What PPO learns does not depend on the unit of the rewards; a policy that stays where it is, is said so."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.algorithms.ppo import reward_unit
from tensor_optix.core.normalizers import RewardNormalizer
from tensor_optix.core.types import HyperparamSet
from tests.algorithms import small_gaussian, small_ppo
from tests.algorithms.small_ppo import make_agent, make_episode, weights

if TYPE_CHECKING:
    from tensor_optix.core.types import EpisodeData

FAST = {"n_epochs": 2, "minibatch_size": 64}


def scaled(episode: EpisodeData, scale: float) -> EpisodeData:
    return dataclasses.replace(episode, rewards=scale * np.asarray(episode.rewards, np.float32))


@pytest.mark.parametrize(
    ("framework", "small"),
    [
        *((name, small) for name in ("torch", "native") for small in (small_ppo, small_gaussian)),
        ("tensorflow", small_ppo),
    ],
    indirect=["framework"],
)
def test_the_weights_are_the_same_bit_for_bit_whatever_power_of_two_the_rewards_are_times(
    framework, small
):
    episode, learned = small.make_episode(), []
    for scale in (2.0**-20, 2.0**10, 2.0**40):
        agent = small.make_agent(framework=framework, **FAST)
        for _ in range(2):
            agent.learn(scaled(episode, scale))
        learned.append(weights(agent))
    for others in learned[1:]:
        for one, other in zip(learned[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_ordinary_returns_are_learned_in_their_own_unit_and_others_near_to_them():
    assert [reward_unit(largest) for largest in (1.0, 45.0, 128.0)] == [1.0, 1.0, 1.0]
    for largest in (1e-30, 0.9, 129.0, 4.5e6, 1e38):
        assert 22.0 < largest / reward_unit(largest) < 46.0
        assert np.log2(reward_unit(largest)) % 1.0 == 0.0


def test_the_unit_is_chosen_once_by_the_first_window_that_pays():
    agent, episode = make_agent(**FAST), make_episode()
    agent.learn(scaled(episode, 0.0))
    assert agent._reward_unit is None
    agent.learn(scaled(episode, 1e6))
    chosen = agent._reward_unit
    assert chosen > 1e4
    agent.learn(scaled(episode, 1e-6))
    assert agent._reward_unit == chosen


def test_a_reward_normalizer_is_the_unit():
    agent = make_agent(reward_normalizer=RewardNormalizer(clip=0), **FAST)
    agent.learn(scaled(make_episode(), 1e6))
    assert agent._reward_unit == 1.0


def test_the_unit_may_be_kept_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    agent, other = make_agent(**FAST), make_agent(**FAST)
    agent.learn(scaled(make_episode(), 1e6))
    agent.save_weights("~/policy")
    other.load_weights("~/policy")
    assert other._reward_unit == agent._reward_unit
    assert not (tmp_path / "~").exists()


def test_the_loss_of_the_critic_is_told_in_the_unit_of_the_rewards():
    losses = [
        make_agent(**FAST).learn(scaled(make_episode(), scale))["value_loss"]
        for scale in (2.0**10, 2.0**20)
    ]
    assert losses[1] == pytest.approx(losses[0] * 2.0**20)


def test_the_unit_goes_with_the_weights(tmp_path):
    agent, other, fresh = (make_agent(seed, **FAST) for seed in range(3))
    agent.learn(scaled(make_episode(), 1e6))
    agent.save_weights(tmp_path / "learned")
    fresh.save_weights(tmp_path / "fresh")
    other.load_weights(tmp_path / "learned")
    assert other._reward_unit == agent._reward_unit > 1.0
    other.load_weights(tmp_path / "fresh")
    assert other._reward_unit is None
    other.average_weights([tmp_path / "learned", tmp_path / "fresh"])
    assert other._reward_unit == agent._reward_unit


@pytest.mark.parametrize("framework", ["torch", "native"], indirect=True)
@pytest.mark.parametrize("scale", [1e-4, 1e4, 1e5])
def test_the_policy_moves_as_far_as_with_ordinary_rewards(framework, scale):
    episode = make_episode()
    moved = []
    for factor in (1.0, scale):
        agent = make_agent(framework=framework)
        agent.learn(scaled(episode, factor))
        moved.append(agent.learn(scaled(episode, factor))["approx_kl"])
    assert moved[1] == pytest.approx(moved[0], rel=0.5)


def test_the_actor_moves_as_far_whatever_the_weight_of_the_critics_loss(framework):
    """Within what `max_grad_norm` allows, a huge loss of the critic took everything."""
    actors = []
    for vf_coef in (0.5, 1e6):
        agent = make_agent(framework=framework, vf_coef=vf_coef, **FAST)
        agent.learn(make_episode())
        actors.append(weights(agent)[0])
    np.testing.assert_allclose(*actors, rtol=1e-5, atol=1e-7)


# ---- target_kl


def test_passes_end_once_the_policy_moved_further_than_target_kl(framework):
    episode = make_episode()

    def updates(target_kl: float) -> int:
        agent = make_agent(framework=framework, learning_rate=0.02, target_kl=target_kl)
        return int(agent.learn(episode)["n_updates"])

    assert updates(0.0) == updates(1e9) == 20
    assert updates(1e-9) == 2
    made = updates(0.02)
    assert 2 < made < 20
    assert made % 2 == 0


def test_target_kl_is_checked_and_changed_like_the_others():
    with pytest.raises(ValueError, match=r"target_kl must not be negative, got -0\.1"):
        make_agent(target_kl=-0.1)
    agent = make_agent()
    assert agent.get_hyperparams().params["target_kl"] == 0.0
    agent.set_hyperparams(HyperparamSet({"target_kl": 0.01}))
    assert agent.get_hyperparams().params["target_kl"] == 0.01


# ---- a policy that does not move


def warnings_of(caplog: Any) -> int:
    return sum("has not moved in 5 windows" in record.message for record in caplog.records)


@pytest.mark.parametrize("framework", ["torch", "native"], indirect=True)
def test_a_policy_that_does_not_move_is_said_so_once_with_the_remedy(framework, caplog):
    agent = make_agent(framework=framework, learning_rate=1e-12, **FAST)
    for _ in range(4):
        agent.learn(make_episode())
    assert warnings_of(caplog) == 0
    for _ in range(8):
        agent.learn(make_episode())
    assert warnings_of(caplog) == 1
    assert "raise learning_rate, now 1e-12, or pass reward_normalizer" in caplog.text


def test_one_that_has_made_its_choice_or_moves_is_not(caplog):
    settled, moving = make_agent(num_actions=1, **FAST), make_agent(**FAST)
    episode = make_episode()
    chosen = dataclasses.replace(episode, actions=np.zeros_like(episode.actions))
    for _ in range(6):
        settled.learn(chosen)
        moving.learn(episode)
    assert warnings_of(caplog) == 0
