"""The compiled kernels: arrays of a rollout or a batch come in, arrays of the caller are filled.

One set of functions, bound here once: the C++ extension where it could be built, numba elsewhere
(same results, same errors). The environment variable `TENSOR_OPTIX_KERNELS` (`native` or `numba`)
forces one; `BACKEND` says which one serves.

All arrays are C-contiguous NumPy arrays, masks uint8 or bool, T rows in time, N environments.
Nothing is allocated, the GIL is released. A wrong dtype, layout or shape is a ValueError that names
the argument, an argument that is no array (or no number) a TypeError. Outputs must not share memory
with other arguments, unless a function says so. T, N or B may be 0.
"""

import importlib.util
import os
from typing import TYPE_CHECKING, Literal

__all__ = [
    "BACKEND",
    "discounted_returns",
    "episode_statistics",
    "gae",
    "gather",
    "normalize",
    "priorities_replace",
    "priorities_rescale",
    "priorities_update",
    "replay_draw",
    "replay_extend",
    "replay_flush",
    "replay_gather",
    "shuffle",
    "sum_tree_fill",
    "sum_tree_rebuild",
    "sum_tree_sample",
    "sum_tree_set",
    "update_and_normalize",
    "update_moments",
]

_VARIABLE = "TENSOR_OPTIX_KERNELS"


def _choose() -> Literal["native", "numba"]:
    """Return the backend to bind: the forced one, else the extension if it is there."""
    forced = os.environ.get(_VARIABLE, "")
    built = importlib.util.find_spec("tensor_optix.kernels._native") is not None
    if forced not in ("", "native", "numba"):
        raise ValueError(f"{_VARIABLE} must be 'native' or 'numba', got {forced!r}")
    if forced == "native" and not built:
        raise ImportError(
            f"{_VARIABLE} is 'native', but the extension tensor_optix.kernels._native was not "
            "built: reinstall tensor-optix with a C++17 compiler, or unset the variable"
        )
    return "native" if built and forced != "numba" else "numba"


BACKEND: Literal["native", "numba"] = _choose()
"""Which implementation serves: `native` or `numba`."""

if TYPE_CHECKING or BACKEND == "native":
    from tensor_optix.kernels._native import (
        discounted_returns,
        episode_statistics,
        gae,
        gather,
        normalize,
        priorities_replace,
        priorities_rescale,
        priorities_update,
        replay_draw,
        replay_extend,
        replay_flush,
        replay_gather,
        shuffle,
        sum_tree_fill,
        sum_tree_rebuild,
        sum_tree_sample,
        sum_tree_set,
        update_and_normalize,
        update_moments,
    )
else:
    from tensor_optix.kernels._numba import (
        discounted_returns,
        episode_statistics,
        gae,
        gather,
        normalize,
        priorities_replace,
        priorities_rescale,
        priorities_update,
        replay_draw,
        replay_extend,
        replay_flush,
        replay_gather,
        shuffle,
        sum_tree_fill,
        sum_tree_rebuild,
        sum_tree_sample,
        sum_tree_set,
        update_and_normalize,
        update_moments,
    )
