"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), once for every framework.

Twin critics, the entropy's weight learned, n-step returns and prioritised replay where asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.adapters.native.updates_from_replay import NativeSAC
from tensor_optix.algorithms import distributions
from tensor_optix.algorithms.acting import Acting
from tensor_optix.algorithms.exploration_noise import PinkNoise
from tensor_optix.algorithms.network_agent import try_network
from tensor_optix.algorithms.off_policy import TWIN_MATHS, TwinCriticAgent, TwinCriticHyperparams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.adapters.backend import Network, Optimizer, Tensor
    from tensor_optix.adapters.native.updates import NativeParts
    from tensor_optix.algorithms.network_agent import Engine
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import Array, EpisodeData, HyperparamSet


@dataclass(frozen=True)
class SACHyperparams(TwinCriticHyperparams):
    """The hyperparameters of SAC (Haarnoja et al. 2018).

    Examples:
        >>> from tensor_optix import SACHyperparams, make_agent
        >>> given = SACHyperparams(tau=0.01)
        >>> agent = make_agent("Pendulum-v1", "sac", "native", hyperparams=given)
        >>> agent.get_hyperparams().params["tau"]
        0.01
    """

    log_alpha_init: float = 0.0
    """Where the logarithm of the entropy's weight starts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.log_alpha_init):
            raise ValueError(f"log_alpha_init must be finite, got {self.log_alpha_init}")


class SAC(TwinCriticAgent[SACHyperparams]):
    """SAC: continuous actions, learned while they are taken.

    `device`, `reward_normalizer`, `obs_normalizer`, `compile` and `engine` are as for every
    `NetworkAgent`.

    Args:
        actor: `[B, ...]` observations to `[B, 2A]`, mean and log_std side by side. log_std is clamped to
            [-5, 2].
        critic1: `[B, D + A]`, observation and action side by side, to values, `[B, 1]` or `[B]`. Where
            observations are no vectors: `critic1(observations, actions)`.
        critic2: Likewise, another network.
        action_dim: A, the number of components of an action.
        actor_optimizer: Of the actor.
        critic_optimizer: Of both critics.
        alpha_optimizer: Of one number, which becomes log alpha.
        hyperparams: See `SACHyperparams`; all are optional.
    """

    hyperparams_type = SACHyperparams
    distribution = distributions.squashed_gaussian
    acting = Acting("squashed_gaussian", "actor", ("_policy_tensor", "distribution"), "float32")

    def __init__(
        self,
        actor: Network,
        critic1: Network,
        critic2: Network,
        action_dim: int,
        actor_optimizer: Optimizer,
        critic_optimizer: Optimizer,
        alpha_optimizer: Optimizer,
        hyperparams: HyperparamSet | None = None,
        device: str = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        compile: bool = False,
        *,
        engine: Engine = "auto",
    ) -> None:
        super().__init__(
            {"actor": actor, "critic1": critic1, "critic2": critic2},
            {
                "actor_optimizer": actor_optimizer,
                "critic_optimizer": critic_optimizer,
                "alpha_optimizer": alpha_optimizer,
            },
            hyperparams,
            action_dim=action_dim,
            reward_normalizer=reward_normalizer,
            obs_normalizer=obs_normalizer,
            device=device,
            compile=compile,
            engine=engine,
        )

    def _bind(self) -> None:
        ops, optimizer = self.ops, self._optimizers["alpha_optimizer"]
        initial = self._hyperparams.log_alpha_init
        self._log_alpha = self._networks["log_alpha"] = ops.scalar(initial, optimizer, self._actor)
        super()._bind()
        self._alpha = ops.number(self._alpha_tensor)
        self._alpha_descent = ops.gradient_descent(
            self._alpha_loss, {"log_alpha": self._log_alpha}, optimizer
        )
        native = self._native(self._native_sac)
        if native is not None:
            self._policy = self._by_engine(native.policy, self._policy)
            self._loop = self._by_engine(native.loop, self._loop)

    def _native_sac(self, parts: NativeParts) -> NativeSAC:
        """Return what the native engine does of it.

        Raises:
            NotNative: If that is not possible.
        """
        self._require_own(SAC, [*TWIN_MATHS, "_alpha_tensor", "_alpha_loss"])
        twins = self._native_twins(parts)
        of_alpha = parts.optimizer(
            "alpha_optimizer", self._optimizers["alpha_optimizer"], {"log_alpha": self._log_alpha}
        )
        return NativeSAC(parts, twins, of_alpha)

    def _try_networks(self, observation_space: Any, action_space: Any) -> None:
        distributions.require_action_dim(self._action_dim, action_space)
        outputs = try_network("actor", self._policy, observation_space)
        self.distribution.require(action_space, outputs)
        self._try_critics(observation_space)

    def _sample(self, observations: Array) -> Array:
        outputs = self._policy(self._normalized(observations))
        noise = self._lasting_noise(PinkNoise)
        if noise is None:
            actions = self.distribution.sample(self._rng, outputs)
        else:
            shape = (len(outputs), self._action_dim)
            actions = distributions.squashed_actions(outputs, noise.standard_normal(shape))
        return self._finite_actions(actions.astype(np.float32))

    def _greedy(self, observations: Array) -> Array:
        outputs = self._policy(self._normalized(observations))
        return self._finite_actions(self.distribution.greedy(outputs).astype(np.float32))

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Return what came of the updates made while the window was collected.

        Returns:
            `actor_loss`, `critic_loss`, `grad_norm` (of the critics), `alpha`, `entropy` (of the policy,
            estimated) over the updates, `buffer_size`, `n_updates`, `n_skipped_updates` (those of which any
            part was left out).
        """
        learned = super().learn(episode_data)
        nothing = {"actor_loss": 0.0, "critic_loss": 0.0, "alpha": self._alpha(), "entropy": 0.0}
        return nothing | learned

    def _make_updates(
        self, fields: dict[str, Array], batches: int
    ) -> tuple[dict[str, float], Array]:
        params = self._hyperparams
        shape = (batches * params.batch_size, self._action_dim)
        noise = {
            name: self._noise_rng.standard_normal(shape, np.float32)
            for name in ("noise", "next_noise")
        }
        means, rows = self._loop(fields | noise, params.batch_size, {"tau": params.tau})
        return means, rows["td_errors"]

    def _update_tensors(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Make one update of critics, actor and alpha; then the target critics follow."""
        critic, td_errors = self._update_critics(batch, scalars)
        actor = self._actor_descent.step(batch, scalars)
        log_probs = actor.pop("log_probs")
        alpha = self._alpha_descent.step({"log_probs": log_probs}, scalars)
        self.ops.blend(self._target_critics, self._critics, scalars["tau"])
        whole = (1.0 - critic["skipped"]) * (1.0 - actor["skipped"]) * (1.0 - alpha["skipped"])
        return {**alpha, **actor, **critic, "skipped": 1.0 - whole}, {"td_errors": td_errors}

    def _alpha_tensor(self) -> Tensor:
        return self.ops.exp(self._log_alpha())

    def _td_targets_tensor(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Compute `r + gamma^n * (min_i Q_target_i(s', a') - alpha * log pi(a'|s'))`, eqs. 3 and 5."""
        ops, following = self.ops, batch["next_observations"]
        outputs = self._policy_tensor(following)
        actions, log_probs = distributions.squashed_draw(ops, outputs, batch["next_noise"])
        values = ops.forward(self._target_critics, following, actions)
        soft = ops.minimum(values[0], values[1]) - self._alpha_tensor() * log_probs
        return batch["rewards"] + batch["discounts"] * soft

    def _actor_loss(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute `mean(alpha * log pi(a|s) - min_i Q_i(s, a))`, eq. 7 with the policy's own actions."""
        ops, observations = self.ops, batch["observations"]
        outputs = self._policy_tensor(observations)
        actions, log_probs = distributions.squashed_draw(ops, outputs, batch["noise"])
        values = self._critics_tensor(observations, actions)
        alpha = self._alpha_tensor()
        loss = ops.mean(alpha * log_probs - ops.minimum(values[0], values[1]))
        entropy = -ops.mean(log_probs)
        return loss, {"actor_loss": loss, "entropy": entropy, "log_probs": log_probs}

    def _alpha_loss(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute `mean(-alpha * (log pi + target entropy))`, eq. 18; the target is minus the dimension."""
        ops = self.ops
        alpha = self._alpha_tensor()
        return ops.mean(-alpha * (batch["log_probs"] - float(self._action_dim))), {"alpha": alpha}
