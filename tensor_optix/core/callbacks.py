"""What the loop says: its reports and its decisions, a class for each kind, go out to callbacks.

Beside their contract: the verbose lines, and the log of a run in `metrics.jsonl` and `events.jsonl`.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from collections import Counter, deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TextIO

from tensor_optix.core.argument_checks import instance_of
from tensor_optix.core.checkpoints.saved_state import CheckpointError
from tensor_optix.core.json_values import to_readable_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tensor_optix.core.checkpoint_registry import CheckpointRegistry
    from tensor_optix.core.decisions.convergence import PlateauTest
    from tensor_optix.core.foreign_agent import AgentLike
    from tensor_optix.core.types import Array, EvalMetrics, LoopState, PathLike, PolicySnapshot

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WindowReport:
    """What one pass of the loop did: the row that progress displays and logs show."""

    episode_id: int
    """The window's number, from 0."""
    num_steps: int
    """Environment steps of this window."""
    total_steps: int
    """Environment steps of the run so far, this window included."""
    seconds: float
    """Since the run began."""
    collect_seconds: float
    learn_seconds: float
    score: float | None
    """The raw score; None when the window was not evaluated or held no finished episode."""
    smoothed: float | None
    best: float | None
    """The best score so far."""
    state: LoopState
    interval: int
    """Windows between two evaluations, as it was before this one was evaluated."""
    improved: bool = False
    """Whether this evaluation counts as an improvement."""
    diagnostics: dict[str, Any] = field(default_factory=dict)
    """What `learn` returned."""


@dataclass(frozen=True)
class LoopEvent:
    """A decision of the loop, with the numbers that it was taken on. Each kind is a class in this module."""

    episode_id: int = 0
    """The window in which it was taken; like `total_steps`, filled in by the loop."""
    total_steps: int = 0
    """Environment steps of the run so far."""
    kind: ClassVar[str]
    """What it is called in `events.jsonl`."""

    @property
    def numbers(self) -> dict[str, Any]:
        """The fields of its kind by name, in order, all of them plain values."""
        return {name: value for name, value in asdict(self).items() if name not in _EVERY_KIND}


_EVERY_KIND = ("episode_id", "total_steps")


class LoopControl(Protocol):
    """What a callback may ask of the loop."""

    @property
    def registry(self) -> CheckpointRegistry:
        """Keeps the best policies of the run."""

    @property
    def best_snapshot(self) -> PolicySnapshot | None:
        """The best policy so far."""

    def stop(self, reason: str = ...) -> None:
        """End the run after the window under way."""

    def record(self, event: LoopEvent) -> None:
        """Log a decision, with the window in which it was taken: `on_event` of every callback."""

    def train(self, agent: AgentLike) -> None:
        """Train `agent` from the next window on, in place of the present one."""

    def play(self, agents: Sequence[AgentLike], episodes: int) -> Array:
        """Play the same greedy episodes with each agent; return `[len(agents), episodes]` returns.

        Called between two windows only, such as from `on_dormant`. Held-out episodes where there is a
        validation pipeline, else some of further environments of the training's kind, whose own episodes
        go on; where these are objects of the user's they are played in, and training begins new episodes.

        Raises:
            RuntimeError: If the data are live and cannot be replayed.
        """


class LoopCallback:
    """Override what you want to know of. An exception here is logged and does not stop the training.

    Examples:
        >>> from tensor_optix import BatchPipeline, LoopCallback, RLOptimizer, make_agent
        >>> class Counter(LoopCallback):
        ...     windows = 0
        ...     def on_window(self, report):
        ...         self.windows += 1
        >>> counter, pipeline = Counter(), BatchPipeline(env_id="CartPole-v1", window_size=128)
        >>> agent = make_agent("CartPole-v1", framework="native")
        >>> RLOptimizer(agent, pipeline, max_episodes=2, callbacks=[counter]).run()
        >>> counter.windows
        2
    """

    def on_attach(self, control: LoopControl) -> None:
        """Called when the callback is added to a loop."""

    def on_loop_start(self) -> None:
        """Called when the run begins."""

    def on_loop_stop(self) -> None:
        """Called when the run is over, also after an error. The agent holds the best policy."""

    def on_episode_end(self, episode_id: int, eval_metrics: EvalMetrics | None) -> None:
        """Called after every window; None when it was not evaluated."""

    def on_improvement(self, snapshot: PolicySnapshot) -> None:
        """Called when a new best policy was saved, but for the first."""

    def on_plateau(self, episode_id: int, state: LoopState) -> None:
        """Called after every evaluation that left the loop COOLING."""

    def on_dormant(self, episode_id: int) -> bool | None:
        """Called when nothing is left to gain. Return True to let the loop go on."""

    def on_degradation(self, episode_id: int, eval_metrics: EvalMetrics) -> None:
        """Called when the score fell away from the best, and the next evaluation confirmed it."""

    def on_hyperparam_update(self, old_params: dict[str, Any], new_params: dict[str, Any]) -> None:
        """Called with the hyperparameters after every evaluation, changed or not."""

    def on_window(self, report: WindowReport) -> None:
        """Called with the figures of every window, when it has ended."""

    def on_event(self, event: LoopEvent) -> None:
        """Called with every decision of the loop; a class for each kind is in `core.callbacks`."""

    def state_dict(self) -> dict[str, Any] | None:
        """Return what a resumed run needs to go on as if it had not stopped; None: nothing is kept.

        Called between two windows. Plain values and NumPy arrays, as `core.checkpoints.saved_state` has
        them.
        """
        return None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on what `state_dict` returned; called after `on_loop_start`, before the first window.

        Raises:
            ValueError: If it does not fit; also KeyError and TypeError are understood as that.
        """

    def agents(self) -> Mapping[str, AgentLike]:
        """Return the agents that a checkpoint keeps beside the one given to the run, by a name for each.

        Asked between two windows, and when the run is resumed, after `load_state_dict`: what the agents
        learned is put into them then.
        """
        return {}


class CallbackList:
    """Calls every callback, in order; what one of them raises is logged.

    Args:
        control: What they may ask of the loop.
    """

    def __init__(self, control: LoopControl) -> None:
        self._callbacks: list[LoopCallback] = []
        self._control = control

    def add(self, callback: LoopCallback) -> None:
        """Add a callback.

        Raises:
            TypeError: If it is no `LoopCallback`.
        """
        self._callbacks.append(instance_of("a callback", callback, LoopCallback))
        callback.on_attach(self._control)

    def agents(self) -> dict[str, AgentLike]:
        """Return the agents that the callbacks train, by a name for each."""
        return {
            f"{kind}.{name}": agent
            for kind, callback in self._by_kind().items()
            for name, agent in callback.agents().items()
        }

    def states(self) -> dict[str, dict[str, Any]]:
        """Return what a resumed run needs of the callbacks that keep something."""
        states = {kind: callback.state_dict() for kind, callback in self._by_kind().items()}
        return {kind: state for kind, state in states.items() if state is not None}

    def load_states(self, states: Mapping[str, dict[str, Any]]) -> None:
        """Give callbacks back what those of the same kinds kept, in the same order."""
        callbacks = self._by_kind()
        for kind, state in states.items():
            if kind in callbacks:
                callbacks[kind].load_state_dict(state)
            else:
                logger.warning("the run had a callback %s, whose state is left aside now", kind)

    def _by_kind(self) -> dict[str, LoopCallback]:
        """Return the callbacks by their class and their number among those of it."""
        counts: Counter[str] = Counter()
        found = {}
        for callback in self._callbacks:
            kind = type(callback).__name__
            found[f"{kind}{counts[kind]}"] = callback
            counts[kind] += 1
        return found

    def emit(self, hook: str, *args: Any) -> list[Any]:
        """Call one hook of every callback; return what they answer."""
        answers = []
        for callback in list(self._callbacks):
            try:
                answers.append(getattr(callback, hook)(*args))
            except Exception:
                logger.exception("%s.%s raised; training goes on", type(callback).__name__, hook)
        return answers


class VerboseCallback(LoopCallback):
    """Write one line per evaluation to a stream."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def on_window(self, report: WindowReport) -> None:
        """Write the line of an evaluated window."""
        if report.score is None or report.smoothed is None:
            return
        suffix = "  ← improvement detected, reset" if report.improved else ""
        print(
            f"  [loop] ep={report.episode_id:4d}  raw={_figure(report.score)}  "
            f"smoothed={_figure(report.smoothed)}  state={report.state.name}  "
            f"interval={report.interval}{suffix}",
            file=self._stream,
            flush=True,
        )


def _figure(value: float) -> str:
    """Return a score in 7 characters or more: one decimal as documented, more where that loses digits."""
    return f"{value:7.1f}" if value == 0 or abs(value) >= 10 else f"{value:#7.3g}"


@dataclass(frozen=True, kw_only=True)
class Start(LoopEvent):
    """The run begins."""

    kind = "start"


@dataclass(frozen=True, kw_only=True)
class Looked(LoopEvent):
    """Before the run began, random play showed what the choices rest on. Its steps are in no count."""

    kind = "looked"
    steps: int
    """That random play took, of all environments together."""
    episodes: int
    """How many ended."""
    step_seconds: float
    """What a step took."""


@dataclass(frozen=True, kw_only=True)
class Chosen(LoopEvent):
    """Before the run began, something was chosen that nobody had asked for."""

    kind = "chosen"
    option: str
    """The field of `run.json`; that of a hyperparameter is `hyperparams.NAME`."""
    value: Any
    reason: str


@dataclass(frozen=True, kw_only=True)
class Resumed(LoopEvent):
    """The run goes on from its checkpoint, after its process had ended."""

    kind = "resumed"
    windows: int
    """How many windows it had taken by then."""
    seconds: float
    """Of training by then."""
    after: str
    """How it had ended: the value of an `Ending`, or "killed" where nobody was left to say."""
    episodes_go_on: bool
    """Whether the environments are where they were. If not, all of them have begun new episodes."""
    state: str
    """What the loop believed by then: the value of a `LoopState`."""


@dataclass(frozen=True, kw_only=True)
class Unsaved(LoopEvent):
    """A checkpoint could not be written; training goes on, and what was stored before is there."""

    kind = "unsaved"
    reason: str


@dataclass(frozen=True, kw_only=True)
class Rescored(LoopEvent):
    """From here on scores are of another kind, and the run begins anew with them."""

    kind = "rescored"
    per_step: bool
    """By the mean reward a step, as no episode ends; or by returns, as one ended after all."""
    windows: int
    """How many there were until then."""


@dataclass(frozen=True, kw_only=True)
class Crowned(LoopEvent):
    """What makes a policy the best so far."""

    score: float
    rank: float
    """What it is ranked by: a lower bound of its score, or a score of the user's."""
    episodes: int = 0
    """How many episode returns the score is the mean of; 0 where the evaluator does not say."""

    @property
    def numbers(self) -> dict[str, Any]:
        """The fields; where the evaluator does not say how many episodes there are, no word of it."""
        numbers = super().numbers
        if not self.episodes:
            del numbers["episodes"]
        return numbers


@dataclass(frozen=True, kw_only=True)
class Baseline(Crowned):
    """The first policy that was scored is the best so far."""

    kind = "baseline"


@dataclass(frozen=True, kw_only=True)
class Best(Crowned):
    """A policy is the best so far."""

    kind = "best"


@dataclass(frozen=True, kw_only=True)
class Standstill(LoopEvent):
    """What the scheduler's belief that nothing improves rests on."""

    evaluations: int
    non_improvements: int
    """Evaluations in a row that improved nothing."""
    interval: int
    """Windows from one evaluation to the next."""
    best: float | None
    noise: float
    plateau_test: PlateauTest | None = None
    """The test of the scores, where the scheduler makes one."""

    @property
    def numbers(self) -> dict[str, Any]:
        """The fields; without a test there is no word of it."""
        numbers = super().numbers
        if self.plateau_test is None:
            del numbers["plateau_test"]
        return numbers


@dataclass(frozen=True, kw_only=True)
class Plateau(Standstill):
    """An evaluation left the loop COOLING."""

    kind = "plateau"


@dataclass(frozen=True, kw_only=True)
class Dormant(Standstill):
    """Nothing is left to gain."""

    kind = "dormant"


@dataclass(frozen=True, kw_only=True)
class Degradation(LoopEvent):
    """The score fell away from the best, and the next evaluation confirmed it."""

    kind = "degradation"
    smoothed: float
    best: float | None


@dataclass(frozen=True, kw_only=True)
class Rollback(LoopEvent):
    """After a degradation the best policy was restored."""

    kind = "rollback"
    snapshot: str
    """Its id."""


@dataclass(frozen=True, kw_only=True)
class Recovered(LoopEvent):
    """Learning broke down; the best policy was restored, and learns in smaller steps."""

    kind = "recovered"
    reason: str
    hyperparams: dict[str, Any]
    """Those in force from here on."""


@dataclass(frozen=True, kw_only=True)
class Tuned(LoopEvent):
    """Hyperparameters changed, or were to change."""

    kind = "tuned"
    before: dict[str, Any]
    asked: dict[str, Any]
    """Those that were asked for."""
    effective: dict[str, Any]
    """Those in force afterwards."""
    accepted: dict[str, Any] | None
    """Those in force without the experiment; None where the tuner cannot say."""
    tuner: dict[str, Any]
    """What the tuner says of its last suggestion."""

    @property
    def is_change(self) -> bool:
        """Whether anything changed, or was to change."""
        return self.effective != self.before or self.asked != self.before


@dataclass(frozen=True, kw_only=True)
class Forking(LoopEvent):
    """Several learners are to go on from this moment, each with its own hyperparameters."""

    kind = "forking"
    reason: str
    """Why they are tried."""
    tried: list[dict[str, Any]]
    """What each has of hyperparameters that the first has not, which has those in force."""


@dataclass(frozen=True, kw_only=True)
class Forked(LoopEvent):
    """These learners were compared, and one goes on."""

    kind = "forked"
    reason: str
    """Why they were tried."""
    tried: list[dict[str, Any]]
    """As in `Forking`."""
    scores: list[float | None]
    """The mean return of each when it was compared last; None where it never was, or broke down."""
    windows: list[int]
    """How many each learned from."""
    winner: int
    """Which of them goes on."""
    gain: float | None
    """The mean return of the best, minus that of what it had to beat, in the same episodes."""
    error: float | None
    """Its standard error."""
    has_gained: bool
    """Whether it did beat that."""
    steps: int
    """Environment steps of all of them, those of the comparisons included."""
    hyperparams: dict[str, Any]
    """Those in force from here on."""


@dataclass(frozen=True, kw_only=True)
class Trainee(LoopEvent):
    """From here on another agent is trained."""

    kind = "trainee"


@dataclass(frozen=True, kw_only=True)
class Variant(LoopEvent):
    """Evolution compared a variant with what it was cloned from."""

    kind = "variant"
    number: int
    """How many variants there were, this one included."""
    stays: bool
    p_value: float
    """The probability of such scores if the variant is no better."""
    variant_mean: float
    champion_mean: float
    count: int
    """How many scores of the variant count."""
    test: str
    """The statistical test."""


@dataclass(frozen=True, kw_only=True)
class Finals(LoopEvent):
    """At the end of the run its best policies played fresh episodes."""

    kind = "finals"
    scores: dict[str, float]
    """What each reached, by the id of its snapshot, the best first."""
    episodes: int = 0
    """How many each of them played at least; 0 where nobody knows."""


class Ending(Enum):
    """How a run ended."""

    FINISHED = "finished"
    """By itself, or as somebody asked for."""
    CAPPED = "capped"
    """At its limit of windows or steps."""
    INTERRUPTED = "interrupted"
    """By Ctrl-C or another signal."""
    CRASHED = "crashed"
    """By an exception."""


@dataclass(frozen=True, kw_only=True)
class Stop(LoopEvent):
    """The run is over."""

    kind = "stop"
    reason: str | None
    best: float | None
    """The score of the best policy."""
    ending: Ending


@dataclass(frozen=True, kw_only=True)
class Error(LoopEvent):
    """An exception ends the run."""

    kind = "error"
    reason: str


METRICS_FILE = "metrics.jsonl"
EVENTS_FILE = "events.jsonl"
MOST_WAITING = 100_000
"""Lines of a log that wait for room on the disk; of more, the oldest are lost."""


class RunLog(LoopCallback):
    """Writes what the loop does into a directory, line by line, so that a killed run leaves its log.

    A resumed run goes on in it, after the lines that its checkpoint knows of. Where the disk is full, lines
    wait until there is room.

    Args:
        directory: Of this run; made when the run begins.
        resume: Whether the log of a run that goes on may be there.

    Raises:
        ValueError: If the directory holds another run's log.
        CheckpointError: If a log is a link, or anything else than a file.
    """

    def __init__(self, directory: PathLike, resume: bool = False) -> None:
        self._directory = Path(directory).expanduser()
        for name in (METRICS_FILE, EVENTS_FILE):
            path = self._directory / name
            if not resume and path.exists():
                raise ValueError(
                    f"{self._directory} holds another run ({name}); choose a new directory, or go on with "
                    "that run by resume=True"
                )
            if path.is_symlink() or (path.exists() and not path.is_file()):
                raise CheckpointError(
                    f"{path} is no regular file: a run cannot go on in it; remove it"
                )
        self._resume = resume
        self._files: dict[str, _Lines] = {}

    def on_loop_start(self) -> None:
        """Open the files."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._files = {}
        for name in (METRICS_FILE, EVENTS_FILE):
            self._files[name] = _Lines(self._directory / name)

    def on_window(self, report: WindowReport) -> None:
        """Write a window's figures."""
        self._write(METRICS_FILE, asdict(report))

    def on_event(self, event: LoopEvent) -> None:
        """Write a decision."""
        if self._resume and isinstance(event, Start):
            # There was no checkpoint to go on from, but perhaps a log.
            self.load_state_dict(dict.fromkeys(self._files, 0))
        self._resume = False
        row = {"kind": event.kind, "episode_id": event.episode_id}
        row |= {"total_steps": event.total_steps, "time": time.time()}
        self._write(EVENTS_FILE, row | event.numbers)

    def on_loop_stop(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def state_dict(self) -> dict[str, Any]:
        """Return how long the files are, when all that was written is on the disk."""
        return {name: file.sync() for name, file in self._files.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Forget what was written since `state_dict` returned this: it comes again."""
        for name, file in self._files.items():
            file.go_back_to(int(state[name]))

    def _write(self, name: str, row: Mapping[str, Any]) -> None:
        if name in self._files:
            line = json.dumps(to_readable_json(row), allow_nan=False) + "\n"
            self._files[name].write(line.encode())


class _Lines:
    """A file of lines, each of which is written whole, or not yet.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._size = self._file.seek(0, os.SEEK_END)
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)

    def write(self, line: bytes) -> None:
        """Write a line, after those that wait."""
        if self._file.closed:
            return
        was_waiting = bool(self._waiting)
        self._waiting.append(line)
        try:
            while self._waiting:
                self._append(self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            if not was_waiting:
                logger.warning("%s: lines wait until the disk takes them: %s", self._path, error)
            with suppress(OSError):
                self._file.truncate(self._size)

    def sync(self) -> int:
        """Bring what was written onto the disk; return the bytes of the file."""
        os.fsync(self._file.fileno())
        return self._size

    def go_back_to(self, size: int) -> None:
        """Cut off what is behind so many bytes."""
        if size > self._size:
            logger.warning("%s is shorter than its checkpoint says: lines are lost", self._path)
            size = self._path.read_bytes().rfind(b"\n") + 1
        self._file.truncate(size)
        self._file.seek(size)
        self._size = size

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, line: bytes) -> None:
        """Append a line. Raises OSError where it is not written whole."""
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(line)
