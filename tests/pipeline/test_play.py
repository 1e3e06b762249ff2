"""Playing episodes: a fixed share for each environment, true returns, no row that is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tensor_optix.core.base_agent import BaseAgent
from tensor_optix.core.decisions.episode_ends import EpisodesWithoutEnd
from tensor_optix.core.decisions.validation import GreedyAgent
from tensor_optix.core.types import Array, EpisodeData, HyperparamSet, PathLike
from tensor_optix.pipeline.play import play_bounded, play_episodes
from tensor_optix.pipeline.vector_env import VectorEnv, VectorStep, make_vector_env


class ScriptedEnv(VectorEnv):
    """Environment n has episodes of `lengths[n]` steps that pay 1 each; a reset takes a row.

    The reset row claims a reward of 100 and an end, which count for nothing.
    """

    def __init__(self, lengths: list[int], nan_at: tuple[int, int] | None = None) -> None:
        super().__init__("scripted", (Box(-1, 1, (1,), np.float32), Discrete(3)), len(lengths))
        self._lengths = np.array(lengths)
        self._nan_at = nan_at
        self.actions: list[Array] = []

    def reset(self, seed: int | None = None) -> None:
        self._elapsed = np.full(self.num_envs, -1)
        self._episode = np.zeros(self.num_envs, int)
        self._advance()

    def _advance(self) -> None:
        self._elapsed = np.where(self._elapsed == self._lengths, 0, self._elapsed + 1)

    def recv(self) -> VectorStep:
        valid = self._elapsed > 0
        rewards = np.where(valid, 1.0, 100.0).astype(np.float32)
        done = self._elapsed == self._lengths
        if self._nan_at is not None:
            env, episode = self._nan_at
            if self._episode[env] == episode and valid[env]:
                rewards[env] = np.nan
        self._episode += done
        observations = np.zeros((self.num_envs, 1), np.float32)
        fields: dict[str, Any] = {
            "env_ids": np.arange(self.num_envs),
            "observations": observations,
            "rewards": rewards,
            "terminated": done | ~valid,
            "truncated": np.zeros(self.num_envs, bool),
            "valid": valid,
            "end_observations": observations[done],
        }
        return VectorStep(**fields)

    def send(self, actions: Array, env_ids: Array) -> None:
        self.actions.append(actions)
        self._advance()

    def close(self) -> None:
        pass


class GreedyIsTwo(BaseAgent):
    """Explores with 0, but knows that 2 is best."""

    def act(self, observation: Any) -> int:
        return 0

    def act_greedy(self, observations: Array) -> Array:
        return np.full(len(observations), 2)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        raise AssertionError("nothing is learned from playing")

    def get_hyperparams(self) -> HyperparamSet:
        return HyperparamSet({})

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        pass

    def save_weights(self, path: PathLike) -> None:
        pass

    def load_weights(self, path: PathLike) -> None:
        pass


def test_short_episodes_are_not_preferred() -> None:
    returns, lengths = play_episodes(GreedyIsTwo(), ScriptedEnv([1, 10]), 6)
    assert list(returns) == [1, 1, 1, 10, 10, 10]
    assert list(lengths) == [1, 1, 1, 10, 10, 10]


def test_the_first_environments_play_what_does_not_divide() -> None:
    returns, _ = play_episodes(GreedyIsTwo(), ScriptedEnv([2, 3, 4]), 5)
    assert list(returns) == [2, 2, 3, 3, 4]


def test_fewer_episodes_than_environments_are_one_each() -> None:
    returns, _ = play_episodes(GreedyIsTwo(), ScriptedEnv([5, 2, 1, 1]), 2)
    assert list(returns) == [5, 2]


def test_a_nan_reward_spoils_its_own_episode_only() -> None:
    returns, lengths = play_episodes(GreedyIsTwo(), ScriptedEnv([2, 3], nan_at=(0, 1)), 6)
    np.testing.assert_array_equal(returns, [2, np.nan, 2, 3, 3, 3])
    assert list(lengths) == [2, 2, 2, 3, 3, 3]


def test_the_best_actions_are_sent_in_the_dtype_of_the_space() -> None:
    env = ScriptedEnv([3])
    play_episodes(GreedyIsTwo(), env, 1)
    assert all(list(actions) == [2] for actions in env.actions)
    assert env.actions[0].dtype == env.action_space.dtype


def test_no_episodes_are_an_error() -> None:
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        play_episodes(GreedyIsTwo(), ScriptedEnv([1]), 0)


def test_where_nothing_ends_playing_does_and_the_reward_is_that_of_a_step() -> None:
    env = ScriptedEnv([10**9, 10**9])
    played = play_bounded(GreedyIsTwo(), env, 6, 50)
    assert len(played.returns) == len(played.lengths) == 0
    assert played.steps == 100
    assert played.reward_per_step == 1.0
    assert (played.given_up, played.most_steps) == (6, 50)


def test_an_episode_that_does_not_end_is_given_up_and_the_others_count() -> None:
    played = play_bounded(GreedyIsTwo(), ScriptedEnv([2, 10**9]), 4, 50)
    assert list(played.returns) == list(played.lengths) == [2, 2]
    # With it goes the one that its environment would have played next.
    assert (played.given_up, played.most_steps, played.steps) == (2, 50, 84)


def test_the_share_of_others_is_played_to_its_end_though_one_environment_is_given_up() -> None:
    played = play_bounded(GreedyIsTwo(), ScriptedEnv([40, 10**9]), 6, 50)
    assert list(played.returns) == [40, 40, 40]
    assert played.given_up == 3


def test_playing_ends_when_it_is_told_to_and_gives_what_was_played() -> None:
    env = ScriptedEnv([2, 3])
    played = play_bounded(GreedyIsTwo(), env, 20, 50, lambda: len(env.actions) == 7)
    assert list(played.returns) == [2, 2, 3, 3]
    assert played.given_up == 0


def test_before_the_first_step_there_is_no_reward() -> None:
    played = play_bounded(GreedyIsTwo(), ScriptedEnv([2]), 1, 50, lambda: True)
    assert (len(played.returns), played.steps) == (0, 0)
    assert np.isnan(played.reward_per_step)


def test_without_a_time_limit_an_episode_is_given_a_number_of_steps(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tensor_optix.core.decisions.episode_ends.MOST_STEPS", 30)
    returns, lengths = play_episodes(GreedyIsTwo(), ScriptedEnv([2, 10**9]), 4)
    assert list(returns) == list(lengths) == [2, 2]
    assert "2 of 4 episodes did not end within 30 steps, and are left out" in caplog.text


def test_episodes_of_which_none_ends_are_an_error_that_says_the_reward_of_a_step() -> None:
    env = ScriptedEnv([10**9, 10**9])
    env.max_episode_steps = 20
    said = "6 of 6 episodes did not end within 20 steps: .* a mean reward of 1 a step"
    with pytest.raises(EpisodesWithoutEnd, match=said):
        play_episodes(GreedyIsTwo(), env, 6)


def test_a_time_limit_that_is_reached_is_waited_for() -> None:
    env = ScriptedEnv([20])
    env.max_episode_steps = 20
    assert list(play_episodes(GreedyIsTwo(), env, 2)[0]) == [20, 20]


def test_a_bound_that_no_episode_reaches_changes_nothing() -> None:
    played = play_bounded(GreedyIsTwo(), ScriptedEnv([5, 10]), 6, 10)
    assert list(played.returns) == [5, 5, 5, 10, 10, 10]


@pytest.mark.parametrize("backend", ["sync", "envpool"])
def test_real_environments_give_the_lengths_of_their_episodes(backend: str) -> None:
    if backend == "envpool":
        pytest.importorskip("envpool")
    env = make_vector_env("CartPole-v1", 3, backend, seed=1)
    agent = GreedyAgent(GreedyIsTwo())
    agent.act_greedy = lambda observations: np.zeros(len(observations), int)  # type: ignore[method-assign]
    returns, lengths = play_episodes(agent, env, 7)
    env.close()
    # Always pushing to the left drops the pole within 8 to 11 steps.
    assert set(lengths) <= set(range(7, 12))
    np.testing.assert_array_equal(returns, lengths)
