"""PyTorch's perceptrons and optimizers as the native engine reads them: their own memory."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tensor_optix.adapters.native.views import (
    Activation,
    DenseView,
    LeafView,
    NotNative,
    OptimizerSettings,
    Rule,
)
from tensor_optix.adapters.pytorch.layers import TorchFlatten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array

ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Tanh: Activation.TANH,
    nn.ReLU: Activation.RELU,
    nn.ELU: Activation.ELU,
    nn.SiLU: Activation.SILU,
}
UNKNOWN = ("amsgrad", "maximize", "capturable", "differentiable", "dampening")
"""Settings of optimizers that the engine does not follow."""
OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
PARTS = ("_modules", "_parameters")
OWN_CALLS = ("forward", "_compiled_call_impl")
"""What a module has of its own if it was compiled, or is not called as others of its class."""
MODULE_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
"""PyTorch tells of hooks by these names alone."""
_LOOK = attrgetter("requires_grad", *PARAMETER_HOOKS)
SCHEDULED = "_wrapped_by_lr_sched"
"""How PyTorch marks an optimizer's `step` that a scheduler wrapped, to see whether it was called."""


class TorchPerceptron:
    """A PyTorch network of linear layers: a `PerceptronSource`.

    Raises:
        NotNative: If it is anything else, or has become so.
    """

    encoding = ()

    def __init__(self, name: str, network: nn.Module) -> None:
        self._name = name
        self.flattens = False
        self._dense: list[tuple[nn.Linear, Activation]] = []
        for layer in _flat(network):
            self._add(layer)
        if not self._dense:
            raise NotNative(f"the {name} has no linear layer")
        self._parameters = [p for layer, _ in self._dense for p in layer.parameters()]
        self._modules = list(network.modules())
        for module in self._modules:
            if not vars(module).keys().isdisjoint(OWN_CALLS):
                raise NotNative(f"the {name} is compiled, or has a forward of its own")
        self._hooks = [getattr(module, kind) for module in self._modules for kind in MODULE_HOOKS]
        self._held = [vars(module)[kind] for module in self._modules for kind in PARTS]
        self._at_first = self._parts()

    def _add(self, layer: nn.Module) -> None:
        kind, name = type(layer), self._name
        if kind is nn.Linear:
            self._dense.append((layer, Activation.IDENTITY))  # type: ignore[arg-type]
        elif _flattens(layer) and not self._dense:
            self.flattens = True
        elif kind in ACTIVATIONS and self._dense and self._dense[-1][1] is Activation.IDENTITY:
            if getattr(layer, "alpha", 1.0) != 1.0:
                raise NotNative(f"the {name} has an ELU of another alpha than 1")
            self._dense[-1] = (self._dense[-1][0], ACTIVATIONS[kind])
        elif kind is not nn.Identity:
            raise NotNative(f"the {name} has a {kind.__name__} layer where the engine knows none")

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """The weight and the bias of each layer in order."""
        return self._parameters

    def places(self) -> tuple[int, ...]:
        """Return the addresses of the parameters."""
        if any(self._hooks):
            raise NotNative(f"the {self._name} has hooks")
        if self._parts() != self._at_first:
            raise NotNative(f"the {self._name} was given other layers or parameters")
        return tuple([parameter.data_ptr() for parameter in self._parameters])

    def layers(self) -> list[DenseView]:
        """Return the layers in order."""
        return [self._view(layer, activation) for layer, activation in self._dense]

    def _parts(self) -> list[int]:
        """Return the identities of all modules and parameters within the network."""
        return [id(one) for held in self._held for one in held.values()]

    def _view(self, layer: nn.Linear, activation: Activation) -> DenseView:
        bias = None if layer.bias is None else _array(self._name, layer.bias)
        return DenseView(_array(self._name, layer.weight), bias, activation, True)


class TorchOptimizer:
    """Adam, AdamW or SGD of PyTorch over some parameters: an `OptimizerSource`.

    Its state is made where there is none yet, as its own first step would.

    Raises:
        NotNative: If it is anything else, has settings that the engine does not know, or has come to have.
    """

    step: Array | None = None

    def __init__(
        self, name: str, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]
    ) -> None:
        if type(optimizer) not in OPTIMIZERS:
            raise NotNative(f"the {name} is a {type(optimizer).__name__}")
        self._name = name
        self._optimizer = optimizer
        self._parameters = list(parameters)
        self._identities = set(map(id, parameters))
        self._announced: Any = None
        self._is_sgd = type(optimizer) is torch.optim.SGD
        self.rule = Rule.SGD if self._is_sgd else Rule.ADAM
        self._kept = ("momentum_buffer",) if self._is_sgd else ("exp_avg", "exp_avg_sq", "step")
        self.is_decoupled, self.is_nesterov = self._variant()
        self._require_known()

    @property
    def _group(self) -> dict[str, Any]:
        group: dict[str, Any] = self._optimizer.param_groups[0]
        return group

    def _variant(self) -> tuple[bool, bool]:
        """Whether weights decay apart (AdamW is an Adam whose groups say so), and momentum is Nesterov's."""
        group = self._group
        return bool(group.get("decoupled_weight_decay")), bool(group.get("nesterov"))

    def places(self) -> tuple[int, ...]:
        """Return the addresses of the parameters and of their state."""
        self._require_known()
        tensors = [one for p in self._parameters for one in (p, *self._state(p))]
        return tuple([tensor.data_ptr() for tensor in tensors])

    def settings(self) -> OptimizerSettings:
        """Return the settings of the one group of parameters; steps by them follow."""
        self._announce_steps()
        group = self._group
        rate, decay = float(group["lr"]), float(group["weight_decay"])
        if self._is_sgd:
            return OptimizerSettings(rate, beta1=float(group["momentum"]), decay=decay)
        beta1, beta2 = group["betas"]
        return OptimizerSettings(rate, float(beta1), float(beta2), float(group["eps"]), decay)

    def leaves(self) -> list[LeafView]:
        """Return the parameters with their state."""
        return [self._leaf(parameter) for parameter in self._parameters]

    def _require_known(self) -> None:
        optimizer, name, group = self._optimizer, self._name, self._group
        if len(optimizer.param_groups) != 1:
            raise NotNative(f"the {name} has {len(optimizer.param_groups)} groups of parameters")
        if set(map(id, group["params"])) != self._identities:
            raise NotNative(f"the {name} holds other parameters than those of its networks")
        for setting in UNKNOWN:
            if group.get(setting):
                raise NotNative(f"the {name} has {setting}={group[setting]}")
        if self._variant() != (self.is_decoupled, self.is_nesterov):
            raise NotNative(f"the {name} was given another kind of decay or of momentum")
        if any(getattr(optimizer, kind) for kind in STEP_HOOKS):
            raise NotNative(f"the {name} has hooks")
        step = vars(optimizer).get("step")
        if step is not None and not hasattr(step, SCHEDULED):
            raise NotNative(f"the {name} has a step of its own")
        for is_learned, *hooks in map(_LOOK, self._parameters):
            if not is_learned:
                raise NotNative(f"the {name} holds frozen parameters")
            if any(hooks):
                raise NotNative(f"the {name} holds parameters with hooks")

    def _announce_steps(self) -> None:
        """Let a scheduler that wrapped `step` see one, as it warns of rates that change before any."""
        step = vars(self._optimizer).get("step")
        if step is None or step is self._announced:
            return
        self._announced = step
        gradients = [parameter.grad for parameter in self._parameters]
        for parameter in self._parameters:
            # Without a gradient none is moved.
            parameter.grad = None
        step()
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient

    def _leaf(self, parameter: nn.Parameter) -> LeafView:
        values, *state = (_array(self._name, one) for one in (parameter, *self._state(parameter)))
        if self._is_sgd:
            return LeafView(values, state[0] if state else None, None, None)
        mean, squares, step = state
        return LeafView(values, mean, squares, step.reshape(1))

    def _state(self, parameter: nn.Parameter) -> list[torch.Tensor]:
        """Return an optimizer's state for a parameter, which is made before the first step."""
        if self._is_sgd and not self._group["momentum"]:
            return []
        state: dict[str, Any] = self._optimizer.state[parameter]
        if not state:
            state |= self._first_state(parameter)
        found = [state.get(name) for name in self._kept]
        for one in found:
            if not isinstance(one, torch.Tensor):
                raise NotNative(f"the {self._name} has a state without {' or '.join(self._kept)}")
        return found  # type: ignore[return-value]

    def _first_state(self, parameter: nn.Parameter) -> dict[str, torch.Tensor]:
        def zeros() -> torch.Tensor:
            return torch.zeros_like(parameter, memory_format=torch.preserve_format)

        if self._is_sgd:
            return {"momentum_buffer": zeros()}
        step = torch.zeros((), dtype=torch.float32)
        return {"step": step, "exp_avg": zeros(), "exp_avg_sq": zeros()}


def _flat(network: nn.Module) -> list[nn.Module]:
    """Return the layers of nested Sequentials in order."""
    if type(network) is not nn.Sequential:
        return [network]
    return [layer for part in network for layer in _flat(part)]


def _flattens(layer: nn.Module) -> bool:
    """Whether a layer makes `[B, F]` of `[B, ...]`."""
    if type(layer) is nn.Flatten:
        return bool(layer.start_dim == 1 and layer.end_dim == -1)
    return type(layer) is TorchFlatten


def _array(name: str, tensor: torch.Tensor) -> Array:
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
        raise NotNative(f"the {name} is {tensor.dtype} on {tensor.device.type}")
    if not tensor.is_contiguous():
        raise NotNative(f"the {name} has weights that do not lie side by side")
    array: Array = tensor.detach().numpy()
    return array
