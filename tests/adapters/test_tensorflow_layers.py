"""Ready-made Keras networks: the layers and scales of those on PyTorch, seeds, no global randomness."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

tf = pytest.importorskip("tensorflow")

import keras

from tensor_optix.adapters.network_recipes import HIDDEN_GAIN, NetworkRecipes
from tensor_optix.adapters.tensorflow import layers
from tensor_optix.adapters.tensorflow.network import placed_on
from tests.adapters.small_sights import CHOICES, NUMBERS, PARTS, Maker, sight

if TYPE_CHECKING:
    from collections.abc import Callable

RECIPES = NetworkRecipes(layers)
MAKER = Maker(RECIPES)
MAKERS: dict[str, Callable[[int], keras.Model]] = {
    "mlp": lambda seed: RECIPES.mlp(4, 2, (8,), seed),
    "relu_mlp": lambda seed: RECIPES.relu_mlp(4, 2, (8,), seed),
    "nature_cnn": lambda seed: MAKER.nature_cnn((1, 9, 9), 2, (8,), seed),
    "image_critic": lambda seed: MAKER.image_critic((9, 9, 1), 2, (8,), seed, 255),
    "number_critic": lambda seed: MAKER.number_critic(3, 1, 2, (8,), seed),
}
MAKERS |= {
    "choices": lambda seed: RECIPES.network(CHOICES, RECIPES.mlp, 2, (8,), seed),
    "parts": lambda seed: RECIPES.network(sight(PARTS), RECIPES.mlp, 2, (8,), seed),
    "parts_critic": lambda seed: RECIPES.action_critic(sight(PARTS), 2, (8,), seed),
}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def arrays(network: keras.Model) -> list[np.ndarray]:
    return [np.array(v.numpy()) for v in network.trainable_variables]


def kernels(network: keras.Model) -> list[np.ndarray]:
    """Return each layer's kernel as `[inputs, outputs]`."""
    return [a.reshape(-1, a.shape[-1]) for a in arrays(network) if a.ndim > 1]


def biases(network: keras.Model) -> list[np.ndarray]:
    return [a for a in arrays(network) if a.ndim == 1]


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def assert_orthogonal(kernel: np.ndarray, gain: float) -> None:
    """Columns, or else rows, are orthogonal to each other and of length `gain`."""
    rows, columns = kernel.shape
    products = kernel.T @ kernel if rows >= columns else kernel @ kernel.T
    np.testing.assert_allclose(products, gain**2 * np.eye(min(rows, columns)), atol=1e-5)


def test_a_perceptron_is_orthogonal_with_its_gains_and_zero_biases() -> None:
    network = RECIPES.mlp(4, 2, (16, 8), seed=0, output_gain=0.01)
    gains = (HIDDEN_GAIN, HIDDEN_GAIN, 0.01)
    for kernel, gain in zip(kernels(network), gains, strict=True):
        assert_orthogonal(kernel, gain)
    assert not any(bias.any() for bias in biases(network))
    assert [layer.activation.__name__ for layer in network.layers] == ["tanh", "tanh", "linear"]


def test_the_layers_for_atari_are_those_of_the_paper() -> None:
    network = MAKER.nature_cnn((4, 84, 84), 6, (512,), seed=0, output_gain=0.01)
    assert [a.shape for a in arrays(network) if a.ndim > 1] == [
        (8, 8, 4, 32), (4, 4, 32, 64), (3, 3, 64, 64), (3136, 512), (512, 6),
    ]  # fmt: skip
    gains = (*[HIDDEN_GAIN] * 4, 0.01)
    for kernel, gain in zip(kernels(network), gains, strict=True):
        assert_orthogonal(kernel, gain)
    assert not any(bias.any() for bias in biases(network))


def test_orthogonal_weights_prefer_no_direction() -> None:
    """Of all rotations each is as likely: a QR decomposition alone would leave out half of them."""
    diagonals = [np.diagonal(kernels(RECIPES.mlp(2, 2, (), seed))[0]) for seed in range(60)]
    positive = np.mean(np.array(diagonals) > 0, axis=0)
    assert np.all((positive > 0.25) & (positive < 0.75))


def test_relu_layers_start_within_the_bounds_of_their_fan_in() -> None:
    network = RECIPES.relu_mlp(4, 3, (100,), seed=0, output_gain=0.5)
    kernel, bias, last, last_bias = arrays(network)
    for values in (kernel, bias):
        assert 0.45 < np.abs(values).max() <= 0.5
        assert abs(values.mean()) < 0.1
    assert 0.045 < np.abs(last).max() <= 0.05
    assert np.abs(last_bias).max() <= 0.05
    assert not np.allclose(kernel[0], bias)
    assert [layer.activation.__name__ for layer in network.layers] == ["relu", "linear"]


@pytest.mark.parametrize(
    "shape", [(4, 84, 84), (84, 84, 4), (3, 36, 36), (10, 10, 4), (8, 8, 1), (1, 1, 1)]
)
def test_every_image_size_gives_outputs(shape: tuple[int, ...]) -> None:
    assert MAKER.nature_cnn(shape, 3, (16,), seed=0)(np.zeros((2, *shape), "f")).shape == (2, 3)


def test_channels_last_is_the_same_network_of_turned_images() -> None:
    first, last = (MAKER.nature_cnn(shape, 2, (8,), seed=3) for shape in ((3, 40, 44), (40, 44, 3)))
    batch = images(2, 3, 40, 44)
    np.testing.assert_allclose(first(batch), last(batch.transpose(0, 2, 3, 1)), atol=1e-6)


def test_pixels_are_divided_inside_the_network() -> None:
    plain = MAKER.nature_cnn((1, 40, 40), 2, (8,), seed=3)
    scaled = MAKER.nature_cnn((1, 40, 40), 2, (8,), seed=3, highest=255)
    batch = 255.0 * images(2, 1, 40, 40)
    np.testing.assert_allclose(scaled(batch), plain(batch / 255.0), atol=1e-6)


@every_maker
def test_the_seed_decides_the_weights(make: Callable[[int], keras.Model]) -> None:
    first, again, other = (arrays(make(seed)) for seed in (1, 1, 2))
    assert all(map(np.array_equal, first, again))
    assert not np.array_equal(first[0], other[0])


def test_no_two_layers_begin_alike() -> None:
    first, second = kernels(RECIPES.mlp(8, 8, (8,), seed=0, output_gain=HIDDEN_GAIN))
    assert not np.allclose(first, second)


@every_maker
def test_no_global_random_state_is_used_or_changed(make: Callable[[int], keras.Model]) -> None:
    def next_numbers(action: Callable[[], Any]) -> list[Any]:
        keras.utils.set_random_seed(5)
        action()
        own = keras.random.normal([3]).numpy().tolist()
        return [random.random(), np.random.rand(), tf.random.normal([3]).numpy().tolist(), own]  # noqa: NPY002

    before = arrays(make(1))
    assert next_numbers(lambda: None) == next_numbers(lambda: make(1))
    assert all(map(np.array_equal, before, arrays(make(1))))


def test_a_critic_of_images_depends_on_the_image_and_on_the_action() -> None:
    critic = MAKER.image_critic((8, 8, 3), 2, (16,), seed=0, highest=255)
    batch, actions = np.full((2, 8, 8, 3), 200.0, "f"), np.zeros((2, 2), "f")
    value = np.array(critic(batch, actions))
    assert value.shape == (2, 1)
    assert not np.array_equal(value, critic(batch / 2, actions))
    assert not np.array_equal(value, critic(batch, actions + 1))


def test_numbers_become_unit_vectors_counted_from_their_start() -> None:
    vectors = np.array(layers.one_hot([3], [2])(np.array([2, 4, 0, 5])))
    assert vectors.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    network = RECIPES.mlp(3, 2, (8,), seed=0)
    of_number = RECIPES.network(NUMBERS, RECIPES.mlp, 2, (8,), seed=0)(np.array([3]))
    np.testing.assert_allclose(of_number, network(np.eye(3, dtype="f")[1:2]))


@every_maker
# Keras's own writing, with NumPy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_network_has_its_variables_and_can_be_stored_by_keras(
    make: Callable[[int], keras.Model], tmp_path: Any
) -> None:
    network = make(0)
    assert network.built
    network.save(tmp_path / "network.keras")
    restored = keras.saving.load_model(tmp_path / "network.keras")
    assert all(map(np.array_equal, arrays(network), arrays(restored)))


def test_layers_are_stored_under_names_that_stay() -> None:
    classes = {
        "OneHot": layers.KerasOneHot,
        "ActionCritic": layers.KerasActionCritic,
        "ByteScale": layers.KerasByteScale,
        "Columns": layers.KerasColumns,
    }
    for name, cls in classes.items():
        assert keras.saving.get_registered_name(cls) == f"tensor_optix>{name}"


@pytest.mark.parametrize("shape", [(3, 44, 40), (10, 11, 2), (1, 9, 9)])
def test_the_same_weights_make_the_same_network_as_on_pytorch(shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    from tensor_optix.adapters.pytorch import layers as on_pytorch

    network = MAKER.nature_cnn(shape, 2, (8,), 0, 0.5, 255)
    twin = Maker(NetworkRecipes(on_pytorch)).nature_cnn(shape, 2, (8,), 1, 0.5, 255)
    side = next(layer for layer in network.layers if isinstance(layer, keras.layers.Flatten)).input
    stored = arrays(network)
    # The pixels of a channel lie side by side there, the channels of a pixel here.
    features = stored[6].reshape(*side.shape[1:], -1)
    stored[6] = features.transpose(2, 0, 1, 3).reshape(stored[6].shape)
    with torch.no_grad():
        for parameter, array in zip(twin.parameters(), stored, strict=True):
            turned = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(turned)))
        batch = 255.0 * images(2, *shape)
        np.testing.assert_allclose(network(batch), twin(torch.from_numpy(batch)), atol=1e-5)


def test_an_image_beside_other_columns_makes_the_same_network_as_on_pytorch() -> None:
    torch = pytest.importorskip("torch")
    from tensor_optix.adapters.pytorch import layers as on_pytorch

    recipes = NetworkRecipes(on_pytorch)
    # To a single pixel, so that flattening knows no order of axes.
    space = Dict({"image": Box(0, 255, (2, 3, 2), np.uint8), "speed": Box(-1.0, 1.0, (3,))})
    for make in (
        lambda r: r.network(sight(space), r.mlp, 2, (8,), 0),
        lambda r: r.action_critic(sight(space), 2, (8,), 0),
    ):
        network, twin = make(RECIPES), make(recipes)
        width = network.input_shape[-1]
        with torch.no_grad():
            for parameter, array in zip(twin.parameters(), arrays(network), strict=True):
                turned = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(turned)))
            rows = 200.0 * images(4, width)
            np.testing.assert_allclose(network(rows), twin(torch.from_numpy(rows)), atol=1e-3)


def test_optimizers_have_the_rates_and_epsilons_of_those_on_pytorch() -> None:
    first, other = RECIPES.adam([], 0.25), RECIPES.adam([], 0.25, 1e-8)
    number = RECIPES.number_adam(0.25)
    assert [one.epsilon for one in (first, other, number)] == [1e-5, 1e-8, 1e-8]
    assert all(float(one.learning_rate.numpy()) == 0.25 for one in (first, other, number))
    assert (first.beta_1, first.beta_2, first.clipnorm) == (0.9, 0.999, None)


@pytest.mark.parametrize("make", [RECIPES.mlp, RECIPES.relu_mlp])
def test_a_size_below_one_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"must be at least 1, got \[4, 0, 2\]"):
        make(4, 2, (0,), seed=0)


def test_networks_are_made_on_the_device_that_is_asked_for() -> None:
    with placed_on("cpu"):
        network = RECIPES.mlp(4, 2, (8,), seed=0)
    assert all("CPU" in v.value.device for v in network.variables)
    with pytest.raises(ValueError, match=r"device 'quantum' cannot be used.*cpu"):
        placed_on("quantum")
