"""Policies as TorchScript: an inference graph goes in, a file comes out; and what it computes, of a file."""

from __future__ import annotations

import io
import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tensor_optix.adapters.inference_graph import (
    ACTION,
    Branches,
    ChannelsToFront,
    Columns,
    Convolution2D,
    DenseLayer,
    Divide,
    FileInterface,
    Flatten,
    Normalize,
    OneHot,
    Stretch,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tensor_optix.adapters.inference_graph import Choose, InferenceGraph, Step
    from tensor_optix.core.types import Array

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}


def write(graph: InferenceGraph, path: Path, facts: Mapping[str, Any]) -> None:
    """Write a graph to a file, with facts of the policy in an extra file `policy.json` in it.

    The module's `forward` takes a tensor `[B, ...]`, or, where there are several inputs, a dict of
    them by their names. It returns the actions; its method `scores` takes the same and returns what they are
    chosen by.

    Raises:
        OSError: If the file cannot be written.
    """
    module = _SeveralInputs(graph) if len(graph.signature) > 1 else _OneInput(graph)
    with warnings.catch_warnings():
        # PyTorch calls TorchScript deprecated; who asks for it has to have it.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        scripted = torch.jit.script(module.eval())
        # Through memory, as PyTorch takes no path whose last part begins with a dot.
        file = io.BytesIO()
        torch.jit.save(scripted, file, _extra_files={"policy.json": json.dumps(dict(facts))})
    path.write_bytes(file.getvalue())


def reader(
    path: Path, graph: InferenceGraph
) -> tuple[str, Callable[[Mapping[str, Array]], tuple[Array, Array]]]:
    """Return what runs a file that `write` wrote of the graph: in words, and to be called."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]

    def run(inputs: Mapping[str, Array]) -> tuple[Array, Array]:
        tensors = {name: torch.from_numpy(np.array(one)) for name, one in inputs.items()}
        given = tensors if len(graph.signature) > 1 else next(iter(tensors.values()))
        with torch.no_grad():
            return module(given).numpy(), module.scores(given).numpy()

    return "PyTorch", run


def interface(path: Path, graph: InferenceGraph) -> FileInterface:
    """Return how a file of a graph is used."""
    given = "observation"
    if len(graph.signature) > 1:
        names = ", ".join(f'"{one.name}": ...' for one in graph.signature)
        given = f"{{{names}}}"
    usage = (
        f'policy = torch.jit.load("{path}")',
        f"{ACTION}, {graph.scores} = policy({given}), policy.scores({given})",
    )
    return FileInterface(graph.signature, graph.outputs, usage)


class _OneInput(nn.Module):
    """A policy of one part."""

    def __init__(self, graph: InferenceGraph) -> None:
        super().__init__()
        (one,) = graph.inputs
        self.body = nn.Sequential(*_modules(one.steps), *_modules(graph.steps))
        self.count = graph.score_count
        self.head = _head(graph)

    def forward(self, observation: Tensor) -> Tensor:
        """Return the actions `[B, ...]` for observations `[B, ...]`."""
        action: Tensor = self.head(self.scores(observation), None)
        return action

    @torch.jit.export
    def scores(self, observation: Tensor) -> Tensor:
        """Return what they are chosen by, `[B, F]`."""
        made: Tensor = self.body(observation)
        return made[:, : self.count]


class _SeveralInputs(nn.Module):
    """A policy of several parts, or with a mask."""

    def __init__(self, graph: InferenceGraph) -> None:
        super().__init__()
        self.parts = nn.ModuleList(_Part(one.name, one.steps) for one in graph.inputs)
        self.joins = len(graph.inputs) > 1
        self.body = nn.Sequential(*_modules(graph.steps))
        self.count = graph.score_count
        self.head = _head(graph)
        self.mask = "" if isinstance(graph.head, Stretch) else graph.head.mask or ""

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Return the actions `[B, ...]` for the parts of observations, and a mask, by their names."""
        mask = observation[self.mask] if self.mask != "" else None
        action: Tensor = self.head(self.scores(observation), mask)
        return action

    @torch.jit.export
    def scores(self, observation: dict[str, Tensor]) -> Tensor:
        """Return what they are chosen by, `[B, F]`; of actions that a mask does not allow, too."""
        rows: list[Tensor] = []
        for part in self.parts:
            rows.append(part(observation))
        joined = torch.cat(rows, 1) if self.joins else rows[0]
        made: Tensor = self.body(joined)
        return made[:, : self.count]


class _Part(nn.Module):
    def __init__(self, name: str, steps: Sequence[Step]) -> None:
        super().__init__()
        self.name, self.steps = name, nn.Sequential(*_modules(steps))

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        made: Tensor = self.steps(observation[self.name])
        return made


def _modules(steps: Sequence[Step]) -> list[nn.Module]:
    return [module for step in steps for module in _of_step(step)]


def _of_step(step: Step) -> list[nn.Module]:
    match step:
        case Flatten():
            return [_Flatten()]
        case OneHot():
            return [_OneHot(step)]
        case Normalize():
            return [_Normalize(step)]
        case Divide():
            return [_Divide(step)]
        case Columns():
            return [_TakenColumns(step)]
        case ChannelsToFront():
            return [_ChannelsToFront()]
        case Convolution2D():
            return [_Convolution(step), nn.ReLU()]
        case DenseLayer():
            return [_dense(step), *_activation(step)]
        case Branches():
            return [_Branches(step)]


def _tensor(values: Any, dtype: torch.dtype) -> Tensor:
    return torch.tensor(np.array(values), dtype=dtype)


def _buffer(values: Any, dtype: torch.dtype) -> Tensor:
    """Return numbers that a module keeps, and takes along to other devices."""
    return nn.Buffer(_tensor(values, dtype))


def _sizes(shape: tuple[int, ...]) -> Any:
    """Return a shape as scripts take it, which do not know of what an empty list is."""
    return torch.jit.Attribute(list(shape), list[int])


def _dense(step: DenseLayer) -> nn.Module:
    outputs, inputs = step.weight.shape
    layer = nn.Linear(inputs, outputs)
    layer.weight.data = _tensor(step.weight, torch.float32)
    layer.bias.data = _tensor(step.bias, torch.float32)
    return layer.requires_grad_(False)


def _activation(step: DenseLayer) -> list[nn.Module]:
    return [] if step.activation == "identity" else [ACTIVATIONS[step.activation]()]


class _Flatten(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1).to(torch.float32)


class _OneHot(nn.Module):
    def __init__(self, step: OneHot) -> None:
        super().__init__()
        self.columns = _buffer(step.columns, torch.int64)
        self.numbers = _buffer(step.numbers, torch.int64)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(x.shape[0], -1).to(torch.int64)
        return (rows[:, self.columns] == self.numbers).to(torch.float32)


class _Normalize(nn.Module):
    def __init__(self, step: Normalize) -> None:
        super().__init__()
        self.mean = _buffer(step.mean, torch.float64)
        self.deviation = _buffer(step.deviation, torch.float64)
        self.limit = step.clip or float("inf")

    def forward(self, x: Tensor) -> Tensor:
        normal = (x.to(torch.float64) - self.mean) / self.deviation
        return torch.clamp(normal, -self.limit, self.limit).to(torch.float32)


class _Divide(nn.Module):
    def __init__(self, step: Divide) -> None:
        super().__init__()
        self.divisors = _buffer(step.divisors, torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.float32) / self.divisors


class _TakenColumns(nn.Module):
    def __init__(self, step: Columns) -> None:
        super().__init__()
        self.first, self.last, self.shape = step.first, step.last, _sizes(step.shape)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.first : self.last].reshape([x.shape[0]] + self.shape)  # noqa: RUF005 (scripts know no other way)


class _ChannelsToFront(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class _Convolution(nn.Module):
    def __init__(self, step: Convolution2D) -> None:
        super().__init__()
        self.weight = _buffer(step.weight, torch.float32)
        self.bias = _buffer(step.bias, torch.float32)
        self.stride, self.padding = step.stride, step.padding

    def forward(self, x: Tensor) -> Tensor:
        images = x.to(torch.float32)
        return F.conv2d(images, self.weight, self.bias, stride=self.stride, padding=self.padding)


class _Branches(nn.Module):
    def __init__(self, step: Branches) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*_modules(one)) for one in step.branches)

    def forward(self, x: Tensor) -> Tensor:
        made: list[Tensor] = []
        for branch in self.branches:
            made.append(branch(x))
        return torch.cat(made, 1)


def _head(graph: InferenceGraph) -> nn.Module:
    head = graph.head
    return _Stretched(head) if isinstance(head, Stretch) else _Chosen(head)


class _Stretched(nn.Module):
    def __init__(self, head: Stretch) -> None:
        super().__init__()
        self.middle = _buffer(head.middle, torch.float64)
        self.reach = _buffer(head.half, torch.float64)
        self.low = _buffer(head.low, torch.float64)
        self.high = _buffer(head.high, torch.float64)
        self.rounds, self.shape = head.rounds, _sizes(head.shape)
        self.dtype = getattr(torch, head.dtype)

    def forward(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        x = self.middle + self.reach * torch.tanh(scores.to(torch.float64))
        x = torch.maximum(torch.minimum(x, self.high), self.low)
        if self.rounds:
            x = torch.round(x)
        return x.to(self.dtype).reshape([x.shape[0]] + self.shape)  # noqa: RUF005 (scripts know no other way)


class _Chosen(nn.Module):
    def __init__(self, head: Choose) -> None:
        super().__init__()
        self.blocks = [(one.first, one.count, one.size) for one in head.blocks]
        self.starts = _buffer(head.starts, torch.int64)
        self.shape, self.lowest = _sizes(head.shape), float(np.finfo(np.float32).min)
        self.dtype = getattr(torch, head.dtype)

    def forward(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        best: list[Tensor] = []
        for first, count, size in self.blocks:
            ours = scores[:, first : first + count * size].reshape(-1, count, size)
            if mask is not None:
                allowed = mask[:, first : first + count * size].reshape(-1, count, size) != 0
                allowed = allowed | ~allowed.any(2, keepdim=True)
                ours = torch.clamp(ours, min=self.lowest).masked_fill(~allowed, -float("inf"))
            best.append(torch.argmax(ours, 2))
        actions = torch.cat(best, 1) + self.starts
        return actions.to(self.dtype).reshape([scores.shape[0]] + self.shape)  # noqa: RUF005 (scripts know no other way)
