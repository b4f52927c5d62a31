"""The page on environments says what is so."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import rlvr
from rlvr import registry
from rlvr.environments.procedural import SPLITS

PAGE = (Path(__file__).parents[2] / "docs" / "environments.md").read_text(encoding="utf-8")
SHARED = PAGE.split("## Procedural environments")[1].split("### ")[0]


def section(name: str) -> str:
    found = re.search(rf"^### {name}\n(.*?)(?=^##)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


SHIPPED = [
    "arithmetic",
    "countdown",
    "gsm8k",
    "humaneval",
    "knights_knaves",
    "math",
    "mbpp",
    "program_synthesis",
]


def test_every_shipped_environment_has_a_section() -> None:
    builtin = set(registry.environments._builtins)
    assert builtin == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_tables_list_every_option_with_its_default(name: str) -> None:
    signature = registry.environments.get(name).option_signature
    text = section(name)
    if "size" in signature.parameters:
        text += SHARED
    listed = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE))
    assert set(listed) == set(signature.parameters)
    for option, parameter in signature.parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if parameter.default is not None:
            shown = listed[option].strip("`")
            assert shown == str(parameter.default).replace("True", "true"), option


def test_the_examples_run() -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/environments.md", "exec"), names)


def test_the_shares_of_the_splits_are_those_of_the_code() -> None:
    for split, share in SPLITS.items():
        assert re.search(rf"`{split}`\s+\({share} %\)", PAGE)


@pytest.mark.parametrize("name", ["arithmetic", "countdown", "knights_knaves", "program_synthesis"])
def test_the_prompts_shown_look_like_the_real_ones(name: str) -> None:
    shown = re.search(r"[Pp]rompt\s+`(.*?)`", section(name))
    assert shown is not None
    shape = re.compile(re.sub(r"\d+", r"\\d+", re.escape(shown[1])))
    prompts = [t.prompt.strip() for t in rlvr.load_environment(name, size=2_000).tasks]
    assert any(shape.fullmatch(prompt) for prompt in prompts), shape


def test_the_worked_solutions_shown_score_1() -> None:
    from rlvr.types import Task

    logic = Task(
        id="t",
        prompt="",
        answer={"A": "knight", "B": "knave"},
        metadata={
            "names": ["A", "B"],
            "statements": [["lying", 1], ["and", ["telling-truth", 1], ["telling-truth", 0]]],
        },
    )
    solution = re.search(r"```text\n(kk.*?)\n```", section("knights_knaves"), re.DOTALL)
    assert solution is not None
    assert rlvr.load_verifier("knights_knaves").verify(logic, solution[1]).is_correct
    numbers = Task(id="t", prompt="", answer={"numbers": [3, 5, 7], "target": 22})
    assert rlvr.load_verifier("countdown").verify(numbers, "3*5+7").is_correct
