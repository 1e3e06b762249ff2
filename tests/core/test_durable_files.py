"""A name read from the disk leads to a regular file of its directory or nowhere; JSON changes in one step."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tensor_optix.core.checkpoints.durable_files import regular_file, replace_json

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with one sound file, and ways out of it."""
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (inside / "sub" / "my file.npz").write_text("sound")
    (tmp_path / "secret").write_text("outside")
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "folder_link").symlink_to(inside / "sub")
    os.mkfifo(inside / "pipe")
    return inside


def test_a_file_of_the_directory_is_found(directory):
    assert regular_file(directory, "sub/my file.npz").read_text() == "sound"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "elsewhere"),
        ("../secret", "elsewhere"),
        ("sub/../../secret", "elsewhere"),
        ("sub/../sub/my file.npz", "elsewhere"),
        ("sub//my file.npz", "elsewhere"),
        ("./sub/my file.npz", "elsewhere"),
        ("/dev/zero", "elsewhere"),
        ("link", "a link"),
        ("folder_link/my file.npz", "on the way"),
        ("pipe", "a device"),
        ("sub", "a folder"),
        (".", "a folder"),
        ("a\0b", "null"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_opened(directory, name, reason):
    with pytest.raises(ValueError, match=reason):
        regular_file(directory, name)


def test_the_whole_path_of_a_file_is_no_name_for_it(directory):
    with pytest.raises(ValueError, match="elsewhere"):
        regular_file(directory, str(directory / "sub" / "my file.npz"))


@pytest.mark.parametrize("name", ["missing", "sub/missing", "x" * 5000])
def test_a_missing_file_is_an_os_error(directory, name):
    with pytest.raises(OSError, match=r"No such file|too long"):
        regular_file(directory, name)


def test_a_refused_replacement_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    replace_json(path, {"old": 1})
    for owner, name in ((os, "fsync"), (os, "replace"), (json, "dump")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, _no_space)
            with pytest.raises(OSError, match="no space"):
                replace_json(path, {"new": 2})
    assert os.listdir(tmp_path) == ["a.json"]
    assert json.loads(path.read_text()) == {"old": 1}


def _no_space(*_args: object, **_kwargs: object) -> None:
    raise OSError("no space left on device")
