"""HumanEval: complete a Python function from its signature and docstring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlvr import registry
from rlvr.environments.base import Environment, environment, user_message
from rlvr.environments.data import Published, load_rows
from rlvr.types import Task

_PROMPT = (
    "Complete this Python function. Answer with the whole function, its imports included, in a "
    "```python block.\n\n```python\n{prompt}```"
)
_COLUMNS = {
    "task_id": str, "prompt": str, "canonical_solution": str, "test": str, "entry_point": str,
}  # fmt: skip


@environment("humaneval")
def humaneval(
    *,
    split: str = "test",
    data: str | None = None,
    streaming: bool | None = None,
    verifier: Mapping[str, Any] | None = None,
) -> Environment:
    """Function completion (HumanEval, 164 tasks), graded by running its tests in the sandbox.

    Args:
        split: `test` is the only one published.
        data: file, folder or Hub name; rows have `task_id`, `prompt`, `canonical_solution`, `test`
            and `entry_point`.
        streaming: hold no rows in memory; by default only for files above 64 MiB.
        verifier: options of the `python_code` verifier.
    """
    published = Published(file="humaneval.jsonl.gz", hub="openai/openai_humaneval")
    rows = load_rows(data, split, published, _COLUMNS, streaming=streaming)
    return Environment(
        tasks=rows.tasks(_task),
        verifier=registry.verifiers.create("python_code", verifier),
    )


def _task(index: int, row: dict[str, Any]) -> Task:
    prompt = row["prompt"]
    return Task(
        id=row["task_id"],
        prompt=user_message(_PROMPT.format(prompt=prompt)),
        answer={"style": "asserts", "tests": row["test"], "entry_point": row["entry_point"]},
        metadata={
            "code_prefix": prompt,
            "solution": f"```python\n{prompt}{row['canonical_solution']}```",
        },
    )
