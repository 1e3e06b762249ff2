"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), once for every framework.

Twin critics, the entropy's weight learned, n-step returns and prioritised replay where asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tensor_optix.algorithms import distributions, losses
from tensor_optix.algorithms._off_policy import OffPolicyAgent
from tensor_optix.algorithms.hyperparams import SACHyperparams
from tensor_optix.algorithms.network_checks import require_count, try_critics, try_network
from tensor_optix.core.types import HyperparamSet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.adapters.backend import Network, Optimizer, Tensor
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import Array, EpisodeData


class SAC(OffPolicyAgent[SACHyperparams]):
    """SAC over a backend (`ops`), which a public class per framework names."""

    hyperparams_type = SACHyperparams
    distribution = distributions.squashed_gaussian
    has_unit_actions = True
    action_dtype = np.float32

    default_param_bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "learning_rate": (1e-4, 3e-3),
        "gamma": (0.9, 0.9999),
        "tau": (1e-3, 1e-1),
    }
    default_log_params: ClassVar[Sequence[str]] = ("learning_rate", "tau")
    default_min_episodes_before_dormant: ClassVar[int] = 30

    def __init__(
        self,
        networks: tuple[Network, Network, Network],
        action_dim: int,
        optimizers: tuple[Optimizer, Optimizer, Optimizer],
        hyperparams: HyperparamSet | None = None,
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
    ) -> None:
        """Take the actor and two critics, and the optimizers of actor, critics and log alpha."""
        ops = self.ops
        require_count("action_dim", action_dim)
        self._action_dim = action_dim
        self._actor, self._critic1, self._critic2 = networks
        if self._critic1 is self._critic2:
            raise ValueError("critic1 and critic2 must be two networks, got one and the same")
        self._critics = ops.twin_critics(self._critic1, self._critic2)
        self._target_critics = ops.clone(self._critics)
        # Anything but a HyperparamSet is refused further on.
        given = hyperparams.params if isinstance(hyperparams, HyperparamSet) else {}
        initial = SACHyperparams.from_params(given)
        self._log_alpha = ops.scalar(initial.log_alpha_init, optimizers[2])
        self._bind(optimizers)
        named = {"actor": self._actor, "critic1": self._critic1, "critic2": self._critic2}
        names = ("actor_optimizer", "critic_optimizer", "alpha_optimizer")
        super().__init__(
            named | {"log_alpha": self._log_alpha},
            dict(zip(names, optimizers, strict=True)),
            hyperparams,
            obs_normalizer,
            reward_normalizer,
            {"target_critics": (self._target_critics, self._critics)},
        )

    def _bind(self, optimizers: tuple[Optimizer, Optimizer, Optimizer]) -> None:
        ops, (for_actor, for_critics, for_alpha) = self.ops, optimizers
        descend = ops.gradient_descent
        self._actor_descent = descend(self._actor_loss, {"actor": self._actor}, for_actor)
        self._critic_descent = descend(self._critic_loss, {"critics": self._critics}, for_critics)
        self._alpha_descent = descend(self._alpha_loss, {"log_alpha": self._log_alpha}, for_alpha)
        self._policy = ops.inference(self._policy_tensor, [self._actor])
        self._alpha = ops.number(self._alpha_tensor)
        self._values = ops.inference(self._critics_tensor, [self._critics])
        self._td_targets = ops.without_gradient(self._td_targets_tensor)
        self._loop = ops.update_loop(self._update_tensors, [self._actor, self._critics])

    def seed(self, seed: int) -> None:
        """Make acting, replay and updates follow from `seed`."""
        super().seed(seed)
        # Of its own, so that acting (in validation, say) changes nothing in what is learned.
        self._noise_rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])

    def check_spaces(self, observation_space: Any, action_space: Any) -> None:
        """Try the networks on observations and actions of zeros.

        Raises:
            ValueError: If a network cannot take them, or returns what does not fit.
        """
        distributions.require_action_dim(self._action_dim, action_space)
        outputs = try_network("actor", self._policy, observation_space)
        self.distribution.require(action_space, outputs)
        try_critics(self._values, observation_space, self._action_dim)

    def _sample(self, observations: Array) -> Array:
        outputs = self._policy(self._normalized(observations))
        return self._finite_actions(self.distribution.sample(self._rng, outputs).astype(np.float32))

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

    def _progress(self) -> dict[str, Any]:
        return super()._progress() | {"noise_rng": self._noise_rng.bit_generator.state}

    def _resume(self, progress: Mapping[str, Any]) -> None:
        super()._resume(progress)
        self._noise_rng.bit_generator.state = progress["noise_rng"]

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
        targets = self._td_targets(batch)
        critic = self._critic_descent.step({**batch, "targets": targets}, scalars)
        actor = self._actor_descent.step(batch, scalars)
        log_probs = actor.pop("log_probs")
        alpha = self._alpha_descent.step({"log_probs": log_probs}, scalars)
        self.ops.blend(self._target_critics, self._critics, scalars["tau"])
        # Not finite where the critics' update was left out: its rows keep their priorities.
        td_errors = critic.pop("td_errors") / (1.0 - critic["skipped"])
        whole = (1.0 - critic["skipped"]) * (1.0 - actor["skipped"]) * (1.0 - alpha["skipped"])
        return {**alpha, **actor, **critic, "skipped": 1.0 - whole}, {"td_errors": td_errors}

    def _policy_tensor(self, observations: Tensor) -> Tensor:
        return self.ops.forward(self._actor, observations)

    def _alpha_tensor(self) -> Tensor:
        return self.ops.exp(self._log_alpha())

    def _critics_tensor(self, observations: Tensor, actions: Tensor) -> Tensor:
        return self.ops.forward(self._critics, observations, actions)

    def _td_targets_tensor(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Compute `r + gamma^n * (min_i Q_target_i(s', a') - alpha * log pi(a'|s'))`, eqs. 3 and 5."""
        ops, following = self.ops, batch["next_observations"]
        outputs = self._policy_tensor(following)
        actions, log_probs = distributions.squashed_draw(ops, outputs, batch["next_noise"])
        values = ops.forward(self._target_critics, following, actions)
        soft = ops.minimum(values[0], values[1]) - self._alpha_tensor() * log_probs
        return batch["rewards"] + batch["discounts"] * soft

    def _critic_loss(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        values = self._critics_tensor(batch["observations"], batch["actions"])
        first, second = batch["targets"] - values[0], batch["targets"] - values[1]
        loss = losses.weighted_squares(self.ops, first, batch["weights"])
        loss = loss + losses.weighted_squares(self.ops, second, batch["weights"])
        absolute = self.ops.absolute
        td_errors = 0.5 * (absolute(first) + absolute(second))
        return loss, {"critic_loss": loss, "td_errors": td_errors}

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
