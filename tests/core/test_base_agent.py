"""What an agent says of itself, and how it may say so."""

from typing import ClassVar

import pytest

from tests.scripted import CountingAgent

DEFAULTS = {
    "default_param_bounds": {},
    "default_log_params": (),
    "default_min_episodes_before_dormant": 0,
    "has_unit_actions": False,
}
CHANGED = {
    "default_param_bounds": {"learning_rate": (0.1, 1.0)},
    "default_log_params": ("learning_rate",),
    "default_min_episodes_before_dormant": 60,
    "has_unit_actions": True,
}


class InItsClass(CountingAgent):
    default_param_bounds: ClassVar = CHANGED["default_param_bounds"]
    default_log_params = ("learning_rate",)
    default_min_episodes_before_dormant = 60
    has_unit_actions = True


class InItsConstructor(CountingAgent):
    def __init__(self):
        super().__init__()
        for name, value in CHANGED.items():
            setattr(self, name, value)


class AsProperties(CountingAgent):
    default_param_bounds = property(lambda self: CHANGED["default_param_bounds"])
    default_log_params = property(lambda self: ("learning_rate",))
    default_min_episodes_before_dormant = property(lambda self: 60)
    has_unit_actions = property(lambda self: True)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (CountingAgent, DEFAULTS),
        (InItsClass, CHANGED),
        (InItsConstructor, CHANGED),
        (AsProperties, CHANGED),
    ],
)
def test_what_a_tuner_and_a_pipeline_read_may_be_said_in_any_form(kind, expected):
    agent = kind()
    assert {name: getattr(agent, name) for name in DEFAULTS} == expected
