"""The report's page: headline numbers, figures, tables, rollouts, configuration."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from rlvr.evals.report import figures
from rlvr.evals.report.gallery import gallery
from rlvr.evals.report.load import Group, Row, View
from rlvr.evals.summary import Estimate, Summary
from rlvr.evals.text import number, share

_HERE = Path(__file__).parent
_FOOTER = (
    "Intervals are 95% over tasks. pass@k: at least one of k completions is correct; pass^k: all "
    "of them; maj@k: the most frequent answer of k; avg@k: mean reward; best@k: highest reward. "
    "Completions that the verifier could not grade count in none of them."
)


def render(groups: Sequence[Group]) -> str:
    """The whole page: no file and no network beyond it; equal input gives equal text."""
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    script = (_HERE / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    title = groups[0].title if len(groups) == 1 else f"{len(groups)} results"
    sections = "".join(_group(group) for group in groups)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} · rlvr report</title>
<style>
{style}</style>
</head>
<body>
<main>
{sections}
<footer>{_FOOTER}</footer>
</main>
<script>{script}</script>
</body>
</html>
"""


def _group(group: Group) -> str:
    plots = "".join(
        [
            figures.learning_curve(group.steps),
            *_training_curves(group.rows),
            figures.pass_curve(group.views),
            figures.solve_rates(group.views),
            figures.length_histogram(group.views),
        ]
    )
    outcomes = figures.outcome_bars(_labelled(group)) if group.views else ""
    return (
        f'<section class="group"><header><p class="kicker">{escape(group.subtitle)}</p>'
        f"<h1>{escape(group.title)}</h1>{_facts(group)}</header>"
        f"{_cards(group.views)}{_alarms(group.alarms)}{_notes(group.views)}"
        f'<div class="plots">{plots}{outcomes}</div>'
        f"{_metrics_table(group.views)}{gallery(group.views)}"
        f"{_diagnostics(group)}{_provenance(group)}</section>"
    )


def _training_curves(rows: Sequence[Row]) -> list[str]:
    """The reward, where there is one; else what a supervised or preference training has."""
    reward = figures.noisy_curve(
        rows, "reward/mean", "Training reward", "mean over sampled completions", "mean reward"
    )
    if reward:
        return [reward, *_policy_curves(rows)]
    curves = [
        figures.noisy_curve(rows, name, f"Training {name}", "", name)
        for name in ("loss", "accuracy")
    ]
    return [*curves, *figures.held_out_curves(rows)]


def _policy_curves(rows: Sequence[Row]) -> list[str]:
    """What shows early that a policy gradient run goes wrong."""
    many = figures.noisy_curves
    return [
        figures.noisy_curve(rows, "entropy", "Entropy", "of the trained tokens", "nats a token"),
        many(
            rows,
            figures.LENGTHS,
            "Length in training",
            "mean tokens of the sampled completions, by verdict",
            "mean tokens",
        ),
        many(
            rows,
            figures.SIGNAL,
            "Groups without signal",
            "share of the sampled groups whose rewards are all equal",
            "share of groups",
        ),
        many(
            rows,
            figures.CLIPS,
            "Clipped tokens",
            "share of the trained tokens whose gradient the clip cut",
            "share of tokens",
        ),
    ]


def _alarms(alarms: Sequence[Row]) -> str:
    """What was raised in training, with cause and remedy."""
    if not alarms:
        return ""
    items = "".join(
        f"<li><b>{escape(str(row.get('name', '')).replace('_', ' '))}</b>, step "
        f"{escape(str(row.get('step', '')))}: {escape(str(row.get('seen', '')))}. Likely cause: "
        f"{escape(str(row.get('cause', '')))}. What to do: {escape(str(row.get('remedy', '')))}."
        "</li>"
        for row in alarms
    )
    return f'<div class="card notes"><h3>Alarms in training</h3><ul>{items}</ul></div>'


def _facts(group: Group) -> str:
    if not group.views:
        return f'<p class="facts-line">{len(group.rows)} steps logged</p>'
    summary = group.views[-1].summary
    facts = [f"environment {summary.environment}", f"{summary.tasks} tasks"]
    facts.append(f"{summary.samples} completions each" if len(group.views) > 1 else "")
    if len(group.views) == 1:
        facts[-1] = f"{summary.samples} completions"
    if group.steps:
        facts.append(f"evaluated at {len(group.steps)} steps up to {group.steps[-1][0]}")
    errors = sum(view.summary.verifier_errors for view in group.views)
    facts.append(f"{errors} verifier errors")
    return f'<p class="facts-line">{escape(" · ".join(facts))}</p>'


def _cards(views: Sequence[View]) -> str:
    """The first and the last pass@k of every view, as numbers and as intervals on a track."""
    if not views:
        return ""
    names = [name for name in views[-1].summary.metrics if name.startswith("pass@")]
    cards = []
    for name in dict.fromkeys((names[0], names[-1])):
        rows = [(view, view.summary.metrics.get(name)) for view in views]
        known = [(view, estimate) for view, estimate in rows if estimate is not None]
        cards.append(
            f'<div class="card headline"><h3>{escape(name)}</h3>{_change([e for _, e in known])}'
            + "".join(_track(view, estimate) for view, estimate in known)
            + "</div>"
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _change(estimates: Sequence[Estimate]) -> str:
    if len(estimates) == 2:
        before, after = estimates
        gap = after.value - before.value
        moved = "" if math.isnan(gap) else f'<span class="gain">{number(gap, sign=True)}</span>'
        return (
            f'<p class="big"><span class="was">{number(before.value)}</span>'
            f'<span class="arrow" aria-label="to">→</span>{number(after.value)}{moved}</p>'
        )
    return f'<p class="big">{number(estimates[0].value)}</p>' if len(estimates) == 1 else ""


def _track(view: View, estimate: Estimate) -> str:
    interval = f"[{number(estimate.low)}, {number(estimate.high)}]"
    if math.isnan(estimate.value):
        drawn = ""
    else:
        left, width = 100 * estimate.low, 100 * (estimate.high - estimate.low)
        drawn = (
            f'<i class="range {view.color}" style="left:{left:.2f}%;width:{width:.2f}%"></i>'
            f'<i class="mark {view.color}" style="left:{100 * estimate.value:.2f}%"></i>'
        )
    return (
        f'<div class="track-row"><span class="track-label">{escape(view.label)}</span>'
        f'<span class="track-value">{number(estimate.value)} <small>{interval}</small></span>'
        f'<div class="track">{drawn}</div></div>'
    )


def _notes(views: Sequence[View]) -> str:
    notes = [f"{view.label}: {note}" for view in views for note in view.summary.notes]
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<div class="card notes"><h3>Read this first</h3><ul>{items}</ul></div>'


def _labelled(group: Group) -> list[tuple[str, Summary]]:
    """Every evaluation of a training run, or a dozen of them, evenly; else the views."""
    if len(group.steps) < 3:
        return [(view.label, view.summary) for view in group.views]
    last = len(group.steps) - 1
    rows = sorted({round(i * last / 11) for i in range(12)}) if last > 11 else range(last + 1)
    return [(f"step {group.steps[i][0]}", group.steps[i][1]) for i in rows]


def _metrics_table(views: Sequence[View]) -> str:
    if not views:
        return ""
    names = list(dict.fromkeys(name for view in views for name in view.summary.metrics))
    head = "".join(f"<th>{escape(view.label)}</th>" for view in views)
    rows = [
        f"<tr><th>{escape(name)}</th>"
        + "".join(_cell(view.summary.metrics.get(name)) for view in views)
        + "</tr>"
        for name in names
    ]
    rows.append(
        "<tr><th>verifier errors</th>"
        + "".join(
            f"<td>{s.verifier_errors} <small>{share(s.verifier_errors, s.samples)}</small></td>"
            for s in (view.summary for view in views)
        )
        + "</tr>"
    )
    rows.append(_length_row("mean length", "mean_tokens", views))
    rows.append(_length_row("ran into the token limit", "truncated", views))
    return (
        '<section><h2>Metrics</h2><div class="scroll card"><table><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "<td>n/a</td>"
    interval = f"[{number(estimate.low)}, {number(estimate.high)}]"
    shown = f"{number(estimate.value)} <small>{interval}</small>"
    return f'<td title="{estimate.tasks} tasks">{shown}</td>'


def _length_row(label: str, key: str, views: Sequence[View]) -> str:
    cells = []
    for view in views:
        value = view.summary.lengths.get(key)
        text = "n/a" if value is None else f"{value:.1%}" if key == "truncated" else f"{value:.1f}"
        cells.append(f"<td>{text}</td>")
    return f"<tr><th>{label}</th>{''.join(cells)}</tr>"


def _diagnostics(group: Group) -> str:
    plots = figures.diagnostics(group)
    if not plots:
        return ""
    return (
        f"<details class='more'><summary>Everything else that the training logged "
        f"({len(plots)} plots)</summary><div class='plots small'>{''.join(plots)}</div></details>"
    )


def _provenance(group: Group) -> str:
    versions = group.views[-1].summary.versions if group.views else {}
    listed = " · ".join(f"{name} {version}" for name, version in versions.items())
    config = f"<pre>{escape(group.config)}</pre>" if group.config else ""
    return (
        "<details class='more'><summary>Configuration and versions</summary>"
        f"<p class='muted'>{escape(listed)}</p>{config}</details>"
    )
