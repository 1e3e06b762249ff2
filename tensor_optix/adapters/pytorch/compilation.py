"""PyTorch as a backend whose updates are compiled: forward, loss, backward and clipping are one call.

The optimizer's step stays the user's own optimizer's. On one CPU core, an update of two 64-64 perceptrons
takes a third of the time; compiling takes seconds per loss, and a C++ compiler.

A function is traced once per signature, backward pass included, and handed to TorchInductor without the
guards of `torch.compile`: checking them took 0.1 ms a call, where the gradients of PPO take 0.15 ms. What
is compiled therefore must depend on nothing but its arguments and the tensors it finds in networks.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, fx, nn

from tensor_optix.adapters.backend import Backend
from tensor_optix.adapters.pytorch.gradient_descent import TorchGradientDescent

if TYPE_CHECKING:
    from tensor_optix.adapters.backend import LossFn, Update, UpdateLoop
    from tensor_optix.core.types import Array

logger = logging.getLogger(__name__)

TensorFunction: TypeAlias = Callable[..., dict[str, Tensor]]
"""`(*mappings of names to tensors) -> tensors by name`."""

MOST_SIGNATURES = 8
"""Signatures that one function is compiled for: a bound on the time spent, where sizes keep changing."""
INDUCTOR_OPTIONS = {"cpp_wrapper": True, "compile_threads": 1}
"""A C++ frame around the kernels saves a fifth of the time of a call; no pool of processes compiles them."""


def compiled_backend(eager: Backend) -> Backend:
    """Return the functions of PyTorch's backend, those of updates compiled; to be called for each agent."""
    compiler = Compiler()

    def gradient_descent(
        loss_fn: LossFn, networks: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
    ) -> CompiledGradientDescent:
        return CompiledGradientDescent(loss_fn, networks, optimizer, compiler)

    def without_gradient(fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return _compiled_without_gradient(eager.without_gradient(fn), compiler)

    def update_loop(
        update: Update, networks: Sequence[nn.Module], is_pure: bool = True
    ) -> UpdateLoop:
        if not is_pure:
            return eager.update_loop(update, networks, is_pure)
        return _InductorUpdates(update, networks, eager, compiler)

    names = [name for name in vars(Backend) if not name.startswith("_")]
    functions = {name: getattr(eager, name) for name in names}
    functions |= {
        "gradient_descent": gradient_descent,
        "without_gradient": without_gradient,
        "update_loop": update_loop,
    }
    return cast("Backend", SimpleNamespace(**functions))


class _InductorUpdates:
    """Updates with consecutive minibatches, those with whole ones compiled.

    A short minibatch, whose size may be another every time, is an eager update.
    """

    def __init__(
        self, update: Update, networks: Sequence[nn.Module], eager: Backend, compiler: Compiler
    ) -> None:
        self._update = update
        self._compiler = compiler
        self._whole = 0
        # What is compiled is not recorded as well.
        self._loop = eager.update_loop(self._make_one, networks, False)

    def __call__(
        self, fields: Mapping[str, Array], minibatch_size: int, scalars: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        """Make them: `(fields [R, ...], B, scalars) -> (means of the diagnostics, rows [R])`."""
        self._whole = minibatch_size
        return self._loop(fields, minibatch_size, scalars)

    def _make_one(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        self._compiler.is_engaged = len(next(iter(batch.values()))) == self._whole
        try:
            return self._update(batch, scalars)
        finally:
            self._compiler.is_engaged = False


class CompiledGradientDescent(TorchGradientDescent):
    """Gradient descent whose gradients are one compiled call, where the compiler is engaged.

    Elsewhere, and where compiling fails, an update is an eager one.

    Args:
        loss_fn: As for `TorchGradientDescent`, and so are `networks` and `optimizer`.
        networks: By the names that errors call them.
        optimizer: Holds exactly their trainable parameters.
        compiler: Of all updates that belong together.
    """

    def __init__(
        self,
        loss_fn: LossFn,
        networks: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        compiler: Compiler,
    ) -> None:
        super().__init__(loss_fn, networks, optimizer)
        self._compiled = InductorFunction(self._clipped_gradients, compiler)

    def step(self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make one update; diagnostics, `grad_norm` and `skipped` go out."""
        outputs = self._compiled(batch, scalars)
        if outputs is None:
            return super().step(batch, scalars)
        self._gradients.assign([outputs.pop(name) for name in self._gradients.names])
        return outputs | {"skipped": self._apply(bool(outputs.pop("is_finite")))}

    def _clipped_gradients(
        self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the gradients, scaled down to the largest norm allowed, and the diagnostics."""
        leaves = self._gradients.tensors
        loss, diagnostics = self._loss_fn(batch, scalars)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        flat = self._gradients.flatten(gradients)
        norms = [torch.linalg.vector_norm(gradient) for gradient in flat]
        norm = torch.linalg.vector_norm(torch.stack(norms))
        if "max_grad_norm" in scalars:
            most = scalars["max_grad_norm"]
            for group in self._gradients.groups:
                own = torch.linalg.vector_norm(torch.stack([norms[number] for number in group]))
                scale = torch.where(own > most, most / own, 1.0)
                for number in group:
                    flat[number] = flat[number] * scale
        named = dict(zip(self._gradients.names, flat, strict=True))
        is_finite = torch.isfinite(norm) & torch.isfinite(loss)
        return {**diagnostics, **named, "grad_norm": norm, "is_finite": is_finite}


def _compiled_without_gradient(
    eager: Callable[..., Tensor], compiler: Compiler
) -> Callable[..., Tensor]:
    compiled = InductorFunction(lambda batch: {"result": eager(batch)}, compiler)

    def call(batch: Mapping[str, Tensor]) -> Any:
        outputs = compiled(batch)
        return eager(batch) if outputs is None else outputs["result"]

    return call


class Compiler:
    """Compiles functions; the first that cannot be compiled ends it, with a warning.

    One that fails for want of a C++ compiler would fail for all, after seconds each.
    """

    def __init__(self) -> None:
        self.count = 0
        """How many graphs were compiled."""
        self.is_usable = True
        self.is_engaged = False
        """Whether the update being made has a whole minibatch: its shapes are the same every time."""

    def compile(
        self, fn: TensorFunction, arguments: Sequence[Mapping[str, Tensor]]
    ) -> _Graph | None:
        """Return a function as a graph for arguments like these; None where that is impossible."""
        if not self.is_usable:
            return None
        # What the function calls becomes part of its graph.
        self.is_engaged = False
        try:
            graph = _compile(fn, arguments)
        # Whatever goes wrong in a user's network, a compiler or a cache, updates can be made without.
        except Exception as error:
            self.is_usable = False
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            logger.warning(
                "updates run uncompiled, which changes their speed only: compiling needs a C++ compiler "
                "and networks that can be traced, and failed with %s: %s",
                type(error).__name__,
                reason,
            )
            return None
        finally:
            self.is_engaged = True
        self.count += 1
        return graph


class InductorFunction:
    """A function that is compiled for each signature of its arguments when it first comes.

    Args:
        fn: Reads nothing but its arguments and the tensors of networks, which may change in place.
        compiler: Of all functions that are to be given up together.
    """

    def __init__(self, fn: TensorFunction, compiler: Compiler) -> None:
        self._fn = fn
        self._compiler = compiler
        self._graphs: dict[tuple[Any, ...], _Graph | None] = {}

    def __call__(self, *arguments: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return the function's tensors, without gradients; None where it is not compiled."""
        if not self._compiler.is_engaged:
            return None
        signature = tuple(
            (name, tensor.shape, tensor.dtype, tensor.stride())
            for mapping in arguments
            for name, tensor in mapping.items()
        )
        if signature not in self._graphs:
            self._graphs[signature] = self._new_graph(arguments)
        graph = self._graphs[signature]
        return None if graph is None else graph(arguments)

    def _new_graph(self, arguments: Sequence[Mapping[str, Tensor]]) -> _Graph | None:
        if len(self._graphs) < MOST_SIGNATURES:
            return self._compiler.compile(self._fn, arguments)
        if len(self._graphs) == MOST_SIGNATURES:
            logger.warning(
                "minibatches came in %d sizes and were compiled for each; further ones run uncompiled",
                MOST_SIGNATURES,
            )
        return None


class _Graph(NamedTuple):
    """A compiled graph of one signature."""

    run: Callable[..., Sequence[Tensor]]
    found: list[Tensor]
    """The tensors that the function found in networks; the graph takes them after its arguments."""
    names: list[str]
    """Of what goes out."""

    def __call__(self, arguments: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        flat = [tensor for mapping in arguments for tensor in mapping.values()]
        with torch.no_grad():
            outputs = self.run(*flat, *self.found)
        return dict(zip(self.names, outputs, strict=True))


def _compile(fn: TensorFunction, arguments: Sequence[Mapping[str, Tensor]]) -> _Graph:
    # Imported where it is needed, because it takes a second.
    from torch._inductor import compile as compile_graph

    module, names = _trace(fn, arguments)
    found = _lift_found_tensors(module)
    examples: list[Any] = [tensor for mapping in arguments for tensor in mapping.values()]
    examples += [tensor.detach() for tensor in found]
    with torch.no_grad(), warnings.catch_warnings():
        # About its own deprecated parts, which are no concern of the user's.
        warnings.simplefilter("ignore")
        run = compile_graph(module, examples, options=INDUCTOR_OPTIONS)
        run(*examples)
    return _Graph(run, found, names)


def _trace(
    fn: TensorFunction, arguments: Sequence[Mapping[str, Tensor]]
) -> tuple[fx.GraphModule, list[str]]:
    """Return the operations of one call as a graph, and the names of what goes out."""
    from torch.fx.experimental.proxy_tensor import make_fx

    names: list[str] = []

    def flat_fn(tensors: list[Tensor]) -> list[Tensor]:
        remaining = iter(tensors)
        outputs = fn(*({name: next(remaining) for name in mapping} for mapping in arguments))
        names.extend(outputs)
        return [tensor.detach() for tensor in outputs.values()]

    flat = [tensor for mapping in arguments for tensor in mapping.values()]
    return make_fx(flat_fn)(flat), names


def _lift_found_tensors(module: fx.GraphModule) -> list[Tensor]:
    """Turn the tensors that a graph holds into arguments behind the others, and return them."""
    graph = module.graph
    graph.set_codegen(fx.graph.CodeGen())
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    lifted: dict[str, fx.Node] = {}
    for node in list(graph.nodes):
        # What tracing noted of shapes would contradict what the compiler is going to note.
        node.meta.clear()
        if node.op != "get_attr":
            continue
        if node.target not in lifted:
            with graph.inserting_after(last):
                last = lifted[node.target] = graph.placeholder(f"found_{len(lifted)}")
        node.replace_all_uses_with(lifted[node.target])
        graph.erase_node(node)
    module.recompile()
    return [getattr(module, name) for name in lifted]
