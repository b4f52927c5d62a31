"""The `code` verifier: languages, one result for each test, early stop, and forgeries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rlvr
from rlvr.errors import ConfigError, UnknownNameError
from rlvr.sandbox.languages import LANGUAGES
from rlvr.types import Completion, Outcome, Task, Verdict
from rlvr.verifiers.code_languages import CodeVerifier
from rlvr.verifiers.code_sandboxes import answers_sandbox
from rlvr.verifiers.python_code import PythonCodeVerifier

pytestmark = [pytest.mark.sandbox, pytest.mark.languages, pytest.mark.slow]

PROGRAMS = Path(__file__).parent.parent / "sandbox" / "languages"
SUMS = {
    "style": "stdio",
    "cases": [
        {"input": "41 1\n", "output": "42\n"},
        {"input": "1 2\n", "output": "3\n"},
        {"input": "5 5\n", "output": "10\n"},
    ],
}
EXTENSIONS = {"javascript": "js", "bash": "sh", "rust": "rs"}
SLOW = {"java", "rust", "go"}


def need(language: str) -> None:
    tools = answers_sandbox("local", {}).tools
    if missing := [tool for tool in LANGUAGES[language].tools if tool not in tools]:
        pytest.skip(f"{missing[0]} is not present")


def judge(text: str, answer: Any = SUMS, metadata: Any = None, **options: Any) -> Verdict:
    task = Task(id="t", prompt="", answer=answer, metadata=metadata or {})
    return CodeVerifier(**options).verify(task, Completion(text=text))


def program(name: str) -> str:
    return (PROGRAMS / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "language",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in LANGUAGES],
)
def test_an_honest_program_in_each_language_is_correct(language: str) -> None:
    need(language)
    source = program(f"honest_sum.{EXTENSIONS.get(language, language)}")
    tag = LANGUAGES[language].fences[-1]
    text = f"Two ways.\n```python\nprint(0)\n```\nBetter:\n```{tag}\n{source}```\n"
    for options, metadata in (({}, None), ({"language": language}, None), ({}, {"language": tag})):
        verdict = judge(text, metadata=metadata, **options)
        assert verdict.outcome is Outcome.CORRECT, verdict
        assert verdict.extracted == source
        assert verdict.details["language"] == language


def test_python_is_judged_as_python_code_judges_it() -> None:
    right = "```python\nprint(sum(map(int, input().split())))\n```"
    assert judge(right).is_correct
    calls = {"style": "calls", "entry_point": "f", "cases": [{"args": [1], "expected": 2}]}
    for text in ("def f(x):\n    return x + 1", "```python\ndef f(x):\n    return x + 1\n```"):
        verdict = judge(text, calls)
        assert verdict.is_correct
        assert verdict == _without_seconds(
            PythonCodeVerifier().verify(Task(id="t", prompt="", answer=calls), text), verdict
        )


def _without_seconds(verdict: Verdict, other: Verdict) -> Verdict:
    return Verdict.from_dict({**verdict.to_dict(), "seconds": other.seconds})


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("int main() { return 0; }", Outcome.NO_ANSWER),
        ("```\nint main() { return 0; }\n```", Outcome.NO_ANSWER),
        ("```cobol\nDISPLAY 42.\n```", Outcome.NO_ANSWER),
        ("```cpp\nint main() {", Outcome.NO_ANSWER),
        ("", Outcome.NO_ANSWER),
    ],
)
def test_an_answer_in_no_language_that_there_is_has_no_answer(text: str, outcome: Outcome) -> None:
    verdict = judge(text)
    assert (verdict.outcome, verdict.reward) == (outcome, 0.0), verdict


def test_no_choice_of_the_answer_makes_the_verifier_fail(monkeypatch) -> None:
    """Else a policy could have its bad answers left out of the loss."""
    tools = {"g++": "/usr/bin/g++"}
    monkeypatch.setattr(type(answers_sandbox("local", {})), "tools", tools)
    absent = judge("```go\npackage main\n```")
    assert (absent.outcome, absent.reward) == (Outcome.NO_ANSWER, 0.0)
    calls = {"style": "calls", "entry_point": "f", "cases": [{"args": [1], "expected": 2}]}
    assert judge("```cpp\nint main() {}\n```", calls).reward == 0.0
    asked_for = judge("```go\npackage main\n```", metadata={"language": "go"})
    assert asked_for.outcome is Outcome.VERIFIER_ERROR
    assert "'go' is not present in sandbox 'local'" in asked_for.reason


def test_a_sandbox_that_does_not_say_what_it_has_is_told_the_language() -> None:
    pytest.importorskip("httpx")
    options = {"sandbox": "remote", "sandbox_options": {"url": "http://127.0.0.1:9"}}
    for text in ("```cpp\nint main() {}\n```", "```go\n```", "x"):
        verdict = judge(text, **options)
        assert verdict.outcome is Outcome.VERIFIER_ERROR
        assert "does not say which languages it has" in verdict.reason


def test_a_task_in_an_unknown_language_is_the_tasks_fault() -> None:
    verdict = judge("x", metadata={"language": "pythn"})
    assert verdict.outcome is Outcome.VERIFIER_ERROR and "did you mean 'python'" in verdict.reason
    with pytest.raises(UnknownNameError):
        rlvr.load_verifier("code", language="pythn")
    with pytest.raises(ConfigError):
        rlvr.load_verifier("code", build_timeout=0)


@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        ("compile_error.cpp", {Outcome.COMPILE_ERROR}),
        ("compile_error.sh", {Outcome.COMPILE_ERROR}),
        ("compile_error.js", {Outcome.COMPILE_ERROR}),
        ("crash_abort.cpp", {Outcome.RUNTIME_ERROR}),
        ("crash_exception.js", {Outcome.RUNTIME_ERROR}),
        ("secret_include_of_the_host.cpp", {Outcome.COMPILE_ERROR}),
        *(
            pytest.param(name, outcomes, marks=pytest.mark.slow)
            for name, outcomes in (
                ("memory_vector.cpp", {Outcome.MEMORY_LIMIT}),
                ("time_busy.cpp", {Outcome.TIMEOUT}),
                ("bomb_endless_include.cpp", {Outcome.MEMORY_LIMIT, Outcome.COMPILE_ERROR}),
                ("bomb_assembler.cpp", {Outcome.MEMORY_LIMIT, Outcome.COMPILE_ERROR}),
                ("bomb_huge_array.cpp", {Outcome.COMPILE_ERROR}),
                (
                    "bomb_template_recursion.cpp",
                    {Outcome.COMPILE_ERROR, Outcome.MEMORY_LIMIT, Outcome.TIMEOUT},
                ),
            )
        ),
    ],
)
def test_each_way_to_fail_has_its_outcome(name: str, outcomes: set[Outcome]) -> None:
    language = {"sh": "bash"}.get(name.split(".")[1], name.split(".")[1])
    need({"js": "javascript"}.get(language, language))
    verdict = judge(program(name), language=language, timeout=2.0)
    assert verdict.outcome in outcomes and verdict.reward == 0.0, verdict
    if name.startswith("compile_error"):
        assert "while it was compiled: " in verdict.reason


FORGERIES = sorted(PROGRAMS.glob("forge_*.txt"))


def forgeries():
    for path in FORGERIES:
        slow = [pytest.mark.slow] if path.name.endswith(".java.txt") else []
        yield pytest.param(path, id=path.name.removesuffix(".txt"), marks=slow)


@pytest.mark.parametrize("path", forgeries())
def test_no_forgery_passes_a_test(path: Path) -> None:
    language = {"js": "javascript", "sh": "bash"}.get(ext := path.name.split(".")[1], ext)
    need(language)
    cases = [{"input": f"{n}\n", "output": f"expected_of_the_test {n}\n"} for n in (1, 2)]
    for checker, partial in (("lines", True), ("floats", False), ("set", False)):
        answer = {"style": "stdio", "checker": checker, "cases": cases}
        verdict = judge(path.read_text(), answer, language=language, partial=partial)
        assert (verdict.outcome, verdict.reward) == (Outcome.INCORRECT, 0.0), verdict
        assert verdict.metrics["tests_passed"] == 0.0


# ------------------------------------------------------------------------------ results

ONE_WRONG = "n = int(input())\nprint(n if n != 2 else 'wrong ' + 'x' * 1000)"
COUNT = {"style": "stdio", "cases": [{"input": f"{n}", "output": f"{n}\n"} for n in range(1, 5)]}


def test_a_failure_stops_the_suite_where_all_must_pass() -> None:
    stopped = judge(ONE_WRONG, COUNT, language="python")
    assert stopped.metrics == {"tests_passed": 1.0, "tests_total": 4.0}
    assert stopped.details["tests_run"] == 2
    every = judge(ONE_WRONG, COUNT, language="python", early_stop=False)
    assert (every.metrics["tests_passed"], every.details["tests_run"]) == (3.0, 4)
    assert (stopped.outcome, stopped.reward) == (every.outcome, every.reward)
    assert stopped.reason.partition(";")[2] == every.reason.partition(";")[2]


def test_a_fraction_is_of_all_tests_whatever_fails_first() -> None:
    verdict = judge(ONE_WRONG, COUNT, language="python", partial=True)
    assert (verdict.outcome, verdict.reward) == (Outcome.PARTIAL, 0.75)
    assert verdict.details["tests_run"] == 4


def test_each_test_has_its_result() -> None:
    code = "import sys\nn = int(input())\nif n == 4: sys.exit(3)\nprint(n if n != 2 else 'no')"
    verdict = judge(code, COUNT, language="python", early_stop=False)
    details = json.loads(json.dumps(verdict.details))
    assert details["integrity"] == "strong" and "seccomp" in details["isolation"]
    tests = details["tests"]
    assert [test["verdict"] for test in tests] == [
        "correct", "incorrect", "correct", "runtime_error",
    ]  # fmt: skip
    assert [test["score"] for test in tests] == [1.0, 0.0, 1.0, 0.0]
    assert tests[1]["output"] == "no\n" and tests[1]["note"] == "line 1 differs"
    assert tests[3]["exit_code"] == 3
    assert all(0 < test["cpu_seconds"] < 5 and test["wall_seconds"] > 0 for test in tests)


def test_outputs_in_the_details_are_cut() -> None:
    verdict = judge(ONE_WRONG, COUNT, language="python", early_stop=False)
    shown = verdict.details["tests"][1]["output"]
    assert shown.startswith("wrong xxx") and len(shown) < 250 and shown.endswith("...")
    assert "output" not in verdict.details["tests"][0]


@pytest.mark.parametrize("checker", ["lines", "tokens", "exact", "floats", "unordered", "set"])
def test_details_never_hold_what_is_expected(checker: str) -> None:
    cases = [{"input": f"{n}", "output": f"secret{n}\n"} for n in range(3)]
    answer = {"style": "stdio", "cases": cases, "checker": checker}
    for code in ("print(1)", "1 / 0", "print(", "print(f'secret{int(input()) % 2}')"):
        verdict = judge(code, answer, language="python", early_stop=False)
        shown = json.dumps(verdict.details)
        assert verdict.reward == 0.0
        assert "secret2" not in shown and ("secret0" not in shown or "secret" in code)
    calls = {
        "style": "calls",
        "entry_point": "f",
        "cases": [{"args": [n], "expected": f"secret{n}"} for n in range(3)],
    }
    assert "secret" not in json.dumps(judge("def f(x):\n    return 1", calls).details)
    asserts = {"style": "asserts", "tests": "assert f(1) == 'secret1'", "entry_point": "f"}
    assert "secret" not in json.dumps(judge("def f(x):\n    return 1", asserts).details)


def test_any_of_several_outputs_is_right() -> None:
    answer = {"style": "stdio", "cases": [{"input": "", "output": ["a\n", "b\n"]}]}
    assert judge("print('b')", answer, language="python").is_correct
    wrong = judge("print('a')\nprint('b')", answer, language="python")
    assert wrong.outcome is Outcome.INCORRECT and "expected 'a\\n' or another" in wrong.reason
    for outputs in ([], [1], "a", None):
        cases = [{"input": "", "output": outputs}]
        if outputs != "a":
            verdict = judge("print(1)", {"style": "stdio", "cases": cases}, language="python")
            assert verdict.outcome is Outcome.VERIFIER_ERROR


def test_a_program_checks_in_a_sandbox_of_its_own_and_gives_points() -> None:
    checker = {
        "name": "program",
        "source": "import sys\n"
        "wanted, got = (len(open(sys.argv[n]).read().split()) for n in (3, 2))\n"
        "if got >= wanted: sys.exit(0)\n"
        "print(f'points {got / wanted} {got} of {wanted}', file=sys.stderr)\n"
        "sys.exit(7)\n",
    }
    cases = [{"input": "", "output": "a b c d"}, {"input": "", "output": "a b"}]
    answer = {"style": "stdio", "cases": cases, "checker": checker}
    half = judge("print('x y')", answer, language="python", partial=True)
    assert (half.outcome, half.reward) == (Outcome.PARTIAL, 0.75)
    assert half.details["tests"][0]["checker_said"] == "points 0.5 2 of 4"
    all_or_nothing = judge("print('x y')", answer, language="python")
    assert (all_or_nothing.outcome, all_or_nothing.reward) == (Outcome.INCORRECT, 0.0)
    assert judge("print('x y z t')", answer, language="python").is_correct


def test_an_answer_cannot_reach_its_checker() -> None:
    """The answer leaves what it can behind; the checker starts clean, in another sandbox."""
    checker = {"name": "program", "source": "import os, sys\nsys.exit(len(os.listdir('.')) != 3)"}
    answer = {"style": "stdio", "cases": [{"input": "", "output": ""}], "checker": checker}
    code = (
        "import os\nfor name in ('output.txt', 'answer.txt', '/dev/shm/answer.txt'):\n"
        "    open(name, 'w').write('forged')\nos.chmod('answer.txt', 0)\n"
    )
    assert judge(code, answer, language="python").is_correct


def test_options_reach_the_sandbox() -> None:
    verdict = judge("print(1)", COUNT, language="python", sandbox_options={"slots": 1})
    assert verdict.metrics["tests_passed"] == 1.0
    with pytest.raises(ConfigError, match="no option 'slot'; did you mean 'slots'"):
        rlvr.load_verifier("code", sandbox_options={"slot": 1})
    with pytest.raises(UnknownNameError, match="no sandbox is named 'locl'"):
        rlvr.load_verifier("python_code", sandbox="locl")


def test_a_weighted_verdict_keeps_the_details_of_its_parts() -> None:
    verifier = rlvr.load_verifier("weighted", parts={"python_code": 0.9, "format": 0.1})
    verdict = verifier.verify(Task(id="t", prompt="", answer=COUNT), ONE_WRONG)
    assert verdict.details["python_code"]["tests_run"] == 2
    assert "format" not in verdict.details


def test_verdicts_come_back_whole_from_the_workers() -> None:
    task = Task(id="t", prompt="", answer=COUNT)
    verifier = rlvr.load_verifier("code", language="python")
    (verdict,) = rlvr.verify_many(verifier, [(task, ONE_WRONG)], workers=1, timeout=30.0)
    assert verdict.details["tests"][1]["note"] == "line 1 differs"
