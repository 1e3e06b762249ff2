"""What ready-made networks divide bytes by: chosen once, by what comes, and kept with the weights."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from safetensors import numpy as safetensors

from tensor_optix.adapters.backend import LARGEST_BYTE, OPEN
from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.core.types import HyperparamSet
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tests.algorithms.test_agent_factory import CHOICE, FORCE, Spaces
from tests.frameworks import NAMES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.frameworks import Framework

PLANES = Box(0, 255, (5, 5, 3), np.uint8)
VECTOR = Box(0, 255, (6,), np.uint8)
BYTES = {"torch": PLANES, "tensorflow": PLANES, "native": VECTOR}
"""What each framework has networks for."""
STILL = {"learning_rate": 1e-12, "n_epochs": 1}
beside_tensorflow = pytest.mark.parametrize("framework", ["torch", "native"], indirect=True)
"""For what is done before the framework, whose networks only hold the divisors."""


class Codes(Spaces):
    """Bytes up to `largest` in a space that may claim more; the first observation has none but 0 and 1."""

    def __init__(self, space: Any, actions: Any = CHOICE, largest: int = 10) -> None:
        super().__init__(space, actions)
        self.largest = largest

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, infos = super().reset(**options)
        return self.coded(observation, 1), infos

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, *rest = super().step(action)
        return self.coded(observation, self.largest), *rest

    def coded(self, observation: Any, largest: int) -> Any:
        if isinstance(observation, dict):
            return {key: self.coded(part, largest) for key, part in observation.items()}
        if observation.dtype != np.uint8:
            return observation
        codes = np.minimum(observation, largest)
        codes.flat[0] = largest
        return codes


def agent_for(env: Spaces, framework: Framework, algorithm: str = "ppo", **params: Any) -> Any:
    own = {} if algorithm == "ppo" else {"batch_size": 4, "learning_starts": 8}
    return make_agent(
        env, algorithm, framework.name, hyperparams=HyperparamSet(own | params), hidden_sizes=(8,),
        seed=1, device="cpu",
    )  # fmt: skip


def learn(agent: Any, env: Spaces, windows: int = 1, size: int = 12) -> dict[str, Any]:
    pipeline = BatchPipeline(env=env, agent=agent, window_size=size, seed=2)
    pipeline.setup()
    episodes = pipeline.episodes()
    for _ in range(windows):
        diagnostics: dict[str, Any] = agent.learn(next(episodes))
    return diagnostics


def divisors(agent: Any) -> list[list[int]]:
    """Return those of every network and target."""
    targets = [target for target, _ in agent._targets.values()]
    scales = map(agent.ops.byte_scale, agent._networks.values())
    found = [scale.read().tolist() for scale in scales if scale is not None]
    return found + [divisors_of_target(target) for target in targets]


def divisors_of_target(target: Any) -> list[int]:
    if hasattr(target, "scales"):
        return target.scales[0].read().tolist()
    if hasattr(target, "named_buffers"):
        named = dict(target.named_buffers())
        return next(v.tolist() for k, v in named.items() if k.endswith("divisors"))
    return next(v.numpy().tolist() for v in target.variables if v.name == "divisors")


@pytest.mark.parametrize("is_image", [True, False], ids=["image", "vector"])
def test_a_space_that_claims_all_bytes_is_divided_by_the_largest_that_comes(
    is_image: bool, framework: Framework
) -> None:
    env = Codes(BYTES[framework.name] if is_image else VECTOR)
    agent = agent_for(env, framework)
    assert divisors(agent) == [[OPEN]] * 2
    learn(agent, env)
    assert divisors(agent) == [[10]] * 2


@beside_tensorflow
def test_what_is_chosen_is_not_chosen_again(framework: Framework) -> None:
    space = BYTES[framework.name]
    agent = agent_for(Codes(space), framework)
    learn(agent, Codes(space))
    learn(agent, Codes(space, largest=200))
    assert divisors(agent) == [[10]] * 2


@pytest.mark.parametrize(("largest", "divisor"), [(0, 1), (63, 63), (64, 255), (255, 255)])
def test_only_what_is_far_below_the_claim_counts(
    largest: int, divisor: int, torch_framework: Framework
) -> None:
    class Dark(Codes):
        def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
            observation, infos = super().reset(**options)
            return np.zeros_like(observation), infos

    env = Dark(PLANES, largest=largest)
    agent = agent_for(env, torch_framework)
    learn(agent, env)
    assert divisors(agent) == [[divisor]] * 2


@beside_tensorflow
def test_a_smaller_claim_is_what_divides_from_the_start(framework: Framework) -> None:
    env = Codes(Box(0, 4, BYTES[framework.name].shape, np.uint8), largest=1)
    agent = agent_for(env, framework)
    assert divisors(agent) == [[4]] * 2
    learn(agent, env)
    assert divisors(agent) == [[4]] * 2


def test_planes_of_bytes_are_learned_as_planes_of_floats_are(framework: Framework) -> None:
    """Divided by 255, they were learned so slowly that they seemed not to be."""
    shape = BYTES[framework.name].shape
    rows = np.random.default_rng(0).integers(0, 2, (6, *shape))
    agents = [
        make_agent(Spaces(Box(0, 1, shape, dtype), CHOICE), "ppo", framework.name,
                   hidden_sizes=(8,), seed=1, device="cpu")
        for dtype in (np.uint8, np.float32)
    ]  # fmt: skip
    ours, theirs = (
        agent.action_probs(rows.astype(dtype))
        for agent, dtype in zip(agents, (np.uint8, np.float32), strict=True)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert np.ptp(ours, axis=0).max() > 1e-4


def test_each_part_has_a_divisor_of_its_own(framework: Framework) -> None:
    space = Dict(
        {
            "codes": BYTES[framework.name],
            "more": Box(0, 3, (2,), np.uint8),
            "speed": Box(-1.0, 1.0, (2,)),
        }
    )
    env = Codes(space, largest=7)
    agent = agent_for(env, framework)
    learn(agent, env)
    assert divisors(agent) == [[7, 3, 1]] * 2


@beside_tensorflow
def test_the_window_is_learned_from_with_the_policy_that_acted(framework: Framework) -> None:
    """Its log-probabilities are those under the old divisor, else the policy would seem not to move."""
    env = Codes(BYTES[framework.name])
    agent = agent_for(env, framework, **STILL)
    assert learn(agent, env)["approx_kl"] > 1e-9
    assert abs(learn(agent, env)["approx_kl"]) < 1e-12


@pytest.mark.parametrize(
    ("framework", "algorithm", "actions"),
    [
        *((name, "dqn", CHOICE) for name in ("torch", "native")),
        *((name, "sac", FORCE) for name in NAMES),
    ],
    ids=str,
    indirect=["framework"],
)
def test_a_replay_is_looked_at_before_the_first_update(
    algorithm: str, actions: Any, framework: Framework
) -> None:
    """All rows since the first count, and targets divide by the same."""
    env = Codes(BYTES[framework.name], actions)
    agent = agent_for(env, framework, algorithm, learning_starts=10)
    learn(agent, env, size=9)
    assert divisors(agent)[0] == [OPEN]
    copied = copy.deepcopy(agent)
    for one in (agent, copied):
        learn(one, Codes(BYTES[framework.name], actions, largest=5), size=3)
        assert all(found == [10] for found in divisors(one)), divisors(one)


@pytest.mark.parametrize(
    ("framework", "algorithm", "actions"),
    [
        *((name, "ppo", CHOICE) for name in ("torch", "native")),
        *((name, "td3", FORCE) for name in ("torch", "native")),
        ("tensorflow", "dqn", CHOICE),
    ],
    ids=str,
    indirect=["framework"],
)
def test_whatever_becomes_of_the_weights_the_divisors_go_with_them(
    algorithm: str, actions: Any, framework: Framework, tmp_path: Path
) -> None:
    env = Codes(BYTES[framework.name], actions)
    agent = agent_for(env, framework, algorithm)
    learn(agent, env)
    settled = divisors(agent)
    assert all(found == [10] for found in settled)
    agent.save_weights(tmp_path)
    other = agent_for(env, framework, algorithm)
    other.load_weights(tmp_path)
    averaged = agent_for(env, framework, algorithm)
    averaged.average_weights([tmp_path, tmp_path])
    agent.perturb_weights(0.1)
    for one in (agent, other, averaged, copy.deepcopy(agent)):
        assert divisors(one) == settled
        assert not one._bytes.is_open


@pytest.mark.needs_a_framework
def test_images_of_earlier_versions_are_divided_by_255(
    framework: Framework, tmp_path: Path
) -> None:
    """Their files have no divisors."""
    agent = agent_for(Codes(PLANES), framework)
    agent.save_weights(tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        stored = safetensors.load_file(file)
        left = {name: array for name, array in stored.items() if not name.endswith("divisors")}
        assert len(left) < len(stored)
        safetensors.save_file(left, file)
    agent.load_weights(tmp_path)
    assert divisors(agent) == [[LARGEST_BYTE]] * 2
    learn(agent, Codes(PLANES))
    assert divisors(agent) == [[LARGEST_BYTE]] * 2


def test_what_a_normalizer_scales_is_not_divided(framework: Framework) -> None:
    env = Spaces(VECTOR, CHOICE)
    agent: Any = make_agent(env, framework=framework.name, normalize_observations=True)
    assert divisors(agent) == []


def test_networks_of_the_users_own_are_left_alone(framework: Framework) -> None:
    actor, critic = (framework.perceptron((6, 8, outputs)) for outputs in (3, 1))
    agent = framework.PPO(actor, critic, framework.adam(1e-3, actor, critic))
    learn(agent, Codes(VECTOR))
    assert divisors(agent) == []


def test_a_new_divisor_traces_nothing_again(tensorflow_framework: Framework) -> None:
    env = Codes(VECTOR)
    agent = agent_for(env, tensorflow_framework)
    learn(agent, env, windows=2)
    assert divisors(agent) == [[10]] * 2
    assert agent._epoch.trace_count == 1
    assert agent._policy.trace_count == 1


def test_masks_behind_a_row_are_no_bytes_of_it(torch_framework: Framework) -> None:
    agent: Any = agent_for(Codes(VECTOR), torch_framework)
    agent._bytes.see(np.array([[1, 2, 3, 0, 0, 0, 9, 9, 9]], np.uint8))
    agent._settle_bytes()
    assert divisors(agent) == [[3]] * 2


def test_numbers_have_no_divisors(framework: Framework) -> None:
    assert divisors(agent_for(Spaces(Discrete(3), CHOICE), framework)) == []


def test_compiled_updates_follow_a_new_divisor() -> None:
    torch = pytest.importorskip("torch")
    from tensor_optix.algorithms.torch_ppo import TorchPPOAgent

    windows: list[Any] = []
    found = []
    for is_compiled in (False, True):
        ready: Any = make_agent(Codes(VECTOR), "ppo", "torch", hidden_sizes=(8,), seed=1)
        networks = ready._actor, ready._critic
        adam = torch.optim.Adam([p for one in networks for p in one.parameters()], eps=1e-3)
        params = HyperparamSet({"minibatch_size": 8, "n_epochs": 2})
        agent = TorchPPOAgent(*networks, adam, params, device="cpu", compile=is_compiled)
        agent.seed(3)
        pipeline = BatchPipeline(env=Codes(VECTOR), agent=agent, window_size=16, seed=2)
        pipeline.setup()
        windows.append(next(iter(pipeline.episodes())))
        agent.learn(windows[0])
        assert divisors(agent) == [[10]] * 2
        for network in networks:
            scale = agent.ops.byte_scale(network)
            assert scale is not None
            scale.write(np.array([20]))
        agent.learn(windows[0])
        found.append([p.detach().numpy() for one in networks for p in one.parameters()])
    for eager, compiled in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, eager, atol=1e-6)
