"""What every hyperparameter optimizer must do. Inherit `OptimizerContract` and give it the fixture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tensor_optix.core.checkpoints.saved_state import read_state, write_state
from tensor_optix.core.json_values import to_json
from tensor_optix.core.types import EvalMetrics, HyperparamSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tensor_optix.core.base_optimizer import BaseOptimizer

EVERY = 11
"""Evaluations from one state that is kept to the next."""
FIRST, FURTHER = 150, 200
"""Evaluations during which states are kept, and after each of them."""


def evaluation(params: dict[str, Any], k: int) -> EvalMetrics:
    """Return what window k measures: a hill with noise, now and then no score, and alarming diagnostics."""
    rng = np.random.default_rng(k)
    score = -40.0 * (params["learning_rate"] - 0.5) ** 2 + 0.1 * params["n_epochs"] + rng.normal()
    diagnostics = {
        "policy_loss": 100.0 if k % 19 == 18 else 1.0 + 0.1 * float(rng.normal()),
        "approx_kl": 0.1 if k % 29 > 25 else 0.01,
        "entropy": 0.01 if k % 31 < 4 else 1.0,
        "epsilon": 0.05,
    }
    return EvalMetrics(math.nan if k % 37 == 36 else float(score), diagnostics, k)


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a state that holds no others."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in inner:
        if isinstance(value, dict | list | tuple):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def altered(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of a state with another value at a path."""
    if not path:
        return value
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    changed = {k: altered(one, path[1:], value) if k == path[0] else one for k, one in inner}
    return changed if isinstance(tree, dict) else type(tree)(changed.values())


class Told:
    """A tuner in a run, and all that it says there.

    Args:
        tuner: Is asked after each evaluation.
        params: Those in force.
        history: The evaluations so far.
    """

    def __init__(
        self, tuner: BaseOptimizer, params: dict[str, Any], history: Sequence[EvalMetrics] = ()
    ) -> None:
        self.tuner, self.params, self.history = tuner, dict(params), list(history)
        self.said: list[Any] = []

    def step(self) -> None:
        k, tuner = len(self.history), self.tuner
        self.history.append(evaluation(self.params, k))
        if k % 43 in (3, 11):
            tuner.on_improvement(self.history[-1])
        elif k % 43 > 20:
            tuner.on_plateau(self.history)
        if k % 97 == 96:
            self.params["learning_rate"] = 0.3
        self.params = tuner.suggest(HyperparamSet(dict(self.params)), self.history).params
        accepted = tuner.accepted(HyperparamSet(dict(self.params)))
        said = [self.params, tuner.is_probing, accepted and accepted.params, tuner.describe()]
        self.said.append(to_json(said, "said"))


class OptimizerContract:
    """A subclass provides `optimizer`, and `another`: the same but for its seed."""

    @pytest.fixture
    def optimizer(self) -> BaseOptimizer:
        raise NotImplementedError

    @pytest.fixture
    def another(self) -> BaseOptimizer:
        raise NotImplementedError

    def history(self, length: int) -> list[EvalMetrics]:
        return [EvalMetrics(float(i % 3), {}, i) for i in range(length)]

    def test_an_empty_history_is_tolerated_and_what_was_given_is_untouched(self, optimizer):
        given = HyperparamSet({"learning_rate": 0.1})
        assert set(optimizer.suggest(given, []).params) == {"learning_rate"}
        assert given.params == {"learning_rate": 0.1}

    def test_it_goes_on_suggesting_whatever_it_hears(self, optimizer):
        params = HyperparamSet({"learning_rate": 0.1})
        for length in range(1, 12):
            history = self.history(length)
            optimizer.on_improvement(history[-1])
            optimizer.on_plateau(history)
            params = optimizer.suggest(params, history)
            assert set(params.params) == {"learning_rate"}

    def test_a_score_that_is_not_finite_is_tolerated(self, optimizer):
        params = HyperparamSet({"learning_rate": 0.1})
        for score in (1.0, math.nan, 2.0, -math.inf, 3.0):
            params = optimizer.suggest(params, [*self.history(9), EvalMetrics(score, {}, 9)])
            assert math.isfinite(params.params["learning_rate"])

    def test_after_a_restart_it_is_not_probing_and_goes_on(self, optimizer):
        optimizer.suggest(HyperparamSet({"learning_rate": 0.1}), self.history(9))
        optimizer.on_restart()
        assert not optimizer.is_probing
        params = optimizer.suggest(HyperparamSet({"learning_rate": 0.2}), self.history(10)).params
        assert set(params) == {"learning_rate"}

    def test_it_says_whether_it_is_probing(self, optimizer):
        assert optimizer.is_probing in (True, False)

    def test_what_it_calls_accepted_has_every_hyperparameter_and_is_no_experiment(self, optimizer):
        params = HyperparamSet({"learning_rate": 0.1, "other": "text"})
        for length in range(1, 40):
            was_probing = optimizer.is_probing
            accepted = optimizer.accepted(params)
            if accepted is None:
                assert was_probing
            else:
                assert set(accepted.params) == set(params.params)
                assert was_probing or accepted.params == params.params
            params = optimizer.suggest(params, self.history(length))

    def test_from_its_state_another_goes_on_with_the_same_suggestions(
        self, optimizer, another, tmp_path
    ):
        params = {"learning_rate": 0.1, "n_epochs": 10, "name": "adam"}
        params |= {"entropy_coef": 0.01, "epsilon": 0.05, "epsilon_min": 0.05}
        straight, kept = Told(optimizer, params), []
        for k in range(FIRST + FURTHER):
            straight.step()
            if k % EVERY == 0 and k < FIRST:
                kept.append((k + 1, optimizer.state_dict(), dict(straight.params)))
        for seen, state, params in kept:
            write_state(tmp_path / "tuner", state)
            another.load_state_dict(read_state(tmp_path / "tuner"))
            resumed = Told(another, params, straight.history[:seen])
            for _ in range(FURTHER):
                resumed.step()
            assert resumed.said == straight.said[seen : seen + FURTHER]

    def test_a_state_is_a_copy_and_what_takes_it_on_has_the_same(self, optimizer, another):
        run = Told(optimizer, {"learning_rate": 0.1, "n_epochs": 10})
        for _ in range(30):
            run.step()
        state = optimizer.state_dict()
        before = to_json(state, "state")
        another.load_state_dict(state)
        assert to_json(another.state_dict(), "state") == before
        for _ in range(30):
            run.step()
        assert to_json(state, "state") == before

    def test_the_state_of_another_kind_of_tuner_is_refused_by_name(self, optimizer):
        with pytest.raises(
            ValueError, match=rf"{type(optimizer).__name__}, got one of AnotherTuner"
        ):
            optimizer.load_state_dict({"class": "AnotherTuner"})

    @pytest.mark.parametrize("value", ["x", None, math.nan])
    def test_an_altered_state_is_refused_or_does_no_harm(self, optimizer, another, value):
        run = Told(optimizer, {"learning_rate": 0.1, "n_epochs": 10})
        for _ in range(16):
            run.step()
        state = optimizer.state_dict()
        for path in leaves(state):
            try:
                another.load_state_dict(altered(state, path, value))
            except (ValueError, KeyError, TypeError):
                continue
            resumed = Told(another, run.params, run.history)
            for _ in range(9):
                resumed.step()
