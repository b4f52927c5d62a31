"""The page on training names what exists: tests, metrics, keys and algorithms."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from learners import configured

from rlvr.trainers.config import PRESETS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_every_test_that_the_page_names_exists() -> None:
    section = PAGE.split("## What goes wrong elsewhere")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 12
    for row in rows:
        shown = row.split(" | ")[-1]
        files = re.findall(r"`(\w+/test_\w+\.py)`", shown)
        assert files, row
        text = "".join((ROOT / "tests" / file).read_text(encoding="utf-8") for file in files)
        for name in re.findall(r"`(test_\w+)`", shown):
            assert f"def {name}(" in text, name


def test_every_algorithm_is_on_the_page() -> None:
    table = PAGE.split("## A file")[0]
    for name in PRESETS:
        assert f"`{name}`" in table, name


def test_the_examples_of_the_objective_are_valid(tmp_path: Path) -> None:
    section = PAGE.split("## What is minimised")[1].split("\n## ")[0]
    for block in re.findall(r"```yaml\n(.*?)```", section, flags=re.S):
        configured(tmp_path, **yaml.safe_load(block))
