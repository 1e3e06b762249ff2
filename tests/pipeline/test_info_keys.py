"""Infos of many environments: only the keys asked for, a dict per row, whatever runs the environments."""

from __future__ import annotations

import itertools
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from tensor_optix.core.base_evaluator import BaseEvaluator
from tensor_optix.core.types import EvalMetrics
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.info_keys import InfoKeys
from tensor_optix.pipeline.rollout_pipeline import RolloutPipeline
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.any_order_env import AnyOrder
from tests.pipeline.counting_env import Counter, collect
from tests.scripted import CountingAgent

if TYPE_CHECKING:
    from tensor_optix.core.types import EpisodeData


class Trader(Counter):
    """Tells in every row what it gained, in some which trade it closed, at ends a summary."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        observation, _ = super().reset(seed=seed)
        return observation, {"pnl": -1000.0, "unused": 1}

    def step(self, action: int) -> Any:
        *rest, info = super().step(action)
        info |= {
            "pnl": 10.0 * self.who + self.steps,
            "unused": 1,
            "position": np.full(2, self.steps),
        }
        if self.steps % 2 == 0:
            info["trade"] = f"{self.who}/{self.steps}"
        if self.steps == self.length:
            info["episode"] = {"r": float(self.length), "l": self.length}
        return *rest, info


KEYS = ("pnl", "trade", "position", "episode")


def expected(who: int, steps: int, length: int) -> dict[str, Any]:
    info: dict[str, Any] = {"pnl": 10.0 * who + steps, "position": [steps] * 2}
    if steps % 2 == 0:
        info["trade"] = f"{who}/{steps}"
    if steps == length:
        info["episode"] = {"r": float(length), "l": length}
    return info


def plain(info: dict[str, Any]) -> dict[str, Any]:
    return {key: value.tolist() if key == "position" else value for key, value in info.items()}


def traders(num_envs: int = 3) -> list[Any]:
    return [partial(Trader, n, length=3 + n) for n in range(num_envs)]


def vector(vector_class: Any, mode: AutoresetMode) -> Any:
    return {"env": vector_class(traders(), autoreset_mode=mode)}


SOURCES = {
    "sync": lambda: {"env_fns": traders()},
    "async": lambda: {"env_fns": traders(), "async_envs": True},
    "one": lambda: {"env_fns": traders(1)},
    "sync next step": lambda: vector(SyncVectorEnv, AutoresetMode.NEXT_STEP),
    "sync same step": lambda: vector(SyncVectorEnv, AutoresetMode.SAME_STEP),
    "sync disabled": lambda: vector(SyncVectorEnv, AutoresetMode.DISABLED),
    "async same step": lambda: vector(AsyncVectorEnv, AutoresetMode.SAME_STEP),
    "async disabled": lambda: vector(AsyncVectorEnv, AutoresetMode.DISABLED),
}


@pytest.fixture(params=SOURCES)
def options(request):
    options = SOURCES[request.param]()
    yield options
    if "env" in options:
        options["env"].close()


def check_rows(window: EpisodeData) -> int:
    """Check every row's info; return how many rows are no transition."""
    assert len(window.infos) == window.length
    valid = np.ones(window.length, bool) if window.valid is None else window.valid
    for row, info in enumerate(window.infos):
        who, steps = window.observations[row].astype(int).tolist()
        assert plain(info) == (expected(who, steps + 1, 3 + who) if valid[row] else {})
    return window.length - window.num_steps


def test_each_row_has_the_keys_asked_for_that_it_has_and_no_others(options):
    pipeline = VectorBatchPipeline(agent=CountingAgent(), window_size=11, info_keys=KEYS, **options)
    for window in collect(pipeline, 3):
        resets = check_rows(window)
        assert window.valid is None or resets
    pipeline.teardown()


def test_numbers_are_plain_ones(options):
    pipeline = VectorBatchPipeline(
        agent=CountingAgent(), window_size=5, info_keys=["pnl"], **options
    )
    for window in collect(pipeline, 3):
        assert all(type(info.get("pnl", 0.0)) is float for info in window.infos)
    pipeline.teardown()


def test_without_info_keys_a_vector_keeps_none_and_a_plain_environment_all():
    several = VectorBatchPipeline(traders(), CountingAgent(), window_size=3)
    assert collect(several, 1)[0].infos == []
    single = BatchPipeline(env=Trader(), agent=CountingAgent(), window_size=3)
    assert set(collect(single, 1)[0].infos[0]) == {"steps", "pnl", "unused", "position"}


def test_environments_that_answer_in_any_order_have_the_infos_of_their_own_rows():
    class Telling(AnyOrder):
        def recv(self) -> Any:
            step = super().recv()
            assert self.info_keys is not None
            infos = {"after": step.observations, "reward": step.rewards}
            dones = step.terminated | step.truncated
            return step._replace(infos=self.info_keys.of_rows(infos, step.valid, dones))

    keys = InfoKeys(["after", "reward"])
    pipeline = RolloutPipeline(lambda seed: Telling(), CountingAgent(), 8, 0, info_keys=keys)
    for window in collect(pipeline, 4):
        assert len(window.infos) == window.length
        told = np.array([bool(info) for info in window.infos])
        np.testing.assert_array_equal(told, window.valid)
        for row in np.flatnonzero(told):
            assert window.infos[row]["reward"] == window.rewards[row]
            after = window.observations[row] + [0, 0, 1]
            np.testing.assert_array_equal(window.infos[row]["after"], after)


@pytest.mark.parametrize("backend", ["envpool", "envpool-async"])
def test_envpools_infos_are_those_of_the_row(backend):
    pytest.importorskip("envpool")
    pipeline = VectorBatchPipeline(
        env_id="CartPole-v1",
        num_envs=4,
        backend=backend,
        agent=CountingAgent(),
        window_size=40,
        seed=0,
        info_keys=["elapsed_step", "env_id"],
    )
    for window in collect(pipeline, 2):
        valid = window.grid(np.ones(window.length, bool) if window.valid is None else window.valid)
        infos = window.grid(np.array(window.infos, object))
        for n in range(4):
            rows = infos[:, n][valid[:, n]]
            assert {info["env_id"] for info in rows} == {n}
            steps = [info["elapsed_step"] for info in rows]
            assert all(after in (before + 1, 1) for before, after in itertools.pairwise(steps))
        assert not any(infos[~valid])
    pipeline.teardown()


def test_final_info_may_be_a_list_of_dicts_and_a_value_one_for_all():
    keys = InfoKeys(["pnl", "clock"])
    infos = {"pnl": np.array([7, 8]), "clock": 5, "final_info": [None, {"pnl": 3}]}
    valid, dones = np.array([True, True]), np.array([False, True])
    assert keys.of_rows(infos, valid, dones) == [{"pnl": 7, "clock": 5}, {"pnl": 3}]


def test_what_was_read_from_an_array_stays_when_the_array_is_written_over():
    infos = {"position": np.ones((2, 3)), "pnl": np.ones(2)}
    rows = InfoKeys(["position", "pnl"]).of_rows(infos, np.ones(2, bool), np.zeros(2, bool))
    for array in infos.values():
        array[:] = 7
    assert [(row["position"].tolist(), row["pnl"]) for row in rows] == [([1.0, 1.0, 1.0], 1.0)] * 2


def test_an_evaluator_can_score_by_them():
    class Pnl(BaseEvaluator):
        def score(self, episode_data: EpisodeData, train_diagnostics: Any) -> EvalMetrics:
            pnl = sum(info.get("pnl", 0.0) for info in episode_data.infos)
            return EvalMetrics(pnl, {}, episode_data.episode_id)

    pipeline = VectorBatchPipeline(traders(2), CountingAgent(), window_size=4, info_keys=["pnl"])
    # Environment 0 makes 1 + 2 + 3 and resets, environment 1 makes 11 + 12 + 13 + 14.
    assert Pnl().score(collect(pipeline, 1)[0], {}).primary_score == 6 + 50


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_key_that_never_shows_up_is_warned_of_once(num_envs, caplog):
    pipeline = VectorBatchPipeline(
        traders(num_envs), CountingAgent(), window_size=2, info_keys=["pnl", "profit"]
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            collect(pipeline, 3)
            pipeline.teardown()
    assert caplog.messages == [
        "info_keys: no row of the first window has profit; the infos have pnl, position, steps, trade, "
        "unused"
    ]


def test_nothing_is_said_where_all_keys_show_up(caplog):
    pipeline = VectorBatchPipeline(traders(), CountingAgent(), window_size=6, info_keys=KEYS)
    with caplog.at_level(logging.WARNING):
        collect(pipeline, 2)
    assert not caplog.messages


@pytest.mark.parametrize("names", ["pnl", [1]])
def test_names_that_are_no_list_of_names_are_refused(names):
    with pytest.raises(TypeError, match="info_keys must be a list of names"):
        VectorBatchPipeline(traders(), info_keys=names)
