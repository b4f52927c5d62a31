"""The examples of docs/math.md run and print what the page says."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from rlvr.verifiers.equivalence.strictness import PRESETS, Strictness

PAGE = Path(__file__).parents[2] / "docs" / "math.md"


def test_the_examples_of_the_page_are_true() -> None:
    text = PAGE.read_text("utf-8")
    examples = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    parsed = doctest.DocTestParser().get_doctest(examples, {}, "docs/math.md", str(PAGE), 0)
    runner = doctest.DocTestRunner()
    failed = runner.run(parsed)
    assert failed.attempted > 40
    assert failed.failed == 0


def test_the_page_names_every_option_and_preset() -> None:
    text = PAGE.read_text("utf-8")
    for name in (*Strictness.__dataclass_fields__, *PRESETS):
        assert f"`{name}`" in text, name
