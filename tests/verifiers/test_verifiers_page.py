"""The Python of docs/verifiers.md runs, and its table names every built-in verifier."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from rlvr import registry

PAGE = (Path(__file__).parents[2] / "docs" / "verifiers.md").read_text(encoding="utf-8")


def test_the_pages_python_runs(tmp_path: Path) -> None:
    [block] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-"], input=block, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_the_page_names_every_verifier() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert set(registry.verifiers._builtins) <= named


def test_the_page_names_every_outcome() -> None:
    from rlvr.types import Outcome

    assert all(f"`{outcome.value}`" in PAGE for outcome in Outcome)
