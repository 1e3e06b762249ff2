"""What every backend must do with networks and their files, as `BackendContract` has it in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.frameworks import Framework

OBS, ACTIONS, ROWS = 3, 2, 7


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


class WeightsContract:
    """A subclass provides `framework`, one of `tests.frameworks`."""

    @pytest.fixture
    def framework(self) -> Framework:
        raise NotImplementedError

    @pytest.fixture
    def ops(self, framework: Framework) -> Any:
        return framework.backend

    def assert_same(self, got: list[np.ndarray], expected: list[np.ndarray]) -> None:
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_a_clone_has_the_same_weights_and_variables_of_its_own(self, framework, ops):
        network, x = framework.perceptron((OBS, 4, 2)), normal(ROWS, OBS)
        copy = ops.clone(network)
        np.testing.assert_allclose(framework.call(copy, x), framework.call(network, x), rtol=1e-6)
        before = framework.weights(network)
        framework.set_weights(network, [w + 1.0 for w in before])
        self.assert_same(framework.weights(copy), before)
        framework.set_weights(copy, [w - 1.0 for w in before])
        self.assert_same(framework.weights(network), [w + 1.0 for w in before])

    @pytest.mark.parametrize("as_tensor", [False, True])
    def test_blending_moves_the_targets_by_the_rate(self, framework, ops, as_tensor):
        network = framework.perceptron((OBS, 4, 1))
        target = ops.clone(network)
        framework.set_weights(target, [np.zeros_like(w) for w in framework.weights(network)])
        ops.blend(target, network, framework.tensor(0.25) if as_tensor else 0.25)
        for slow, fast in zip(framework.weights(target), framework.weights(network), strict=True):
            np.testing.assert_allclose(slow, 0.25 * fast, rtol=1e-6)
        ops.blend(target, network, 1.0)
        self.assert_same(framework.weights(target), framework.weights(network))

    def test_twin_critics_have_the_values_of_two_separate_networks(self, framework, ops):
        critics = [framework.perceptron((OBS + ACTIONS, 8, 1), seed) for seed in range(2)]
        images = [framework.image_critic((1, 2, 2), ACTIONS, seed=seed) for seed in range(2)]
        actions = normal(ROWS, ACTIONS, seed=1)
        for pair, shape in ((critics, (OBS,)), (images, (1, 2, 2))):
            x = normal(ROWS, *shape)
            inputs = [np.hstack([x, actions])] if len(shape) == 1 else [x, actions]
            expected = np.stack([framework.call(critic, *inputs)[:, 0] for critic in pair])
            twins = ops.twin_critics(*pair)
            np.testing.assert_allclose(framework.call(twins, x, actions), expected, rtol=1e-5)
            target = ops.clone(twins)
            framework.set_weights(pair[1], [1.5 * w for w in framework.weights(pair[1])])
            changed = framework.call(twins, x, actions)
            np.testing.assert_allclose(changed[0], expected[0], rtol=1e-5)
            assert not np.allclose(changed[1], expected[1])
            np.testing.assert_allclose(framework.call(target, x, actions), expected, rtol=1e-5)

    def test_where_no_optimizer_was_saved_there_is_none_to_load(self, framework, ops, tmp_path):
        network = framework.perceptron((OBS, 1))
        assert not ops.load_optimizer(framework.adam(0.1, network), tmp_path / "optimizer")

    def test_the_mean_of_saved_networks(self, framework, ops, tmp_path):
        network = framework.perceptron((OBS, 4, 1))
        stored = []
        for number in range(3):
            stored.append([w + float(number**2) for w in framework.weights(network)])
            framework.set_weights(network, stored[-1])
            ops.save_network(network, tmp_path / str(number))
        ops.average_networks(network, [tmp_path / str(number) for number in range(3)])
        for mean, *each in zip(framework.weights(network), *stored, strict=True):
            np.testing.assert_allclose(mean, np.mean(each, axis=0), rtol=1e-5)

    def test_perturbing_multiplies_every_weight_by_one_plus_noise(self, framework, ops):
        network = framework.perceptron((50, 40, 1))
        before = framework.weights(network)
        ops.perturb_network(network, 0.1, 7)
        after = framework.weights(network)
        noise = np.concatenate([(a / b - 1.0).ravel() for a, b in zip(after, before, strict=True)])
        assert noise.std() == pytest.approx(0.1, rel=0.1)
        assert abs(noise.mean()) < 0.01
        framework.set_weights(network, before)
        ops.perturb_network(network, 0.1, 7)
        self.assert_same(framework.weights(network), after)
        ops.perturb_network(network, 0.1, 8)
        assert (framework.weights(network)[0] != after[0]).any()


class NetworkContract(WeightsContract):
    """The same of a backend with gradients."""

    def descend(self, framework: Framework, network: Any, optimizer: Any) -> Any:
        """Return what minimises the mean of squared outputs."""
        ops = framework.backend

        def loss_fn(batch: Any, scalars: Any) -> Any:
            loss = ops.mean(ops.square(network(batch["x"])))
            return loss, {"loss": loss}

        return ops.gradient_descent(loss_fn, {"network": network}, optimizer)

    def test_blending_copies_buffers_whatever_the_rate(self, framework, ops):
        network = framework.batch_norm(2)
        target = ops.clone(network)
        framework.set_running_mean(network, 3.0)
        assert framework.running_mean(target).tolist() == [0.0, 0.0]
        ops.blend(target, network, framework.tensor(0.1))
        assert framework.running_mean(target).tolist() == [3.0, 3.0]

    def test_a_scalar_is_the_variable_that_its_optimizer_steps(self, framework, ops):
        optimizer = framework.number_sgd(0.5)
        number = ops.scalar(2.0, optimizer, framework.perceptron((1, 1)))
        assert number().shape == ()
        assert float(framework.array(number())) == 2.0
        descent = ops.gradient_descent(lambda b, s: (3.0 * number(), {}), {"n": number}, optimizer)
        descent.step({}, {})
        assert float(framework.array(number())) == pytest.approx(2.0 - 0.5 * 3.0)

    def test_learning_goes_on_bit_for_bit_from_what_was_saved(self, framework, ops, tmp_path):
        network = framework.perceptron((OBS, 4, 1))
        optimizer = framework.adam(0.05, network)
        descent = self.descend(framework, network, optimizer)
        batch = {"x": framework.tensor(normal(ROWS, OBS))}
        for _ in range(3):
            descent.step(batch, {})
        ops.save_network(network, tmp_path / "network")
        ops.save_optimizer(optimizer, tmp_path / "optimizer")
        descent.step(batch, {})
        expected = framework.weights(network)
        resumed = framework.perceptron((OBS, 4, 1), seed=9)
        other = framework.adam(0.3, resumed)
        descent = self.descend(framework, resumed, other)
        ops.load_network(resumed, tmp_path / "network")
        assert ops.load_optimizer(other, tmp_path / "optimizer")
        descent.step(batch, {})
        self.assert_same(framework.weights(resumed), expected)

    def test_what_is_saved_is_safetensors_and_no_pickle(self, framework, ops, tmp_path):
        network = framework.perceptron((OBS, 4, 1))
        optimizer = framework.adam(0.05, network)
        self.descend(framework, network, optimizer)
        ops.save_network(network, tmp_path / "network")
        ops.save_optimizer(optimizer, tmp_path / "optimizer")
        assert {path.suffix for path in tmp_path.iterdir()} <= {".safetensors", ".json"}
        assert (tmp_path / "network.safetensors").exists()

    def test_all_files_may_be_read_by_whom_the_system_lets(self, framework, ops, tmp_path):
        network = framework.perceptron((OBS, 4, 1))
        optimizer = framework.adam(0.05, network)
        self.descend(framework, network, optimizer)
        ops.save_network(network, tmp_path / "network")
        ops.save_optimizer(optimizer, tmp_path / "optimizer")
        usual = tmp_path / "usual"
        usual.touch()
        assert {path.stat().st_mode for path in tmp_path.iterdir()} == {usual.stat().st_mode}
