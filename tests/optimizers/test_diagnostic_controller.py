"""Corrections are bounded, recover, and stay unseen by the optimizer that is corrected."""

from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest

from tensor_optix.core.base_optimizer import BaseOptimizer, FixedHyperparams
from tensor_optix.core.types import EvalMetrics, HyperparamSet
from tensor_optix.optimizers.backoff_optimizer import BackoffOptimizer
from tensor_optix.optimizers.diagnostic_controller import DiagnosticController, DiagnosticSettings
from tensor_optix.optimizers.spsa_optimizer import SPSAOptimizer
from tests.contracts.optimizer_contract import OptimizerContract
from tests.core.scripted_loop import EVERY_WINDOW, Setup
from tests.optimizers.simulated_run import SimulatedRun
from tests.scripted import CountingAgent

PPO = {"learning_rate": 3e-4, "entropy_coef": 0.01}
BOUNDS = {"learning_rate": (1e-4, 3e-3), "entropy_coef": (0.001, 0.05)}
QUIET = {"policy_loss": 0.01, "entropy": 0.6, "approx_kl": 0.01}
MOVES_TOO_FAR = QUIET | {"approx_kl": 0.05}
DQN = {"learning_rate": 1e-3, "epsilon": 0.05, "epsilon_min": 0.05}


class Recording(BaseOptimizer):
    """Leaves everything as it is, unless told otherwise; remembers what it is told."""

    def __init__(self, **changes):
        self.changes = changes
        self.seen = []
        self.calls = []
        self.probing = False

    def suggest(self, current_hyperparams, metrics_history):
        self.seen.append(dict(current_hyperparams.params))
        params = current_hyperparams.params | self.changes
        return replace(current_hyperparams, params=params)

    def on_improvement(self, metrics):
        self.calls.append("improvement")

    def on_plateau(self, metrics_history):
        self.calls.append("plateau")

    def on_restart(self):
        self.calls.append("restart")

    def describe(self):
        return {"phase": "watching"}

    @property
    def is_probing(self):
        return self.probing


class Run:
    """Windows with given diagnostics; `agent` is what an agent makes of the parameters asked for."""

    def __init__(self, params, inner=None, agent=dict, bounds=BOUNDS, **rules):
        self.inner = inner or Recording()
        self.controller = DiagnosticController(self.inner, bounds=bounds, **rules)
        self.params = dict(params)
        self.agent = agent
        self.history = []

    def windows(self, count, diagnostics, score=0.0):
        """Return the parameters after each window."""
        return [self.window(diagnostics, score) for _ in range(count)]

    def window(self, diagnostics, score=0.0):
        self.history.append(EvalMetrics(score, dict(diagnostics), len(self.history)))
        asked = self.controller.suggest(HyperparamSet(dict(self.params)), self.history)
        self.params = self.agent(asked.params)
        return self.params


class TestAroundNoTuning(OptimizerContract):
    @pytest.fixture
    def optimizer(self):
        return DiagnosticController(FixedHyperparams(), epsilon_score_threshold=0.0)

    @pytest.fixture
    def another(self):
        return DiagnosticController(FixedHyperparams(), epsilon_score_threshold=0.0)


class TestAroundSPSA(OptimizerContract):
    @pytest.fixture
    def optimizer(self):
        bounds = {"learning_rate": (0.01, 1.0)}
        return DiagnosticController(SPSAOptimizer(bounds, seed=0), bounds=bounds)

    @pytest.fixture
    def another(self):
        bounds = {"learning_rate": (0.01, 1.0)}
        return DiagnosticController(SPSAOptimizer(bounds, seed=1), bounds=bounds)


def test_a_learning_rate_stays_within_its_bounds_through_40_windows_of_alarm_and_recovers():
    run = Run(PPO)
    rates = [params["learning_rate"] for params in run.windows(40, MOVES_TOO_FAR)]
    assert rates[-1] == min(rates) == 1e-4
    recovering = [params["learning_rate"] for params in run.windows(12, QUIET)]
    assert recovering == sorted(recovering)
    assert recovering[-1] == 3e-4


def test_without_bounds_a_correction_ends_at_a_hundredth_and_at_a_hundred_times_the_start():
    run = Run(PPO, bounds=None, min_episodes=1)
    params = run.windows(40, MOVES_TOO_FAR | {"entropy": 0.0})[-1]
    assert params == {"learning_rate": pytest.approx(3e-6), "entropy_coef": pytest.approx(1.0)}
    assert run.windows(12, QUIET)[-1] == PPO


def test_a_solved_task_with_negative_rewards_is_not_explored_again():
    rules = {"epsilon_patience": 5}
    solved = Run(DQN, **rules).windows(60, {"epsilon": 0.05}, score=-80.0)
    assert {params["epsilon"] for params in solved} == {0.05}
    rules["epsilon_score_threshold"] = -100.0
    solved = Run(DQN, **rules).windows(60, {"epsilon": 0.05}, score=-80.0)
    assert {params["epsilon"] for params in solved} == {0.05}


def test_a_policy_that_moves_too_far_halves_the_learning_rate_only():
    run = Run(PPO, min_episodes=3)
    rates = [params["learning_rate"] for params in run.windows(5, MOVES_TOO_FAR)]
    assert rates == pytest.approx([3e-4, 3e-4, 1.5e-4, 1.5e-4, 1.5e-4])
    assert run.params["entropy_coef"] == 0.01
    at_the_threshold = Run(PPO, target_kl=0.025).windows(9, MOVES_TOO_FAR)
    assert at_the_threshold == [PPO] * 9


@pytest.mark.parametrize("name", ["loss", "policy_loss", "train_policy_loss", "my_loss"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_spike_of_the_loss_halves_the_learning_rate_once(name, sign):
    run = Run(PPO)
    assert run.windows(9, {name: -0.02}) == [PPO] * 9
    assert run.window({name: sign * 0.09}) == PPO
    assert run.window({name: sign * 0.3})["learning_rate"] == pytest.approx(1.5e-4)
    assert run.window({name: 0.02})["learning_rate"] > 1.5e-4


def test_windows_in_which_nothing_was_learned_do_not_make_the_first_loss_a_spike():
    run = Run(PPO)
    run.windows(20, {"loss": 0.0})
    assert run.windows(9, {"loss": 0.5}) == [PPO] * 9


def test_a_policy_that_hardly_explores_gets_its_entropy_rewarded_more():
    run = Run(PPO, min_episodes=2)
    coefs = [params["entropy_coef"] for params in run.windows(8, QUIET | {"entropy": 0.01})]
    assert coefs == pytest.approx([0.01, 0.02, 0.02, 0.04, 0.04, 0.05, 0.05, 0.05])
    assert run.params["learning_rate"] == 3e-4
    assert run.windows(12, QUIET)[-1] == PPO


def test_epsilon_is_raised_where_exploring_is_over_and_the_score_is_poor_each_time_later():
    run = Run(DQN, epsilon_patience=6, epsilon_score_threshold=20.0)
    decayed = lambda params: params | {"epsilon": max(0.05, 0.2 * params["epsilon"])}  # noqa: E731
    raised = []
    for window in range(60):
        run.params = decayed(run.params)
        if run.window({"epsilon": run.params["epsilon"]}, score=5.0)["epsilon"] == 0.3:
            raised.append(window)
    assert raised[0] == 5
    gaps = np.diff(raised).tolist()
    assert len(gaps) >= 2
    assert all(late >= early + 5 for early, late in pairwise(gaps))


def test_epsilon_is_raised_within_its_bounds_and_never_lowered():
    rules = {"epsilon_patience": 5, "epsilon_score_threshold": 20.0, "epsilon_reset_value": 0.5}
    run = Run(DQN, bounds={"epsilon": (0.01, 0.2)}, **rules)
    assert run.windows(5, {"train_epsilon": 0.05})[-1]["epsilon"] == 0.2
    run = Run(DQN | {"epsilon": 0.8}, **rules)
    assert run.windows(5, {"epsilon": 0.05})[-1]["epsilon"] == 0.8


def test_without_an_inner_optimizer_there_are_corrections_only():
    controller = DiagnosticController()
    given = HyperparamSet({"learning_rate": 1.0})
    calm = [EvalMetrics(1.0, {"approx_kl": 0.0}, k) for k in range(8)]
    assert controller.suggest(given, calm).params == {"learning_rate": 1.0}
    alarmed = [*calm, EvalMetrics(1.0, {"approx_kl": 1.0}, 8)]
    rates = [controller.suggest(given, alarmed).params["learning_rate"] for _ in range(8)]
    assert min(rates) == 0.5


def test_an_inner_optimizer_hears_of_the_agents_bounds():
    inner = BackoffOptimizer()
    DiagnosticController(inner).take_defaults({"learning_rate": (0.1, 1.0)}, ())
    run = SimulatedRun(inner, {"learning_rate": 0.5}, lambda params, k: float(k % 3)).go(40)
    assert len({params["learning_rate"] for params in run.asked}) > 1


def test_without_alarm_every_suggestion_is_the_inner_optimizers_own():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=80)
    bare = SPSAOptimizer(BOUNDS, log_params=["learning_rate"], seed=3)
    run = Run(PPO, SPSAOptimizer(BOUNDS, log_params=["learning_rate"], seed=3))
    params, probes = dict(PPO), 0
    for score in scores:
        run.window(QUIET, float(score))
        params = bare.suggest(HyperparamSet(dict(params)), run.history).params
        assert run.params == params
        assert run.controller.is_probing == bare.is_probing
        probes += bare.is_probing
    assert probes > 10


@pytest.mark.parametrize(
    "agent",
    [
        dict,
        lambda params: {name: float(np.float32(value)) for name, value in params.items()},
        lambda params: params | {"learning_rate": max(params["learning_rate"], 2e-4)},
        lambda params: params | {"learning_rate": 3e-4},
    ],
    ids=["exact", "single precision", "clips", "keeps its rate"],
)
def test_the_inner_optimizer_sees_what_it_asked_for_and_never_a_correction(agent):
    run = Run(PPO, agent=agent)
    run.windows(30, MOVES_TOO_FAR)
    run.windows(12, QUIET)
    seen = [params["learning_rate"] for params in run.inner.seen]
    assert seen == pytest.approx([3e-4] * 42, rel=1e-6)
    assert run.controller.describe()["corrections"] == {}


def test_an_inner_optimizer_that_moves_while_it_is_corrected_is_followed():
    run = Run(PPO)
    run.windows(6, MOVES_TOO_FAR)
    run.inner.changes = {"learning_rate": 1e-3}
    assert run.window(MOVES_TOO_FAR)["learning_rate"] == pytest.approx(5e-4)
    assert run.windows(12, QUIET)[-1]["learning_rate"] == 1e-3
    assert run.inner.seen[-1]["learning_rate"] == 1e-3


def test_what_someone_else_sets_is_taken_as_it_is():
    run = Run(PPO)
    run.windows(6, MOVES_TOO_FAR)
    run.params["learning_rate"] = 1e-3
    assert run.window(QUIET)["learning_rate"] == 1e-3
    assert run.inner.seen[-1]["learning_rate"] == 1e-3


def test_a_value_out_of_bounds_is_not_corrected_towards_the_wrong_side():
    start = {"learning_rate": 1e-5, "entropy_coef": 0.2}
    alarming = MOVES_TOO_FAR | {"entropy": 0.0}
    assert Run(start).windows(20, alarming) == [start] * 20


def test_what_is_kept_with_a_policy_is_not_corrected():
    run = Run(PPO)
    params = run.windows(6, MOVES_TOO_FAR)[-1]
    assert params["learning_rate"] == pytest.approx(1.5e-4)
    assert run.controller.accepted(HyperparamSet(params)).params == PPO
    assert params["learning_rate"] == pytest.approx(1.5e-4)
    run.inner.probing = True
    assert run.controller.accepted(HyperparamSet(params)) is None


def test_after_a_restart_what_comes_is_as_it_should_be():
    run = Run(PPO)
    run.windows(6, MOVES_TOO_FAR)
    run.controller.on_restart()
    assert run.window(QUIET)["learning_rate"] == pytest.approx(1.5e-4)
    assert run.inner.seen[-1]["learning_rate"] == pytest.approx(1.5e-4)


def test_the_inner_optimizer_hears_everything():
    inner = Recording()
    controller = DiagnosticController(inner)
    controller.on_improvement(EvalMetrics(0.0, {}, 0))
    controller.on_plateau([])
    controller.on_restart()
    assert inner.calls == ["improvement", "plateau", "restart"]
    assert not controller.is_probing
    inner.probing = True
    assert controller.is_probing


def test_an_alarm_and_its_correction_can_be_logged():
    run = Run(PPO)
    run.windows(6, MOVES_TOO_FAR)
    described = json.loads(json.dumps(run.controller.describe(), allow_nan=False))
    assert described == {
        "phase": "watching",
        "alarms": {"learning_rate": ["approx_kl 0.05 is too large"]},
        "corrections": {"learning_rate": 0.5},
    }


@pytest.mark.parametrize(
    "diagnostics",
    [{}, {"loss": math.nan, "entropy": math.nan}, {"loss": None, "approx_kl": "high"}, {"x": 1}],
)
def test_what_an_agent_does_not_tell_alarms_nobody(diagnostics):
    assert Run(PPO).windows(12, diagnostics) == [PPO] * 12


def test_in_a_loop_an_endless_alarm_corrects_and_what_is_returned_is_uncorrected(tmp_path):
    class Alarming(CountingAgent):
        def learn(self, episode_data):
            return super().learn(episode_data) | {"approx_kl": 1.0}

    optimizer = DiagnosticController(FixedHyperparams(), bounds={"learning_rate": (0.02, 1.0)})
    setup = Setup(
        tmp_path,
        lambda updates, window: float(updates),
        agent=Alarming(),
        optimizer=optimizer,
        scheduler=EVERY_WINDOW,
        max_episodes=40,
    ).run()
    changes = setup.diary.named("on_hyperparam_update")
    assert changes[-1][1]["learning_rate"] == 0.02
    assert setup.agent.params["learning_rate"] == 0.1
    tuned = [event.numbers for event in setup.diary.events if event.kind == "tuned"]
    assert tuned[0]["tuner"]["corrections"] == {"learning_rate": 0.5}


def test_the_arguments_reach_the_rules():
    rules = {"target_kl": 0.1, "min_episodes": 1}
    controller = DiagnosticController(FixedHyperparams(), bounds=BOUNDS, **rules)
    history = [EvalMetrics(0.0, {"approx_kl": 0.15}, 0)]
    assert controller.suggest(HyperparamSet(PPO), history).params == PPO
    history.append(EvalMetrics(0.0, {"approx_kl": 0.25}, 1))
    assert controller.suggest(HyperparamSet(PPO), history).params["learning_rate"] == 1.5e-4
    for rule in fields(DiagnosticSettings):
        value = 1 if "spike" not in rule.name else 2
        DiagnosticController(FixedHyperparams(), **{rule.name: value})


def test_an_unknown_rule_is_refused():
    with pytest.raises(TypeError, match="'target_k'"):
        DiagnosticController(FixedHyperparams(), target_k=0.1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss_spike_factor", 1.0),
        ("loss_spike_factor", math.nan),
        ("entropy_floor", math.inf),
        ("target_kl", 0.0),
        ("epsilon_patience", 0),
        ("epsilon_patience", 2.5),
        ("epsilon_reset_value", 1.5),
        ("epsilon_score_threshold", math.nan),
        ("min_episodes", 0),
        ("bounds", {"learning_rate": (1.0, 0.0)}),
    ],
)
def test_a_number_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        DiagnosticController(FixedHyperparams(), **{name: value})


def test_only_an_optimizer_can_be_corrected():
    with pytest.raises(TypeError, match="inner must be a BaseOptimizer, got dict"):
        DiagnosticController({})


@pytest.mark.parametrize("value", [None, True, 0.0, math.nan, "auto"])
def test_a_hyperparameter_that_cannot_be_multiplied_is_left_alone(value):
    controller = DiagnosticController(FixedHyperparams(), min_episodes=1)
    history = []
    for window in range(9):
        history.append(EvalMetrics(0.0, {"approx_kl": 1.0}, window))
        suggestion = controller.suggest(HyperparamSet({"learning_rate": value}), history)
        assert suggestion.params["learning_rate"] is value


def test_two_alarms_at_once_are_one_correction():
    controller = DiagnosticController(FixedHyperparams())
    quiet = [EvalMetrics(0.0, {"loss": 0.01, "approx_kl": 0.01}, window) for window in range(9)]
    for count in range(1, 10):
        assert controller.suggest(HyperparamSet(PPO), quiet[:count]).params == PPO
    alarming = EvalMetrics(0.0, {"loss": 9.0, "approx_kl": 0.5}, 9)
    corrected = controller.suggest(HyperparamSet(PPO), [*quiet, alarming])
    assert corrected.params == PPO | {"learning_rate": 1.5e-4}


def test_an_inner_optimizer_that_keeps_nothing_hears_of_a_restart_when_the_run_goes_on():
    state = DiagnosticController(Recording()).state_dict()
    inner = Recording()
    DiagnosticController(inner).load_state_dict(state)
    assert inner.calls == ["restart"]
