"""A policy as a list of steps that no framework is needed to understand: data only.

`exporting.policy_graph` makes one of a loaded policy; each format has one writer of it. B is the number of
observations; what a step takes and returns is `[B, ...]`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from tensor_optix.core.types import Array

ActivationName: TypeAlias = Literal["identity", "tanh", "relu", "elu", "silu"]
ACTION = "action"
"""The name of the output."""
MASK_DTYPE = "int8"
"""As Gymnasium's environments give masks."""


@dataclass(frozen=True)
class Flatten:
    """Arrays `[B, ...]` of any dtype as rows `[B, F]` float32, row-major; numbers `[B]` as `[B, 1]`."""


@dataclass(frozen=True)
class OneHot:
    """K whole numbers for each of B as K unit vectors side by side, `[B, sum(sizes)]` float32."""

    sizes: tuple[int, ...]
    starts: tuple[int, ...]
    """From which each number counts; others than the sizes allow become zeros."""

    @property
    def columns(self) -> list[int]:
        """Of each place of the vectors: which of the K numbers it is of."""
        return [place for place, size in enumerate(self.sizes) for _ in range(size)]

    @property
    def numbers(self) -> list[int]:
        """Of each place: the number that it stands for."""
        ends = zip(self.starts, self.sizes, strict=True)
        return [number for start, size in ends for number in range(start, start + size)]


@dataclass(frozen=True)
class Normalize:
    """`(x - mean) / deviation`, clipped, computed in float64, to float32."""

    mean: Array
    """`[...]` float64, of one observation."""
    deviation: Array
    """The same; the root of the variance and 1e-8."""
    clip: float
    """Bound of the result; 0: it is not clipped."""


@dataclass(frozen=True)
class Divide:
    """Numbers divided, to float32."""

    divisors: Array
    """Float32, that broadcast against one observation."""


@dataclass(frozen=True)
class Columns:
    """What the columns of rows `[B, D]` from `first` on hold, `[B, *shape]`."""

    first: int
    shape: tuple[int, ...]

    @property
    def last(self) -> int:
        """The column behind them."""
        return self.first + math.prod(self.shape)


@dataclass(frozen=True)
class ChannelsToFront:
    """Images `[B, H, W, C]` as `[B, C, H, W]`."""


@dataclass(frozen=True)
class Convolution2D:
    """A convolution of images `[B, C, H, W]`, as `[B, filters, H', W']` float32; ReLU follows."""

    weight: Array
    """`[filters, C, height, width]` float32."""
    bias: Array
    """`[filters]`."""
    stride: int
    padding: int
    """Zeros on each side."""


@dataclass(frozen=True)
class DenseLayer:
    """Rows `[B, inputs]` float32 as `activation(x @ weight.T + bias)`, `[B, outputs]`."""

    weight: Array
    """`[outputs, inputs]` float32."""
    bias: Array
    """`[outputs]`."""
    activation: ActivationName


@dataclass(frozen=True)
class Branches:
    """What several lists of steps make of the same rows, side by side."""

    branches: tuple[tuple[Step, ...], ...]


Step: TypeAlias = (
    Flatten
    | OneHot
    | Normalize
    | Divide
    | Columns
    | ChannelsToFront
    | Convolution2D
    | DenseLayer
    | Branches
)


@dataclass(frozen=True)
class Block:
    """Neighbouring choices among equally many actions."""

    first: int
    """The column of the scores where they begin."""
    count: int
    """How many choices they are."""
    size: int
    """Among how many actions each of them is."""

    @property
    def last(self) -> int:
        """The column behind them."""
        return self.first + self.count * self.size


@dataclass(frozen=True)
class Choose:
    """The best of each choice: scores `[B, sum(counts)]` to actions `[B, *shape]`.

    Of equal scores the first wins. With a mask, only what it allows is chosen; of a choice of which it allows
    nothing, all is.
    """

    counts: tuple[int, ...]
    """Among how many actions each choice is."""
    starts: tuple[int, ...]
    """Added to the places of the best."""
    shape: tuple[int, ...]
    dtype: str
    mask: str | None
    """The name of the input `[B, sum(counts)]`, 1 where an action is allowed; None: there is no mask."""

    @property
    def is_number(self) -> bool:
        """Whether an action is one number."""
        return self.shape == ()

    @property
    def blocks(self) -> list[Block]:
        """The choices in order, neighbours among equally many actions together."""
        found, first = list[Block](), 0
        for size, equal in itertools.groupby(self.counts):
            found.append(Block(first, len(list(equal)), size))
            first = found[-1].last
        return found


@dataclass(frozen=True)
class Stretch:
    """`clip(middle + half * tanh(x))` of the first scores, in float64, to actions `[B, *shape]`."""

    middle: Array
    """`[A]` float64, as the others."""
    half: Array
    low: Array
    """Infinite where nothing is clipped."""
    high: Array
    shape: tuple[int, ...]
    dtype: str
    rounds: bool
    """Whether to the nearest whole number, of two equally near to the even one."""

    is_number = False

    @property
    def size(self) -> int:
        """How many of the scores are the means."""
        return len(self.middle)


@dataclass(frozen=True)
class GraphInput:
    """One part of an observation."""

    name: str
    shape: tuple[int, ...]
    """Of one, without the batch."""
    dtype: str
    """As NumPy calls it."""
    steps: tuple[Step, ...] = ()
    """To its columns; those of several inputs lie side by side."""


@dataclass(frozen=True)
class InferenceGraph:
    """Observations to actions: the inputs, side by side, go through the steps to scores; the head chooses."""

    inputs: tuple[GraphInput, ...]
    steps: tuple[Step, ...]
    head: Choose | Stretch
    scores: str
    """What the scores are called: logits, q_values, or mean, of which the tanh is still to be taken."""

    @property
    def signature(self) -> tuple[GraphInput, ...]:
        """All inputs, that of the mask included, the last one."""
        if not isinstance(self.head, Choose) or self.head.mask is None:
            return self.inputs
        mask = GraphInput(self.head.mask, (sum(self.head.counts),), MASK_DTYPE)
        return (*self.inputs, mask)

    @property
    def outputs(self) -> tuple[GraphInput, GraphInput]:
        """The actions and the scores, as inputs are described."""
        action = GraphInput(ACTION, self.head.shape, self.head.dtype)
        return action, GraphInput(self.scores, (self.score_count,), "float32")

    @property
    def score_count(self) -> int:
        """How many numbers the scores of one observation are."""
        return self.head.size if isinstance(self.head, Stretch) else sum(self.head.counts)


class FileInterface(NamedTuple):
    """How a written policy is used."""

    inputs: tuple[GraphInput, ...]
    outputs: tuple[GraphInput, ...]
    """The action first."""
    usage: tuple[str, ...]
    """Lines of code that do so."""
    is_batched: bool = True
    """Whether it takes several observations at once."""
