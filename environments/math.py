"""MATH and MATH-500: contest problems with answers in LaTeX."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from rlvr import registry
from rlvr.environments.base import Environment, environment, user_message
from rlvr.environments.data import Published, RowLeftOut, check_column, load_rows
from rlvr.errors import ConfigError, DataError, nearest
from rlvr.types import Task

INSTRUCTION = r"Think step by step, and put the final answer in \boxed{}."

PUBLISHED = {
    "test": Published(file="math500.jsonl", hub="HuggingFaceH4/MATH-500"),
    "train": Published(file="math_train.jsonl", hub="DigitalLearningGmbH/MATH-lighteval"),
}


@environment("math")
def math(
    *,
    split: str = "test",
    data: str | None = None,
    instruction: str = INSTRUCTION,
    streaming: bool | None = None,
    verifier: Mapping[str, Any] | None = None,
) -> Environment:
    """Contest problems (MATH, MATH-500), graded by the math verifier.

    Args:
        split: `test` (MATH-500) or `train`.
        data: file, folder or Hub name; rows have `problem`, and `answer` or a `solution` that ends
            in a box (rows where both are empty are left out, with a warning); `subject` (or
            `type`) and `level` (or `difficulty`) are kept as metadata.
        instruction: follows the problem, after a blank line.
        streaming: hold no rows in memory; by default only for files above 64 MiB.
        verifier: options of the `math` verifier.
    """
    if split not in PUBLISHED:
        raise ConfigError(f"math has no split {split!r}{nearest(split, PUBLISHED)}")
    rows = load_rows(data, split, PUBLISHED[split], {"problem": str}, streaming=streaming)
    return Environment(
        tasks=rows.tasks(functools.partial(_task, split, instruction)),
        verifier=registry.verifiers.create("math", verifier),
    )


def _task(split: str, instruction: str, index: int, row: dict[str, Any]) -> Task:
    solution = row.get("solution")
    if solution is not None:
        check_column(row, "solution", str)
    answer = row.get("answer")
    if not answer and solution:
        answer = last_box(solution)
    elif "answer" in row and answer in (None, ""):  # four of the published training rows
        raise RowLeftOut("there is neither an answer nor a solution")
    else:
        check_column(row, "answer", str)
    metadata = {
        "solution": solution or f"The answer is $\\boxed{{{answer}}}$.",
        "subject": row.get("subject") or row.get("type"),
        "level": row.get("level") if row.get("level") is not None else row.get("difficulty"),
    }
    return Task(
        id=str(row.get("unique_id") or row.get("id") or f"math/{split}/{index}"),
        prompt=user_message(f"{row['problem']}\n\n{instruction}".strip()),
        answer=answer,
        metadata={key: value for key, value in metadata.items() if value is not None},
    )


def last_box(text: str) -> str:
    r"""What stands in the last `\boxed{...}` of a solution.

    Raises:
        DataError: there is none, or its braces do not match.
    """
    _, found, rest = text.rpartition(r"\boxed{")
    depth = 1
    for position, character in enumerate(rest):
        escaped = position > 0 and rest[position - 1] == "\\"
        depth += 0 if escaped else {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return rest[:position]
    problem = "has a \\boxed{ that is not closed" if found else "has no \\boxed{}"
    raise DataError(f"there is no 'answer', and column 'solution' {problem}")
