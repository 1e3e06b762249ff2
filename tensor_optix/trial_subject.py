"""What a study is about: a description comes in, and is kept with the study or compared with its own.

A study that goes on with another space, or in another environment, would mix scores that cannot be
compared.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optuna.study import Study

    from tensor_optix.trial_params import Spec

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
