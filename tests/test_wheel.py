"""The wheel where no C++ compiler works: it is built all the same, and numba serves."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SCRIPT = """
import sys
import tarfile
sys.meta_path = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
sys.path.insert(0, sys.argv[1])
import tensor_optix.kernels
from tensor_optix import compute_gae
advantages, _ = compute_gae([1.0, 1.0], [0.0, 0.0], [False, True], gamma=0.5, gae_lambda=1.0)
print(tensor_optix.kernels.__file__.startswith(sys.argv[1]), tensor_optix.kernels.BACKEND, *advantages)
"""


def test_a_wheel_is_built_without_a_compiler_and_works(tmp_path):
    pytest.importorskip("scikit_build_core")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*build, f"-Cbuild-dir={tmp_path / 'build'}", "-w", str(tmp_path), str(ROOT)],
        env=os.environ | {"CXX": "/bin/false"},
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name) for name in names if name.endswith("/METADATA"))
        archive.extractall(tmp_path / "site")
    assert "tensor_optix/py.typed" in names
    assert b'Requires-Dist: tensorflow>=2.18; extra == "tensorflow"' in metadata
    assert not any("_native" in name and name.endswith(".so") for name in names)
    command = [sys.executable, "-P", "-c", SCRIPT, str(tmp_path / "site")]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stdout.split() == ["True", "numba", "1.5", "1.0"]


def test_the_source_distribution_has_what_a_wheel_is_built_from_and_no_more(tmp_path, monkeypatch):
    build = pytest.importorskip("scikit_build_core.build")
    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / build.build_sdist(str(tmp_path))) as archive:
        paths = [Path(*Path(name).parts[1:]) for name in archive.getnames()]
    files = {path.parts[0] for path in paths}
    assert {"CMakeLists.txt", "kernels", "tensor_optix", "LICENSE", "README.md"} <= files
    assert not files & {".venv", "build", "dist", "benchmarks", "docs", "examples", "tests"}
    assert Path("kernels/engine.cpp") in paths
