"""A process killed at any moment leaves the old `run.json` or the new one; what is no run's is refused."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tensor_optix.runs.run_directory import RunConfig, RunDirectory, RunDirectoryError

KILLS = 12
PADDING = "x" * 200_000
"""Makes the file larger than one write."""


def config(seed: int) -> RunConfig:
    return RunConfig(
        env_id="CartPole-v1",
        backend="sync",
        seed=seed,
        num_envs=1,
        window_size=None,
        max_steps=None,
        hidden_sizes=(8,),
        device="cpu",
        hyperparams={"note": PADDING},
    )


def describe_for_ever(path: Path) -> None:
    directory = RunDirectory(path)
    directory.create(config(0))
    for seed in range(1, 1_000_000):
        directory.describe(config(seed))
        print(seed, flush=True)


def no_space(*_args: object, **_kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "no space left on device")


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_a_kill_at_any_moment_leaves_a_whole_run_json(tmp_path: Path) -> None:
    rng = random.Random(0)
    for number in range(KILLS):
        path = tmp_path / str(number)
        command = [sys.executable, __file__, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0.0, 0.03))
            process.send_signal(signal.SIGKILL)
            written = process.stdout.read().split()
        least = int(written[-2]) if len(written) > 1 else 1
        directory = RunDirectory(path)
        found = directory.read_config()
        assert found.seed is not None
        assert found.seed >= least
        directory.describe(found)
        assert os.listdir(path) == ["run.json"]


def test_a_refused_write_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create(config(1))
    for owner, name in ((os, "fsync"), (os, "replace"), (json, "dump")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, no_space)
            with pytest.raises(OSError, match="no space"):
                directory.describe(config(2))
    found = directory.read_config()
    assert found.seed == 1
    assert os.listdir(directory.path) == ["run.json"]


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (json, "dump")])
def test_a_refused_creation_leaves_nothing(
    owner: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunDirectory(tmp_path / "deep" / "run")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, no_space)
        with pytest.raises(RunDirectoryError, match="no space"):
            directory.create(config(1))
    assert list(tmp_path.iterdir()) == []
    directory.create(config(1))


def test_of_two_that_create_one_is_refused_with_or_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for has_links in (True, False):
        directory = RunDirectory(tmp_path / str(has_links))
        with monkeypatch.context() as patch:
            if not has_links:
                patch.setattr(os, "link", no_space)
            directory.create(config(1))
            with pytest.raises(RunDirectoryError, match="another run is here"):
                directory.create(config(2))
        found = directory.read_config()
        assert found.seed == 1
        assert os.listdir(directory.path) == ["run.json"]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 5000, "[" * 150 + "]" * 150, "[]", "3", "", "{}", "\0"]
)
def test_hostile_text_is_a_run_directory_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunDirectoryError, match=r"run\.json is damaged"):
        RunDirectory(tmp_path).read_config()


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "run.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RunDirectoryError, match="may have"):
        RunDirectory(tmp_path).read_config()


@pytest.mark.skipif(os.name != "posix", reason="needs pipes and devices")
def test_a_pipe_or_a_device_is_not_read(tmp_path: Path) -> None:
    for name in ("pipe", "device", "folder"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / "run.json")
    (tmp_path / "device" / "run.json").symlink_to("/dev/zero")
    (tmp_path / "folder" / "run.json").mkdir()
    for name in ("pipe", "device", "folder"):
        with pytest.raises(RunDirectoryError, match="holds no run"):
            RunDirectory(tmp_path / name).read_config()


if __name__ == "__main__":
    describe_for_ever(Path(sys.argv[1]))
