"""Suites of plain asserts are judged without a tester, and as the tester judges them."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from rlvr.sandbox import LocalSandbox
from rlvr.sandbox.limits import Limits
from rlvr.sandbox.session import run_tests
from rlvr.verifiers.code_plain import NotPlain
from rlvr.verifiers.code_plain_reader import plain_tests

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def sandbox():
    with LocalSandbox(slots=1) as made:
        yield made


@pytest.fixture(scope="module")
def tester():
    with LocalSandbox(slots=1) as made:
        yield made


def by_tester(sandbox, tester, code: str, tests: str, entry: str | None) -> dict[str, Any]:
    spec = {"style": "asserts", "tests": tests, "entry_point": entry, "setup": "", "prefix": ""}
    with sandbox.session(code) as session:
        report, _, _ = run_tests(tester, session, spec, Limits())
    assert report is not None
    return report


def by_itself(sandbox, code: str, tests: str, entry: str | None) -> dict[str, Any] | None:
    """None where it has to be run."""
    plain = plain_tests(tests, "", entry)
    if plain is None:
        return None
    with sandbox.session(code) as session:
        try:
            return plain.run(session)
        except NotPlain:
            return None


def compare(sandbox, tester, code: str, tests: str, entry: str | None) -> dict[str, Any] | None:
    """Both ways; the report of the quick one, once it is the tester's."""
    quick = by_itself(sandbox, code, tests, entry)
    if quick is not None:
        slow = by_tester(sandbox, tester, code, tests, entry)
        for key in ("passed", "total", "problem", "detail", "error"):
            assert quick[key] == slow[key], (key, quick, slow)
        assert quick["passes"] == slow.get("passes", quick["passes"])
    return quick


CHECK = "METADATA = {'author': 'x'}\n\n\ndef check(candidate):\n    'doc'\n    print\n"
EQUAL = CHECK + (
    "    assert candidate([1, 2], k=-1) == [1, 2], 'message'\n"
    "    assert candidate([]) == []\n"
    "    assert True, 'a note'\n"
)


@pytest.mark.parametrize(
    ("body", "passed", "problem"),
    [
        ("return x", 3, None),
        ("return tuple(x)", 1, "assertion"),
        ("x.append(1)\n    return x[:-1]", 3, None),
        ("return x if x else None", 2, "assertion"),
        ("return x[0] and x", 2, "exception"),
        ("return {'a': [float('nan')]}", 1, "assertion"),
        ("raise MemoryError", 1, "exception"),
        ("raise KeyError('a\\nb')", 1, "exception"),
        ("exit()", 0, "exit"),
        ("import os; os._exit(0)", 0, "gone"),
        ("return x if not k else exit(0)", 0, "exit"),
        ("return 2 ** 20000", 1, "assertion"),
        (
            "class L(list):\n        def __eq__(s, o): return True\n    return L([5])",
            1,
            "assertion",
        ),
    ],
)
def test_equality(sandbox, tester, body, passed, problem) -> None:
    code = f"def f(x, k=0):\n    {body}\n"
    report = compare(sandbox, tester, code, EQUAL, "f")
    assert report is not None
    assert (report["passed"], report["total"], report["problem"]) == (passed, 3, problem)


@pytest.mark.parametrize(
    ("test", "value", "good"),
    [
        ("f(1)", "[0]", True),
        ("f(1)", "0", False),
        ("not f(1)", "''", True),
        ("f(1) is None", "None", True),
        ("f(1) is True", "1", False),
        ("f(1) is not False", "1", True),
        ("f(1) != 2", "3", True),
        ("abs(f(1) - 1.5) < 1e-6", "1.5000000001", True),
        ("abs(f(1) - 1.5) < 1e-6", "None", False),
        ("abs(f(1) - 1.5) < 1e-6", "float('nan')", False),
        ("round(f(1), 2) == 3.14", "3.14159", True),
        ("f(1) in (1, 2, 3)", "2", True),
        ("f(1) not in [1, 2]", "2", False),
        ("1 <= f(1) < 3", "2", True),
        ("1 <= f(1) < 3", "'2'", False),
        ("set(f(1)) == {1, 2}", "[2, 1, 2]", True),
        ("sorted(f(1), reverse=True) == [2, 1]", "(1, 2)", True),
        ("f(1) == 'a' or f(2) == 'b'", "'b'", True),
        ("f(1) == {'a': (1, -2.5), 'b': [None, 1j]}", "{'a': (1, -2.5), 'b': [None, 1j]}", True),
        ("f(1) == 2 ** 10 + 0 ** 0", "1025", True),
        ("f(f(1)) == 1", "1", True),
        ("(len(f(1)), list(f(2)), tuple(f(3))) == (1, [5], (5,))", "[5]", True),
        ("f(1) == +3", "True", False),
        ("f(1) + 'b' == 'ab'", "'a'", True),
        ("[f('a' * 3)] + [1] == ['aaa', 1]", "x", True),
        ("2 * f(1) == (1, 2, 1, 2)", "(1, 2)", True),
        ("f(1) + 'b' == 'ab'", "1", False),
        ("-f(1) == 1", "'1'", False),
        ("set(f(1)) == set()", "[[1]]", False),
    ],
)
def test_other_asserts(sandbox, tester, test, value, good) -> None:
    report = compare(sandbox, tester, f"def f(x):\n    return {value}\n", f"assert {test}", None)
    assert report is not None
    assert (report["passed"], report["total"]) == (int(good), 1)


@pytest.mark.parametrize("name", ["sort_third", "Sort_third"])
@pytest.mark.parametrize(
    ("body", "passed", "problem"),
    [
        ("return sorted(x)", 2, None),
        ("return x", 1, "assertion"),
        ("return {i: i for i in x}", 1, "assertion"),
        ("return [1 / x[0]]", 1, "exception"),
        ("calls.append(1)\n    return [len(calls)]", 0, "assertion"),
        ("import os; os._exit(0)", 0, "gone"),
    ],
)
def test_the_answer_is_called_by_its_own_name_too(sandbox, tester, name, body, passed, problem):
    tests = (
        "def check(candidate):\n"
        f"    assert tuple(candidate([2, 1])) == tuple({name}([2, 1])), 'same'\n"
        "    assert candidate([0, -1]) == [-1, 0]\n"
    )
    code = f"calls = []\ndef {name}(x):\n    {body}\n"
    report = compare(sandbox, tester, code, tests, name)
    assert report is not None
    assert (report["passed"], report["problem"]) == (passed, problem)


def test_a_builtin_of_the_entry_points_name_is_not_called_here() -> None:
    tests = "def check(candidate):\n    assert candidate([2, 1]) == max([2, 1])\n"
    assert plain_tests(tests, "", "max") is None


@pytest.mark.parametrize(
    "code",
    [
        "def f(x): return object()",
        "def f(x): return lambda: 1",
        "def f(x): return range(10 ** 12)",
        "def f(x): return [iter([1])]",
        "def f(x): return 'x' * 1_000_000",
        "from fractions import Fraction\ndef f(x): return Fraction(1, 3)",
        "from decimal import Decimal\ndef f(x): return Decimal('1e999999')",
        "class f:\n    def __init__(self, x): pass",
        "f = 3",
    ],
)
def test_what_is_no_plain_value_goes_to_the_tester(sandbox, code) -> None:
    for test in ("assert f(1) == 1", "assert sorted(f(1)) == [1]"):
        assert by_itself(sandbox, code, test, "f") is None


@pytest.mark.parametrize(
    "test",
    ["f(1) * 10 ** 10 == 'a'", "10 ** 10 * f(1) == 'a'", "{1} - {f(1)} == {1}"],
)
def test_large_products_and_other_operators_go_to_the_tester(sandbox, test) -> None:
    assert plain_tests(f"assert {test}", "", None) is not None
    assert by_itself(sandbox, "def f(x): return 'a'", f"assert {test}", None) is None


@pytest.mark.parametrize(
    "tests",
    [
        "",
        "assert True",
        "def check(candidate):\n    pass",
        "def check(candidate):\n    for i in range(3):\n        assert candidate(i) == i",
        "def check(candidate):\n    assert candidate(x) == 1",
        "def check(candidate):\n    assert helper(1) == candidate(1)",
        "def check(candidate, other):\n    assert candidate(1) == 1",
        "def check(candidate):\n    assert candidate(*[1]) == 1",
        "def check(candidate):\n    assert candidate(**{'a': 1}) == 1",
        "def check(candidate):\n    assert candidate({**{}}) == 1",
        "def check(candidate):\n    assert candidate(1) is 1",
        "def check(candidate):\n    assert candidate(1) == 9 ** 99999",
        "def check(abs):\n    assert abs(1) == 1",
        "import math\nassert f(1) == 1",
        "assert f(1) == 1\nassert g(1) == 1",
        "assert f.x == 1",
        "assert [f(x) for x in (1, 2)] == [1, 2]",
        "assert f(1) == f'{1}'",
        "assert f(1) == (lambda: 1)()",
        "assert (y := f(1)) == 1",
        "assert f(1) == 1 +",
        "x = f(1)\nassert x == 1",
        "def check(candidate) -> None:\n    return\n    assert candidate(1) == 2",
        "@staticmethod\ndef check(candidate):\n    assert candidate(1) == 1",
        "async def check(candidate):\n    assert candidate(1) == 1",
        "def check(candidate=1):\n    assert candidate(1) == 1",
        "def check(*candidate):\n    assert candidate(1) == 1",
    ],
)
def test_other_suites_have_to_be_run(tests) -> None:
    assert plain_tests(tests, "", "f") is None


def test_a_message_that_calls_the_answer_is_for_the_tester(sandbox, tester) -> None:
    tests = "assert f(1) == 1, 'got ' + str(f(2))\nassert f(3) == 3, f'{f(4)}'"
    assert compare(sandbox, tester, "def f(x): return x", tests, "f")["passed"] == 2
    assert by_itself(sandbox, "def f(x): return 1", tests, "f") is None


def test_a_suite_with_a_setup_has_to_be_run() -> None:
    assert plain_tests("assert f(1) == 1", "f = None", None) is None
    assert plain_tests("assert f(1) == 1", " \n", None) is not None


def test_a_missing_function_is_said_to_be(sandbox, tester) -> None:
    report = compare(sandbox, tester, "def g(x): return 1", EQUAL, "f")
    assert report is not None
    assert report["problem"] == "missing"


def rows(name: str) -> list[dict[str, Any]]:
    folder = os.environ.get("RLVR_DATA")
    if not folder or not Path(folder, name).is_file():
        pytest.skip(f"RLVR_DATA names no folder with {name}")
    text = Path(folder, name).read_bytes()
    text = gzip.decompress(text) if name.endswith(".gz") else text
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    "forged", [None, "    pass\n", "    return []\n", "    raise OSError(3)\n"]
)
def test_humaneval_is_judged_alike(sandbox, tester, forged) -> None:
    told = 0
    for row in rows("humaneval.jsonl.gz")[:: 1 if forged is None else 4]:
        code = row["prompt"] + (forged or row["canonical_solution"])
        report = compare(sandbox, tester, code, row["test"], row["entry_point"])
        told += report is not None
        assert report is None or (report["problem"] is None) == (forged is None), row["task_id"]
    assert told > (145 if forged is None else 30)


@pytest.mark.data
@pytest.mark.slow
def test_mbpp_is_judged_alike(sandbox, tester) -> None:
    told = 0
    for row in rows("mbpp.jsonl")[::5]:
        tests = "\n".join(row["test_list"])
        report = compare(sandbox, tester, row["code"], tests, None)
        told += report is not None
        assert report is None or report["problem"] is None, row["task_id"]
    assert told > 150
