"""Where TensorFlow computes: names of devices and networks come in, TensorFlow's names and contexts out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tensor_optix.adapters.tensorflow.network import require_built
from tensor_optix.adapters.tensorflow.requirements import tf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager


def resolve_device(device: str) -> str | None:
    """Return TensorFlow's name of a device; None for "auto", where TensorFlow chooses: a GPU if there is one.

    Args:
        device: "auto", "cpu", "cuda" or "gpu", "cuda:1", or a name of TensorFlow's, such as "/GPU:1".

    Raises:
        ValueError: If this machine or this build of TensorFlow has none of that name.
    """
    if device == "auto":
        return None
    match = re.fullmatch(r"/?(?:device:)?(\w+?)(?::(\d+))?", device)
    kind, number = (match[1].upper(), match[2] or "0") if match else ("", "")
    name = f"/device:{'GPU' if kind == 'CUDA' else kind}:{number}"
    known = [one.name for one in tf.config.list_logical_devices()]
    if name not in known:
        there = ", ".join(one.removeprefix("/device:").lower() for one in known)
        raise ValueError(f"device {device!r} cannot be used: there are {there}; choose one or auto")
    return name


def placed_on(device: str) -> AbstractContextManager[Any]:
    """Return a context in which networks are made on a device; `device` as in `resolve_device`.

    Raises:
        ValueError: If this machine or this build of TensorFlow has none of that name.
    """
    context: AbstractContextManager[Any] = tf.device(resolve_device(device))
    return context


def device_of(networks: Sequence[Any]) -> str | None:
    """Return the device that holds the variables of networks; None where there are none yet."""
    for network in networks:
        if network.built and network.variables:
            return str(network.variables[0].value.device)
    return None


def beside(networks: Sequence[Any]) -> AbstractContextManager[Any]:
    """Return a context that computes, and makes variables, where those of networks are."""
    context: AbstractContextManager[Any] = tf.device(device_of(networks))
    return context


def require_device(networks: Mapping[str, Any], device: str) -> None:
    """Refuse networks whose variables are on another device than the one asked for.

    Raises:
        ValueError: If they are, or do not exist yet: a Keras model stays where it was made.
    """
    place = resolve_device(device)
    if place is None:
        return
    for name, network in networks.items():
        require_built(name, network)
        found = device_of([network])
        if found is not None and not found.endswith(place):
            raise ValueError(
                f"the {name} must be on {device}, got {found}: make it within "
                f'"with tf.device({place!r}):"'
            )
