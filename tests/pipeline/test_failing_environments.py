"""What an environment does wrong ends the run, and never reaches the learner or the best policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest

from tensor_optix.optimizer import RLOptimizer
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.pipeline.counting_env import Counter, collect
from tests.scripted import CountingAgent

if TYPE_CHECKING:
    from tensor_optix.core.base_agent import BaseAgent

ROWS = 10


class Scheduled(Counter):
    """Episodes of 5 steps; pays 100 less 10 times the distance of the window from the fourth.

    In the seventh window it breaks: `bad` is paid, or raised.
    """

    def __init__(self, who: int = 0, bad: Any = 1.0) -> None:
        super().__init__(who)
        self.bad = bad
        self.total = 0

    def step(self, action: int) -> Any:
        observation, _, *rest = super().step(action)
        window = self.total // ROWS
        self.total += 1
        if self.total == 6 * ROWS + 4:
            if isinstance(self.bad, Exception):
                raise self.bad
            return observation, self.bad, *rest
        return observation, 100.0 - 10.0 * abs(window - 3), *rest


class Summing(CountingAgent):
    """Its weight is the sum of all rewards that it was ever shown: one that is not finite stays in it."""

    def __init__(self, is_on_policy: bool) -> None:
        super().__init__()
        self._is_on_policy = is_on_policy
        self.total = 0.0

    @property
    def is_on_policy(self) -> bool:
        return self._is_on_policy

    def learn(self, episode_data: Any) -> dict[str, Any]:
        if self._is_on_policy:
            self.total += float(np.sum(episode_data.rewards))
        return super().learn(episode_data)

    def observe(self, transitions: Any) -> None:
        self.total += float(np.sum(transitions.rewards))


def batch(bad: Any) -> Any:
    return BatchPipeline(env=Scheduled(bad=bad), window_size=ROWS)


def vector(bad: Any) -> Any:
    """Environment 1 is the one that breaks. An episode takes 5 rows and a row to reset."""
    functions = [Scheduled, lambda: Scheduled(1, bad), Scheduled]
    return VectorBatchPipeline(functions, window_size=ROWS)


def run(pipeline: Any, agent: BaseAgent, directory: Any) -> RLOptimizer:
    optimizer = RLOptimizer(
        agent, pipeline, checkpoint_dir=directory, score_smoothing=1, max_interval_episodes=1
    )
    optimizer.run()
    return optimizer


@pytest.mark.parametrize("is_on_policy", [True, False])
@pytest.mark.parametrize("make", [batch, vector])
def test_any_exception_of_the_environment_propagates_and_the_agent_holds_the_best_policy(
    tmp_path, make, is_on_policy
):
    agent = Summing(is_on_policy)
    with pytest.raises(NameError, match="a mistake of the user's"):
        run(make(NameError("a mistake of the user's")), agent, tmp_path)
    assert len(agent.learned) >= 5
    assert agent.updates == best_of(agent)


def best_of(agent: CountingAgent) -> int:
    """How often the agent had learned before it collected the window that scored highest."""
    return int(np.argmax([np.mean(window.finished_returns) for window in agent.learned]))


@pytest.mark.parametrize("is_on_policy", [True, False])
@pytest.mark.parametrize("reward", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("make", [batch, vector])
def test_a_reward_that_is_not_finite_ends_the_run_before_any_learner_sees_it(
    tmp_path, make, reward, is_on_policy
):
    agent = Summing(is_on_policy)
    who = 0 if make is batch else 1
    message = rf"finite, got {reward} from environment {who} at step \d of window [67]"
    with pytest.raises(ValueError, match=message):
        run(make(reward), agent, tmp_path)
    assert np.isfinite(agent.total)
    assert agent.updates == best_of(agent)


@pytest.mark.parametrize("is_on_policy", [True, False])
@pytest.mark.parametrize("reward", [1e30, -1.1e15])
@pytest.mark.parametrize("make", [batch, vector])
def test_a_reward_whose_square_no_loss_could_hold_ends_the_run_and_says_what_to_do(
    tmp_path, make, reward, is_on_policy
):
    agent = Summing(is_on_policy)
    message = r"between -1e\+15 and 1e\+15, got .* from environment \d at step \d .*: .* scale"
    with pytest.raises(ValueError, match=message):
        run(make(reward), agent, tmp_path)
    assert abs(agent.total) < 1e9


@pytest.mark.parametrize("is_on_policy", [True, False])
def test_the_step_that_is_named_is_that_of_the_window(tmp_path, is_on_policy):
    with pytest.raises(ValueError, match="got nan from environment 0 at step 3 of window 6"):
        run(batch(float("nan")), Summing(is_on_policy), tmp_path)


class Blinded(Counter):
    """Shows `bad` in element 1, once: after so many steps."""

    def __init__(self, who: int = 0, bad: float = np.nan, after: int = 6 * ROWS + 4) -> None:
        super().__init__(who)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.bad, self.after = bad, after

    def reset(self, **options: Any) -> Any:
        observation, info = super().reset(**options)
        return self._shown(observation), info

    def step(self, action: int) -> Any:
        self.after -= 1
        observation, *rest = super().step(action)
        return self._shown(observation), *rest

    def _shown(self, observation: Any) -> Any:
        shown = np.array(observation, np.float64)
        if not self.after:
            shown[1] = self.bad
            self.after = -1
        return shown


@pytest.mark.parametrize("is_on_policy", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
@pytest.mark.parametrize(
    ("after", "where"),
    [
        (6 * ROWS + 4, "observations must be finite, got {} in element 1 .* at step 4 of window 6"),
        (7 * ROWS, "final observations must .* got {} in element 1 .* at step 9 of window 6"),
        (0, "observations must be finite, got {} in element 1 .* at step 0 of window 0"),
    ],
    ids=["under way", "at the end of an episode", "at the reset"],
)
def test_an_observation_that_is_not_finite_ends_the_run_and_is_named(
    tmp_path, after, where, bad, is_on_policy
):
    agent = Summing(is_on_policy)
    env = Blinded(bad=bad, after=after)
    with pytest.raises(ValueError, match=where.format(bad) + ": no policy can be learned from it"):
        run(BatchPipeline(env=env, window_size=ROWS), agent, tmp_path)
    assert len(agent.learned) <= 6


@pytest.mark.parametrize("is_on_policy", [True, False])
def test_of_several_environments_the_one_is_named_that_shows_it(tmp_path, is_on_policy):
    functions = [Blinded, lambda: Blinded(1, after=12), lambda: Blinded(2, after=10**6)]
    pipeline = VectorBatchPipeline(functions, window_size=ROWS)
    # Two rows of the 14 are resets.
    with pytest.raises(ValueError, match="element 1 from environment 1 at step 4 of window 1"):
        run(pipeline, Summing(is_on_policy), tmp_path)


def test_environments_made_by_lambdas_run_in_processes_of_their_own_when_that_is_asked_for():
    """Nothing falls back to one process because a lambda cannot be pickled."""
    length = 3
    pipeline = VectorBatchPipeline(
        [lambda n=n: Counter(n, length=length) for n in range(2)],
        CountingAgent(),
        window_size=4,
        async_envs=True,
    )
    episode = collect(pipeline, 1)[0]
    assert isinstance(pipeline.env._env, gymnasium.vector.AsyncVectorEnv)
    assert episode.grid(episode.observations)[:3, 1].tolist() == [[1, 0], [1, 1], [1, 2]]
    pipeline.teardown()


def test_the_users_environment_stays_open_after_a_run_and_a_second_run_works(tmp_path):
    env = Counter()
    pipeline = BatchPipeline(env=env, window_size=10)
    agent = CountingAgent()
    for _ in range(2):
        RLOptimizer(agent, pipeline, checkpoint_dir=tmp_path, max_episodes=3).run()
        assert not env.closed
    assert len(agent.learned) == 6
