"""What a run is resumed from: agents in the settings that keep the most, by files, to the bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.core.checkpoint_registry import CheckpointRegistry
from tensor_optix.core.ensemble_agent import EnsembleAgent
from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
from tensor_optix.core.policy_manager import PolicyManager
from tensor_optix.core.types import HyperparamSet
from tests.algorithms import small_dqn, small_ppo, small_sac, small_td3
from tests.contracts.agent_contract import AgentContract, all_files, assert_alike
from tests.frameworks import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tensor_optix.core.types import EpisodeData
    from tests.frameworks import Framework

REPLAY = {
    "n_step": 3,
    "per_alpha": 0.6,
    "learning_starts": 40,
    "updates_per_step": 0.3,
    "train_freq": 2,
}


def falling(left: float) -> float:
    return 1e-3 * left


def dqn(seed: int, framework: Framework, **params: Any) -> Any:
    settings = REPLAY | {"epsilon_decay": 0.9, "target_update_freq": 7} | params
    return small_dqn.make_agent(seed, framework=framework, **settings)


def sac(seed: int, framework: Framework) -> Any:
    return small_sac.make_agent(
        seed,
        framework=framework,
        obs_normalizer=ObsNormalizer((4,)),
        reward_normalizer=RewardNormalizer(),
        **REPLAY,
    )


def td3(seed: int, framework: Framework) -> Any:
    return small_td3.make_agent(seed, framework=framework, **REPLAY, policy_delay=3)


def ppo(seed: int, framework: Framework) -> Any:
    return small_ppo.make_agent(
        seed,
        framework=framework,
        reward_normalizer=RewardNormalizer(),
        learning_rate=falling,
        entropy_coef=lambda left: 0.02 * left,
        n_epochs=2,
    )


CONTRACT = AgentContract()
KINDS = {
    dqn: small_dqn.make_episode,
    sac: small_sac.make_episode,
    td3: small_td3.make_episode,
    ppo: small_ppo.make_episode,
}


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_a_resumed_agent_goes_on_to_the_bit(
    make: Callable[..., Any], framework: Framework, tmp_path: Path
) -> None:
    windows = [KINDS[make](64, num_envs=2) for _ in range(4)]
    goes_on(make(0, framework), make(5, framework), windows, tmp_path)


def test_a_resumed_ensemble_goes_on_to_the_bit(tmp_path: Path) -> None:
    windows = [small_ppo.make_episode(64, num_envs=2) for _ in range(4)]
    goes_on(ensemble(0, ppo, tmp_path), ensemble(5, ppo, tmp_path), windows, tmp_path)


def test_a_resumed_ensemble_has_the_rows_of_all_its_members(tmp_path: Path) -> None:
    windows = [small_dqn.make_episode(64, num_envs=2) for _ in range(4)]
    straight = ensemble(0, dqn, tmp_path)
    goes_on(straight, ensemble(5, dqn, tmp_path), windows, tmp_path)
    assert list(straight.replays) == ["0-replay", "1-replay"]


def ensemble(seed: int, make: Callable[..., Any], directory: Path) -> EnsembleAgent:
    members = [make(seed + number, native()) for number in range(2)]
    manager = PolicyManager(CheckpointRegistry(directory / "policies"))
    for member in members:
        manager.add_agent(member)
    together = EnsembleAgent(manager, members[0])
    together.seed(seed)
    return together


def goes_on(straight: Any, resumed: Any, windows: list[EpisodeData], tmp_path: Path) -> None:
    """Let one learn, the other take its place, and both go on."""
    for place, window in enumerate(windows[:2]):
        straight.set_progress(1.0 - place / 4)
        straight.learn(window)
        straight.reduce_step()
    observations = np.asarray(windows[0].observations)
    straight.act_batch(observations)
    handed_over(straight, resumed, tmp_path / "run")
    for place, window in enumerate(windows[2:], 2):
        for agent in (straight, resumed):
            agent.set_progress(1.0 - place / 4)
        assert_alike(straight, resumed)
        np.testing.assert_equal(straight.learn(window), resumed.learn(window))
        actions = straight.act_batch(observations), resumed.act_batch(observations)
        np.testing.assert_array_equal(*actions)
    CONTRACT.save_run(straight, made(tmp_path / "straight"))
    CONTRACT.save_run(resumed, made(tmp_path / "resumed"))
    assert all_files(tmp_path / "straight") == all_files(tmp_path / "resumed")
    assert_alike(straight, resumed)


def handed_over(agent: Any, other: Any, directory: Path) -> None:
    CONTRACT.save_run(agent, made(directory))
    CONTRACT.load_run(other, directory)


def made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def test_a_schedule_that_was_lowered_stays_lowered_after_a_resume(tmp_path: Path) -> None:
    agent, resumed = ppo(0, native()), ppo(1, native())
    agent.set_progress(0.5)
    agent.reduce_step()
    handed_over(agent, resumed, tmp_path / "run")
    for one in (agent, resumed):
        one.set_progress(0.4)
        assert one.get_hyperparams().params["learning_rate"] == pytest.approx(1e-3 * 0.4 / 2)


def test_windows_without_a_move_go_on_to_be_counted(tmp_path: Path) -> None:
    agent, resumed = (
        small_ppo.make_agent(seed, framework=native(), entropy_coef=0.0) for seed in (0, 1)
    )
    window = small_ppo.make_episode()
    window.rewards = np.zeros(len(window.rewards), np.float32)
    window.values = None
    agent.set_hyperparams(HyperparamSet({"learning_rate": 1e-9}))
    agent.learn(window)
    assert agent.run_state()["still_windows"] == 1
    handed_over(agent, resumed, tmp_path / "run")
    assert_alike(agent, resumed)


def test_sizes_of_the_replay_that_were_changed_come_with_the_run(tmp_path: Path) -> None:
    agent, resumed = dqn(0, native()), dqn(1, native())
    params = agent.get_hyperparams().params | {"replay_capacity": 500, "n_step": 1}
    agent.set_hyperparams(HyperparamSet(params))
    agent.learn(small_dqn.make_episode())
    handed_over(agent, resumed, tmp_path / "run")
    assert_alike(agent, resumed)


def native() -> Framework:
    return load("native")
