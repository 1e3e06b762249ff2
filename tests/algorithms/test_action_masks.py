"""Masks of actions in acting and learning: oracles, and all that agents go through."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from tensor_optix.algorithms import distributions
from tensor_optix.core.evolution.variants import vary
from tensor_optix.core.observation_layout import MaskedSpace
from tensor_optix.core.types import EpisodeData, HyperparamSet
from tensor_optix.exploration.rnd import RNDPipeline
from tensor_optix.optimizer import RLOptimizer
from tensor_optix.pipeline.play import play_episodes
from tensor_optix.pipeline.vector_env import from_env_fns
from tensor_optix.pipeline.vector_pipeline import VectorBatchPipeline
from tests.core.ensemble_members import ensemble_of
from tests.frameworks import framework_engine
from tests.pipeline.masked_envs import LENGTH, OnlyMasksTell
from tests.scripted import CountingAgent

if TYPE_CHECKING:
    from tests.frameworks import Framework

D, A = 3, 4
PLAIN = Box(-np.inf, np.inf, (D,), np.float32)
SPACE = MaskedSpace(PLAIN, A)
ALL_BUT_LAST = np.array([[True, True, True, False]])


def ppo(framework: Framework, actions: int = A, **params: Any) -> Any:
    actor, critic = framework.perceptron((D, actions), 0), framework.perceptron((D, 1), 1)
    optimizer = framework.adam(0.01, actor, critic)
    hyperparams = HyperparamSet({"minibatch_size": 16, "n_epochs": 3} | params)
    agent = framework.PPO(actor, critic, optimizer, hyperparams, device="cpu")
    agent.seed(0)
    return agent


def dqn(framework: Framework, actions: int = A, **params: Any) -> Any:
    network = framework.perceptron((D, actions), 0)
    settings = {"batch_size": 16, "replay_capacity": 500, "target_update_freq": 5}
    optimizer = framework.adam(0.01, network)
    agent = framework.DQN(
        network, actions, optimizer, HyperparamSet(settings | params), device="cpu"
    )
    agent.seed(0)
    return agent


AGENTS = {"ppo": ppo, "dqn": dqn}


def told(agent: Any, space: Any = SPACE) -> Any:
    agent.check_spaces(space, Discrete(A))
    return agent


def window(masks: Any = None, rows: int = 64, seed: int = 0) -> EpisodeData:
    """Return a window whose actions are the first three; with masks, if given, behind its observations."""
    rng = np.random.default_rng(seed)
    numbers = rng.standard_normal((rows + 9, D)).astype(np.float32)
    if masks is not None:
        numbers = SPACE.joined(numbers, np.broadcast_to(masks, (rows + 9, A)))
    end_rows = np.arange(7, rows, 8)
    ended = np.isin(np.arange(rows), end_rows)
    return EpisodeData(
        observations=numbers[:rows],
        actions=rng.integers(0, 3, rows),
        rewards=rng.standard_normal(rows).astype(np.float32),
        terminated=ended & (np.arange(rows) % 16 == 7),
        truncated=ended & (np.arange(rows) % 16 != 7),
        infos=[],
        episode_id=0,
        final_obs=numbers[rows],
        end_rows=end_rows,
        end_observations=numbers[rows + 1 : rows + 1 + len(end_rows)],
        mask_size=0 if masks is None else A,
    )


def policy_of(agent: Any) -> Any:
    return next(iter(agent._networks.values()))


def test_densities_are_those_of_the_allowed_actions(framework):
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((6, A)).astype(np.float32)
    masks = rng.random((6, A)) < 0.5
    masks[:, 1] = True
    ops, tensor = framework.backend, framework.tensor
    outputs = distributions.masked(ops, tensor(logits), tensor(masks))
    powers = np.exp(logits.astype(np.float64)) * masks
    probs = powers / powers.sum(axis=1, keepdims=True)
    categorical = distributions.categorical
    chosen = categorical.log_prob(ops, outputs, tensor(np.ones(6, np.int64)))
    np.testing.assert_allclose(framework.array(chosen), np.log(probs[:, 1]), rtol=1e-5)
    entropy = -np.where(masks, probs * np.log(np.maximum(probs, 1e-300)), 0.0).sum(axis=1)
    found = framework.array(categorical.entropy(ops, outputs))
    np.testing.assert_allclose(found, entropy, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_however_odd_the_outputs_only_allowed_actions_are_chosen(odd):
    rng = np.random.default_rng(0)
    masks = np.array([[False, True, False, True]] * 50)
    for places in ([0, 1, 2, 3], [1, 3], [0, 2], [1], [0]):
        logits = np.zeros((50, A), np.float32)
        logits[:, places] = odd
        outputs = distributions.masked_array(logits, masks)
        assert outputs.dtype == np.float32
        for chosen in (
            distributions.categorical.sample(rng, outputs),
            distributions.categorical.greedy(outputs),
        ):
            assert set(chosen) <= {1, 3}


@pytest.mark.parametrize("algorithm", AGENTS)
def test_a_mask_that_never_allows_an_action_is_as_good_as_an_agent_without_it(framework, algorithm):
    """The oracle of everything that is learned: the same agent with one action less."""
    masked, lesser = told(AGENTS[algorithm](framework)), AGENTS[algorithm](framework, 3)
    first = [array.copy() for array in framework.weights(policy_of(masked))]
    framework.set_weights(policy_of(lesser), [array[..., :3].copy() for array in first])
    if algorithm == "dqn":
        lesser._weights_changed()
    for seed in range(3):
        diagnostics = [
            agent.learn(window(masks, seed=seed))
            for agent, masks in ((masked, ALL_BUT_LAST), (lesser, None))
        ]
        for name, value in diagnostics[1].items():
            assert diagnostics[0][name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    after, expected = (framework.weights(policy_of(agent)) for agent in (masked, lesser))
    for start, found, wanted in zip(first, after, expected, strict=True):
        np.testing.assert_allclose(found[..., :3], wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(found[..., 3], start[..., 3])
        assert not np.array_equal(found[..., :3], start[..., :3])


@pytest.mark.parametrize("masks", [np.ones((1, A), bool), np.zeros((1, A), bool)])
@pytest.mark.parametrize("algorithm", AGENTS)
def test_a_mask_that_allows_all_or_nothing_changes_nothing(torch_framework, algorithm, masks):
    agents = told(AGENTS[algorithm](torch_framework)), AGENTS[algorithm](torch_framework)
    for agent, given in zip(agents, (masks, None), strict=True):
        agent.learn(window(given))
        agent.learn(window(given, seed=1))
    found, expected = (torch_framework.weights(policy_of(agent)) for agent in agents)
    for array, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, wanted)


@pytest.mark.usefixtures("xla")
@pytest.mark.parametrize("algorithm", AGENTS)
def test_both_frameworks_learn_the_same(torch_framework, tensorflow_framework, algorithm):
    rng = np.random.default_rng(3)
    masks = rng.random((73, A)) < 0.6
    masks[:, :3] |= ~masks.any(axis=1, keepdims=True)
    given = window(masks)
    allowed = SPACE.split(given.observations)[1]
    given = replace(given, actions=np.argmax(allowed, axis=1))
    weights = []
    for framework in (torch_framework, tensorflow_framework):
        agent = told(AGENTS[algorithm](framework))
        agent.learn(given)
        weights.append(framework.weights(policy_of(agent)))
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


CHOICES = (2, 3, 3)


class ChoicesUnderMasks(gymnasium.Env[Any, Any]):
    """Pays for the greatest of the allowed actions of each choice; of one of them nothing may be allowed."""

    observation_space = Box(0, 1, (2,), np.float32)
    action_space = MultiDiscrete(CHOICES)

    def __init__(self) -> None:
        self.forbidden = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._t = 0
        return self._told()

    def step(self, action: Any) -> Any:
        reward = 0.0
        for chosen, mask in zip(action, self._masks, strict=True):
            self.forbidden += int(mask.any() and not mask[chosen])
            reward += float(chosen == (np.flatnonzero(mask)[-1] if mask.any() else len(mask) - 1))
        self._t += 1
        observation, info = self._told()
        return observation, reward, False, self._t == LENGTH, info

    def _told(self) -> Any:
        self._masks = [self.np_random.random(count) < 0.6 for count in CHOICES]
        return np.ones(2, np.float32), {"action_mask": np.concatenate(self._masks)}


def test_several_choices_keep_to_their_masks_and_learn_by_them(framework):
    actor, critic = framework.perceptron((2, 8), 0), framework.perceptron((2, 1), 1)
    optimizer = framework.adam(0.03, actor, critic)
    params = HyperparamSet({"learning_rate": 0.03, "n_epochs": 4, "entropy_coef": 0.0})
    agent = framework.PPO(actor, critic, optimizer, params, device="cpu", choices=CHOICES)
    agent.seed(0)
    envs = [ChoicesUnderMasks() for _ in range(4)]
    makers = [lambda env=env: env for env in envs]
    pipeline = VectorBatchPipeline(makers, agent, window_size=64, seed=0)
    for _, one in zip(range(20), pipeline.episodes(), strict=False):
        assert one.observations.shape == (256, 2 + sum(CHOICES))
        agent.learn(one)
    returns, _ = play_episodes(agent, from_env_fns(makers), 20, seed=1)
    assert sum(env.forbidden for env in envs) == 0
    assert returns.tolist() == [LENGTH * len(CHOICES)] * 20


def test_updates_are_traced_once_for_windows_with_masks(tensorflow_framework):
    with framework_engine():
        agent = told(ppo(tensorflow_framework))
    for seed in range(3):
        agent.learn(window(ALL_BUT_LAST, seed=seed))
    assert agent._epoch.trace_count == 1
    agent.learn(window(rows=64))
    assert agent._epoch.trace_count == 2


def test_compiled_updates_take_masks(torch_framework):
    agents = [told(AGENTS["ppo"](torch_framework)) for _ in range(2)]
    actor, critic = (torch_framework.perceptron((D, n), s) for n, s in ((A, 0), (1, 1)))
    optimizer = torch_framework.adam(0.01, actor, critic)
    params = HyperparamSet({"minibatch_size": 16, "n_epochs": 3})
    agents[1] = told(
        torch_framework.PPO(actor, critic, optimizer, params, device="cpu", compile=True)
    )
    agents[1].seed(0)
    for agent in agents:
        agent.learn(window(ALL_BUT_LAST))
    found, expected = (torch_framework.weights(policy_of(agent)) for agent in agents)
    for array, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, wanted, rtol=1e-4, atol=1e-5)


def rows_of(masks: Any) -> Any:
    masks = np.asarray(masks, bool)
    rng = np.random.default_rng(0)
    return SPACE.joined(rng.standard_normal((len(masks), D)).astype(np.float32), masks)


@pytest.mark.parametrize("algorithm", AGENTS)
def test_probabilities_are_zero_where_nothing_is_allowed_and_samples_follow_them(
    torch_framework, algorithm
):
    agent = told(AGENTS[algorithm](torch_framework))
    masks = np.array([[True, False, True, True]] * 4000)
    row = rows_of(masks[:1])
    probs = agent.action_probs(row)
    assert probs.shape == (1, A)
    assert probs[0, 1] == 0.0
    assert probs.sum() == pytest.approx(1.0)
    drawn = agent.act_batch(np.repeat(row, 4000, axis=0))
    shares = np.bincount(drawn, minlength=A) / 4000
    np.testing.assert_allclose(shares, probs[0], atol=0.03)
    assert agent.act_greedy(row)[0] == np.argmax(probs)
    assert agent.act(row[0]) in (0, 2, 3)


def test_a_random_action_of_dqn_is_each_allowed_one_alike(torch_framework):
    agent = told(dqn(torch_framework, epsilon=1.0))
    drawn = agent.act_batch(np.repeat(rows_of([[True, False, False, True]]), 4000, axis=0))
    shares = np.bincount(drawn, minlength=A) / 4000
    np.testing.assert_allclose(shares, [0.5, 0, 0, 0.5], atol=0.03)


@pytest.mark.parametrize("algorithm", AGENTS)
def test_rows_without_masks_are_taken_as_they_are(torch_framework, algorithm):
    agent = told(AGENTS[algorithm](torch_framework))
    rows = rows_of(np.ones((5, A), bool))
    np.testing.assert_array_equal(agent.act_greedy(rows[:, :D]), agent.act_greedy(rows))
    agent.learn(window())
    agent.check_spaces(PLAIN, Discrete(A))
    assert set(agent.act_batch(rows_of([[False, False, True, False]] * 9))) == {2}


def test_networks_are_tried_on_the_observations_alone(torch_framework):
    agent = ppo(torch_framework)
    with pytest.raises(ValueError, match=r"actor cannot take observations of shape \(5,\)"):
        agent.check_spaces(MaskedSpace(Box(0, 1, (5,)), A), Discrete(A))


@pytest.mark.parametrize("algorithm", AGENTS)
def test_copies_and_variants_and_stored_learners_keep_to_the_masks(
    torch_framework, algorithm, tmp_path
):
    agent = told(AGENTS[algorithm](torch_framework))
    agent.learn(window(ALL_BUT_LAST))
    copied = copy.deepcopy(agent)
    agent.save_state(tmp_path / "state")
    loaded = told(AGENTS[algorithm](torch_framework))
    loaded.load_state(tmp_path / "state")
    rows = rows_of([[False, True, False, True]] * 200)
    expected = agent.act_batch(rows)
    for other in (copied, loaded):
        np.testing.assert_array_equal(other.act_batch(rows), expected)
    vary(copied, 0.5, (1.0, 0))
    assert set(copied.act_batch(rows)) <= {1, 3}


def test_a_replay_keeps_masks_with_returns_of_several_steps_and_priorities(
    torch_framework, tmp_path
):
    masked, lesser = (dqn(torch_framework, n, n_step=3, per_alpha=0.6) for n in (A, 3))
    told(masked)
    whole = torch_framework.weights(policy_of(masked))
    torch_framework.set_weights(policy_of(lesser), [array[..., :3].copy() for array in whole])
    lesser._weights_changed()
    masked.learn(window(ALL_BUT_LAST))
    masked.save_replay(tmp_path)
    masked.load_replay(tmp_path)
    masked.learn(window(ALL_BUT_LAST, seed=1))
    for seed in range(2):
        lesser.learn(window(seed=seed))
    lesser.save_replay(tmp_path / "lesser")
    found, expected = (torch_framework.weights(policy_of(one)) for one in (masked, lesser))
    for array, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(array[..., :3], wanted, rtol=1e-4, atol=1e-5)


def counted() -> Any:
    class Counted(OnlyMasksTell):
        forbidden = steps = 0

    return Counted


def in_probe(agent_of: Any, framework: Framework, **params: Any) -> Any:
    networks = {ppo: [(2, A), (2, 1)], dqn: [(2, A)]}[agent_of]
    made = [framework.perceptron(sizes, seed) for seed, sizes in enumerate(networks)]
    optimizer = framework.adam(0.01, *made)
    if agent_of is ppo:
        agent = framework.PPO(*made, optimizer, HyperparamSet(params), device="cpu")
    else:
        settings = {"batch_size": 16, "replay_capacity": 500} | params
        agent = framework.DQN(*made, A, optimizer, HyperparamSet(settings), device="cpu")
    agent.seed(0)
    return agent


def test_an_ensemble_keeps_to_the_masks(torch_framework, tmp_path):
    kind = counted()
    agents = [in_probe(ppo, torch_framework) for _ in range(2)]
    agents[1].perturb_weights(0.5)
    ensemble = ensemble_of(tmp_path, *agents)
    pipeline = VectorBatchPipeline([kind] * 2, ensemble, window_size=64, seed=0)
    for _, one in zip(range(3), pipeline.episodes(), strict=False):
        assert np.isfinite(ensemble.learn(one)["policy_loss"])
    _, lengths = play_episodes(ensemble, from_env_fns([kind] * 2), 10, seed=3)
    pipeline.teardown()
    assert kind.forbidden == 0
    assert lengths.tolist() == [LENGTH] * 10


def test_an_ensemble_takes_masks_if_all_its_agents_do(torch_framework, tmp_path):
    ensemble = ensemble_of(tmp_path, in_probe(ppo, torch_framework))
    assert ensemble.takes_action_masks
    ensemble.policy_manager.add_agent(CountingAgent())
    assert not ensemble.takes_action_masks


@pytest.mark.parametrize("base", ["PPO", "DQN"])
def test_who_overrides_act_sees_what_the_environment_shows(torch_framework, base):
    class Own(getattr(torch_framework, base)):  # type: ignore[misc]
        def act(self, observation: Any) -> Any:
            assert observation.shape == (2,)
            return 0

    made = [torch_framework.perceptron((2, A)), torch_framework.perceptron((2, 1))]
    own = (
        Own(*made, torch_framework.adam(0.01, *made), device="cpu")
        if base == "PPO"
        else Own(made[0], A, torch_framework.adam(0.01, made[0]), device="cpu")
    )
    assert not own.takes_action_masks
    pipeline = VectorBatchPipeline([counted()] * 2, own, window_size=8, seed=0)
    assert next(pipeline.episodes()).observations.shape == (16, 2)
    pipeline.teardown()


def test_novelty_is_that_of_the_observations_alone(torch_framework):
    kind, agent = counted(), in_probe(ppo, torch_framework)
    pipeline = RNDPipeline(VectorBatchPipeline([kind] * 2, window_size=32, seed=0), obs_dim=2)
    pipeline.set_agent(agent)
    one = next(pipeline.episodes())
    assert one.observations.shape == (64, 2 + A)
    agent.learn(one)
    pipeline.teardown()
    assert kind.forbidden == 0


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_a_whole_run_keeps_to_the_masks(torch_framework, algorithm, tmp_path):
    kind = counted()
    agent = in_probe(AGENTS[algorithm], torch_framework)
    pipeline = VectorBatchPipeline([kind] * 2, window_size=64, seed=0)
    held_out = VectorBatchPipeline([kind] * 2, window_size=64, seed=1)
    optimizer = RLOptimizer(
        agent, pipeline, val_pipeline=held_out, checkpoint_dir=str(tmp_path), max_steps=1500, seed=0
    )
    optimizer.run()
    assert kind.steps > 1500
    assert kind.forbidden == 0
