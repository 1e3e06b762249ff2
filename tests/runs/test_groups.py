"""Runs that differ only in their seed are one group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tensor_optix.core.callbacks import Chosen, Rescored
from tensor_optix.runs.groups import counted, grouped, labels_of
from tensor_optix.runs.logged_run import LoggedRun, read_run
from tests.runs.made_runs import HYPERPARAMS, made_run

if TYPE_CHECKING:
    from pathlib import Path


class Shelf:
    """Makes runs, each in a directory of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.runs: list[LoggedRun] = []

    def add(self, *events: Any, **config: Any) -> None:
        path = self._path / str(len(self.runs))
        self.runs.append(read_run(made_run(path, [1.0, 2.0], events, **config)))

    def labels(self) -> list[str]:
        panels = grouped(self.runs)
        return [counted(label, panels) for label in labels_of(panels)]


def test_seed_budget_boards_and_machine_part_no_runs(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(seed=1)
    shelf.add(seed=2, max_steps=500, tensorboard=True, computed_on="gpu", updates_by="others")
    assert shelf.labels() == ["PPO (2 runs)"]


def test_groups_are_named_by_what_sets_them_apart(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(seed=1)
    shelf.add(hyperparams=HYPERPARAMS | {"learning_rate": 1 / 3}, normalize_rewards=True)
    shelf.add(seed=2)
    shelf.add(algorithm="dqn", hyperparams={"epsilon": 1.0})
    assert shelf.labels() == [
        "PPO, no normalize rewards, learning rate 0.0003 (2 runs)",
        "PPO, normalize rewards, learning rate 0.3333 (1 run)",
        "DQN (1 run)",
    ]


def test_each_environment_and_each_kind_of_score_has_a_panel(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add()
    shelf.add(env_kwargs={"size": 8})
    shelf.add(env_id="Pole-v1")
    shelf.add(Rescored(0, 1000, per_step=True, windows=1))
    shelf.add(seed=3)
    panels = grouped(shelf.runs)
    assert [(panel.title, panel.is_per_step) for panel in panels] == [
        ("Cart-v1", False),
        ("Cart-v1(size=8)", False),
        ("Pole-v1", False),
        ("Cart-v1", True),
    ]
    assert shelf.labels() == ["PPO (2, 1, 1, 1 runs)"]


def test_what_the_look_at_the_environment_chose_parts_no_runs(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for gamma in (0.99, 0.995):
        event = Chosen(option="hyperparams.gamma", value=gamma, reason="")
        shelf.add(event, hyperparams=HYPERPARAMS | {"gamma": gamma})
    assert shelf.labels() == ["PPO (2 runs)"]
    algorithm = Chosen(option="algorithm", value="dqn", reason="")
    shelf.add(algorithm, algorithm="dqn")
    assert shelf.labels() == ["PPO (2 runs)", "DQN (1 run)"]


def test_an_agent_of_the_users_own_is_named_by_its_class(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.add(algorithm="", agent_class="HillClimber")
    assert shelf.labels() == ["HillClimber (1 run)"]
