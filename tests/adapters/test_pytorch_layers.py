"""Ready-made networks for images and numbers: shapes, scales, seeds, no global randomness."""

from __future__ import annotations

import pytest
import torch
from gymnasium.spaces import Dict
from torch import nn

from tensor_optix.adapters.network_recipes import HIDDEN_GAIN, NetworkRecipes, plan_image
from tensor_optix.adapters.pytorch import layers
from tensor_optix.adapters.pytorch.gradient_descent import TorchTwinCritics
from tests.adapters.small_sights import PARTS, Maker, sight

RECIPES = NetworkRecipes(layers)
MAKER = Maker(RECIPES)


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]


def test_the_layers_for_atari_are_those_of_the_paper() -> None:
    network = MAKER.nature_cnn((4, 84, 84), 6, (512,), seed=0)
    layers = [
        (one.out_channels, one.kernel_size[0], one.stride[0]) for one in convolutions(network)
    ]
    assert layers == [(32, 8, 4), (64, 4, 2), (64, 3, 1)]
    linear = [(one.in_features, one.out_features) for one in network if isinstance(one, nn.Linear)]
    assert linear == [(3136, 512), (512, 6)]


@pytest.mark.parametrize(
    "shape", [(4, 84, 84), (84, 84, 4), (3, 36, 36), (10, 10, 4), (8, 8, 1), (1, 1, 1), (96, 96, 3)]
)
def test_every_image_size_gives_outputs(shape: tuple[int, ...]) -> None:
    assert MAKER.nature_cnn(shape, 3, (16,), seed=0)(torch.zeros(2, *shape)).shape == (2, 3)


def test_on_a_cpu_images_lie_with_their_channels_last_and_elsewhere_as_they_came() -> None:
    for device, is_turned in (("cpu", True), ("meta", False)):
        layer = convolutions(MAKER.nature_cnn((4, 40, 40), 2, (8,), seed=3).to(device))[0]
        images = torch.rand(2, 4, 40, 40, device=device)
        seen = layer(images)
        assert seen.is_contiguous(memory_format=torch.channels_last) == is_turned
        if is_turned:
            plain = nn.functional.conv2d(images, layer.weight, layer.bias, layer.stride)
            torch.testing.assert_close(seen, plain)


def test_channels_last_is_the_same_network_of_turned_images() -> None:
    first, last = (MAKER.nature_cnn(shape, 2, (8,), seed=3) for shape in ((3, 40, 44), (40, 44, 3)))
    images = torch.rand(2, 3, 40, 44)
    torch.testing.assert_close(first(images), last(images.permute(0, 2, 3, 1)))


def test_pixels_are_divided_inside_the_network() -> None:
    plain = MAKER.nature_cnn((1, 40, 40), 2, (8,), seed=3)
    scaled = MAKER.nature_cnn((1, 40, 40), 2, (8,), seed=3, highest=255)
    images = torch.randint(0, 256, (2, 1, 40, 40)).float()
    torch.testing.assert_close(scaled(images), plain(images / 255.0))


def test_the_weights_are_orthogonal_with_a_small_last_layer() -> None:
    network = MAKER.nature_cnn((4, 40, 40), 2, (16,), seed=0, output_gain=0.01)
    filters = convolutions(network)[0].weight.flatten(1)
    torch.testing.assert_close(filters @ filters.T, torch.eye(32) * HIDDEN_GAIN**2)
    last = network[-1].weight
    assert isinstance(last, torch.Tensor)
    torch.testing.assert_close(last @ last.T, torch.eye(2) * 0.01**2)


def test_relu_layers_start_within_the_bounds_of_their_fan_in() -> None:
    network = RECIPES.relu_mlp(4, 3, (100,), seed=0)
    first = network[0]
    assert [type(layer) for layer in network] == [nn.Linear, nn.ReLU, nn.Linear]
    for values in first.parameters():
        assert 0.45 < values.abs().max() <= 0.5


def test_the_seed_decides_the_weights_and_no_global_state_is_touched() -> None:
    before = torch.get_rng_state()
    for make in (
        lambda seed: RECIPES.relu_mlp(4, 2, (8,), seed),
        lambda seed: MAKER.nature_cnn((1, 9, 9), 2, (8,), seed),
        lambda seed: MAKER.image_critic((1, 9, 9), 2, (8,), seed),
    ):
        first, again, other = (list(make(seed).parameters()) for seed in (1, 1, 2))
        assert all(map(torch.equal, first, again))
        assert not torch.equal(first[0], other[0])
    assert torch.equal(before, torch.get_rng_state())


def test_a_critic_of_images_depends_on_the_image_and_on_the_action() -> None:
    critic = MAKER.image_critic((8, 8, 3), 2, (16,), seed=0, highest=255)
    images, actions = torch.full((2, 8, 8, 3), 200.0), torch.zeros(2, 2)
    value = critic(images, actions)
    assert value.shape == (2, 1)
    assert not torch.equal(value, critic(images / 2, actions))
    assert not torch.equal(value, critic(images, actions + 1))


@pytest.mark.parametrize("shape", [(8, 8, 3), ()])
def test_two_critics_of_what_is_no_vector_work_as_one(shape: tuple[int, ...]) -> None:
    observations = torch.ones(5, *shape, dtype=torch.float32 if shape else torch.int64)
    first, second = (
        MAKER.image_critic(shape, 2, (16,), seed)
        if shape
        else MAKER.number_critic(3, 0, 2, (16,), seed)
        for seed in (0, 1)
    )
    assert TorchTwinCritics(first, second)(observations, torch.zeros(5, 2)).shape == (2, 5)


def test_numbers_become_unit_vectors_counted_from_their_start() -> None:
    vectors = layers.one_hot([3], [2])(torch.tensor([2, 4, 0]))
    assert vectors.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert not layers.one_hot([3], [0]).state_dict()


def test_each_number_of_several_becomes_a_unit_vector() -> None:
    layer = layers.one_hot([2, 3], [1, 0])
    assert layer(torch.tensor([[2.0, 0.0], [1.0, 2.0]])).tolist() == [
        [0, 1, 1, 0, 0],
        [1, 0, 0, 0, 1],
    ]


def test_every_part_of_a_row_and_the_action_count() -> None:
    """Two images with convolutions of their own, and the columns between them."""
    network = RECIPES.network(sight(PARTS), RECIPES.mlp, 1, (64,), seed=0)
    critic = RECIPES.action_critic(sight(PARTS), 2, (64,), seed=0)
    assert [one.in_channels for one in convolutions(network)] == [2, 32, 64, 1, 32, 64]
    size = 9 * 8 * 2 + 3 + 2 + 9 * 9
    for made, width in ((network, size), (critic, size + 2)):
        rows = torch.zeros(1, width, requires_grad=True)
        made(rows + 1.0).backward()
        assert rows.grad is not None
        assert rows.grad.count_nonzero() > 0.9 * width
        assert rows.grad[0, 144:149].count_nonzero() == 5
        assert rows.grad[0, size:].count_nonzero() == width - size


def test_the_image_of_a_row_is_seen_as_alone() -> None:
    """Row-major, and divided by what its own space says."""
    parts = {"image": PARTS["a"], "speed": PARTS["b"]}
    network = RECIPES.network(sight(Dict(parts)), RECIPES.mlp, 2, (8,), seed=3)
    alone = RECIPES.network(sight(parts["image"]), RECIPES.mlp, 2, (8,), seed=3)
    images = torch.randint(0, 256, (4, 9, 8, 2)).float()
    rows = torch.cat([images.flatten(1), torch.rand(4, 3)], dim=1)
    features = network[:2](rows)
    torch.testing.assert_close(features[:, :-3], alone[:-3](images))
    torch.testing.assert_close(features[:, -3:], rows[:, -3:])


def test_a_shape_that_is_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"three sizes of at least 1, got \(84, 84\)"):
        plan_image((84, 84))
    with pytest.raises(ValueError, match=r"three sizes of at least 1, got \(0, 8, 8\)"):
        plan_image((0, 8, 8))


def weights(network: nn.Sequential) -> list[torch.Tensor]:
    return [layer.weight for layer in network if isinstance(layer, nn.Linear)]


def test_the_layers_are_orthogonal_with_their_gains_and_zero_biases() -> None:
    network = RECIPES.mlp(4, 2, (16, 8), seed=0, output_gain=0.01)
    first, second, last = weights(network)
    torch.testing.assert_close(first.T @ first, torch.eye(4) * HIDDEN_GAIN**2)
    torch.testing.assert_close(second @ second.T, torch.eye(8) * HIDDEN_GAIN**2)
    torch.testing.assert_close(last @ last.T, torch.eye(2) * 0.01**2)
    assert all(not layer.bias.any() for layer in network if isinstance(layer, nn.Linear))
    assert [type(layer) for layer in network] == [nn.Linear, nn.Tanh] * 2 + [nn.Linear]


def test_the_seed_decides_the_weights_of_a_perceptron() -> None:
    first, again, other = (RECIPES.mlp(4, 2, (8,), seed=seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, weights(first), weights(again)))
    assert not torch.equal(weights(first)[0], weights(other)[0])


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    RECIPES.mlp(4, 2, (8,), seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_no_hidden_layers_make_a_linear_map() -> None:
    assert RECIPES.mlp(3, 2, (), seed=0)(torch.zeros(5, 3)).shape == (5, 2)


def test_a_size_of_zero_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"must be at least 1, got \[4, 0, 2\]"):
        RECIPES.mlp(4, 2, (0,), seed=0)
