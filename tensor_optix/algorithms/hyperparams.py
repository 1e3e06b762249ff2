"""What the hyperparameters of every algorithm have in common: a dict comes in, checked numbers go out."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from numbers import Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tensor_optix.core.argument_checks import (
    closest,
    finite_number,
    in_unit_interval,
    positive,
    whole_number,
)
from tensor_optix.core.json_values import to_json
from tensor_optix.core.types import HyperparamSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MISSPELT = 0.8
"""Names at least so alike are slips, as `ent_coef` and `clip_ration` are; `hidden` and `n_layers` are own."""


@dataclass(frozen=True)
class Hyperparams:
    """What the hyperparameters of every algorithm have in common: names, defaults, meanings and ranges."""

    learning_rate: float = 3e-4
    """Step size of the optimizer."""
    gamma: float = 0.99
    """Discount, in [0, 1]."""
    own: dict[str, Any] = field(default_factory=dict, kw_only=True)
    """The user's own by name, which are carried along and mean nothing to the algorithm."""

    def __post_init__(self) -> None:
        self._require(in_unit_interval, "gamma")
        self._require(positive, "learning_rate")

    @classmethod
    def names(cls) -> list[str]:
        """Return the names that mean something to the algorithm."""
        return [one.name for one in fields(cls) if one.name != "own"]

    @classmethod
    def from_params(cls, params: Mapping[str, Any], remaining: float = 1.0) -> Self:
        """Read the hyperparameters from a dict; those that are missing take their defaults.

        Other names are the user's own, unless they look like a slip.

        Args:
            params: By name; a function is a schedule, and what it returns is read.
            remaining: The share of the run that is left, which schedules are called with.

        Raises:
            ValueError: On a misspelt name, with the one that is meant, a value out of range, a schedule that
                fails, or one of the user's own that no checkpoint can hold.
        """
        known, schedules = cls.names(), schedules_in(params)
        for name in params:
            near = None if name in known else _misspelt(name, known)
            if near is not None:
                raise ValueError(f"unknown hyperparameter {name!r}; did you mean {near!r}?")
        read = cls._of_values({name: params[name] for name in params if name not in schedules})
        for name, schedule in schedules.items():
            try:
                value = finite_number(name, schedule(remaining))
                read = cls._of_values({**read.params, name: value})
            except Exception as error:
                raise ValueError(
                    f"the schedule of {name} failed with {remaining:g} of the run left: {error}"
                ) from error
        return read

    @classmethod
    def _of_values(cls, params: Mapping[str, Any]) -> Self:
        known = cls.names()
        own = {name: value for name, value in params.items() if name not in known}
        to_json(own, "hyperparams")
        for name in params.keys() - own.keys():
            if not isinstance(params[name], Real | np.number):
                raise ValueError(f"{name} must be a number, got {params[name]!r}")
        return cls(**{name: params[name] for name in params if name not in own}, own=own)

    @property
    def params(self) -> Mapping[str, Any]:
        """All by name, the user's own included, to read; `set_hyperparams` of the agent changes them."""
        return MappingProxyType({name: getattr(self, name) for name in self.names()} | self.own)

    def copy(self) -> HyperparamSet:
        """Return them as `get_hyperparams` does."""
        return HyperparamSet(dict(self.params))

    def _require(self, check: Callable[[str, Any], Any], *names: str) -> None:
        for name in names:
            check(name, getattr(self, name))

    def _require_counts(self, *names: str) -> None:
        for name in names:
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))


def schedules_in(params: Mapping[str, Any]) -> dict[str, Callable[[float], Any]]:
    """Return the hyperparameters that are functions: schedules. A class is none."""
    return {
        name: value
        for name, value in params.items()
        if callable(value) and not isinstance(value, type)
    }


def _misspelt(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that a name is a slip of; None for one of the user's own.

    Who adds words to a known name, as in `learning_rate_end`, means something else.
    """
    near = closest(name, known, MISSPELT)
    has_more_words = f"_{near}_" in f"_{name}_" and str(name).strip("_") != near
    return None if has_more_words else near
