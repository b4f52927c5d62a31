"""Reading finished evaluations back, for comparison and for the report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rlvr.errors import DataError
from rlvr.evals.store import ROLLOUTS, SUMMARY
from rlvr.evals.summary import Summary, TaskScores, TaskTable
from rlvr.rollout_table import iterate_rollouts
from rlvr.types import Rollout, Task


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A finished evaluation, without the texts of its rollouts.

    Attributes:
        path: its folder.
        summary: its numbers.
        scores: the samples of each task, by task id, in order.
        contents: a digest of each task's prompt and answer, by task id.
    """

    path: Path
    summary: Summary
    scores: dict[str, TaskScores]
    contents: dict[str, str]


def is_evaluation(path: Path) -> bool:
    """Whether a folder holds a finished evaluation."""
    return (path / SUMMARY).is_file() and (path / ROLLOUTS).is_file()


def load_evaluation(
    path: str | Path, look: Callable[[Rollout], None] = lambda rollout: None
) -> Evaluation:
    """Read an evaluation's folder; `look` is shown every rollout on the way.

    Raises:
        DataError: the folder holds no finished evaluation, or its files are damaged.
    """
    folder = Path(path)
    if not is_evaluation(folder):
        hint = " (it is not finished: run the same `rlvr eval` again)"
        begun = (folder / "parts").is_dir()
        raise DataError(
            f"{folder} holds no finished evaluation: expected {SUMMARY} and {ROLLOUTS} in it"
            + (hint if begun else "")
        )
    table = TaskTable()
    contents: dict[str, str] = {}
    for rollout in iterate_rollouts(folder / ROLLOUTS):
        table.add(rollout)
        look(rollout)
        if rollout.task.id not in contents:
            contents[rollout.task.id] = task_digest(rollout.task)
    return Evaluation(
        path=folder,
        summary=Summary.read(folder / SUMMARY),
        scores=table.scores,
        contents=contents,
    )


def task_digest(task: Task) -> str:
    """Of the prompt and the answer."""
    text = json.dumps([task.prompt, task.answer], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
