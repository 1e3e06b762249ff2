"""PyTorch's perceptrons and optimizers as the native engine reads them: their own memory."""

from __future__ import annotations

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
OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)


class TorchPerceptron:
    """A PyTorch network of linear layers: a `PerceptronSource`.

    Raises:
        NotNative: If it is anything else.
    """

    encoding = ()

    def __init__(self, name: str, network: nn.Module) -> None:
        self._dense: list[tuple[nn.Linear, Activation]] = []
        for layer in _flat(name, network):
            self._add(name, layer)
        if not self._dense:
            raise NotNative(f"the {name} has no linear layer")
        self._parameters = [p for layer, _ in self._dense for p in layer.parameters()]
        for parameter in self._parameters:
            if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
                raise NotNative(f"the {name} is {parameter.dtype} on {parameter.device.type}")

    def _add(self, name: str, layer: nn.Module) -> None:
        kind = type(layer)
        if kind is nn.Linear:
            self._dense.append((layer, Activation.IDENTITY))  # type: ignore[arg-type]
        elif kind is nn.Identity or (kind in (nn.Flatten, TorchFlatten) and not self._dense):
            return
        elif kind in ACTIVATIONS and self._dense and self._dense[-1][1] is Activation.IDENTITY:
            if getattr(layer, "alpha", 1.0) != 1.0:
                raise NotNative(f"the {name} has an ELU of another alpha than 1")
            self._dense[-1] = (self._dense[-1][0], ACTIVATIONS[kind])
        else:
            raise NotNative(f"the {name} has a {kind.__name__} layer where the engine knows none")

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """The weight and the bias of each layer in order."""
        return self._parameters

    def places(self) -> tuple[int, ...]:
        """Return the addresses of the parameters."""
        return tuple([parameter.data_ptr() for parameter in self._parameters])

    def layers(self) -> list[DenseView]:
        """Return the layers in order."""
        return [
            DenseView(
                _array(layer.weight), None if layer.bias is None else _array(layer.bias), kind, True
            )
            for layer, kind in self._dense
        ]


class TorchOptimizer:
    """Adam, AdamW or SGD of PyTorch over some parameters: an `OptimizerSource`.

    Its state is made where there is none yet, as its own first step would.

    Raises:
        NotNative: If it is anything else, or has settings that the engine does not know.
    """

    step: Array | None = None

    def __init__(
        self, name: str, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]
    ) -> None:
        if type(optimizer) not in OPTIMIZERS:
            raise NotNative(f"the {name} is a {type(optimizer).__name__}")
        if len(optimizer.param_groups) != 1:
            raise NotNative(f"the {name} has {len(optimizer.param_groups)} groups of parameters")
        (group,) = optimizer.param_groups
        for setting in ("amsgrad", "maximize", "capturable", "differentiable", "dampening"):
            if group.get(setting):
                raise NotNative(f"the {name} has {setting}={group[setting]}")
        if len({id(parameter) for parameter in parameters}) < len(parameters):
            raise NotNative(f"the networks of the {name} share weights")
        self._optimizer = optimizer
        self._parameters = list(parameters)
        self._is_sgd = type(optimizer) is torch.optim.SGD
        self.rule = Rule.SGD if self._is_sgd else Rule.ADAM
        # AdamW is an Adam whose groups say so.
        self.is_decoupled = bool(group.get("decoupled_weight_decay", False))
        self.is_nesterov = bool(group.get("nesterov", False))

    def places(self) -> tuple[int, ...]:
        """Return the addresses of the parameters and of their state."""
        return tuple(
            [p.data_ptr() for p in self._parameters]
            + [
                tensor.data_ptr()
                for p in self._parameters
                for tensor in self._state(p).values()
                if tensor is not None
            ]
        )

    def settings(self) -> OptimizerSettings:
        """Return the settings of the one group of parameters."""
        (group,) = self._optimizer.param_groups
        rate, decay = float(group["lr"]), float(group["weight_decay"])
        if self._is_sgd:
            return OptimizerSettings(rate, beta1=float(group["momentum"]), decay=decay)
        beta1, beta2 = group["betas"]
        return OptimizerSettings(rate, float(beta1), float(beta2), float(group["eps"]), decay)

    def leaves(self) -> list[LeafView]:
        """Return the parameters with their state."""
        return [self._leaf(parameter) for parameter in self._parameters]

    def _leaf(self, parameter: nn.Parameter) -> LeafView:
        state = self._state(parameter)
        if self._is_sgd:
            momentum = state.get("momentum_buffer")
            return LeafView(
                _array(parameter), None if momentum is None else _array(momentum), None, None
            )
        return LeafView(
            _array(parameter),
            _array(state["exp_avg"]),
            _array(state["exp_avg_sq"]),
            _array(state["step"]).reshape(1),
        )

    def _state(self, parameter: nn.Parameter) -> dict[str, Any]:
        """Return an optimizer's state for a parameter, which is made before the first step."""
        state: dict[str, Any] = self._optimizer.state[parameter]
        if state:
            return state
        (group,) = self._optimizer.param_groups
        if not self._is_sgd:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        elif group["momentum"]:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state


def _flat(name: str, network: nn.Module) -> list[nn.Module]:
    """Return the layers of nested Sequentials in order."""
    if type(network) is not nn.Sequential:
        return [network]
    return [layer for part in network for layer in _flat(name, part)]


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().numpy()
    return array
