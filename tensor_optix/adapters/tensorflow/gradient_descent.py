"""Gradient descent on TensorFlow: gradients, clipping and the user's Keras optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakMethod

from tensor_optix.adapters.tensorflow.learning_rate import make_scalable
from tensor_optix.adapters.tensorflow.network import (
    Scalar,
    TwinCritics,
    require_keras,
    trainable_variables,
)
from tensor_optix.adapters.tensorflow.placement import beside
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
            if not isinstance(network, TwinCritics | Scalar):
                require_keras(name, network)
        require_optimizer(optimizer, " and ".join(networks))
        make_scalable(optimizer)
        self._loss_fn = loss_fn
        self._networks = dict(networks)
        self._optimizer = optimizer
        self._variables: list[Any] = []
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
        squares = [tf.reduce_sum(tf.square(gradient)) for gradient in gradients]
        norm = tf.sqrt(tf.add_n([tf.cast(square, tf.float32) for square in squares]))
        if "max_grad_norm" in scalars:
            most = scalars["max_grad_norm"]
            scale = tf.where(norm > most, most / norm, 1.0)
            gradients = [gradient * tf.cast(scale, gradient.dtype) for gradient in gradients]
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
        kind = f"{type(optimizer).__module__}.{type(optimizer).__name__}"
        raise TypeError(
            f"the optimizer of {of} must be one of Keras 3, for example keras.optimizers.Adam(3e-4), "
            f"got {kind}"
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
