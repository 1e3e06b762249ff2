"""`make_agent`: an agent that fits any supported environment, and plain words where none does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.algorithms.catalogue import ALGORITHMS
from tensor_optix.algorithms.dqn import DQNHyperparams
from tensor_optix.core.types import HyperparamSet
from tensor_optix.pipeline.batch_pipeline import BatchPipeline
from tensor_optix.pipeline.vector_env import make_vector_env

if TYPE_CHECKING:
    from tensor_optix.core.base_agent import BaseAgent
    from tests.frameworks import Framework

VECTOR = Box(-1.0, 1.0, (3,), np.float32)
FRAMES = Box(0, 255, (4, 40, 40), np.uint8)
NUMBER = Discrete(5, start=2)
CHOICE = Discrete(3)
FORCE = Box(-2.0, 2.0, (2,), np.float32)


class Spaces(gymnasium.Env[Any, Any]):
    """Random observations, episodes of 5 steps."""

    def __init__(self, observations: Any, actions: Any) -> None:
        self.observation_space = observations
        self.action_space = actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps == 5, False, {}


def weights(agent: BaseAgent, path: Any) -> dict[str, bytes]:
    agent.save_weights(path)
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_without_a_seed_agents_differ(tmp_path: Any) -> None:
    env = Spaces(VECTOR, CHOICE)
    first, second = (weights(make_agent(env), tmp_path / name) for name in "ab")
    assert first != second


@pytest.mark.parametrize("name", ["sac", "SAC", "Sac"])
def test_the_algorithm_may_be_in_capitals_and_stand_first(name: str) -> None:
    env = Spaces(VECTOR, FORCE)
    for agent in (make_agent(env, name), make_agent(name, env), make_agent(name, env, "native")):
        assert agent.recipe is not None
        assert agent.recipe.algorithm == "sac"


@pytest.mark.parametrize(
    "given",
    [
        HyperparamSet({"learning_rate": 0.02, "mine": 7}),
        {"learning_rate": 0.02, "mine": 7},
        DQNHyperparams(learning_rate=0.02, own={"mine": 7}),
    ],
    ids=lambda given: type(given).__name__,
)
def test_hyperparameters_are_a_set_or_a_dict_or_those_of_the_algorithm(given: Any) -> None:
    params = make_agent(Spaces(VECTOR, CHOICE), "dqn", hyperparams=given).get_hyperparams().params
    assert (params["learning_rate"], params["mine"]) == (0.02, 7)


def test_hyperparameters_of_another_algorithm_are_refused() -> None:
    said = "a dict, or PPOHyperparams for 'ppo', got DQNHyperparams"
    with pytest.raises(TypeError, match=said):
        make_agent(Spaces(VECTOR, CHOICE), "ppo", hyperparams=DQNHyperparams())


def test_an_algorithm_without_an_environment_is_refused() -> None:
    with pytest.raises(TypeError, match=r"env must be an environment.*got NoneType"):
        make_agent("PPO")


@pytest.mark.parametrize("actions", [CHOICE, FORCE], ids=str)
def test_none_chooses_ppo(actions: Any) -> None:
    agent = make_agent(Spaces(VECTOR, actions))
    assert "clip_ratio" in agent.get_hyperparams().params
    assert agent.has_unit_actions == isinstance(actions, Box)


def cart_pole() -> gymnasium.Env[Any, Any]:
    return gymnasium.make("CartPole-v1")


@pytest.mark.parametrize(
    "make",
    [
        cart_pole,
        lambda: gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync"),
        lambda: make_vector_env("CartPole-v1", 2, "sync"),
        lambda: BatchPipeline(env=cart_pole()).env,
        lambda: "CartPole-v1",
    ],
    ids=["plain", "vector", "VectorEnv", "pipeline.env", "id"],
)
def test_every_form_of_an_environment_gives_the_spaces_of_one(make: Any) -> None:
    agent = make_agent(make(), seed=0)
    agent.check_spaces(Box(-5.0, 5.0, (4,), np.float32), Discrete(2))


def test_an_id_that_only_envpool_has_is_looked_at() -> None:
    pytest.importorskip("envpool")
    agent = make_agent("Pong-v5", hidden_sizes=(8,))
    agent.check_spaces(Box(0, 255, (4, 84, 84), np.uint8), Discrete(6))


@pytest.mark.parametrize("algorithm", list(ALGORITHMS))
def test_hyperparameters_that_are_not_given_are_those_of_the_table(
    algorithm: str, framework: Framework
) -> None:
    takes_choices = Discrete in ALGORITHMS[algorithm].action_spaces
    env = Spaces(VECTOR, CHOICE if takes_choices else FORCE)
    given = HyperparamSet({"gamma": 0.5})
    agent = make_agent(env, algorithm, framework.name, hyperparams=given)
    expected = ALGORITHMS[algorithm].default_params() | {"gamma": 0.5}
    assert agent.get_hyperparams().params == expected


def test_images_have_defaults_of_their_own() -> None:
    params = make_agent(Spaces(FRAMES, CHOICE), hidden_sizes=(8,)).get_hyperparams().params
    assert (params["n_epochs"], params["learning_rate"]) == (4, 2.5e-4)


def test_normalizers_are_made_on_request(framework: Framework, tmp_path: Any) -> None:
    options = {"normalize_observations": True, "normalize_rewards": True}
    agent = make_agent(Spaces(VECTOR, CHOICE), framework=framework.name, **options)  # type: ignore[arg-type]
    agent.save_state(tmp_path)
    assert (tmp_path / "obs_normalizer.npz").exists()
    assert (tmp_path / "reward_normalizer.npz").exists()


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        (
            Spaces(VECTOR, FORCE),
            {"algorithm": "dqn"},
            r"takes Discrete actions.*use 'ppo' or 'sac'",
        ),
        (Spaces(VECTOR, CHOICE), {"algorithm": "sac"}, r"takes Box actions.*use 'ppo' or 'dqn'"),
        (Spaces(VECTOR, CHOICE), {"algorithm": "dqm"}, r"ppo, dqn, sac.*did you mean 'dqn'"),
        *(
            (
                Spaces(VECTOR, several),
                {"algorithm": algorithm},
                rf"'{algorithm}' takes {takes} actions, got {type(several).__name__}.*; use 'ppo'$",
            )
            for several in (MultiDiscrete([2, 2]), MultiBinary(3))
            for algorithm, takes in (("dqn", "Discrete"), ("sac", "Box"))
        ),
        *(
            (
                Spaces(VECTOR, parts),
                {},
                r"takes Discrete or MultiDiscrete or MultiBinary or Box actions, got .*TransformAction",
            )
            for parts in (Dict({"a": CHOICE}), Tuple([CHOICE, FORCE]))
        ),
        (Spaces(VECTOR, Box(-1.0, 1.0, (2, 0))), {}, r"at least one number, got Box"),
        (
            Spaces(Dict({"a": Text(3)}), CHOICE),
            {},
            r"observations of numbers.*TransformObservation",
        ),
        (Spaces(Text(3), CHOICE), {}, r"observations of numbers.*TransformObservation"),
        (
            Spaces(FRAMES, CHOICE),
            {"channels": "frist"},
            r"'first', 'last' or None, got 'frist'; did you mean 'first'\?",
        ),
        (
            Spaces(MultiDiscrete([2, 3]), CHOICE),
            {"normalize_observations": True},
            r"does not fit the numbers",
        ),
        (
            Spaces(Dict({"image": FRAMES, "speed": VECTOR}), CHOICE),
            {"normalize_observations": True},
            r"does not fit uint8 images",
        ),
        (Spaces(VECTOR, CHOICE), {"engine": "fast"}, r"'auto', 'native', 'framework', got 'fast'"),
        (Spaces(VECTOR, CHOICE), {"framework": "tff"}, r"did you mean 'tensorflow'\?"),
        (Spaces(VECTOR, CHOICE), {"hidden_sizes": (64, 0)}, r"at least 1, got \[64, 0\]"),
        (Spaces(VECTOR, CHOICE), {"hidden_sizes": (6.5,)}, r"whole numbers"),
        (Spaces(VECTOR, CHOICE), {"hidden_sizes": 64}, r"a list of whole numbers, got 64"),
        (Spaces(NUMBER, CHOICE), {"normalize_observations": True}, r"does not fit the numbers"),
        (Spaces(FRAMES, CHOICE), {"normalize_observations": True}, r"does not fit uint8 images"),
        (
            Spaces(VECTOR, CHOICE),
            {"hyperparams": HyperparamSet({"gama": 1.0})},
            r"did you mean 'gamma'",
        ),
        ("CartPol-v1", {}, r'unknown environment "CartPol-v1"; did you mean "CartPole-v1"\?'),
    ],
)
def test_what_does_not_fit_is_refused_with_a_remedy(
    env: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_agent(env, **options)


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        (3, {}, "env must be an environment"),
        (Spaces(VECTOR, CHOICE), {"hyperparams": 0.9}, "must be a HyperparamSet, a dict, or PPO"),
    ],
)
def test_other_types_are_refused(env: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make_agent(env, **options)


@pytest.mark.parametrize("device", ["quantum", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device: str, framework: Framework) -> None:
    with pytest.raises(ValueError, match=rf"device '{device}'.*choose .*auto"):
        make_agent(Spaces(VECTOR, CHOICE), framework=framework.name, device=device)
