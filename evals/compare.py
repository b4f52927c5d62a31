"""Two evaluations of the same tasks, compared task by task.

Pairing takes out what the tasks share: how hard they are. The interval is that of the mean of the
differences over tasks; McNemar's test looks at the tasks that only one of the two solves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlvr.errors import DataError
from rlvr.evals.intervals import bootstrap_interval, difference_interval
from rlvr.evals.load import Evaluation, load_evaluation
from rlvr.evals.summary import TaskScores
from rlvr.evals.text import number, table


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric over the tasks that count in both evaluations.

    Attributes:
        metric: its name.
        a: mean in A.
        b: mean in B.
        difference: `b - a`.
        low: low end of its 95% interval (`rlvr.evals.intervals.difference_interval`).
        high: high end of it.
        bootstrap_low: low end of the percentile bootstrap's interval.
        bootstrap_high: high end of it.
        tasks: how many tasks count.
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    tasks: int


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """The exact test of McNemar (1947) on tasks solved, a task counting as one observation.

    Attributes:
        both: tasks solved in A and in B.
        only_a: solved in A alone.
        only_b: solved in B alone.
        neither: solved in neither.
        p_value: two-sided, of the binomial with rate 1/2 over the tasks solved in one alone.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two evaluations have in common, and how they differ.

    Attributes:
        a: the first evaluation.
        b: the second evaluation.
        common: tasks in both, with the same prompt and answer.
        only_a: tasks in A alone.
        only_b: tasks in B alone.
        changed: tasks whose id is in both, with another prompt or answer; left out.
        differences: one for each metric that both have.
        solved: McNemar's test; `None` where no common task is graded in both.
    """

    a: Evaluation
    b: Evaluation
    common: int
    only_a: int
    only_b: int
    changed: int
    differences: Sequence[Difference]
    solved: McNemar | None


def compare(directory_a: str | Path, directory_b: str | Path) -> Comparison:
    """Compare two finished evaluations.

    Raises:
        DataError: one of the folders holds no finished evaluation, or they have no task in common.
    """
    a, b = load_evaluation(directory_a), load_evaluation(directory_b)
    shared = [task_id for task_id in a.scores if task_id in b.scores]
    common = [task_id for task_id in shared if a.contents[task_id] == b.contents[task_id]]
    if not common:
        why = "the same ids have other prompts or answers" if shared else "no task id is in both"
        raise DataError(f"{a.path} and {b.path} have no task in common: {why}")
    pairs = [(a.scores[task_id], b.scores[task_id]) for task_id in common]
    metrics = [name for name in a.summary.metrics if name in b.summary.metrics]
    return Comparison(
        a=a,
        b=b,
        common=len(common),
        only_a=len(a.scores) - len(shared),
        only_b=len(b.scores) - len(shared),
        changed=len(shared) - len(common),
        differences=[difference(name, pairs) for name in metrics],
        solved=mcnemar(pairs),
    )


def difference(metric: str, pairs: Sequence[tuple[TaskScores, TaskScores]]) -> Difference:
    """The paired difference of a metric, over the tasks where both have it."""
    values = [(a.metric(metric), b.metric(metric)) for a, b in pairs]
    values = [(a, b) for a, b in values if not math.isnan(a) and not math.isnan(b)]
    differences = [b - a for a, b in values]
    low, high = difference_interval(differences)
    bootstrap_low, bootstrap_high = bootstrap_interval(differences)
    return Difference(
        metric=metric,
        a=_mean([a for a, _ in values]),
        b=_mean([b for _, b in values]),
        difference=_mean(differences),
        low=low,
        high=high,
        bootstrap_low=bootstrap_low,
        bootstrap_high=bootstrap_high,
        tasks=len(values),
    )


def mcnemar(pairs: Sequence[tuple[TaskScores, TaskScores]]) -> McNemar | None:
    """Compare the tasks solved: those with more than half of their graded samples correct."""
    from scipy.stats import binomtest

    judged = [(_solved(a), _solved(b)) for a, b in pairs if a.graded and b.graded]
    if not judged:
        return None
    only_a = sum(a and not b for a, b in judged)
    only_b = sum(b and not a for a, b in judged)
    both = sum(a and b for a, b in judged)
    discordant = only_a + only_b
    p_value = float(binomtest(only_b, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(
        both=both,
        only_a=only_a,
        only_b=only_b,
        neither=len(judged) - both - discordant,
        p_value=p_value,
    )


def format_comparison(comparison: Comparison) -> str:
    """The comparison and what it means, for a terminal."""
    rows = [["metric", "A", "B", "B - A", "95% interval", "bootstrap", "tasks"]]
    for item in comparison.differences:
        rows.append(
            [
                item.metric,
                number(item.a),
                number(item.b),
                number(item.difference, sign=True),
                _interval(item.low, item.high),
                _interval(item.bootstrap_low, item.bootstrap_high),
                str(item.tasks),
            ]
        )
    lines = [
        _describe("A", comparison.a),
        _describe("B", comparison.b),
        _overlap(comparison),
        "",
        *table(rows),
    ]
    if comparison.solved is not None:
        lines += ["", *_describe_solved(comparison.solved)]
    if comparison.differences:
        lines += ["", conclude(comparison.differences[0])]
    return "\n".join(lines)


def conclude(item: Difference) -> str:
    """What a difference says, in a sentence."""
    if math.isnan(item.difference):
        return f"{item.metric}: no common task has enough graded completions in both."
    if item.low > 0 or item.high < 0:
        better = "B" if item.difference > 0 else "A"
        return (
            f"{item.metric}: {better} is better. On tasks like these the difference B - A lies in "
            f"{_interval(item.low, item.high)}, which leaves out 0."
        )
    return (
        f"{item.metric}: no difference is shown. The interval {_interval(item.low, item.high)} "
        "holds 0: what was seen may be chance, and a difference within the interval is not "
        "ruled out. More tasks make it narrower."
    )


def _solved(task: TaskScores) -> bool:
    return 2 * sum(task.correct) > task.graded


def _describe(name: str, evaluation: Evaluation) -> str:
    summary = evaluation.summary
    errors = f", {summary.verifier_errors} verifier errors" if summary.verifier_errors else ""
    return (
        f"{name}: {evaluation.path} ({summary.environment}, {summary.tasks} tasks, "
        f"{summary.samples} completions{errors})"
    )


def _overlap(comparison: Comparison) -> str:
    parts = [f"{comparison.common} tasks in common"]
    if comparison.only_a or comparison.only_b:
        parts.append(f"left out: {comparison.only_a} only in A and {comparison.only_b} only in B")
    if comparison.changed:
        parts.append(
            f"left out: {comparison.changed} with the same id but another prompt or answer"
        )
    return "; ".join(parts)


def _describe_solved(solved: McNemar) -> list[str]:
    tasks = solved.both + solved.only_a + solved.only_b + solved.neither
    in_a, in_b = solved.both + solved.only_a, solved.both + solved.only_b
    return [
        "solved (more than half of a task's graded completions are correct):",
        f"  A {in_a} of {tasks}, B {in_b} of {tasks}; only A {solved.only_a}, "
        f"only B {solved.only_b}",
        f"  McNemar's exact test: p = {solved.p_value:.3g} (the chance of a split at least that "
        "uneven if A and B were equally likely to be the one that solves a task)",
    ]


def _interval(low: float, high: float) -> str:
    return f"[{number(low, sign=True)}, {number(high, sign=True)}]"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
