"""Networks that only act: convolutions by their formula, and files that are not of the network."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gymnasium.spaces import Box
from safetensors.numpy import save_file

from tensor_optix.adapters.native import inference_layers
from tensor_optix.adapters.native.inference_layers import NativeConvolution
from tensor_optix.adapters.network_recipes import Convolution, NetworkRecipes
from tests.adapters.small_sights import PARTS, sight

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = Box(0, 255, (2, 5, 6), np.uint8)
FEATURES = 64 * 2 * 2
SHAPES = {
    "0.divisors": (1,),
    "1.weight": (32, 2, 3, 3),
    "1.bias": (32,),
    "3.weight": (64, 32, 3, 3),
    "3.bias": (64,),
    "5.weight": (64, 64, 3, 3),
    "5.bias": (64,),
    "8.weight": (7, FEATURES),
    "8.bias": (7,),
    "10.weight": (3, 7),
    "10.bias": (3,),
}
"""Of PyTorch's network of `IMAGE`, one hidden layer of 7, and three outputs."""


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    found = {name: rng.uniform(-0.2, 0.2, shape).astype("f4") for name, shape in SHAPES.items()}
    return found | {"0.divisors": np.array([100])}


def read(path: Path, space: Any = IMAGE) -> Any:
    recipes = NetworkRecipes(inference_layers)
    network: Any = recipes.network(sight(space), recipes.mlp, 3, (7,), seed=0)
    network.read(path / "actor")
    return network


def stored(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    save_file(arrays, path / "actor.safetensors")
    return path


def convolved(images: np.ndarray, weight: np.ndarray, bias: np.ndarray, layer: Any) -> np.ndarray:
    """Return the convolution and ReLU by their formula, in float64."""
    pad = (layer.padding, layer.padding)
    padded = np.pad(images.astype(np.float64), ((0, 0), (0, 0), pad, pad))
    height, breadth = ((n - layer.width) // layer.stride + 1 for n in padded.shape[2:])
    found = np.empty((len(images), layer.filters, height, breadth))
    for y in range(height):
        for x in range(breadth):
            top, left = y * layer.stride, x * layer.stride
            window = padded[:, :, top : top + layer.width, left : left + layer.width]
            found[:, :, y, x] = np.tensordot(window, weight.astype(np.float64), ((1, 2, 3),) * 2)
    return np.maximum(found + bias[:, None, None], 0.0)


@pytest.mark.parametrize("layer", [(5, 3, 2, 1), (4, 3, 1, 1), (3, 4, 3, 0), (1, 1, 1, 0)], ids=str)
@pytest.mark.parametrize("shape", [(3, 2, 7, 9), (1, 1, 4, 4)], ids=str)
def test_a_convolution_is_its_formula(layer: Any, shape: Any) -> None:
    layer = Convolution(*layer)
    made = NativeConvolution(shape[1], layer)
    rng = np.random.default_rng(1)
    for array in made.variables().values():
        array[...] = rng.standard_normal(array.shape)
    images = rng.standard_normal(shape)
    expected = convolved(images, **made.variables(), layer=layer)
    np.testing.assert_allclose(made(images), expected, rtol=1e-5, atol=1e-5)


def test_an_image_comes_to_the_same_among_others_as_alone() -> None:
    made = NativeConvolution(2, Convolution(5, 3, 2, 1))
    rng = np.random.default_rng(1)
    for array in made.variables().values():
        array[...] = rng.standard_normal(array.shape)
    images = rng.standard_normal((4, 2, 9, 9)).astype(np.float32)
    assert np.array_equal(made(images)[2:3], made(images[2:3]))


def test_bytes_and_floats_of_the_same_numbers_are_seen_alike_and_left_alone(tmp_path: Path) -> None:
    network = read(stored(tmp_path, weights()))
    images = np.random.default_rng(2).integers(0, 100, (3, 2, 5, 6))
    outputs = [network(images.astype(dtype)) for dtype in (np.uint8, np.float32, np.float64)]
    assert np.array_equal(outputs[0], outputs[1])
    assert np.array_equal(outputs[0], outputs[2])
    given = images.astype(np.float32)
    network(given)
    assert np.array_equal(given, images)


def test_files_of_earlier_versions_divide_by_the_largest_byte(tmp_path: Path) -> None:
    arrays = weights()
    images = np.random.default_rng(2).integers(0, 256, (3, 2, 5, 6), np.uint8)
    arrays["0.divisors"] = np.array([255])
    expected = read(stored(tmp_path, arrays))(images)
    del arrays["0.divisors"]
    assert np.array_equal(read(stored(tmp_path, arrays))(images), expected)


@pytest.mark.parametrize("name", [*SHAPES][1:])
def test_a_tensor_that_is_missing_is_named(name: str, tmp_path: Path) -> None:
    arrays = weights()
    del arrays[name]
    with pytest.raises(
        ValueError, match=rf"actor\.safetensors holds .* {name} is missing, expected"
    ):
        read(stored(tmp_path, arrays))


@pytest.mark.parametrize("name", SHAPES)
def test_a_tensor_of_another_shape_is_named_with_both(name: str, tmp_path: Path) -> None:
    arrays = weights()
    arrays[name] = arrays[name][..., :0]
    with pytest.raises(ValueError, match=rf"{name} is .*0.*, expected .*{SHAPES[name][0]}"):
        read(stored(tmp_path, arrays))


@pytest.mark.parametrize("name", ["1.weight", "8.bias", "0.divisors"])
def test_a_tensor_of_another_kind_is_named(name: str, tmp_path: Path) -> None:
    arrays = weights()
    arrays[name] = arrays[name].astype(np.float64)
    with pytest.raises(ValueError, match=rf"{name} is F64 of .*expected F32 or I64"):
        read(stored(tmp_path, arrays))
    arrays[name] = arrays[name].astype(np.int64 if name != "0.divisors" else np.float32)
    with pytest.raises(ValueError, match=rf"{name} is (int64|float32) of .*, expected"):
        read(stored(tmp_path, arrays))


def test_a_tensor_that_is_too_much_is_named_before_it_is_read(tmp_path: Path) -> None:
    """The file has 10 GB, of which the disk holds none."""
    size = 10 * 2**30
    header = {"1.weight": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
    text = json.dumps(header).encode()
    with (tmp_path / "actor.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size)
    with pytest.raises(
        ValueError, match=rf"1.weight is F32 of \({size // 4},\), expected .*at most"
    ):
        read(tmp_path)


@pytest.mark.parametrize("cut", [0, 5, 60, 400, -1])
def test_a_file_that_was_cut_is_damaged(cut: int, tmp_path: Path) -> None:
    file = stored(tmp_path, weights()) / "actor.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"actor.safetensors is damaged"):
        read(tmp_path)


def test_another_network_s_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="variables of another network"):
        read(stored(tmp_path, weights()), PARTS)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"actor\.safetensors"):
        read(tmp_path)


def test_more_variables_than_the_network_has_are_not_read(tmp_path: Path) -> None:
    extra = {"11.weight": np.zeros((3, 3), np.float32)}
    with pytest.raises(ValueError, match=r"holds the 12 variables of another network, expected 11"):
        read(stored(tmp_path, weights() | extra))


def test_no_framework_is_needed(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules.update(torch=None, tensorflow=None, keras=None)\n"
        "import numpy\n"
        "from gymnasium.spaces import Box, Discrete\n"
        "from tensor_optix.algorithms.agent_factory import acting_network\n"
        "from tensor_optix.core.base_agent import AgentRecipe\n"
        "recipe = AgentRecipe(algorithm='ppo', framework='torch', hidden_sizes=(7,), device='cpu',\n"
        "    normalize_observations=False, normalize_rewards=False)\n"
        "image = Box(0, 255, (2, 5, 6), numpy.uint8)\n"
        "network = acting_network(recipe, image, Discrete(3), sys.argv[1])\n"
        "outputs = network(numpy.ones((4, 2, 5, 6), numpy.uint8))\n"
        "assert outputs.shape == (4, 3) and outputs.any()"
    )
    file = stored(tmp_path, weights()) / "actor"
    subprocess.run([sys.executable, "-c", program, str(file)], check=True)
