"""The options of the subcommands: what the command line parser reads, and the help texts with it.

The parser makes these values from `sys.argv`; `check` tells whether they are in range.
"""

from __future__ import annotations

import ast
import inspect
import json
import math
import textwrap
from dataclasses import dataclass, field, fields, make_dataclass, replace
from functools import cache
from pathlib import Path  # noqa: TC003 (the parser reads the annotations)
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_type_hints

import tyro
from gymnasium.spaces import Box, Discrete

from tensor_optix.algorithms.catalogue import ALGORITHMS, Algorithm, find_algorithm
from tensor_optix.algorithms.network_agent import Engine  # noqa: TC001 (the parser reads the annotations)
from tensor_optix.core.environment_recipe import EnvironmentRecipe
from tensor_optix.core.json_values import to_json
from tensor_optix.exporting.formats import FORMATS, find_format
from tensor_optix.pipeline.atari import atari, is_atari
from tensor_optix.runs.pictures import ABSCISSAE, KINDS, SUFFIXES, Abscissa, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.algorithms.hyperparams import Hyperparams

LEAST_WINDOWS = 2
"""Of a trial."""
AUTO = "auto"
"""The algorithm that is still to be chosen."""
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


def option_group(algorithm: Algorithm) -> type:
    """Return a dataclass with a field for each hyperparameter of an algorithm.

    What is not given stays None: the defaults stand in the catalogue alone, and an option of another
    algorithm than the chosen one can be told from none.
    """
    hints = get_type_hints(algorithm.hyperparams_type)
    meanings = _meanings(algorithm.hyperparams_type)
    entries: list[Any] = []
    for name, default in algorithm.default_params().items():
        kind = hints[name]
        option = tyro.conf.arg(
            help=meanings[name],
            metavar=kind.__name__.upper(),
            help_behavior_hint=_default_text(algorithm, name, default),
        )
        entries.append((name, Annotated[kind | None, option], field(default=None)))
    group = make_dataclass(f"{algorithm.name.upper()}Options", entries, frozen=True)
    group.__doc__ = inspect.cleandoc(algorithm.hyperparams_type.__doc__ or "").partition("\n\n")[0]
    return group


def given(options: Any) -> dict[str, Any]:
    """Return the hyperparameters that were given of a group."""
    values = {one.name: getattr(options, one.name) for one in fields(options)}
    return {name: value for name, value in values.items() if value is not None}


def _default_text(algorithm: Algorithm, name: str, default: Any) -> str:
    if name not in algorithm.image_defaults:
        return f"(default: {default})"
    return f"(default: {default}; images: {algorithm.image_defaults[name]})"


def _meanings(hyperparams_type: type[Hyperparams]) -> dict[str, str]:
    """Return the docstring of each field, as it stands below the field in the source."""
    found: dict[str, str] = {}
    for one in reversed(hyperparams_type.__mro__[:-1]):
        found |= _own_meanings(one)
    return found


@cache
def _own_meanings(hyperparams_type: type) -> dict[str, str]:
    """Return those of the fields that stand in a class itself."""
    found: dict[str, str] = {}
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(hyperparams_type))).body
    assert isinstance(definition, ast.ClassDef)
    for entry, below in zip(definition.body, definition.body[1:], strict=False):
        match entry, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found


GROUPS = {name: option_group(algorithm) for name, algorithm in ALGORITHMS.items()}
"""The classes of the groups of hyperparameters, by algorithm."""


def _chosen(attribute: str) -> str:
    """Return what an algorithm chooses where nothing is given, for the help."""
    chosen = ", ".join(
        f"{_words(getattr(one, attribute))} ({name})" for name, one in ALGORITHMS.items()
    )
    return f"(default: {chosen})"


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _algorithms(space: type) -> str:
    """Return what acts in a kind of action space, for the help."""
    return ", ".join(name for name, one in ALGORITHMS.items() if space in one.action_spaces)


AlgorithmOptions: Any = make_dataclass(
    "AlgorithmOptions",
    [
        (
            name,
            Annotated[Any, tyro.conf.arg(constructor=group, help=group.__doc__)],
            field(default_factory=group),
        )
        for name, group in GROUPS.items()
    ],
    frozen=True,
    kw_only=True,
)
"""A group of hyperparameters for each algorithm."""


@dataclass(frozen=True)
class EnvironmentOptions:
    """Which environment, and what learns in it: the options of all who make one."""

    env_id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV_ID")]
    """A Gymnasium or EnvPool id, for instance CartPole-v1. "module:id" imports the module first."""
    env_kwargs: Annotated[
        tuple[tuple[str, ...], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="KEY=VALUE [KEY=VALUE ...]", help_behavior_hint="(default: none)"),
    ] = ()
    """Of the environment, such as size=8 'config={"lanes": 3}': Python or JSON values, or else text."""
    wrapper: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(
            metavar="MODULE:CLASS", help_behavior_hint="(default: none; may be repeated)"
        ),
    ] = ()
    """A gymnasium.Wrapper, or a function from an environment to one, put around each environment."""
    atari: bool = True
    """Atari games with the standard preprocessing: 84x84 grey, 4 frames, frame skip 4, no-ops, FIRE; an
    episode for each life and clipped rewards to learn from, the game's own score. Else without effect."""
    algo: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="NAME",
            help=f"Discrete actions: {_algorithms(Discrete)}; continuous ones: {_algorithms(Box)}. "
            "auto looks at the environment for a moment, and chooses with the algorithm also what it starts "
            "with; an option that is given stays. With a NAME the defaults below hold.",
            help_behavior_hint=f"(default: {AUTO})",
        ),
    ] = None
    framework: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="NAME",
            help_behavior_hint="(default: native; for images or a GPU torch, else tensorflow)",
        ),
    ] = None
    """What the networks compute with: native (compiled kernels, on the CPU), torch or tensorflow."""
    backend: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """Who steps the environments: auto, envpool, envpool-async, sync, async or vector."""

    @property
    def is_open(self) -> bool:
        """Whether the algorithm is left to be chosen."""
        return self.algo is None or self.algo.lower() == AUTO

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm, the usual one where it is open; raises ValueError if there is none of that name."""
        return find_algorithm(None if self.is_open else self.algo)

    @property
    def arguments(self) -> list[str]:
        """The environment's arguments as they were typed."""
        return [word for group in self.env_kwargs for word in group]

    @property
    def environment(self) -> EnvironmentRecipe:
        """The environment that was asked for; raises ValueError if that makes no sense."""
        return EnvironmentRecipe(self.env_id, environment_arguments(self.arguments), self.wrapper)

    def in_full(self) -> Self:
        """Return options in which what `atari` stands for is said by the others; what was given stays."""
        if not (self.atari and is_atari(self.env_id)):
            return self
        preset, given = atari(self.env_id, self.backend), environment_arguments(self.arguments)
        words = (
            f"{name}={value!r}" for name, value in preset["env_kwargs"].items() if name not in given
        )
        return replace(
            self,
            atari=False,
            backend=preset["backend"],
            env_kwargs=((*words, *self.arguments),),
            wrapper=(*preset["wrappers"], *self.wrapper),
        )


@dataclass(frozen=True)
class LearnerOptions(EnvironmentOptions, AlgorithmOptions):  # type: ignore[misc]
    """What is trained, and where: the options that `train` and `tune` share."""

    num_envs: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=_chosen("num_envs"))
    ] = None
    """Environments that step together."""
    window_size: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint=_chosen("window_size"))
    ] = None
    """Steps of each environment between two evaluations, for ppo between two updates."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Makes the run reproducible. None: one is drawn, and recorded."""
    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where everything is kept. None: runs/ENV_ID/TIME."""
    hidden_sizes: Annotated[
        tuple[int, ...] | None,
        tyro.conf.arg(metavar="INT [INT ...]", help_behavior_hint=_chosen("hidden_sizes")),
    ] = None
    """Widths of the hidden layers; for images of those behind the convolutions, 512 by default."""
    normalize_observations: Annotated[
        bool | None,
        tyro.conf.arg(
            metavar="[True|False]",
            help_behavior_hint="(default: chosen with --algo auto, else False; --no-normalize-observations)",
        ),
    ] = None
    """Let the networks see observations of mean 0 and variance 1."""
    normalize_rewards: bool = False
    """Learn from rewards that are scaled to unit returns; scores stay raw."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Read options from this file, TOML, YAML or JSON, or from a run directory; those given beside it win."""
    device: Annotated[str, tyro.conf.arg(metavar="NAME")] = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:1, ..."""
    engine: Annotated[Engine, tyro.conf.arg(metavar="auto|native|framework")] = "auto"
    """What makes the updates: native (compiled kernels), framework, or auto: native where it can."""

    @property
    def envs(self) -> int:
        """The number of environments, given or chosen."""
        return self.algorithm.num_envs if self.num_envs is None else self.num_envs

    @property
    def window(self) -> int:
        """The steps of a window, given or chosen."""
        return self.algorithm.window_size if self.window_size is None else self.window_size

    @property
    def rows_per_window(self) -> int:
        """The most environment steps that a window holds."""
        return self.envs * self.window

    @property
    def hyperparams(self) -> dict[str, Any]:
        """The hyperparameters that were given for the algorithm."""
        return self.hyperparams_of(self.algorithm)

    def hyperparams_of(self, algorithm: Algorithm) -> dict[str, Any]:
        """Return the hyperparameters that were given for an algorithm."""
        return given(getattr(self, algorithm.name))

    @property
    def candidates(self) -> list[Algorithm]:
        """The algorithms that come into question: the one asked for, or those that take all that was given.

        Raises:
            ValueError: If no algorithm takes all of it.
        """
        if not self.is_open:
            return [self.algorithm]
        names = {one.name: self.hyperparams_of(one).keys() for one in ALGORITHMS.values()}
        asked = set[str]().union(*names.values())
        found = [one for one in ALGORITHMS.values() if asked == names[one.name]]
        if not found:
            told = ", ".join(f"--{one.replace('_', '-')}" for one in sorted(asked))
            raise ValueError(f"no algorithm takes all of {told}: choose one by --algo")
        return found

    def settled(self, algorithm: str, params: Mapping[str, Any], **others: Any) -> Self:
        """Return options that leave the algorithm no longer open.

        Args:
            algorithm: One of the candidates.
            params: Hyperparameters beside those given, which stay.
            **others: Further fields.
        """
        groups = {name: group() for name, group in GROUPS.items()}
        own = dict(params) | self.hyperparams_of(ALGORITHMS[algorithm])
        groups[algorithm] = replace(getattr(self, algorithm), **own)
        return replace(self, algo=algorithm, **groups, **others)

    def check(self) -> None:
        """Check every number.

        Raises:
            ValueError: If one is out of range, or is an option of another algorithm.
        """
        _ = self.environment
        if not self.is_open:
            self._require_own_options(self.algorithm.name)
        for one in self.candidates:
            one.hyperparams_type.from_params(one.default_params() | self.hyperparams_of(one))
        require_at_least_1("num-envs", self.envs)
        require_at_least_1("window-size", self.window)
        _require_seed(self.seed)
        for size in self.hidden_sizes or ():
            require_at_least_1("hidden-sizes", size)

    def _require_own_options(self, chosen: str) -> None:
        for name, one in ALGORITHMS.items():
            foreign = next(iter(self.hyperparams_of(one)), None)
            if name != chosen and foreign is not None:
                option = foreign.replace("_", "-")
                raise ValueError(
                    f"--{name}.{option} is an option of {name}, but the algorithm is {chosen}: leave "
                    f"it out, or choose --algo {name}"
                )


@dataclass(frozen=True)
class TrainOptions(LearnerOptions):
    """Train on an environment until nothing is left to gain."""

    max_steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """The most environment steps. None: until nothing is left to gain."""
    target_score: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Stop once a cautious estimate of the best policy's score reaches this. None: never for its score."""
    callback: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(
            metavar="MODULE:CLASS", help_behavior_hint="(default: none; may be repeated)"
        ),
    ] = ()
    """A LoopCallback, made without arguments, or a function that returns one: hears of every window."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN_DIR")] = None
    """Go on with the run in this directory, in place of ENV_ID; beside it only --max-steps, of the whole run,
    and --plain may be given."""
    save_config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write all options of the run to this file, .toml, .yaml or .json, those that were chosen included."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Only show what would be trained. Nothing is written, but for --save-config."""
    plain: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print plain lines, also to a terminal."""
    tune: bool = True
    """Try other hyperparameters where progress is in doubt; they stay only if they turn out better."""
    tensorboard: tyro.conf.FlagCreatePairsOff[bool] = False
    """Log to TensorBoard as well, in the run directory: tensorboard --logdir runs."""
    csv: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write progress.csv in the run directory, a line for each window."""
    wandb: Annotated[str | None, tyro.conf.arg(metavar="PROJECT")] = None
    """Log to this project of Weights & Biases as well."""
    mlflow: Annotated[str | None, tyro.conf.arg(metavar="EXPERIMENT")] = None
    """Log to this experiment of MLflow as well, where MLFLOW_TRACKING_URI says."""

    def check(self) -> None:
        """Check every number.

        Raises:
            ValueError: If one is out of range, or is an option of another algorithm.
        """
        super().check()
        if self.target_score is not None and not math.isfinite(self.target_score):
            raise ValueError(f"--target-score must be a finite number, got {self.target_score}")
        if self.is_open:
            return
        if self.max_steps is not None and self.max_steps < self.rows_per_window:
            raise ValueError(
                "--max-steps must be at least one window, which is --num-envs times --window-size "
                f"= {self.rows_per_window}, got {self.max_steps}"
            )


@dataclass(frozen=True)
class ResumeOptions:
    """Go on with a run, as it was begun."""

    resume: Annotated[Path, tyro.conf.arg(metavar="RUN_DIR")]
    """The run directory that `tensor-optix train` printed."""
    max_steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """The most environment steps of the whole run. None: as it was begun."""
    plain: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print plain lines, also to a terminal."""

    def check(self) -> None:
        """Check every number. Raises ValueError if one is out of range."""
        if self.max_steps is not None:
            require_at_least_1("max-steps", self.max_steps)


@dataclass(frozen=True)
class TuneOptions(LearnerOptions):
    """Search hyperparameters by short trainings; those given stay as they are."""

    trials: int = 20
    """How many trials. The best 3 are then trained again, with 3 fresh seeds each."""
    trial_steps: int = 50_000
    """Environment steps of a trial."""
    storage: Annotated[str | None, tyro.conf.arg(metavar="PATH_OR_URL")] = None
    """Where the study is kept, to go on later or to share it between processes: a path that ends in
    .journal, or an URL such as sqlite:///study.db. None: in the run directory."""
    study_name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Of the study in the storage. A study that is there already goes on."""

    def check(self) -> None:
        """Check every number.

        Raises:
            ValueError: If one is out of range, or is an option of another algorithm.
        """
        super().check()
        require_at_least_1("trials", self.trials)
        least = LEAST_WINDOWS * self.rows_per_window
        if not self.is_open and self.trial_steps < least:
            raise ValueError(
                f"--trial-steps must be at least {LEAST_WINDOWS} windows of --num-envs times "
                f"--window-size steps = {least}, got {self.trial_steps}"
            )
        if self.storage is not None and self.study_name is None:
            raise ValueError("--storage needs a --study-name, by which the study is found again")


@dataclass(frozen=True)
class EvaluateOptions:
    """Play the best policy of a run on episodes that it was not trained on."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """The run directory that `tensor-optix train` printed."""
    episodes: Annotated[
        int | None,
        tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 20; 3 with pictures)"),
    ] = None
    """How many episodes to play."""
    record: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Film each episode, as MP4 files in this directory. Needs tensor-optix[video]."""
    gif: tyro.conf.FlagCreatePairsOff[bool] = False
    """Film them as GIFs, beside --record."""
    render: Annotated[
        Literal["human"] | None,
        tyro.conf.arg(metavar="human", help_behavior_hint="(default: none)"),
    ] = None
    """Show the episodes in a window."""
    backend: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="auto|envpool|sync|async|vector", help_behavior_hint="(default: the training's)"
        ),
    ] = None
    """Who steps the environments."""
    engine: Annotated[
        Engine | None,
        tyro.conf.arg(
            metavar="auto|native|framework", help_behavior_hint="(default: the training's)"
        ),
    ] = None
    """What the networks compute with."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Of these episodes; never those of the training. None: one that follows from the run's."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object instead of text."""

    def check(self) -> None:
        """Check every number.

        Raises:
            ValueError: If one is out of range.
        """
        require_at_least_1("episodes", self.count)
        _require_seed(self.seed)
        if self.gif and self.record is None:
            raise ValueError("--gif needs --record DIR, which takes the GIFs")
        if self.record is not None and self.render is not None:
            raise ValueError("give either --record or --render, not both")
        if self.is_drawn and self.backend not in (None, "auto", "sync"):
            raise ValueError(
                f"--record and --render need environments of this process: leave --backend {self.backend} out"
            )

    @property
    def is_drawn(self) -> bool:
        """Whether pictures are made of the episodes."""
        return self.record is not None or self.render is not None

    @property
    def count(self) -> int:
        """How many episodes to play, given or not."""
        if self.episodes is not None:
            return self.episodes
        return 3 if self.is_drawn else 20


@dataclass(frozen=True)
class PlotOptions:
    """Draw runs side by side; those that differ only in their seed are one line with its 95 % interval."""

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Run directories, such as runs/CartPole-v1/*."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE",
            help_behavior_hint="(default: plot.png, profile.png or hyperparams.png, of one run in its "
            "directory, else here)",
        ),
    ] = None
    """The picture, a .png, .svg or .pdf. A file that is there is replaced."""
    kind: Annotated[Kind, tyro.conf.arg(metavar="|".join(KINDS))] = "curves"
    """Scores over the training, of one run with its decisions; the share of the runs whose kept policy scored
    so much or more; or the hyperparameters in force."""
    x: Annotated[Abscissa, tyro.conf.arg(metavar="|".join(ABSCISSAE))] = "steps"
    """What curves stand over: environment steps, or the time of the training."""
    smooth: Annotated[
        int | None,
        tyro.conf.arg(metavar="INT", help_behavior_hint="(default: about a fiftieth of all)"),
    ] = None
    """Curves show the mean of so many scores. 1: the scores as they are."""

    def check(self) -> None:
        """Check what was given.

        Raises:
            ValueError: If no run was given, the file has another suffix, or the number is out of range.
        """
        if not self.runs:
            raise ValueError("give at least one run directory, such as runs/CartPole-v1/*")
        if self.out is not None and self.out.suffix.lower() not in SUFFIXES:
            raise ValueError(f"--out must end in {', '.join(SUFFIXES)}, got {self.out}")
        if self.smooth is not None:
            require_at_least_1("smooth", self.smooth)


@dataclass(frozen=True)
class ReportOptions:
    """Print the report of a run again, also of one under way, or write it as a page."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """The run directory that `tensor-optix train` printed."""
    html: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write a page of HTML instead, with curve, decisions and settings, that needs no other file."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: report.html in RUN_DIR)"),
    ] = None
    """The page. A file that is there is replaced."""

    def check(self) -> None:
        """Check what was given. Raises ValueError if a file is named for what is only printed."""
        if self.out is not None and not self.html:
            raise ValueError("--out is the file of the page: give --html as well")


@dataclass(frozen=True)
class ExportOptions:
    """Write the best policy of a run as a file that acts without this library, and try it."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """The run directory that `tensor-optix train` printed."""
    to: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="|".join(FORMATS), help_behavior_hint="(default: as --out ends, or onnx)"
        ),
    ] = None
    """The format. savedmodel is a directory; c is one header, for perceptrons of one vector."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE", help_behavior_hint="(default: in RUN_DIR, such as policy.onnx)"
        ),
    ] = None
    """Where it is written. What was exported there before is replaced."""

    def check(self) -> None:
        """Check what was given.

        Raises:
            ValueError: If there is no such format.
        """
        try:
            find_format(self.to or "onnx")
        except ValueError as error:
            raise ValueError(f"--{error}") from error


@dataclass(frozen=True)
class DoctorOptions(EnvironmentOptions):
    """Look an environment over before anything is trained in it."""

    seconds: float = 2.0
    """How long to look, beside what starts and imports take. Nothing interrupts a step or a reset."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object instead of text."""

    def check(self) -> None:
        """Check what was given.

        Raises:
            ValueError: If a number is out of range, or there is no such algorithm.
        """
        _ = self.algorithm, self.environment
        if not 0.0 < self.seconds < math.inf:
            raise ValueError(f"--seconds must be a number above 0, got {self.seconds}")


def environment_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Return the arguments that words such as "size=8" say.

    Raises:
        ValueError: If a word has another form, an argument is said twice, or a run could not record it.
    """
    arguments = dict[str, Any]()
    for word in words:
        name, equals, text = word.partition("=")
        if not (equals and name.isidentifier()):
            raise ValueError(f'--env-kwargs must be KEY=VALUE, such as size=8, got "{word}"')
        if name in arguments:
            raise ValueError(f"--env-kwargs must say each argument once, got {name} twice")
        arguments[name] = _literal(text)
    to_json(arguments, "--env-kwargs")
    return arguments


def _literal(text: str) -> Any:
    """Return the value of a Python literal or of a JSON text, or else the text itself."""
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return text


def require_at_least_1(name: str, value: int) -> None:
    """Raise ValueError, naming the option, if its value is below 1."""
    if value < 1:
        raise ValueError(f"--{name} must be at least 1, got {value}")


def _require_seed(seed: int | None) -> None:
    if seed is not None and not 0 <= seed < 2**63:
        raise ValueError(f"--seed must be at least 0 and below 2**63, got {seed}")


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
