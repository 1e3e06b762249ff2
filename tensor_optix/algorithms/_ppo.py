"""Proximal policy optimization (Schulman et al. 2017), once for every framework.

A window comes in; the weights change and diagnostics go out. Log-probabilities and values are computed in
`learn`, with the weights that acted, so `act` records nothing and needs no critic.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tensor_optix.algorithms import losses
from tensor_optix.algorithms.hyperparams import PPOHyperparams
from tensor_optix.algorithms.network_checks import require_values, try_network
from tensor_optix.core.base_agent import BaseAgent
from tensor_optix.core.trajectory_buffer import (
    MinibatchSampler,
    episode_advantages,
    explained_variance,
)
from tensor_optix.core.types import Array, EpisodeData, HyperparamSet, PathLike

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.adapters.backend import Backend, Network, Optimizer, Tensor
    from tensor_optix.algorithms.distributions import Distribution
    from tensor_optix.core.normalizers import RewardNormalizer

logger = logging.getLogger(__name__)


class PPO(BaseAgent):
    """PPO over a backend (`ops`) and a distribution, which a public class per framework names."""

    ops: ClassVar[Backend]
    distribution: ClassVar[Distribution]

    default_param_bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "learning_rate": (1e-4, 3e-3),
        "gamma": (0.95, 0.999),
        "clip_ratio": (0.1, 0.3),
        "entropy_coef": (0.001, 0.05),
    }
    default_log_params: ClassVar[Sequence[str]] = ("learning_rate",)

    def __init__(
        self,
        actor: Network,
        critic: Network,
        optimizer: Optimizer,
        hyperparams: HyperparamSet | None = None,
        reward_normalizer: RewardNormalizer | None = None,
    ) -> None:
        if hyperparams is not None and not isinstance(hyperparams, HyperparamSet):
            raise TypeError(
                f"hyperparams must be a HyperparamSet, got {type(hyperparams).__name__}; "
                "wrap it: HyperparamSet(params=...)"
            )
        self._actor = actor
        self._critic = critic
        self._optimizer = optimizer
        self._reward_normalizer = reward_normalizer
        ops = self.ops
        self._policy = ops.inference(self._policy_tensor, [actor])
        self._values = ops.inference(self._values_tensor, [critic])
        self._log_probs = ops.inference(self._log_probs_tensor, [actor])
        networks = {"actor": actor, "critic": critic}
        self._descent = ops.gradient_descent(self._loss, networks, optimizer)
        self.seed(int(np.random.SeedSequence().generate_state(1)[0]))
        self._hyperparams = PPOHyperparams(learning_rate=ops.learning_rate(optimizer))
        if hyperparams is not None:
            self.set_hyperparams(hyperparams)

    def _policy_tensor(self, observations: Tensor) -> Tensor:
        return self._actor(self.ops.network_input(observations))

    def _values_tensor(self, observations: Tensor) -> Tensor:
        return self.ops.flatten_values(self._critic(self.ops.network_input(observations)))

    def _log_probs_tensor(self, observations: Tensor, actions: Tensor) -> Tensor:
        outputs = self._policy_tensor(observations)
        return self.distribution.log_prob(self.ops, outputs, actions)

    def _loss(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute `L = policy loss + vf_coef * MSE(V, R) - entropy_coef * entropy`, eq. 9 of the paper."""
        ops, distribution = self.ops, self.distribution
        outputs = self._policy_tensor(batch["observations"])
        log_ratio = distribution.log_prob(ops, outputs, batch["actions"]) - batch["log_probs"]
        policy_loss = losses.clipped_surrogate(
            ops, log_ratio, batch["advantages"], scalars["clip_ratio"]
        )
        values = self._values_tensor(batch["observations"])
        value_loss = losses.squared_error(ops, values, batch["returns"])
        entropy = ops.mean(distribution.entropy(ops, outputs))
        total = policy_loss + scalars["vf_coef"] * value_loss - scalars["entropy_coef"] * entropy
        return total, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approx_kl": losses.approximate_kl(ops, log_ratio),
        }

    def seed(self, seed: int) -> None:
        """Make action sampling and minibatches follow from `seed`."""
        sampling, minibatches = np.random.SeedSequence(seed).spawn(2)
        self._rng = np.random.default_rng(sampling)
        self._minibatches = MinibatchSampler(int(minibatches.generate_state(1, np.uint64)[0]))

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Try the networks on observations of zeros.

        Raises:
            ValueError: If a network cannot take them, or returns what does not fit.
        """
        self.distribution.require(
            action_space, try_network("actor", self._policy, observation_space)
        )
        require_values(try_network("critic", self._values, observation_space))

    def act(self, observation: Any) -> Any:
        """Sample an action for one observation `[...]`."""
        outputs = self._policy(np.asarray(observation)[None])
        return self.distribution.to_python(self.distribution.sample(self._rng, outputs)[0])

    def act_batch(self, observations: Array) -> Array:
        """Sample actions for `[N, ...]` observations."""
        return self.distribution.sample(self._rng, self._policy(observations))

    def act_greedy(self, observations: Array) -> Array:
        """Choose the most probable actions for `[N, ...]` observations."""
        return self.distribution.greedy(self._policy(observations))

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Make `n_epochs` passes of clipped updates over a window.

        Returns:
            `policy_loss`, `value_loss`, `entropy`, `approx_kl` (means over the updates), `explained_var`
            of the critic before them, `n_updates`, `n_skipped_updates` (their gradient was not finite).
        """
        rollout, rows = self._prepare(episode_data)
        if not len(rows):
            logger.warning("the window holds no row that can be learned from; nothing was changed")
            return {"n_updates": 0, "n_skipped_updates": 0}
        explained = explained_variance(rollout.pop("values")[rows], rollout["returns"][rows])
        hyperparams = self._hyperparams
        scalars = {
            name: getattr(hyperparams, name) for name in ("clip_ratio", "vf_coef", "entropy_coef")
        }
        epochs = [
            self._descent.run_epoch(
                self._minibatches.epoch(rollout, rows),
                hyperparams.minibatch_size,
                hyperparams.max_grad_norm,
                scalars,
            )
            for _ in range(hyperparams.n_epochs)
        ]
        diagnostics = _summary(epochs)
        if diagnostics["n_skipped_updates"]:
            logger.warning(
                "%d of %d updates had a gradient that is not finite and were left out; look for NaN "
                "in observations and rewards, or lower the learning rate",
                diagnostics["n_skipped_updates"],
                diagnostics["n_skipped_updates"] + diagnostics["n_updates"],
            )
        return diagnostics | {"explained_var": explained, "explained_variance": explained}

    def _prepare(self, episode: EpisodeData) -> tuple[dict[str, Array], Array]:
        """Compute what the loss needs of every row, and which rows can be learned from."""
        observations = np.ascontiguousarray(episode.observations)
        actions = np.ascontiguousarray(episode.actions)
        if actions.dtype.kind in "iu":
            actions = actions.astype(np.int64, copy=False)
        values = self._values(observations)
        if episode.log_probs is None:
            log_probs = self._log_probs(observations, actions)
        else:
            log_probs = np.ascontiguousarray(episode.log_probs, np.float32)
        advantages, returns, usable = episode_advantages(
            episode,
            self._rewards(episode),
            values,
            self._end_values(episode),
            self._last_values(episode),
            (self._hyperparams.gamma, self._hyperparams.gae_lambda),
        )
        rows = np.flatnonzero(usable & np.isfinite(advantages)).astype(np.int32)
        if len(rows) > 1:
            chosen = advantages[rows]
            advantages = (advantages - chosen.mean()) / (chosen.std() + np.float32(1e-8))
        rollout = {
            "observations": observations,
            "actions": actions,
            "log_probs": log_probs,
            "advantages": advantages,
            "returns": returns,
            "values": values,
        }
        return rollout, rows

    def _rewards(self, episode: EpisodeData) -> Array:
        rewards = np.asarray(episode.rewards, np.float32)
        if self._reward_normalizer is None:
            return rewards
        valid = np.ones(len(rewards), bool) if episode.valid is None else episode.valid
        self._reward_normalizer.update(
            episode.grid(rewards), episode.grid(episode.dones), episode.grid(valid)
        )
        return self._reward_normalizer.normalize(rewards)

    def _end_values(self, episode: EpisodeData) -> Array:
        if episode.end_observations is None or not len(episode.end_observations):
            return np.empty(0, np.float32)
        return self._values(episode.end_observations)

    def _last_values(self, episode: EpisodeData) -> Array:
        if episode.final_obs is None:
            return np.zeros(episode.num_envs, np.float32)
        final_obs = np.asarray(episode.final_obs)
        return self._values(final_obs if episode.num_envs > 1 else final_obs[None])

    def get_hyperparams(self) -> HyperparamSet:
        """Return the hyperparameters, the learning rate as the optimizer has it."""
        params = asdict(self._hyperparams)
        return HyperparamSet(params | {"learning_rate": self.ops.learning_rate(self._optimizer)})

    def set_hyperparams(self, hyperparams: HyperparamSet) -> None:
        """Put hyperparameters in force; those that are not named stay as they are.

        Raises:
            ValueError: On an unknown name or a value out of range; nothing has changed then.
        """
        before = self.get_hyperparams().params
        self._hyperparams = PPOHyperparams.from_params(before | hyperparams.params)
        if self._hyperparams.learning_rate != before["learning_rate"]:
            self.ops.set_learning_rate(self._optimizer, self._hyperparams.learning_rate)

    def save_weights(self, path: PathLike) -> None:
        """Write actor and critic into the directory `path`."""
        Path(path).mkdir(parents=True, exist_ok=True)
        self.ops.save_network(self._actor, Path(path) / "actor")
        self.ops.save_network(self._critic, Path(path) / "critic")

    def load_weights(self, path: PathLike) -> None:
        """Read actor and critic."""
        self.ops.load_network(self._actor, Path(path) / "actor")
        self.ops.load_network(self._critic, Path(path) / "critic")

    def save_state(self, path: PathLike) -> None:
        """Write the whole learner: weights, optimizer, random generators, reward normalizer."""
        self.save_weights(path)
        self.ops.save_optimizer(self._optimizer, Path(path) / "optimizer")
        state = {
            "rng": self._rng.bit_generator.state,
            "minibatches": int(self._minibatches.state[0]),
        }
        (Path(path) / "agent.json").write_text(json.dumps(state))
        if self._reward_normalizer is not None:
            arrays = self._reward_normalizer.state_dict()
            np.savez(Path(path) / "reward_normalizer.npz", allow_pickle=False, **arrays)

    def load_state(self, path: PathLike) -> None:
        """Read a learner; a directory that holds weights only gives weights only."""
        self.load_weights(path)
        self.ops.load_optimizer(self._optimizer, Path(path) / "optimizer")
        if (Path(path) / "agent.json").exists():
            state = json.loads((Path(path) / "agent.json").read_text())
            self._rng.bit_generator.state = state["rng"]
            self._minibatches.state[0] = state["minibatches"]
        stored = Path(path) / "reward_normalizer.npz"
        if self._reward_normalizer is not None and stored.exists():
            with np.load(stored, allow_pickle=False) as arrays:
                self._reward_normalizer.load_state_dict(dict(arrays))

    def average_weights(self, paths: Sequence[PathLike]) -> bool:
        """Take on the mean of stored actors and critics."""
        for name, network in (("actor", self._actor), ("critic", self._critic)):
            self.ops.average_networks(network, [Path(path) / name for path in paths])
        return True

    def perturb_weights(self, noise_scale: float) -> None:
        """Multiply every weight of actor and critic by `1 + noise_scale * N(0, 1)`."""
        for network in (self._actor, self._critic):
            self.ops.perturb_network(network, noise_scale, int(self._rng.integers(2**63)))


def _summary(epochs: list[dict[str, float]]) -> dict[str, Any]:
    counts = ("n_updates", "n_skipped_updates")
    return {
        name: int(total) if name in counts else total / len(epochs)
        for name, total in ((name, sum(epoch[name] for epoch in epochs)) for name in epochs[0])
    }
