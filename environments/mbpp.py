"""MBPP: short Python functions from a sentence and three asserts."""

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Mapping
from typing import Any

from rlvr import registry
from rlvr.environments.base import Environment, environment, user_message
from rlvr.environments.data import Published, check_column, load_rows
from rlvr.errors import ConfigError, DataError, nearest
from rlvr.types import Task

SPLITS = {
    "prompt": range(1, 11),
    "test": range(11, 511),
    "validation": range(511, 601),
    "train": range(601, 975),
}
"""The published splits, by `task_id`; `all` takes every row."""

_PROMPT = (
    "{text}\n\nYour code should pass these tests:\n\n```python\n{tests}\n```\n\n"
    "Answer with the code in a ```python block."
)
_COLUMNS = {"text": str, "code": str, "task_id": int, "test_list": list}


@environment("mbpp")
def mbpp(
    *,
    split: str = "test",
    data: str | None = None,
    streaming: bool | None = None,
    verifier: Mapping[str, Any] | None = None,
) -> Environment:
    """Short Python functions (MBPP, 974 tasks), graded by running their asserts in the sandbox.

    Args:
        split: `train`, `test`, `validation`, `prompt` (by `task_id`, as published) or `all`.
        data: file, folder or Hub name; rows have `text`, `code`, `task_id`, `test_list`, and
            perhaps `test_setup_code`.
        streaming: hold no rows in memory; by default only for files above 64 MiB.
        verifier: options of the `python_code` verifier.
    """
    if split != "all" and split not in SPLITS:
        raise ConfigError(f"mbpp has no split {split!r}{nearest(split, ['all', *SPLITS])}")
    published = Published(file="mbpp.jsonl", hub="google-research-datasets/mbpp", config="full")
    hub_split = "+".join(SPLITS) if split == "all" else split
    rows = load_rows(data, hub_split, published, _COLUMNS, streaming=streaming)
    return Environment(
        tasks=rows.tasks(functools.partial(_task, split)),
        verifier=registry.verifiers.create("python_code", verifier),
    )


def _task(split: str, index: int, row: dict[str, Any]) -> Task | None:
    number = row["task_id"]
    if split != "all" and number not in SPLITS[split]:
        return None
    tests = [_unix(test) for test in _texts(row, "test_list")]
    setup = row.get("test_setup_code") or ""
    if setup:
        check_column(row, "test_setup_code", str)
    return Task(
        id=f"Mbpp/{number}",
        prompt=user_message(_PROMPT.format(text=row["text"], tests="\n".join(tests))),
        answer={
            "style": "asserts",
            "tests": "\n".join(tests),
            "entry_point": tested_function(tests, row["code"]),
            "setup": _unix(setup),
        },
        metadata={"task_id": number, "solution": f"```python\n{_unix(row['code'])}\n```"},
    )


def _texts(row: Mapping[str, Any], column: str) -> list[str]:
    texts: list[Any] = row[column]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise DataError(f"column {column!r} holds {texts!r:.60}: expected a list of asserts")
    return texts


def _unix(code: str) -> str:
    """The published code ends its lines the Windows way."""
    return code.replace("\r\n", "\n")


def tested_function(tests: list[str], code: str) -> str:
    """The name of the function that the asserts test.

    That is the first name called in the first assert, from the outside in, that the published code
    defines, or else the first that is no builtin: `f` in `assert f(1) == 2`, in
    `assert set(f(1)) == {2}` and in `assert math.isclose(f(1), 2)`.

    Raises:
        DataError: the first test is no Python, or calls no such function.
    """
    try:
        test = ast.parse(tests[0])
    except (SyntaxError, ValueError) as error:
        raise DataError(f"column 'test_list' begins with {tests[0]!r:.60}: not Python") from error
    called = [
        node.func.id
        for node in ast.walk(test)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    defined = _defined(code)
    for name in called:
        if name in defined:
            return name
    for name in called:
        if not hasattr(builtins, name):
            return name
    raise DataError(f"column 'test_list' begins with {tests[0]!r:.60}: it calls no function")


def _defined(code: str) -> set[str]:
    """The functions that the code defines; none where it is not this Python's."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return set()
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
