"""Functions of tensors, traced once and compiled by XLA where that pays."""

from __future__ import annotations

import logging
import math
import textwrap
from typing import TYPE_CHECKING, Any

from tensor_optix.adapters.tensorflow.placement import device_of
from tensor_optix.adapters.tensorflow.requirements import tf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)

MATRIX_AXES = 2
SMALL_NETWORKS = 300_000
"""Parameters below which XLA is used on the CPU, where it computes with one thread."""


class TracedFunction:
    """A function of flat tensors as a graph: tensors come in, a list of them goes out.

    Without XLA, it is called by its name, and without the checks of every argument that TensorFlow makes
    otherwise: these took three quarters of a step of acting. By their names, XLA does not know functions.

    Args:
        fn: Returns a tensor or a tuple of them.
        signature: What it takes. Nothing else may come.
        is_compiled: Whether XLA compiles it.
    """

    def __init__(
        self, fn: Callable[..., Any], signature: Sequence[Any], is_compiled: bool = False
    ) -> None:
        self.graph = tf.function(
            fn, input_signature=signature, autograph=False, jit_compile=is_compiled or None
        ).get_concrete_function()
        self._captured = list(self.graph.captured_inputs)
        self.outputs = [tf.TensorSpec(o.shape, o.dtype) for o in self.graph.outputs]
        self._dtypes = [output.dtype for output in self.outputs]
        self._call = self.graph if is_compiled else self._call_by_name

    def __call__(self, *tensors: Any) -> list[Any]:
        """Return the outputs."""
        return list(self._call(*tensors))

    def _call_by_name(self, *tensors: Any) -> Any:
        return tf.raw_ops.StatefulPartitionedCall(
            args=[*tensors, *self._captured], Tout=self._dtypes, f=self.graph.name
        )


class CompiledFunction:
    """A function of flat tensors, compiled by XLA; without it, where XLA cannot compile the function.

    XLA compiles anew for each combination of shapes: callers keep them few, where `is_compiled`.

    Args:
        fn: Over the networks.
        signature: What it takes.
        networks: Those that it uses.
        is_compiled: Whether to try.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        signature: Sequence[Any],
        networks: Sequence[Any],
        is_compiled: bool,
    ) -> None:
        self.trace_count = 0
        self.is_compiled = is_compiled
        self._fn = fn
        self._signature = signature
        self._traced = self._trace()
        self._device = device_of(networks)

    def __call__(self, *tensors: Any) -> list[Any]:
        """Call it, on the device of the networks."""
        # XLA computes on the device of the call, and takes variables from no other.
        with tf.device(self._device):
            try:
                return self._traced(*tensors)
            except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
                # XLA refuses before anything is computed, so that nothing has changed yet.
                if not self.is_compiled:
                    raise
                reason = textwrap.shorten(str(error.message), 160)
                logger.warning("networks run without XLA, which cannot compile them: %s", reason)
                self.is_compiled = False
                self._traced = self._trace()
                return self._traced(*tensors)

    def _trace(self) -> TracedFunction:
        def counted(*tensors: Any) -> Any:
            self.trace_count += 1
            return self._fn(*tensors)

        return TracedFunction(counted, self._signature, self.is_compiled)


def pays(networks: Sequence[Any]) -> bool:
    """Whether XLA makes updates of these networks faster.

    It does on a GPU, and on a CPU for small perceptrons. Measured on one core: updates of two 64-64 ones take
    a third of the time, of three 256-256 ones the same; on two cores those of 1024-1024 ones take
    twice the time, and those of the convolutions of Mnih et al. 2015 fifty times.
    """
    if "GPU" in (device_of(networks) or ""):
        return True
    shapes = [tuple(v.shape) for network in networks for v in network.variables]
    are_matrices = all(len(shape) <= MATRIX_AXES for shape in shapes)
    return are_matrices and sum(math.prod(shape) for shape in shapes) < SMALL_NETWORKS
