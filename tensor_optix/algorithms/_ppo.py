"""Proximal policy optimization (Schulman et al. 2017), once for every framework.

A window comes in; the weights change and diagnostics go out. Log-probabilities and values are computed in
`learn`, with the weights that acted, so `act` records nothing and needs no critic.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tensor_optix.adapters.backend import UpdateTally
from tensor_optix.algorithms import distributions, losses
from tensor_optix.algorithms._network_agent import NetworkAgent
from tensor_optix.algorithms.hyperparams import PPOHyperparams
from tensor_optix.algorithms.network_checks import require_count, require_values, try_network
from tensor_optix.core.trajectory_buffer import (
    MinibatchSampler,
    episode_advantages,
    explained_variance,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.adapters.backend import Network, Optimizer, Tensor
    from tensor_optix.algorithms.distributions import Distribution
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import Array, EpisodeData, HyperparamSet

logger = logging.getLogger(__name__)


class PPO(NetworkAgent[PPOHyperparams]):
    """PPO over a backend (`ops`) and a distribution, which a public class per framework names."""

    distribution: ClassVar[Distribution] = distributions.categorical
    hyperparams_type = PPOHyperparams

    default_param_bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "learning_rate": (1e-4, 3e-3),
        "gamma": (0.9, 0.9999),
        "clip_ratio": (0.1, 0.3),
        "entropy_coef": (0.0, 0.05),
    }
    default_log_params: ClassVar[Sequence[str]] = ("learning_rate",)

    def __init__(
        self,
        actor: Network,
        critic: Network,
        optimizer: Optimizer,
        hyperparams: HyperparamSet | None = None,
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
    ) -> None:
        self._actor = actor
        self._critic = critic
        ops = self.ops
        self._policy = ops.inference(self._policy_tensor, [actor])
        self._values = ops.inference(self._values_tensor, [critic])
        self._log_probs = ops.inference(self._log_probs_tensor, [actor])
        networks = {"actor": actor, "critic": critic}
        self._descent = ops.gradient_descent(self._loss, networks, optimizer)
        self._epoch = ops.update_loop(self._update, [actor, critic])
        super().__init__(
            networks, {"optimizer": optimizer}, hyperparams, obs_normalizer, reward_normalizer
        )

    def _update(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self._descent.step(batch, scalars), {}

    def _policy_tensor(self, observations: Tensor) -> Tensor:
        return self.ops.forward(self._actor, observations)

    def _values_tensor(self, observations: Tensor) -> Tensor:
        return self.ops.flatten_values(self.ops.forward(self._critic, observations))

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

    def _sample(self, observations: Array) -> Array:
        outputs = self._policy(self._normalized(observations))
        return self._finite_actions(self.distribution.sample(self._rng, outputs))

    def _greedy(self, observations: Array) -> Array:
        outputs = self._policy(self._normalized(observations))
        return self._finite_actions(self.distribution.greedy(outputs))

    def _probs(self, observations: Array) -> Array | None:
        if self.distribution is not distributions.categorical:
            return None
        logits = self._policy(self._normalized(observations)).astype(np.float64)
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Make `n_epochs` passes of clipped updates over a window.

        Returns:
            `policy_loss`, `value_loss`, `entropy`, `approx_kl`, `grad_norm` (before clipping; all are
            means over the updates made, NaN if each was left out), `explained_var` of the critic before
            them (0 where all returns are equal), `n_updates`, `n_skipped_updates`
            (their loss or gradient was not finite).
        """
        rollout, rows = self._prepare(episode_data)
        if not len(rows):
            logger.warning("the window holds no row that can be learned from; nothing was changed")
            return UpdateTally().take()
        explained = explained_variance(rollout.pop("values")[rows], rollout["returns"][rows])
        diagnostics = self._run_epochs(rollout, rows)
        self._learn_observations(np.asarray(episode_data.observations), episode_data.valid)
        if diagnostics["n_skipped_updates"]:
            logger.warning(
                "%d of %d updates had a gradient that is not finite and were left out; look for NaN "
                "in observations and rewards, or lower the learning rate",
                diagnostics["n_skipped_updates"],
                diagnostics["n_skipped_updates"] + diagnostics["n_updates"],
            )
        return diagnostics | {"explained_var": explained, "explained_variance": explained}

    def _run_epochs(self, rollout: Mapping[str, Array], rows: Array) -> dict[str, Any]:
        hyperparams = self._hyperparams
        names = ("clip_ratio", "vf_coef", "entropy_coef", "max_grad_norm")
        scalars = {name: getattr(hyperparams, name) for name in names}
        size = hyperparams.minibatch_size
        tally = UpdateTally()
        for _ in range(hyperparams.n_epochs):
            means, _rows = self._epoch(self._minibatches.epoch(rollout, rows), size, scalars)
            tally.add(means, math.ceil(len(rows) / size))
        return tally.take()

    def _prepare(self, episode: EpisodeData) -> tuple[dict[str, Array], Array]:
        """Compute what the loss needs of every row, and which rows can be learned from."""
        observations = self._normalized(episode.observations)
        actions = self.distribution.recover(np.ascontiguousarray(episode.actions))
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
        usable &= np.isfinite(advantages) & np.isfinite(returns)
        rows = np.flatnonzero(usable).astype(np.int32)
        if len(rows) > 1:
            # In double precision: the rounded mean of equal advantages would leave a remainder.
            chosen = advantages[rows].astype(np.float64)
            advantages = (advantages - chosen.mean()) / (chosen.std() + 1e-8)
            advantages = advantages.astype(np.float32)
        rollout = {
            "observations": observations,
            "actions": actions,
            "log_probs": log_probs,
            "advantages": advantages,
            "returns": returns,
            "values": values,
        }
        return rollout, rows

    def _end_values(self, episode: EpisodeData) -> Array:
        if episode.end_observations is None or not len(episode.end_observations):
            return np.empty(0, np.float32)
        return self._values(self._normalized(episode.end_observations))

    def _last_values(self, episode: EpisodeData) -> Array:
        if episode.final_obs is None:
            return np.zeros(episode.num_envs, np.float32)
        final_obs = self._normalized(np.asarray(episode.final_obs))
        return self._values(final_obs if episode.num_envs > 1 else final_obs[None])

    def _progress(self) -> dict[str, Any]:
        return super()._progress() | {"minibatches": int(self._minibatches.state[0])}

    def _resume(self, progress: Mapping[str, Any]) -> None:
        super()._resume(progress)
        self._minibatches.state[0] = progress["minibatches"]


class GaussianPPO(PPO):
    """PPO for continuous actions in (-1, 1): a Gaussian squashed by tanh.

    Args:
        action_dim: A, the number of components of an action. The other arguments are those of `PPO`.
    """

    distribution = distributions.squashed_gaussian
    has_unit_actions = True

    def __init__(
        self,
        actor: Network,
        critic: Network,
        optimizer: Optimizer,
        action_dim: int,
        hyperparams: HyperparamSet | None = None,
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
    ) -> None:
        require_count("action_dim", action_dim)
        self._action_dim = action_dim
        super().__init__(actor, critic, optimizer, hyperparams, reward_normalizer, obs_normalizer)

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Try the networks on observations of zeros.

        Raises:
            ValueError: If a network cannot take them, or returns what does not fit.
        """
        distributions.require_action_dim(self._action_dim, action_space)
        super().check_spaces(observation_space, action_space)
