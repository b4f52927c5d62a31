"""The examples in docstrings run as they stand."""

from __future__ import annotations

import doctest
import importlib
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def modules_with_examples() -> list[str]:
    listed = subprocess.run(
        ["git", "grep", "-lE", "^ *>>> ", "--", "*.py"], capture_output=True, text=True, cwd=ROOT
    ).stdout.split()
    names = [path.removesuffix(".py").replace("/", ".") for path in listed]
    wanted = [name for name in names if not name.startswith(("tests.", "benchmarks."))]
    return [name if name.startswith("rlvr.") else f"rlvr.{name}" for name in wanted]


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstring_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
