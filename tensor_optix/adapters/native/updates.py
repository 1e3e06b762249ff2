"""Whole updates by the native engine: networks and optimizers come in, update loops and passes go out.

What these return is what the frameworks' own loops return: see `adapters.backend.UpdateLoop`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tensor_optix.adapters.native.views import BoundOptimizer, BoundPerceptron, NotNative
from tensor_optix.kernels import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tensor_optix.adapters.backend import Backend, Network, Optimizer
    from tensor_optix.core.types import Array


def native_instructions() -> str:
    """Return the instruction set that the engine was chosen for."""
    name: str = engine.instructions()
    return name


class NativeParts:
    """The networks and optimizers of one agent as the engine takes them, and its workspace.

    Args:
        ops: The functions of the framework that they are of.

    Raises:
        NotNative: If the engine cannot be used on this machine.
    """

    def __init__(self, ops: Backend) -> None:
        if not engine.has_engine:
            raise NotNative("the compiled kernels are not there")
        self._ops = ops
        self._owners: dict[int, str] = {}
        self.workspace = engine.Workspace()

    def network(self, name: str, network: Network) -> BoundPerceptron:
        """Return a network as the engine takes it.

        Raises:
            NotNative: If it does not know such a network, or weights are in it twice, or in another one, too.
        """
        source = self._ops.perceptron_source(name, network)
        places = source.places()
        if len(set(places)) < len(places):
            raise NotNative(f"the {name} has the same weights in several layers")
        for place in places:
            owner = self._owners.setdefault(place, name)
            if owner != name:
                raise NotNative(f"the {owner} and the {name} share weights")
        return BoundPerceptron(source)

    def optimizer(
        self, name: str, optimizer: Optimizer, networks: Mapping[str, Network]
    ) -> BoundOptimizer:
        """Return an optimizer of these networks as the engine takes it.

        Raises:
            NotNative: If it does not know such an optimizer.
        """
        return BoundOptimizer(self._ops.optimizer_source(name, optimizer, networks))

    def inference(self, network: BoundPerceptron) -> Callable[[Array], Array]:
        """Return a function of observations `[B, ...]` to what the network makes of them, `[B, outputs]`."""
        outputs, workspace = network.outputs, self.workspace

        def run(observations: Array) -> Array:
            rows = network.rows(observations)
            made = np.empty((len(rows), outputs), np.float32)
            engine.forward(network.engine(), rows, made, workspace)
            return made

        return run

    def values(self, name: str, network: BoundPerceptron) -> Callable[[Array], Array]:
        """Return the same for a network of one number a row, to `[B]`.

        Raises:
            NotNative: If it returns more.
        """
        if network.outputs != 1:
            raise NotNative(f"the {name} returns {network.outputs} numbers a row")
        run = self.inference(network)
        return lambda observations: run(observations)[:, 0]


def means_of(
    names: Sequence[str], sums: Sequence[float], updates: int, skipped: int
) -> dict[str, float]:
    """Return means over the updates that were made, NaN where none was, and the share of those left out."""
    made = updates - skipped
    means = {n: total / made if made else math.nan for n, total in zip(names, sums, strict=True)}
    return means | {"skipped": skipped / updates}


PPO_DIAGNOSTICS = ("policy_loss", "value_loss", "entropy", "approx_kl", "grad_norm")


class NativePPO:
    """PPO's passes, and what acting needs.

    Args:
        parts: Of the agent.
        actor, critic: The networks.
        optimizer: Of both.
        counts: Among how many actions each choice is; none where actions are continuous.
    """

    def __init__(
        self,
        parts: NativeParts,
        actor: BoundPerceptron,
        critic: BoundPerceptron,
        optimizer: BoundOptimizer,
        counts: tuple[int, ...],
    ) -> None:
        self._actor, self._critic, self._optimizer = actor, critic, optimizer
        actor.require_same_sight("critic", critic)
        self._workspace = parts.workspace
        self._counts = counts
        self.policy = parts.inference(actor)
        self.values = parts.values("critic", critic)
        if not counts and actor.outputs % 2:
            raise NotNative(f"the actor returns {actor.outputs} numbers a row")
        if counts and sum(counts) != actor.outputs:
            raise NotNative(
                f"the actor returns {actor.outputs} numbers a row for {sum(counts)} actions"
            )

    def log_probs(self, observations: Array, actions: Array, masks: Array | None = None) -> Array:
        """Return the log-probabilities `[B]` of actions, as `Distribution.recover` returns them."""
        found = np.empty(len(observations), np.float32)
        engine.log_probs(
            self._actor.engine(),
            self._workspace,
            self._counts,
            self._actor.rows(observations),
            self._actions(actions),
            None if masks is None else np.ascontiguousarray(masks),
            found,
        )
        return found

    def epoch(
        self, fields: Mapping[str, Array], minibatch_size: int, scalars: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        """Make updates with consecutive minibatches: an `UpdateLoop`."""
        batch = (
            self._actor.rows(fields["observations"]),
            self._actions(fields["actions"]),
            fields.get("action_masks"),
            fields["log_probs"],
            fields["advantages"],
            fields["returns"],
        )
        numbers = ("clip_ratio", "vf_coef", "entropy_coef", "max_grad_norm")
        settings = (minibatch_size, *(scalars[name] for name in numbers))
        *sums, updates, skipped = engine.ppo(
            self._actor.engine(),
            self._critic.engine(),
            self._optimizer.engine(),
            self._workspace,
            batch,
            self._counts,
            settings,
        )
        return means_of(PPO_DIAGNOSTICS, sums, updates, skipped), {}

    def _actions(self, actions: Array) -> Array:
        if self._counts:
            return as_choices(actions)
        return np.ascontiguousarray(actions, np.float32).reshape(len(actions), -1)


class NativePolicyGradient:
    """The update of the plain policy gradient, and what acting needs.

    Args:
        parts: Of the agent.
        model: The network.
        optimizer: Of its weights.
    """

    def __init__(
        self, parts: NativeParts, model: BoundPerceptron, optimizer: BoundOptimizer
    ) -> None:
        self._model, self._optimizer = model, optimizer
        self._workspace = parts.workspace
        self.policy = parts.inference(model)

    def step(
        self, fields: Mapping[str, Array], minibatch_size: int, scalars: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        """Make one update with all rows: an `UpdateLoop` of one minibatch."""
        *sums, updates, skipped = engine.policy_gradient(
            self._model.engine(),
            self._optimizer.engine(),
            self._workspace,
            self._model.rows(fields["observations"]),
            as_choices(fields["actions"]),
            fields["targets"],
        )
        return means_of(("loss", "grad_norm"), sums, updates, skipped), {}


def as_choices(actions: Array) -> Array:
    """Return the numbers of actions as the engine takes them, int64 `[B, K]`."""
    return np.ascontiguousarray(actions, np.int64).reshape(len(actions), -1)
