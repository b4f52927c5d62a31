"""The folder of an evaluation: what it belongs to, the parts that are done, and the whole.

    DIR/evaluation.json     what was asked for; a call that asks for something else is refused
    DIR/parts/*.parquet     rollouts of the finished parts, each whole or not there
    DIR/rollouts.parquet    all rollouts in the order of the tasks; there once all are done
    DIR/summary.json        the numbers

One process writes at a time; a lock that dies with its process sees to that.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlvr.errors import UserError
from rlvr.evals.summary import Summary
from rlvr.files import prepare_folder, write_json
from rlvr.rollout_table import iterate_rollouts, merge_tables, write_rollouts
from rlvr.types import Rollout

IDENTITY = "evaluation.json"
ROLLOUTS = "rollouts.parquet"
SUMMARY = "summary.json"


class EvaluationFolder:
    """A folder that one evaluation is written to, in parts. Use as a context manager.

    Args:
        path: the folder; made where it is missing.
        identity: everything that decides what the rollouts are, as plain JSON values.
        parts: into how many parts the work is cut.

    Raises:
        UserError: the folder cannot be written to, holds another evaluation (the message names the
            first key that differs) or something else, or is being written by another process.
    """

    def __init__(self, path: str | Path, identity: Mapping[str, Any], parts: int) -> None:
        self.path = prepare_folder(path, "the evaluation")
        self._identity = dict(identity)
        self._count = parts
        self._lock = (self.path / ".lock").open("w")
        try:
            self._take_lock()
            self._check_identity()
            (self.path / "parts").mkdir(exist_ok=True)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> EvaluationFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    @property
    def is_merged(self) -> bool:
        """Whether all rollouts are there, in one table."""
        return (self.path / ROLLOUTS).exists()

    def has_part(self, index: int) -> bool:
        """Whether a part is done."""
        return self.is_merged or self._part(index).exists()

    def write_part(self, index: int, rollouts: Sequence[Rollout]) -> None:
        """Keep a finished part."""
        write_rollouts(self._part(index), rollouts)

    def merge(self) -> None:
        """Join the parts, all of which are done, into one table."""
        if not self.is_merged:
            merge_tables(map(self._part, range(self._count)), self.path / ROLLOUTS)
        shutil.rmtree(self.path / "parts", ignore_errors=True)

    def rollouts(self) -> Iterator[Rollout]:
        """The rollouts of the merged table, in order."""
        return iterate_rollouts(self.path / ROLLOUTS)

    def write_summary(self, summary: Summary) -> None:
        """Keep the numbers."""
        write_json(self.path / SUMMARY, summary.to_dict())

    def _part(self, index: int) -> Path:
        return self.path / "parts" / f"part_{index:06d}.parquet"

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process is writing an evaluation to {self.path}") from error

    def _check_identity(self) -> None:
        file = self.path / IDENTITY
        if not file.exists():
            for name in (ROLLOUTS, SUMMARY, "parts", "config.yaml"):
                if (self.path / name).exists():
                    raise UserError(
                        f"{self.path} holds {name} but no {IDENTITY}: it is not the folder of an "
                        "evaluation; choose another one"
                    )
            write_json(file, self._identity)
            return
        try:
            found = flatten(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, OSError, AttributeError) as error:
            raise UserError(f"{file} is damaged: choose another folder") from error
        asked = flatten(json.loads(json.dumps(self._identity)))
        for key in [*asked, *found]:
            here, there = asked.get(key, "nothing"), found.get(key, "nothing")
            if here != there:
                raise UserError(
                    f"{self.path} holds an evaluation with {key} = {there!r}, and this one has "
                    f"{here!r}: give the same options to resume it, or choose another folder"
                )


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys.

    >>> flatten({"sampling": {"top_p": 1.0}, "n": 4})
    {'sampling.top_p': 1.0, 'n': 4}
    """
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
