"""Ready-made agents at work: they act, learn, start out undecided and follow from one seed."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, MultiBinary, MultiDiscrete, Text, Tuple

from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.core.observation_layout import FlatSpace, seen_space
from tensor_optix.core.types import HyperparamSet
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tests.algorithms.test_agent_factory import (
    CHOICE,
    FORCE,
    FRAMES,
    NUMBER,
    VECTOR,
    Spaces,
    weights,
)
from tests.frameworks import require

if TYPE_CHECKING:
    from tensor_optix.core.base_agent import BaseAgent
    from tests.frameworks import Framework

PICTURE = Box(0.0, 1.0, (8, 8, 3), np.float32)
PARTS = Dict({"image": Box(0, 255, (7, 7, 3), np.uint8), "speed": VECTOR, "mission": Text(9)})
"""An image, and something beside it; and what is no number."""
ROWS: list[Any] = [
    Dict({"speed": VECTOR, "number": NUMBER}),
    Tuple((NUMBER, Box(0, 255, (3, 3, 1), np.uint8), Box(0.0, 1.0, (1, 4, 6)))),
    PARTS,
]
ARRAYS: list[Any] = [
    Box(-1.0, 1.0, (), np.float32),
    Box(0, 9, (), np.int64),
    Box(-1.0, 1.0, (4, 5), np.float64),
    Box(0.0, 1.0, (2, 3, 2, 3), np.float32),
    Box(0, 1, (3, 3), np.bool_),
    Box(0, 9, (3,), np.uint32),
    Box(0, 255, (128,), np.uint8),
    Box(0, 255, (3, 3, 3), np.uint8),
    MultiDiscrete([2, 3], start=[1, -1]),
    MultiDiscrete([[2, 3], [4, 2]]),
    MultiBinary(4),
    MultiBinary((2, 3)),
]

WITHOUT_IMAGES: list[Any] = [
    VECTOR,
    NUMBER,
    Dict({"speed": VECTOR, "number": NUMBER, "codes": Box(0, 255, (3,), np.uint8)}),
    *(one for one in ARRAYS if len(one.shape) != 3),
]

every_algorithm = pytest.mark.parametrize(
    ("algorithm", "actions"),
    [("ppo", CHOICE), ("ppo", FORCE), ("dqn", CHOICE), ("sac", FORCE)],
    ids=str,
)
every_observation = pytest.mark.parametrize(
    "observations", [VECTOR, FRAMES, PICTURE, NUMBER, *ROWS, *ARRAYS], ids=str
)
every_kind = pytest.mark.parametrize(
    "observations", [VECTOR, FRAMES, PICTURE, NUMBER, PARTS], ids=str
)


def small_agent(env: Spaces, algorithm: str, framework: Framework) -> BaseAgent:
    small = {} if algorithm == "ppo" else {"batch_size": 8, "learning_starts": 8}
    agent = make_agent(
        env, algorithm, framework.name, hyperparams=HyperparamSet(small), hidden_sizes=(8,), seed=1,
        device="cpu",
    )  # fmt: skip
    assert type(agent).__module__.startswith(f"tensor_optix.algorithms.{framework.prefix}_")
    return agent


def require_acting(agent: BaseAgent, env: Spaces) -> None:
    observations, actions = seen_space(env.observation_space), env.action_space
    agent.check_spaces(observations, actions)
    samples = [env.observation_space.sample() for _ in range(3)]
    if isinstance(observations, FlatSpace):
        samples = [observations.flattened(one) for one in samples]
    batch = np.stack(samples)
    for chosen in (agent.act_batch(batch), agent.act_greedy(batch)):
        assert chosen.shape == (3, *actions.shape)
        assert all(actions.contains(action) for action in chosen.astype(actions.dtype))
    assert np.shape(agent.act(batch[0])) == actions.shape


def require_learning(agent: BaseAgent, env: Spaces, path: Any) -> None:
    pipeline = BatchPipeline(env=env, agent=agent, window_size=12, seed=2)
    before = weights(agent, path / "before")
    pipeline.setup()
    diagnostics = agent.learn(next(iter(pipeline.episodes())))
    assert diagnostics["n_updates"] > 0
    assert diagnostics["n_skipped_updates"] == 0
    assert before != weights(agent, path / "after")


@every_observation
@every_algorithm
def test_every_algorithm_acts_on_and_learns_from_every_supported_observation_on_pytorch(
    algorithm: str, actions: Any, observations: Any, torch_framework: Framework, tmp_path: Any
) -> None:
    env = Spaces(observations, actions)
    agent = small_agent(env, algorithm, torch_framework)
    require_acting(agent, env)
    require_learning(agent, env, tmp_path)


@pytest.mark.parametrize("observations", WITHOUT_IMAGES, ids=str)
@every_algorithm
def test_every_algorithm_acts_on_and_learns_from_all_but_images_without_a_framework(
    algorithm: str, actions: Any, observations: Any, native_framework: Framework, tmp_path: Any
) -> None:
    env = Spaces(observations, actions)
    agent = small_agent(env, algorithm, native_framework)
    require_acting(agent, env)
    require_learning(agent, env, tmp_path)


@pytest.mark.parametrize("observations", [FRAMES, PICTURE, PARTS], ids=str)
@every_algorithm
def test_images_are_refused_without_a_framework_with_what_to_install(
    algorithm: str, actions: Any, observations: Any, native_framework: Framework
) -> None:
    with pytest.raises(ValueError, match=r"images need: pip install 'tensor-optix\[torch\]'"):
        small_agent(Spaces(observations, actions), algorithm, native_framework)


@pytest.mark.parametrize("observations", [*ROWS, *ARRAYS], ids=str)
def test_actor_and_critics_take_every_supported_observation_on_tensorflow(
    observations: Any, tensorflow_framework: Framework
) -> None:
    env = Spaces(observations, FORCE)
    require_acting(small_agent(env, "sac", tensorflow_framework), env)


@every_kind
@every_algorithm
def test_every_algorithm_acts_on_every_kind_of_observation_on_tensorflow(
    algorithm: str, actions: Any, observations: Any, tensorflow_framework: Framework
) -> None:
    env = Spaces(observations, actions)
    require_acting(small_agent(env, algorithm, tensorflow_framework), env)


@pytest.mark.usefixtures("xla")
@pytest.mark.parametrize(
    ("algorithm", "observations", "actions"),
    [
        ("ppo", FRAMES, CHOICE),
        ("ppo", NUMBER, FORCE),
        ("dqn", VECTOR, CHOICE),
        ("sac", PICTURE, FORCE),
        ("td3", PARTS, FORCE),
        ("ppo", MultiDiscrete([2, 3], start=[1, -1]), CHOICE),
        ("ppo", Box(0, 1, (3, 3), np.bool_), CHOICE),
    ],
    ids=str,
)
def test_every_algorithm_learns_on_tensorflow(
    algorithm: str, observations: Any, actions: Any, tensorflow_framework: Framework, tmp_path: Any
) -> None:
    """Fewer than on PyTorch, because each takes a second or more to compile."""
    env = Spaces(observations, actions)
    require_learning(small_agent(env, algorithm, tensorflow_framework), env, tmp_path)


@pytest.mark.parametrize("algorithm", ["ppo", "dqn", "sac"])
def test_one_seed_decides_weights_and_actions(
    algorithm: str, framework: Framework, tmp_path: Any
) -> None:
    env = Spaces(VECTOR, FORCE if algorithm == "sac" else CHOICE)
    agents = [
        make_agent(env, algorithm, framework.name, seed=seed, device="cpu") for seed in (7, 7, 8)
    ]
    first, again, other = (weights(agent, tmp_path / f"{n}") for n, agent in enumerate(agents))
    assert first == again
    assert first != other
    observations = np.zeros((50, 3), np.float32)
    actions = [agent.act_batch(observations) for agent in agents]
    assert np.array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])


@every_algorithm
def test_global_generators_are_left_alone(
    algorithm: str, actions: Any, framework: Framework
) -> None:
    draw = next_numbers_of(framework.name)
    expected = draw(lambda: None)
    env = Spaces(VECTOR, actions)
    assert draw(lambda: make_agent(env, algorithm, framework.name)) == expected


def next_numbers_of(framework: str) -> Any:
    """Return a function of an action that seeds global generators, acts, and draws from them."""
    if framework == "torch":
        import torch

        seed_all, draw = torch.manual_seed, lambda: torch.rand(3)
    elif framework == "native":
        seed_all, draw = lambda seed: None, lambda: np.zeros(3)
    else:
        import tensorflow as tf

        seed_all, draw = tf.random.set_seed, lambda: tf.random.uniform([3])

    def next_numbers(action: Any) -> list[Any]:
        random.seed(5)
        np.random.seed(5)  # noqa: NPY002
        seed_all(5)
        action()
        return [random.random(), np.random.rand(), np.asarray(draw()).tolist()]  # noqa: NPY002

    return next_numbers


def test_a_policy_starts_out_almost_undecided(framework: Framework) -> None:
    agent = make_agent(Spaces(VECTOR, CHOICE), framework=framework.name, seed=0)
    actions = agent.act_batch(np.random.default_rng(0).normal(size=(3000, 3)).astype(np.float32))
    assert np.bincount(actions, minlength=3).min() > 900


def test_the_first_actions_of_a_gaussian_reach_all_of_the_interval(framework: Framework) -> None:
    agent = make_agent(Spaces(VECTOR, FORCE), framework=framework.name, seed=0)
    actions = agent.act_batch(np.zeros((1000, 3), np.float32))
    assert np.abs(actions.mean()) < 0.1
    assert 0.5 < actions.std() < 0.75


@pytest.mark.needs_a_framework
def test_bytes_are_scaled_inside_the_network(framework: Framework) -> None:
    """Otherwise pixels of 255 would make an undecided policy a determined one."""
    env = Spaces(FRAMES, CHOICE)
    agent = make_agent(env, framework=framework.name, hidden_sizes=(8,), seed=0)
    actions = agent.act_batch(np.full((600, 4, 40, 40), 255, np.uint8))
    assert np.bincount(actions, minlength=3).min() > 120


def test_every_number_of_a_discrete_space_is_told_from_the_others(framework: Framework) -> None:
    """Also where the space does not start at 0."""
    numbers = np.arange(NUMBER.start, NUMBER.start + NUMBER.n)
    ppo = make_agent(Spaces(NUMBER, CHOICE), "ppo", framework.name, seed=0, device="cpu")
    sac = make_agent(Spaces(NUMBER, FORCE), "sac", framework.name, seed=0, device="cpu")
    logits = framework.call(ppo._actor, numbers)  # type: ignore[attr-defined]
    values = framework.call(sac._critic1, numbers, np.zeros((5, 2)))  # type: ignore[attr-defined]
    assert len(np.unique(logits, axis=0)) == len(np.unique(values)) == NUMBER.n


@pytest.mark.parametrize("start", [0, 3])
def test_every_choice_of_a_multi_discrete_space_is_told_from_the_others(
    start: int, framework: Framework
) -> None:
    space = MultiDiscrete([2, 3], start=[start, -start])
    rows = np.array([[start + a, b - start] for a in range(2) for b in range(3)])
    ppo: Any = make_agent(Spaces(space, CHOICE), "ppo", framework.name, seed=0, device="cpu")
    sac: Any = make_agent(Spaces(space, FORCE), "sac", framework.name, seed=0, device="cpu")
    logits = ppo._policy(rows)
    values = sac._values(rows, np.zeros((6, 2), np.float32))[0]
    assert len(np.unique(logits, axis=0)) == len(np.unique(values)) == 6


@pytest.mark.needs_a_framework
def test_channels_are_where_the_caller_says(framework: Framework, tmp_path: Any) -> None:
    """The shorter axis is a guess: one of 4 and one of 3 pixels, say, beside 8 channels."""
    env = Spaces(Box(0.0, 1.0, (4, 6, 3), np.float32), CHOICE)
    made = {
        said: make_agent(env, framework=framework.name, seed=0, device="cpu", channels=said)
        for said in ("first", "last", None)
    }
    shapes = {
        said: [weight.shape for weight in framework.weights(agent._critic)]  # type: ignore[attr-defined]
        for said, agent in made.items()
    }
    assert shapes["last"] == shapes[None] != shapes["first"]
    for said, agent in made.items():
        require_acting(agent, env)
        assert agent.recipe is not None
        assert agent.recipe.channels == said


def run_apart(script: str) -> None:
    """Run a script in a process that has imported nothing yet."""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_an_agent_without_a_framework_needs_neither() -> None:
    require("native")
    run_apart(
        "import sys; sys.modules['torch'] = sys.modules['tensorflow'] = sys.modules['keras'] = None\n"
        "from tensor_optix import BatchPipeline, make_agent\n"
        "agent = make_agent('CartPole-v1', framework='native', hidden_sizes=(4,))\n"
        "pipeline = BatchPipeline(env_id='CartPole-v1', agent=agent, window_size=64)\n"
        "pipeline.setup()\n"
        "assert agent.learn(next(pipeline.episodes()))['n_updates'] == 10\n"
        "assert type(agent).__name__ == 'NativePPOAgent'\n"
        "assert make_agent('CartPole-v1').recipe.framework == 'native'"
    )


def test_where_the_kernels_are_not_compiled_the_native_framework_says_so_and_is_no_default() -> (
    None
):
    run_apart(
        "import os; os.environ['TENSOR_OPTIX_KERNELS'] = 'numba'\n"
        "from tensor_optix import NativeAdam, NativePPOAgent, Perceptron, make_agent\n"
        "from tensor_optix.algorithms.frameworks import lightest_framework\n"
        "try: make_agent('CartPole-v1', framework='native')\n"
        "except ImportError as error: assert 'TENSOR_OPTIX_KERNELS' in str(error), error\n"
        "else: raise AssertionError\n"
        "try: NativePPOAgent(Perceptron(4, 2), Perceptron(4, 1), NativeAdam())\n"
        "except ValueError as error: assert 'compiled kernels are not there' in str(error), error\n"
        "else: raise AssertionError\n"
        "try: assert lightest_framework(False, 'auto').name != 'native'\n"
        "except ImportError as error: assert 'tensor-optix[torch]' in str(error), error"
    )
