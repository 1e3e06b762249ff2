"""Lives as episodes with Gymnasium's environments: a game that is known step by step, and ale-py's."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import ClipReward

from tensor_optix.pipeline.atari import EpisodicLife, atari, is_atari, preprocessed
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.game import TELLS_GAME
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import wrap_env
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.scripted import CountingAgent

LIVES, MOVES = 3, 4
"""A life is lost with every fourth move."""
LEFT, FIRE, NO_OP = 2, 1, 0


class Arcade(gymnasium.Env[Any, Any]):
    """Pays 10 for each move, 1 for FIRE, 2 for no input; four moves are a life, three lives a game.

    It shows game, lives and moves, in one buffer if so told.
    """

    observation_space = Box(0, 100, (3,), np.int16)
    action_space = Discrete(3)

    def __init__(
        self, fires: bool = True, limit: int | None = None, has_buffer: bool = True
    ) -> None:
        self.meanings = ["NOOP", "FIRE" if fires else "RIGHT", "LEFT"]
        self.limit, self.has_buffer, self.game = limit, has_buffer, -1
        self.shown = np.zeros(3, np.int16)
        self.steps = 0
        self.inputs: list[int] = []

    def get_action_meanings(self) -> list[str]:
        return self.meanings

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.game += 1
        self.steps, self.lives, self.moves = 0, LIVES, 0
        self.inputs.append(-1)
        return self._show(), {"lives": self.lives}

    def step(self, action: int) -> Any:
        self.inputs.append(int(action))
        self.steps += 1
        if action == LEFT:
            self.moves += 1
            if self.moves % MOVES == 0:
                self.lives -= 1
        paid = {NO_OP: 2.0, FIRE: 1.0, LEFT: 10.0}[int(action)]
        is_cut = self.steps == self.limit
        return self._show(), paid, self.lives == 0, is_cut, {"lives": self.lives}

    def _show(self) -> Any:
        if not self.has_buffer:
            self.shown = np.zeros(3, np.int16)
        self.shown[:] = self.game, self.lives, self.moves
        return self.shown


class Moving(CountingAgent):
    def act(self, observation: Any) -> int:
        return LEFT


def lived(has_buffer: bool = True) -> Any:
    return ClipReward(EpisodicLife(Arcade(has_buffer=has_buffer)), -1.0, 1.0)


GAME_SCORE = 10.0 * LIVES * MOVES + 2 * 1.0
"""Twelve moves, and FIRE behind the first life and the second; the one at the start is not the player's."""


def test_a_life_ends_an_episode_and_the_game_goes_on_behind_it():
    env = EpisodicLife(Arcade())
    assert env.metadata[TELLS_GAME]
    rows = []
    observation, _ = env.reset(seed=1)
    for _ in range(14):
        before = observation.tolist()
        observation, paid, terminated, truncated, info = env.step(LEFT)
        assert not truncated
        rows.append(
            (before, observation.tolist(), paid, terminated, info["game_reward"], info["game_over"])
        )
        if terminated:
            observation, _ = env.reset()
    lost = {3: 11.0, 7: 11.0, 11: 10.0}
    for t, (before, after, paid, terminated, counted, is_over) in enumerate(rows):
        move, life = t % (LIVES * MOVES), t % (LIVES * MOVES) // MOVES
        assert before == [t // 12, LIVES - life, move]
        assert after == [t // 12, LIVES - (move + 1) // MOVES, move + 1]
        assert (paid, terminated, counted) == (10.0, t in lost, lost.get(t, 10.0))
        assert is_over == (t == 11)
    life = [LEFT] * MOVES
    game = [-1, FIRE, *life, FIRE, *life, FIRE, *life]
    assert env.unwrapped.inputs == [*game, -1, FIRE, LEFT, LEFT]


def test_without_fire_the_step_between_two_lives_has_no_input():
    env = EpisodicLife(Arcade(fires=False))
    env.reset()
    for _ in range(MOVES):
        *_, terminated, _, info = env.step(LEFT)
    assert terminated
    assert info["game_reward"] == 12.0
    assert env.unwrapped.inputs == [-1, *[LEFT] * MOVES, NO_OP]


def test_a_seed_begins_a_game_also_behind_a_lost_life():
    env = EpisodicLife(Arcade())
    env.reset(seed=1)
    for _ in range(MOVES):
        env.step(LEFT)
    observation, _ = env.reset(seed=1)
    assert observation.tolist() == [1, LIVES, 0]


def test_a_game_that_is_cut_between_two_lives_is_over_with_the_life():
    # FIRE at the start, four moves, FIRE.
    env = EpisodicLife(Arcade(limit=1 + MOVES + 1))
    env.reset()
    for _ in range(MOVES):
        _, _, terminated, truncated, info = env.step(LEFT)
    assert (terminated, truncated, info["game_over"]) == (True, False, True)
    observation, _ = env.reset()
    assert observation.tolist() == [1, LIVES, 0]


def test_the_last_life_is_lost_with_the_game():
    class Lingering(Arcade):
        """Stays at no life for a step, as some games do."""

        def step(self, action: int) -> Any:
            was_dead = self.lives == 0
            *rest, _, is_cut, info = super().step(action)
            return *rest, was_dead, is_cut, info

    env = EpisodicLife(Lingering())
    env.reset()
    ends = [bool(env.step(LEFT)[2]) for _ in range(LIVES * MOVES + 1)]
    assert np.flatnonzero(ends).tolist() == [3, 7, 12]


def _vector(vector_class: Any, mode: AutoresetMode) -> Any:
    # Gymnasium's vectors that reset in the same step do not copy the last observations.
    return vector_class([partial(lived, has_buffer=False)] * 2, autoreset_mode=mode)


SOURCES = {
    "sync": lambda: {"env_fns": [lived, lived]},
    "async": lambda: {"env_fns": [lived, lived], "async_envs": True},
    "sync same step": lambda: {"env": _vector(SyncVectorEnv, AutoresetMode.SAME_STEP)},
    "sync disabled": lambda: {"env": _vector(SyncVectorEnv, AutoresetMode.DISABLED)},
    "async next step": lambda: {"env": _vector(AsyncVectorEnv, AutoresetMode.NEXT_STEP)},
}


@pytest.mark.parametrize("source", SOURCES)
def test_windows_are_learned_from_by_lives_and_scored_by_games(source):
    given = SOURCES[source]()
    pipeline = VectorBatchPipeline(agent=Moving(), window_size=10, **given)
    windows = [window for _, window in zip(range(4), pipeline.episodes(), strict=False)]
    pipeline.teardown()
    if "env" in given:
        given["env"].close()
    returns = np.concatenate([window.finished_returns for window in windows])
    assert returns.tolist() == [GAME_SCORE] * len(returns)
    assert len(returns) >= 4
    for window in windows:
        assert set(window.finished_lengths) <= {LIVES * MOVES}
        assert len(window.end_rows) >= 2 * len(window.finished_rows)
        valid = np.ones(window.length, bool) if window.valid is None else window.valid
        assert set(np.asarray(window.rewards)[valid]) == {1.0}
        lives_before = window.observations[window.end_rows, 1]
        np.testing.assert_array_equal(window.end_observations[:, 1], lives_before - 1)
    last = windows[-1]
    in_game = np.isin(np.arange(2), last.finished_rows[last.finished_rows >= 18] - 18, invert=True)
    np.testing.assert_array_equal(last.under_way, in_game)


def test_one_plain_environment_is_scored_by_games():
    pipeline = BatchPipeline(lived(), Moving(), window_size=15)
    first, second = (next(pipeline.episodes()) for _ in range(2))
    assert first.finished_returns.tolist() == [GAME_SCORE]
    assert (first.end_rows.tolist(), first.finished_rows.tolist()) == ([3, 7, 11], [11])
    assert second.finished_returns.tolist() == [GAME_SCORE]
    assert first.rewards == [1.0] * 15
    assert first.metadata["raw_rewards"].sum() == GAME_SCORE + 3 * 10.0


def test_play_scores_whole_games():
    returns, lengths = play_episodes(Moving(), wrap_env(lived()), 2)
    assert returns.tolist() == [GAME_SCORE] * 2
    assert lengths.tolist() == [LIVES * MOVES] * 2


def test_who_promises_to_tell_of_the_game_and_does_not_is_named():
    class Silent(gymnasium.Wrapper):
        def step(self, action: Any) -> Any:
            *rest, _ = self.env.step(action)
            return *rest, {}

    pipeline = BatchPipeline(Silent(lived()), Moving(), window_size=3)
    with pytest.raises(
        ValueError, match='must give "game_reward" and "game_over" in the info of every step'
    ):
        next(pipeline.episodes())


def test_environments_that_are_no_games_carry_nothing_of_them():
    pipeline = VectorBatchPipeline(
        env_fns=[partial(Arcade, True)] * 2, agent=Moving(), window_size=30
    )
    window = next(pipeline.episodes())
    pipeline.teardown()
    assert not window.metadata
    np.testing.assert_array_equal(window.finished_rows, window.end_rows)


def test_the_preset_of_an_id(monkeypatch):
    pytest.importorskip("envpool")
    assert is_atari("Pong-v5")
    assert is_atari("ALE/Pong-v5")
    assert is_atari("ale_py:PongNoFrameskip-v4")
    assert atari("ALE/Pong-v5") == {
        "env_id": "ALE/Pong-v5",
        "backend": "auto",
        "env_kwargs": {"frameskip": 1},
        "wrappers": ("tensor_optix.pipeline.atari:preprocessed",),
    }
    assert not is_atari("CartPole-v1")
    assert not is_atari("no-such-id")
    monkeypatch.setattr("envpool.make_spec", lambda env_id: 1 / 0)
    assert not is_atari("Pong-v5")
    monkeypatch.undo()
    assert atari("Pong-v5") == {
        "env_id": "Pong-v5",
        "backend": "envpool",
        "env_kwargs": {"episodic_life": True, "reward_clip": True},
        "wrappers": (),
    }
    assert atari("Pong-v5", "envpool-async")["backend"] == "envpool-async"
    monkeypatch.setitem(gymnasium.registry, "Pong-v5", gymnasium.spec("CartPole-v1"))
    assert not is_atari("Pong-v5"), "somebody's own environment of that name"
    monkeypatch.undo()
    with pytest.raises(ValueError, match=re.escape('needs an Atari game, such as "Pong-v5"')):
        atari("CartPole-v1")


def test_games_without_pictures_are_refused():
    with pytest.raises(ValueError, match=r"needs pictures, got Box.*--no-atari"):
        preprocessed(Arcade())


def test_ale_py_scores_are_those_of_the_emulator():
    gymnasium.register_envs(pytest.importorskip("ale_py"))
    pytest.importorskip("cv2")

    class Emulator(gymnasium.Wrapper):
        """Adds up what every frame pays."""

        def reset(self, **options: Any) -> Any:
            self.total = 0.0
            return self.env.reset(**options)

        def step(self, action: Any) -> Any:
            result = self.env.step(action)
            self.total += float(result[1])
            return result

    bare = Emulator(gymnasium.make("ALE/Breakout-v5", frameskip=1))
    env = preprocessed(bare)
    assert env.observation_space == Box(0, 255, (4, 84, 84), np.uint8)
    rng = np.random.default_rng(0)
    env.reset(seed=3)
    score, games = 0.0, 0
    for _ in range(700):
        _, reward, terminated, truncated, info = env.step(int(rng.integers(4)))
        assert reward in (-1.0, 0.0, 1.0)
        score += info["game_reward"]
        if info["game_over"]:
            assert score == bare.total
            score, games = 0.0, games + 1
        if terminated or truncated:
            env.reset()
    env.close()
    assert games >= 2
