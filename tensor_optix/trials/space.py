"""The space that trials are drawn from: specs of the user's come in, values of a trial go out."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

    from tensor_optix.core.base_agent import BaseAgent

ParamSpace: TypeAlias = Mapping[str, Sequence[Any]]
"""`{name: spec}`; a spec is `("float", lo, hi)`, `("log_float", lo, hi)`, `("int", lo, hi)`,
`("log_int", lo, hi)` or `("categorical", v1, v2, ...)`. Bounds are inclusive."""

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


def space_of(agent: BaseAgent) -> dict[str, tuple[Any, ...]]:
    """Return the space of an agent's `default_param_bounds`.

    A parameter of `default_log_params` is drawn on a logarithmic scale; one that is an int stays one.
    """
    params = agent.get_hyperparams().params
    space: dict[str, tuple[Any, ...]] = {}
    for name, (low, high) in agent.default_param_bounds.items():
        value = params.get(name)
        is_int = isinstance(value, int) and not isinstance(value, bool)
        kind = ("log_" if name in agent.default_log_params else "") + ("int" if is_int else "float")
        space[name] = (kind, low, high)
    return space


def decoded(specs: Mapping[str, Spec], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a trial as they were drawn; those without a spec as they are kept."""
    return {
        name: specs[name].decode(value) if name in specs else value
        for name, value in stored.items()
    }


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
    marks = [(type(_stored(one)), _stored(one)) for one in values]
    if len(set(marks)) < len(marks):
        raise ValueError(f"{said} must have values that differ, got {values!r}")
    return ChoiceSpec(tuple(values))


def _stored(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else repr(value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


_SUBJECT = "subject"
_OWN = ("trial_steps", "param_space")
_MOST_TOLD = 3


def checked_about(about: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the user's part of a description as JSON gives it back.

    Raises:
        ValueError: If a name is one that the description has of its own.
        TypeError: If a value is none that JSON can hold.
    """
    for name in about or {}:
        if name in _OWN:
            raise ValueError(f"about must not hold {name!r}, which a study keeps by itself")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(about or {})))
    except (TypeError, ValueError) as error:
        raise TypeError(f"about must hold what JSON can, got {about!r}: {error}") from error
    return plain


def described(
    about: Mapping[str, Any], trial_steps: int | None, specs: Mapping[str, Spec] | None
) -> dict[str, Any]:
    """Return the description of a study.

    Args:
        about: The user's part.
        trial_steps: Of a trial.
        specs: What is searched; None where that is not known yet.
    """
    subject = {**about, "trial_steps": trial_steps}
    if specs is not None:
        subject["param_space"] = {name: spec.described() for name, spec in specs.items()}
    return subject


def claim(study: Study, subject: Mapping[str, Any]) -> None:
    """Keep what a study is about; what it keeps already must be the same.

    Args:
        study: A new one, or one that goes on.
        subject: From `described`. What only one side knows is not compared.

    Raises:
        ValueError: If the study is about something else; nothing was changed.
    """
    kept = study.user_attrs.get(_SUBJECT, {})
    differences = list(_differences(kept, subject))
    if differences:
        more = len(differences) - _MOST_TOLD
        told = "; ".join(differences[:_MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")
        raise ValueError(
            f"the study {study.study_name!r} is about something else: {told}; choose another "
            "study_name or storage, or go on as it was begun"
        )
    if not subject.keys() <= kept.keys():
        study.set_user_attr(_SUBJECT, {**kept, **subject})


def _differences(kept: Mapping[str, Any], subject: Mapping[str, Any]) -> Iterator[str]:
    for name in subject:
        if name not in kept:
            continue
        if name != "param_space":
            yield from _difference(name, kept[name], subject[name])
            continue
        there, here = kept[name], subject[name]
        for param in {**there, **here}:
            label = f"param_space[{param!r}]"
            yield from _difference(label, there.get(param), here.get(param))


def _difference(label: str, there: Any, here: Any) -> Iterator[str]:
    # As text, for True equals 1, and NaN does not equal itself.
    if json.dumps(there, sort_keys=True) != json.dumps(here, sort_keys=True):
        yield f"{label} is {_said(there)} there, {_said(here)} here"


def _said(value: Any) -> str:
    return "not given" if value is None else repr(value)


class Finalists:
    """Compares trials on the same seeds.

    Args:
        study: Keeps the scores.
        seeds: Those that every finalist is trained with.
        is_minimized: Whether the lowest mean wins.
    """

    def __init__(self, study: Study, seeds: Sequence[int], is_minimized: bool) -> None:
        self._study = study
        self._seeds = seeds
        self._is_minimized = is_minimized

    def missing(self, trials: Sequence[FrozenTrial]) -> Iterator[tuple[FrozenTrial, int]]:
        """Yield what is still to be trained; what another process did meanwhile is passed over."""
        for seed in self._seeds:
            for trial in trials:
                if _key(trial, seed) not in self._study.user_attrs:
                    yield trial, seed

    def keep(self, trial: FrozenTrial, seed: int, score: float | None) -> None:
        """Keep a score; None where the training failed, which puts the finalist out."""
        self._study.set_user_attr(_key(trial, seed), {"score": score})

    def winner(self, trials: Sequence[FrozenTrial]) -> tuple[FrozenTrial, float] | None:
        """Return the best trial and its mean score.

        None while a score is missing, for then the comparison would not be a fair one, and if all
        finalists failed.
        """
        if next(self.missing(trials), None) is not None:
            return None
        kept = self._study.user_attrs
        means: list[tuple[FrozenTrial, float]] = []
        for trial in trials:
            scores = [kept[_key(trial, seed)]["score"] for seed in self._seeds]
            if None not in scores:
                means.append((trial, statistics.fmean(scores)))
        if not means:
            return None
        return (min if self._is_minimized else max)(means, key=lambda pair: pair[1])


def _key(trial: FrozenTrial, seed: int) -> str:
    return f"trial {trial.number} with seed {seed}"
