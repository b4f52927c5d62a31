"""Rollouts as Parquet tables (zstd): enough to grade again, to train from, and to audit.

One row a rollout. What is read equals what was written, floats bit for bit, with two exceptions
that the formats force: sequences inside prompts, answers and metadata come back as lists (JSON has
no tuple), and half of a surrogate pair, which UTF-8 cannot hold, becomes U+FFFD.
"""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlvr.errors import DataError
from rlvr.files import write_atomically
from rlvr.types import Completion, FinishReason, Outcome, Rollout, RolloutGroup, Task, Verdict

ROLLOUT_SCHEMA = pa.schema(
    [
        pa.field("task_id", pa.string(), nullable=False),
        pa.field("prompt", pa.string()),  # a text prompt; null where there are messages
        pa.field("messages", pa.string()),  # chat messages as JSON; null where there is a text
        pa.field("answer", pa.string(), nullable=False),  # JSON
        pa.field("metadata", pa.string(), nullable=False),  # JSON
        pa.field("completion", pa.string(), nullable=False),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("logprobs", pa.list_(pa.float64()), nullable=False),  # of the sampler, natural log
        pa.field("prompt_token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("reward", pa.float64()),  # null exactly where the verifier failed
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("extracted", pa.string()),
        pa.field("metrics", pa.string(), nullable=False),  # JSON
        pa.field("seconds", pa.float64(), nullable=False),  # of verifying
        pa.field("policy_version", pa.int64(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("details", pa.string()),  # of the verdict, JSON; null where there are none
    ],
    metadata={"rlvr.rollouts": "1"},
)

_LATER = ("details",)  # columns that older tables lack
_GROUPS = "rlvr.groups"  # sizes of groups, and whether a greedy rollout follows each
_ROWS_AT_ONCE = 4096
_SURROGATE = re.compile("[\ud800-\udfff]")


def write_rollouts(
    path: str | Path, rollouts: Sequence[Rollout], about: Mapping[str, str] | None = None
) -> None:
    """Write a table, whole or not at all.

    Args:
        path: of the table.
        rollouts: its rows.
        about: texts to keep in the file's metadata.

    Raises:
        DataError: a task's answer or metadata is not plain JSON.
    """
    write_atomically(path, lambda temporary: _write(temporary, rollouts, about))


def _write(
    where: Path | io.BytesIO, rollouts: Sequence[Rollout], about: Mapping[str, str] | None
) -> None:
    with pq.ParquetWriter(where, ROLLOUT_SCHEMA, compression="zstd") as writer:
        for start in range(0, len(rollouts), _ROWS_AT_ONCE):
            writer.write_batch(_batch(rollouts[start : start + _ROWS_AT_ONCE]))
        writer.add_key_value_metadata(dict(about or {}))


def write_groups(path: str | Path, groups: Sequence[RolloutGroup]) -> None:
    """Write a table of the groups' rollouts, and which of them make a group, whole or not at all.

    Raises:
        DataError: as `write_rollouts`.
    """
    rows, about = _rows_of(groups)
    write_rollouts(path, rows, about)


def groups_to_bytes(groups: Sequence[RolloutGroup]) -> bytes:
    """What `write_groups` writes, for another process.

    Raises:
        DataError: as `write_rollouts`.
    """
    rows, about = _rows_of(groups)
    buffer = io.BytesIO()
    _write(buffer, rows, about)
    return buffer.getvalue()


def groups_from_bytes(data: bytes) -> list[RolloutGroup]:
    """The inverse of `groups_to_bytes`."""
    return read_groups(io.BytesIO(data))


def _rows_of(groups: Sequence[RolloutGroup]) -> tuple[list[Rollout], dict[str, str]]:
    rows = [
        rollout
        for group in groups
        for rollout in (*group.rollouts, *([group.greedy] if group.greedy else []))
    ]
    sizes = [[len(group.rollouts), group.greedy is not None] for group in groups]
    return rows, {_GROUPS: json.dumps(sizes)}


def read_groups(path: str | Path | io.BytesIO) -> list[RolloutGroup]:
    """The groups of a table that `write_groups` wrote, in order.

    Raises:
        DataError: the file is missing, damaged, or no table of groups.
    """
    rollouts = iter(read_rollouts(path))
    with pq.ParquetFile(path) as table:
        about = table.metadata.metadata or {}
    if _GROUPS.encode() not in about:
        raise DataError(f"{path} is a table of rollouts that does not say which make a group")
    groups = []
    for size, has_greedy in json.loads(about[_GROUPS.encode()]):
        members = tuple(itertools.islice(rollouts, size))
        greedy = next(rollouts) if has_greedy else None
        groups.append(RolloutGroup(task=members[0].task, rollouts=members, greedy=greedy))
    return groups


def read_rollouts(path: str | Path | io.BytesIO) -> list[Rollout]:
    """Every rollout of a table, in order.

    Raises:
        DataError: the file is missing, damaged, or no table of rollouts.
    """
    return list(iterate_rollouts(path))


def iterate_rollouts(path: str | Path | io.BytesIO) -> Iterator[Rollout]:
    """The rollouts of a table, a few thousand in memory at a time.

    Raises:
        DataError: as `read_rollouts`.
    """
    try:
        with pq.ParquetFile(path) as table:
            _check_columns(path, table.schema_arrow)
            tasks = _TaskReader()
            columns = [name for name in ROLLOUT_SCHEMA.names if name in table.schema_arrow.names]
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=columns):
                for row in batch.to_pylist():
                    yield _rollout(row, tasks)
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(f"cannot read rollouts from {path}: {reason}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} holds a row that is no rollout: {error}") from error


def merge_tables(paths: Iterable[Path], output: Path) -> None:
    """Join tables into one, in the order given, a few thousand rows in memory at a time.

    Raises:
        DataError: one of them is missing, damaged, or no table of rollouts.
    """

    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, ROLLOUT_SCHEMA, compression="zstd") as writer:
            for path in paths:
                try:
                    with pq.ParquetFile(path) as table:
                        _check_columns(path, table.schema_arrow)
                        for batch in table.iter_batches(_ROWS_AT_ONCE):
                            writer.write_batch(_completed(batch))
                except pa.ArrowException as error:
                    reason = str(error).splitlines()[0]
                    raise DataError(
                        f"{path} is damaged ({reason}): delete it, and run the same command again"
                    ) from error

    write_atomically(output, write)


def _batch(rollouts: Sequence[Rollout]) -> pa.RecordBatch:
    tasks: dict[int, dict[str, Any]] = {}
    rows = []
    for rollout in rollouts:
        columns = tasks.get(id(rollout.task))
        if columns is None:
            columns = tasks[id(rollout.task)] = _task_columns(rollout.task)
        rows.append(columns | _own_columns(rollout))
    return pa.RecordBatch.from_pylist(rows, schema=ROLLOUT_SCHEMA)


def _task_columns(task: Task) -> dict[str, Any]:
    is_text = isinstance(task.prompt, str)
    return {
        "task_id": _storable(task.id),
        "prompt": _storable(task.prompt) if isinstance(task.prompt, str) else None,
        "messages": None if is_text else _to_json(task.prompt, f"task {task.id!r}: its prompt"),
        "answer": _to_json(task.answer, f"task {task.id!r}: its answer"),
        "metadata": _to_json(task.metadata, f"task {task.id!r}: its metadata"),
    }


def _own_columns(rollout: Rollout) -> dict[str, Any]:
    completion, verdict = rollout.completion, rollout.verdict
    return {
        "completion": _storable(completion.text),
        "token_ids": completion.token_ids,
        "logprobs": completion.logprobs,
        "prompt_token_ids": completion.prompt_token_ids,
        "finish_reason": completion.finish_reason.value,
        "reward": verdict.reward,
        "outcome": verdict.outcome.value,
        "reason": _storable(verdict.reason),
        "extracted": None if verdict.extracted is None else _storable(verdict.extracted),
        "metrics": json.dumps({key: float(value) for key, value in verdict.metrics.items()}),
        "seconds": verdict.seconds,
        "policy_version": rollout.policy_version,
        "seed": rollout.seed,
        "details": json.dumps(verdict.details) if verdict.details else None,
    }


class _TaskReader:
    """Makes tasks of rows; the rows of one task, which stand together, share one object."""

    _COLUMNS = ("task_id", "prompt", "messages", "answer", "metadata")

    def __init__(self) -> None:
        self._key: tuple[Any, ...] = ()
        self._task: Task | None = None

    def read(self, row: Mapping[str, Any]) -> Task:
        """The task of a row."""
        key = tuple(row[column] for column in self._COLUMNS)
        if self._task is None or key != self._key:
            prompt = row["prompt"] if row["prompt"] is not None else json.loads(row["messages"])
            self._key = key
            self._task = Task(
                id=row["task_id"],
                prompt=prompt,
                answer=json.loads(row["answer"]),
                metadata=json.loads(row["metadata"]),
            )
        return self._task


def _rollout(row: Mapping[str, Any], tasks: _TaskReader) -> Rollout:
    return Rollout(
        task=tasks.read(row),
        completion=Completion(
            text=row["completion"],
            token_ids=tuple(row["token_ids"]),
            logprobs=tuple(row["logprobs"]),
            prompt_token_ids=tuple(row["prompt_token_ids"]),
            finish_reason=FinishReason(row["finish_reason"]),
        ),
        verdict=Verdict(
            reward=row["reward"],
            outcome=Outcome(row["outcome"]),
            reason=row["reason"],
            extracted=row["extracted"],
            metrics=json.loads(row["metrics"]),
            seconds=row["seconds"],
            details=json.loads(row.get("details") or "{}"),
        ),
        policy_version=row["policy_version"],
        seed=row["seed"],
    )


def _completed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch of an older table with the columns that have come since, empty."""
    columns = [
        batch.column(field.name) if field.name in batch.schema.names
        else pa.nulls(len(batch), field.type)
        for field in ROLLOUT_SCHEMA
    ]  # fmt: skip
    return pa.RecordBatch.from_arrays(columns, schema=ROLLOUT_SCHEMA)


def _check_columns(path: object, schema: pa.Schema) -> None:
    needed = (name for name in ROLLOUT_SCHEMA.names if name not in _LATER)
    missing = [name for name in needed if name not in schema.names]
    if missing:
        raise DataError(f"{path} is no table of rollouts: it has no column {missing[0]!r}")


def _storable(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def _to_json(value: Any, what: str) -> str:
    return json.dumps(_plain(value, what))


def _plain(value: Any, what: str) -> Any:
    """`value` made of plain JSON types only; refuses what would come back as something else."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise DataError(f"{what} has the key {key!r}: expected text keys, as in JSON")
        return {key: _plain(item, what) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, what) for item in value]
    raise DataError(
        f"{what} holds a {type(value).__name__}: expected plain JSON "
        "(text, numbers, true, false, null, lists, objects)"
    )
