"""What a population came to, in plain words: a status with the best scores comes in, a text goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

RULE = "━" * 54
LABEL_WIDTH = 17


def training_report_text(report: Mapping[str, Any], reason: str) -> str:
    """Return the report that ends a run. Lines without data are left out.

    Args:
        report: What `PolicyManager.training_report` returns.
        reason: Why the run ended.
    """
    lines = [RULE, "Training Complete", _line("Reason", reason), RULE]
    for label, key, form in (
        ("Best score", "best_score", "{:.4f}"),
        ("Val score", "best_val_score", "{:.4f}"),
        ("Generalization", "best_generalization_gap", "{:.4f}  (train − val)"),  # noqa: RUF001
    ):
        if report[key] is not None:
            lines.append(_line(label, form.format(report[key])))
    used, most = report["spawn_count"], report["max_spawns"]
    lines += [
        _line("Spawns used", f"{used}" if most is None else f"{used} / {most}"),
        _line("Pruned agents", report["prune_count"]),
        _line("Ensemble size", report["ensemble_size"]),
    ]
    if report["regime"] is not None:
        lines.append(_line("Regime", report["regime"]))
    if report["agents"]:
        lines.append(f"{'Agents':<{LABEL_WIDTH}}:")
        lines += [_agent_line(agent) for agent in report["agents"]]
    return "\n".join([*lines, RULE])


def _line(label: str, value: Any) -> str:
    return f"{label:<{LABEL_WIDTH}}: {value}"


def _agent_line(agent: Mapping[str, Any]) -> str:
    line = f"[{agent['index']}] weight={agent['weight']:.4f}"
    mean = agent["mean_score"]
    return line if mean is None else f"{line}  mean_score={mean:.4f}"
