"""Answers that aim at the tests themselves: each of these once paid, hung, or dodged a verdict."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest

from rlvr.types import Outcome, Task, Verdict
from rlvr.verifiers.code_calls import equal
from rlvr.verifiers.python_code import PythonCodeVerifier

pytestmark = pytest.mark.sandbox


def judge(code: str, answer: dict[str, Any], timeout: float = 3.0) -> Verdict:
    return PythonCodeVerifier(timeout=timeout).verify(Task(id="t", prompt="", answer=answer), code)


def asserts(tests: str, entry_point: str | None = None) -> dict[str, Any]:
    return {"style": "asserts", "tests": tests, "entry_point": entry_point}


STOP = "def double(x):\n    raise StopIteration\n"
ANYTHING = "class A:\n    def __contains__(self, x): return True\ndef double(x): return A()\n"


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        (STOP, "assert all(map(lambda p: double(p[0]) == p[1], [(1, 2)]))"),
        (STOP, "for a, b in zip(map(double, [1]), [2]):\n    assert a == b"),
        (STOP, "assert all(double(a) == b for a, b in [(1, 2)])"),
        (STOP, "assert next(map(double, [1]), 2) == 2"),
        (ANYTHING, "assert 4 in double(2)"),
        ("def double(x): return []", "for a in double(2):\n    assert a == 4"),
        ("def double(x): return {}", "for k, v in double(2).items():\n    assert v == 4"),
    ],
)
def test_no_answer_makes_the_tests_check_nothing(code, tests) -> None:
    verdict = judge(code, asserts(tests))
    assert verdict.reward == 0.0, verdict
    assert verdict.metrics["tests_passed"] == 0.0


@pytest.mark.parametrize(
    "tests",
    [
        "assert eval(f(1)) == 24",
        "import pickle\nassert pickle.loads(f(1)) == 24",
        "r = f(1)\nn = {}\nexec(r, n)\nassert n['x'] == 24",
    ],
)
def test_tests_that_run_what_an_answer_returns_are_no_strong_ones(tests) -> None:
    code = "def f(x): return \"type('A', (), {'__eq__': lambda *a: True})()\""
    verdict = judge(code, asserts(tests))
    assert verdict.outcome is Outcome.VERIFIER_ERROR, verdict
    assert "as code" in verdict.reason
    assert judge("def f(x): return 4", asserts("assert f(1) == eval('2 + 2')")).is_correct


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "tests"),
    [
        ("return [i * (2**61 - 1) for i in range(1, 9000)]", "assert set(f(1)) == {1, 2}\n" * 4),
        ("return [(i * (2**61 - 1),) for i in range(1, 9000)]", "assert len(set(f(1))) == 2"),
        ("return -5_000_000", "assert round(5, f(1)) == 4"),
        ("return 10**9", "assert 'a' * f(1) == 'aa'"),
        ("return 'a' * 100_000 if x == 1 else 0", "assert f(f(1)) == 4"),
    ],
)
def test_what_takes_for_ever_to_compare_does_not_do_so_here(code, tests) -> None:
    """But in the tester's sandbox, which has limits of its own."""
    before = time.process_time()
    verdict = judge(f"def f(x): {code}", asserts(tests), timeout=0.5)
    assert verdict.reward == 0.0, verdict
    assert time.process_time() - before < 1.0


STAR = """import pytest
from solution import *

def test_two():
    assert all(double(n) == pytest.approx(2 * n) for n in (2, 5))

def test_half():
    assert isinstance(double(1), int)
"""


@pytest.mark.parametrize(
    "more",
    [
        "def all(x): return True\ndef isinstance(*a): return True",
        "class pytest:\n    approx = staticmethod(lambda x: 0)\ndef isinstance(*a): return True",
        "def test_third(): pass\ndef test_fourth(): pass",
        "class TestMore:\n    def test_it(self): pass",
        "pytestmark = 5",
        "pytest_plugins = ['no_such_plugin']",
        "def setup_module(): raise ValueError",
        "def pytest_generate_tests(metafunc): raise ValueError",
        "collect_ignore = 5\n__test__ = False",
    ],
    ids=lambda more: more.split("(")[0].split(" =")[0].split(":")[0].split()[-1],
)
def test_a_star_import_brings_nothing_that_bends_the_tests(more) -> None:
    """It once brought `all`, and tests of the answer's own, and what makes pytest give up."""
    star = {"style": "pytest", "tests": STAR}
    verdict = judge(f"{more}\ndef double(x): return 'no'\n", star)
    assert (verdict.outcome, verdict.reward) == (Outcome.INCORRECT, 0.0), verdict
    assert verdict.metrics == {"tests_passed": 0.0, "tests_total": 2.0}, verdict
    if "raise" in more:
        assert judge(f"{more}\ndef double(x): return 2 * x\n", star).is_correct


def test_an_answer_without_the_function_is_wrong_where_all_is_imported() -> None:
    verdict = judge("def other(x): pass", {"style": "pytest", "tests": STAR})
    assert (verdict.outcome, verdict.reward) == (Outcome.RUNTIME_ERROR, 0.0), verdict
    assert "does not define double" in verdict.reason


@pytest.mark.parametrize(
    "tests",
    [
        asserts("assert abs(double(8) - 16) < 1e-6"),
        asserts("def check(candidate):\n    assert candidate(8) + 1 == 17", "double"),
        {
            "style": "pytest",
            "tests": "from solution import double\ndef test_it():\n    assert double(8) + 1 == 17",
        },
        {
            "style": "pytest",
            "tests": "from solution import double\nX = double(8) + 1\n"
            "def test_it():\n    assert X == 17",
        },
    ],
    ids=["asserts", "check", "pytest", "while imported"],
)
@pytest.mark.parametrize(
    "code",
    ["import math as double", "class double(Exception): pass", "class double: pass", "double = 5"],
)
def test_what_is_no_function_is_wrong_and_not_the_tests_fault(code, tests) -> None:
    """The tests once made the exception, or called the module, and were blamed for what came."""
    verdict = judge(code, tests)
    assert verdict.reward == 0.0, verdict
    assert verdict.metrics["tests_passed"] == 0.0


def test_what_cannot_even_be_said_is_wrong() -> None:
    code = "import os\nclass A:\n    def __str__(self): os._exit(0)\ndef f(x): return A()\n"
    verdict = judge(code, asserts("x = f(1)\nif x != 2:\n    raise ValueError(x)"))
    assert verdict.reward == 0.0, verdict


def test_members_of_an_object_are_its_items() -> None:
    code = (
        "class Bag:\n    def __init__(self, *items): self.items = items\n"
        "    def __iter__(self): return iter(self.items)\n"
    )
    tests = "bag = Bag(1, 2)\nassert 2 in bag\nassert 3 not in bag"
    assert judge(code, asserts(tests, "Bag")).is_correct


@pytest.mark.parametrize(
    "tests",
    [
        "from solution import double\nX = double(2)\ndef test_it():\n    assert X == 4",
        "import pytest\nfrom solution import double\n"
        "@pytest.mark.parametrize('x', double(2))\ndef test_it(x):\n    assert x == 4",
        "import time\ntime.sleep(0.7)\nfrom solution import value\n"
        "def test_it():\n    assert value == 4",
    ],
)
def test_an_answer_that_fails_while_the_tests_are_imported_is_wrong(tests) -> None:
    code = (
        "import os, threading\nthreading.Timer(0.3, os._exit, (0,)).start()\nvalue = 5\n"
        "def double(x):\n    raise ValueError(x)\n"
    )
    verdict = judge(code, {"style": "pytest", "tests": tests})
    assert (verdict.outcome, verdict.reward) == (Outcome.RUNTIME_ERROR, 0.0), verdict


def test_an_argument_that_the_answer_made_too_large_is_its_own_fault() -> None:
    code = "def f(x):\n    for _ in range(98): x = [x]\n    return x\n"
    verdict = judge(code, asserts("assert f(f(1)) == 1"))
    assert verdict.outcome is Outcome.INCORRECT, verdict


def test_tests_that_reach_no_assert_and_call_nothing_are_at_fault() -> None:
    verdict = judge("def f(x): return x", asserts("def test_it():\n    assert f(2) == 4"))
    assert verdict.outcome is Outcome.VERIFIER_ERROR
    assert "reach no assert" in verdict.reason


@pytest.mark.parametrize("entry_point", [None, "sum"])
def test_an_answer_without_the_function_is_wrong_where_a_builtin_has_its_name(entry_point) -> None:
    tests = asserts("assert sum(10, 15) == 6\nassert sum(100, 150) == 93", entry_point)
    verdict = judge("def other(a, b): return 6", tests)
    assert (verdict.outcome, verdict.reward) == (Outcome.RUNTIME_ERROR, 0.0), verdict
    assert "does not define sum" in verdict.reason
    assert judge("def sum(a, b): return 6 if a == 10 else 93", tests).is_correct


def test_a_reason_is_one_line_that_can_be_stored() -> None:
    code = "def f(x):\n    raise ValueError('\\ud800\\0\\x1b[31m\\n' + 'x' * 60_000)\n"
    calls = {"style": "calls", "entry_point": "f", "cases": [{"args": [1], "expected": 1}]}
    stdio = {"style": "stdio", "cases": [{"input": "", "output": "1"}]}
    for answer in (calls, asserts("assert f(1) == 1"), {**stdio}):
        reason = judge(code + "f(1)\n" if answer == stdio else code, answer).reason
        assert reason.isprintable() and len(reason) < 1200, reason
        assert json.dumps(reason, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("got", "expected", "tolerance"),
    [
        (5, math.inf, 1e-6),
        (math.inf, -math.inf, 1e-6),
        (math.inf, 5, 1e-6),
        (math.nan, 5, 1e-6),
        (complex(math.inf, 0), math.inf, 1e-6),
        (1j, [1], 1e-6),
        (1j, "1j", 1e-6),
        (1j, None, 1e-6),
        (complex(1e308, 1e308), 1.0, 1e-6),
        (10**400, 1.5, 1e-6),
        (True, 1.0000001, 1e-3),
        ("4", 4, None),
        ([4], 4, None),
        ({1: 2}, {1: 1}, None),
        ("e\u0301", "\u00e9", None),
        (b"4", "4", None),
        ({1, 2}, [1, 2], None),
    ],
)
def test_what_is_not_equal(got, expected, tolerance) -> None:
    assert equal(got, expected, tolerance) is False


@pytest.mark.parametrize(
    ("got", "expected", "tolerance"),
    [
        (math.inf, math.inf, 1e-6),
        (1 + 1e-9j, 1, 1e-6),
        (1 + 1e-9j, 1 + 0j, 1e-6),
        (10**400, 10**400, 1e-6),
        (-0.0, 0.0, None),
        (True, 1, None),
        ((1, (2,)), [1, [2]], None),
    ],
)
def test_what_is_equal(got, expected, tolerance) -> None:
    assert equal(got, expected, tolerance) is True
