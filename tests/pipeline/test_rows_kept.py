"""What anybody keeps of the rows that a pipeline hands out stays as it is; who keeps nothing pays nothing."""

from __future__ import annotations

import queue
import threading
from functools import partial
from typing import Any

import numpy as np
import pytest

from tensor_optix.core.callbacks import LoopCallback
from tensor_optix.optimizer import RLOptimizer
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.rollout_pipeline import RolloutPipeline
from tensor_optix.pipeline.vector_env import from_env_fns, wrap_env
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.any_order_env import AnyOrder
from tests.pipeline.counting_env import Counter
from tests.pipeline.row_envs import ScriptedVectorEnv
from tests.scripted import CountingAgent


class Album:
    """Keeps what it is given as it is, and a copy of it."""

    def __init__(self) -> None:
        self._kept: list[Any] = []
        self.copies: list[Any] = []

    def keep(self, *parts: Any) -> None:
        self._kept.extend(parts)
        self.copies.extend(np.asarray(part).copy() for part in parts)

    def check(self, at_least: int) -> None:
        """Check that nothing has changed, and that there is something."""
        assert len(self._kept) >= at_least
        for part, copy in zip(self._kept, self.copies, strict=True):
            np.testing.assert_array_equal(np.asarray(part), copy)


class Busy(Counter):
    """Writes every observation into one array and every info into one dict, as some environments do."""

    def __init__(self, who: int = 0) -> None:
        super().__init__(who, length=7)
        self.buffer = np.zeros(2, np.float32)
        self.info: dict[str, Any] = {}

    def observation(self) -> np.ndarray:
        self.buffer[:] = self.who, self.resets * 100 + self.steps
        return self.buffer

    def step(self, action: int) -> Any:
        observation, reward, *flags, info = super().step(action)
        self.info.update(info)
        return observation, reward + self.steps, *flags, self.info


def reused_vector(seed: int | None) -> Any:
    return wrap_env(ScriptedVectorEnv(3))


SOURCES = {
    "one": lambda seed: wrap_env(Busy()),
    "sync": lambda seed: from_env_fns([partial(Busy, n) for n in range(3)]),
    "vector": reused_vector,
    "same step": lambda seed: wrap_env(ScriptedVectorEnv(3, autoreset_mode="SameStep")),
    "any order": lambda seed: AnyOrder(),
}
PARTS = ("observations", "actions", "rewards", "terminated", "truncated", "final_obs", "valid")


@pytest.fixture(params=SOURCES)
def make_env(request):
    return SOURCES[request.param]


def run(make_env: Any, agent: Any, windows: int = 6, window_size: int = 9) -> None:
    """Collect windows and let the agent learn from each."""
    pipeline = RolloutPipeline(make_env, agent, window_size, seed=0)
    source = pipeline.episodes()
    for _ in range(windows):
        agent.learn(next(source))
    pipeline.teardown()


class Learner(CountingAgent):
    """Keeps what `keep(window)` gives of each window."""

    def __init__(self, keep: Any) -> None:
        super().__init__()
        self.album = Album()
        self._choose = keep
        self._turn = 0

    def act_batch(self, observations: Any) -> Any:
        self._turn += 1
        return (np.arange(len(observations)) + self._turn // 4) % 2

    def learn(self, episode_data: Any) -> dict[str, Any]:
        self.album.keep(*self._choose(episode_data))
        return {}


@pytest.mark.parametrize("part", PARTS)
def test_any_part_of_a_window_protects_itself(part, make_env):
    def keep(window: Any) -> list[Any]:
        value = getattr(window, part)
        return [] if value is None else [value]

    agent = Learner(keep)
    run(make_env, agent)
    agent.album.check(at_least=0 if part in ("final_obs", "valid") else 6)


@pytest.mark.parametrize("part", ["observations", "actions"])
def test_one_row_of_one_window_protects_itself(part, make_env):
    agent = Learner(lambda window: [getattr(window, part)[4]] if window.episode_id == 2 else [])
    run(make_env, agent)
    agent.album.check(at_least=1)


def test_a_view_of_a_view_in_another_shape_protects_itself(make_env):
    agent = Learner(
        lambda window: [window.grid(window.observations)[1:, 0].T[::2], window.rewards[::3]]
    )
    run(make_env, agent)
    agent.album.check(at_least=12)


def test_a_memoryview_protects_itself(make_env):
    agent = Learner(lambda window: [memoryview(window.observations)])
    run(make_env, agent)
    agent.album.check(at_least=6)


def test_a_torch_tensor_that_shares_the_memory_protects_it(make_env):
    torch = pytest.importorskip("torch")
    agent = Learner(lambda w: [torch.from_numpy(w.observations)[2], torch.from_dlpack(w.actions)])
    run(make_env, agent)
    agent.album.check(at_least=12)


def test_a_tensorflow_tensor_that_shares_the_memory_protects_it(make_env):
    tf = pytest.importorskip("tensorflow")
    from_dlpack = tf.experimental.dlpack.from_dlpack
    agent = Learner(lambda window: [from_dlpack(window.observations.__dlpack__())])
    run(make_env, agent)
    agent.album.check(at_least=6)


class Recorder(CountingAgent):
    """Keeps what it acts on and what it observes."""

    is_on_policy = False  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.acted_on, self.observed = Album(), Album()

    def act(self, observation: Any) -> int:
        self.acted_on.keep(observation)
        return 1

    def observe(self, transitions: Any) -> None:
        self.observed.keep(*transitions)


def test_what_is_acted_on_and_observed_stays_as_it_is(make_env):
    agent = Recorder()
    run(make_env, agent)
    agent.acted_on.check(at_least=6 * 9)
    agent.observed.check(at_least=6 * 9)


@pytest.mark.parametrize("name", ["one", "sync", "vector", "same step"])
def test_what_is_acted_on_in_greedy_play_stays_as_it_is(name):
    agent = Recorder()
    env = SOURCES[name](None)
    play_episodes(agent, env, 9)
    env.close()
    agent.acted_on.check(at_least=9)


def test_infos_stay_as_they_are_where_an_environment_has_one_dict_for_all():
    pipeline = BatchPipeline(env=Busy(), agent=CountingAgent(), window_size=5)
    window = next(pipeline.episodes())
    assert [info["steps"] for info in window.infos] == [1, 2, 3, 4, 5]


def test_what_another_thread_holds_is_not_written_over(make_env):
    """The worker takes the rows some windows later than they come."""
    rows: queue.Queue[Any] = queue.Queue()
    changed = []

    def work() -> None:
        while (item := rows.get()) is not None:
            row, copy = item
            changed.append(not np.array_equal(row, copy))

    def hand_over(window: Any) -> list[Any]:
        for row in window.observations:
            rows.put((row, row.copy()))
        return []

    run(make_env, Learner(hand_over))
    rows.put(None)
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert len(changed) >= 6 * 9
    assert not any(changed)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_agents_and_callbacks_of_a_run_keep_true_rows(num_envs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Watcher(LoopCallback):
        def on_window(self, report: Any) -> None:
            album.check(at_least=1)

    album = Album()
    agent = Learner(lambda window: [])

    def learn(window: Any) -> dict[str, Any]:
        album.keep(*window.observations, *window.actions, *window.rewards)
        return {}

    agent.learn = learn  # type: ignore[method-assign]
    pipeline = VectorBatchPipeline([partial(Busy, n) for n in range(num_envs)], window_size=20)
    held_out = VectorBatchPipeline([partial(Busy, n) for n in range(num_envs)], window_size=20)
    RLOptimizer(agent, pipeline, val_pipeline=held_out, max_episodes=8, callbacks=[Watcher()]).run()
    album.check(at_least=8 * 20 * num_envs * 3)


def places(make_env: Any, keep: Any, windows: int) -> list[int]:
    """Return where the observations of each window lie, with a loop that keeps `keep(window)`."""
    addresses, agent = [], Learner(keep)
    pipeline = RolloutPipeline(make_env, agent, 9, seed=0)
    for window in pipeline.episodes():
        agent.learn(window)
        addresses.append(window.observations.ctypes.data)
        if len(addresses) == windows:
            break
    pipeline.teardown()
    return addresses


def test_who_keeps_nothing_makes_nobody_allocate(make_env):
    assert len(set(places(make_env, lambda window: [], 20))) == 2


def test_a_window_put_aside_takes_a_third_rollout_and_no_more(make_env):
    aside = []

    def put_aside(window: Any) -> list[Any]:
        aside[:] = [window, *aside][:2]
        return []

    assert len(set(places(make_env, put_aside, 20))) == 3


def test_storage_that_was_let_go_of_is_used_again():
    kept: list[Any] = []
    pipeline = BatchPipeline(env=Counter(), agent=CountingAgent(), window_size=4)
    source = pipeline.episodes()
    kept.extend(next(source) for _ in range(10))
    addresses = {window.observations.ctypes.data for window in kept}
    assert len(addresses) == 10
    kept.clear()
    again = [next(source).observations.ctypes.data for _ in range(6)]
    assert set(again) < addresses


def test_who_writes_into_a_window_changes_neither_the_next_one_nor_what_is_acted_on():
    class Writer(Recorder):
        def learn(self, episode_data: Any) -> dict[str, Any]:
            for part in (episode_data.observations, episode_data.final_obs):
                part[...] = -1
            return {}

    agent = Writer()
    run(lambda seed: wrap_env(Counter(length=1000)), agent)
    assert [int(row[1]) for row in agent.acted_on.copies] == list(range(6 * 9))


def test_who_writes_into_observed_rewards_and_flags_changes_no_window(make_env):
    class Writer(Recorder):
        def observe(self, transitions: Any) -> None:
            for part in (transitions.rewards, transitions.terminated, transitions.truncated):
                part[...] = 0

    def seen(agent: Any) -> list[Any]:
        windows: list[Any] = []
        agent.learn = windows.append
        run(make_env, agent)
        return [np.asarray([w.rewards, w.terminated, w.truncated]).tolist() for w in windows]

    assert seen(Writer()) == seen(Recorder())
