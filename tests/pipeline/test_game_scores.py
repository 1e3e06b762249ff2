"""Scores of EnvPool's Atari games, whatever clipping and lives do for learning, against loops by hand."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from tensor_optix.core.base_evaluator import RAW_REWARDS, MeanReturnEvaluator
from tensor_optix.core.decisions.validation import Validation, whole_episodes
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import wrap_env
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.scripted import CountingAgent, OffPolicyAgent

envpool = pytest.importorskip("envpool")

ENVS, STEPS, SEED = 3, 360, 5
OPTIONS = [
    {"episodic_life": True, "reward_clip": True},
    {"episodic_life": True},
    {"reward_clip": True},
    {},
]


def atari_pool(game: str = "Breakout-v5", **options: Any) -> Any:
    given = {"num_envs": ENVS, "seed": SEED, "num_threads": 1, **options}
    return envpool.make(game, env_type="gymnasium", **given)


def by_picture(observations: Any) -> Any:
    """Actions that follow from the newest frames; FIRE among them where nothing moves."""
    return (np.asarray(observations)[:, -1].sum((1, 2), np.int64) // 7) % 4


class Looking(CountingAgent):
    def act_batch(self, observations: Any) -> Any:
        return by_picture(observations)

    def act(self, observation: Any) -> Any:
        return int(by_picture(observation[None])[0])


class Watching(Looking, OffPolicyAgent):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def observe(self, transitions: Any) -> None:
        self.seen.append(transitions)


@dataclass
class Hand:
    """What a loop by hand finds in T steps of N environments."""

    valid: list[Any] = field(default_factory=list)
    rewards: list[Any] = field(default_factory=list)
    paid: list[Any] = field(default_factory=list)
    terminated: list[Any] = field(default_factory=list)
    observations: list[Any] = field(default_factory=list)
    following: list[Any] = field(default_factory=list)
    games: list[tuple[int, float, int]] = field(default_factory=list)
    """Flat row, sum of what the game paid, steps, of each game that ended, row by row."""
    under_way: Any = None


@functools.cache
def played_by_hand(steps: int, resets_before: int = 0, **options: Any) -> Hand:
    pool, hand = atari_pool(**options), Hand()
    number = pool.config["num_envs"]
    for _ in range(1 + resets_before):
        observations, _ = pool.reset()
    resets = np.zeros(number, bool)
    totals, lengths = np.zeros(number), np.zeros(number, int)
    for t in range(steps):
        # On a reset row EnvPool is given another action than the agent's: it does not look at it.
        actions = np.where(resets, 0, by_picture(observations))
        following, rewards, terminated, truncated, info = pool.step(actions)
        for name, value in [
            ("valid", ~resets),
            ("rewards", rewards),
            ("paid", info["reward"]),
            ("terminated", terminated),
            ("observations", observations),
            ("following", following),
        ]:
            getattr(hand, name).append(np.array(value))
        totals += np.where(resets, 0, info["reward"])
        lengths += ~resets
        resets = terminated | truncated
        for n in np.flatnonzero(resets & ((info["lives"] == 0) | truncated)):
            hand.games.append((t * number + n, totals[n], lengths[n]))
            totals[n] = lengths[n] = 0
        observations = following
    hand.under_way = lengths > 0
    return hand


def windows_of(count: int, size: int, options: dict[str, Any]) -> list[Any]:
    pipeline = VectorBatchPipeline(env=atari_pool(**options), agent=Looking(), window_size=size)
    windows = [window for _, window in zip(range(count), pipeline.episodes(), strict=False)]
    pipeline.teardown()
    return windows


def require_as_by_hand(windows: list[Any], hand: Hand) -> None:
    """Check rows, flags and games of windows of one size."""
    valid = np.concatenate([window.grid(_valid(window)) for window in windows])
    np.testing.assert_array_equal(valid, hand.valid)
    for name in ("terminated", "observations", "rewards"):
        rows = np.concatenate([window.grid(getattr(window, name)) for window in windows])
        np.testing.assert_array_equal(rows[valid], np.array(getattr(hand, name))[valid])
    games = [
        (int(row) + window.length * window.episode_id, total, length)
        for window in windows
        for row, total, length in zip(
            window.finished_rows, window.finished_returns, window.finished_lengths, strict=True
        )
    ]
    assert games == hand.games
    np.testing.assert_array_equal(windows[-1].under_way, hand.under_way)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_windows_hold_the_rows_of_lives_and_the_scores_of_games(options):
    # Without lives the policy may get stuck behind a lost one.
    given = options if options.get("episodic_life") else {**options, "max_episode_steps": 90}
    hand = played_by_hand(STEPS, **given)
    assert len(hand.games) >= ENVS
    assert np.sum(hand.terminated) > 4 * len(hand.games) or "episodic_life" not in options
    windows = windows_of(3, STEPS // 3, given)
    require_as_by_hand(windows, hand)
    assert all((RAW_REWARDS in window.metadata) == bool(options) for window in windows)


def test_clipped_rewards_are_learned_from_and_the_games_own_are_scored():
    options = {"game": "MsPacman-v5", "max_episode_steps": 220, **OPTIONS[0]}
    hand = played_by_hand(480, **options)
    # Games that the time limit cuts count, too, and lives are lost in them.
    assert len(hand.games) == 2 * ENVS
    assert np.any(hand.terminated)
    assert np.max(hand.rewards) == 1
    assert min(total for _, total, _ in hand.games) >= 100
    require_as_by_hand(windows_of(2, 240, options), hand)


def _valid(window: Any) -> Any:
    return np.ones(window.length, bool) if window.valid is None else window.valid


@pytest.mark.parametrize("options", OPTIONS[:2], ids=str)
def test_what_is_observed_has_no_resets_and_is_learned_from_life_by_life(options):
    hand = played_by_hand(STEPS, **options)
    agent = Watching()
    pipeline = VectorBatchPipeline(env=atari_pool(**options), agent=agent, window_size=STEPS)
    next(pipeline.episodes())
    pipeline.teardown()
    seen = [np.concatenate(column) for column in list(zip(*agent.seen, strict=True))[:-1]]
    valid = np.array(hand.valid)
    assert len(seen[0]) == valid.sum() < valid.size
    fields = (hand.observations, None, hand.rewards, hand.following, hand.terminated)
    for column, expected in zip(seen, fields, strict=False):
        if expected is not None:
            np.testing.assert_array_equal(column, np.array(expected)[valid])


def test_the_figures_of_a_window_are_the_games_own():
    options = {"game": "MsPacman-v5", "max_episode_steps": 100, **OPTIONS[0]}
    hand = played_by_hand(STEPS, **options)
    scored = MeanReturnEvaluator().score(windows_of(1, STEPS, options)[0], {})
    assert scored.primary_score == np.mean([total for _, total, _ in hand.games])
    assert scored.score_count == len(hand.games)
    assert scored.metrics["total_reward"] == np.array(hand.paid)[np.array(hand.valid)].sum()


def _games_of_each(resets_before: int = 0) -> dict[int, list[float]]:
    games: dict[int, list[float]] = {n: [] for n in range(ENVS)}
    for row, total, _ in played_by_hand(900, resets_before, **OPTIONS[0]).games:
        games[row % ENVS].append(total)
    return games


def test_episodes_that_are_played_are_whole_games():
    games = _games_of_each()
    expected = [*games[0][:2], *games[1][:2], *games[2][:1]]
    assert len(expected) == 5
    returns, lengths = play_episodes(Looking(), wrap_env(atari_pool(**OPTIONS[0])), 5)
    assert returns.tolist() == expected
    assert lengths.min() > 30


def test_held_out_episodes_are_whole_games():
    # The pipeline is set up, and begins anew for the agent.
    games = _games_of_each(resets_before=1)
    pipeline = VectorBatchPipeline(env=atari_pool(**OPTIONS[0]), window_size=40)
    validation = Validation(pipeline, MeanReturnEvaluator())
    returns = validation.play([Looking()], 4)
    validation.teardown()
    assert returns[0].tolist() == [*games[0][:2], games[1][0], games[2][0]]


def test_games_of_a_window_are_played_to_their_ends_through_all_lives():
    games = _games_of_each()
    # None has ended in 40 steps, but each has lost a life.
    pipeline = VectorBatchPipeline(env=atari_pool(**OPTIONS[0]), agent=Looking(), window_size=40)
    whole = whole_episodes(pipeline.episodes(), 50)
    pipeline.teardown()
    assert len(whole.end_rows) == ENVS
    assert sorted(whole.finished_returns) == sorted(own[0] for own in games.values())


def test_games_of_pools_that_answer_in_any_order():
    options = {**OPTIONS[0], "num_envs": 4}
    hand = played_by_hand(300, **options)
    pool = atari_pool(**options, batch_size=2)
    pipeline = VectorBatchPipeline(env=pool, agent=Looking(), window_size=40)
    found: dict[int, list[Any]] = {n: [] for n in range(4)}
    for _, window in zip(range(6), pipeline.episodes(), strict=False):
        columns = (window.finished_rows, window.finished_returns, window.finished_lengths)
        for row, total, length in zip(*columns, strict=True):
            found[int(row) % 4].append((total, length))
    pipeline.teardown()
    expected = {n: [game[1:] for game in hand.games if game[0] % 4 == n] for n in range(4)}
    assert sum(map(len, found.values())) >= 4
    for n, games in found.items():
        assert games == expected[n][: len(games)]
