"""Which framework `make_agent` takes: the one named, or the first that is installed."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

from tensor_optix.algorithms import frameworks
from tensor_optix.algorithms.agent_factory import make_agent
from tensor_optix.algorithms.frameworks import FRAMEWORKS, find_framework, lightest_framework

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let it look as if only these were installed."""

    def only(*names: str) -> None:
        def find_spec(name: str, package: str | None = None) -> Any:
            return object() if name in names else None

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)
        monkeypatch.setattr(frameworks, "has_engine", "native" in names)

    return only


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        (("torch", "tensorflow", "native"), "torch"),
        (("torch",), "torch"),
        (("tensorflow", "native"), "tensorflow"),
        (("native",), "native"),
    ],
)
def test_none_takes_pytorch_where_it_is_installed_else_tensorflow_else_the_native_engine(
    install: Callable[..., None], installed: tuple[str, ...], found: str
) -> None:
    install(*installed)
    assert find_framework(None).name == found


@pytest.mark.parametrize("name", list(FRAMEWORKS))
def test_a_framework_that_is_named_is_taken(install: Callable[..., None], name: str) -> None:
    install(*FRAMEWORKS)
    assert find_framework(name).name == name


@pytest.mark.parametrize(
    ("sees_images", "device", "installed", "found"),
    [
        (False, "auto", ("torch", "tensorflow", "native"), "native"),
        (False, "cpu", ("torch", "native"), "native"),
        (False, "auto", ("native",), "native"),
        (True, "auto", ("torch", "native"), "torch"),
        (True, "auto", ("tensorflow", "native"), "tensorflow"),
        (False, "cuda", ("torch", "native"), "torch"),
        (False, "auto", ("torch", "tensorflow"), "torch"),
    ],
)
def test_the_lightest_is_the_native_engine_but_for_images_and_gpus(
    install: Callable[..., None],
    sees_images: bool,
    device: str,
    installed: tuple[str, ...],
    found: str,
) -> None:
    install(*installed)
    assert lightest_framework(sees_images, device).name == found


def test_who_asks_for_the_engine_of_a_framework_gets_one(install: Callable[..., None]) -> None:
    install("torch", "native")
    assert lightest_framework(False, "auto", "framework").name == "torch"
    assert lightest_framework(False, "auto", "native").name == "native"


def test_the_native_engine_by_name_where_the_kernels_are_not_compiled(
    install: Callable[..., None],
) -> None:
    install("torch")
    with pytest.raises(ImportError, match=r"'native' needs .* reinstall .* TENSOR_OPTIX_KERNELS"):
        make_agent("CartPole-v1", framework="native")


def test_without_any_framework_the_error_names_the_commands_for_both(
    install: Callable[..., None],
) -> None:
    install()
    with pytest.raises(ImportError, match=r"tensor-optix\[torch\].*tensor-optix\[tensorflow\]"):
        make_agent("CartPole-v1")


@pytest.mark.parametrize(
    ("name", "other", "title"),
    [("torch", "tensorflow", "PyTorch"), ("tensorflow", "torch", "TensorFlow")],
)
def test_a_named_framework_that_is_not_installed_is_not_replaced_by_another(
    install: Callable[..., None], name: str, other: str, title: str
) -> None:
    install(other)
    expected = rf"'{name}' needs {title}: pip install 'tensor-optix\[{name}\]'"
    with pytest.raises(ImportError, match=expected):
        make_agent("CartPole-v1", framework=name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("tf", "tensorflow"),
        ("TF", "tensorflow"),
        ("keras", "tensorflow"),
        ("TensorFlow", "tensorflow"),
        ("pytorch", "torch"),
        ("PyTorch", "torch"),
        ("Native", "native"),
    ],
)
def test_other_names_and_capitals_are_understood(
    install: Callable[..., None], name: str, meant: str
) -> None:
    install("torch", "tensorflow", "native")
    assert find_framework(name).name == meant


@pytest.mark.parametrize(
    ("name", "meant"),
    [("tensorlfow", "tensorflow"), ("pytorhc", "torch"), ("toch", "torch"), ("tff", "tensorflow")],
)
def test_a_misspelt_framework_is_refused_with_the_closest_match(name: str, meant: str) -> None:
    expected = rf"'torch', 'tensorflow', 'native', got '{name}'; did you mean '{meant}'\?"
    with pytest.raises(ValueError, match=expected):
        find_framework(name)


def test_what_is_like_no_framework_is_refused_without_a_guess() -> None:
    with pytest.raises(ValueError, match=r"got 'jax'$"):
        find_framework("jax")
