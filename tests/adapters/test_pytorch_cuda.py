"""Updates for a GPU, made on the CPU: they compute what eager ones do, recorded or not."""

from __future__ import annotations

import logging
import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

from tensor_optix.adapters.pytorch import backend
from tensor_optix.adapters.pytorch.cuda import Staging, cuda_backend
from tensor_optix.core.types import HyperparamSet
from tests.algorithms import small_dqn, small_gaussian, small_ppo, small_sac, small_td3
from tests.contracts.backend_contract import BackendContract
from tests.frameworks import framework_engine, load

RATE = 2.0**-10
"""A learning rate that float32 holds exactly."""


class Here:
    """The CPU in the place of a GPU: a recording is the function itself."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.recordings = self.replays = self.waits = 0

    def running(self) -> Any:
        return nullcontext()

    def settle(self) -> None:
        self.waits += 1

    def staging(self, size: int, dtype: Any) -> Any:
        return torch.empty(size, dtype=dtype)

    def record(self, fn: Any) -> Any:
        self.recordings += 1
        fn()

        def replay() -> None:
            self.replays += 1
            fn()

        return replay


class Refusing(Here):
    """A place where nothing can be recorded."""

    def record(self, fn: Any) -> Any:
        fn()
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


class Idle(Here):
    """A place whose recordings do nothing."""

    def record(self, fn: Any) -> Any:
        return super().record(fn) and (lambda: None)


class Twofold(Here):
    """A place whose recordings make every update twice."""

    def record(self, fn: Any) -> Any:
        return super().record(lambda: (fn(), fn()))


class TestCudaBackend(BackendContract):
    @pytest.fixture
    def framework(self, torch_framework, monkeypatch):
        monkeypatch.setattr(torch_framework, "backend", cuda_backend(backend, Here()))
        return torch_framework


@pytest.fixture
def on(monkeypatch):
    """A function that makes an agent whose updates are those of a place; None: the eager ones."""
    prepare = backend.prepare

    def make(place: Any, small: Any, records: bool = True, **params: Any) -> Any:
        def prepared(*arguments: Any) -> Any:
            ops = prepare(*arguments)
            return ops if place is None else cuda_backend(ops, place, records)

        with framework_engine(), monkeypatch.context() as patch:
            patch.setattr(backend, "prepare", prepared)
            return small.make_agent(**({"learning_rate": RATE} | params))

    return make


def state_of(agent: Any) -> dict[str, np.ndarray]:
    """Return all weights, targets, moments and step counts."""
    networks = agent._networks | {name: target for name, (target, _) in agent._targets.items()}
    found = {
        f"{name}.{key}": value.numpy().copy()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    for name, optimizer in agent._optimizers.items():
        for index, entries in optimizer.state_dict()["state"].items():
            found |= {f"{name}.{index}.{k}": v.numpy().copy() for k, v in entries.items()}
    return found


def assert_same_state(agent: Any, other: Any) -> None:
    ours, theirs = state_of(agent), state_of(other)
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def with_bad_rows(window: Any, small: Any) -> Any:
    """Return a window of which some updates come out as not finite."""
    if small in (small_ppo, small_gaussian):
        rng = np.random.default_rng(0)
        window.log_probs = rng.uniform(-2.0, 0.0, len(window.rewards)).astype(np.float32)
        window.log_probs[3] = np.nan
    else:
        window.rewards[20] = 1e30
    return window


OFF_POLICY = {"learning_starts": 16, "batch_size": 8, "updates_per_step": 1.0}
CASES = {
    "ppo": (small_ppo, {"minibatch_size": 24, "n_epochs": 3}),
    "gaussian ppo": (small_gaussian, {"minibatch_size": 24, "n_epochs": 3}),
    "dqn": (small_dqn, OFF_POLICY | {"per_alpha": 0.6, "target_update_freq": 7}),
    "sac": (small_sac, OFF_POLICY | {"per_alpha": 0.6}),
    "sac whose targets are copies": (small_sac, OFF_POLICY | {"tau": 1.0}),
    "td3": (small_td3, OFF_POLICY),
}


@pytest.mark.parametrize("records", [False, True], ids=["eager", "recorded"])
@pytest.mark.parametrize("name", CASES)
def test_agents_learn_bit_by_bit_what_they_learn_on_the_cpu(on, name, records):
    small, params = CASES[name]
    place = Here()
    ours, theirs = on(place, small, records, **params), on(None, small, **params)
    for change in ({}, {}, {"learning_rate": 2.0**-8, "gamma": 0.9}):
        for agent in (ours, theirs):
            agent.set_hyperparams(HyperparamSet(change))
        found, wanted = (agent.learn(small.make_episode(60)) for agent in (ours, theirs))
        assert found == wanted
        assert_same_state(ours, theirs)
    assert (place.replays > 0) is records


@pytest.mark.parametrize("records", [False, True], ids=["eager", "recorded"])
@pytest.mark.parametrize("name", CASES)
def test_an_update_that_is_left_out_changes_nothing(on, name, records):
    small, params = CASES[name]
    ours, theirs = on(Here(), small, records, **params), on(None, small, **params)
    for spoilt in (False, True, False):
        windows = [small.make_episode(60) for _ in range(2)]
        if spoilt:
            windows = [with_bad_rows(window, small) for window in windows]
        found, wanted = ours.learn(windows[0]), theirs.learn(windows[1])
        assert found == pytest.approx(wanted, rel=0.0, abs=0.0, nan_ok=True)
        assert (found["n_skipped_updates"] > 0) is spoilt or small not in (
            small_ppo,
            small_gaussian,
        )
        assert_same_state(ours, theirs)


def test_a_window_of_ppo_goes_to_the_device_once_whatever_the_number_of_passes(on, monkeypatch):
    moved: list[str] = []
    copy = Staging._copy
    monkeypatch.setattr(
        Staging, "_copy", lambda self, name, array: (moved.append(name), copy(self, name, array))[1]
    )
    agent = on(Here(), small_ppo, minibatch_size=16, n_epochs=7)
    for _ in range(2):
        moved.clear()
        agent.learn(small_ppo.make_episode(60))
        assert sorted(moved) == sorted(set(moved)) == [
            "actions", "advantages", "log_probs", "observations", "returns",
        ]  # fmt: skip


class Fit:
    """A network that is fitted to targets, as a loop of updates."""

    def __init__(self, place: Any, optimizer: Any = None, layers: Any = ()) -> None:
        self.framework = load("torch")
        self.ops = backend if place is None else cuda_backend(backend, place)
        perceptron = self.framework.perceptron((1, 4, 1))
        self.network = nn.Sequential(*layers, *perceptron)
        make = optimizer or (lambda parameters: torch.optim.Adam(parameters, lr=RATE))
        self.optimizer = make(self.network.parameters())
        networks = {"network": self.network}
        descent = self.ops.gradient_descent(self.loss, networks, self.optimizer)
        self.loop = self.ops.update_loop(lambda b, s: (descent.step(b, s), {}), [self.network])

    def loss(self, batch: Any, scalars: Any) -> Any:
        loss = (self.network(batch["x"]) - batch["y"]).square().mean()
        return loss, {"loss": loss}

    def learn(self, size: int = 2, max_norm: float = 0.5, bad: int | None = None) -> Any:
        """Learn from 16 rows, of which one may be bad; return the diagnostics."""
        x = np.linspace(-1.0, 1.0, 16, dtype=np.float32)[:, None]
        y = 3.0 * np.sin(3.0 * x)
        if bad is not None:
            y[bad] = np.nan
        means, _ = self.loop({"x": x, "y": y}, size, {"max_grad_norm": max_norm})
        return dict(means)

    def arrays(self) -> list[np.ndarray]:
        return [p.detach().numpy().copy() for p in self.network.parameters()]


def assert_fits_alike(ours: Fit, theirs: Fit, rounds: int = 2, **how: Any) -> None:
    for _ in range(rounds):
        assert ours.learn(**how) == theirs.learn(**how)
        for one, other in zip(ours.arrays(), theirs.arrays(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_update_is_recorded_after_a_few_and_replayed_from_then_on():
    place = Here()
    ours, theirs = Fit(place), Fit(None)
    # Of 8 updates three are eager, and the fourth is the recording's, replayed to be compared.
    assert_fits_alike(ours, theirs, 1)
    assert (place.recordings, place.replays) == (1, 5)
    assert_fits_alike(ours, theirs, 3)
    assert (place.recordings, place.replays) == (1, 5 + 3 * 8)


def test_another_size_or_another_memory_of_the_optimizer_is_recorded_anew(tmp_path):
    place = Here()
    ours, theirs = Fit(place), Fit(None)
    assert_fits_alike(ours, theirs)
    assert_fits_alike(ours, theirs, size=3)
    assert place.recordings == 2
    for fit in (ours, theirs):
        backend.save_optimizer(fit.optimizer, tmp_path / "optimizer")
        backend.load_optimizer(fit.optimizer, tmp_path / "optimizer")
    assert_fits_alike(ours, theirs, size=3)
    assert place.recordings == 3
    for fit in (ours, theirs):
        fit.optimizer.param_groups[0]["weight_decay"] = 0.25
    assert_fits_alike(ours, theirs, size=3)
    assert place.recordings == 4


def test_the_learning_rate_and_the_numbers_of_a_loss_follow_without_another_recording():
    place = Here()
    ours, theirs = Fit(place), Fit(None)
    assert_fits_alike(ours, theirs)
    for rate, norm in ((2.0**-6, 0.1), (2.0**-8, 100.0)):
        for fit in (ours, theirs):
            backend.set_learning_rate(fit.optimizer, rate)
        assert_fits_alike(ours, theirs, max_norm=norm)
    assert place.recordings == 1
    group = ours.optimizer.param_groups[0]
    assert (group["lr"], group["capturable"]) == (2.0**-8, False)
    assert not hasattr(ours.optimizer, "found_inf")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (Refusing(), "RuntimeError: operation not permitted when stream is capturing"),
        (Idle(), "a replay made another update"),
        (Twofold(), "a replay made another update"),
    ],
    ids=["refusing", "idle", "twofold"],
)
def test_what_cannot_be_recorded_faithfully_is_made_eagerly_and_said_once(place, reason, caplog):
    with caplog.at_level(logging.WARNING):
        assert_fits_alike(Fit(place), Fit(None), 3)
    assert [record.getMessage() for record in caplog.records] == [
        f"updates run without a CUDA graph, which changes their speed only: {reason}"
    ]


class OfTheUsers(nn.Module):
    def forward(self, x: Any) -> Any:
        return x


MAKERS = {
    "a layer of the user's": {"layers": (OfTheUsers(),)},
    "gradient descent": {"optimizer": lambda ps: torch.optim.SGD(ps, lr=RATE, momentum=0.9)},
    "an unfused Adam": {"optimizer": lambda ps: torch.optim.Adam(ps, lr=RATE, foreach=True)},
}


@pytest.mark.parametrize("name", MAKERS)
def test_what_may_do_other_things_every_time_is_not_recorded(name):
    place = Here()
    ours, theirs = Fit(place, **MAKERS[name]), Fit(None, **MAKERS[name])
    assert_fits_alike(ours, theirs)
    assert_fits_alike(ours, theirs, bad=5)
    assert place.recordings == 0


@pytest.mark.parametrize("of", ["network", "optimizer"])
def test_functions_that_were_hung_on_are_called_at_every_update(of):
    place, calls = Here(), []
    fit = Fit(place)
    fit.learn()
    assert place.recordings == 1

    def note(*arguments: Any) -> None:
        calls.append(1)

    if of == "network":
        fit.network[0].register_forward_hook(note)
    else:
        fit.optimizer.register_step_post_hook(note)
    fit.learn()
    assert len(calls) == 8
    assert place.recordings == 1


def test_a_bad_minibatch_among_recorded_ones_is_left_out():
    place = Here()
    ours, theirs = Fit(place), Fit(None)
    assert_fits_alike(ours, theirs)
    for bad in (0, 7, 15):
        assert_fits_alike(ours, theirs, 1, bad=bad)
        assert ours.learn(bad=bad)["skipped"] == theirs.learn(bad=bad)["skipped"] == 1 / 8
    assert_fits_alike(ours, theirs)
    assert place.recordings == 1


def test_where_every_update_is_left_out_nothing_is_left_to_average():
    ours = Fit(Here())
    before = ours.arrays()
    means = ours.learn(size=16, bad=0)
    assert means["skipped"] == 1.0
    assert math.isnan(means["loss"])
    for one, other in zip(ours.arrays(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_staging_keeps_what_is_there_waits_before_it_overwrites_and_grows():
    place = Here()
    staging, there = Staging(place), torch.ones(2)
    assert staging.load({"x": there})["x"] is there
    for rows in (3, 2, 5):
        array = np.arange(2 * rows, dtype=np.uint8).reshape(rows, 2)
        found = staging.load({"x": array, "y": array[::-1].astype(np.float32)})
        np.testing.assert_array_equal(found["x"].numpy(), array)
        np.testing.assert_array_equal(found["y"].numpy(), array[::-1])
    assert place.waits == 4
