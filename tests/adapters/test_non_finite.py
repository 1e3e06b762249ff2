"""Compiled updates leave out what is not finite as the others do, and are not compiled again for it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.frameworks import load

BAD = [math.nan, math.inf, 1e38]


class Fit:
    """A network that is fitted to targets by Adam, as one compiled loop of updates."""

    def __init__(self, name: str) -> None:
        self.framework = load(name)
        self.ops = self.framework.backend
        if name == "torch":
            from tensor_optix.adapters.pytorch.compilation import compiled_backend

            self.ops = compiled_backend(self.ops)
        ops = self.ops
        self.network = self.framework.perceptron((1, 4, 1))
        self.optimizer = self.framework.adam(0.1, self.network)
        networks = {"network": self.network}
        descent = ops.gradient_descent(self.loss, networks, self.optimizer)
        self.loop = ops.update_loop(lambda b, s: (descent.step(b, s), {}), [self.network])
        self.compiled = getattr(descent, "_compiled", None)

    def loss(self, batch: Any, scalars: Any) -> Any:
        errors = self.network(batch["x"]) - batch["y"]
        return self.ops.mean(self.ops.square(errors)), {}

    def learn(self, y: np.ndarray) -> dict[str, float]:
        """Learn from two minibatches of 2; return the diagnostics."""
        x = np.linspace(-1.0, 1.0, 4, dtype=np.float32)[:, None]
        means, _ = self.loop({"x": x, "y": y.astype(np.float32)}, 2, {"max_grad_norm": 0.5})
        return dict(means)

    def count(self) -> int:
        """How often updates were traced or compiled."""
        if self.compiled is not None:
            return int(self.compiled._compiler.count)
        return int(self.loop.trace_count)

    def state(self, directory: Any) -> dict[str, bytes]:
        """Return the files of the network and of the optimizer's state."""
        directory.mkdir()
        self.ops.save_network(self.network, directory / "network")
        self.ops.save_optimizer(self.optimizer, directory / "optimizer")
        return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module", params=["torch", "tensorflow"])
def fit(request: pytest.FixtureRequest) -> Fit:
    made = Fit(request.param)
    made.learn(np.ones((4, 1)))
    assert made.count() == 1
    return made


@pytest.mark.parametrize("bad", BAD)
def test_where_all_minibatches_are_bad_weights_moments_and_step_count_stay(fit, bad, tmp_path):
    before = fit.state(tmp_path / "before")
    means = fit.learn(np.array([[bad], [0.0], [bad], [0.0]]))
    assert fit.state(tmp_path / "after") == before
    assert means["skipped"] == 1.0
    assert fit.count() == 1


@pytest.mark.parametrize("bad", BAD)
def test_after_a_bad_minibatch_the_next_one_is_learned_from(fit, bad, tmp_path):
    before = fit.state(tmp_path / "before")
    means = fit.learn(np.array([[bad], [0.0], [3.0], [3.0]]))
    after = fit.state(tmp_path / "after")
    assert all(after[name] != before[name] for name in before if name.endswith(".safetensors"))
    assert means["skipped"] == 0.5
    assert math.isfinite(means["grad_norm"])
    assert fit.ops.all_finite(fit.network)
    assert fit.count() == 1
