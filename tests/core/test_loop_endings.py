"""How a run of the loop ends: asked to, by an error, twice."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from tensor_optix.core.callbacks import LoopCallback, Unsaved
from tests.core.scripted_loop import EVERY_WINDOW, Setup, rising_then_falling
from tests.scripted import CountingAgent, ScriptedPipeline

if TYPE_CHECKING:
    from tensor_optix.core.types import EpisodeData, EvalMetrics


def test_a_checkpoint_that_cannot_be_written_does_not_raise_the_bar(tmp_path, monkeypatch):
    setup = Setup(tmp_path, lambda u, w: float(w), scheduler=EVERY_WINDOW, max_episodes=4)
    real = setup.registry.commit

    def full_disk(staged: Any, metrics: Any, *args: Any, **kwargs: Any) -> Any:
        if metrics.primary_score == 3.0:
            raise OSError("no space left on device")
        return real(staged, metrics, *args, **kwargs)

    monkeypatch.setattr(setup.registry, "commit", full_disk)
    setup.run()
    (told,) = (event for event in setup.diary.events if isinstance(event, Unsaved))
    assert told.reason == "the policy of this window was not stored: no space left on device"
    assert setup.controller.best_snapshot.eval_metrics.primary_score == 2.0
    assert not [path for path in tmp_path.iterdir() if "staging" in path.name]
    monkeypatch.setattr(setup.registry, "commit", real)
    setup.run()
    assert setup.controller.best_snapshot.eval_metrics.primary_score == 3.0


def test_stop_before_run_is_honoured_and_the_next_run_trains(tmp_path):
    setup = Setup(tmp_path, lambda updates, window: 0.0, max_episodes=3)
    setup.controller.stop()
    setup.run()
    assert setup.pipeline.collected == 0
    assert setup.pipeline.setups == setup.pipeline.teardowns == 0
    setup.run()
    assert setup.pipeline.collected == 3
    assert setup.pipeline.setups == setup.pipeline.teardowns == 1


def test_stop_from_a_callback_ends_the_run_after_the_window(tmp_path):
    class Stopper(LoopCallback):
        def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
            if episode_id == 2:
                setup.controller.stop()

    setup = Setup(tmp_path, lambda updates, window: 0.0, callbacks=[Stopper()])
    setup.run()
    assert setup.pipeline.collected == 3


def test_a_second_run_goes_on_from_the_best_and_keeps_it(tmp_path):
    setup = Setup(tmp_path, lambda u, w: float(u), scheduler=EVERY_WINDOW, max_episodes=3)
    setup.run()
    assert setup.agent.updates == 2
    setup.run()
    assert setup.controller.best_snapshot.eval_metrics.primary_score == 4.0


def test_an_error_in_the_environment_propagates_after_best_is_restored_and_all_is_torn_down(
    tmp_path,
):
    def score_of(updates: int, window: int) -> float:
        if window == 7:
            raise NameError("a mistake in the environment")
        return rising_then_falling(updates, window)

    setup = Setup(tmp_path, score_of, scheduler=EVERY_WINDOW)
    with pytest.raises(NameError, match="a mistake in the environment"):
        setup.run()
    assert setup.agent.updates == 5
    assert setup.pipeline.teardowns == 1
    assert setup.diary.calls[-1][0] == "on_loop_stop"


def test_a_failing_restore_neither_masks_the_error_nor_prevents_the_teardown(tmp_path):
    class Unloadable(CountingAgent):
        def load_weights(self, path: Any) -> None:
            raise OSError("cannot load")

    def score_of(updates: int, window: int) -> float:
        if window == 2:
            raise NameError("a mistake in the environment")
        return 1.0

    setup = Setup(tmp_path, score_of, agent=Unloadable())
    with pytest.raises(NameError):
        setup.run()
    assert setup.pipeline.teardowns == 1

    setup = Setup(tmp_path, lambda u, w: 1.0, agent=Unloadable(), max_episodes=2)
    with pytest.raises(OSError, match="cannot load"):
        setup.run()
    assert setup.pipeline.teardowns == 1


def test_a_failing_teardown_does_not_mask_the_error(tmp_path, caplog):
    class Stuck(ScriptedPipeline):
        def teardown(self) -> None:
            raise OSError("cannot close")

    def score_of(updates: int, window: int) -> float:
        raise NameError("a mistake in the environment")

    with pytest.raises(NameError):
        Setup(tmp_path, None, pipeline=Stuck(score_of)).run()
    assert "cannot close" in caplog.text


def test_a_failing_learn_leaves_nothing_half_written(tmp_path):
    class Unteachable(CountingAgent):
        def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
            raise RuntimeError("cannot learn")

    with pytest.raises(RuntimeError, match="cannot learn"):
        Setup(tmp_path, lambda u, w: 1.0, agent=Unteachable()).run()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_plateau_does_not_end_the_run_while_the_agent_explores(tmp_path):
    class Explorer(CountingAgent):
        @property
        def is_exploring(self) -> bool:
            return self.updates < 40

    options = {"max_interval_episodes": 1, "plateau_threshold": 3, "dormant_threshold": 6}
    setup = Setup(tmp_path / "a", lambda u, w: 1.0, agent=Explorer(), scheduler=options).run()
    assert setup.pipeline.collected == 40
    settled = Setup(tmp_path / "b", lambda u, w: 1.0, scheduler=options).run()
    assert settled.pipeline.collected == 7


def test_the_reason_of_the_end_is_told(tmp_path):
    setup = Setup(tmp_path, lambda u, w: 1.0, max_episodes=2).run()
    assert setup.diary.events[-1].numbers["reason"] == "the cap of 2 windows was reached"


def test_an_exception_in_a_callback_is_logged_and_training_goes_on(tmp_path, caplog):
    class Broken(LoopCallback):
        def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
            raise RuntimeError("broken listener")

    setup = Setup(tmp_path, lambda u, w: 0.0, callbacks=[Broken()], max_episodes=3)
    with caplog.at_level(logging.ERROR):
        setup.run()
    assert setup.pipeline.collected == 3
    assert "broken listener" in caplog.text
