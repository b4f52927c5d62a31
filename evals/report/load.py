"""What the report shows, read from folders: evaluations side by side, and training runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlvr.errors import DataError
from rlvr.evals.load import Evaluation, is_evaluation, load_evaluation
from rlvr.evals.store import SUMMARY
from rlvr.evals.summary import Summary
from rlvr.tracking import read_jsonl
from rlvr.types import Outcome, Rollout

SHOWN_PER_OUTCOME = 20
SHOWN_PER_TASK = 2
"""Rollouts shown: so many of an outcome, and so many of one task with the same outcome."""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class View:
    """One evaluation as the report shows it.

    Attributes:
        label: what it is called on the page.
        color: the class of its colour in plots.
        evaluation: its numbers and scores.
        lengths: of every completion.
        unit: of the lengths: tokens, or characters where token ids are not known.
        shown: the rollouts that are shown, of every outcome some.
    """

    label: str
    color: str
    evaluation: Evaluation
    lengths: Sequence[int]
    unit: str
    shown: Sequence[Rollout]

    @property
    def summary(self) -> Summary:
        """Its numbers."""
        return self.evaluation.summary


@dataclass(frozen=True, kw_only=True)
class Group:
    """What stands together in one section: a training run, or evaluations of one environment.

    Attributes:
        title: the section's heading.
        subtitle: what it is, in a line.
        views: its evaluations: first and last of a training run, or all that were given.
        steps: of a training run: every evaluation's step and numbers.
        rows: of a training run: its metrics, one row a step.
        warm_rows: of a training run: the metrics of its warm start.
        alarms: of a training run: what it raised.
        config: what was asked for, as text.
    """

    title: str
    subtitle: str
    views: Sequence[View]
    config: str
    steps: Sequence[tuple[int, Summary]] = ()
    rows: Sequence[Row] = ()
    warm_rows: Sequence[Row] = ()
    alarms: Sequence[Row] = ()


def load_groups(directories: Sequence[str | Path]) -> list[Group]:
    """Read every folder: a group for each training run, and one for all evaluations of each
    environment.

    Raises:
        DataError: there is no folder, or one is neither an evaluation nor a training run.
    """
    if not directories:
        raise DataError("nothing to report on: give the folder of an evaluation or a training run")
    paths = [Path(directory) for directory in directories]
    evaluations: dict[str, list[Path]] = {}
    groups: list[Group] = []
    for path in paths:
        if is_evaluation(path):
            name = Summary.read(path / SUMMARY).environment
            evaluations.setdefault(name, []).append(path)
        elif (path / "metrics.jsonl").is_file():
            groups.append(_training_run(path))
        else:
            raise DataError(
                f"{path} is neither a finished evaluation (summary.json, rollouts.parquet) nor a "
                "training run (metrics.jsonl)"
            )
    return [*groups, *(_evaluations(name, group) for name, group in evaluations.items())]


def _evaluations(environment: str, paths: list[Path]) -> Group:
    labels = _labels(paths)
    colors = [f"s{i % 6}" for i in range(len(paths))]
    views = [_view(*item) for item in zip(paths, labels, colors, strict=True)]
    configs = [
        f"# {view.label}\n" + json.dumps(dict(view.summary.config), indent=2, ensure_ascii=False)
        for view in views
    ]
    return Group(
        title=environment,
        subtitle="evaluation" if len(paths) == 1 else f"{len(paths)} evaluations",
        views=views,
        config="\n\n".join(configs),
    )


def _training_run(path: Path) -> Group:
    finished = sorted(
        (int(folder.name.removeprefix("step_")), folder)
        for folder in (path / "evals").glob("step_*")
        if folder.name.removeprefix("step_").isdecimal() and is_evaluation(folder)
    )
    views = []
    if finished:
        step, folder = finished[-1]
        after = _view(folder, f"after (step {step})", "after")
        views.append(after)
    if len(finished) > 1:
        step, folder = finished[0]
        views.insert(0, _view(folder, f"before (step {step})", "before"))
    rows = _rows(path / "metrics.jsonl")
    config = path / "config.yaml"
    return Group(
        title=path.resolve().name,
        subtitle="training run",
        views=views,
        steps=[(step, Summary.read(folder / SUMMARY)) for step, folder in finished],
        rows=rows,
        warm_rows=_rows(path / "warm_start" / "metrics.jsonl"),
        alarms=read_jsonl(path / "alarms.jsonl"),
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
    )


@dataclass
class _Gallery:
    """Picks the rollouts to show, the first ones of every outcome, spread over tasks."""

    shown: list[Rollout] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    characters: list[int] = field(default_factory=list)
    tokens_known: bool = True
    _by_outcome: Counter[Outcome] = field(default_factory=Counter)
    _by_task: Counter[tuple[str, Outcome]] = field(default_factory=Counter)

    def look(self, rollout: Rollout) -> None:
        completion, outcome = rollout.completion, rollout.verdict.outcome
        self.lengths.append(len(completion.token_ids))
        self.characters.append(len(completion.text))
        self.tokens_known &= bool(completion.token_ids) or not completion.text
        key = (rollout.task.id, outcome)
        if self._by_outcome[outcome] < SHOWN_PER_OUTCOME and self._by_task[key] < SHOWN_PER_TASK:
            self._by_outcome[outcome] += 1
            self._by_task[key] += 1
            self.shown.append(rollout)


def _view(path: Path, label: str, color: str) -> View:
    gallery = _Gallery()
    evaluation = load_evaluation(path, gallery.look)
    return View(
        label=label,
        color=color,
        evaluation=evaluation,
        lengths=gallery.lengths if gallery.tokens_known else gallery.characters,
        unit="tokens" if gallery.tokens_known else "characters",
        shown=gallery.shown,
    )


def _labels(paths: list[Path]) -> list[str]:
    """Folder names; with more of the path where these are equal."""
    for depth in range(1, 20):
        labels = ["/".join(path.resolve().parts[-depth:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{path} ({number})" for number, path in enumerate(paths, start=1)]


def _rows(path: Path) -> list[Row]:
    """Whole rows, those of one step joined; a last line that was cut short is left out."""
    if not path.is_file():
        return []
    rows: dict[int, Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            rows.setdefault(int(row["step"]), {}).update(row)
        except (ValueError, KeyError, TypeError):
            break
    return [rows[step] for step in sorted(rows)]
