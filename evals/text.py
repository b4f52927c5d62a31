"""Evaluations and comparisons as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rlvr.evals.summary import Summary


def format_summary(summary: Summary) -> str:
    """Metrics with intervals, outcomes, verifier errors and notes, one a line."""
    rows = [["metric", "value", "95% interval", "tasks"]]
    for name, estimate in summary.metrics.items():
        interval = f"[{number(estimate.low)}, {number(estimate.high)}]"
        rows.append([name, number(estimate.value), interval, str(estimate.tasks)])
    lines = [
        f"{summary.environment}: {summary.tasks} tasks, {summary.samples} completions",
        "",
        *table(rows),
        "",
        *table([[name, str(n), share(n, summary.samples)] for name, n in summary.outcomes.items()]),
        "",
        f"verifier errors: {summary.verifier_errors}",
    ]
    if "mean_tokens" in summary.lengths:
        lines.append(f"mean length: {summary.lengths['mean_tokens']:.1f} tokens")
    return "\n".join([*lines, *(f"note: {note}" for note in summary.notes)])


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns under each other; the first is text, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def number(value: float, sign: bool = False) -> str:
    """Three decimals, or `n/a` where there is no value."""
    if math.isnan(value):
        return "n/a"
    return f"{value:+.3f}" if sign else f"{value:.3f}"


def share(part: int, whole: int) -> str:
    """As a percentage."""
    return f"{100 * part / whole:.1f}%" if whole else "n/a"
