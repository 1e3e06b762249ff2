"""Runs that differ only in their seed are one group: runs come in, groups with their names go out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tensor_optix.runs import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.runs.logged_run import LoggedRun

_OF_NO_MATTER = {
    *("seed", "max_steps", "target_score", "callbacks"),
    *("device", "computed_on", "updates_by", "engine", "backend"),
    *("tensorboard", "csv", "wandb", "mlflow", "observation_space", "action_space"),
    *("env_id", "env_kwargs", "wrappers"),
}
"""Fields of `run.json` that change nothing of what is learned, and the environment, which has its panel."""
_HYPERPARAM = "hyperparams."


@dataclass(frozen=True)
class Panel:
    """An environment, and a kind of score: what can share axes."""

    title: str
    is_per_step: bool


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ only in their seed."""

    panel: Panel
    label: str
    """The algorithm, and the settings by which the groups of a panel differ."""
    runs: Sequence[LoggedRun]


def grouped(runs: Sequence[LoggedRun]) -> dict[Panel, list[RunGroup]]:
    """Return the groups of each panel, in the order in which runs were given.

    What the command chose after its look at the environment does not part runs, but for the algorithm.

    Args:
        runs: With scores, where the kind of score matters.
    """
    panels: dict[Panel, list[tuple[dict[str, Any], list[LoggedRun]]]] = defaultdict(list)
    for run in runs:
        settings = _settings(run)
        found = panels[Panel(run.config.title, run.record.is_per_step)]
        same = next((members for known, members in found if known == settings), None)
        if same is None:
            found.append((settings, [run]))
        else:
            same.append(run)
    return {
        panel: [
            RunGroup(panel, _label(own, [one for one, _ in found]), runs) for own, runs in found
        ]
        for panel, found in panels.items()
    }


def labels_of(panels: dict[Panel, list[RunGroup]]) -> list[str]:
    """Return the names of all groups, each once: a name has one look in all panels."""
    return list(dict.fromkeys(group.label for groups in panels.values() for group in groups))


def counted(label: str, panels: dict[Panel, list[RunGroup]]) -> str:
    """Return a name with the number of its runs, in each panel that has some."""
    counts = [
        len(group.runs) for groups in panels.values() for group in groups if group.label == label
    ]
    told = str(counts[0]) if len(set(counts)) == 1 else ", ".join(map(str, counts))
    return f"{label} ({told} run{'' if told == '1' else 's'})"


def _settings(run: LoggedRun) -> dict[str, Any]:
    """Return what was asked for, as far as it changes what is learned."""
    plain = asdict(run.config)
    hyperparams = plain.pop("hyperparams")
    plain |= {f"{_HYPERPARAM}{name}": value for name, value in hyperparams.items()}
    left_out = _OF_NO_MATTER | (run.chosen - {"algorithm"})
    return {name: value for name, value in plain.items() if name not in left_out}


def _label(own: dict[str, Any], all_settings: Sequence[dict[str, Any]]) -> str:
    """Return the algorithm and what sets these settings apart from others of the same algorithm."""
    algorithm = own["algorithm"].upper() or own["agent_class"]
    rivals = [one for one in all_settings if one["algorithm"] == own["algorithm"]]
    apart = [name for name in own if any(one.get(name) != own[name] for one in rivals)]
    return ", ".join([algorithm, *(_said(name, own[name]) for name in apart)])


def _said(name: str, value: Any) -> str:
    return words.chosen(name, f"{value:.4g}" if isinstance(value, float) else value)
