"""What a study is about: specs of the user's come in; values of a trial, and who won, go out.

Nothing here needs Optuna; what a study keeps of it, so that it goes on with the same space, is checked here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

from tensor_optix.core.foreign_agent import as_agent

if TYPE_CHECKING:
    from optuna.trial import Trial

    from tensor_optix.core.foreign_agent import AgentLike

ParamSpace: TypeAlias = Mapping[str, Sequence[Any]]
"""`{name: spec}`; a spec is `("float", lo, hi)`, `("log_float", lo, hi)`, `("int", lo, hi)`,
`("log_int", lo, hi)` or `("categorical", v1, v2, ...)`, the values one by one. Bounds are inclusive."""

_KINDS = ("float", "log_float", "int", "log_int", "categorical")


@dataclass(frozen=True)
class NumberSpec:
    """A number between two bounds."""

    low: float
    high: float
    is_log: bool
    is_int: bool

    def suggest(self, trial: Trial, name: str) -> float | int:
        """Draw a value."""
        if self.is_int:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.is_log)
        return trial.suggest_float(name, self.low, self.high, log=self.is_log)

    def decode(self, stored: Any) -> Any:
        """Return the value that a study keeps as `stored`."""
        return stored

    def described(self) -> list[Any]:
        """Return the spec in JSON form."""
        kind = ("log_" if self.is_log else "") + ("int" if self.is_int else "float")
        return [kind, self.low, self.high]


@dataclass(frozen=True)
class ChoiceSpec:
    """One of several values, of any kind. A study keeps those that JSON cannot as their `repr`."""

    values: tuple[Any, ...]

    def suggest(self, trial: Trial, name: str) -> Any:
        """Draw a value."""
        return self.decode(trial.suggest_categorical(name, [_stored(one) for one in self.values]))

    def decode(self, stored: Any) -> Any:
        """Return the value that a study keeps as `stored`."""
        known = (one for one in self.values if type(_stored(one)) is type(stored))
        return next((one for one in known if _stored(one) == stored), stored)

    def described(self) -> list[Any]:
        """Return the spec in JSON form."""
        return ["categorical", *map(_stored, self.values)]


Spec: TypeAlias = NumberSpec | ChoiceSpec


def parse_space(space: ParamSpace) -> dict[str, Spec]:
    """Check every spec.

    Raises:
        ValueError: If there is none, a kind is unknown, or bounds are no two finite numbers, the lower
            first, above 0 on a logarithmic scale, whole for integers; naming parameter and spec.
    """
    if not space:
        raise ValueError("param_space must name at least one parameter, got an empty one")
    return {name: _parse(name, spec) for name, spec in space.items()}


def space_of(agent: AgentLike) -> dict[str, tuple[Any, ...]]:
    """Return the space of an agent's `default_param_bounds`, without what follows a schedule.

    A parameter of `default_log_params` is drawn on a logarithmic scale; one that is an int stays one.
    """
    made = as_agent(agent, "what agent_factory makes")
    params = made.get_hyperparams().params
    space: dict[str, tuple[Any, ...]] = {}
    for name, (low, high) in made.default_param_bounds.items():
        if name in made.scheduled_params:
            continue
        value = params.get(name)
        is_int = isinstance(value, int) and not isinstance(value, bool)
        kind = ("log_" if name in made.default_log_params else "") + ("int" if is_int else "float")
        space[name] = (kind, low, high)
    return space


def _parse(name: str, spec: Any) -> Spec:
    said = f"param_space[{name!r}]"
    if isinstance(spec, str) or not isinstance(spec, Sequence) or not spec:
        raise ValueError(f"{said} must be a tuple such as ('float', 0.0, 1.0), got {spec!r}")
    kind, *values = spec
    if kind not in _KINDS:
        raise ValueError(f"{said} is {spec!r}, but kinds are {', '.join(_KINDS)}; got {kind!r}")
    if kind == "categorical":
        return _choice(said, values)
    is_log, is_int = kind.startswith("log_"), kind.endswith("int")
    _require_bounds(said, spec, is_log, is_int)
    low, high = values
    return NumberSpec(float(low), float(high), is_log, is_int)


def _require_bounds(said: str, spec: Sequence[Any], is_log: bool, is_int: bool) -> None:
    bounds = spec[1:]
    if len(bounds) != 2 or not all(_is_finite(bound) for bound in bounds):
        raise ValueError(f"{said} must be ({spec[0]!r}, lo, hi) with finite bounds, got {spec!r}")
    low, high = bounds
    if not low < high:
        raise ValueError(f"{said} must have lo < hi, got {spec!r}")
    if is_log and low <= 0:
        raise ValueError(f"{said} must have lo > 0 on a logarithmic scale, got {spec!r}")
    if is_int and (low % 1 or high % 1):
        raise ValueError(f"{said} must have whole bounds, got {spec!r}")


def _choice(said: str, values: list[Any]) -> ChoiceSpec:
    if not values:
        raise ValueError(f"{said} must be ('categorical', v1, v2, ...), got no value")
    if len(values) == 1 and isinstance(values[0], list | tuple):
        raise ValueError(
            f"{said} must be ('categorical', v1, v2, ...), the values one by one, got one list: {values[0]!r}"
        )
    marks = [(type(_stored(one)), _stored(one)) for one in values]
    if len(set(marks)) < len(marks):
        raise ValueError(f"{said} must have values that differ, got {values!r}")
    return ChoiceSpec(tuple(values))


def _stored(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else repr(value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
