"""What a run that is left alone must never do, from its first window to its last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np
import pytest

from tensor_optix import (
    BackoffOptimizer,
    BatchPipeline,
    EnsembleAgent,
    MomentumOptimizer,
    PBTOptimizer,
    PolicyManager,
    RLOptimizer,
    SPSAOptimizer,
)
from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.types import HyperparamSet
from tensor_optix.optimizers.diagnostic_controller import DiagnosticController
from tests.core.scripted_loop import EVERY_WINDOW, Setup
from tests.scripted import CountingAgent, Diary, OffPolicyAgent, ScriptedOptimizer, ScriptedPipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tensor_optix.core.types import EpisodeData

BOUNDS = {"learning_rate": (0.01, 1.0)}
OPTIMIZERS = {
    "spsa": lambda: SPSAOptimizer(BOUNDS, seed=0),
    "backoff": lambda: BackoffOptimizer(BOUNDS, seed=0),
    "pbt": lambda: PBTOptimizer(BOUNDS, seed=0),
    "momentum": lambda: MomentumOptimizer(BOUNDS, seed=0),
    "corrected spsa": lambda: DiagnosticController(SPSAOptimizer(BOUNDS, seed=0)),
    "spsa without bounds": SPSAOptimizer,
    "pbt without bounds": lambda: PBTOptimizer(None),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_constant_score_ends_the_run_at_the_documented_window_whatever_tunes(tmp_path, name):
    setup = Setup(tmp_path, lambda updates, window: 5.0, optimizer=OPTIMIZERS[name]()).run()
    assert setup.diary.named("on_dormant") == [1300]


def noisy(mean: float, deviation: float, seed: int) -> Callable[[int, int], float]:
    rng = np.random.default_rng(seed)
    return lambda updates, window: float(rng.normal(mean, deviation))


@pytest.mark.parametrize(
    ("agent", "rolls_back"), [(CountingAgent, False), (CountingAgent, True), (OffPolicyAgent, True)]
)
def test_noise_without_a_trend_ends_the_run_in_at_most_twice_the_time_of_a_constant(
    tmp_path, agent, rolls_back
):
    """200 +- 30. Off-policy agents are no exception, nor are runs that roll back."""
    in_time = 0
    for seed in range(8):
        setup = Setup(
            tmp_path / str(seed),
            noisy(200.0, 30.0, seed),
            agent=agent(),
            scheduler=EVERY_WINDOW | {"dormant_threshold": 20},
            rollback_on_degradation=rolls_back,
            score_smoothing=2,
            max_episodes=41,
        ).run()
        in_time += bool(setup.diary.named("on_dormant"))
    assert in_time == 8


@pytest.mark.parametrize("agent", [CountingAgent, OffPolicyAgent])
def test_a_collapse_that_no_rollback_can_mend_comes_to_an_end(tmp_path, agent):
    setup = Setup(
        tmp_path,
        lambda updates, window: 500.0 if window < 20 else 9.0,
        agent=agent(),
        scheduler=EVERY_WINDOW | {"dormant_threshold": 40},
        rollback_on_degradation=True,
        max_episodes=200,
    ).run()
    assert "rollback" in setup.diary.kinds()
    assert setup.diary.named("on_dormant")[0] <= 20 + 5 + 40


@pytest.mark.parametrize(("mean", "deviation"), [(200.0, 20.0), (-200.0, 20.0), (0.0, 1.0)])
def test_ordinary_noise_is_hardly_ever_taken_for_a_degradation(tmp_path, mean, deviation):
    """Of 400 evaluations less than one in a hundred, also around a best of about 0."""
    alarms = 0
    for seed in range(2):
        setup = Setup(
            tmp_path / str(seed),
            noisy(mean, deviation, seed),
            scheduler=EVERY_WINDOW | {"dormant_threshold": 1000},
            max_episodes=200,
        ).run()
        alarms += len(setup.diary.named("on_degradation"))
    assert alarms < 4


def test_a_policy_that_shows_during_an_experiment_is_kept_with_the_accepted_hyperparameters(
    tmp_path,
):
    class Honest(ScriptedOptimizer):
        def accepted(self, current_hyperparams: HyperparamSet) -> HyperparamSet:
            return HyperparamSet({"learning_rate": 0.1})

    setup = Setup(
        tmp_path,
        lambda updates, window: float(window),
        optimizer=Honest(probing=True),
        scheduler=EVERY_WINDOW,
        max_episodes=9,
    ).run()
    best = setup.controller.best_snapshot
    assert best.eval_metrics.primary_score == 8.0
    assert best.hyperparams.params == setup.agent.params == {"learning_rate": 0.1}
    asked = [old["learning_rate"] for old, _ in setup.diary.named("on_hyperparam_update")]
    assert asked[-1] > 0.1


class Tuned(CountingAgent):
    """Its bounds let the default optimizer tune it; it says that its policy moves too far."""

    default_param_bounds: ClassVar[Any] = BOUNDS

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        return super().learn(episode_data) | {"approx_kl": 1.0}


def trained(directory: Any, score_of: Any, **options: Any) -> Diary:
    diary = Diary()
    RLOptimizer(
        Tuned(),
        ScriptedPipeline(score_of),
        checkpoint_dir=directory,
        callbacks=[diary],
        **{"base_interval": 1, "max_interval_episodes": 1} | options,
    ).run()
    return diary


def test_diagnostics_correct_nothing_unless_they_are_asked_to(tmp_path):
    """Steadily rising scores keep the tuner itself quiet."""

    def rates(**options: Any) -> list[float]:
        score_of = lambda updates, window: float(window)  # noqa: E731
        directory = tmp_path / str(len(options))
        diary = trained(directory, score_of, max_episodes=40, **options)
        return [new["learning_rate"] for _, new in diary.named("on_hyperparam_update")]

    assert set(rates()) == {0.1}
    corrected = rates(diag_target_kl=0.02)
    assert corrected[-1] == min(corrected) == 0.01


def test_one_seed_decides_what_the_tuner_does(tmp_path):
    def decisions(seed: int) -> list[Any]:
        options = {"dormant_threshold": 1000, "max_episodes": 60, "seed": seed}
        diary = trained(tmp_path / str(seed), noisy(100.0, 5.0, 0), **options)
        return [new for _, new in diary.named("on_hyperparam_update")]

    first = decisions(1)
    assert len({params["learning_rate"] for params in first}) > 2
    assert decisions(1) == first != decisions(2)


class Lottery(gymnasium.Env[np.ndarray, int]):
    """Observes what its seed drew; an episode takes 5 steps and pays the first number drawn."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (2,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.steps = 0
        self.drawn = self.np_random.random(2, np.float32)
        return self.drawn, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        pay = float(self.drawn[0]) if self.steps == 1 else 0.0
        return self.np_random.random(2, np.float32), pay, self.steps == 5, False, {}


class Windows(BatchPipeline):
    """Keeps what was observed and done in every window, and which of them began fresh episodes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(env=Lottery(), window_size=20, **options)
        self.seen: list[bytes] = []
        self.fresh: list[int] = []

    def episodes(self) -> Iterator[EpisodeData]:
        self.fresh.append(len(self.seen))
        for window in super().episodes():
            rows = np.asarray(window.observations).tobytes() + np.asarray(window.actions).tobytes()
            self.seen.append(rows)
            yield window


def test_every_validation_plays_the_same_fresh_episodes_from_their_start(tmp_path):
    validation = Windows()
    RLOptimizer(
        CountingAgent(),
        Windows(),
        val_pipeline=validation,
        checkpoint_dir=tmp_path,
        seed=3,
        max_episodes=6,
        base_interval=1,
        max_interval_episodes=1,
        finalists=0,
    ).run()
    assert len(validation.fresh) >= 6
    assert len({validation.seen[i] for i in validation.fresh}) == 1
    assert len(set(validation.seen)) > 1


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_validation_changes_nothing_in_the_training(tmp_path, algorithm):
    """Not a random number is drawn, not a step explored, not a row stored by it."""
    pytest.importorskip("torch")
    from tensor_optix import make_agent

    def windows(validation: Any) -> list[bytes]:
        training = Windows()
        agent = make_agent(Lottery(), algorithm, "torch", seed=1, device="cpu", hidden_sizes=(8,))
        RLOptimizer(
            agent,
            training,
            val_pipeline=validation,
            checkpoint_dir=tmp_path / str(validation is None),
            seed=3,
            max_episodes=5,
            base_interval=1,
            max_interval_episodes=1,
            finalists=0,
        ).run()
        return training.seen

    alone = windows(None)
    assert len(set(alone)) == 5
    assert windows(Windows()) == alone


class Balancing(CountingAgent):
    """Pushes a CartPole the way it leans and turns, with a little more weight on one of the two."""

    def __init__(self, leaning: float) -> None:
        super().__init__()
        self.leaning = leaning

    def act(self, observation: Any) -> int:
        return int(self.leaning * observation[2] + observation[3] > 0.0)


def test_an_ensemble_of_agents_that_balance_a_cartpole_balances_it(tmp_path):
    manager = PolicyManager(CheckpointRegistry(tmp_path))
    agents = [Balancing(leaning) for leaning in (0.5, 1.0, 2.0)]
    for agent in agents:
        manager.add_agent(agent)
    env = gymnasium.make("CartPole-v1")
    ensemble = EnsembleAgent(manager, agents[0])
    pipeline = BatchPipeline(env, ensemble, window_size=600, seed=0)
    pipeline.setup()
    episode = next(iter(pipeline.episodes()))
    pipeline.teardown()
    assert np.mean(episode.finished_returns) >= 195.0
    action = ensemble.act(env.reset(seed=0)[0])
    assert type(action) is int
    assert env.action_space.contains(action)


@pytest.mark.slow
def test_an_ensemble_learns_to_balance_a_cartpole(tmp_path):
    pytest.importorskip("torch")
    from tensor_optix import make_agent

    manager = PolicyManager(CheckpointRegistry(tmp_path))
    env = gymnasium.make("CartPole-v1")
    agents = [make_agent(env, "ppo", "torch", seed=seed, device="cpu") for seed in (1, 2)]
    for agent in agents:
        manager.add_agent(agent)
    ensemble = EnsembleAgent(manager, agents[0])
    optimizer = RLOptimizer(
        ensemble,
        BatchPipeline(env, window_size=2048),
        checkpoint_dir=tmp_path,
        seed=0,
        max_episodes=25,
    )
    optimizer.run()
    assert optimizer.best_snapshot.eval_metrics.primary_score >= 195.0
