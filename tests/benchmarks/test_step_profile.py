"""The tables of `benchmarks.step_profile`, of numbers that nobody measured, and the operations of updates."""

from __future__ import annotations

import pytest

from benchmarks.step_profile.table import PRODUCTS, Part, Profile, parts_table, summary_table
from tensor_optix.kernels import engine

PARTS = [
    Part("environments", 20.0, "environment", 10.0, "compiled calls"),
    Part("choosing actions", 10.0, "acting"),
    Part("rows", 5.0, "keeping rows"),
    Part("updates", 60.0, "learning"),
    Part(PRODUCTS, 30.0, floor=20.0, floor_is="operations"),
]
PROFILE = Profile("PPO", "a vector step of 8 environments", 8, 100.0, PARTS, "envpool")


def test_a_step_is_its_parts_and_what_none_accounts_for():
    assert PROFILE.remainder == 5.0
    lines = parts_table(PROFILE).splitlines()
    assert lines[0].startswith("| a vector step of 8 environments | us |")
    assert "| environments | 20.0 | 20 % | 10.0 | compiled calls |" in lines
    assert "| - of it products | 30.0 | 30 % | 20.0 | operations |" in lines
    assert "| what no part accounts for | 5.0 | 5 % |  |  |" in lines


def test_a_line_says_what_bounds_a_case():
    *_, line = summary_table([PROFILE]).splitlines()
    assert line == "| PPO | 80,000 | 20 % | 10 % | 5 % | 60 % | (30 %) | 5 % | 1.50x |"


@pytest.mark.skipif(not engine.has_engine, reason="the kernels have no engine")
def test_the_operations_of_a_pass_are_three_times_those_forward_but_for_the_first_inputs():
    from benchmarks.step_profile.updates import forward, learning

    sizes = (4, 64, 64, 2)
    once = sum(product.operations for product in forward(sizes, 32))
    assert once == 2 * 32 * (4 * 64 + 64 * 64 + 64 * 2)
    whole = sum(product.operations for product in learning(sizes, 32))
    assert whole == 3 * once - 2 * 32 * 4 * 64
