"""Novelty in the rewards: what is learned from, and what is never scored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete

from tensor_optix.core.base_evaluator import RAW_REWARDS
from tensor_optix.core.checkpoints.saved_state import read_state, write_state
from tensor_optix.core.types import EpisodeData
from tensor_optix.exploration.rnd import RNDPipeline, SmallNetwork
from tensor_optix.optimizer import RLOptimizer
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.live_pipeline import LivePipeline
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.contracts.pipeline_contract import PipelineContract
from tests.pipeline.counting_env import Counter, collect
from tests.pipeline.live_source import Steps
from tests.pipeline.test_action_forms import Row, Strict
from tests.pipeline.test_atari import Moving, lived
from tests.scripted import CountingAgent, OffPolicyAgent, ScriptedPipeline

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestRNDPipelineContract(PipelineContract):
    @pytest.fixture
    def pipeline(self):
        return RNDPipeline(VectorBatchPipeline([Counter, Counter], window_size=4), obs_dim=2)


class TestLiveRNDPipelineContract(PipelineContract):
    @pytest.fixture
    def pipeline(self):
        return RNDPipeline(LivePipeline(Steps()), obs_dim=1)


class Poor(Counter):
    """Pays nothing."""

    def step(self, action: int) -> Any:
        observation, _, *rest = super().step(action)
        return observation, 0.0, *rest


class Given(ScriptedPipeline):
    """Yields the windows that it was given."""

    def __init__(self, *windows: EpisodeData) -> None:
        super().__init__(lambda updates, window: 0.0)
        self.windows = windows

    def episodes(self) -> Iterator[EpisodeData]:
        yield from self.windows


@pytest.mark.parametrize(
    "space",
    [MultiDiscrete([[2], [3]], start=[[4], [-1]]), MultiBinary(2), Discrete(2, start=3)],
    ids=str,
)
def test_actions_of_every_form_reach_the_environment_and_are_kept(space: Any) -> None:
    env, agent = Strict(space), Row(0 if isinstance(space, Discrete) else [1, 0])
    (kept,) = collect(RNDPipeline(BatchPipeline(env=env, agent=agent, window_size=4), obs_dim=2), 1)
    np.testing.assert_array_equal(kept.actions, [agent.action] * 4)
    assert np.ptp(kept.rewards) > 0


class Lasting(Given):
    """Goes on with its windows, if it is told where it was."""

    given = 0

    def episodes(self) -> Iterator[EpisodeData]:
        while self.given < len(self.windows):
            self.given += 1
            yield self.windows[self.given - 1]

    def state_dict(self) -> dict[str, Any]:
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        self.given = state["given"]
        return True


def window(observations: Any, **fields: Any) -> EpisodeData:
    shown = np.asarray(observations, np.float32)
    rows = len(shown)
    flags = {"terminated": [False] * rows, "truncated": [False] * rows, "rewards": [0.0] * rows}
    flags |= {"actions": np.zeros(rows, np.int64), "infos": [], "episode_id": 0}
    return EpisodeData(observations=shown, **(flags | fields))


def test_an_environment_that_never_pays_scores_0_however_curious_the_agent_is(tmp_path):
    agent = CountingAgent()
    pipeline = RNDPipeline(BatchPipeline(env=Poor(), window_size=12), obs_dim=2, eta=5.0)
    optimizer = RLOptimizer(agent, pipeline, checkpoint_dir=tmp_path, max_episodes=4)
    optimizer.run()
    assert optimizer.best_snapshot.eval_metrics.primary_score == 0.0
    assert all(sum(episode.rewards) > 0 for episode in agent.learned)


def test_returns_over_window_borders_stay_those_of_the_environment():
    pipeline = RNDPipeline(BatchPipeline(env=Counter(length=9), window_size=6), obs_dim=2)
    pipeline.set_agent(CountingAgent())
    windows = collect(pipeline, 3)
    assert [episode.finished_returns.tolist() for episode in windows] == [[], [9.0], [9.0]]
    assert windows[0].metadata["raw_rewards"].tolist() == [1.0] * 6
    assert isinstance(windows[0].rewards, list)


def test_a_window_that_does_not_track_returns_is_scored_by_its_raw_rewards():
    pipeline = RNDPipeline(ScriptedPipeline(lambda updates, window: 7.0), obs_dim=1, eta=1.0)
    pipeline.set_agent(CountingAgent())
    assert next(pipeline.episodes()).finished_returns.tolist() == [7.0]


def test_what_is_seen_often_gets_boring_and_what_is_new_does_not():
    rng = np.random.default_rng(0)
    known = rng.normal(size=(64, 3))
    new = known + 4.0
    windows = [window(known, final_obs=known[0]) for _ in range(150)]
    windows.append(window(new, final_obs=new[0]))
    pipeline = RNDPipeline(Given(*windows), obs_dim=3, eta=1.0, predictor_lr=3e-3)
    novelty = [np.mean(episode.rewards) for episode in pipeline.episodes()]
    assert 0.3 < novelty[0] < 3.0
    assert novelty[-2] < 0.1 * novelty[0]
    assert novelty[-1] > 10 * novelty[-2]


def test_novelty_is_that_of_the_observation_which_the_action_led_to():
    """Row 1 of each window leads to what was never seen: across the end of an episode, and of a window."""
    known = np.zeros((4, 2))
    dull = [window(known + np.eye(2)[0], final_obs=np.eye(2)[0]) for _ in range(30)]
    far = np.full(2, 9.0)
    ended = window(
        known + np.eye(2)[0],
        truncated=[False, True, False, False],
        final_obs=np.eye(2)[0],
        end_rows=np.array([1]),
        end_observations=far[None],
    )
    cut = window(known[:2] + np.eye(2)[0], final_obs=far)
    for last in (ended, cut):
        pipeline = RNDPipeline(Given(*dull, last), obs_dim=2)
        assert np.argmax(list(pipeline.episodes())[-1].rewards) == 1


def test_rows_that_lead_nowhere_known_get_no_novelty():
    valid = np.array([True, False, True, True])
    observations = np.arange(8.0).reshape(4, 2)
    observations[3, 0] = np.nan
    known = window(np.random.default_rng(0).normal(size=(8, 2)))
    pipeline = RNDPipeline(Given(known, window(observations, valid=valid)), obs_dim=2, eta=1.0)
    rewards = list(pipeline.episodes())[-1].rewards
    assert rewards[0] > 0
    assert rewards[1:] == [0.0, 0.0, 0.0]


def test_the_rewards_are_the_raw_ones_and_eta_times_the_novelty():
    observations = np.random.default_rng(0).normal(size=(8, 2))

    def bonus(eta: float) -> np.ndarray:
        pipeline = RNDPipeline(Given(window(observations, rewards=[3.0] * 8)), 2, eta=eta, seed=4)
        return np.subtract(next(pipeline.episodes()).rewards, 3.0)

    np.testing.assert_allclose(bonus(0.2), 2 * bonus(0.1), rtol=1e-5, atol=1e-6)


def test_with_an_eta_of_0_windows_are_left_alone():
    given = window(np.zeros((2, 2)))
    pipeline = RNDPipeline(Given(given), obs_dim=2)
    pipeline.set_eta(0.0)
    assert pipeline.eta == 0.0
    assert next(pipeline.episodes()) is given


def test_the_window_of_the_wrapped_pipeline_is_not_written_to():
    given = window(np.ones((3, 2)), rewards=np.zeros(3, np.float32))
    rewards = next(RNDPipeline(Given(given), obs_dim=2, eta=1.0).episodes()).rewards
    assert not np.any(given.rewards)
    assert isinstance(rewards, np.ndarray)


def test_the_same_seed_gives_the_same_novelty():
    observations = np.random.default_rng(0).normal(size=(8, 2))

    def rewards(seed: int) -> Any:
        pipeline = RNDPipeline(Given(window(observations)), obs_dim=2)
        pipeline.seed(seed)
        return next(pipeline.episodes()).rewards

    assert rewards(1) == rewards(1) != rewards(2)


@pytest.mark.parametrize("moment", [0, 1, 5])
def test_from_its_state_in_a_file_the_novelty_goes_on_to_the_bit(moment, tmp_path):
    rng = np.random.default_rng(0)
    # More rows than the predictor takes at once.
    windows = [window(rng.normal(size=(300, 3)), final_obs=rng.normal(size=3)) for _ in range(9)]
    straight = RNDPipeline(Lasting(*windows), obs_dim=3, seed=4)
    straight.set_eta(0.3)
    expected = [episode.rewards for episode in straight.episodes()]
    first = RNDPipeline(Lasting(*windows), obs_dim=3, seed=4)
    first.set_eta(0.3)
    collect(first, moment)
    state = first.state_dict()
    collect(first, 1)
    write_state(tmp_path / "rnd", state)
    resumed = RNDPipeline(Lasting(*windows), obs_dim=3, seed=5)
    assert resumed.load_state_dict(read_state(tmp_path / "rnd"))
    assert resumed.eta == 0.3
    assert [episode.rewards for episode in resumed.episodes()] == expected[moment:]


def test_where_the_wrapped_pipeline_keeps_nothing_its_episodes_do_not_go_on():
    state = RNDPipeline(Given(), obs_dim=2).state_dict()
    assert state["pipeline"] is None
    assert RNDPipeline(Given(), obs_dim=2).load_state_dict(state) is False


def test_the_state_of_networks_of_another_size_is_refused():
    state = RNDPipeline(Given(), obs_dim=2).state_dict()
    with pytest.raises(ValueError, match=r"\(3, 64\).*got .*\(2, 64\).*the obs_dim and"):
        RNDPipeline(Given(), obs_dim=3).load_state_dict(state)


def test_everything_else_is_the_wrapped_pipelines():
    wrapped = BatchPipeline(env=Counter(), window_size=4)
    pipeline = RNDPipeline(wrapped, obs_dim=2)
    agent = CountingAgent()
    pipeline.set_agent(agent)
    collect(pipeline, 1)
    pipeline.restart()
    assert collect(pipeline, 1)[0].observations[0].tolist() == [0, 0]
    pipeline.teardown()
    assert not pipeline.is_live
    assert pipeline.time_limit is None
    assert RNDPipeline(LivePipeline(Steps()), obs_dim=1).is_live


def test_an_agent_that_learns_while_collecting_is_refused():
    pipeline = RNDPipeline(BatchPipeline(env=Counter()), obs_dim=2)
    with pytest.raises(ValueError, match="needs an on-policy agent, such as PPO, got OffPolicyAg"):
        pipeline.set_agent(OffPolicyAgent())


def test_another_number_of_components_is_refused():
    pipeline = RNDPipeline(BatchPipeline(env=Counter(), agent=CountingAgent()), obs_dim=3)
    with pytest.raises(ValueError, match="the numbers in one observation, 2, got 3"):
        next(pipeline.episodes())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"obs_dim": 0}, "obs_dim must be at least 1, got 0"),
        ({"embedding_dim": 0}, "embedding_dim must be at least 1, got 0"),
        ({"eta": -1.0}, "eta must be 0 or more, got -1.0"),
        ({"predictor_lr": 0.0}, "predictor_lr must be more than 0, got 0.0"),
        ({"norm_eps": float("nan")}, "norm_eps must be more than 0, got nan"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RNDPipeline(BatchPipeline(env=Counter()), **({"obs_dim": 2} | options))


# ---- the network: its gradients are those of its loss, and its steps go down


def loss(network: SmallNetwork, inputs: np.ndarray, targets: np.ndarray) -> float:
    return float(np.square(network(inputs) - targets).mean())


def test_the_gradient_is_that_of_the_mean_squared_distance():
    """The first step of Adam moves every weight by the learning rate, against the sign of its gradient."""
    rng = np.random.default_rng(0)
    network = SmallNetwork((3, 5, 4, 2), rng)
    # In double precision, for differences small enough not to cross the kink of a ReLU.
    network._weights = [rng.normal(size=weight.shape) for weight in network._weights]
    inputs, targets = rng.normal(size=(7, 3)), rng.normal(size=(7, 2))
    before = [weight.copy() for weight in network._weights]
    numeric = []
    for weight in network._weights:
        slopes = np.zeros(weight.shape)
        for at in np.ndindex(weight.shape):
            kept = weight[at]
            weight[at] = kept + 1e-6
            above = loss(network, inputs, targets)
            weight[at] = kept - 1e-6
            slopes[at] = (above - loss(network, inputs, targets)) / 2e-6
            weight[at] = kept
        numeric.append(slopes)
    network.descend(inputs, targets, 0.125)
    for weight, old, slopes in zip(network._weights, before, numeric, strict=True):
        clear = np.abs(slopes) > 1e-2
        np.testing.assert_allclose(
            (weight - old)[clear], -0.125 * np.sign(slopes[clear]), rtol=1e-3
        )
    assert sum(int((np.abs(slopes) > 1e-2).sum()) for slopes in numeric) > 20


def test_it_learns_a_function():
    rng = np.random.default_rng(1)
    network = SmallNetwork((2, 16, 1), rng)
    inputs = rng.normal(size=(64, 2)).astype("f4")
    targets = np.abs(inputs[:, :1])
    before = loss(network, inputs, targets)
    for _ in range(300):
        network.descend(inputs, targets, 1e-2)
    assert loss(network, inputs, targets) < before / 50


def test_the_games_own_rewards_count_where_the_pipeline_clips_them():
    clipping = VectorBatchPipeline([lived, lived], Moving(), window_size=30)
    windows = RNDPipeline(clipping, obs_dim=3)
    window = next(windows.episodes())
    windows.teardown()
    assert set(window.metadata[RAW_REWARDS]) == {0.0, 10.0, 11.0}
    assert np.max(window.rewards) < 10.0
