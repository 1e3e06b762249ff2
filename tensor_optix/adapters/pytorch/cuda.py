"""PyTorch's updates on a GPU: windows go there once, updates are made without waiting for it.

What an update decides, it decides on the device: whether it is left out (a fused Adam reads that from a
tensor), by how much gradients are scaled down, what diagnostics sum up to. A loop reads one answer per call.
Updates with whole minibatches of networks made of known layers are recorded as a CUDA graph, which is used
once it has made the very update that the eager one makes; all others run eagerly.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from tensor_optix.adapters.backend import Backend, UpdateTally
from tensor_optix.adapters.pytorch.gradient_descent import (
    TorchGradientDescent,
    has_hooks,
    leaves_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from tensor_optix.adapters.backend import LossFn, Update, UpdateLoop
    from tensor_optix.core.types import Array

logger = logging.getLogger(__name__)

WARM_UPS = 3
"""Eager updates before one is recorded, in which libraries choose their algorithms and allocate."""
SAME_UPDATE = 0.05
"""A recorded update is the eager one if each tensor differs, in the mean, by this share of what it moved."""
ROUNDING = 1e-6
"""Or by this share of its size."""
KNOWN_LAYERS = ("torch.", "tensor_optix.")
"""Where modules come from whose forward pass is the same operations every time."""


class Place(Protocol):
    """Where updates are made."""

    device: torch.device

    def running(self) -> AbstractContextManager[None]:
        """Return a context whose work comes after what was begun before, and before what is begun later."""

    def settle(self) -> None:
        """Wait until all work is done."""

    def staging(self, size: int, dtype: torch.dtype) -> Tensor:
        """Return memory of the host that is copied from without waiting, `[size]`."""

    def record(self, fn: Callable[[], None]) -> Callable[[], None]:
        """Record what a function does to tensors, without doing it; return what does it."""


class CudaPlace:
    """A GPU with a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Return a context of work on the stream."""
        outer = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(outer)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            outer.wait_stream(self._stream)

    def settle(self) -> None:
        """Wait for the stream."""
        self._stream.synchronize()

    def staging(self, size: int, dtype: torch.dtype) -> Tensor:
        """Return pinned memory."""
        return torch.empty(size, dtype=dtype, pin_memory=True)

    def record(self, fn: Callable[[], None]) -> Callable[[], None]:
        """Return the replay of a CUDA graph."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may use the GPU meanwhile.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            fn()
        return graph.replay


def cuda_backend(eager: Backend, place: Place, records: bool = True) -> Backend:
    """Return the functions of PyTorch's backend, those of updates for a GPU; to be called for each agent.

    Args:
        eager: The functions that the others are taken of.
        place: Where the networks are.
        records: Whether updates are recorded.
    """
    trace, windows = UpdateTrace(), Staging(place)

    def gradient_descent(
        loss_fn: LossFn, networks: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer
    ) -> DeviceGradientDescent:
        return DeviceGradientDescent(loss_fn, networks, optimizer, trace)

    def blend(targets: nn.Module, networks: nn.Module, rate: Tensor | float) -> None:
        if isinstance(rate, Tensor):
            trace.blended(targets)
            _blend(targets, networks, rate)
        else:
            eager.blend(targets, networks, rate)

    def resident(fields: Mapping[str, Array]) -> Callable[[Array], dict[str, Tensor]]:
        with place.running():
            tensors = windows.load(fields)

        def rows_of(rows: Array) -> dict[str, Tensor]:
            with place.running():
                index = torch.from_numpy(rows).to(place.device)
                return {name: tensor.index_select(0, index) for name, tensor in tensors.items()}

        return rows_of

    def update_loop(
        update: Update, networks: Sequence[nn.Module], is_pure: bool = True
    ) -> UpdateLoop:
        return DeviceUpdates(update, networks, place, trace, records and is_pure)

    names = [name for name in vars(Backend) if not name.startswith("_")]
    functions = {name: getattr(eager, name) for name in names}
    functions |= {
        "gradient_descent": gradient_descent,
        "blend": blend,
        "resident": resident,
        "update_loop": update_loop,
    }
    return cast("Backend", SimpleNamespace(**functions))


def _blend(targets: nn.Module, networks: nn.Module, rate: Tensor) -> None:
    """Move weights by a rate that is on the device; 1 copies, also what is not finite."""
    is_copy = rate == 1.0
    with torch.no_grad():
        for slow, fast in zip(leaves_of(targets), leaves_of(networks), strict=True):
            moved = torch.lerp(slow.tensor, fast.tensor, rate.to(slow.tensor.dtype))
            slow.tensor.copy_(torch.where(is_copy, fast.tensor, moved))
        for target, source in zip(targets.buffers(), networks.buffers(), strict=True):
            target.copy_(source)


class Staging:
    """Arrays on their way to a device, through memory that is used again: that of the call before."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._buffers: dict[tuple[str, torch.dtype], tuple[Tensor, Tensor]] = {}

    def load(self, fields: Mapping[str, Array | Tensor]) -> dict[str, Tensor]:
        """Return fields as tensors on the device, valid until the next call; those that are there stay."""
        # Where an update raised an error, copies may still be under way.
        self._place.settle()
        return {
            name: field if isinstance(field, Tensor) else self._copy(name, field)
            for name, field in fields.items()
        }

    def _copy(self, name: str, array: Array) -> Tensor:
        field = torch.from_numpy(np.ascontiguousarray(array))
        key, size = (name, field.dtype), field.numel()
        if key not in self._buffers or self._buffers[key][0].numel() < size:
            there = torch.empty(size, dtype=field.dtype, device=self._place.device)
            self._buffers[key] = (self._place.staging(size, field.dtype), there)
        here, there = (buffer[:size].view(field.shape) for buffer in self._buffers[key])
        here.copy_(field)
        return there.copy_(here, non_blocking=True)


class UpdateTrace:
    """What the update being made touches; shared by the functions of one agent."""

    def __init__(self) -> None:
        self._touched: Touched | None = None

    @contextmanager
    def into(self, touched: Touched) -> Iterator[None]:
        """Return a context in which everything is noted."""
        self._touched = touched
        try:
            yield
        finally:
            self._touched = None

    def stepped(self, descent: DeviceGradientDescent) -> None:
        """Note a step."""
        if self._touched is not None:
            self._touched.descents[id(descent)] = descent

    def blended(self, targets: nn.Module) -> None:
        """Note targets that follow."""
        if self._touched is not None:
            self._touched.targets[id(targets)] = targets


class Touched:
    """What one update changes.

    Attributes:
        descents: By their identity.
        targets: Likewise, the networks that follow others.
    """

    def __init__(self) -> None:
        self.descents: dict[int, DeviceGradientDescent] = {}
        self.targets: dict[int, nn.Module] = {}

    def written(self) -> list[Tensor] | None:
        """Return the tensors that are changed; None where not all is decided on the device."""
        tensors: list[Tensor] = []
        for descent in self.descents.values():
            own = descent.written()
            if own is None:
                return None
            tensors += own
        for target in self.targets.values():
            tensors += [*(leaf.tensor for leaf in leaves_of(target)), *target.buffers()]
        return tensors


class DeviceGradientDescent(TorchGradientDescent):
    """Gradient descent whose updates are left out by the device, where the optimizer is a fused Adam.

    Elsewhere the host waits for each update to tell whether it is finite.

    Args:
        loss_fn: As for `TorchGradientDescent`, and so are `networks` and `optimizer`.
        networks: By the names that errors call them.
        optimizer: Holds exactly their trainable parameters.
        trace: Of all updates that belong together.
    """

    def __init__(
        self,
        loss_fn: LossFn,
        networks: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        trace: UpdateTrace,
    ) -> None:
        super().__init__(loss_fn, networks, optimizer)
        self._trace = trace
        self._is_adam = isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW)
        device = self._gradients.tensors[0].device
        self._rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]

    def step(self, batch: Mapping[str, Tensor], scalars: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Make one update; diagnostics, `grad_norm` and `skipped` go out."""
        self._trace.stepped(self)
        if not self._is_fused():
            return super().step(batch, scalars)
        loss, diagnostics = self._backward(batch, scalars)
        norm = self._gradients.clip_there(scalars.get("max_grad_norm"))
        skipped = (~(torch.isfinite(norm) & torch.isfinite(loss.detach()))).float()
        self._optimizer.found_inf = skipped  # type: ignore[attr-defined]
        try:
            self._optimizer.step()
        finally:
            # The user's own steps are made whatever the last of ours found.
            del self._optimizer.found_inf  # type: ignore[attr-defined]
        return diagnostics | {"grad_norm": norm.float(), "skipped": skipped}

    def _is_fused(self) -> bool:
        # Asked again, because a stored state brings its groups' settings along.
        return self._is_adam and all(group["fused"] for group in self._optimizer.param_groups)

    def written(self) -> list[Tensor] | None:
        """Return parameters, moments and step counts; None where a step cannot be recorded."""
        if not self._is_fused() or has_hooks(self._optimizer):
            return None
        groups = self._optimizer.param_groups
        tensors: list[Tensor] = []
        for parameter in (p for group in groups for p in group["params"] if p.requires_grad):
            state = self._optimizer.state.get(parameter)
            if not state:
                return None
            tensors += [
                parameter,
                *(value for value in state.values() if isinstance(value, Tensor)),
            ]
        return tensors

    def settings(self) -> list[dict[str, Any]]:
        """Return what a recorded step has in it: all that its groups are set to, but the learning rates."""
        groups = self._optimizer.param_groups
        return [{k: v for k, v in one.items() if k not in ("params", "lr")} for one in groups]

    @contextmanager
    def recordable(self) -> Iterator[None]:
        """Return a context in which steps read the learning rates from tensors: those of `read_rates`."""
        groups = self._optimizer.param_groups
        before = [(group["lr"], group["capturable"]) for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"], group["capturable"] = rate, True
        try:
            yield
        finally:
            for group, (rate, is_capturable) in zip(groups, before, strict=True):
                group["lr"], group["capturable"] = rate, is_capturable

    def read_rates(self) -> None:
        """Let recorded steps have the learning rates that are in force."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            value = group["lr"]
            rate.fill_(value.reshape(()) if isinstance(value, Tensor) else value)


class DeviceUpdates:
    """Updates with consecutive minibatches, whose diagnostics are read once.

    Args:
        update: Makes one; a pure one is the same operations for all minibatches of one size.
        networks: That it uses.
        place: Where they are.
        trace: Notes what an update touches.
        records: Whether updates with whole minibatches are to be recorded.
    """

    def __init__(
        self,
        update: Update,
        networks: Sequence[nn.Module],
        place: Place,
        trace: UpdateTrace,
        records: bool,
    ) -> None:
        self._update = update
        self._place = place
        self._staging = Staging(place)
        self._constants: dict[str, Tensor] = {}
        self._sums = Sums(place.device)
        self._touched = Touched()
        self._trace = trace
        self._recorded = RecordedUpdate(self._eager, networks, place, self._touched)
        self._records = records

    def __call__(
        self, fields: Mapping[str, Array], minibatch_size: int, scalars: Mapping[str, float]
    ) -> tuple[dict[str, float], dict[str, Array]]:
        """Make them: `(fields [R, ...], B, scalars) -> (means of the diagnostics, rows [R])`."""
        with self._place.running(), self._trace.into(self._touched):
            tensors = self._staging.load(fields)
            self._set_constants(scalars)
            self._sums.begin()
            self._recorded.begin(self._constants, self._sums)
            total = len(next(iter(tensors.values())))
            rows: dict[str, Tensor] = {}
            for start in range(0, total, minibatch_size):
                batch = {n: t[start : start + minibatch_size] for n, t in tensors.items()}
                is_whole = start + minibatch_size <= total
                outputs = self._one(batch, self._records and is_whole)
                for name, values in outputs.items():
                    if name not in rows:
                        rows[name] = values.new_empty((total, *values.shape[1:]))
                    rows[name][start : start + len(values)] = values
            found = {name: values.cpu().numpy() for name, values in rows.items()}
            return self._sums.means(-(-total // minibatch_size)), found

    def _one(self, batch: Mapping[str, Tensor], records: bool) -> Mapping[str, Tensor]:
        return self._recorded(batch) if records else self._eager(batch)

    def _eager(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        diagnostics, outputs = self._update(batch, self._constants)
        self._sums.add(diagnostics)
        return outputs

    def _set_constants(self, scalars: Mapping[str, float]) -> None:
        """Put numbers on the device, where recorded updates look for them."""
        device = self._place.device
        if self._constants.keys() != scalars.keys():
            memory = torch.zeros(len(scalars), device=device)
            self._constants = dict(zip(scalars, memory.unbind(), strict=True))
        values = torch.tensor(list(scalars.values()), dtype=torch.float32).to(device)
        for constant, value in zip(self._constants.values(), values, strict=True):
            constant.copy_(value)


class Sums:
    """Diagnostics summed on a device over the updates that were made, as `UpdateTally` counts them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._names: list[str] = []
        self.values = torch.zeros(0, device=device)

    def begin(self) -> None:
        """Begin anew."""
        self.values.zero_()

    def add(self, diagnostics: Mapping[str, Tensor]) -> None:
        """Add those of one update; of one that was left out, only that."""
        if not self._names:
            self._names = list(diagnostics)
            self.values = torch.zeros(len(self._names), device=self._device)
        row = torch.stack([diagnostics[name].to(self._device).float() for name in self._names])
        if "skipped" in diagnostics:
            place = self._names.index("skipped")
            skipped = row[place]
            row = torch.where(skipped > 0.5, torch.zeros_like(row), row)
            row[place] = skipped
        self.values.add_(row)

    def means(self, updates: int) -> dict[str, float]:
        """Return the means over so many updates."""
        tally = UpdateTally()
        sums = self.values.cpu()
        tally.add_sums(dict(zip(self._names, sums.unbind(), strict=True)), updates)
        return tally.means()


class RecordedUpdate:
    """An update with a whole minibatch, which is recorded when it has been made a few times.

    A recording holds addresses and settings: where these have changed, another is made. A first replay is
    compared with the eager update.

    Args:
        eager: Makes an update; what it returns, and all it changes, is on the device.
        networks: That it uses.
        place: Where they are.
        touched: What it changes, noted as it is made.
    """

    def __init__(
        self,
        eager: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
        networks: Sequence[nn.Module],
        place: Place,
        touched: Touched,
    ) -> None:
        self._eager = eager
        self._modules = [module for network in networks for module in network.modules()]
        self._is_usable = all(type(m).__module__.startswith(KNOWN_LAYERS) for m in self._modules)
        self._place = place
        self._touched = touched
        self._sums: Sums | None = None
        self._others: list[Tensor] = []
        self._signature: Any = None
        self._circumstances: Any = None
        self._forget()

    def begin(self, constants: Mapping[str, Tensor], sums: Sums) -> None:
        """Look whether a recording still holds, before updates with these constants and sums."""
        self._sums, self._others = sums, list(constants.values())
        if self._replay is not None and self._circumstances != self._look():
            self._forget()
        if self._replay is not None:
            self._read_rates()

    def __call__(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Make one update; the rows that go out are valid until the next."""
        signature = [(name, tensor.shape, tensor.dtype) for name, tensor in batch.items()]
        if signature != self._signature:
            self._forget()
            self._signature = signature
        if self._replay is not None:
            torch._foreach_copy_(list(self._inputs.values()), list(batch.values()))
            self._replay()
            return self._outputs
        self._made += 1
        if not self._is_usable or self._made <= WARM_UPS or self._look() is None:
            return self._eager(batch)
        return self._first(batch)

    def _forget(self) -> None:
        self._made = 0
        self._replay: Callable[[], None] | None = None
        self._inputs: dict[str, Tensor] = {}
        self._outputs: dict[str, Tensor] = {}

    def _read_rates(self) -> None:
        for descent in self._touched.descents.values():
            descent.read_rates()

    def _look(self) -> Any:
        """Return all that a recording takes for granted; None where nothing can be recorded."""
        written = self._touched.written()
        if written is None or any(has_hooks(module) for module in self._modules):
            return None
        assert self._sums is not None
        read = [t for module in self._modules for t in (*_own(module), *module.buffers(False))]
        tensors = [*written, *read, *self._others, self._sums.values]
        settings = [descent.settings() for descent in self._touched.descents.values()]
        return [t.data_ptr() for t in tensors], settings, [m.training for m in self._modules]

    def _first(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Make an update eagerly, record it, and see whether the recording makes the same one."""
        assert self._sums is not None
        written = [*(self._touched.written() or []), self._sums.values]
        self._inputs = {name: tensor.clone() for name, tensor in batch.items()}
        before = _copies(written)
        outputs = self._eager(self._inputs)
        self._outputs = {name: tensor.detach().clone() for name, tensor in outputs.items()}
        wanted = _copies([*written, *self._outputs.values()])
        try:
            replay = self._recording()
            _restore(written, before)
            replay()
            reason = self._difference(before, wanted)
        # Whatever a driver or a user's layer has against it, updates can be made without.
        except Exception as error:
            reason = (
                f"{type(error).__name__}: {(str(error).strip() or 'no reason').splitlines()[0]}"
            )
        if reason:
            logger.warning(
                "updates run without a CUDA graph, which changes their speed only: %s", reason
            )
            self._is_usable = False
            _restore([*written, *self._outputs.values()], wanted)
            return self._outputs
        self._replay, self._circumstances = replay, self._look()
        return self._outputs

    def _recording(self) -> Callable[[], None]:
        self._read_rates()

        def run() -> None:
            for name, values in self._eager(self._inputs).items():
                self._outputs[name].copy_(values)

        with ExitStack() as stack:
            for descent in self._touched.descents.values():
                stack.enter_context(descent.recordable())
            return self._place.record(run)

    def _difference(self, before: Sequence[Tensor], wanted: Sequence[Tensor]) -> str:
        """Return what a replay did otherwise; nothing where it made the same update."""
        assert self._sums is not None
        found = [*(self._touched.written() or []), self._sums.values, *self._outputs.values()]
        starts = [*before, *(torch.zeros_like(one) for one in self._outputs.values())]
        answers = [_is_same(*three) for three in zip(starts, found, wanted, strict=True)]
        return "" if bool(torch.stack(answers).all()) else "a replay made another update"


def _own(module: nn.Module) -> list[Tensor]:
    return list(module.parameters(recurse=False))


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def _restore(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value)


def _is_same(before: Tensor, found: Tensor, wanted: Tensor) -> Tensor:
    """Return whether what a tensor became is what it was to become, up to rounding; a tensor of one bool."""
    start, end, aim = (
        t.detach().double().nan_to_num(0.0, 1e30, -1e30) for t in (before, found, wanted)
    )
    moved = SAME_UPDATE * (aim - start).abs().mean() + ROUNDING * aim.abs().mean()
    return (end - aim).abs().mean() <= moved
