"""The report as a page: a logged run comes in, one HTML file that needs nothing else goes out."""

from __future__ import annotations

import json
import math
import shlex
from html import escape
from string import Template
from typing import TYPE_CHECKING, Any

from tensor_optix.core.callbacks import Baseline, Best, Chosen, Dormant, Ending, Looked
from tensor_optix.runs import report, words
from tensor_optix.runs.curve import NARROW, WIDE, RunView, run_figure
from tensor_optix.runs.hyperparam_history import draw_hyperparams
from tensor_optix.runs.pictures import Ruler, inline_svg
from tensor_optix.runs.record import Surer, merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from matplotlib.figure import Figure

    from tensor_optix.runs.logged_run import LoggedRun
    from tensor_optix.runs.record import Decision
    from tensor_optix.runs.report import Outcome

MOST_NUMBERED = 40
"""Decisions that are listed and numbered: of more, new bests are left out, then those in the middle."""
_MOST_CHARACTERS = 200
"""Of a setting: the bounds of images would fill pages."""
Series = list[tuple["Decision", int]]
"""Decisions, each the last of so many of its kind in a row."""


def page(run: LoggedRun, outcome: Outcome) -> str:
    """Return the report of a run as HTML: its end, its curve with its decisions, its settings.

    Args:
        run: As its log tells it.
        outcome: How it ended.

    Raises:
        ImportError: If Matplotlib is not installed.
    """
    config, record = run.config, run.record
    series = merged(record.decisions)
    before = [one for one in series if isinstance(one[0].event, Looked | Chosen)]
    listed, left_out = _listed([one for one in series if one not in before])
    return _PAGE.substitute(
        title=escape(config.title),
        ending=escape(report.title(outcome)),
        learner=escape(f"{config.learner}, {config.environments}, {config.origin}"),
        figures=_figures(run, outcome),
        why=escape(_capitalized(report.why(record, outcome))),
        curve=_curve(run, [made for made, _ in listed]),
        before=_before(before),
        decisions=_decisions(listed, left_out),
        hyperparams=_hyperparams(run),
        commands=_commands(run, outcome),
        settings=_settings(run.directory.read_description()),
        files=escape(str(run.directory.path)),
    )


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _figures(run: LoggedRun, outcome: Outcome) -> str:
    """Return the figures of the headline."""
    record, config = run.record, run.config
    seconds = record.seconds
    speed = f"{record.total_steps / seconds:,.0f} steps/s" if seconds > 0 else ""
    limit = "" if config.max_steps is None else f" of at most {config.max_steps:,}"
    score, basis = words.number(run.final_score), "nothing was scored"
    if outcome.snapshot is not None and not outcome.snapshot.eval_metrics.never_scored:
        score = words.number(outcome.snapshot.eval_metrics.primary_score)
        basis = report.basis(record, outcome.snapshot).lstrip(", ")
    shown = {
        "best score": (score, basis),
        "steps": (f"{record.total_steps:,}", limit.strip()),
        "time": (words.clock(seconds), speed),
        "learning": (words.STATES[record.state], words.diagnostics(record.diagnostics)),
    }
    return "\n".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}</dd><dd class=more>{escape(more)}</dd></div>"
        for name, (value, more) in shown.items()
    )


def _listed(series: Series) -> tuple[Series, int]:
    """Return the decisions to be listed, and how many others there are."""
    shown = series
    if len(shown) > MOST_NUMBERED:
        shown = [one for one in series if not isinstance(one[0].event, Baseline | Best | Surer)]
    if len(shown) > MOST_NUMBERED:
        shown = [*shown[: MOST_NUMBERED // 2], *shown[-MOST_NUMBERED // 2 :]]
    return shown, len(series) - len(shown)


def _both(name: str, wide: Figure, narrow: Figure) -> str:
    """Return a picture for wide and for narrow windows."""
    return (
        f"<div class=wide>{inline_svg(wide, name)}</div>"
        f"<div class=narrow>{inline_svg(narrow, f'{name}, narrow')}</div>"
    )


def _curve(run: LoggedRun, numbered: list[Decision]) -> str:
    tried = run.experiments
    figures = [
        run_figure(run.record, run.config, RunView(size=size, numbered=numbered, experiments=tried))
        for size in (WIDE, NARROW)
    ]
    return _both("scores over environment steps", *figures)


def _hyperparams(run: LoggedRun) -> str:
    if not run.config.hyperparams:
        return "<p>Nothing is known of them.</p>"
    figures = [draw_hyperparams([run], Ruler(), width) for width in (WIDE[0], NARROW[0])]
    return _both("hyperparameters over environment steps", *figures)


def _before(series: Series) -> str:
    """Return what was chosen before the run began."""
    if not series:
        return ""
    rows = "".join(f"<li>{escape(words.decision(*one))}</li>" for one in series)
    return f"<h3>Before it began</h3>\n<ul>{rows}</ul>"


def _decisions(series: Series, left_out: int) -> str:
    if not series:
        return "<p>None was taken.</p>"
    rows = "\n".join(
        f"<li><span class=when>{made.total_steps:,} steps, {words.clock(made.seconds)}</span> "
        f"{escape(_told(made, count))}</li>"
        for made, count in series
    )
    more = f"<p class=more>{left_out} more are in events.jsonl.</p>" if left_out else ""
    return f"<ol>\n{rows}\n</ol>{more}"


def _told(made: Decision, count: int) -> str:
    told = words.decision(made, count)
    return f"{told}. {words.plateau(made.event)}" if isinstance(made.event, Dormant) else told


def _commands(run: LoggedRun, outcome: Outcome) -> str:
    """Return what can be done with the run."""
    place = shlex.quote(str(run.directory.path))
    beside = f"{shlex.quote(str(run.directory.path.parent))}/*"
    known = {"all runs beside it, in one picture": f"tensor-optix plot {beside}"}
    if run.config.is_rebuildable:
        more = f" --max-steps {_next_limit(run)}" * (outcome.ending is Ending.CAPPED)
        known = {"go on with it": f"tensor-optix train --resume {place}{more}", **known}
        if outcome.snapshot is not None:
            load = f"policy = tensor_optix.load({str(run.directory.path)!r})"
            play = {"evaluate": f"tensor-optix evaluate {place}", "act, from Python": load}
            known = play | known
    return "\n".join(
        f"<dt>{escape(name)}</dt><dd><code>{escape(command)}</code></dd>"
        for name, command in known.items()
    )


def _next_limit(run: LoggedRun) -> int:
    """Return a round number of steps that leaves room for as many again."""
    wanted = 2 * max(run.record.total_steps, run.config.max_steps or 0, 1)
    unit = int(10 ** int(math.log10(wanted)))
    return math.ceil(wanted / unit) * unit


def _settings(description: Mapping[str, Any]) -> str:
    rows = "\n".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in _flat(description)
    )
    return f"<table>\n{rows}\n</table>"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Give settings by name; those within hyperparameters and versions by `hyperparams.NAME` and so on."""
    for name, value in settings.items():
        if isinstance(value, dict) and name in ("hyperparams", "versions"):
            yield from _flat(value, f"{name}.")
            continue
        told = value if isinstance(value, str) else json.dumps(value)
        cut = told if len(told) <= _MOST_CHARACTERS else f"{told[:_MOST_CHARACTERS]} ..."
        yield prefix + name, cut


_PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title: $ending</title>
<style>
:root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --soft: #59636e; --line: #d1d9e0;
  --box: #f6f8fa; --line-0: #0072b2; --line-1: #d55e00; --line-2: #009e73; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #14181d; --soft: #9aa4af; --line: #343b43; --box: #1d232a;
    --line-0: #56a8e0; --line-1: #f08a4b; --line-2: #34c79c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 88rem; color: var(--ink); background: var(--paper);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.25; }
h2 { margin: 2.5rem 0 0.75rem; font-size: 1.2rem; }
h3 { margin: 1rem 0 0.25rem; font-size: 1rem; }
.more, .when, header p { color: var(--soft); }
header p { margin: 0.25rem 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 0.75rem;
  margin: 1.25rem 0; }
.figures div { padding: 0.75rem 1rem; border: 1px solid var(--line); border-radius: 0.5rem;
  background: var(--box); }
.figures dt { color: var(--soft); font-size: 0.85rem; }
.figures dd { margin: 0; font-size: 1.3rem; line-height: 1.3; }
.figures dd.more { font-size: 0.85rem; line-height: 1.4; }
svg { display: block; max-width: 100%; height: auto; }
.wide { display: none; }
ol, ul { padding-left: 2.2rem; margin: 0; }
li { margin: 0.35rem 0; font-size: 0.92rem; }
.when { display: block; font-size: 0.82rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.75rem 0.3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { font-weight: 500; color: var(--soft); width: 14rem; }
code { display: block; padding: 0.5rem 0.75rem; border-radius: 0.4rem; background: var(--box);
  border: 1px solid var(--line); font: 0.88rem/1.5 ui-monospace, monospace; white-space: pre-wrap; }
.commands dt { margin-top: 0.75rem; color: var(--soft); }
.commands dd { margin: 0.25rem 0 0; }
@media (max-width: 40rem) { body { padding: 1rem; } th { width: 9rem; } }
@media (min-width: 44rem) { .wide { display: block; } .narrow { display: none; } }
@media (min-width: 72rem) {
  .beside { display: grid; grid-template-columns: minmax(0, 1fr) 25rem; gap: 2rem; align-items: start; }
  .beside > :first-child { position: sticky; top: 1rem; } }
@media print {
  :root { --ink: #000; --paper: #fff; --soft: #444; --line: #bbb; --box: #fff; --line-0: #0072b2;
    --line-1: #d55e00; --line-2: #009e73; }
  body { font-size: 11pt; padding: 0; } .beside { display: block; }
  .wide { display: block; } .narrow { display: none; }
  svg, li, tr, .figures div, dd { break-inside: avoid; } h2, h3 { break-after: avoid; } }
</style>
</head>
<body>
<header>
<h1>$title: $ending</h1>
<p>$learner</p>
</header>
<main>
<dl class="figures">
$figures
</dl>
<p>$why</p>
<h2>Curve and decisions</h2>
<div class="beside">
<div>$curve</div>
<div>
$before
<h3>Decisions, by their numbers on the curve</h3>
$decisions
</div>
</div>
<h2>Hyperparameters</h2>
$hyperparams
<h2>What to do with it</h2>
<dl class="commands">
$commands
</dl>
<h2>Settings and versions</h2>
<p class="more">From run.json in $files</p>
$settings
</main>
</body>
</html>
"""
)
