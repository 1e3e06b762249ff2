"""The example in the docstring of each public name runs, and prints what it says."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import re

import pytest

import tensor_optix
from tests.printed_code import skip_what_needs_more

NAMES = tensor_optix.__all__
PACKAGES = {
    "MLflowCallback": "mlflow",
    "WandbCallback": "wandb",
    "TensorBoardCallback": "tensorboard",
}
FRAMEWORKS = {"Torch": "torch", "TF": "tensorflow"}
MOST_LINES = 12
"""Of an example, what it prints included."""


def example_of(name: str) -> doctest.DocTest:
    """Return the example of a public name; the test is skipped where it needs more than there is."""
    needed = [package for prefix, package in FRAMEWORKS.items() if name.startswith(prefix)]
    for package in (*needed, *filter(None, [PACKAGES.get(name)])):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    text = inspect.getdoc(getattr(tensor_optix, name)) or ""
    skip_what_needs_more(text)
    (example,) = re.findall(r"^Examples:\n((?:(?: {4}.*)?\n?)+)", text, re.MULTILINE)
    return doctest.DocTestParser().get_doctest(inspect.cleandoc(example), {}, name, name, 0)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_public_name_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = example_of(name)
    told: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=told.append)
    assert not told, "".join(told)


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_public_name_is_short_and_uses_it(name):
    text = inspect.getdoc(getattr(tensor_optix, name)) or ""
    example = text.partition("Examples:\n")[2]
    assert 2 <= len(example.splitlines()) <= MOST_LINES
    home = getattr(tensor_optix, name).__name__
    assert home in example or f"tensor_optix.{name}" in example or home in INDIRECT


INDIRECT = {
    "BasePipeline",
    "DiagnosticController",
    "Policy",
    "PolicyManagerCallback",
    "PolicySnapshot",
}
"""What users get without calling its class."""
