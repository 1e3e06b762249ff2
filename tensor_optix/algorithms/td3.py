"""Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, arXiv:1802.09477), once for all.

Twin critics, smoothed targets and a delayed actor; n-step returns and prioritised replay where asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.adapters.backend import UpdateTally
from tensor_optix.adapters.native.updates_from_replay import NativeTD3
from tensor_optix.algorithms import distributions
from tensor_optix.algorithms.acting import Acting, with_noise
from tensor_optix.algorithms.exploration_noise import PinkNoise
from tensor_optix.algorithms.network_agent import try_network
from tensor_optix.algorithms.off_policy import TWIN_MATHS, TwinCriticAgent, TwinCriticHyperparams
from tensor_optix.core.argument_checks import not_negative

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.adapters.backend import Network, Optimizer, Tensor
    from tensor_optix.adapters.native.updates import NativeParts
    from tensor_optix.algorithms.network_agent import Engine
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import Array, EpisodeData, HyperparamSet


@dataclass(frozen=True)
class TD3Hyperparams(TwinCriticHyperparams):
    """The hyperparameters of TD3 (Fujimoto et al. 2018).

    Examples:
        >>> from tensor_optix import TD3Hyperparams, make_agent
        >>> given = TD3Hyperparams(tau=0.01)
        >>> agent = make_agent("Pendulum-v1", "td3", "native", hyperparams=given)
        >>> agent.get_hyperparams().params["tau"]
        0.01
    """

    policy_delay: int = 2
    """Updates of the critics for one of the actor and the targets."""
    exploration_noise: float = 0.1
    """Standard deviation of the noise on actions, which are in [-1, 1]. Before `learning_starts` they are
    drawn uniformly instead."""
    target_noise: float = 0.2
    """Standard deviation of the noise on the target policy's actions."""
    target_noise_clip: float = 0.5
    """That noise is limited to this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_counts("policy_delay")
        self._require(not_negative, "exploration_noise", "target_noise", "target_noise_clip")


class TD3(TwinCriticAgent[TD3Hyperparams]):
    """TD3: continuous actions of a deterministic policy, learned while they are taken.

    `device`, `reward_normalizer`, `obs_normalizer`, `compile` and `engine` are as for every
    `NetworkAgent`.

    Args:
        actor: `[B, ...]` observations to `[B, A]`; the agent takes the hyperbolic tangent of it.
        critic1: `[B, D + A]`, observation and action side by side, to values, `[B, 1]` or `[B]`. Where
            observations are no vectors: `critic1(observations, actions)`.
        critic2: Likewise, another network.
        action_dim: A, the number of components of an action.
        actor_optimizer: Of the actor.
        critic_optimizer: Of both critics.
        hyperparams: See `TD3Hyperparams`; all are optional.
    """

    hyperparams_type = TD3Hyperparams
    acting = Acting("tanh", "actor", ("_policy_tensor",), exploration="exploration_noise")

    def __init__(
        self,
        actor: Network,
        critic1: Network,
        critic2: Network,
        action_dim: int,
        actor_optimizer: Optimizer,
        critic_optimizer: Optimizer,
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
            {"actor_optimizer": actor_optimizer, "critic_optimizer": critic_optimizer},
            hyperparams,
            action_dim=action_dim,
            reward_normalizer=reward_normalizer,
            obs_normalizer=obs_normalizer,
            device=device,
            compile=compile,
            engine=engine,
        )

    def _bind(self) -> None:
        ops = self.ops
        self._target_actor = ops.clone(self._actor)
        self._targets["target_actor"] = (self._target_actor, self._actor)
        super()._bind()
        self._updates = 0
        self._actor_tally = UpdateTally()
        self._critic_loop = ops.update_loop(self._critic_update_tensors, [self._critics])
        native = self._native(self._native_td3)
        if native is not None:
            self._policy = self._by_engine(native.policy, self._policy)
            self._loop = self._by_engine(native.loop, self._loop)
            self._critic_loop = self._by_engine(native.critic_loop, self._critic_loop)

    def _native_td3(self, parts: NativeParts) -> NativeTD3:
        """Return what the native engine does of it.

        Raises:
            NotNative: If that is not possible.
        """
        self._require_own(TD3, [*TWIN_MATHS, "_critic_update_tensors"])
        twins = self._native_twins(parts)
        return NativeTD3(parts, twins, parts.network("target_actor", self._target_actor))

    @property
    def is_exploring(self) -> bool:
        """Whether actions are still drawn uniformly."""
        return self._steps < self._hyperparams.learning_starts

    def _try_networks(self, observation_space: Any, action_space: Any) -> None:
        distributions.require_action_dim(self._action_dim, action_space)
        outputs = try_network("actor", self._policy, observation_space)
        if outputs.shape != (len(outputs), self._action_dim):
            raise ValueError(
                f"the actor must return one number per component of an action, [B, "
                f"{self._action_dim}], got {list(outputs.shape)} for B = {len(outputs)}"
            )
        self._try_critics(observation_space)

    def _sample(self, observations: Array) -> Array:
        if self.is_exploring:
            return self._uniform(len(observations))
        actions = self._greedy(observations)
        noise = self._lasting_noise(PinkNoise) or self._rng
        return with_noise(noise, actions, self._hyperparams.exploration_noise)

    def _greedy(self, observations: Array) -> Array:
        return self._finite_actions(np.tanh(self._policy(self._normalized(observations))))

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Return what came of the updates made while the window was collected.

        Returns:
            `actor_loss` over the updates of the actor; `critic_loss` and `grad_norm` (of the critics) over
            all; `buffer_size`, `n_updates`, `n_skipped_updates` (those of which any part was left out).
        """
        learned = super().learn(episode_data)
        actor = self._actor_tally.take()
        return {"actor_loss": actor.get("actor_loss", 0.0), "critic_loss": 0.0} | learned

    def _progress(self) -> dict[str, Any]:
        return super()._progress() | {"updates": self._updates}

    def _resume(self, progress: Mapping[str, Any]) -> None:
        super()._resume(progress)
        self._updates = progress["updates"]

    def _make_updates(
        self, fields: dict[str, Array], batches: int
    ) -> tuple[dict[str, float], Array]:
        params = self._hyperparams
        shape = (batches * params.batch_size, self._action_dim)
        noise = params.target_noise * self._noise_rng.standard_normal(shape, np.float32)
        limit = params.target_noise_clip
        fields = fields | {"target_noise": np.clip(noise, -limit, limit)}
        tally, td_errors = UpdateTally(), []
        begun = 0
        while begun < batches:
            until_actor = params.policy_delay - self._updates % params.policy_delay
            moves_actor = until_actor == 1
            count = 1 if moves_actor else min(batches - begun, until_actor - 1)
            rows = slice(begun * params.batch_size, (begun + count) * params.batch_size)
            part = {name: field[rows] for name, field in fields.items()}
            loop = self._loop if moves_actor else self._critic_loop
            means, outputs = loop(part, params.batch_size, {"tau": params.tau})
            if moves_actor:
                of_actor = {"actor_loss": means.pop("actor_loss"), "skipped": means["skipped"]}
                self._actor_tally.add(of_actor, count)
            tally.add(means, count)
            td_errors.append(outputs["td_errors"])
            self._updates += count
            begun += count
        return tally.means(), np.concatenate(td_errors)

    def _critic_update_tensors(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Make one update of the critics alone."""
        critic, td_errors = self._update_critics(batch, scalars)
        return critic, {"td_errors": td_errors}

    def _update_tensors(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Make one update of the critics and of the actor; then the targets follow (algorithm 1)."""
        critic, td_errors = self._update_critics(batch, scalars)
        actor = self._actor_descent.step(batch, scalars)
        self.ops.blend(self._target_critics, self._critics, scalars["tau"])
        self.ops.blend(self._target_actor, self._actor, scalars["tau"])
        whole = (1.0 - critic["skipped"]) * (1.0 - actor["skipped"])
        return {**actor, **critic, "skipped": 1.0 - whole}, {"td_errors": td_errors}

    def _td_targets_tensor(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Compute `r + gamma^n * min_i Q_target_i(s', a')`, eq. 10, with smoothed actions, eqs. 14 and 15.

        `a' = clip(pi_target(s') + clip(noise, -c, c), -1, 1)`.
        """
        ops, following = self.ops, batch["next_observations"]
        policy = ops.tanh(ops.forward(self._target_actor, following))
        actions = ops.clip(policy + batch["target_noise"], -1.0, 1.0)
        values = ops.forward(self._target_critics, following, actions)
        return batch["rewards"] + batch["discounts"] * ops.minimum(values[0], values[1])

    def _actor_loss(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute `-mean(Q_1(s, pi(s)))`, whose gradient is the deterministic policy gradient, eq. 3."""
        ops, observations = self.ops, batch["observations"]
        actions = ops.tanh(self._policy_tensor(observations))
        loss = -ops.mean(self._critics_tensor(observations, actions)[0])
        return loss, {"actor_loss": loss}
