"""Proximal policy optimization (Schulman et al. 2017), once for every framework.

A window comes in; the weights change and diagnostics go out. Log-probabilities and values are computed in
`learn`, with the weights that acted, so `act` records nothing and needs no critic.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tensor_optix.adapters.backend import UpdateTally
from tensor_optix.adapters.native.updates import NativePPO
from tensor_optix.adapters.native.views import NotNative
from tensor_optix.algorithms import distributions
from tensor_optix.algorithms.acting import Acting
from tensor_optix.algorithms.hyperparams import Hyperparams
from tensor_optix.algorithms.network_agent import PROBE_ROWS, NetworkAgent, try_network
from tensor_optix.core.argument_checks import in_unit_interval, not_negative, positive, whole_number
from tensor_optix.core.checkpoints.saved_state import MOST_SMALL_JSON, read_json, reading
from tensor_optix.core.trajectory_buffer import (
    MinibatchSampler,
    episode_advantages,
    explained_variance,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.adapters.backend import Backend, Network, Optimizer, Tensor
    from tensor_optix.adapters.native.updates import NativeParts
    from tensor_optix.algorithms.distributions import Distribution
    from tensor_optix.algorithms.network_agent import Engine
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import Array, EpisodeData, HyperparamSet, PathLike

logger = logging.getLogger(__name__)

ORDINARY_RETURNS = (1.0, 128.0)
"""Returns of this size at first are learned in the rewards' own unit."""
USUAL_RETURN = 32.0
"""What other returns are brought near to. Measured by `benchmarks.reward_scale` on CartPole, where the first
are about 45: episodes on the way have a mean return of 220 there; of 212 at a tenth and 166 at a hundredth
of that, as the critic's first, random values outweigh these; of 172 at ten times, to which it has to rise."""
REWARD_UNIT = "reward_unit.json"
STOP_AT = 1.5
"""Passes end once `approx_kl` exceeds `target_kl` so many times, as in Spinning Up and Stable-Baselines3."""
STILL_KL = 1e-7
"""Below it `approx_kl` is rounding: the policy did not move."""
STILL_WINDOWS = 5
MATHS = (
    *("_bind", "_update", "_loss", "_policy_tensor", "_values_tensor", "_two_passes"),
    *("_among_allowed", "_log_probs_tensor", "_pairs_tensor"),
)
"""The methods whose maths the native engine knows by itself; likewise in other algorithms."""
SETTLED_ENTROPY = 1e-3
"""Below it a policy has made its choice, and may stay where it is."""


@dataclass(frozen=True)
class PPOHyperparams(Hyperparams):
    """The hyperparameters of PPO (Schulman et al. 2017).

    Examples:
        >>> from tensor_optix import PPOHyperparams, make_agent
        >>> given = PPOHyperparams(clip_ratio=0.1)
        >>> agent = make_agent("CartPole-v1", "ppo", "native", hyperparams=given)
        >>> agent.get_hyperparams().params["clip_ratio"]
        0.1
    """

    clip_ratio: float = 0.2
    """How far the probability ratio may move before its gain is cut."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the critic's squared error."""
    gae_lambda: float = 0.95
    """Trade of bias for variance in the advantages, in [0, 1]."""
    n_epochs: int = 10
    """Passes over a window."""
    minibatch_size: int = 64
    """Rows per update."""
    max_grad_norm: float = 0.5
    """The gradients of actor, critic and weights that both share are clipped to this norm, each apart."""
    target_kl: float = 0.0
    """Passes over a window end once the policy moved further: `approx_kl` over 1.5 times this. 0: never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(in_unit_interval, "gae_lambda")
        self._require(positive, "clip_ratio", "max_grad_norm")
        self._require(not_negative, "entropy_coef", "vf_coef", "target_kl")
        self._require_counts("n_epochs", "minibatch_size")


class PPO(NetworkAgent[PPOHyperparams]):
    """PPO for discrete actions: a Discrete, a MultiDiscrete, a MultiBinary.

    Actions are counted from 0; pipelines add where those of the action space start. With `choices` they are
    rows `[K]`, which pipelines give the shape of the space. Where an environment tells which are allowed, the
    policy is a distribution over these, in acting and in learning.

    What is learned does not depend on the unit of the rewards. The critic's values are returns in the unit of
    the rewards, unless the first window that pays shows returns far from ordinary ones and there is no
    reward normalizer: then one power of two is chosen as the unit, once, and saved with the weights.

    `reward_normalizer`, `device`, `obs_normalizer`, `compile` and `engine` are as for every
    `NetworkAgent`.

    Args:
        actor: `[B, ...]` observations to `[B, A]` logits; with `choices`, those of each choice side by side,
            `[B, sum(choices)]`.
        critic: `[B, ...]` observations to values, `[B, 1]` or `[B]`.
        optimizer: Of both.
        hyperparams: See `PPOHyperparams`; all are optional.
        choices: `[K]`, among how many actions each of the independent choices is: the `nvec` of a
            MultiDiscrete, in one row; a 2 for each number of a MultiBinary. None: one choice, a Discrete.
    """

    distribution: Distribution = distributions.categorical
    hyperparams_type = PPOHyperparams
    acting = Acting("categorical", "actor", ("_policy_tensor", "_outputs", "distribution"))

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
        device: str = "auto",
        obs_normalizer: ObsNormalizer | None = None,
        compile: bool = False,
        *,
        choices: Sequence[int] | None = None,
        engine: Engine = "auto",
    ) -> None:
        if choices is not None:
            self.distribution = distributions.factorized(choices)
        self._actor, self._critic = actor, critic
        self._reward_unit: float | None = None
        self._still_windows = 0
        super().__init__(
            {"actor": actor, "critic": critic},
            {"optimizer": optimizer},
            hyperparams,
            reward_normalizer=reward_normalizer,
            obs_normalizer=obs_normalizer,
            device=device,
            compile=compile,
            engine=engine,
        )

    @cached_property
    def takes_action_masks(self) -> bool:
        """Whether actions are choices; a subclass that overrides `act` sees what there is."""
        return not (self.has_unit_actions or self._acts_itself)

    def _bind(self) -> None:
        ops, actor, critic = self.ops, self._actor, self._critic
        self._policy = ops.inference(self._policy_tensor, [actor])
        self._values = ops.inference(self._values_tensor, [critic])
        self._log_probs = ops.inference(self._log_probs_tensor, [actor])
        shared = ops.shared(actor, critic)
        self._outputs_and_values = shared or self._two_passes
        self._pairs = ops.inference(self._pairs_tensor, [actor, critic])
        self._log_probs_and_values = self._judged_at_once if shared else self._judged_apart
        self._descent = ops.gradient_descent(
            self._loss, {"actor": actor, "critic": critic}, self._optimizers["optimizer"]
        )
        self._epoch = ops.update_loop(self._update, [actor, critic])
        native = self._native(self._native_ppo)
        if native is not None:
            self._policy = self._by_engine(native.policy, self._policy)
            self._values = self._by_engine(native.values, self._values)
            self._log_probs = self._by_engine(native.log_probs, self._log_probs)
            self._epoch = self._by_engine(native.epoch, self._epoch)

    def _native_ppo(self, parts: NativeParts) -> NativePPO:
        """Return what the native engine does of it.

        Raises:
            NotNative: If that is not possible.
        """
        self._require_own(PPO, MATHS)
        if not distributions.is_known(self.distribution):
            raise NotNative("the distribution is a subclass's own")
        networks = {"actor": self._actor, "critic": self._critic}
        actor, critic = (parts.network(name, network) for name, network in networks.items())
        optimizer = parts.optimizer("optimizer", self._optimizers["optimizer"], networks)
        counts = self.distribution.counts(actor.outputs)
        return NativePPO(parts, actor, critic, optimizer, counts)

    def _update(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self._descent.step(batch, scalars), {}

    def _policy_tensor(self, observations: Tensor) -> Tensor:
        return self.ops.forward(self._actor, observations)

    def _values_tensor(self, observations: Tensor) -> Tensor:
        return self.ops.flatten_values(self.ops.forward(self._critic, observations))

    def _two_passes(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Return what actor and critic, which share nothing, make of observations."""
        return self._policy_tensor(observations), self.ops.forward(self._critic, observations)

    def _among_allowed(self, outputs: Tensor, masks: Tensor | None) -> Tensor:
        return outputs if masks is None else distributions.masked(self.ops, outputs, masks)

    def _log_probs_tensor(
        self, observations: Tensor, actions: Tensor, masks: Tensor | None = None
    ) -> Tensor:
        outputs = self._among_allowed(self._policy_tensor(observations), masks)
        return self.distribution.log_prob(self.ops, outputs, actions)

    def _pairs_tensor(
        self, observations: Tensor, actions: Tensor, masks: Tensor | None = None
    ) -> Tensor:
        """Return the log-probability and the value of each row, `[B, 2]`."""
        outputs, values = self._outputs_and_values(observations)
        outputs = self._among_allowed(outputs, masks)
        log_probs = self.distribution.log_prob(self.ops, outputs, actions)
        return self.ops.pair_last(log_probs, self.ops.flatten_values(values))

    def _judged_at_once(self, observations: Array, *choices: Array) -> tuple[Array, Array]:
        """Return log-probabilities and values, `[B]` each, of actions and the masks they were chosen by."""
        log_probs, values = np.ascontiguousarray(self._pairs(observations, *choices).T)
        return log_probs, values

    def _judged_apart(self, observations: Array, *choices: Array) -> tuple[Array, Array]:
        """Return the same of networks that share nothing."""
        return self._log_probs(observations, *choices), self._values(observations)

    def _loss(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute `L = policy loss + vf_coef * MSE(V, R) - entropy_coef * entropy`, eq. 9 of the paper."""
        ops, distribution = self.ops, self.distribution
        outputs, values = self._outputs_and_values(batch["observations"])
        outputs = self._among_allowed(outputs, batch.get("action_masks"))
        log_ratio = distribution.log_prob(ops, outputs, batch["actions"]) - batch["log_probs"]
        policy_loss = clipped_surrogate(ops, log_ratio, batch["advantages"], scalars["clip_ratio"])
        value_loss = squared_error(ops, ops.flatten_values(values), batch["returns"])
        entropy = ops.mean(distribution.entropy(ops, outputs))
        total = policy_loss + scalars["vf_coef"] * value_loss - scalars["entropy_coef"] * entropy
        return total, {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approx_kl": approximate_kl(ops, log_ratio),
        }

    def seed(self, seed: int) -> None:
        """Make action sampling and minibatches follow from `seed`."""
        sampling, minibatches = np.random.SeedSequence(seed).spawn(2)
        self._rng = np.random.default_rng(sampling)
        self._minibatches = MinibatchSampler(int(minibatches.generate_state(1, np.uint64)[0]))

    def _try_networks(self, observation_space: Any, action_space: Any) -> None:
        self.distribution.require(
            action_space, try_network("actor", self._policy, observation_space)
        )
        _require_values(try_network("critic", self._values, observation_space))

    def _sample(self, observations: Array) -> Array:
        return self.distribution.sample(self._rng, self._outputs(observations))

    def _greedy(self, observations: Array) -> Array:
        return self.distribution.greedy(self._outputs(observations))

    def _probs(self, observations: Array) -> Array | None:
        if self.distribution.probs is None:
            return None
        return self.distribution.probs(self._outputs(observations))

    def _outputs(self, rows: Array) -> Array:
        """Return what the actor makes of rows, for acting."""
        observations, masks = self._seen(rows)
        return distributions.masked_array(self._policy(observations), masks)

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Make `n_epochs` passes of clipped updates over a window.

        Returns:
            `policy_loss`, `value_loss` (in the unit of the rewards, squared), `entropy`, `approx_kl`,
            `grad_norm` (before clipping; all are means over the updates made, NaN if each was left out),
            `explained_var` of the critic before them (0 where all returns are equal), `n_updates`,
            `n_skipped_updates` (their loss or gradient was not finite). With `target_kl` the passes may be
            fewer than `n_epochs`.
        """
        rollout, rows = self._prepare(episode_data)
        if not len(rows):
            logger.warning("the window holds no row that can be learned from; nothing was changed")
            return UpdateTally().take()
        explained = explained_variance(rollout.pop("values")[rows], rollout["returns"][rows])
        self._bytes.see(np.asarray(episode_data.observations), rows)
        # Only now: the log-probabilities are those of the networks that acted.
        self._settle_bytes()
        diagnostics = self._run_epochs(rollout, rows)
        self._learn_observations(np.asarray(episode_data.observations), episode_data.valid)
        if diagnostics["n_skipped_updates"]:
            logger.warning(
                "%d of %d updates had a gradient that is not finite and were left out; look for NaN "
                "in observations and rewards, or lower the learning rate",
                diagnostics["n_skipped_updates"],
                diagnostics["n_skipped_updates"] + diagnostics["n_updates"],
            )
        self._watch(diagnostics)
        return diagnostics | {"explained_var": explained, "explained_variance": explained}

    def _watch(self, diagnostics: Mapping[str, Any]) -> None:
        """Warn, once, of a policy that stays where it is without having made its choice."""
        is_still = abs(diagnostics["approx_kl"]) < STILL_KL
        is_still &= diagnostics["entropy"] > SETTLED_ENTROPY
        if not is_still and self._still_windows < STILL_WINDOWS:
            self._still_windows = 0
            return
        self._still_windows += 1
        if self._still_windows == STILL_WINDOWS:
            logger.warning(
                "the policy has not moved in %d windows (approx_kl %.1g): see whether all rewards are equal; "
                "if not, raise learning_rate, now %g, or pass reward_normalizer=RewardNormalizer() and "
                "obs_normalizer=ObsNormalizer(shape)",
                STILL_WINDOWS,
                diagnostics["approx_kl"],
                self._learning_rate(),
            )

    def _run_epochs(self, rollout: Mapping[str, Array], rows: Array) -> dict[str, Any]:
        hyperparams = self._hyperparams
        names = ("clip_ratio", "vf_coef", "entropy_coef", "max_grad_norm")
        scalars = {name: getattr(hyperparams, name) for name in names}
        size = hyperparams.minibatch_size
        rows_of = self.ops.resident(rollout)
        tally = UpdateTally()
        for _ in range(hyperparams.n_epochs):
            fields = (
                self._minibatches.epoch(rollout, rows)
                if rows_of is None
                else rows_of(self._minibatches.shuffle(rows))
            )
            means, _rows = self._epoch(fields, size, scalars)
            tally.add(means, math.ceil(len(rows) / size))
            if 0.0 < STOP_AT * hyperparams.target_kl < means["approx_kl"]:
                break
        diagnostics = tally.take()
        diagnostics["value_loss"] *= (self._reward_unit or 1.0) ** 2
        return diagnostics

    def _prepare(self, episode: EpisodeData) -> tuple[dict[str, Array], Array]:
        """Compute what the loss needs of every row, and which rows can be learned from."""
        observations, masks = self._seen(episode.observations)
        with_masks = {} if masks is None else {"action_masks": masks}
        actions = self.distribution.recover(np.ascontiguousarray(episode.actions))
        if episode.log_probs is None:
            given = (observations, actions, *with_masks.values())
            log_probs, values = self._log_probs_and_values(*given)
        else:
            log_probs = np.ascontiguousarray(episode.log_probs, np.float32)
            values = self._values(observations)
        advantages, returns, usable = episode_advantages(
            episode,
            self._scaled_rewards(episode),
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
        return rollout | with_masks, rows

    def _scaled_rewards(self, episode: EpisodeData) -> Array:
        """Return the rewards `[R]` in the unit that the critic counts in, chosen as soon as one is paid."""
        rewards = self._rewards(episode)
        if self._reward_unit is None:
            largest = _largest_return(episode, rewards, self._hyperparams.gamma)
            if largest > 0.0:
                is_normalized = self._reward_normalizer is not None
                self._reward_unit = 1.0 if is_normalized else reward_unit(largest)
        return rewards / np.float32(self._reward_unit or 1.0)

    def _end_values(self, episode: EpisodeData) -> Array:
        if episode.end_observations is None or not len(episode.end_observations):
            return np.empty(0, np.float32)
        return self._values(self._seen(episode.end_observations)[0])

    def _last_values(self, episode: EpisodeData) -> Array:
        if episode.final_obs is None:
            return np.zeros(episode.num_envs, np.float32)
        final_obs = np.asarray(episode.final_obs)
        rows = final_obs if episode.num_envs > 1 else final_obs[None]
        return self._values(self._seen(rows)[0])

    def save_weights(self, path: PathLike) -> None:
        """Write the networks, what normalises their observations, and the unit that the critic counts in."""
        super().save_weights(path)
        if self._reward_unit is not None:
            (Path(path).expanduser() / REWARD_UNIT).write_text(json.dumps(self._reward_unit))

    def load_weights(self, path: PathLike) -> None:
        """Read what `save_weights` wrote.

        Raises:
            ValueError: If those networks saw normalised observations and this agent's do not, or the other
                way round; nothing has changed then.
        """
        unit = _stored_unit(path)
        super().load_weights(path)
        self._reward_unit = unit

    def average_weights(self, paths: Sequence[PathLike]) -> bool:
        """Take on the mean of stored networks, and the first one's unit of the rewards.

        Raises:
            ValueError: As `load_weights`.
        """
        is_done = super().average_weights(paths)
        self._reward_unit = _stored_unit(paths[0])
        return is_done

    def run_state(self) -> dict[str, Any]:
        """Return what a checkpoint of the whole run holds beside `save_state`."""
        return super().run_state() | {"still_windows": self._still_windows}

    def load_run_state(self, state: dict[str, Any]) -> None:
        """Take on what `run_state` returned.

        Raises:
            ValueError: If it does not fit; also KeyError and TypeError are understood as that.
        """
        still_windows = int(state["still_windows"])
        super().load_run_state(state)
        self._still_windows = still_windows

    def _progress(self) -> dict[str, Any]:
        return super()._progress() | {"minibatches": int(self._minibatches.state[0])}

    def _resume(self, progress: Mapping[str, Any]) -> None:
        super()._resume(progress)
        self._minibatches.state[0] = progress["minibatches"]


class GaussianPPO(PPO):
    """PPO for continuous actions: a Gaussian squashed by tanh.

    Actions are in (-1, 1); pipelines stretch them to the bounds of the action space. The arguments are those
    of `PPO`, but:

    Args:
        actor: `[B, ...]` observations to `[B, 2A]`, mean and log_std side by side. log_std is clamped to
            [-5, 2].
        action_dim: A, the number of components of an action.
    """

    distribution = distributions.squashed_gaussian
    acting = Acting("squashed_gaussian", "actor", ("_policy_tensor", "_outputs", "distribution"))
    has_unit_actions = True

    def __init__(
        self,
        actor: Network,
        critic: Network,
        optimizer: Optimizer,
        action_dim: int,
        hyperparams: HyperparamSet | None = None,
        reward_normalizer: RewardNormalizer | None = None,
        device: str = "auto",
        obs_normalizer: ObsNormalizer | None = None,
        compile: bool = False,
        *,
        engine: Engine = "auto",
    ) -> None:
        self._action_dim = whole_number("action_dim", action_dim)
        shared = (hyperparams, reward_normalizer, device, obs_normalizer, compile)
        super().__init__(actor, critic, optimizer, *shared, engine=engine)

    def _try_networks(self, observation_space: Any, action_space: Any) -> None:
        distributions.require_action_dim(self._action_dim, action_space)
        super()._try_networks(observation_space, action_space)

    def _sample(self, observations: Array) -> Array:
        return self._finite_actions(super()._sample(observations))

    def _greedy(self, observations: Array) -> Array:
        return self._finite_actions(super()._greedy(observations))


def clipped_surrogate(
    ops: Backend, log_ratio: Tensor, advantages: Tensor, clip_ratio: Tensor
) -> Tensor:
    """Compute the PPO policy loss, Schulman et al. 2017, eq. 7, as a scalar to minimise.

    `-mean(min(r * A, clip(r, 1 - clip_ratio, 1 + clip_ratio) * A))` with `r = exp(log_ratio)`.
    """
    ratio = ops.exp(log_ratio)
    clipped = ops.clip(ratio, 1.0 - clip_ratio, 1.0 + clip_ratio)
    return -ops.mean(ops.minimum(ratio * advantages, clipped * advantages))


def squared_error(ops: Backend, values: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean squared error of a critic."""
    return ops.mean(ops.square(values - targets))


def approximate_kl(ops: Backend, log_ratio: Tensor) -> Tensor:
    """Estimate KL(old, new) from samples of the old policy: `mean((r - 1) - log r)`.

    The low-variance unbiased estimator k3 of Schulman, "Approximating KL divergence" (2020).
    """
    return ops.mean((ops.exp(log_ratio) - 1.0) - log_ratio)


def reward_unit(largest: float) -> float:
    """Return the unit to learn returns in of which the largest, at first, has this size.

    It is 1 for ordinary ones, else the power of two that brings them near `USUAL_RETURN`.
    """
    low, high = ORDINARY_RETURNS
    if low <= largest <= high:
        return 1.0
    return float(2.0 ** round(math.log2(largest / USUAL_RETURN)))


def _largest_return(episode: EpisodeData, rewards: Array, gamma: float) -> float:
    """Return the largest size of a discounted sum of the rewards that a window shows; 0 for none."""
    zeros = np.zeros(episode.length, np.float32)
    ends = np.zeros(0 if episode.end_rows is None else len(episode.end_rows), np.float32)
    after = np.zeros(episode.num_envs, np.float32)
    _, returns, usable = episode_advantages(episode, rewards, zeros, ends, after, (gamma, 1.0))
    known = returns[usable & np.isfinite(returns)]
    return float(np.abs(known).max(initial=0.0))


def _stored_unit(path: PathLike) -> float | None:
    """Return the unit that stored weights count rewards in; None if it was still to be chosen."""
    stored = Path(path).expanduser() / REWARD_UNIT
    if not stored.exists():
        return None
    with reading(REWARD_UNIT):
        unit = float(read_json(stored, MOST_SMALL_JSON))
        if not 0.0 < unit < math.inf:
            raise ValueError(f"the unit of rewards must be above 0 and finite, got {unit}")
        return unit


def _require_values(values: Array) -> None:
    """Refuse a critic's flattened output if it is not one value per observation.

    Raises:
        ValueError: If it is not.
    """
    if values.shape != (PROBE_ROWS,):
        raise ValueError(
            f"the critic must return one value per observation, [B, 1] or [B], got {values.size} "
            f"values for {PROBE_ROWS} observations"
        )
