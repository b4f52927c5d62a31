"""GSM8K: grade-school word problems whose answers are whole numbers."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from rlvr import registry
from rlvr.environments.base import Environment, environment, user_message
from rlvr.environments.data import Published, load_rows
from rlvr.errors import DataError
from rlvr.types import Task

INSTRUCTION = r"Think step by step, and put the final number in \boxed{}."

_ANSWER = re.compile(r"(?P<work>.*?)\n?####\s*(?P<number>-?[\d,]*\.?\d+)\s*", re.DOTALL)
_CALCULATOR = re.compile(r"<<[^<>]*>>")


@environment("gsm8k")
def gsm8k(
    *,
    split: str = "test",
    data: str | None = None,
    instruction: str = INSTRUCTION,
    streaming: bool | None = None,
    verifier: Mapping[str, Any] | None = None,
) -> Environment:
    """Grade-school word problems (GSM8K), graded by the math verifier.

    Args:
        split: `train` (7,473 rows) or `test` (1,319).
        data: file, folder or Hub name; rows have `question`, and `answer` ending in `#### N`.
        instruction: follows the question, after a blank line.
        streaming: hold no rows in memory; by default only for files above 64 MiB.
        verifier: options of the `math` verifier.
    """
    published = Published(file="gsm8k_{split}.jsonl", hub="openai/gsm8k", config="main")
    columns = {"question": str, "answer": str}
    rows = load_rows(data, split, published, columns, streaming=streaming)
    return Environment(
        tasks=rows.tasks(functools.partial(_task, split, instruction)),
        verifier=registry.verifiers.create("math", verifier),
    )


def _task(split: str, instruction: str, index: int, row: dict[str, Any]) -> Task:
    match = _ANSWER.fullmatch(row["answer"])
    if match is None:
        raise DataError(f"column 'answer' does not end in '#### N': {row['answer'][-40:]!r}")
    number = match["number"].replace(",", "")
    work = _CALCULATOR.sub("", match["work"])
    return Task(
        id=str(row.get("id") or f"gsm8k/{split}/{index}"),
        prompt=user_message(f"{row['question']}\n\n{instruction}".strip()),
        answer=number,
        metadata={"solution": f"{work}\nThe answer is \\boxed{{{number}}}.".lstrip()},
    )
