"""Any object with the six methods is an agent, any with `act` steps a pipeline, and comes back as it is."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import MagicMock

import gymnasium
import numpy as np
import pytest

from tensor_optix import (
    BatchPipeline,
    CheckpointRegistry,
    EnsembleAgent,
    HyperparamSet,
    LivePipeline,
    PolicyManager,
    RLOptimizer,
    TrialOrchestrator,
    VectorBatchPipeline,
)
from tensor_optix.core.foreign_agent import SIX_METHODS, as_actor, as_agent, own_object
from tensor_optix.core.replay_buffer import ReplayBuffer
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import wrap_env
from tests.core.array_agent import evaluation
from tests.core.scripted_loop import Setup, rising_then_falling
from tests.scripted import Diary, ScriptedPipeline


class Plain:
    """Six methods and nothing else; writes a file, and says nothing of what it learned."""

    def __init__(self, action: int = 0, params: dict[str, Any] | None = None) -> None:
        self.action = action
        self.updates = 0
        self.params = params or {"learning_rate": 0.1}

    def act(self, observation: Any) -> int:
        return self.action

    def learn(self, episode_data: Any) -> None:
        self.updates += 1

    def get_hyperparams(self) -> HyperparamSet:
        return HyperparamSet(dict(self.params))

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        self.params = dict(hyperparams.params)

    def save_weights(self, path: Any) -> None:
        with open(path, "x") as file:
            json.dump(self.updates, file)

    def load_weights(self, path: Any) -> None:
        self.updates = json.loads(Path(path).read_text())


class Capable(Plain):
    """Has some of the optional hooks."""

    default_param_bounds: ClassVar = {"learning_rate": (0.01, 1.0)}
    default_log_params: ClassVar = ["learning_rate"]
    default_min_episodes_before_dormant = 7
    is_on_policy = False
    is_exploring = True

    def average_weights(self, paths: Any) -> None:
        self.updates = sum(json.loads(Path(path).read_text()) for path in paths) / len(paths)

    def perturb_weights(self, noise_scale: float) -> None:
        self.noise = noise_scale

    def act_greedy(self, observations: Any) -> Any:
        return np.full(len(observations), 5)

    def action_probs(self, observation: Any) -> Any:
        assert np.shape(observation) == (4,)
        return [0.25, 0.75]


def cartpole(agent: Any = None) -> BatchPipeline:
    return BatchPipeline(gymnasium.make("CartPole-v1"), agent, 40, seed=1)


def test_the_loop_trains_it_and_gives_it_back_with_its_best_policy(tmp_path):
    agent = Plain()
    setup = Setup(tmp_path, rising_then_falling, agent=agent, max_episodes=9,
                  scheduler={"max_interval_episodes": 1})  # fmt: skip
    setup.run()
    assert setup.controller.agent is agent
    assert agent.updates == 5


def test_an_optimizer_takes_it_and_hands_it_to_functions_of_the_users(tmp_path):
    agent, seen = Plain(), []

    def score(trained: Any) -> float:
        seen.append(trained)
        return float(trained.updates)

    run = RLOptimizer(
        agent, cartpole(agent), max_episodes=3, checkpoint_dir=tmp_path, checkpoint_score_fn=score
    )
    run.run()
    assert run.agent is agent
    assert seen
    assert all(one is agent for one in seen)
    assert agent.updates == 2


def test_a_pipeline_of_the_users_is_given_the_users_object(tmp_path):
    agent = Plain()
    setup = Setup(tmp_path, rising_then_falling, agent=agent, max_episodes=2).run()
    assert setup.pipeline.agent is agent


@pytest.mark.parametrize("missing", SIX_METHODS)
def test_a_missing_method_is_named(tmp_path, missing):
    methods = {name: getattr(Plain, name) for name in SIX_METHODS if name != missing}
    lacking = type("Lacking", (), methods)()
    manager = PolicyManager(CheckpointRegistry(tmp_path))
    said = (
        f"must be a BaseAgent, got Lacking; any other object needs .* and Lacking has no {missing}$"
    )
    for door in (
        lambda: RLOptimizer(lacking, cartpole()),
        lambda: manager.add_agent(lacking),
        lambda: manager.as_callback(lacking),
        lambda: EnsembleAgent(manager, lacking),
        lambda: Setup(tmp_path, rising_then_falling, agent=lacking),
    ):
        with pytest.raises(TypeError, match=said):
            door()


@pytest.mark.parametrize("door", [as_agent, as_actor, lambda one: RLOptimizer(one, cartpole())])
def test_a_class_in_place_of_an_object_is_named(door):
    with pytest.raises(
        TypeError, match="agent must be an agent, got the class Plain; give an instance"
    ):
        door(Plain)


class Resumable(Plain):
    """Says what a run is resumed from, and has a replay."""

    def __init__(self) -> None:
        super().__init__()
        self.replays = {"rows": ReplayBuffer(10)}

    def run_state(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def load_run_state(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]

    def load_replays(self, states: Any) -> None:
        self.loaded = dict(states)


def test_what_a_run_is_resumed_from_is_heard_in_pairs():
    own = Resumable()
    agent = as_agent(own)
    assert agent.run_state() == {"updates": own.updates}
    agent.load_run_state({"updates": 7})
    assert own.updates == 7
    assert agent.replays is own.replays
    agent.load_replays({"rows": {}})
    assert own.loaded == {"rows": {}}


def test_half_of_a_pair_is_not_heard():
    half = Plain()
    half.run_state = lambda: {"updates": 1}
    half.replays = {"rows": ReplayBuffer(10)}
    agent = as_agent(half)
    assert agent.run_state() == {}
    assert agent.replays == {}


def test_its_optional_methods_and_attributes_are_heard(tmp_path):
    agent = as_agent(Capable())
    assert agent.default_param_bounds == {"learning_rate": (0.01, 1.0)}
    assert agent.default_log_params == ["learning_rate"]
    assert agent.default_min_episodes_before_dormant == 7
    assert (agent.is_on_policy, agent.is_exploring, agent.has_unit_actions) == (False, True, False)
    observations = np.zeros((3, 4))
    np.testing.assert_array_equal(agent.act_batch(observations), np.zeros(3))
    np.testing.assert_array_equal(agent.act_greedy(observations), np.full(3, 5))
    np.testing.assert_array_equal(agent.action_probs(observations), [[0.25, 0.75]] * 3)


def test_without_them_the_defaults_of_an_agent_hold():
    agent = as_agent(Plain(1))
    assert (agent.is_on_policy, agent.is_exploring, agent.default_param_bounds) == (True, False, {})
    np.testing.assert_array_equal(agent.act_greedy(np.zeros((2, 4))), [1, 1])
    with pytest.raises(NotImplementedError):
        agent.action_probs(np.zeros((2, 4)))


def test_what_a_double_makes_up_is_no_statement():
    double = MagicMock()
    double.act.return_value = 1
    double.is_on_policy = False
    agent = as_agent(double)
    assert (agent.is_on_policy, agent.is_exploring, agent.default_param_bounds) == (
        False,
        False,
        {},
    )
    window = next(iter(cartpole(double).episodes()))
    assert list(window.actions) == [1] * 40


def test_what_a_proxy_passes_on_is_heard():
    class Proxy:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    agent = as_agent(Proxy(Capable()))
    assert not agent.is_on_policy
    np.testing.assert_array_equal(agent.act_greedy(np.zeros((2, 4))), [5, 5])


def test_two_doors_take_one_object_for_one_agent():
    agent = Plain()
    known = as_agent(agent)
    assert as_actor(agent) is known
    assert as_agent(known) is known
    assert own_object(known) is agent
    copied = copy.deepcopy(known)
    copied.learn(None)
    assert (agent.updates, own_object(copied).updates) == (0, 1)


def test_it_is_tuned_within_its_bounds(tmp_path):
    agent, diary = Capable(), Diary()
    pipeline = ScriptedPipeline(lambda updates, window: 1.0 + 0.1 * (window % 3))
    RLOptimizer(agent, pipeline, checkpoint_dir=tmp_path, max_episodes=40, base_interval=1,
                max_interval_episodes=1, callbacks=[diary], seed=0).run()  # fmt: skip
    rates = {new["learning_rate"] for _, new in diary.named("on_hyperparam_update")}
    assert len(rates) > 1
    assert 0.01 <= min(rates) <= max(rates) <= 1.0


def test_a_registry_saves_loads_and_averages_it(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    for updates in (4, 6):
        agent = Capable()
        agent.updates = updates
        registry.save(agent, evaluation(10.0), agent.get_hyperparams())
    registry.load_best(loaded := Capable())
    assert loaded.updates == 4
    registry.load(registry.snapshots[1], loaded)
    assert loaded.updates == 6
    registry.load_ensemble(loaded)
    assert loaded.updates == 5.0


def test_a_population_gives_back_what_joined_it(tmp_path):
    manager = PolicyManager(CheckpointRegistry(tmp_path))
    agents = [Plain(n) for n in range(3)]
    for agent, weight in zip(agents, (1.0, 2.0, 3.0), strict=True):
        manager.add_agent(agent, weight)
    assert all(known is agent for known, agent in zip(manager.agents, agents, strict=True))
    assert manager.index_of(agents[2]) == 2
    manager.boost(agents[0], 10.0)
    (gone,) = manager.prune()
    assert gone is agents[1]
    assert manager.without(agents[0]).agents == [agents[2]]
    assert manager.ensemble_action(np.zeros(4)) == 0


def test_a_variant_is_the_users_object(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    best = Capable()
    best.updates = 3
    registry.save(best, evaluation(10.0), best.get_hyperparams())
    seen: list[Any] = []
    shell = Capable()
    manager = PolicyManager(registry)
    assert manager.spawn_variant(shell, 0.02, seen.append) is shell
    assert (seen, shell.updates, shell.noise) == ([shell], 3, 0.02)
    assert manager.evolve(shell, 1.0)


def test_an_ensemble_of_them_acts_learns_and_is_stored(tmp_path):
    manager = PolicyManager(CheckpointRegistry(tmp_path / "checkpoints"))
    agents = [Plain(0), Plain(1), Plain(1)]
    for agent in agents:
        manager.add_agent(agent)
    ensemble = EnsembleAgent(manager, agents[0])
    assert ensemble.primary_agent is agents[0]
    np.testing.assert_array_equal(ensemble.act_greedy(np.zeros((2, 4))), [1, 1])
    run = RLOptimizer(ensemble, cartpole(), max_episodes=2, checkpoint_dir=tmp_path / "checkpoints")
    run.run()
    assert [agent.updates for agent in agents] == [run.best_snapshot.episode_id] * 3


def test_members_that_differ_are_called_by_the_names_that_the_user_knows(tmp_path):
    manager = PolicyManager(CheckpointRegistry(tmp_path))
    manager.add_agent(Capable())
    with pytest.raises(ValueError, match="True for the primary Plain, and False for Capable"):
        EnsembleAgent(manager, Plain())


def test_variants_of_it_are_trained(tmp_path):
    made: list[Plain] = []

    def factory() -> Plain:
        made.append(Plain())
        return made[-1]

    agent = Plain()
    setup = Setup(
        tmp_path,
        lambda updates, window: 1.0,
        agent=agent,
        scheduler={"max_interval_episodes": 1, "dormant_threshold": 2},
        max_episodes=40,
    )
    manager = PolicyManager(setup.registry, max_spawns=2)
    setup.controller.add_callback(manager.as_callback(agent, factory))
    setup.run()
    assert manager.spawn_count == len(made) == 2
    assert all(variant.updates for variant in made)
    assert setup.controller.agent is agent


def test_trials_make_it():
    pytest.importorskip("optuna")
    scored: list[Any] = []

    def score(agent: Any) -> float:
        scored.append(agent)
        return float(agent.params["x"])

    class Pipeline(ScriptedPipeline):
        def __init__(self) -> None:
            super().__init__(lambda updates, window: float(updates))

    params, _ = TrialOrchestrator(
        agent_factory=lambda params: Plain(params=params),
        pipeline_factory=Pipeline,
        param_space={"x": ("float", 0.0, 1.0)},
        n_trials=2,
        trial_steps=3,
        finalists=0,
        checkpoint_score_fn=score,
    ).run()
    assert all(isinstance(one, Plain) for one in scored)
    assert params["x"] == max(one.params["x"] for one in scored)


class Always:
    def act(self, observation: Any) -> int:
        return 1


def test_any_object_that_acts_steps_a_pipeline():
    window = next(iter(cartpole(Always()).episodes()))
    assert list(window.actions) == [1] * 40
    pipeline = VectorBatchPipeline([lambda: gymnasium.make("CartPole-v1")] * 2, Always(), 10)
    assert list(next(iter(pipeline.episodes())).actions) == [1] * 20
    returns, _ = play_episodes(Always(), wrap_env(gymnasium.make("CartPole-v1")), 2, seed=0)
    assert (returns > 0).all()


def test_any_object_that_acts_follows_live_data():
    rows = [(np.zeros(2, np.float32), 1.0, n == 3, False, {}) for n in range(4)]
    source = SimpleNamespace(stream=lambda: iter(rows))
    pipeline = LivePipeline(source, Always(), reconnect_on_disconnect=False)
    pipeline.setup()
    window = next(iter(pipeline.episodes()))
    pipeline.teardown()
    assert list(window.actions) == [1] * 4


@pytest.mark.parametrize("door", [cartpole, lambda agent: cartpole().set_agent(agent)])
def test_what_cannot_act_is_refused_by_a_pipeline(door):
    said = "agent must be a BaseAgent, got str; any other object needs act, and str has no act"
    with pytest.raises(TypeError, match=said):
        door("greedy")
