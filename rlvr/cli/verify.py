"""`rlvr verify`: grade the rows of a file."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlvr.types import Completion, Task, Verdict

_KINDS: Mapping[type, str] = {str: "text", dict: "an object"}


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "verify",
        help="grade the completions of a file",
        description="Grade rows {completion, answer, prompt?, id?, metadata?, finish_reason?}. "
        "Each output row is the input row with reward, outcome, reason, extracted and seconds "
        "(and metrics where there are any), in the same order. Every row is checked before any "
        "is graded.",
    )
    parser.add_argument(
        "verifier", metavar="VERIFIER", help="a registered name, or file.py:name (see `rlvr list`)"
    )
    parser.add_argument(
        "--input", required=True, metavar="FILE", help="rows: JSONL, CSV (.gz too) or Parquet"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="JSONL with the verdicts; standard output without it"
    )
    parser.add_argument("--workers", type=int, default=8, metavar="N", help="processes at most")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="S", help="seconds for one item"
    )
    parser.add_argument(
        "--set",
        dest="options",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the verifier, the value in YAML; may be given several times",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Grade, write the verdicts, and print a summary on standard error."""
    from rlvr.api import load_verifier
    from rlvr.files import write_atomically
    from rlvr.progress import Progress
    from rlvr.verifiers.pool import check_limits, verify_many

    verifier = load_verifier(arguments.verifier, **read_options(arguments.options))
    check_limits(arguments.workers, arguments.timeout)
    rows = read_rows(Path(arguments.input))
    output = _output_path(arguments.output)
    pairs = [(task, completion) for _, task, completion in rows]
    started = time.perf_counter()
    with Progress("verifying", len(pairs)) as progress:
        verdicts = verify_many(
            verifier,
            pairs,
            workers=arguments.workers,
            timeout=arguments.timeout,
            on_done=lambda *_: progress.advance(),
        )
    seconds = time.perf_counter() - started
    lines = [_line(row, verdict) for (row, _, _), verdict in zip(rows, verdicts, strict=True)]
    if output is None:
        sys.stdout.writelines(lines)
        sys.stdout.flush()
    else:
        write_atomically(output, lambda path: _write(path, lines))
    print(summary(verdicts, seconds), file=sys.stderr)
    return 0


def read_options(assignments: Sequence[str]) -> dict[str, Any]:
    """`key=value` strings as options; values are YAML, keys may be dotted.

    Raises:
        ConfigError: one has no `=`, or its value is no YAML.
    """
    from rlvr.config import apply_override

    options: dict[str, Any] = {}
    for assignment in assignments:
        options = apply_override(options, assignment)
    return options


def read_rows(path: Path) -> list[tuple[dict[str, Any], Task, Completion]]:
    """Every row of a file with the task and the completion that it makes.

    Raises:
        DataError: the file cannot be read, has no rows, or a row is malformed; the message names
            the line.
    """
    from rlvr.environments.readers import read_file
    from rlvr.errors import DataError

    if path.is_dir():
        raise DataError(f"{path} is a folder: expected a file of rows")
    rows = [(row, *parse_row(row, where)) for where, row in read_file(path)]
    if not rows:
        raise DataError(f"{path} has no rows: nothing to verify")
    return rows


def parse_row(row: Mapping[str, Any], where: str) -> tuple[Task, Completion]:
    """One row as a task and a completion.

    Args:
        row: what the file holds.
        where: file and line, for messages.

    Raises:
        DataError: a column is missing or holds the wrong type.
    """
    from rlvr.errors import DataError
    from rlvr.types import Completion, FinishReason, Task

    for column in ("completion", "answer"):
        if column not in row:
            names = ", ".join(map(str, row)) or "none"
            raise DataError(f"{where}: no column {column!r}; the columns are {names}")
    _check(row["completion"], str, "completion", where)
    prompt = row.get("prompt") or ""
    if not isinstance(prompt, str) and not _is_chat(prompt):
        raise DataError(
            f"{where}: column 'prompt' holds {prompt!r:.60}: expected text or chat messages "
            "[{role, content}, ...]"
        )
    metadata = row.get("metadata") or {}
    _check(metadata, dict, "metadata", where)
    reason = row.get("finish_reason") or FinishReason.STOP
    known = [item.value for item in FinishReason]
    if reason not in known:
        raise DataError(
            f"{where}: column 'finish_reason' holds {reason!r:.60}: expected {', '.join(known)}"
        )
    name = row.get("id")
    task = Task(
        id=where if name is None else str(name),
        prompt=prompt,
        answer=row["answer"],
        metadata=metadata,
    )
    return task, Completion(text=row["completion"], finish_reason=FinishReason(reason))


def summary(verdicts: Sequence[Verdict], seconds: float) -> str:
    """Counts per outcome, mean reward, verifier errors and time, for a person."""
    outcomes = Counter(verdict.outcome.value for verdict in verdicts)
    width = max(map(len, outcomes))
    lines = [f"{name:<{width}}  {count:>8,}" for name, count in outcomes.most_common()]
    rewards = [verdict.reward for verdict in verdicts if verdict.reward is not None]
    errors = len(verdicts) - len(rewards)
    mean = f"{math.fsum(rewards) / len(rewards):.4f}" if rewards else "none"
    lines.append(
        f"{len(verdicts):,} rows, mean reward {mean} over {len(rewards):,}, "
        f"{errors:,} verifier errors, {seconds:.2f} s"
    )
    return "\n".join(lines)


def _check(value: Any, kind: type, column: str, where: str) -> None:
    from rlvr.errors import DataError

    if not isinstance(value, kind):
        shown = "nothing" if value is None else f"{value!r:.60} ({type(value).__name__})"
        raise DataError(f"{where}: column {column!r} holds {shown}: expected {_KINDS[kind]}")


def _is_chat(prompt: Any) -> bool:
    return isinstance(prompt, list) and all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in prompt
    )


def _output_path(name: str | None) -> Path | None:
    """The output file, in a folder that can be written to; asked before any work."""
    from rlvr.errors import UserError
    from rlvr.files import prepare_folder

    if name is None:
        return None
    path = Path(name)
    if path.is_dir():
        raise UserError(f"cannot write verdicts to {path}: it is a folder")
    prepare_folder(path.parent, "verdicts")
    return path


def _line(row: Mapping[str, Any], verdict: Verdict) -> str:
    graded = {
        **row,
        "reward": verdict.reward,
        "outcome": verdict.outcome.value,
        "reason": verdict.reason,
        "extracted": verdict.extracted,
        "seconds": round(verdict.seconds, 6),
    }
    if verdict.metrics:
        graded["metrics"] = dict(verdict.metrics)
    line = json.dumps(graded, ensure_ascii=False, default=str) + "\n"
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair: only its escape can be written
        line = json.dumps(graded, default=str) + "\n"
    return line


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines)
