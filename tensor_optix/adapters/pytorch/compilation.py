"""Functions of tensors compiled as one graph each, at fixed shapes: dictionaries come in and go out.

A function is traced once per signature, backward pass included, and handed to TorchInductor without the
guards of `torch.compile`: checking them took 0.1 ms a call, where the gradients of PPO take 0.15 ms. What
is compiled therefore must depend on nothing but its arguments and the tensors it finds in networks.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, fx

logger = logging.getLogger(__name__)

TensorFunction: TypeAlias = Callable[..., dict[str, Tensor]]
"""`(*mappings of names to tensors) -> tensors by name`."""

MOST_SIGNATURES = 8
"""Signatures that one function is compiled for: a bound on the time spent, where sizes keep changing."""
INDUCTOR_OPTIONS = {"cpp_wrapper": True, "compile_threads": 1}
"""A C++ frame around the kernels saves a fifth of the time of a call; no pool of processes compiles them."""


class FixedShapes(dict[str, Tensor]):
    """Tensors of a whole minibatch, or what goes with them: their shapes are the same in every update."""


class Compiler:
    """Compiles functions; the first that cannot be compiled ends it, with a warning.

    One that fails for want of a C++ compiler would fail for all, after seconds each.
    """

    def __init__(self) -> None:
        self.count = 0
        """How many graphs were compiled."""
        self.is_usable = True

    def compile(
        self, fn: TensorFunction, arguments: Sequence[Mapping[str, Tensor]]
    ) -> _Graph | None:
        """Return a function as a graph for arguments like these; None where that is impossible."""
        if not self.is_usable:
            return None
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
        self.count += 1
        return graph


class CompiledFunction:
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
