"""Environments in processes of their own: they are found, warn once, and who fails in there is named."""

import gc
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from tensor_optix.pipeline.vector_env import from_env_fns
from tensor_optix.pipeline.vector_pipeline import _Factory
from tests.pipeline.row_envs import ScriptedEnv

ROOT = Path(__file__).parents[2]
METHODS = ["fork", "spawn"]


def run(*arguments):
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)


def script(case, method):
    return run("-m", "tests.pipeline.spawning", case, method)


@pytest.mark.parametrize(
    ("case", "method"), [*product(["script_id", "lambdas"], METHODS), ("here", "fork")]
)
def test_environments_of_a_script_are_made_and_each_warning_comes_once_in_plain_letters(
    case, method
):
    ran = script(case, method)
    assert "rows: [[10.0], [10.0], [10.0]]" in ran.stdout
    assert "children: []" in ran.stdout
    assert "\x1b" not in ran.stderr
    expected = ["made with care", "stepped with care"]
    expected += [] if case == "script_id" else ["number 1 is special", "number 2 is special"]
    # A class of a script has no checker of Gymnasium's around it but by an id.
    expected += [] if case == "lambdas" else ["is not within the observation space."]
    said = re.findall(r"Warning: (.*)", ran.stderr)
    assert len(said) == len(set(said)), said
    assert all(any(text in line for line in said) for text in expected), said


def test_an_id_that_a_worker_does_not_know_is_named_with_what_to_do():
    ran = script("by_name", "spawn")
    assert ran.stdout.startswith(
        "RuntimeError: environment 0 could not be made in its worker process: NameNotFound: Environment "
    )
    assert "begins empty: register ids and set globals in the function that makes" in ran.stdout
    assert "cause: \n\nTraceback" in ran.stdout
    assert "Error" not in ran.stderr
    assert "children: []" in ran.stdout


def test_what_cannot_travel_is_refused_before_a_process_starts():
    ran = script("locked", "spawn")
    assert ran.stdout.startswith(
        "TypeError: env_fns[0] cannot be sent to a worker process (TypeError: "
    )
    assert "let it make what it needs itself" in ran.stdout
    assert "children: []" in ran.stdout


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_ends_in_the_middle_of_a_step_is_named(method):
    ran = script("deadly", method)
    # Every one of them ends; who is named first is a matter of chance.
    assert re.search(
        r"RuntimeError: the worker process of environment \d \(exit code 7\)", ran.stdout
    )
    assert "ended in the middle of a step" in ran.stdout
    assert "children: []" in ran.stdout


@pytest.mark.parametrize("backend", ["async", "auto"])
def test_a_script_without_a_guard_is_not_run_on_in_its_workers(tmp_path, backend):
    path = tmp_path / "unguarded.py"
    path.write_text(
        "import multiprocessing, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        'multiprocessing.set_start_method("spawn", force=True)\n'
        "from tensor_optix.pipeline.vector_env import make_vector_env\n"
        f'env = make_vector_env("tests.pipeline.row_envs:RowNoise-v0", 2, {backend!r})\n'
        'print("went on with", env.name)\n'
    )
    ran = run(str(path))
    assert (
        'runs the script anew: keep what starts a run under: if __name__ == "__main__":'
        in ran.stderr
    )
    if backend == "async":
        assert 'a worker process (start method "spawn") ended before it had made its' in ran.stderr
        assert not ran.stdout
    else:
        assert ran.stdout == "went on with sync\n", "in this process, and in no other"


def test_what_a_function_made_here_does_not_travel_with_it():
    factory = _Factory(ScriptedEnv)
    assert isinstance(factory(), ScriptedEnv)
    assert factory.__getstate__()["_made"] is None


def test_one_that_fails_in_its_process_only_is_named():
    code = (
        "import os; from tensor_optix.pipeline.vector_env import from_env_fns\n"
        "from tests.pipeline.row_envs import ScriptedEnv\n"
        "home = os.getpid()\n"
        "def make():\n"
        "    if os.getpid() != home: raise OSError('no port is free')\n"
        "    return ScriptedEnv()\n"
        "try: from_env_fns([ScriptedEnv, make], asynchronous=True)\n"
        "except RuntimeError as error: print(error)\n"
    )
    ran = run("-c", code)
    expected = "environment 1 could not be made in its worker process: OSError: no port is free\n"
    assert ran.stdout == expected
    assert not ran.stderr


class Threaded:
    """Garbage that only a collection finds; like a pool of threads, it takes a process down but its own."""

    def __init__(self):
        self.itself, self.home = self, os.getpid()

    def __del__(self):
        if os.getpid() != self.home:
            os._exit(11)


class Collecting(ScriptedEnv):
    def reset(self, **given):
        gc.collect()
        return super().reset(**given)


def test_a_worker_leaves_alone_what_was_garbage_before_it_began():
    gc.disable()
    try:
        Threaded()
        env = from_env_fns([Collecting] * 2, asynchronous=True)
        env.reset(0)
        assert len(env.recv().observations) == 2
        env.close()
    finally:
        gc.enable()
