"""Worker processes that die, hang, or cannot say what happened: named, and gone within seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from tensor_optix.pipeline import worker_processes
from tensor_optix.pipeline.vector_env import from_env_fns
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tensor_optix.pipeline.worker_processes import Timeouts
from tests.scripted import CountingAgent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AT = 5
"""The step, or the reset, in which something happens to environment 1."""
PATIENCE = 20
"""Seconds, after which a test is taken for hanging."""


class Locked(Exception):
    """Cannot travel: a lock cannot."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.lock = threading.Lock()


class OfTwo(Exception):
    """Is not made from its message alone."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(what, where)


class Unpacked(Exception):
    """Travels, and cannot be unpacked."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(what + where)


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leaves() -> None:
    sys.exit(3)


def sleeps() -> None:
    time.sleep(1000)


def is_deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)


def is_stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def raises_what_cannot_travel() -> None:
    raise Locked("the door is locked")


def raises_what_cannot_be_unpacked() -> None:
    raise Unpacked("the box", " is shut")


def raises_of_two() -> None:
    raise OfTwo("nobody", "nowhere")


def loses_its_device() -> None:
    raise ConnectionResetError("the robot has hung up")


class Acting(gymnasium.Env[Any, Any]):
    """Does something in its fifth step, or its fifth reset. An episode has four steps."""

    observation_space, action_space = Box(-1, 1, (2,), np.float32), Discrete(2)

    def __init__(
        self, in_step: Callable[[], None] | None = None, in_reset: Callable[[], None] | None = None
    ) -> None:
        self.in_step, self.in_reset = in_step, in_reset
        self.steps = self.resets = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.resets += 1
        if self.in_reset and self.resets == AT:
            self.in_reset()
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.in_step and self.steps == AT:
            self.in_step()
        return np.zeros(2, np.float32), 1.0, self.steps % 4 == 0, False, {}


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Fail where a test hangs, and where it leaves a process behind."""

    def hangs(*_: Any) -> None:
        raise AssertionError(f"still waiting after {PATIENCE} seconds")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    left = multiprocessing.active_children()
    for process in left:
        process.kill()
    assert not left


@contextmanager
def made(timeouts: Timeouts | None = None, **what: Callable[[], None]) -> Iterator[Any]:
    functions = [Acting, lambda: Acting(**what), Acting]
    env = from_env_fns(functions, asynchronous=True, timeouts=timeouts)
    env.reset(0)
    try:
        yield env
    finally:
        env.close()


def step(env: Any, count: int = 100) -> None:
    for _ in range(count):
        env.send(np.zeros(3, int), env.recv().env_ids)


@pytest.mark.parametrize(
    ("does", "how"), [(dies, r"\(signal 9, SIGKILL\)"), (leaves, r"\(exit code 3\)")]
)
def test_a_worker_that_ends_in_a_step_is_named_with_how_and_when(does, how):
    message = rf"environment 1 {how}, pid \d+, after 4 steps, ended in the middle of a step"
    with made(in_step=does) as env, pytest.raises(RuntimeError, match=message):
        step(env)


def test_one_that_ends_in_a_reset_that_follows_on_an_end_is_named():
    with (
        made(in_reset=dies) as env,
        pytest.raises(
            RuntimeError, match=r"environment 1 \(signal 9, SIGKILL\), pid \d+, after 16"
        ),
    ):
        step(env)


def reset_again_and_again(env):
    for seed in range(1, 10):
        env.reset(seed)


def test_one_that_ends_in_a_reset_that_is_asked_for_is_named():
    message = r"environment 1 \(signal 9, SIGKILL\), .* ended in the middle of a reset"
    with made(in_reset=dies) as env, pytest.raises(RuntimeError, match=message):
        reset_again_and_again(env)


@pytest.mark.parametrize("call", ["step", "reset", "a question"])
def test_one_that_ended_between_two_calls_is_named(call):
    """It blocked for ever in the teardown, or left the others behind."""
    with made() as env:
        step(env, 2)
        env.recv()
        victim = env._env.processes[1]
        os.kill(victim.pid, signal.SIGKILL)
        victim.join(PATIENCE)
        asked = {
            "step": lambda: (env.send(np.zeros(3, int), np.arange(3)), env.recv()),
            "reset": lambda: env.reset(5),
            "a question": lambda: env._env.get_attr("steps"),
        }
        message = rf"environment 1 \(signal 9, SIGKILL\), pid {victim.pid}, after 2 steps"
        with pytest.raises(RuntimeError, match=message):
            asked[call]()
        with pytest.raises(RuntimeError, match=message):
            env.reset(6)


@pytest.mark.parametrize("does", [sleeps, is_deaf, is_stopped])
def test_a_step_that_takes_longer_than_it_may_is_named_and_its_worker_ended(does, monkeypatch):
    message = r"environment 1 has not come back from its step within 0.5 seconds, after 4 steps"
    with (
        made(Timeouts(step=0.5), in_step=does) as env,
        pytest.raises(RuntimeError, match=message + r" \(pid \d+, now ended\): .* by step_timeout"),
    ):
        step(env)


@pytest.mark.parametrize("does", [sleeps, is_deaf])
def test_so_is_a_reset_also_one_that_follows_on_an_end(does):
    message = r"environment 1 has not come back from its reset within 0.5 seconds, after {} steps"
    with (
        made(Timeouts(reset=0.5), in_reset=does) as env,
        pytest.raises(RuntimeError, match=message.format(16) + ".* by reset_timeout"),
    ):
        step(env)
    with (
        made(Timeouts(reset=0.5), in_reset=does) as env,
        pytest.raises(RuntimeError, match=message.format(0)),
    ):
        reset_again_and_again(env)


@pytest.mark.parametrize("does", [sleeps, is_deaf, is_stopped])
def test_teardown_ends_a_worker_that_is_stuck_in_a_step(does, monkeypatch):
    monkeypatch.setattr(worker_processes, "MOST_SECONDS_TO_CLOSE", 0.5)
    with made(in_step=does) as env:
        step(env, AT)


@pytest.mark.parametrize("does", [sleeps, is_deaf])
def test_ctrl_c_while_a_worker_is_waited_for_ends_all_of_them(does, monkeypatch):
    monkeypatch.setattr(worker_processes, "MOST_SECONDS_TO_CLOSE", 0.5)
    # Where the tests run in the background, a shell has them ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with made(in_step=does) as env:
        timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            step(env)
        timer.join()
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_is_the_main_process_own_and_ends_no_worker():
    with made() as env:
        for process in env._env.processes:
            os.kill(process.pid, signal.SIGINT)
        step(env, 8)


@pytest.mark.parametrize(
    ("does", "error"), [(raises_of_two, OfTwo), (loses_its_device, ConnectionResetError)]
)
def test_an_exception_comes_as_it_is_with_a_note_and_the_traceback_of_the_worker(does, error):
    with made(in_step=does) as env:
        with pytest.raises(error) as raised:
            step(env)
        assert raised.value.__notes__ == [
            "environment 1 (Acting): this was raised in step 1 of its episode 2, after 5 steps in all since "
            "it was made"
        ]
        assert f"in {does.__name__}" in str(raised.value.__cause__)


@pytest.mark.parametrize(
    ("does", "text"),
    [
        (raises_what_cannot_travel, "Locked: the door is locked"),
        (raises_what_cannot_be_unpacked, "Unpacked: the box is shut"),
    ],
)
def test_an_exception_that_cannot_be_sent_is_told_in_words(does, text):
    with made(in_step=does) as env:
        message = f"environment 1 failed in its worker process, by an exception .*: {text}"
        with pytest.raises(RuntimeError, match=message) as raised:
            step(env)
        assert f"in {does.__name__}" in str(raised.value.__cause__)
        assert "step 1 of its episode 2" in str(raised.value.__cause__)


@pytest.mark.parametrize("does", [dies, loses_its_device, raises_what_cannot_travel])
def test_a_pipeline_whose_worker_failed_can_still_be_saved_and_set_up_again(does):
    pipeline = VectorBatchPipeline(
        [Acting, lambda: Acting(does)], CountingAgent(), window_size=3, async_envs=True
    )
    pipeline.setup()
    with pytest.raises((RuntimeError, OSError)):
        list(islice(pipeline.episodes(), 10))
    state = pipeline.state_dict()
    assert state is not None
    assert (state["window"], state["episodes"]) == (1, None)
    pipeline.teardown()
    pipeline.setup()
    pipeline.load_state_dict(state)
    assert next(iter(pipeline.episodes())).episode_id == 1
    pipeline.teardown()


def test_so_can_one_whose_worker_ended_between_two_windows_and_the_next_window_names_it():
    pipeline = VectorBatchPipeline([Acting] * 2, CountingAgent(), 3, async_envs=True)
    pipeline.setup()
    windows = pipeline.episodes()
    next(windows)
    victim: Any = pipeline.env._env.processes[0]  # type: ignore[attr-defined]
    victim.kill()
    victim.join(PATIENCE)
    state = pipeline.state_dict()
    assert state is not None
    assert state["episodes"] is None
    with pytest.raises(RuntimeError, match=r"environment 0 \(signal 9, SIGKILL\)"):
        next(windows)
    pipeline.teardown()


@pytest.mark.parametrize("limit", [0, -1.0, float("nan")])
def test_a_limit_must_be_above_0(limit):
    with pytest.raises(ValueError, match="step_timeout must be above 0 seconds, or None"):
        VectorBatchPipeline([Acting], step_timeout=limit)
    with pytest.raises(ValueError, match="reset_timeout must be above 0"):
        VectorBatchPipeline([Acting], reset_timeout=limit)
