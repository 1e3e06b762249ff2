"""What a framework must offer: one module of plain functions per framework, typed by this Protocol.

The maths of `algorithms/` takes such a module as `ops`. NumPy arrays come in and go out; tensors live
inside the compiled calls only. How updates are counted is said here too, once for all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

import numpy as np

from tensor_optix.core.argument_checks import kind_of

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tensor_optix.adapters.native.views import Views
    from tensor_optix.core.types import Array, PathLike

Tensor: TypeAlias = Any
Network: TypeAlias = Any
Optimizer: TypeAlias = Any
LossFn: TypeAlias = Callable[
    [Mapping[str, Tensor], Mapping[str, Tensor]], tuple[Tensor, dict[str, Tensor]]
]
"""`(minibatch, scalars) -> (loss, diagnostics)`, written over `ops`."""


Update: TypeAlias = Callable[
    [Mapping[str, Tensor], Mapping[str, Tensor]], tuple[dict[str, Tensor], dict[str, Tensor]]
]
"""`(minibatch, scalars) -> (diagnostics, rows)`: one update. Diagnostics are scalars, rows are `[B]`."""
UpdateLoop: TypeAlias = Callable[
    [Mapping[str, "Array"], int, Mapping[str, float]], tuple[dict[str, float], dict[str, "Array"]]
]
"""`(fields [G * B, ...], B, scalars) -> (means of the diagnostics, rows [G * B])`: G updates in order.

Where diagnostics have `skipped`, its mean is the share of the updates that were left out, and the other
means are over those that were made: NaN where none was.
"""


class UpdateTally:
    """Means of diagnostics over updates: one that was left out counts for nothing but its number."""

    def __init__(self) -> None:
        self._totals: dict[str, Any] = {}
        self._updates = self._skipped = 0

    def add(self, means: Mapping[str, float], updates: int) -> None:
        """Add what an `UpdateLoop` returned of so many updates."""
        skipped = round(means.get("skipped", 0.0) * updates)
        sums = {name: mean * (updates - skipped) for name, mean in means.items()}
        self.add_sums(sums | ({"skipped": skipped} if "skipped" in means else {}), updates)

    def add_sums(self, sums: Mapping[str, Tensor], updates: int = 1) -> None:
        """Add scalars summed over the updates that were made; of so many, `skipped` were left out."""
        skipped = round(float(sums.get("skipped", 0.0)))
        self._updates += updates
        self._skipped += skipped
        for name, value in sums.items():
            # Whatever came of updates that were all left out.
            counted = value if skipped < updates else 0.0
            self._totals[name] = self._totals.get(name, 0.0) + counted

    def means(self) -> dict[str, float]:
        """Return the means: NaN where updates came but none was made; of `skipped`, the share left out."""
        made = self._updates - self._skipped
        means = {n: float(total) / made if made else math.nan for n, total in self._totals.items()}
        if "skipped" in means:
            means["skipped"] = self._skipped / self._updates
        return means

    def take(self) -> dict[str, Any]:
        """Return the means, and how many updates were made and left out; begin anew."""
        means, updates, skipped = self.means(), self._updates, self._skipped
        self._totals, self._updates, self._skipped = {}, 0, 0
        means.pop("skipped", None)
        return means | {"n_updates": updates - skipped, "n_skipped_updates": skipped}


def require_same_values(
    variables: Mapping[str, Mapping[str, Any]], read: Callable[[str], Mapping[str, Any]]
) -> None:
    """Refuse files that hold several values of one variable, as networks share it.

    Args:
        variables: By networks and by the names that files call them.
        read: The arrays in the file of a network.

    Raises:
        ValueError: If they do.
    """
    counts = Counter(id(one) for own in variables.values() for one in own.values())
    places: dict[int, tuple[str, Any]] = {}
    for network, own in variables.items():
        named = {name: id(one) for name, one in own.items() if counts[id(one)] > 1}
        stored = read(network) if named else {}
        for name in named.keys() & stored.keys():
            other, value = places.setdefault(named[name], (network, stored[name]))
            if not _are_equal(value, stored[name]):
                raise ValueError(
                    f"the stored {other} and {network} have different values of {name}, which this agent's "
                    "share: they were two networks that share nothing; load them into such ones"
                )


def _are_equal(first: Any, second: Any) -> bool:
    """Whether two arrays are the same, NaN included."""
    if first.shape != second.shape:
        return False
    return bool(((first == second) | ((first != first) & (second != second))).all())


class GradientDescent(Protocol):
    """Minimises one loss over named networks with the user's optimizer."""

    def step(self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make one update; to be called within an update loop.

        Where there is a `scalars["max_grad_norm"]`, the gradient of each network is clipped to this norm, and
        that of weights which several networks share likewise: none takes another's part. An update whose loss
        or gradient is not finite is left out: weights and the optimizer's state stay what they were.
        Only the networks' own parameters get gradients, whatever else the loss runs through.

        Returns:
            The loss's diagnostics, detached; `grad_norm` of all weights, before clipping; `skipped`: 1 where
            the update was left out, else 0.
        """


LARGEST_BYTE = 255
FEW_LEVELS = 0.25
"""Bytes that come to no more than this share of `LARGEST_BYTE` are codes or planes, no pixels."""
OPEN = 0
"""In place of a divisor: a space claims `LARGEST_BYTE`, and nobody has looked yet at what comes."""


class ByteField(NamedTuple):
    """Numbers of an observation, side by side in its row, that are divided by one number."""

    size: int
    """How many they are."""
    highest: int
    """What they are at most; 1 where they are not divided."""


class ByteScale(Protocol):
    """The layer of a ready-made network that divides bytes, kept and copied with its weights."""

    sizes: tuple[int, ...]
    """F, of the fields of an observation: each is divided by one number."""

    def read(self) -> Array:
        """Return the divisors `[F]` int64; `OPEN` stands for `LARGEST_BYTE`, until it is set."""

    def write(self, divisors: Array, /) -> None:
        """Set the divisors `[F]` int64."""


def first_divisors(fields: Sequence[ByteField]) -> list[int]:
    """Return the divisors that a layer begins with."""
    return [OPEN if field.highest == LARGEST_BYTE else field.highest for field in fields]


class ByteDivisors:
    """What the networks of an agent divide bytes by, the same in all: open until it is known what comes.

    Args:
        scales: Of the networks that divide any.

    Attributes:
        is_open: Whether a divisor is still to be chosen.
        largest: `[F]`, the largest bytes seen since; None: nothing was seen.
    """

    def __init__(self, scales: Sequence[ByteScale]) -> None:
        self._scales = scales
        self.largest: Array | None = None
        self.look()

    def look(self) -> None:
        """Ask the networks whether it is open: when they have taken on other weights."""
        self.is_open = any((scale.read() == OPEN).any() for scale in self._scales)

    def see(self, observations: Array, rows: Array | None = None) -> None:
        """Note the largest bytes, as long as it matters.

        Args:
            observations: `[R, ...]`, as the environment gave them.
            rows: Which of them; None: all.
        """
        if not self.is_open or not len(observations):
            return
        seen = observations if rows is None else observations[rows]
        sizes = self._scales[0].sizes
        # Masks of actions, if any, lie behind.
        columns = seen.reshape(len(seen), -1)[:, : sum(sizes)].max(axis=0)
        largest = np.maximum.reduceat(columns, np.cumsum((0, *sizes[:-1])))
        self.largest = largest if self.largest is None else np.maximum(self.largest, largest)

    def settle(self) -> bool:
        """Choose, once, given what was seen; return whether there was anything to choose.

        Where the space claims 255, bytes are divided by the largest seen if that is at most a quarter of it.
        """
        if not self.is_open or self.largest is None:
            return False
        is_small = self.largest <= FEW_LEVELS * LARGEST_BYTE
        found = np.where(is_small, np.maximum(self.largest, 1), LARGEST_BYTE)
        for scale in self._scales:
            divisors = scale.read()
            scale.write(np.where(divisors == OPEN, found, divisors).astype(np.int64))
        self.is_open, self.largest = False, None
        return True


FAMILIES = {
    "torch": "Torch",
    "keras": "TF",
    "tensorflow": "TF",
    "tensor_optix.adapters.native": "Native",
}
"""What the names of the agents begin with that take the objects of a package."""


def given_instead(found: object) -> str:
    """Return what errors say was given in place of a network or an optimizer, and what to do."""
    if isinstance(found, type):
        return kind_of(found)
    kind = f"{type(found).__module__}.{type(found).__name__}".removeprefix("builtins.")
    modules = [f"{base.__module__}." for base in type(found).__mro__]
    families = [
        f for m in modules for package, f in FAMILIES.items() if m.startswith(f"{package}.")
    ]
    return f"{kind}; {families[0]}... agents take it" if families else kind


class Backend(Protocol):
    """The functions of a framework's backend module."""

    title: str
    """The framework as its makers write it."""

    def makes_gradients(self) -> bool:
        """Return whether any loss can be minimised; if not, the native engine makes all updates."""

    def placed_on(self, device: str, /) -> AbstractContextManager[Any]:
        """Return a context to make networks in that are to be on a device, as agents name it."""

    def prepare(self, networks: Mapping[str, Network], device: str, compile: bool, /) -> Backend:
        """Put an agent's networks, as in inference, on a device; return the functions to compute with.

        This is the one place where frameworks differ as agents are made: which networks can be moved, and
        whether there is a choice that updates are compiled.

        Raises:
            TypeError: If a network is none of the framework.
            ValueError: If the device cannot be used, or a network that stays where it was made is elsewhere.
        """

    def exp(self, x: Tensor, /) -> Tensor:
        """Compute e**x."""

    def square(self, x: Tensor, /) -> Tensor:
        """Compute x**2."""

    def absolute(self, x: Tensor, /) -> Tensor:
        """Compute |x|."""

    def mean(self, x: Tensor, /) -> Tensor:
        """Average over all elements."""

    def log(self, x: Tensor, /) -> Tensor:
        """Compute the natural logarithm."""

    def tanh(self, x: Tensor, /) -> Tensor:
        """Compute the hyperbolic tangent."""

    def minimum(self, x: Tensor, y: Tensor, /) -> Tensor:
        """Take the smaller of two, element by element."""

    def clip(self, x: Tensor, low: Tensor, high: Tensor, /) -> Tensor:
        """Limit to [low, high]."""

    def where(self, condition: Tensor, x: Tensor, other: float, /) -> Tensor:
        """Take `x` where a bool tensor of its shape holds, and a number elsewhere."""

    def sum_last(self, x: Tensor, /) -> Tensor:
        """Sum over the last axis."""

    def max_last(self, x: Tensor, /) -> Tensor:
        """Take the largest along the last axis."""

    def split_last(self, x: Tensor, /) -> tuple[Tensor, Tensor]:
        """Split the last axis into two halves."""

    def pair_last(self, x: Tensor, y: Tensor, /) -> Tensor:
        """Lay two tensors of one shape side by side: `[B]`, `[B]` -> `[B, 2]`."""

    def fold_last(self, x: Tensor, size: int, /) -> Tensor:
        """Fold the last axis into rows of one size: `[B, K * size]` -> `[B, K, size]`."""

    def log_softmax(self, logits: Tensor, /) -> Tensor:
        """Normalise `[..., A]` logits to log-probabilities."""

    def take_along(self, x: Tensor, index: Tensor, /) -> Tensor:
        """Pick `x[b, index[b]]`: `[B, A]`, `[B]` -> `[B]`; likewise `[B, K, A]`, `[B, K]` -> `[B, K]`."""

    def flatten_values(self, values: Tensor, /) -> Tensor:
        """Turn a critic's `[B, 1]` or `[B]` into `[B]`."""

    def forward(self, network: Network, observations: Tensor, /, *others: Tensor) -> Tensor:
        """Return what a network makes of observations, as in inference: float32, whatever it computes in.

        It receives the observations as float32, but indices `[B]` as int64; and `others` as they are.

        Raises:
            TypeError: If it does not return one tensor.
        """

    def shared(
        self, first: Network, second: Network, /
    ) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
        """Return a function of observations to what `forward` returns of each of two networks.

        The layers that both begin with, the same objects, are called once. None: there are none such.
        """

    def without_gradient(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Return a function of tensors that no gradient flows through."""

    def number(self, fn: Callable[[], Tensor], /) -> Callable[[], float]:
        """Return a function of one scalar tensor as one of a number."""

    def clone(self, network: Network, /) -> Network:
        """Return a copy of a network, with the same weights and variables of its own."""

    def copied(
        self, networks: Mapping[str, Network], optimizers: Mapping[str, Optimizer], /
    ) -> tuple[dict[str, Network], dict[str, Optimizer]]:
        """Return networks of the same architecture, and optimizers of the same settings for them.

        Weights and moments may be fresh ones: who calls fills them in.
        """

    def blend(self, targets: Network, networks: Network, rate: Tensor | float, /) -> None:
        """Move weights: `target += rate * (network - target)`; 1 copies. Buffers are copied."""

    def num_weights(self, network: Network, /) -> int:
        """Return how many numbers of a network are learned."""

    def all_finite(self, network: Network, /) -> bool:
        """Return whether no weight and no buffer is NaN or infinite."""

    def byte_scale(self, network: Network, /) -> ByteScale | None:
        """Return what divides the bytes in a network that was made ready; None where nothing does."""

    def scalar(self, value: float, optimizer: Optimizer, network: Network, /) -> Network:
        """Return a network without inputs whose output is the one variable that `optimizer` holds.

        It is on the device of `network`.

        Raises:
            ValueError: If it holds anything but a single number.
        """

    def engine_views(self) -> Views:
        """Return what shows networks and optimizers to the native engine."""

    def twin_critics(self, first: Network, second: Network, /) -> Network:
        """Return a network of `(observations [B, ...], actions [B, A]) -> [2, B]`: two critics' values.

        A critic takes `[B, D + A]`, observation and action side by side; where observations are no vectors,
        the two as two arguments. Perceptrons of one shape run as one batched pass. The critics remain
        networks of their own, its `first` and `second`: whatever changes them changes this one.
        """

    def resident(
        self, fields: Mapping[str, Array], /
    ) -> Callable[[Array], Mapping[str, Tensor]] | None:
        """Keep fields `[R, ...]` where updates are made, until the next call.

        Returns:
            A function of rows `[B]` int32 to the fields of these rows, which an update loop takes in place of
            arrays. None: arrays are there as they are.
        """

    def update_loop(
        self, update: Update, networks: Sequence[Network], is_pure: bool = True, /
    ) -> UpdateLoop:
        """Return a function that makes updates with consecutive minibatches; the last may be short.

        `networks` are those that the update uses. `is_pure` says that it reads nothing but them and its
        arguments, so that it may be compiled.
        """

    def inference(
        self, fn: Callable[..., Tensor], networks: Sequence[Network], /
    ) -> Callable[..., Array]:
        """Return a function of tensors `[B, ...]` as one of arrays, without gradients, in chunks.

        `networks` are those that `fn` calls.
        """

    def gradient_descent(
        self, loss_fn: LossFn, networks: Mapping[str, Network], optimizer: Optimizer, /
    ) -> GradientDescent:
        """Bind a loss to the networks it trains and the user's optimizer.

        Raises:
            ValueError: If the optimizer does not hold exactly the networks' trainable parameters.
        """

    def learning_rate(self, optimizer: Optimizer, /) -> float:
        """Read the learning rate in force back from the optimizer."""

    def set_learning_rate(self, optimizer: Optimizer, value: float, /) -> None:
        """Put a learning rate in force: the first group's; other groups keep their ratio to it."""

    def schedule_step(self, optimizer: Optimizer, /) -> int | None:
        """Return how far a schedule of the learning rate has come; None if the optimizer follows none."""

    def set_schedule_step(self, optimizer: Optimizer, step: int, /) -> None:
        """Let a schedule of the learning rate go on from a step."""

    def random_state(self) -> dict[str, Array]:
        """Return the state of the framework's own generators, which dropout draws from; `{}` without any."""

    def set_random_state(self, state: Mapping[str, Array], /) -> None:
        """Let the framework's own generators go on from what `random_state` returned.

        Raises:
            ValueError: If it is no such state.
        """

    def save_network(self, network: Network, path: PathLike, /) -> None:
        """Write every variable of a network to `path` plus the backend's suffix."""

    def load_network(self, network: Network, path: PathLike, /) -> None:
        """Read what `save_network` wrote."""

    def read_network(self, network: Network, path: PathLike, /) -> Callable[[], None]:
        """Read what `save_network` wrote, and return what puts it into the network's variables.

        Raises:
            CheckpointError: If the file is missing or damaged.
            ValueError: If it holds other variables; of PyTorch a RuntimeError.
        """

    def require_same_shared(self, networks: Mapping[str, Network], directory: Path, /) -> None:
        """Refuse files in a directory that disagree about weights which the networks of their names share.

        Raises:
            ValueError: If they do.
        """

    def save_optimizer(self, optimizer: Optimizer, path: PathLike, /) -> None:
        """Write the optimizer's state (moments, step counts) without pickle."""

    def load_optimizer(self, optimizer: Optimizer, path: PathLike, /) -> bool:
        """Read what `save_optimizer` wrote; False where there is nothing to read, or another framework's."""

    def average_networks(self, network: Network, paths: Sequence[PathLike], /) -> None:
        """Set a network to the mean of stored ones."""

    def perturb_network(
        self, network: Network, scale: float, seed: int, others: Sequence[Network] = (), /
    ) -> None:
        """Multiply every floating weight, but those that `others` hold as well, by `1 + scale * N(0, 1)`."""


def with_functions(backend: Backend, *functions: Callable[..., Any]) -> Backend:
    """Return a backend with these functions in the place of those of the same names."""
    own = {name: getattr(backend, name) for name in vars(Backend) if not name.startswith("_")}
    replaced = {function.__name__: function for function in functions}
    return cast("Backend", SimpleNamespace(**own | replaced))
