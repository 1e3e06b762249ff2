"""The best few policies play again for which of them is returned."""

from __future__ import annotations

import numpy as np
import pytest

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.decisions.best_policy import EPISODES, STEP_SHARE, finalists, play_finals
from tensor_optix.core.types import EpisodeData, EvalMetrics, HyperparamSet
from tests.core.scripted_loop import EVERY_WINDOW, Setup
from tests.scripted import CountingAgent, ScriptedPipeline


class LuckyPipeline(ScriptedPipeline):
    """Single episodes, exploring: luck hides that the policy of 4 updates is the best."""

    LUCK = (0.0, 1.0, 2.0, 3.0, 4.0, 9.0)

    def set_agent(self, agent) -> None:
        self.is_greedy = type(agent).__name__ == "GreedyAgent"
        self.agent = getattr(agent, "_agent", agent)

    def window(self, window: int) -> EpisodeData:
        episode = super().window(window)
        updates = self.agent.updates
        score = -abs(updates - 4.0) if self.is_greedy else self.LUCK[updates]
        episode.finished_returns = np.array([score])
        episode.finished_lengths = np.zeros(1, np.int64)
        episode.end_rows = np.zeros(1, np.int64)
        return episode


@pytest.fixture(autouse=True)
def free_finals(monkeypatch, request):
    """Runs as short as these could pay for none."""
    if "small_share" not in request.node.name:
        monkeypatch.setattr("tensor_optix.core.decisions.best_policy.STEP_SHARE", 100.0)


def run(tmp_path, finalists: int, **options) -> Setup:
    return Setup(
        tmp_path,
        None,
        pipeline=LuckyPipeline(lambda u, w: 0.0),
        scheduler=EVERY_WINDOW,
        max_episodes=6,
        finalists=finalists,
        **options,
    )


def test_the_lucky_policy_gives_way_to_the_one_that_plays_best(tmp_path):
    setup = run(tmp_path, finalists=0).run()
    assert setup.agent.updates == 5
    setup = run(tmp_path / "finals", finalists=5).run()
    assert setup.agent.updates == 4
    assert "finals" in setup.diary.kinds()


def test_the_registry_ranks_the_winner_first_from_then_on(tmp_path):
    setup = run(tmp_path, finalists=5)
    setup.run()
    best = CheckpointRegistry(tmp_path).best
    assert best.snapshot_id == setup.controller.best_snapshot.snapshot_id
    assert "confirmed_score" in best.eval_metrics.metrics


@pytest.mark.parametrize(
    "options",
    [
        {"checkpoint_score_fn": lambda agent: float(agent.updates == 1)},
        {"val_pipeline": ScriptedPipeline(lambda u, w: 1.0)},
    ],
)
def test_there_are_no_finals_where_policies_were_ranked_otherwise(tmp_path, options):
    setup = run(tmp_path, finalists=5, **options)
    setup.run()
    assert "finals" not in setup.diary.kinds()


def test_there_are_no_finals_after_a_failure(tmp_path):
    setup = run(tmp_path, finalists=5)

    def fail(episode):
        raise KeyError("in learn")

    setup.agent.learn = fail
    with pytest.raises(KeyError):
        setup.run()
    assert "finals" not in setup.diary.kinds()


def test_what_fails_in_the_finals_does_not_cost_the_run(tmp_path, caplog):
    setup = run(tmp_path, finalists=5)
    plain = setup.pipeline.set_agent

    def refuse(agent):
        if type(agent).__name__ == "GreedyAgent":
            raise OSError("no more environments")
        plain(agent)

    setup.pipeline.set_agent = refuse
    setup.run()
    assert setup.agent.updates == 5
    assert "no more environments" in caplog.text
    assert setup.pipeline.teardowns == 1


def stored(tmp_path, scores, length=10.0) -> CheckpointRegistry:
    registry, agent = CheckpointRegistry(tmp_path), CountingAgent()
    for score in scores:
        agent.updates = int(score) if np.isfinite(score) else -1
        registry.save(
            agent, EvalMetrics(score, {"episode_length": length}, 0), HyperparamSet({"lr": score})
        )
    return registry


def test_finals_cost_a_small_share_of_the_run(tmp_path):
    registry = stored(tmp_path, [1.0, 2.0, 3.0, 4.0, np.nan])
    one = EPISODES * 10.0 / STEP_SHARE
    assert len(finalists(registry, 5, steps=10**9, windows=10**6)) == 4
    assert len(finalists(registry, 3, steps=10**9, windows=10**6)) == 3
    assert len(finalists(registry, 5, steps=int(2.1 * one), windows=10**6)) == 2
    assert finalists(registry, 5, steps=int(0.5 * one), windows=10**6) == []
    # Windows are played whole: where they are long, they are what it costs.
    assert finalists(registry, 5, steps=int(2.1 * one), windows=2) == []


def test_each_finalist_plays_with_its_own_weights_and_a_damaged_one_is_left_out(tmp_path, caplog):
    registry, agent = stored(tmp_path, [1.0, 2.0, 3.0]), CountingAgent()
    damaged = registry.best
    (tmp_path / f"snapshot_{damaged.snapshot_id}" / "weights" / "weights.json").write_text("9999")
    chosen = finalists(registry, 5, 10**9, 10**6)

    def score(agent, episodes):
        assert episodes == EPISODES
        return EvalMetrics(-float(agent.updates), {}, 0)

    played = play_finals(registry, chosen, agent, score)
    assert [made.primary_score for _, made in played] == [-1.0, -2.0]
    assert "damaged" in caplog.text
    ranked = [one for one in registry.snapshots if one.snapshot_id != damaged.snapshot_id]
    assert [one.hyperparams.params["lr"] for one in ranked] == [1.0, 2.0]


def test_a_finalist_without_a_score_is_ranked_last(tmp_path):
    registry, agent = stored(tmp_path, [1.0, 2.0, 3.0]), CountingAgent()

    def score(agent, episodes):
        return EvalMetrics(np.nan if agent.updates == 3 else float(agent.updates), {}, 0)

    play_finals(registry, finalists(registry, 5, 10**9, 10**6), agent, score)
    assert [one.hyperparams.params["lr"] for one in registry.snapshots] == [2.0, 1.0, 3.0]


def test_an_interruption_of_the_finals_still_leaves_the_best_policy_in_the_agent(tmp_path):
    setup = run(tmp_path, finalists=5)
    plain = setup.pipeline.set_agent

    def interrupt(agent):
        if type(agent).__name__ == "GreedyAgent":
            raise KeyboardInterrupt
        plain(agent)

    setup.pipeline.set_agent = interrupt
    with pytest.raises(KeyboardInterrupt):
        setup.run()
    assert setup.agent.updates == 5
    assert setup.pipeline.teardowns == 1
