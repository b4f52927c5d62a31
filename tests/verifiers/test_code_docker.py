"""Answers judged in containers: the data sets' own solutions, every style, and forgeries."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rlvr.types import Outcome, Task, Verdict
from rlvr.verifiers.python_code import PythonCodeVerifier

pytestmark = [pytest.mark.docker, pytest.mark.slow]

PROGRAMS = Path(__file__).parent.parent / "sandbox" / "programs"
DOUBLE = "def double(x):\n    return 2 * x\n"
STYLES: dict[str, dict[str, Any]] = {
    "calls": {
        "style": "calls",
        "entry_point": "double",
        "cases": [{"args": [n], "expected": 2 * n} for n in (2, 5)],
    },
    "asserts": {"style": "asserts", "tests": "assert double(2) == 4\nassert double(5) == 10"},
    "bare": {"style": "asserts", "tests": "for n in (2, 5):\n    assert double(n) == 2 * n"},
    "pytest": {
        "style": "pytest",
        "tests": "import pytest\nfrom solution import double\n\n"
        "@pytest.mark.parametrize('n', [2, 5])\n"
        "def test_double(n):\n    assert double(n) == pytest.approx(2 * n)\n",
    },
}
STDIO = {"style": "stdio", "cases": [{"input": f"{n}", "output": f"{2 * n}"} for n in (2, 5)]}


@pytest.fixture(scope="module")
def verifier(engine) -> PythonCodeVerifier:
    return PythonCodeVerifier(timeout=5, sandbox="docker", sandbox_options={"spares": 0})


def judge(verifier: PythonCodeVerifier, code: str, answer: Any, **metadata: str) -> Verdict:
    return verifier.verify(Task(id="t", prompt="", answer=answer, metadata=metadata), code)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_tells_right_from_wrong(verifier, style) -> None:
    right = judge(verifier, DOUBLE, STYLES[style])
    assert right.is_correct and right.metrics["tests_total"] == 2.0, right
    assert right.details["integrity"] == "strong"
    assert "container" in right.details["isolation"]
    wrong = judge(verifier, "def double(x):\n    return 4\n", STYLES[style])
    assert (wrong.outcome, wrong.reward) == (Outcome.INCORRECT, 0.0), wrong


def test_programs_that_read_and_write(verifier) -> None:
    assert judge(verifier, "print(2 * int(input()))", STDIO).is_correct
    assert judge(verifier, "print(4)", STDIO).outcome is Outcome.INCORRECT


def test_a_package_that_the_image_lacks_is_named_with_the_fix(engine) -> None:
    verifier = PythonCodeVerifier(sandbox="docker", sandbox_options={"spares": 0, "slots": 1})
    tests = "import no_such_package\nassert double(2) == 4"
    verdict = judge(verifier, DOUBLE, {"style": "asserts", "tests": tests})
    assert (verdict.outcome, verdict.reward) == (Outcome.VERIFIER_ERROR, None)
    assert "no Python module no_such_package: build one" in verdict.reason


FORGERIES = (
    *("equals_everything", "exit_at_import", "forks_and_answers", "is_a_module", "is_an_exception"),
    *("kills_the_tester", "patches_builtins", "reads_frames", "replies_early", "searches_memory"),
    *("traces", "writes_to_every_descriptor"),
)


@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_forgery_passes(verifier, forgery) -> None:
    code = (PROGRAMS / f"{forgery}.py.txt").read_text()
    for style in ("calls", "asserts", "bare"):
        verdict = judge(verifier, code, STYLES[style])
        assert verdict.reward == 0.0, (style, verdict)
        assert verdict.metrics["tests_passed"] == 0.0


@pytest.mark.data
def test_the_solutions_of_humaneval_and_mbpp_are_right(verifier, data_folder) -> None:
    """All of HumanEval, and each third of MBPP."""
    tasks: list[tuple[Task, str]] = []
    with gzip.open(data_folder / "humaneval.jsonl.gz", "rt") as file:
        for row in map(json.loads, file):
            answer = {"style": "asserts", "tests": row["test"], "entry_point": row["entry_point"]}
            prefix = {"code_prefix": row["prompt"]}
            task = Task(id=row["task_id"], prompt="", answer=answer, metadata=prefix)
            tasks.append((task, row["canonical_solution"]))
    with (data_folder / "mbpp.jsonl").open() as file:
        for row in list(map(json.loads, file))[::3]:
            answer = {"style": "asserts", "tests": "\n".join(row["test_list"])}
            answer["setup"] = row["test_setup_code"]
            tasks.append((Task(id=str(row["task_id"]), prompt="", answer=answer), row["code"]))
    assert len(tasks) == 164 + 325
    with ThreadPoolExecutor(2) as threads:
        verdicts = list(threads.map(lambda one: verifier.verify(*one), tasks))
    wrong = [(task.id, v) for (task, _), v in zip(tasks, verdicts, strict=True) if not v.is_correct]
    assert wrong == []
