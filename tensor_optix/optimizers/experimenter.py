"""What the experimenting tuners share: one accepted base, and a cycle of experiments around it.

Scores come in, one a window; the base or one side of an experiment goes out. A subclass writes its
cycle as a generator, which yields the point to try and receives what the window measured there.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tensor_optix.core.argument_checks import finite_number
from tensor_optix.core.base_optimizer import BaseOptimizer, require_kind
from tensor_optix.core.decisions.statistics import rises_significantly
from tensor_optix.core.json_values import to_json
from tensor_optix.core.search_space import SearchSpace
from tensor_optix.optimizers.evidence import BLOCK, Evidence, ScoreNoise, side_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from tensor_optix.core.types import Array, EvalMetrics, HyperparamSet

logger = logging.getLogger(__name__)

_ROUNDING = 1e-9
_ENOUGH_SCORES = 8
_RISE_HORIZONS = (8, 20)
_FEWEST_TO_RISE = 4
_LONGEST_REST = 4


class AcceptedBase:
    """Keeps the tuned hyperparameters that were accepted, exactly as they were in force.

    Args:
        space: Where they may lie. Everything asked for lies there.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._warned: set[tuple[str, float]] = set()
        self.forget()

    def forget(self) -> None:
        """Have no base: whatever is adopted next."""
        self.values: dict[str, Any] = {}
        """The base."""
        self.asked: dict[str, Any] = {}
        """The tuned hyperparameters last asked for."""
        self._before: dict[str, Any] = {}

    @property
    def is_left(self) -> bool:
        """Whether others than the base were asked for last."""
        return self.asked != self.values

    @property
    def point(self) -> Array:
        """The base as a point `[D]` of the unit cube."""
        return self._space.to_unit(self.values)

    def smallest_steps(self) -> Array:
        """Return `[D]`: how far the next whole number is, for integers; 0 for others."""
        steps = np.zeros(len(self.values))
        for i, (name, value) in enumerate(self.values.items()):
            if isinstance(value, int | np.integer):
                low, here, high = (self._space.to_unit({name: value + by})[0] for by in (-1, 0, 1))
                steps[i] = max(here - low, high - here)
        return steps

    def at(self, point: Array | None) -> dict[str, Any]:
        """Return the values at a point `[D]` of the unit cube, clipped into it; the base for None."""
        return dict(self.values) if point is None else self._space.from_unit(point, self.values)

    def is_at(self, point: Array) -> bool:
        """Whether the base has these very values, as it may for integers, and at bounds."""
        return self.at(point) == self.values

    def recognises(self, values: dict[str, Any]) -> bool:
        """Whether the values in force are what the agent made of those asked for.

        An agent may clip or round, and then ends up no farther from the asked value than the old one
        was. Anything else was changed by someone else.
        """
        if values == self.asked:
            return True
        if values.keys() != self.asked.keys():
            return False
        asked, before = self._space.to_unit(self.asked), self._space.to_unit(self._before)
        off = np.abs(self._space.to_unit(values) - asked)
        return bool(np.all(off <= np.abs(before - asked) + _ROUNDING))

    def read(self, values: dict[str, Any]) -> None:
        """Take note of the values in force, which are those asked for as the agent took them."""
        if not self.is_left and self._space.clip(values) == values:
            self.values = self.asked = dict(values)
        self._before = dict(values)

    def accept(self, values: dict[str, Any]) -> None:
        """Make values that were in force the base."""
        self.values = self._space.clip(values)

    def adopt(self, values: dict[str, Any]) -> None:
        """Make the values in force the base, moved into the bounds with a warning, and ask for it."""
        self.accept(values)
        self._before, self.asked = dict(values), dict(self.values)
        for name, value in self.values.items():
            if value == values[name] or (name, value) in self._warned:
                continue
            self._warned.add((name, value))
            bounds = self._space.bounds[name]
            logger.warning("%s = %s is not within %s: set to %s", name, values[name], bounds, value)

    def state_dict(self) -> dict[str, Any]:
        """Return the base, and what was asked for and in force last."""
        return {
            "values": dict(self.values),
            "asked": dict(self.asked),
            "before": dict(self._before),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Have the base that `state_dict` returned; none, where the bounds are others and forbid it."""
        self.forget()
        parts = [dict(state[name]) for name in ("values", "asked", "before")]
        values, asked, before = parts
        self._space.to_unit(before)
        has_bounds = all(self._space.names_in(part) == tuple(part) for part in parts)
        if has_bounds and self._space.clip(values) == values and self._space.clip(asked) == asked:
            self.values, self.asked, self._before = values, asked, before


@dataclass(frozen=True)
class Measurement:
    """What one window measured."""

    score: float
    point: Array
    """`[D]`, the point of the unit cube that was in force."""
    values: dict[str, Any]
    """The tuned hyperparameters that were in force."""


@dataclass(frozen=True)
class Comparison:
    """The outcome of an experiment: two sides, each as it was last in force."""

    evidence: Evidence
    unit: float
    """What its difference is measured in: see `ScoreNoise.unit`."""
    first: Measurement
    second: Measurement

    @property
    def slopes(self) -> Array:
        """`[D]`, the difference in `unit`s over the distance of the sides; 0 where they are the same."""
        apart = self.first.point - self.second.point
        slopes = np.zeros(len(apart))
        np.divide(self.evidence.difference / self.unit, apart, out=slopes, where=apart != 0.0)
        return slopes


Cycle: TypeAlias = "Generator[Array | None, Measurement, bool]"
"""Yields points `[D]` to try, None for the base; returns whether it moved the base."""


@dataclass(frozen=True)
class Running:
    """A cycle under way. A generator cannot be stored: what it was told can, and tells it again."""

    points: Cycle
    began: dict[str, Any]
    """The experimenter's attributes as they were before the first point."""
    heard: list[tuple[Any, ...]] = field(default_factory=list)
    """What came since: ("measured", score, values in force) or ("improved",), oldest first."""


class Experimenter(BaseOptimizer):
    """Leaves the accepted hyperparameters, the base, only for what stands a test against them.

    * It begins no experiment before it has seen 8 scores, nor while the latest 8 or 20 scores since the
      base last moved rise significantly: a run that makes progress is not touched.
    * A new point is tested against the base, in turns, for up to four blocks of four windows. It is
      kept when it beats the base by itself (z above 1) and the evidence for it, that of the probe
      that proposed it included, is overwhelming (z above 4); else the base is restored exactly.
    * After a cycle the base rests for a window, and for up to 4 after cycles that moved nothing, so
      that a run on its plateau spends much of it with the hyperparameters that it will keep.
    * Hyperparameters out of bounds are moved into them first, with a warning. Those changed by anyone
      else become the base. What the agent made of a suggestion (by clipping, say) is what counts.

    Args:
        param_bounds: `{name: (lowest, highest)}`. None: the agent's own, in a loop.
        probe_sizes: How far a probe is from the base, as a share of the range: at least, usually, at
            most. It shrinks with every improvement, and doubles when a plateau begins; after cycles that
            moved nothing it is the subclass's to adapt.
        log_params: Names searched on a logarithmic scale. None: the agent's own, with its bounds.
        seed: For the random choices. None: different each time.

    Raises:
        ValueError: If the bounds are no bounds.
    """

    def __init__(
        self,
        param_bounds: Mapping[str, tuple[float, float]] | None,
        probe_sizes: tuple[float, float, float],
        log_params: Iterable[str] | None = None,
        seed: int | None = None,
    ) -> None:
        self._takes_defaults = param_bounds is None
        self._log_params = log_params
        self._search_in(SearchSpace(param_bounds or {}, log_params or ()))
        self._least_size, self._usual_size, self._most_size = probe_sizes
        self._probe_size = self._usual_size
        self._rng = np.random.default_rng(seed)
        self._has_said_idle = False
        self._is_primed = False
        self._in_plateau = False
        self._decision: dict[str, Any] = {"phase": "watching"}
        self._noise = ScoreNoise()
        self._running: Running | None = None
        self._since_base: deque[float] = deque(maxlen=max(_RISE_HORIZONS))
        self._rest = 0
        """Windows left to rest."""
        self._patience = 1
        """How long the last rest was."""

    def take_defaults(
        self, param_bounds: Mapping[str, tuple[float, float]], log_params: Sequence[str]
    ) -> None:
        """Tune within the agent's own bounds, if none were given."""
        if self._takes_defaults:
            given = self._log_params
            self._search_in(SearchSpace(param_bounds, log_params if given is None else given))

    def _search_in(self, space: SearchSpace) -> None:
        self._space = space
        self._base = AcceptedBase(space)

    @abstractmethod
    def _cycle(self) -> Cycle:
        """Run one cycle of experiments."""

    @property
    def is_probing(self) -> bool:
        """Whether the hyperparameters last suggested are not the accepted base."""
        return self._base.is_left

    def suggest(
        self, current_hyperparams: HyperparamSet, metrics_history: Sequence[EvalMetrics]
    ) -> HyperparamSet:
        """Return the base, or one side of the experiment under way.

        Args:
            current_hyperparams: Those in force, which made the last score of the history.
            metrics_history: Oldest first. Empty: a plain copy is returned. A last score that is not
                finite is no evidence: the same hyperparameters are asked for again.

        Raises:
            ValueError: If a tuned hyperparameter is NaN or infinite.
        """
        current = current_hyperparams.copy()
        names = self._space.names_in(current.params)
        if not names or not metrics_history:
            self._say_idle(current.params)
            return current
        values = {name: current.params[name] for name in names}
        score = float(metrics_history[-1].primary_score)
        if not self._base.recognises(values):
            self._adopt(values, metrics_history)
        elif math.isfinite(score):
            self._measure(score, values)
        current.params.update(self._base.asked)
        return current

    def accepted(self, current_hyperparams: HyperparamSet) -> HyperparamSet:
        """Return the hyperparameters in force, those under an experiment as the base has them."""
        current = current_hyperparams.copy()
        if self._base.is_left:
            current.params.update(self._base.values)
        return current

    def on_improvement(self, metrics: EvalMetrics) -> None:
        """Hear that the score improved: probe more closely. The next plateau is a new one."""
        self._improve()

    def on_plateau(self, metrics_history: Sequence[EvalMetrics]) -> None:
        """Void the experiment under way, restore the base first, then probe more widely.

        Only the first call after an improvement does this. The loop calls at every evaluation without
        one, and experiments that are voided every time would never end.
        """
        if self._in_plateau:
            return
        self._in_plateau = True
        self._double()
        self._rest, self._patience = 0, 1
        self._void("plateau")

    def on_restart(self) -> None:
        """Forget experiment, base and noise: the next hyperparameters are the base."""
        self._void("restart")
        self._base.forget()
        self._noise = ScoreNoise()
        self._since_base.clear()
        self._rest, self._patience = 0, 1
        self._in_plateau = False
        self._is_primed = True

    def describe(self) -> dict[str, Any]:
        """Return the last decision as plain numbers and words.

        `phase` is watching (too few scores), rising (a run that makes progress is not touched),
        resting, probing or testing; after an experiment: `verdict`, `difference`, `t`, `z`, `windows`.
        `reach` is how far a probe goes, as a share of the range.
        """
        return self._decision | {"reach": self._probe_size}

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes; of an experiment under way what it began from and has heard since."""
        running = self._running
        return {
            "class": type(self).__name__,
            "now": self._attributes(),
            "began": None if running is None else running.began,
            "heard": [] if running is None else list(running.heard),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, within the experiment as well.

        An experiment that does not come to where it was, as in another version or within other bounds,
        is void.

        Raises:
            ValueError: If another kind of tuner made it; like KeyError and TypeError, if it is damaged.
        """
        require_kind(self, state)
        self._running = None
        if state["began"] is not None:
            self._take(state["began"])
            self._repeat(state["heard"])
            if self._running is not None and _alike(self._attributes(), state["now"]):
                return
            logger.warning("the experiment under way cannot be gone on with: it is void")
        self._take(state["now"])
        if state["began"] is not None:
            self._abandon("resume")

    def _attributes(self) -> dict[str, Any]:
        """Return all that changes but for the cycle under way; a subclass adds its own."""
        return {
            "base": self._base.state_dict(),
            "noise": self._noise.state_dict(),
            "rng": self._rng.bit_generator.state,
            "probe_size": self._probe_size,
            "is_primed": self._is_primed,
            "in_plateau": self._in_plateau,
            "decision": dict(self._decision),
            "since_base": list(self._since_base),
            "rest": self._rest,
            "patience": self._patience,
        }

    def _take(self, attributes: dict[str, Any]) -> None:
        """Take on what `_attributes` returned."""
        self._base.load_state_dict(attributes["base"])
        self._noise.load_state_dict(attributes["noise"])
        self._rng.bit_generator.state = attributes["rng"]
        self._probe_size = finite_number("the probe size", attributes["probe_size"])
        self._is_primed = bool(attributes["is_primed"])
        self._in_plateau = bool(attributes["in_plateau"])
        decision = attributes["decision"]
        self._decision = {**decision, "phase": str(decision["phase"])}
        scores = (finite_number("a score", score) for score in attributes["since_base"])
        self._since_base = deque(scores, maxlen=self._since_base.maxlen)
        self._rest = int(attributes["rest"])
        self._patience = int(attributes["patience"])

    def _repeat(self, heard: Sequence[Sequence[Any]]) -> None:
        """Begin a cycle from the attributes at hand, and tell it what it has heard."""
        if not self._base.values:
            return
        self._base.asked = self._base.at(self._begin_cycle())
        for what, *measured in heard:
            if what == "measured":
                score, values = measured
                self._measure(finite_number("a score", score), values)
            else:
                self._improve()

    def _narrow(self) -> None:
        self._probe_size = max(0.8 * self._probe_size, self._least_size)

    def _double(self) -> None:
        self._probe_size = max(self._probe_size, min(2.0 * self._probe_size, self._most_size))

    def _widen(self) -> None:
        """Restore the usual size after probes that showed nothing; in a plateau, double it at least.

        Many improvements make it so small that noise drowns every probe; doubling would take
        as many cycles to undo that.
        """
        if self._in_plateau:
            self._double()
        self._probe_size = max(self._probe_size, self._usual_size)

    def _probe(
        self, base: Array, offset: Array
    ) -> Generator[Array | None, Measurement, Comparison]:
        """Compare both sides of a point in one block."""
        return self._compare((base + offset, base - offset), "probing", lambda _: False)

    def _test(
        self, point: Array, earlier: Evidence | None = None
    ) -> Generator[Array | None, Measurement, tuple[bool, Comparison]]:
        """Test a point against the base, and make it the base if it stands.

        Args:
            point: `[D]`.
            earlier: The evidence that proposed it.

        Returns:
            Whether it stood, and the comparison of the point with the base.
        """
        outcome = yield from self._compare(
            (point, None), "testing", lambda evidence: evidence.is_open(earlier)
        )
        is_kept = outcome.evidence.stands(earlier)
        if is_kept:
            self._base.accept(outcome.first.values)
            self._since_base.clear()
        self._conclude("kept" if is_kept else "undone", outcome.evidence)
        return is_kept, outcome

    def _climb(self, step: Array, earlier: Evidence | None) -> Cycle:
        """Take a step `[D]` as often as it stands the test."""
        has_moved = False
        while not self._base.is_at(target := np.clip(self._base.point + step, 0.0, 1.0)):
            is_kept, _ = yield from self._test(target, earlier)
            if not is_kept:
                break
            has_moved = True
        return has_moved

    def _compare(
        self,
        sides: tuple[Array | None, Array | None],
        phase: str,
        goes_on: Callable[[Evidence], bool],
    ) -> Generator[Array | None, Measurement, Comparison]:
        """Run an experiment, block by block while `goes_on` says so."""
        measured: dict[int, Measurement] = {}
        scores: list[float] = []
        while True:
            for _ in range(BLOCK):
                side = side_of(len(scores))
                self._decision = {"phase": phase, "side": "AB"[side]}
                measured[side] = yield sides[side]
                scores.append(measured[side].score)
            evidence = self._noise.evidence(scores)
            if not goes_on(evidence):
                break
        self._noise.add_experiment(scores)
        return Comparison(evidence, self._noise.unit(scores), measured[0], measured[1])

    def _conclude(self, verdict: str, evidence: Evidence) -> None:
        self._decision = {
            "phase": "resting",
            "verdict": verdict,
            "difference": evidence.difference,
            "t": evidence.t,
            "z": evidence.z,
            "windows": evidence.windows,
        }

    def _adopt(self, values: dict[str, Any], history: Sequence[EvalMetrics]) -> None:
        """Make the values in force the base."""
        self._void("adopted")
        if not self._is_primed:
            self._is_primed = True
            self._noise = ScoreNoise(metrics.primary_score for metrics in history)
        self._since_base.clear()
        self._base.adopt(values)

    def _improve(self) -> None:
        self._in_plateau = False
        self._narrow()
        if self._running is not None:
            self._running.heard.append(("improved",))

    def _measure(self, score: float, values: dict[str, Any]) -> None:
        """Take a window's score with the values that were in force, and ask for the next ones."""
        point = self._next_point(Measurement(score, self._space.to_unit(values), values))
        self._base.asked = self._base.at(point)

    def _next_point(self, measured: Measurement) -> Array | None:
        """Return what to try after a window, None for the base."""
        self._base.read(measured.values)
        self._since_base.append(measured.score)
        if self._running is not None:
            return self._advance(self._running, measured)
        if self._base.is_left:
            return None
        self._noise.add_quiet(measured.score)
        self._rest -= 1
        if self._must_wait():
            return None
        return self._begin_cycle()

    def _begin_cycle(self) -> Array | None:
        self._running = Running(self._cycle(), self._attributes())
        return next(self._running.points)

    def _advance(self, running: Running, measured: Measurement) -> Array | None:
        running.heard.append(("measured", measured.score, measured.values))
        try:
            return running.points.send(measured)
        except StopIteration as end:
            self._running = None
            self._patience = 1 if end.value else min(2 * self._patience, _LONGEST_REST)
            self._rest = self._patience
            return None

    def _must_wait(self) -> bool:
        if self._noise.quiet_scores < _ENOUGH_SCORES:
            self._decision = {"phase": "watching"}
            return True
        scores = list(self._since_base)
        if any(_rises(scores[-horizon:]) for horizon in _RISE_HORIZONS):
            self._decision = {"phase": "rising"}
            return True
        if self._rest > 0 and self._decision["phase"] == "rising":
            self._decision = {"phase": "resting"}
        return self._rest > 0

    def _void(self, reason: str) -> None:
        if self._running is not None:
            self._abandon(reason)

    def _abandon(self, reason: str) -> None:
        self._running = None
        self._decision = {"phase": "resting", "verdict": "void", "reason": reason}

    def _say_idle(self, params: dict[str, Any]) -> None:
        if self._has_said_idle or self._space.names_in(params):
            return
        self._has_said_idle = True
        if not self._space.bounds:
            logger.info("%s tunes nothing: no hyperparameter has bounds", type(self).__name__)
            return
        wanted, there = ", ".join(self._space.bounds), ", ".join(params)
        logger.warning(
            "nothing is tuned: there are bounds for %s, but numbers for %s", wanted, there
        )


def _rises(scores: Sequence[float]) -> bool:
    return len(scores) >= _FEWEST_TO_RISE and rises_significantly(scores)


def _alike(attributes: dict[str, Any], stored: dict[str, Any]) -> bool:
    """Whether attributes are the stored ones, to the bit; NaN is NaN here, and arrays are their numbers."""
    return bool(to_json(attributes, "attributes") == to_json(stored, "attributes"))


def probe_sizes(name: str, least: float, usual: float, most: float) -> tuple[float, float, float]:
    """Return the sizes of probes; ValueError if the least, an argument of this name, is above the usual."""
    if not 0.0 < least <= usual <= 0.5:
        raise ValueError(
            f"{name} and perturbation_scale must be in (0, 0.5], the former not the greater, "
            f"got {least} and {usual}"
        )
    return least, usual, max(usual, most)
