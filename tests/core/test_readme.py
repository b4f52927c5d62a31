"""The README's Python runs as it stands, in one process, from top to bottom."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_readmes_python_runs() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 3
    done = subprocess.run(
        [sys.executable, "-"], input="\n".join(blocks), capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr


def test_the_readmes_environment_works_from_a_local_file(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "backwards" in b)
    (tmp_path / "backwards.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "-m", "rlvr.cli.main", "check", "./backwards.py:backwards"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_that_the_readme_names_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(((?:docs|examples)/[^)]+)\)", text):
        assert (ROOT / target).is_file(), target
