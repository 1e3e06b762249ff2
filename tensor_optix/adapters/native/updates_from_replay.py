"""Updates of batches of a replay by the native engine: DQN, SAC and TD3.

Networks and optimizers come in; update loops, as `adapters.backend.UpdateLoop` has them, go out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tensor_optix.adapters.native.updates import NativeParts, as_choices, means_of
from tensor_optix.adapters.native.views import NotNative
from tensor_optix.kernels import engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tensor_optix.adapters.native.views import BoundOptimizer, BoundPerceptron
    from tensor_optix.core.types import Array

DQN_DIAGNOSTICS = ("loss", "td_error_mean", "grad_norm")
SAC_DIAGNOSTICS = ("actor_loss", "critic_loss", "grad_norm", "alpha", "entropy")
TD3_DIAGNOSTICS = SAC_DIAGNOSTICS[:3]


class NativeDQN:
    """DQN's updates between two copies into the target network, and the values that acting needs.

    Args:
        parts: Of the agent.
        q_network, target: The networks.
        optimizer: Of the network.
    """

    def __init__(
        self,
        parts: NativeParts,
        q_network: BoundPerceptron,
        target: BoundPerceptron,
        optimizer: BoundOptimizer,
    ) -> None:
        self._q_network, self._target, self._optimizer = q_network, target, optimizer
        self._workspace = parts.workspace
        self.values = parts.inference(q_network)

    def loop(
        self, fields: Mapping[str, Array], minibatch_size: int, scalars: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        """Make updates with consecutive batches: an `UpdateLoop`."""
        td_errors = np.empty(len(fields["rewards"]), np.float32)
        actions = as_choices(fields["actions"])
        *sums, updates, skipped = engine.dqn(
            self._q_network.engine(),
            self._target.engine(),
            self._optimizer.engine(),
            self._workspace,
            _rows(self._q_network, fields, actions, (None, None), td_errors),
            minibatch_size,
            scalars["max_grad_norm"],
        )
        return means_of(DQN_DIAGNOSTICS, sums, updates, skipped), {"td_errors": td_errors}


class TwinParts(NamedTuple):
    """An actor, two critics, their slow copies, and the optimizers of the actor and of both critics."""

    actor: BoundPerceptron
    critic1: BoundPerceptron
    critic2: BoundPerceptron
    target1: BoundPerceptron
    target2: BoundPerceptron
    actor_optimizer: BoundOptimizer
    critic_optimizer: BoundOptimizer

    def require(self, outputs: int) -> None:
        """Check that the networks belong together, the actor with so many numbers for each of an action.

        Raises:
            NotNative: If they do not.
        """
        size = self.critic1.inputs - self.actor.inputs
        if self.critic2.inputs != self.critic1.inputs or self.actor.outputs != outputs * size:
            raise NotNative("actor and critics are not of one size of observations and actions")
        if self.critic1.outputs != 1 or self.critic2.outputs != 1:
            raise NotNative("a critic returns more than one number a row")
        for name, critic in (("critic1", self.critic1), ("critic2", self.critic2)):
            self.actor.require_same_sight(name, critic)

    def networks(self) -> tuple[object, ...]:
        """Return the networks as the engine takes them."""
        return tuple(network.engine() for network in self[:5])


class NativeSAC:
    """SAC's updates, and what acting needs.

    Args:
        parts: Of the agent.
        twins: Its networks and their optimizers.
        alpha_optimizer: Of log alpha.
    """

    def __init__(
        self, parts: NativeParts, twins: TwinParts, alpha_optimizer: BoundOptimizer
    ) -> None:
        twins.require(outputs=2)
        self._twins, self._alpha_optimizer = twins, alpha_optimizer
        self._workspace = parts.workspace
        self.policy = parts.inference(twins.actor)

    def loop(
        self, fields: Mapping[str, Array], minibatch_size: int, scalars: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        """Make updates with consecutive batches: an `UpdateLoop`."""
        twins, of_alpha = self._twins, self._alpha_optimizer
        td_errors = np.empty(len(fields["rewards"]), np.float32)
        noises = (fields["noise"], fields["next_noise"])
        optimizers = (twins.actor_optimizer, twins.critic_optimizer, of_alpha)
        steps = tuple(one.engine() for one in optimizers)
        *sums, updates, skipped, _, _ = engine.sac(
            twins.networks(),
            steps,
            of_alpha.leaves[0].values.reshape(1),
            self._workspace,
            _rows(twins.actor, fields, fields["actions"], noises, td_errors),
            minibatch_size,
            scalars["tau"],
        )
        return means_of(SAC_DIAGNOSTICS, sums, updates, skipped), {"td_errors": td_errors}


class NativeTD3:
    """TD3's updates with and without the actor's, and what acting needs.

    Args:
        parts: Of the agent.
        twins: Its networks and their optimizers.
        target_actor: The actor's slow copy.
    """

    def __init__(self, parts: NativeParts, twins: TwinParts, target_actor: BoundPerceptron) -> None:
        twins.require(outputs=1)
        self._twins, self._target_actor = twins, target_actor
        self._workspace = parts.workspace
        self.policy = parts.inference(twins.actor)

    def loop(
        self, fields: Mapping[str, Array], minibatch_size: int, scalars: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        """Make updates of everything with consecutive batches: an `UpdateLoop`."""
        return self._made(fields, minibatch_size, scalars["tau"], until_actor=1)

    def critic_loop(
        self, fields: Mapping[str, Array], minibatch_size: int, scalars: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        """Make updates of the critics alone with consecutive batches: an `UpdateLoop`."""
        never = len(fields["rewards"]) + 1
        means, rows = self._made(fields, minibatch_size, scalars["tau"], until_actor=never)
        del means["actor_loss"]
        return means, rows

    def _made(
        self, fields: Mapping[str, Array], minibatch_size: int, tau: float, until_actor: int
    ) -> tuple[dict[str, float], dict[str, Array]]:
        twins = self._twins
        td_errors = np.empty(len(fields["rewards"]), np.float32)
        noises = (None, fields["target_noise"])
        *sums, _alpha, _entropy, updates, skipped, _, _ = engine.td3(
            twins.networks(),
            (twins.actor_optimizer.engine(), twins.critic_optimizer.engine()),
            self._target_actor.engine(),
            self._workspace,
            _rows(twins.actor, fields, fields["actions"], noises, td_errors),
            minibatch_size,
            (tau, until_actor, 1),
        )
        return means_of(TD3_DIAGNOSTICS, sums, updates, skipped), {"td_errors": td_errors}


def _rows(
    network: BoundPerceptron,
    fields: Mapping[str, Array],
    actions: Array,
    noises: tuple[Array | None, Array | None],
    td_errors: Array,
) -> tuple[Array | None, ...]:
    """Return the fields of batches in the engine's order."""
    return (
        network.rows(fields["observations"]),
        actions,
        fields["rewards"],
        network.rows(fields["next_observations"]),
        fields["discounts"],
        fields["weights"],
        fields.get("next_masks"),
        *noises,
        td_errors,
    )
