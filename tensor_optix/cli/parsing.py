"""Arguments of the command come in as they were typed; the options of a subcommand go out.

What users of other libraries type is understood: `--lr`, `--timesteps`, `--gamma` without the name of the
algorithm, `1e5`, `64,64`.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import tyro

from tensor_optix.algorithms.catalogue import ALGORITHMS
from tensor_optix.cli.options import (
    AUTO,
    DoctorOptions,
    EvaluateOptions,
    ExportOptions,
    ResumeOptions,
    TrainOptions,
    TuneOptions,
)

# The parser joins the lines of a paragraph, and does not wrap them: so these are short.
DESCRIPTION = """Trains a policy by itself, and stops when nothing is left to gain.

- tensor-optix train CartPole-v1
- tensor-optix train Pendulum-v1 --algo sac
- tensor-optix tune CartPole-v1 --trials 20
- tensor-optix evaluate runs/CartPole-v1/TIME
- tensor-optix export runs/CartPole-v1/TIME --to onnx
- tensor-optix doctor CartPole-v1
- tensor-optix --version"""

OTHER_NAMES = {
    "agent": "algo",
    "lr": "learning-rate",
    "timesteps": "max-steps",
    "total-timesteps": "max-steps",
    "n-timesteps": "max-steps",
    "n-envs": "num-envs",
    "n-steps": "window-size",
    "log-dir": "run-dir",
}
"""What others call an option."""


def parse(
    arguments: list[str],
) -> TrainOptions | ResumeOptions | TuneOptions | EvaluateOptions | ExportOptions | DoctorOptions:
    """Read arguments.

    Args:
        arguments: After the command's name.

    Raises:
        ValueError: If an option belongs to another subcommand.
        SystemExit: If they cannot be read, or help was asked for; it was printed.
    """
    if resumes(arguments):
        return _parse_resumption(arguments[1:])
    return tyro.cli(
        Annotated[TrainOptions, tyro.conf.subcommand("train")]
        | Annotated[TuneOptions, tyro.conf.subcommand("tune")]
        | Annotated[EvaluateOptions, tyro.conf.subcommand("evaluate")]
        | Annotated[ExportOptions, tyro.conf.subcommand("export")]
        | Annotated[DoctorOptions, tyro.conf.subcommand("doctor")],
        prog="tensor-optix",
        description=DESCRIPTION,
        args=translated(arguments),
        registry=_numbers(),
    )


def resumes(arguments: list[str]) -> bool:
    """Whether arguments ask to go on with a run."""
    is_asked = any(one == "--resume" or one.startswith("--resume=") for one in arguments)
    return arguments[0] == "train" and is_asked and not {"-h", "--help"} & set(arguments)


def _parse_resumption(arguments: list[str]) -> ResumeOptions:
    known = ("resume", "max-steps", "plain", "no-plain")
    renamed = [_renamed_as_is(one) for one in arguments]
    for typed, one in zip(arguments, renamed, strict=True):
        if one.startswith("--") and one[2:].partition("=")[0] not in known:
            raise ValueError(
                f"{typed.partition('=')[0]} cannot be given with --resume: the run goes on as it was "
                "begun, but for --max-steps and --plain"
            )
    return tyro.cli(ResumeOptions, prog="tensor-optix train", args=renamed, registry=_numbers())


def _renamed_as_is(argument: str) -> str:
    """Return an argument with the name that an option has here."""
    if not argument.startswith("--"):
        return argument
    typed, equals, value = argument.removeprefix("--").partition("=")
    name = typed.replace("_", "-")
    return f"--{OTHER_NAMES.get(name, name)}{equals}{value}"


def translated(arguments: list[str]) -> list[str]:
    """Return the arguments with every option by the name that it has here.

    Raises:
        ValueError: If an option of `train` is given to `tune`.
    """
    subcommand = arguments[0]
    if subcommand not in ("train", "tune", "doctor"):
        return arguments
    algorithms = list(ALGORITHMS) if subcommand == "doctor" else _algorithms(arguments)
    found = list[str]()
    for place, argument in enumerate(arguments):
        if not argument.startswith("--"):
            found.append(argument)
            continue
        name, equals, value = _renamed(argument, subcommand)
        owners = [one for one in algorithms if _knows(one, name)]
        if name in _SWITCHES and not equals:
            found += _switched(name, arguments[place + 1 : place + 2])
            continue
        if not equals and owners:
            # The last one takes the value that follows.
            following = arguments[place + 1 : place + 2]
            found += [f"--{one}.{name}={value}" for one in owners[:-1] for value in following]
            found.append(f"--{owners[-1]}.{name}")
            continue
        found += [f"--{one}.{name}{equals}{value}" for one in owners] or [
            f"--{name}{equals}{value}"
        ]
    return found


_SWITCHES = {"normalize-observations": "True", "no-normalize-observations": "False"}
"""Options that may stand alone, and what they say then."""


def _switched(name: str, following: list[str]) -> list[str]:
    """Return a switch with its value, which may follow."""
    option = "--" + name.removeprefix("no-")
    if name in _SWITCHES and following and following[0] in ("True", "False", "None"):
        return [f"--{name}"]
    return [option, _SWITCHES[name]]


def _knows(algorithm: str, name: str) -> bool:
    return name.replace("-", "_") in ALGORITHMS[algorithm].default_params()


def _renamed(argument: str, subcommand: str) -> tuple[str, str, str]:
    """Return an option's name here, and the `=` and the value behind it, if they are there."""
    typed, equals, value = argument.removeprefix("--").partition("=")
    name = typed.replace("_", "-")
    name = OTHER_NAMES.get(name, name)
    if name == "max-steps" and subcommand == "tune":
        raise ValueError(
            f"--{typed} is an option of train; the environment steps of a trial are --trial-steps"
        )
    return name, equals, value


def _algorithms(arguments: list[str]) -> list[str]:
    """Return the algorithms that come into question; a name that is none is refused later, with all else."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    given = dict(itertools.pairwise(words))
    asked = given.get("--algo", given.get("--agent", AUTO))
    return [asked] if asked in ALGORITHMS else list(ALGORITHMS)


def _numbers() -> tyro.constructors.ConstructorRegistry:
    """Return how numbers are read: whole ones also as 1e5, lists of them also as 64,64."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def whole(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
        if info.type is not int:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda words: whole_number(words[0]),
            is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
            str_from_instance=lambda value: [str(value)],
        )

    @registry.primitive_rule
    def several(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
        if info.type != tuple[int, ...]:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar="INT [INT ...]",
            instance_from_str=lambda words: tuple(
                whole_number(one) for word in words for one in word.split(",") if one
            ),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [str(one) for one in value],
        )

    return registry


def whole_number(text: str) -> int:
    """Return the whole number that a text means: 100000, 100_000 or 1e5.

    Raises:
        ValueError: If it is none.
    """
    try:
        return int(text)
    except ValueError:
        value = float(text)
        if not value.is_integer():
            raise ValueError(f"expected a whole number, got {text}") from None
        return int(value)
