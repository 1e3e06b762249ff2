"""The plain policy gradient (Williams 1992), once for every framework.

A window comes in; one update later, the weights have changed and diagnostics go out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tensor_optix import kernels
from tensor_optix.adapters.backend import UpdateTally
from tensor_optix.adapters.native.updates import NativePolicyGradient
from tensor_optix.adapters.native.views import NotNative
from tensor_optix.algorithms import distributions
from tensor_optix.algorithms.acting import Acting
from tensor_optix.algorithms.hyperparams import Hyperparams
from tensor_optix.algorithms.network_agent import NetworkAgent, try_network
from tensor_optix.core.trajectory_buffer import explained_variance
from tensor_optix.core.types import EpisodeData

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.adapters.backend import Network, Optimizer, Tensor
    from tensor_optix.adapters.native.updates import NativeParts
    from tensor_optix.algorithms.network_agent import Engine
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import Array, HyperparamSet

logger = logging.getLogger(__name__)

WHOLE_WINDOW = 2**31 - 1
"""A minibatch that no window fills: one short minibatch is made of it, for whose size nothing is compiled."""

MATHS = ("_bind", "_update", "_loss", "_policy_tensor")
"""The methods whose maths the native engine knows by itself."""

ComputeLoss: TypeAlias = Callable[[Any, EpisodeData, Any], Any]
"""`(model, episode, targets [B]) -> scalar loss`, in the framework's own code."""


@dataclass(frozen=True)
class PolicyGradientHyperparams(Hyperparams):
    """The hyperparameters of a plain policy gradient: a learning rate and a discount."""


class PolicyGradient(NetworkAgent[PolicyGradientHyperparams]):
    """REINFORCE (Williams 1992) for discrete actions, counted from 0: one network, one update per window.

    The loss is `-mean(log pi(a_t) * A_t)`. Where a window has `values`, `A_t = G_t - V_t` (A2C); where not,
    A_t is G_t normalised over the window. `G_t` is the discounted sum of the rewards from row t to the
    end of the episode, or as far as the window shows it: nothing is bootstrapped.

    `device`, `reward_normalizer`, `obs_normalizer` and `engine` are as for every
    `NetworkAgent`.

    Args:
        model: `[B, ...]` observations to `[B, A]` logits. The attribute `model` is this very network.
        optimizer: Of its weights. The attribute `optimizer` is this very optimizer.
        hyperparams: See `PolicyGradientHyperparams`; all are optional.
        compute_loss_fn: `(model, episode, targets) -> loss`, used in place of the loss above, called eagerly
            at every update. `episode` holds the B rows that are learned from, as NumPy arrays, flat
            (`num_envs` is 1) and without ends of episodes; its observations are normalised if there
            is a normalizer. `targets` `[B]` is a tensor of A_t on the network's device.
    """

    hyperparams_type = PolicyGradientHyperparams
    acting = Acting("categorical", "model", ("_policy_tensor",))

    def __init__(
        self,
        model: Network,
        optimizer: Optimizer,
        hyperparams: HyperparamSet | None = None,
        compute_loss_fn: ComputeLoss | None = None,
        device: str = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        *,
        engine: Engine = "auto",
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self._compute_loss = compute_loss_fn
        self._learned_from: EpisodeData | None = None
        super().__init__(
            {"model": model},
            {"optimizer": optimizer},
            hyperparams,
            reward_normalizer=reward_normalizer,
            obs_normalizer=obs_normalizer,
            device=device,
            engine=engine,
        )
        # The user's loss calls the model by itself.
        self._learns_itself |= compute_loss_fn is not None

    def _bind(self) -> None:
        ops, model = self.ops, self.model
        self._policy = ops.inference(self._policy_tensor, [model])
        self._descent = ops.gradient_descent(self._loss, {"model": model}, self.optimizer)
        # A loss of the user's reads the window itself, which a compiled loop would take for a constant.
        is_pure = self._compute_loss is None
        self._step = ops.update_loop(self._update, [model], is_pure)
        native = self._native(self._native_policy_gradient)
        if native is not None:
            self._policy = self._by_engine(native.policy, self._policy)
            self._step = self._by_engine(native.step, self._step)

    def _native_policy_gradient(self, parts: NativeParts) -> NativePolicyGradient:
        """Return what the native engine does of it.

        Raises:
            NotNative: If that is not possible.
        """
        if self._compute_loss is not None:
            raise NotNative("the loss is compute_loss_fn")
        self._require_own(PolicyGradient, MATHS)
        model = parts.network("model", self.model)
        optimizer = parts.optimizer("optimizer", self.optimizer, {"model": self.model})
        return NativePolicyGradient(parts, model, optimizer)

    def _try_networks(self, observation_space: Any, action_space: Any) -> None:
        distributions.categorical.require(
            action_space, try_network("model", self._policy, observation_space)
        )

    def _sample(self, observations: Array) -> Array:
        logits = self._policy(self._normalized(observations))
        return distributions.categorical.sample(self._rng, logits)

    def _greedy(self, observations: Array) -> Array:
        return distributions.categorical.greedy(self._policy(self._normalized(observations)))

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Make one update with a whole window.

        `G_t` is the discounted sum of the rewards that the window holds from row t to the end of the episode.
        Where the window, a time limit or a reward that is not finite cuts an episode, that is what was seen
        of it: nothing is bootstrapped.

        Returns:
            `loss` and `grad_norm`, NaN if the update was left out; `baseline_type`, "a2c" if the window
            has values and "reinforce" if not; `explained_variance` of these values, 0 without;
            `n_updates`; `n_skipped_updates` (1 if the loss or the gradient was not
            finite).
        """
        returns, usable = self._returns(episode_data)
        rows = np.flatnonzero(usable & np.isfinite(returns))
        name = "reinforce" if episode_data.values is None else "a2c"
        if not len(rows):
            logger.warning("the window holds no row that can be learned from; nothing was changed")
            return UpdateTally().take() | {"baseline_type": name}
        self._learned_from = window = self._chosen(episode_data, rows)
        targets, explained = _targets(returns[rows], window.values)
        fields = {
            "observations": np.asarray(window.observations),
            "actions": np.asarray(window.actions),
            "targets": targets,
        }
        means, _ = self._step(fields, WHOLE_WINDOW, {})
        self._learned_from = None
        self._learn_observations(np.asarray(episode_data.observations), episode_data.valid)
        tally = UpdateTally()
        tally.add(means, 1)
        diagnostics = tally.take()
        if diagnostics["n_skipped_updates"]:
            logger.warning(
                "the update had a gradient that is not finite and was left out; look for NaN in "
                "observations and in the loss, or lower the learning rate"
            )
        return diagnostics | {"baseline_type": name, "explained_variance": explained}

    def _policy_tensor(self, observations: Tensor) -> Tensor:
        return self.ops.forward(self.model, observations)

    def _update(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self._descent.step(batch, scalars), {}

    def _loss(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute `-mean(log pi(a_t) * A_t)`, whose gradient is that of Williams 1992, or the user's loss."""
        if self._compute_loss is not None:
            assert self._learned_from is not None
            loss = self._compute_loss(self.model, self._learned_from, batch["targets"])
            _require_one_number(loss)
        else:
            logits = self._policy_tensor(batch["observations"])
            log_probs = distributions.categorical.log_prob(self.ops, logits, batch["actions"])
            loss = -self.ops.mean(log_probs * batch["targets"])
        return loss, {"loss": loss}

    def _returns(self, episode: EpisodeData) -> tuple[Array, Array]:
        """Compute the discounted returns `[R]` and which rows can be learned from, `[R]` bool."""
        rewards = self._rewards(episode)
        usable = np.isfinite(rewards)
        if episode.valid is not None:
            usable &= np.asarray(episode.valid, bool)
        if episode.values is not None:
            usable &= np.isfinite(np.asarray(episode.values).reshape(-1))
        grid = np.ascontiguousarray(episode.grid(rewards, np.float32))
        returns = np.empty_like(grid)
        kernels.discounted_returns(
            grid,
            np.ascontiguousarray(episode.grid(episode.dones, bool)),
            np.ascontiguousarray(episode.grid(usable)),
            np.zeros(episode.num_envs, np.float32),
            self._hyperparams.gamma,
            returns,
        )
        return returns.reshape(-1), usable

    def _chosen(self, episode: EpisodeData, rows: Array) -> EpisodeData:
        """Return the rows of a window that are learned from, as the model is to see them."""
        values, log_probs = episode.values, episode.log_probs
        return EpisodeData(
            observations=self._normalized(np.asarray(episode.observations)[rows]),
            actions=distributions.categorical.recover(np.asarray(episode.actions)[rows]),
            rewards=np.asarray(episode.rewards, np.float32)[rows],
            terminated=np.asarray(episode.terminated, bool)[rows],
            truncated=np.asarray(episode.truncated, bool)[rows],
            infos=[episode.infos[row] for row in rows] if episode.infos else [],
            episode_id=episode.episode_id,
            values=None if values is None else np.asarray(values, np.float32).reshape(-1)[rows],
            log_probs=None if log_probs is None else np.asarray(log_probs)[rows],
            timestamp=episode.timestamp,
            metadata=episode.metadata,
        )


def _require_one_number(loss: Any) -> None:
    """Refuse what a user's loss function returned, if no gradient can be taken of it."""
    if loss is None or isinstance(loss, int | float | np.ndarray | np.generic):
        raise TypeError(
            f"compute_loss_fn must return a tensor of the framework, got {type(loss).__name__}"
        )
    if tuple(loss.shape) != ():
        raise ValueError(
            f"compute_loss_fn must return one number, got shape {list(loss.shape)}: take its mean"
        )


def _targets(returns: Array, values: Array | None) -> tuple[Array, float]:
    """Return `A_t` `[B]` float32, and how much of the variance of the returns the values explain."""
    if values is not None:
        return returns - values, explained_variance(values, returns)
    if len(returns) < 2:
        return returns, 0.0
    # In double precision, because the mean of equal numbers in float32 need not be that number.
    deviations = returns.astype(np.float64) - returns.mean(dtype=np.float64)
    return (deviations / (deviations.std() + 1e-8)).astype(np.float32), 0.0
