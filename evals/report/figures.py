"""The report's figures: each a `<figure>` with title, legend and plot.

A figure that would be empty is empty text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from rlvr.evals.report.load import Group, Row, View
from rlvr.evals.report.svg import (
    Bars,
    Line,
    Point,
    bar_plot,
    line_plot,
    nice_ticks,
    smooth,
    thin,
)
from rlvr.evals.summary import Estimate, Summary, split_name
from rlvr.types import Outcome

_LENGTH_BINS = 24
_MAX_DIAGNOSTICS = 60
# (metric, label, colour) of the plots that have several lines.
SIGNAL = (
    ("groups/zero_signal", "equal rewards", "s2"),
    ("groups/all_right", "all right", "after"),
    ("groups/all_wrong", "all wrong", "s1"),
)
CLIPS = (
    ("policy/clipped_low", "clipped below", "s1"),
    ("policy/clipped_high", "clipped above", "after"),
)
LENGTHS = (
    ("length/mean", "all", "s2"),
    ("length/correct", "correct", "after"),
    ("length/wrong", "wrong", "s1"),
)


def figure(title: str, note: str, plot: str, legend: Sequence[tuple[str, str]] = ()) -> str:
    """A plot with its title, a line on how to read it, and (colour, label) pairs."""
    if not plot:
        return ""
    keys = "".join(
        f'<span class="key"><i class="swatch {color}"></i>{escape(label)}</span>'
        for color, label in legend
    )
    legend_html = f'<div class="legend">{keys}</div>' if keys else ""
    return (
        f'<figure class="card"><figcaption><h3>{escape(title)}</h3><p>{escape(note)}</p>'
        f"</figcaption>{legend_html}{plot}</figure>"
    )


def learning_curve(steps: Sequence[tuple[int, Summary]]) -> str:
    """Held-out pass@k at every evaluation, with its intervals."""
    if len(steps) < 2:
        return ""
    ks = sorted({split_name(name)[1] for name in steps[0][1].metrics if name.startswith("pass@")})
    chosen = [f"pass@{k}" for k in dict.fromkeys((ks[0], ks[-1]))] if ks else []
    lines = []
    for name, color in zip(chosen, ("after", "s1"), strict=False):
        measured = [(step, summary.metrics.get(name)) for step, summary in steps]
        lines.append(_estimates(name, color, [(s, e) for s, e in measured if e is not None]))
    plot = line_plot(lines, x_label="training step", y_label="share of tasks", y_range=(0.0, 1.0))
    legend = [(line.color, line.label) for line in lines]
    return figure("Learning curve", "held-out tasks; bands are 95% intervals", plot, legend)


def noisy_curve(rows: Sequence[Row], name: str, title: str, what: str, y_label: str) -> str:
    """A number that every training step has: faint as it is, and smoothed."""
    points = thin(series(rows, name))
    if len(points) < 2:
        return ""
    window = max(1, len(points) // 25)
    lines = [Line(label="", color="after", points=smooth(points, window))]
    if window > 1:
        lines.insert(0, Line(label="", color="after", points=points, faint=True))
        smoothing = f"line: mean of {window} points"
        what = f"{what}; {smoothing}" if what else smoothing
    return figure(title, what, line_plot(lines, x_label="training step", y_label=y_label))


def noisy_curves(
    rows: Sequence[Row], names: Sequence[tuple[str, str, str]], title: str, what: str, y_label: str
) -> str:
    """Several numbers of every training step in one plot, smoothed: (name, label, colour) each."""
    lines = []
    for name, label, color in names:
        points = thin(series(rows, name))
        if len(points) >= 2:
            window = max(1, len(points) // 25)
            lines.append(Line(label=label, color=color, points=smooth(points, window)))
    legend = [(line.color, line.label) for line in lines]
    return figure(title, what, line_plot(lines, x_label="training step", y_label=y_label), legend)


def held_out_curves(rows: Sequence[Row]) -> list[str]:
    """What was measured on held-out data with an interval, a figure each: `eval/accuracy`, ..."""
    names = {name.removesuffix("/low") for row in rows for name in row if name.endswith("/low")}
    plots = []
    for name in sorted(names):
        keys = ("step", name, f"{name}/low", f"{name}/high")
        found = [[row.get(key, math.nan) for key in keys] for row in rows]
        known = [list(map(float, item)) for item in found if all(map(_is_number, item))]
        line = Line(
            label="",
            color="after",
            points=[(step, value) for step, value, _, _ in known],
            band=[(step, low, high) for step, _, low, high in known],
            dots=True,
        )
        short = name.removeprefix("eval/")
        plot = line_plot([line], x_label="training step", y_label=short)
        plots.append(figure(f"Held-out {short}", "bands are 95% intervals", plot))
    return plots


def pass_curve(views: Sequence[View]) -> str:
    """pass@k for every power of two up to the samples that there are."""
    lines = []
    most = 0
    for view in views:
        scores = list(view.evaluation.scores.values())
        n = max((task.graded for task in scores), default=0)
        if n < 2:
            continue
        ks = sorted({2**power for power in range(n.bit_length()) if 2**power <= n} | {n})
        points = [(k, Estimate.of([task.metric(f"pass@{k}") for task in scores])) for k in ks]
        lines.append(_estimates(view.label, view.color, points))
        most = max(most, n)
    ticks = [float(2**power) for power in range(most.bit_length())]
    plot = line_plot(
        lines, x_label="k", y_label="pass@k", y_range=(0.0, 1.0), x_ticks=ticks, log=True
    )
    note = "the chance that one of k completions is correct; bands are 95% intervals"
    return figure("pass@k", note, plot, _legend(views))


def solve_rates(views: Sequence[View]) -> str:
    """How the tasks spread from never solved to always solved."""
    most = max((t.graded for view in views for t in view.evaluation.scores.values()), default=0)
    if most < 2:
        return ""
    bins = min(most, 10)
    sets = []
    for view in views:
        rates = [sum(t.correct) / t.graded for t in view.evaluation.scores.values() if t.graded]
        counts = [0] * (bins + 1)
        for rate in rates:
            counts[round(rate * bins)] += 1
        tips = [
            f"{view.label}: {count} of {len(rates)} tasks are solved {i / bins:.0%} of the time"
            for i, count in enumerate(counts)
        ]
        sets.append(
            Bars(
                label=view.label,
                color=view.color,
                heights=[count / max(1, len(rates)) for count in counts],
                tips=tips,
            )
        )
    edges = [(i - 0.5) / bins for i in range(bins + 2)]
    ticks = [(i / 5, f"{20 * i}%") for i in range(6)]
    label = "correct completions of a task"
    plot = bar_plot(sets, edges, x_label=label, y_label="share of tasks", ticks=ticks)
    note = "share of tasks by how often they are solved"
    return figure("Difficulty", note, plot, _legend(views))


def length_histogram(views: Sequence[View]) -> str:
    """How long the completions are."""
    units = {view.unit for view in views}
    longest = max((length for view in views for length in view.lengths), default=0)
    if len(units) != 1 or longest == 0:
        return ""
    width = max(1, -(-(longest + 1) // _LENGTH_BINS))
    bins = longest // width + 1
    sets = []
    for view in views:
        counts = [0] * bins
        for length in view.lengths:
            counts[length // width] += 1
        tips = [
            f"{view.label}: {count} completions of {i * width} to {(i + 1) * width - 1} {view.unit}"
            for i, count in enumerate(counts)
        ]
        heights = [count / max(1, len(view.lengths)) for count in counts]
        sets.append(Bars(label=view.label, color=view.color, heights=heights, tips=tips))
    edges = [float(i * width) for i in range(bins + 1)]
    ticks = [(tick, f"{tick:g}") for tick in nice_ticks(0, edges[-1], whole=True)]
    unit = units.pop()
    plot = bar_plot(sets, edges, x_label=unit, y_label="share of completions", ticks=ticks)
    return figure("Completion length", f"share of completions by {unit}", plot, _legend(views))


def diagnostics(group: Group) -> list[str]:
    """A small plot of every other number that the training and its warm start logged."""
    shown = {
        "step",
        "reward/mean",
        "entropy",
        *(name for name, _, _ in (*SIGNAL, *CLIPS, *LENGTHS)),
    }
    plots = []
    for rows, stage in ((group.rows, ""), (group.warm_rows, "warm start: ")):
        for name in sorted({name for row in rows for name in row} - shown):
            if not name.startswith("eval/"):
                plots.append(noisy_curve(rows, name, f"{stage}{name}", "", name))
    return [plot for plot in plots if plot][:_MAX_DIAGNOSTICS]


def outcome_bars(labelled: Sequence[tuple[str, Summary]]) -> str:
    """Stacked bars: what became of the completions of each evaluation."""
    seen = [item.value for item in Outcome if any(item.value in s.outcomes for _, s in labelled)]
    bars = []
    for label, summary in labelled:
        parts = "".join(
            f'<i class="o-{name}" style="width:{100 * count / summary.samples:.3f}%" '
            f'title="{name}: {count} of {summary.samples}"></i>'
            for name, count in summary.outcomes.items()
        )
        correct = summary.outcomes.get("correct", 0) / max(1, summary.samples)
        bars.append(
            f'<div class="stack-row"><span class="stack-label">{escape(label)}</span>'
            f'<div class="stack">{parts}</div><span class="stack-value">{correct:.1%} correct'
            "</span></div>"
        )
    keys = "".join(
        f'<span class="key"><i class="swatch o-{name}"></i>{name.replace("_", " ")}</span>'
        for name in seen
    )
    return (
        '<figure class="card wide"><figcaption><h3>Outcomes</h3>'
        "<p>what became of the completions</p></figcaption>"
        f'<div class="legend">{keys}</div>{"".join(bars)}</figure>'
    )


def series(rows: Sequence[Row], name: str) -> list[Point]:
    """The points of one number over steps, those that are missing left out."""
    return [(float(row["step"]), float(row[name])) for row in rows if _is_number(row.get(name))]


def _estimates(label: str, color: str, measured: Sequence[tuple[int, Estimate]]) -> Line:
    known = [(float(x), e) for x, e in measured if not math.isnan(e.value)]
    return Line(
        label=label,
        color=color,
        points=[(x, e.value) for x, e in known],
        band=[(x, e.low, e.high) for x, e in known],
        dots=True,
    )


def _legend(views: Sequence[View]) -> list[tuple[str, str]]:
    return [(view.color, view.label) for view in views]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and not isinstance(value, bool)
