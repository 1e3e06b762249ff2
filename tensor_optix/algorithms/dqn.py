"""Deep Q-learning (Mnih et al. 2015), once for every framework; n-step returns and priorities as options."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from gymnasium.spaces import Discrete

from tensor_optix.adapters.backend import UpdateTally
from tensor_optix.adapters.native.updates_from_replay import NativeDQN
from tensor_optix.algorithms.acting import Acting, epsilon_greedy
from tensor_optix.algorithms.distributions import masked, masked_array
from tensor_optix.algorithms.exploration_noise import HeldActions
from tensor_optix.algorithms.network_agent import LEAST_REMAINING, try_network
from tensor_optix.algorithms.off_policy import OffPolicyAgent, ReplayHyperparams, weighted_squares
from tensor_optix.core.argument_checks import in_unit_interval, not_negative, positive, whole_number
from tensor_optix.core.discrete_spaces import has_many_choices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.adapters.backend import Network, Optimizer, Tensor
    from tensor_optix.adapters.native.updates import NativeParts
    from tensor_optix.algorithms.network_agent import Engine
    from tensor_optix.core.normalizers import ObsNormalizer, RewardNormalizer
    from tensor_optix.core.types import Array, EpisodeData, HyperparamSet

EXPLORED = 1.05
"""Exploration counts as over once epsilon is below this multiple of where it ends."""
NEGLIGIBLE_EPSILON = 1e-3
"""And below this one: a factor never brings epsilon down to 0."""
SMALLEST_LEAD = 1e-6
"""Of the greedy action's probability."""
MATHS = ("_bind", "_update_tensors", "_loss", "_values_tensor", "_td_targets_tensor")
"""The methods whose maths the native engine knows by itself."""


@dataclass(frozen=True)
class DQNHyperparams(ReplayHyperparams):
    """The hyperparameters of DQN (Mnih et al. 2015).

    Examples:
        >>> from tensor_optix import DQNHyperparams, make_agent
        >>> given = DQNHyperparams(n_step=3)
        >>> agent = make_agent("CartPole-v1", "dqn", "native", hyperparams=given)
        >>> agent.get_hyperparams().params["n_step"]
        3
    """

    epsilon: float = 1.0
    """Probability of a random action, as it is now. Where it follows a schedule, nothing else lowers it."""
    epsilon_min: float = 0.05
    """Where it ends."""
    epsilon_decay: float = 0.995
    """Factor per `learn` call."""
    epsilon_decay_steps: int = 0
    """Environment steps in which epsilon falls from 1 to epsilon_min in a line; 0: epsilon_decay is used."""
    target_update_freq: int = 100
    """Updates between two copies into the target network."""
    updates_per_step: float = 0.5
    max_grad_norm: float = 10.0
    """The gradient is clipped to this norm."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(in_unit_interval, "epsilon", "epsilon_min", "epsilon_decay")
        self._require(not_negative, "epsilon_decay_steps")
        self._require_counts("target_update_freq")
        self._require(positive, "max_grad_norm")


class DQN(OffPolicyAgent[DQNHyperparams]):
    """DQN: discrete actions, learned while they are taken.

    Where an environment tells which actions are allowed, no other is taken, and targets are over these.

    They are counted from 0; pipelines add what the action space starts at.

    `device`, `reward_normalizer`, `obs_normalizer`, `compile` and `engine` are as for every
    `NetworkAgent`.

    Args:
        q_network: `[B, ...]` observations to `[B, A]` values, one per action.
        n_actions: A.
        optimizer: Of the network's weights.
        hyperparams: See `DQNHyperparams`; all are optional.
    """

    hyperparams_type = DQNHyperparams
    acting = Acting("values", "q_network", ("_values_tensor",), exploration="epsilon")
    action_dtype = np.int64
    noise_type = HeldActions

    default_param_bounds: ClassVar[Mapping[str, tuple[float, float]]] = {
        "learning_rate": (1e-4, 3e-3),
        "gamma": (0.9, 0.9999),
    }
    default_log_params: ClassVar[Sequence[str]] = ("learning_rate",)
    default_min_episodes_before_dormant: ClassVar[int] = 60

    def __init__(
        self,
        q_network: Network,
        n_actions: int,
        optimizer: Optimizer,
        hyperparams: HyperparamSet | None = None,
        device: str = "auto",
        reward_normalizer: RewardNormalizer | None = None,
        obs_normalizer: ObsNormalizer | None = None,
        compile: bool = False,
        *,
        engine: Engine = "auto",
    ) -> None:
        self._n_actions = whole_number("n_actions", n_actions)
        self._q_network = q_network
        self._updates = 0
        self._target_updated = False
        super().__init__(
            {"q_network": q_network},
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
        """True; but a subclass that overrides `act` sees what there is."""
        return not self._acts_itself

    def _bind(self) -> None:
        super()._bind()
        ops, q_network = self.ops, self._q_network
        self._target = ops.clone(q_network)
        self._targets["target"] = (self._target, q_network)
        self._values = ops.inference(self._values_tensor, [q_network])
        self._descent = ops.gradient_descent(
            self._loss, {"q_network": q_network}, self._optimizers["optimizer"]
        )
        self._td_targets = ops.without_gradient(self._td_targets_tensor)
        self._loop = ops.update_loop(self._update_tensors, [q_network])
        self._updated = self._updated_in_parts
        native = self._native(self._native_dqn)
        if native is not None:
            self._values = self._by_engine(native.values, self._values)
            self._updated = self._by_engine(partial(self._updated_by, native), self._updated)

    def _native_dqn(self, parts: NativeParts) -> NativeDQN:
        """Return what the native engine does of it.

        Raises:
            NotNative: If that is not possible.
        """
        self._require_own(DQN, MATHS)
        networks = {"q_network": self._q_network}
        q_network = parts.network("q_network", self._q_network)
        target = parts.network("target", self._target)
        optimizer = parts.optimizer("optimizer", self._optimizers["optimizer"], networks)
        return NativeDQN(parts, q_network, target, optimizer)

    @property
    def is_exploring(self) -> bool:
        """Whether epsilon is still on its way down."""
        params = self._hyperparams
        is_falling = params.epsilon_decay_steps > 0 or params.epsilon_decay < 1.0
        end = params.epsilon_min
        if "epsilon" in self._schedules:
            is_falling, end = True, float(self._schedules["epsilon"](LEAST_REMAINING))
        return is_falling and params.epsilon > max(EXPLORED * end, NEGLIGIBLE_EPSILON)

    def _try_networks(self, observation_space: Any, action_space: Any) -> None:
        size = self._n_actions
        if not isinstance(action_space, Discrete) or action_space.n != size:
            remedy = "; PPO agents act in it" if has_many_choices(action_space) else ""
            raise ValueError(
                f"this agent, made with n_actions={size}, needs the action space Discrete({size}), got "
                f"{action_space}{remedy}"
            )
        values = try_network("q_network", self._values, observation_space)
        if values.shape != (len(values), size):
            raise ValueError(
                f"the q_network must return one value per action, [B, {size}], got "
                f"{list(values.shape)} for B = {len(values)}"
            )

    def _sample(self, observations: Array) -> Array:
        # A subclass may change what is best; where that goes by `act`, it would lead back to here.
        greedy = self._greedy if "act_greedy" in self._older_than_act else self.act_greedy
        actions = greedy(observations)
        _, masks = self._split(observations)
        epsilon, held = self._hyperparams.epsilon, self._lasting_noise(HeldActions)
        if held is not None:
            return held.choose(actions, epsilon, self._n_actions, masks)
        return epsilon_greedy(self._rng, actions, epsilon, self._n_actions, masks)

    def _greedy(self, observations: Array) -> Array:
        seen, masks = self._seen(observations)
        best: Array = masked_array(self._values(seen), masks).argmax(axis=-1)
        return best

    def _probs(self, observations: Array) -> Array:
        """Return the probabilities `[N, A]` float64 with which epsilon-greedy actions are chosen.

        At an epsilon of 1 the greedy action stays ahead by a trifle, so that an argmax finds it.
        """
        epsilon = min(self._hyperparams.epsilon, 1.0 - SMALLEST_LEAD)
        _, masks = self._split(observations)
        allowed = np.ones((len(observations), self._n_actions)) if masks is None else masks
        probs: Array = epsilon * allowed / allowed.sum(axis=1, keepdims=True)
        probs[np.arange(len(probs)), self.act_greedy(observations)] += 1.0 - epsilon
        return probs

    def learn(self, episode_data: EpisodeData) -> dict[str, Any]:
        """Return what came of the updates made while the window was collected; decay epsilon.

        Returns:
            `loss` and `td_error_mean` (of absolute errors) over the updates, `epsilon`, `buffer_size`,
            `target_updated` (1 if the target network was), `episode_reward` (mean of the finished
            episodes, else the window's sum), `n_updates`, `n_skipped_updates`.
        """
        diagnostics = {"loss": 0.0, "td_error_mean": 0.0} | super().learn(episode_data)
        params = self._hyperparams
        if not params.epsilon_decay_steps:
            self._set_epsilon(params.epsilon * params.epsilon_decay)
        diagnostics |= {
            "epsilon": self._hyperparams.epsilon,
            "target_updated": int(self._target_updated),
            "episode_reward": _episode_reward(episode_data),
        }
        self._target_updated = False
        return diagnostics

    def _explored(self, steps: int) -> None:
        params = self._hyperparams
        if params.epsilon_decay_steps and params.epsilon > params.epsilon_min:
            slope = (1.0 - params.epsilon_min) / params.epsilon_decay_steps
            self._set_epsilon(params.epsilon - steps * slope)

    def _set_epsilon(self, epsilon: float) -> None:
        if "epsilon" in self._schedules:
            return
        params = self._hyperparams
        # What the user set below the floor stays there.
        floor = min(params.epsilon_min, params.epsilon)
        self._hyperparams = replace(params, epsilon=max(epsilon, floor))

    def _make_updates(
        self, fields: dict[str, Array], batches: int
    ) -> tuple[dict[str, float], Array]:
        freq = self._hyperparams.target_update_freq
        until_copy = freq - self._updates % freq
        means, td_errors = self._updated(fields, batches, until_copy)
        self._updates += batches
        self._target_updated |= batches >= until_copy
        return means, td_errors

    def _updated_by(
        self, native: NativeDQN, fields: dict[str, Array], batches: int, until_copy: int
    ) -> tuple[dict[str, float], Array]:
        params = self._hyperparams
        settings = (params.max_grad_norm, until_copy, params.target_update_freq)
        return native.updates(fields, params.batch_size, settings)

    def _updated_in_parts(
        self, fields: dict[str, Array], batches: int, until_copy: int
    ) -> tuple[dict[str, float], Array]:
        """Make updates up to each copy into the target network; what goes out is that of `_make_updates`."""
        params = self._hyperparams
        scalars = {"max_grad_norm": params.max_grad_norm}
        tally, td_errors = UpdateTally(), []
        begun = 0
        while begun < batches:
            count = min(batches - begun, until_copy)
            rows = slice(begun * params.batch_size, (begun + count) * params.batch_size)
            part = {name: field[rows] for name, field in fields.items()}
            means, outputs = self._loop(part, params.batch_size, scalars)
            tally.add(means, count)
            td_errors.append(outputs["td_errors"])
            begun += count
            if count == until_copy:
                self.ops.blend(self._target, self._q_network, 1.0)
                until_copy = params.target_update_freq
        return tally.means(), np.concatenate(td_errors)

    def _update_tensors(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        targets = self._td_targets(batch)
        diagnostics = self._descent.step({**batch, "targets": targets}, scalars)
        # Not finite where the update was left out: its rows keep their priorities.
        td_errors = diagnostics.pop("td_errors") / (1.0 - diagnostics["skipped"])
        return diagnostics, {"td_errors": td_errors}

    def _values_tensor(self, observations: Tensor) -> Tensor:
        return self.ops.forward(self._q_network, observations)

    def _td_targets_tensor(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Compute `r + gamma^n * max_a Q_target(s', a)`, algorithm 1 of the paper, over allowed actions."""
        values = self.ops.forward(self._target, batch["next_observations"])
        if "next_masks" in batch:
            values = masked(self.ops, values, batch["next_masks"])
        return batch["rewards"] + batch["discounts"] * self.ops.max_last(values)

    def _loss(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        values = self._values_tensor(batch["observations"])
        chosen = self.ops.take_along(values, batch["actions"])
        td_errors = batch["targets"] - chosen
        loss = weighted_squares(self.ops, td_errors, batch["weights"])
        mean = self.ops.mean(self.ops.absolute(td_errors))
        return loss, {"loss": loss, "td_error_mean": mean, "td_errors": td_errors}

    def _progress(self) -> dict[str, Any]:
        return super()._progress() | {
            "updates": self._updates,
            "epsilon": self._hyperparams.epsilon,
        }

    def _resume(self, progress: Mapping[str, Any]) -> None:
        super()._resume(progress)
        self._updates = progress["updates"]
        self._hyperparams = replace(self._hyperparams, epsilon=progress["epsilon"])


def _episode_reward(episode: EpisodeData) -> float:
    finished = episode.finished_returns
    return (
        episode.total_reward if finished is None or not len(finished) else float(np.mean(finished))
    )
