"""Functions of networks as TensorFlow graphs: inference, and loops of updates. Arrays come in and go out.

Signatures are fixed and numbers of rows free, so that nothing is traced again when hyperparameters or
windows change.
"""

from __future__ import annotations

import logging
import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.adapters.backend import UpdateTally
from tensor_optix.adapters.tensorflow.network import beside, device_of
from tensor_optix.adapters.tensorflow.requirements import tf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tensor_optix.adapters.backend import Update
    from tensor_optix.core.types import Array

logger = logging.getLogger(__name__)

INFERENCE_ROWS = 4096
"""Rows per forward pass without gradients: bounds the memory that activations take."""
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


class Inference:
    """A function of tensors `[B, ...]` as one of arrays, in chunks; traced once for all B.

    Args:
        fn: Pure, over the networks.
        networks: Those that it calls.
    """

    def __init__(self, fn: Callable[..., Any], networks: Sequence[Any]) -> None:
        self._fn = fn
        self._networks = networks
        self._traced: dict[tuple[Any, ...], TracedFunction] = {}

    @property
    def trace_count(self) -> int:
        """How often the function was traced: once per combination of shapes and dtypes."""
        return len(self._traced)

    def __call__(self, *arrays: Array) -> Array:
        """Return the output for `[B, ...]` arrays."""
        signature = tuple((array.shape[1:], array.dtype) for array in arrays)
        traced = self._traced.get(signature)
        if traced is None:
            traced = self._traced[signature] = self._trace(signature)
        outputs: Array
        if len(arrays[0]) <= INFERENCE_ROWS:
            outputs = traced(*map(tf.constant, arrays))[0].numpy()
        else:
            starts = range(0, len(arrays[0]), INFERENCE_ROWS)
            chunks = ([tf.constant(a[i : i + INFERENCE_ROWS]) for a in arrays] for i in starts)
            outputs = np.concatenate([traced(*chunk)[0].numpy() for chunk in chunks])
        return outputs

    def _trace(self, signature: tuple[Any, ...]) -> TracedFunction:
        def forward(*tensors: Any) -> Any:
            with beside(self._networks):
                return self._fn(*tensors)

        specs = [tf.TensorSpec([None, *shape], dtype) for shape, dtype in signature]
        return TracedFunction(forward, specs)


class XlaFunction:
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


class CompiledUpdates:
    """Updates as calls of whole loops, by names, shapes and dtypes of what they are made with.

    Args:
        update: One update: a function of tensors alone.
        networks: Those that it uses.
    """

    def __init__(self, update: Update, networks: Sequence[Any]) -> None:
        self._update = update
        self._networks = networks
        self._traced: dict[tuple[Any, ...], _TracedUpdates] = {}

    @property
    def trace_count(self) -> int:
        """How often the loop over minibatches was traced."""
        return sum(traced.trace_count for traced in self._traced.values())

    def __call__(
        self, fields: Mapping[str, Array], minibatch_size: int, scalars: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        """Make them: `(fields [R, ...], B, scalars) -> (means of the diagnostics, rows [R])`."""
        shapes = [(name, field.shape[1:], field.dtype) for name, field in fields.items()]
        signature = (*shapes, *scalars)
        traced = self._traced.get(signature)
        if traced is None:
            specs = {name: tf.TensorSpec([None, *shape], dtype) for name, shape, dtype in shapes}
            traced = _TracedUpdates(self._update, self._networks, specs, tuple(scalars))
            self._traced[signature] = traced
        return traced(fields, minibatch_size, scalars)


class _TracedUpdates:
    """Updates with fields of one shape and scalars of these names.

    All whole minibatches are one call. XLA compiles for fixed numbers only: theirs is filled up to a power of
    two with zeros, which the loop does not come to. A short minibatch at the end is a call of its own,
    without XLA, because its size may be another every time.

    Arguments are few and flat, because TensorFlow takes its time over each: the scalars are one vector, and
    so are the diagnostics.
    """

    def __init__(
        self, update: Update, networks: Sequence[Any], specs: dict[str, Any], names: tuple[str, ...]
    ) -> None:
        self._update = update
        self._networks = networks
        self._specs = specs
        self._scalar_names = names
        self._diagnostic_names: tuple[str, ...] = ()
        self._row_names: tuple[str, ...] = ()
        self._constants = tf.TensorSpec([len(names)], tf.float32)
        # This also makes variables that are still to be made.
        self._one = TracedFunction(self._make_one, [*specs.values(), self._constants])
        batches = [tf.TensorSpec([None, *spec.shape], spec.dtype) for spec in specs.values()]
        signature = [*batches, tf.TensorSpec([], tf.int32), self._constants]
        self._loop = XlaFunction(self._make_all, signature, networks, pays(networks))

    @property
    def trace_count(self) -> int:
        return self._loop.trace_count

    def __call__(
        self, fields: Mapping[str, Array], minibatch_size: int, scalars: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        constants = tf.constant(list(scalars.values()), tf.float32)
        length = len(next(iter(fields.values())))
        count, rest = divmod(length, minibatch_size)
        tally = UpdateTally()
        parts: list[list[Array]] = []
        if count:
            capacity = 1 << (count - 1).bit_length() if self._loop.is_compiled else count
            batches = [_batches(field, minibatch_size, capacity) for field in fields.values()]
            first, *others = self._loop(*batches, tf.constant(count), constants)
            self._add(tally, first, count)
            whole = count * minibatch_size
            parts.append([row.numpy()[:whole] for row in others])
        if rest:
            last = [tf.constant(field[-rest:]) for field in fields.values()]
            first, *others = self._one(*last, constants)
            self._add(tally, first, 1)
            parts.append([row.numpy() for row in others])
        outputs = [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]
        return tally.means(), dict(zip(self._row_names, outputs, strict=True))

    def _add(self, tally: UpdateTally, sums: Any, updates: int) -> None:
        named = zip(self._diagnostic_names, sums.numpy().tolist(), strict=True)
        tally.add_sums(dict(named), updates)

    def _make_one(self, *tensors: Any) -> tuple[Any, ...]:
        """Make one update: fields `[B, ...]` and scalars `[K]` to diagnostics `[D]` and rows `[B]`."""
        *fields, constants = tensors
        batch = dict(zip(self._specs, fields, strict=True))
        scalars = dict(zip(self._scalar_names, tf.unstack(constants), strict=True))
        with beside(self._networks):
            diagnostics, rows = self._update(batch, scalars)
            self._diagnostic_names, self._row_names = tuple(diagnostics), tuple(rows)
            return _counted(diagnostics), *rows.values()

    def _make_all(self, *tensors: Any) -> tuple[Any, ...]:
        """Make `count` updates: `[G, B, ...]` to sums of the diagnostics `[D]` and rows `[G * B]`."""
        *fields, count, constants = tensors
        sizes = tf.shape(fields[0])[:2]
        sums, *rows = self._one.outputs
        outputs = [tf.zeros(sums.shape), *(tf.zeros(sizes, row.dtype) for row in rows)]

        def body(i: Any, sums: Any, *outputs: Any) -> tuple[Any, ...]:
            # The graph, not the function: what is traced already is not traced again.
            diagnostics, *rows = self._one.graph(*(field[i] for field in fields), constants)
            written = [
                tf.tensor_scatter_nd_update(output, [[i]], row[None])
                for output, row in zip(outputs, rows, strict=True)
            ]
            return i + 1, sums + diagnostics, *written

        start = (tf.constant(0), *outputs)
        _, sums, *outputs = tf.while_loop(
            lambda i, *_: i < count, body, start, parallel_iterations=1
        )
        return sums, *(tf.reshape(output, [-1]) for output in outputs)


class PlainUpdates:
    """Updates as plain Python, for those that read more than their arguments.

    Args:
        update: One update.
        networks: Those that it uses.
    """

    def __init__(self, update: Update, networks: Sequence[Any]) -> None:
        self._update = update
        self._networks = networks

    def __call__(
        self, fields: Mapping[str, Array], minibatch_size: int, scalars: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        """Make them: `(fields [R, ...], B, scalars) -> (means of the diagnostics, rows [R])`."""
        tally = UpdateTally()
        parts: list[Mapping[str, Any]] = []
        with beside(self._networks):
            constants = {name: tf.constant(value, tf.float32) for name, value in scalars.items()}
            for start in range(0, len(next(iter(fields.values()))), minibatch_size):
                rows = slice(start, start + minibatch_size)
                batch = {name: tf.constant(field[rows]) for name, field in fields.items()}
                diagnostics, outputs = self._update(batch, constants)
                tally.add_sums({n: float(tf.cast(d, tf.float32)) for n, d in diagnostics.items()})
                parts.append(outputs)
        return tally.means(), {n: np.concatenate([p[n].numpy() for p in parts]) for n in parts[0]}


def _counted(diagnostics: Mapping[str, Any]) -> Any:
    """Return what one update adds to the sums `[D]`: nothing but its count, if it was left out."""
    values = tf.stack([tf.cast(value, tf.float32) for value in diagnostics.values()])
    if "skipped" not in diagnostics:
        return values
    is_count = tf.constant([name == "skipped" for name in diagnostics])
    return tf.where(is_count | (diagnostics["skipped"] == 0.0), values, 0.0)


def _batches(field: Array, minibatch_size: int, capacity: int) -> Any:
    """Return the whole minibatches of `[R, ...]` as `[capacity, minibatch_size, ...]`; zeros follow them."""
    count = len(field) // minibatch_size
    shaped = field[: count * minibatch_size].reshape(count, minibatch_size, *field.shape[1:])
    if capacity > count:
        missing = np.zeros((capacity - count, *shaped.shape[1:]), field.dtype)
        shaped = np.concatenate([shaped, missing])
    return tf.constant(shaped)
