"""Gradient descent on TensorFlow: gradients, clipping, and the learning rates of Keras's optimizers."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakMethod

import numpy as np

from tensor_optix.adapters.backend import given_instead
from tensor_optix.adapters.tensorflow.network import beside, require_keras, trainable_variables
from tensor_optix.adapters.tensorflow.requirements import keras, tf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tensor_optix.adapters.backend import LossFn


class TFGradientDescent:
    """Minimises one loss over named networks with the user's optimizer.

    Args:
        loss_fn: `(minibatch, scalars) -> (loss, diagnostics)`.
        networks: By the names that errors call them. Those without variables get them at their first
            call; the optimizer is bound then.
        optimizer: A fresh one, or one that holds exactly their trainable variables.

    Raises:
        TypeError: If the optimizer or a network is none of Keras 3.
        ValueError: If the optimizer was built for other variables.
    """

    def __init__(self, loss_fn: LossFn, networks: Mapping[str, Any], optimizer: Any) -> None:
        for name, network in networks.items():
            require_keras(name, network)
        require_optimizer(optimizer, " and ".join(networks))
        make_scalable(optimizer)
        self._loss_fn = loss_fn
        self._networks = dict(networks)
        self._optimizer = optimizer
        self._variables: list[Any] = []
        self._groups: list[list[int]] = []
        # Weakly, because this object holds the optimizer.
        _waiting[optimizer] = WeakMethod(self._bind_if_built)
        self._bind_if_built()

    def step(self, batch: Mapping[str, Any], scalars: Mapping[str, Any]) -> dict[str, Any]:
        """Make one update; diagnostics, `grad_norm` and `skipped` go out."""
        if not self._variables:
            self._bind()
        values = [variable.value for variable in self._variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            loss, diagnostics = self._loss_fn(batch, scalars)
        self._require_complete()
        gradients = _dense(tape.gradient(loss, values), values)
        squares = [tf.cast(tf.reduce_sum(tf.square(g)), tf.float32) for g in gradients]
        sums = [tf.add_n([squares[index] for index in group]) for group in self._groups]
        norm = tf.sqrt(tf.add_n(sums))
        if "max_grad_norm" in scalars:
            for group, total in zip(self._groups, sums, strict=True):
                scale = _scale(tf.sqrt(total), scalars["max_grad_norm"])
                for index in group:
                    gradients[index] *= tf.cast(scale, gradients[index].dtype)
        is_finite = tf.math.is_finite(norm) & tf.reduce_all(tf.math.is_finite(loss))
        # One branch leaves all variables alone, moments and step count too.
        skipped = tf.cond(is_finite, lambda: self._apply(gradients), lambda: tf.constant(1.0))
        outputs = {name: tf.stop_gradient(value) for name, value in diagnostics.items()}
        return outputs | {"grad_norm": norm, "skipped": skipped}

    def _apply(self, gradients: Sequence[Any]) -> Any:
        self._optimizer.apply(gradients, self._variables)
        return tf.constant(0.0)

    def _require_complete(self) -> None:
        if len(trainable_variables(self._networks)) != len(self._variables):
            raise ValueError(
                f"{' and '.join(self._networks)} must have all variables, or none, when the agent is made; "
                f"got {len(self._variables)} trainable ones, and another number after a call: call networks "
                "of your own once on observations before"
            )

    def _bind_if_built(self) -> None:
        if not self._variables and all(network.built for network in self._networks.values()):
            self._bind()

    def _bind(self) -> None:
        variables = trainable_variables(self._networks)
        if self._optimizer.built:
            _require_same_variables(self._networks, variables, self._optimizer)
        with tf.init_scope(), beside(list(self._networks.values())):
            self._optimizer.build(variables)
        self._variables = variables
        self._groups = _groups(self._networks, variables)


def _groups(networks: Mapping[str, Any], variables: Sequence[Any]) -> list[list[int]]:
    """Return the numbers of the variables by network, and those of several networks apart."""
    held = {
        name: {id(v) for v in network.trainable_variables} for name, network in networks.items()
    }
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, variable in enumerate(variables):
        owners = tuple(name for name, ids in held.items() if id(variable) in ids)
        groups.setdefault(owners, []).append(index)
    return list(groups.values())


def _scale(norm: Any, most: Any) -> Any:
    """Return what brings a norm down to the largest that is allowed."""
    return tf.where(norm > most, most / norm, 1.0)


def _dense(gradients: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Return all gradients as tensors: zeros for those of what the loss does not run through."""
    if all(gradient is None for gradient in gradients):
        raise ValueError("the loss must depend on the networks, but none of their weights is in it")
    return [
        # Dense, because the norm of a lookup's sparse gradient would count its rows one by one.
        tf.zeros_like(value) if gradient is None else tf.convert_to_tensor(gradient)
        for gradient, value in zip(gradients, values, strict=True)
    ]


_waiting: WeakKeyDictionary[Any, WeakMethod[Callable[[], None]]] = WeakKeyDictionary()
"""What binds an optimizer to its networks, once these have variables."""


def bind(optimizer: Any) -> None:
    """Make the state of an optimizer whose networks have got their variables since."""
    method = _waiting[optimizer]() if optimizer in _waiting else None
    if method is not None:
        method()


def require_optimizer(optimizer: object, of: str) -> None:
    """Raise TypeError for what is no optimizer; `of` names what it is to minimise over."""
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise TypeError(
            f"the optimizer of {of} must be one of Keras 3, for example keras.optimizers.Adam(3e-4), "
            f"got {given_instead(optimizer)}"
        )
    is_scaling = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if is_scaling or optimizer.loss_scale_factor is not None:
        raise ValueError(
            f"the optimizer of {of} must not scale the loss, which would come in the way of max_grad_norm: "
            "pass the inner optimizer, without loss_scale_factor"
        )


def _require_same_variables(
    networks: Mapping[str, Any], variables: Sequence[Any], optimizer: Any
) -> None:
    """Refuse an optimizer that was built for other variables."""

    def attempt() -> None:
        zeros = [tf.zeros_like(variable.value) for variable in variables]
        # The one takes only variables that it knows, the other as many as there are.
        optimizer.apply(zeros, variables)
        optimizer.apply(zeros)

    try:
        # Traced only: nothing is applied.
        tf.function(attempt, autograph=False).get_concrete_function()
    except ValueError as error:
        raise ValueError(
            f"the optimizer was built for other variables than those of {' and '.join(networks)}: "
            f"make a new one, for example keras.optimizers.Adam(3e-4) ({error})"
        ) from error


@keras.saving.register_keras_serializable("tensor_optix")
class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A schedule times a factor that can change while the optimizer runs.

    Args:
        schedule: The user's.
    """

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule
        self.factor = keras.Variable(1.0, trainable=False, dtype="float32", name="factor")

    def __call__(self, step: Any) -> Any:
        """Return the rate at a step."""
        return self.factor.value * self.schedule(step)

    def get_config(self) -> dict[str, Any]:
        """Return what makes it again."""
        return {"schedule": keras.optimizers.schedules.serialize(self.schedule)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScaledSchedule:
        """Make it again, with a factor of 1."""
        return cls(keras.optimizers.schedules.deserialize(config["schedule"]))


_scaled: WeakKeyDictionary[Any, ScaledSchedule] = WeakKeyDictionary()
"""The schedules that were made scalable, by their optimizers."""


def make_scalable(optimizer: Any) -> None:
    """Let a learning rate that follows a schedule be changed; to be called before updates are traced."""
    if optimizer in _scaled:
        return
    schedule = _schedule_of(optimizer)
    if schedule is not None:
        _scaled[optimizer] = optimizer.learning_rate = ScaledSchedule(schedule)


def _schedule_of(optimizer: Any) -> Any:
    """Return the schedule that a learning rate follows, made again by Keras; None if there is none such.

    None, too, for a function, or a class that Keras cannot make again: these can be followed, not changed.
    """
    try:
        with warnings.catch_warnings():
            # About functions, which Keras does not like to write down.
            warnings.simplefilter("ignore")
            schedule = keras.optimizers.schedules.deserialize(
                optimizer.get_config()["learning_rate"]
            )
    except (KeyError, TypeError, ValueError, NotImplementedError):
        return None
    is_schedule = isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule)
    return schedule if is_schedule else None


def learning_rate(optimizer: Any) -> float:
    """Read the learning rate in force back from the optimizer."""
    value = np.float32(tf.convert_to_tensor(optimizer.learning_rate).numpy())
    # The shortest number that is the same in float32: 0.0003, not 0.0003000000142.
    return float(str(value))


def set_learning_rate(optimizer: Any, value: float) -> None:
    """Put a learning rate in force; a schedule is scaled so that it has this value now.

    Raises:
        ValueError: If the rate is a function, or a schedule that Keras cannot make again.
    """
    if optimizer in _scaled:
        scaled = _scaled[optimizer]
        plain = float(scaled.schedule(optimizer.iterations))
        # Where a schedule has come down to 0 there is nothing to scale.
        if plain:
            scaled.factor.assign(value / plain)
        return
    try:
        optimizer.learning_rate = value
    except (AttributeError, TypeError) as error:
        raise ValueError(
            f"the learning rate of {type(optimizer).__name__} cannot be set to {value}: it is a function or "
            "a schedule of your own; give the optimizer a number, or a schedule that "
            "Keras can make again (get_config, and keras.saving.register_keras_serializable)"
        ) from error


def schedule_step(optimizer: Any) -> int | None:
    """Return how far a schedule of the learning rate has come; None if the optimizer follows none."""
    return int(optimizer.iterations) if optimizer in _scaled else None


def set_schedule_step(optimizer: Any, step: int) -> None:
    """Let a schedule of the learning rate go on from a step."""
    optimizer.iterations.assign(step)


def rate_variables(optimizer: Any) -> list[Any]:
    """Return what must be kept of the learning rate beside the optimizer's own variables."""
    return [_scaled[optimizer].factor] if optimizer in _scaled else []
