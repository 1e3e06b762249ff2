"""What every backend must do. Inherit `BackendContract` and give it the fixture `framework`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tests.contracts.network_contract import (
    ACTIONS,
    OBS,
    ROWS,
    NetworkContract,
    WeightsContract,
    normal,
)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    found: np.ndarray = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return found


FUNCTIONS = {
    "exp": np.exp,
    "square": np.square,
    "absolute": np.abs,
    "mean": np.mean,
    "tanh": np.tanh,
    "sum_last": lambda x: x.sum(axis=-1),
    "max_last": lambda x: x.max(axis=-1),
    "log_softmax": log_softmax,
}
"""By name, those of one tensor, and what NumPy makes of it."""


class FunctionsContract(WeightsContract):
    """What a backend computes without gradients, for a subclass with the fixture `framework`."""

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_functions_of_a_tensor_are_those_of_numpy(self, framework, ops, name):
        x = normal(4, 6)
        got = framework.array(getattr(ops, name)(framework.tensor(x)))
        np.testing.assert_allclose(got, FUNCTIONS[name](x), rtol=1e-5, atol=1e-6)

    def test_functions_of_several_tensors_are_those_of_numpy(self, framework, ops):
        x, y = np.abs(normal(4, 6)) + 0.1, normal(4, 6, seed=1)
        tensors, index = (framework.tensor(x), framework.tensor(y)), np.array([5, 0, 3, 3])
        first, second = ops.split_last(tensors[0])
        found = {
            "log": (ops.log(tensors[0]), np.log(x)),
            "minimum": (ops.minimum(*tensors), np.minimum(x, y)),
            "clip": (ops.clip(tensors[1], -0.5, 0.2), np.clip(y, -0.5, 0.2)),
            "clip to tensors": (
                ops.clip(tensors[1], framework.tensor(-0.5), framework.tensor(0.2)),
                np.clip(y, -0.5, 0.2),
            ),
            "where": (
                ops.where(framework.tensor(y > 0), tensors[0], -1e9),
                np.where(y > 0, x, -1e9),
            ),
            "first half": (first, x[:, :3]),
            "second half": (second, x[:, 3:]),
            "take": (ops.take_along(tensors[1], framework.tensor(index)), y[range(4), index]),
            "pair": (ops.pair_last(*tensors), np.stack([x, y], axis=-1)),
            "fold": (ops.fold_last(tensors[0], 3), x.reshape(4, 2, 3)),
            "take of each": (
                ops.take_along(
                    ops.fold_last(tensors[1], 3), framework.tensor(np.array([[2, 0]] * 4))
                ),
                y[:, [2, 3]],
            ),
            "values": (ops.flatten_values(framework.tensor(x[:, :1])), x[:, 0]),
            "flat values": (ops.flatten_values(framework.tensor(x[:, 0])), x[:, 0]),
        }
        for name, (got, expected) in found.items():
            np.testing.assert_allclose(framework.array(got), expected, rtol=1e-5, err_msg=name)

    def test_networks_take_floats_but_indices_as_integers(self, framework, ops):
        def dtype_of(array: np.ndarray) -> Any:
            seen: list[Any] = []

            def network(inputs: Any, training: bool = False) -> Any:
                seen.append(framework.array(inputs).dtype)
                return inputs

            ops.forward(network, framework.tensor(array))
            return seen[0]

        assert dtype_of(np.zeros((2, 1, 4, 4), np.uint8)) == np.float32
        assert dtype_of(np.zeros((2, 3), np.int64)) == np.float32
        assert dtype_of(np.zeros(2, np.int32)) == np.int64
        assert dtype_of(np.zeros(2, np.float32)) == np.float32


class BackendContract(FunctionsContract, NetworkContract):
    """A subclass provides `framework`, one of `tests.frameworks`."""

    def test_no_gradient_flows_through_what_is_kept_from_it(self, framework, ops):
        network = framework.perceptron((1, 1))
        still = ops.without_gradient(lambda x: (network(x), {"twice": 2.0 * network(x)}))

        def loss_fn(batch: Any, scalars: Any) -> Any:
            output, others = still(batch["x"])
            return ops.mean(network(batch["x"]) * output * others["twice"]), {}

        descent = ops.gradient_descent(loss_fn, {"n": network}, framework.sgd(1.0, network))
        framework.set_weights(network, [np.array([[3.0]], np.float32), np.zeros(1, np.float32)])
        descent.step({"x": framework.tensor(np.ones((1, 1)))}, {})
        # d(w * stopped) / dw is what was stopped, 3 * 6, and not three times that.
        assert framework.weights(network)[0][0, 0] == pytest.approx(3.0 - 18.0)

    def test_a_tensor_is_read_as_a_number(self, framework, ops):
        network = framework.perceptron((1, 1))
        x = framework.tensor(np.ones((1, 1)))
        read = ops.number(lambda: ops.mean(network(x)))
        assert type(read()) is float
        assert read() == pytest.approx(sum(float(w.sum()) for w in framework.weights(network)))

    @pytest.mark.parametrize("is_pure", [True, False])
    def test_an_update_loop_takes_consecutive_minibatches_and_a_short_last_one(
        self, framework, ops, is_pure
    ):
        def update(batch: Any, scalars: Any) -> Any:
            mean = ops.mean(batch["x"])
            outputs = {"means": 0.0 * batch["x"] + mean, "signed": batch["x"] * scalars["sign"]}
            return {"mean": mean}, outputs

        loop = ops.update_loop(update, [framework.perceptron((1, 1))], is_pure)
        for rows, size, sign in ((5, 2, -1.0), (6, 2, 2.0), (3, 8, 1.0), (11, 3, 1.0), (1, 1, 5.0)):
            x = np.arange(rows, dtype=np.float32)
            means, outputs = loop({"x": x}, size, {"sign": sign})
            batches = [x[start : start + size] for start in range(0, rows, size)]
            each = [np.full(len(batch), batch.mean()) for batch in batches]
            np.testing.assert_allclose(outputs["means"], np.concatenate(each), rtol=1e-6)
            np.testing.assert_array_equal(outputs["signed"], sign * x)
            assert means == {"mean": pytest.approx(np.mean([batch.mean() for batch in batches]))}

    @pytest.mark.parametrize("is_pure", [True, False])
    def test_an_update_loop_makes_its_updates_in_order(self, framework, ops, is_pure):
        network = framework.perceptron((1, 1))

        def loss_fn(batch: Any, scalars: Any) -> Any:
            return 0.5 * ops.mean(ops.square(network(0.0 * batch["x"]) - batch["x"])), {}

        descent = ops.gradient_descent(loss_fn, {"n": network}, framework.sgd(0.5, network))
        loop = ops.update_loop(lambda b, s: (descent.step(b, s), {}), [network], is_pure)
        expected = float(framework.weights(network)[1][0])
        for rows, size in ((5, 2), (6, 3), (9, 2)):
            x = 10.0 * normal(rows, 1, seed=rows)
            means, _ = loop({"x": x}, size, {})
            for start in range(0, rows, size):
                expected += 0.5 * (float(x[start : start + size].mean()) - expected)
            assert means["skipped"] == 0.0
            assert framework.weights(network)[1][0] == pytest.approx(expected, rel=1e-4)

    def test_inference_gives_every_row_its_own_output_also_in_chunks(self, framework, ops):
        network = framework.perceptron((OBS, 4, 2))
        forward = ops.inference(lambda x, y: ops.sum_last(network(x)) + y, [network])
        for rows in (1, 3, 2 * 4096, 2 * 4096 + 5):
            x, y = normal(rows, OBS, seed=1), normal(rows, seed=2)
            expected = framework.call(network, x).sum(axis=-1) + y
            np.testing.assert_allclose(forward(x, y), expected, rtol=1e-4, atol=1e-5)

    def test_inference_follows_the_weights(self, framework, ops):
        network = framework.perceptron((OBS, 2))
        forward, x = ops.inference(network, [network]), normal(ROWS, OBS)
        before = forward(x)
        framework.set_weights(network, [2.0 * w for w in framework.weights(network)])
        np.testing.assert_allclose(forward(x), 2.0 * before, rtol=1e-5)

    def test_the_norm_of_the_gradient_is_reported_as_it_was_before_clipping(self, framework, ops):
        network = framework.perceptron((1, 1))

        def loss_fn(batch: Any, scalars: Any) -> Any:
            return 3.0 * ops.mean(network(batch["x"])), {}

        # The gradient is 3 * 4 by the weight and 3 by the bias.
        batch, norm = {"x": framework.tensor([[4.0]])}, math.hypot(12.0, 3.0)
        descent = ops.gradient_descent(loss_fn, {"n": network}, framework.sgd(1.0, network))
        for limit, scale in ((0.5, 0.5 / norm), (100.0, 1.0)):
            before = framework.weights(network)[0].item()
            outputs = descent.step(batch, {"max_grad_norm": framework.tensor(limit)})
            assert float(outputs["grad_norm"]) == pytest.approx(norm, rel=1e-5)
            after = framework.weights(network)[0].item()
            assert before - after == pytest.approx(12.0 * scale, rel=1e-4)
        assert float(descent.step(batch, {})["grad_norm"]) == pytest.approx(norm, rel=1e-5)

    def test_the_gradients_of_several_networks_are_clipped_apart(self, framework, ops):
        networks = [framework.perceptron((1, 1), seed) for seed in range(2)]

        def loss_fn(batch: Any, scalars: Any) -> Any:
            small, large = (ops.mean(network(batch["x"])) for network in networks)
            return 3.0 * small + 3e6 * large, {}

        named, optimizer = dict(zip("ab", networks, strict=True)), framework.sgd(1.0, *networks)
        descent = ops.gradient_descent(loss_fn, named, optimizer)
        before = [framework.weights(network)[0].item() for network in networks]
        batch, limit = {"x": framework.tensor([[4.0]])}, framework.tensor(0.5)
        outputs = descent.step(batch, {"max_grad_norm": limit})
        norm = math.hypot(12.0, 3.0)
        assert float(outputs["grad_norm"]) == pytest.approx(math.hypot(norm, 1e6 * norm), rel=1e-5)
        for network, weight in zip(networks, before, strict=True):
            moved = weight - framework.weights(network)[0].item()
            assert moved == pytest.approx(12.0 * 0.5 / norm, rel=1e-4)

    def test_weights_that_networks_share_are_one_gradient_and_one_step(self, framework, ops):
        network = framework.perceptron((1, 1))

        def loss_fn(batch: Any, scalars: Any) -> Any:
            return 1.0 * ops.mean(network(batch["x"])) + 2.0 * ops.mean(network(batch["x"])), {}

        both = {"a": network, "b": network}
        descent = ops.gradient_descent(loss_fn, both, framework.sgd(1.0, network))
        for limit, scale in ((0.5, 0.5 / math.hypot(12.0, 3.0)), (100.0, 1.0)):
            before = framework.weights(network)[0].item()
            batch, most = {"x": framework.tensor([[4.0]])}, framework.tensor(limit)
            descent.step(batch, {"max_grad_norm": most})
            moved = before - framework.weights(network)[0].item()
            assert moved == pytest.approx(12.0 * scale, rel=1e-4)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_an_update_with_a_gradient_that_is_not_finite_is_left_out(self, framework, ops, bad):
        network = framework.perceptron((OBS, 4, 1))
        descent = self.descend(framework, network, framework.adam(0.1, network))
        x = normal(ROWS, OBS)
        x[0, 0] = bad
        before = framework.weights(network)
        limit = {"max_grad_norm": framework.tensor(0.5)}
        assert float(descent.step({"x": framework.tensor(x)}, limit)["skipped"]) == 1.0
        self.assert_same(framework.weights(network), before)
        good = {"x": framework.tensor(normal(ROWS, OBS))}
        assert float(descent.step(good, limit)["skipped"]) == 0.0
        # The first step of Adam is as long as the rate, if nothing of the bad one stayed in its moments.
        step = framework.weights(network)[0] - before[0]
        np.testing.assert_allclose(np.abs(step), 0.1, rtol=1e-3)

    @pytest.mark.parametrize("bad", [math.nan, 1e30])
    def test_an_update_with_a_loss_that_is_not_finite_is_left_out(self, framework, ops, bad):
        """Also where its gradient is finite: what such a loss says is not known."""
        network = framework.perceptron((1, 1))

        def loss_fn(batch: Any, scalars: Any) -> Any:
            x = ops.mean(batch["x"])
            return ops.mean(network(0.0 * batch["x"] + 1.0)) + x * x, {"x": x}

        descent = ops.gradient_descent(loss_fn, {"n": network}, framework.sgd(1.0, network))
        before = framework.weights(network)
        outputs = descent.step({"x": framework.tensor([[bad]])}, {})
        assert float(outputs["skipped"]) == 1.0
        assert not math.isfinite(bad) or math.isfinite(float(outputs["grad_norm"]))
        self.assert_same(framework.weights(network), before)
        assert float(descent.step({"x": framework.tensor([[1.0]])}, {})["skipped"]) == 0.0

    @pytest.mark.parametrize("is_pure", [True, False])
    def test_a_loop_averages_over_the_updates_that_were_made_and_says_which_share_was_not(
        self, framework, ops, is_pure
    ):
        network = framework.perceptron((1, 1))

        def loss_fn(batch: Any, scalars: Any) -> Any:
            loss = ops.mean(network(batch["x"]))
            return loss, {"mean": ops.mean(batch["x"])}

        descent = ops.gradient_descent(loss_fn, {"n": network}, framework.sgd(0.0, network))
        loop = ops.update_loop(lambda b, s: (descent.step(b, s), {}), [network], is_pure)
        x = np.arange(10, dtype=np.float32)[:, None]
        x[3] = math.nan
        means, _ = loop({"x": x}, 2, {})
        assert means["skipped"] == pytest.approx(0.2)
        assert means["mean"] == pytest.approx(np.mean([0.5, 4.5, 6.5, 8.5]))
        assert math.isfinite(means["grad_norm"])
        means, _ = loop({"x": np.full((4, 1), math.nan, np.float32)}, 2, {})
        assert means["skipped"] == 1.0
        assert math.isnan(means["mean"])

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_weight_that_is_not_finite_is_found_wherever_it_is(self, framework, ops, bad):
        network = framework.perceptron((OBS, 4, 1))
        good = [np.full_like(w, np.finfo(np.float32).max) for w in framework.weights(network)]
        framework.set_weights(network, good)
        assert ops.all_finite(network)
        for number in range(len(good)):
            arrays = [w.copy() for w in good]
            arrays[number].flat[-1] = bad
            framework.set_weights(network, arrays)
            assert not ops.all_finite(network)

    def test_what_is_learned_is_counted(self, framework, ops):
        assert ops.num_weights(framework.perceptron((OBS, 4, 1))) == OBS * 4 + 4 + 4 + 1
        # Scale and shift are learned, the running statistics are not.
        assert ops.num_weights(framework.batch_norm(2)) == 4

    def test_a_buffer_that_is_not_finite_is_found(self, framework, ops):
        network = framework.batch_norm(2)
        assert ops.all_finite(network)
        framework.set_running_mean(network, math.nan)
        assert not ops.all_finite(network)

    def test_copying_into_targets_heals_what_is_not_finite_in_them(self, framework, ops):
        network = framework.perceptron((OBS, 4, 1))
        target = ops.clone(network)
        for bad in (math.nan, math.inf):
            framework.set_weights(target, [np.full_like(w, bad) for w in framework.weights(target)])
            ops.blend(target, network, 1.0)
            self.assert_same(framework.weights(target), framework.weights(network))

    def test_only_the_networks_of_the_descent_are_changed(self, framework, ops):
        actor, critic = framework.perceptron((OBS, ACTIONS)), framework.perceptron((ACTIONS, 1))

        def loss_fn(batch: Any, scalars: Any) -> Any:
            return ops.mean(critic(actor(batch["x"]))), {}

        descent = ops.gradient_descent(loss_fn, {"actor": actor}, framework.adam(0.1, actor))
        before = framework.weights(actor), framework.weights(critic)
        descent.step({"x": framework.tensor(normal(ROWS, OBS))}, {})
        assert (framework.weights(actor)[0] != before[0][0]).all()
        self.assert_same(framework.weights(critic), before[1])

    def test_a_learning_rate_that_is_set_is_read_back_and_in_force(self, framework, ops):
        network = framework.perceptron((1, 1))
        optimizer = framework.sgd(0.3, network)
        descent = self.descend(framework, network, optimizer)
        assert ops.learning_rate(optimizer) == 0.3
        batch, steps = {"x": framework.tensor([[1.0]])}, []
        loop = ops.update_loop(lambda b, s: (descent.step(b, s), {}), [network])
        initial = framework.weights(network)
        for rate in (0.3, 0.1, 3e-4, 0.3):
            ops.set_learning_rate(optimizer, rate)
            assert ops.learning_rate(optimizer) == rate
            framework.set_weights(network, initial)
            loop({"x": framework.array(batch["x"])}, 1, {})
            steps.append(float((framework.weights(network)[0] - initial[0])[0, 0]))
        np.testing.assert_allclose(np.array(steps) / steps[0], [1.0, 1 / 3, 1e-3, 1.0], rtol=1e-3)
