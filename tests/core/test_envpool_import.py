"""EnvPool is imported in a moment, and all of it is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("envpool")

HEAVY = ("matplotlib", "envpool.jumanji.jumanji_render", "envpool.atari.atari_envpool")
SCRIPT = """
import sys
from tensor_optix.core.envpool_import import import_envpool

before = list(sys.meta_path)
late = import_envpool()
assert sys.meta_path == before
heavy = [name for name in {heavy} if name in sys.modules]
ids = late.list_all_envs()
pool = late.make("CartPole-v1", env_type="gymnasium", num_envs=2)
assert pool.reset()[0].shape == (2, 4)
pool.close()
# A family is there once something in it is looked up, whichever way that is done.
import envpool.toy_text
from envpool.box2d import CarRacingEnvSpec
assert envpool is late
assert envpool.toy_text.TaxiEnvSpec
print(heavy, len(ids))
"""
PLAIN = "import envpool; print(len(envpool.list_all_envs()))"


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_no_family_is_imported_before_it_is_asked_for_and_no_id_is_missing() -> None:
    assert run(SCRIPT.format(heavy=HEAVY)) == f"[] {run(PLAIN)}"


def test_a_package_that_is_missing_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensor_optix.core.envpool_import import import_envpool

    monkeypatch.setitem(sys.modules, "envpool", None)
    before = list(sys.meta_path)
    with pytest.raises(ImportError):
        import_envpool()
    assert sys.meta_path == before
