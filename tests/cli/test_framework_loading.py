"""Frameworks in a run: recorded, rebuilt by `evaluate`, and quiet unless they fail."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from tensor_optix.algorithms.frameworks import FRAMEWORKS
from tensor_optix.cli import framework_loading
from tensor_optix.cli.errors import CommandError
from tensor_optix.cli.framework_loading import computing_device, load, require_framework
from tensor_optix.cli.main import main
from tests.frameworks import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_run_with_tensorflow_says_so_and_is_played_with_it(
    train: Callable[..., int], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorflow")
    assert train("--framework", "tensorflow", "--run-dir", "run", steps=512) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith("CartPole-v1: ppo (TensorFlow, ")
    config = json.loads((here / "run" / "run.json").read_text())
    assert (config["framework"], config["device"]) == ("tensorflow", "auto")
    assert config["computed_on"] in ("cpu", "gpu")
    assert "keras" in config["versions"]
    assert "torch" not in config["versions"]
    assert main(["evaluate", "run", "--episodes", "2"]) == 0


def test_a_run_is_played_on_another_framework_if_its_description_says_so(
    train: Callable[..., int], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in FRAMEWORKS:
        require(name)
    assert train("--framework", "native", "--run-dir", "run", steps=512) == 0
    description = here / "run" / "run.json"
    told = set()
    for name in FRAMEWORKS:
        stored = json.loads(description.read_text())
        description.write_text(json.dumps(stored | {"framework": name}))
        capsys.readouterr()
        assert main(["evaluate", "run", "--episodes", "3", "--json"]) == 0
        told.add(capsys.readouterr().out)
    assert len(told) == 1, "the same weights play the same games"


def test_a_stored_framework_that_is_not_installed_is_named_with_its_command(
    train: Callable[..., int],
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    require("torch")
    assert train("--framework", "torch", "--run-dir", "run", steps=512) == 0
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["evaluate", "run"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'tensor-optix[torch]'" in said


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_device_is_told_by_its_kind_or_refused_with_what_to_choose(name: str) -> None:
    require(name)
    framework = require_framework(name)
    load(framework)
    assert computing_device(framework, "cpu") == "cpu"
    assert computing_device(framework, "auto") in ("cpu", "gpu")
    with pytest.raises(CommandError, match=r"'quantum' cannot be used: .*; for --device choose"):
        computing_device(framework, "quantum")


def test_what_native_code_says_while_loading_is_shown_only_if_that_fails(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    framework = FRAMEWORKS["tensorflow"]
    failures: list[ImportError] = []

    def imported(name: str) -> None:
        os.write(2, b"a native message\n")
        if failures:
            raise failures.pop()

    monkeypatch.setattr(framework_loading.importlib, "import_module", imported)
    for name in ("TF_CPP_MIN_LOG_LEVEL", "TF_FORCE_GPU_ALLOW_GROWTH", "KERAS_BACKEND"):
        # Set first, so that it is put back at the end also where it was not there before.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    load(framework)
    assert capfd.readouterr().err == ""
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    failures.append(ImportError("no such library"))
    with pytest.raises(CommandError, match="cannot use TensorFlow: no such library"):
        load(framework)
    assert capfd.readouterr().err == "a native message\n"


def test_who_asks_for_all_messages_gets_them(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    monkeypatch.setattr(
        framework_loading.importlib, "import_module", lambda name: os.write(2, b"a message\n")
    )
    load(FRAMEWORKS["tensorflow"])
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    assert capfd.readouterr().err == "a message\n"
