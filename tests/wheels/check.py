"""Build the wheel of each Python, and train with it in an environment of its own, where no compiler works.

python tests/wheels/check.py dist python3.11 python3.12 python3.13
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CONSTRAINTS = ["--constraint", str(ROOT / "constraints.txt")]
NO_COMPILER = {"CC": "/bin/false", "CXX": "/bin/false"}


def checked(python: str, dist: Path) -> None:
    """Build a wheel into `dist`, install it, and train."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        wheel = built(made(python, folder / "builder"), folder, dist)
        user = made(python, folder / "user")
        pip(user, "install", *CONSTRAINTS, f"{wheel}[cli]", env=os.environ | NO_COMPILER)
        train = [str(user), "-P", str(ROOT / "tests" / "wheels" / "train.py")]
        subprocess.run(train, cwd=folder, env=os.environ | NO_COMPILER, check=True)


def built(python: Path, folder: Path, dist: Path) -> Path:
    """Return the wheel that a Python builds, in `dist`."""
    pip(
        python,
        "wheel",
        "--no-deps",
        f"-Cbuild-dir={folder / 'build'}",
        "-w",
        str(folder),
        str(ROOT),
    )
    (wheel,) = folder.glob("*.whl")
    dist.mkdir(parents=True, exist_ok=True)
    return wheel.replace(dist.resolve() / wheel.name)


def made(python: str, path: Path) -> Path:
    """Return the Python of a new virtual environment."""
    subprocess.run([python, "-m", "venv", str(path)], check=True)
    return path / "bin" / "python"


def pip(python: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Run pip, which says nothing unless it fails."""
    subprocess.run([str(python), "-m", "pip", "--quiet", *arguments], env=env, check=True)


if __name__ == "__main__":
    for each in sys.argv[2:]:
        checked(each, Path(sys.argv[1]))
