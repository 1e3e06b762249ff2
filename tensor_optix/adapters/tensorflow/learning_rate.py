"""The learning rate of a Keras optimizer: a number, or a schedule that is scaled as a whole."""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tensor_optix.adapters.tensorflow.requirements import keras, tf


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


def rate_variables(optimizer: Any) -> list[Any]:
    """Return what must be kept of the learning rate beside the optimizer's own variables."""
    return [_scaled[optimizer].factor] if optimizer in _scaled else []
