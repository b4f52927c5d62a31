"""The `python_code` verifier: four styles, honest answers, and attacks that must never pass."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

import rlvr
from rlvr.errors import ConfigError
from rlvr.types import Completion, FinishReason, Outcome, Task, Verdict
from rlvr.verifiers.code_extraction import extract_code, join_prefix
from rlvr.verifiers.python_code import PythonCodeVerifier

pytestmark = pytest.mark.sandbox

ATTACKS = sorted((Path(__file__).parent.parent / "sandbox" / "programs").glob("*.py.txt"))
SLOW_ATTACKS = {"replies_half.py.txt", "returns_much.py.txt", "returns_deep.py.txt"}
GOOD = "def double(x):\n    return 2 * x\n"
STYLES: dict[str, dict[str, Any]] = {
    "calls": {
        "style": "calls",
        "entry_point": "double",
        "cases": [{"args": [n], "expected": 2 * n} for n in (2, 5, 8)],
    },
    "asserts": {
        "style": "asserts",
        "tests": "assert double(2) == 4\nassert double(5) == 10\nassert abs(double(8) - 16) < 1e-6",
        "entry_point": None,
    },
    "bare": {  # a loop: these run in the tester, those above are evaluated without one
        "style": "asserts",
        "tests": "for n in (2, 5):\n    assert double(n) == 2 * n\n"
        "assert abs(double(8) - 16) < 1e-6",
        "entry_point": None,
    },
    "check": {
        "style": "asserts",
        "tests": "def check(candidate):\n    for n in (2, 5, 8):\n"
        "        assert candidate(n) == 2 * n\n",
        "entry_point": "double",
    },
    "pytest": {
        "style": "pytest",
        "tests": "import pytest\nfrom solution import double\n\n\n"
        "@pytest.mark.parametrize('n', [2, 5, 8])\n"
        "def test_double(n):\n    assert double(n) == pytest.approx(2 * n)\n",
    },
}


@pytest.fixture(scope="module")
def verifier() -> PythonCodeVerifier:
    return PythonCodeVerifier(timeout=2.0)


def judge(
    verifier: PythonCodeVerifier, code: str, answer: Any, prefix: str | None = None
) -> Verdict:
    metadata = {"code_prefix": prefix} if prefix else {}
    return verifier.verify(Task(id="t", prompt="", answer=answer, metadata=metadata), code)


@pytest.mark.parametrize("style", STYLES)
def test_a_right_answer_is_correct_in_every_style(verifier, style) -> None:
    verdict = judge(verifier, GOOD, STYLES[style])
    assert verdict.outcome is Outcome.CORRECT, verdict
    assert verdict.metrics == {"tests_passed": 3.0, "tests_total": 3.0}
    assert verdict.extracted == GOOD


@pytest.mark.parametrize("style", STYLES)
def test_a_wrong_answer_names_the_first_failing_test(verifier, style) -> None:
    verdict = judge(verifier, "def double(x):\n    return 4 if x == 2 else 0\n", STYLES[style])
    assert verdict.outcome is Outcome.INCORRECT
    assert verdict.reward == 0.0
    assert verdict.metrics == {"tests_passed": 1.0, "tests_total": 3.0}
    assert "test 2" in verdict.reason and "returned 0" in verdict.reason


@pytest.mark.parametrize(
    "style",
    ["asserts", *(pytest.param(s, marks=pytest.mark.slow) for s in ("calls", "bare", "check"))],
)
@pytest.mark.parametrize(
    "attack",
    [pytest.param(p, marks=[pytest.mark.slow] if p.name in SLOW_ATTACKS else []) for p in ATTACKS],
    ids=lambda path: path.name.removesuffix(".py.txt"),
)
def test_no_attack_passes(verifier, attack, style) -> None:
    verdict = judge(verifier, attack.read_text(), STYLES[style])
    assert verdict.reward == 0.0, verdict
    assert verdict.metrics["tests_passed"] == 0.0, verdict


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda path: path.name.removesuffix(".py.txt"))
def test_no_attack_passes_pytest(verifier, attack) -> None:
    verdict = judge(verifier, attack.read_text(), STYLES["pytest"])
    assert verdict.reward == 0.0, verdict
    assert verdict.metrics["tests_passed"] == 0.0, verdict


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 14))
def test_no_answer_that_replies_at_random_passes_or_dodges(verifier, seed) -> None:
    code = attack("replies_at_random").replace("Random(1)", f"Random({seed})")
    for style, answer in STYLES.items():
        verdict = judge(verifier, code, answer)
        assert verdict.reward == 0.0, (style, verdict)


def test_the_verdict_is_right_after_all_the_attacks(verifier) -> None:
    assert judge(verifier, GOOD, STYLES["asserts"]).is_correct


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("def double(x:\n    pass", Outcome.COMPILE_ERROR),
        ("def double(x):\n    return x / 0", Outcome.RUNTIME_ERROR),
        ("1 / 0", Outcome.RUNTIME_ERROR),
        ("def other(x):\n    return x", Outcome.RUNTIME_ERROR),
        ("def double(x):\n    while True:\n        pass", Outcome.TIMEOUT),
        ("while True:\n    pass", Outcome.TIMEOUT),
        ("def double(x):\n    return [0] * 10**10", Outcome.MEMORY_LIMIT),
        ("import ctypes\n\n\ndef double(x):\n    ctypes.string_at(0)", Outcome.RUNTIME_ERROR),
        ("import sys\nsys.exit(0)", Outcome.RUNTIME_ERROR),
        ("", Outcome.NO_ANSWER),
        ("```python\n\n```", Outcome.COMPILE_ERROR),
    ],
)
def test_each_way_to_fail_has_its_outcome(code, outcome) -> None:
    verdict = judge(PythonCodeVerifier(timeout=0.5), code, STYLES["calls"])
    assert (verdict.outcome, verdict.reward) == (outcome, 0.0), verdict


STDIO = {
    "style": "stdio",
    "cases": [{"input": "1 2\n", "output": "3\n"}, {"input": "5 6\n", "output": "11\n"}],
}


@pytest.mark.parametrize(
    "code",
    [
        "print(sum(map(int, input().split())))",
        "import sys\nsys.stdout.write(str(sum(map(int, sys.stdin.read().split()))) + '  \\n\\n')",
        "a, b = map(int, open(0).read().split())\nprint(a + b, end='\\r\\n')\nexit()",
    ],
)
def test_programs_may_write_white_space_at_the_ends(verifier, code) -> None:
    assert judge(verifier, code, STDIO).is_correct


@pytest.mark.parametrize(
    ("code", "outcome", "passed"),
    [
        ("print(3)", Outcome.INCORRECT, 1),
        ("print(sum(map(int, input().split())))\n1 / 0", Outcome.RUNTIME_ERROR, 0),
        ("print(3\n", Outcome.COMPILE_ERROR, 0),
        ("while True: pass", Outcome.TIMEOUT, 0),
        ("while True: print('x' * 99999)", Outcome.OUTPUT_LIMIT, 0),
        ("x = []\nwhile True: x.append('y' * 10**6)", Outcome.MEMORY_LIMIT, 0),
        ("import os\nos._exit(0)", Outcome.INCORRECT, 0),
        ("print(' 3')", Outcome.INCORRECT, 0),
    ],
)
def test_each_way_for_a_program_to_fail_has_its_outcome(code, outcome, passed) -> None:
    verdict = judge(PythonCodeVerifier(timeout=1.0, memory_mb=64), code, STDIO)
    assert (verdict.outcome, verdict.reward) == (outcome, 0.0), verdict
    assert verdict.metrics == {"tests_passed": float(passed), "tests_total": 2.0}


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("pass", Outcome.CORRECT),
        ("1 / 0", Outcome.RUNTIME_ERROR),
        ("raise SystemExit(1)", Outcome.RUNTIME_ERROR),
        ("import os; os._exit(1)", Outcome.RUNTIME_ERROR),
        ("import ctypes; ctypes.string_at(0)", Outcome.RUNTIME_ERROR),
        ("import os; os.kill(os.getpid(), 9); os.execv('/nowhere', ['x'])", Outcome.RUNTIME_ERROR),
        ("print(", Outcome.COMPILE_ERROR),
        ("while True: pass", Outcome.TIMEOUT),
        ("x = [0] * 10**10", Outcome.MEMORY_LIMIT),
    ],
)
def test_an_error_is_no_right_answer_where_nothing_is_expected(code, outcome) -> None:
    """An empty output is what a program that failed leaves, too."""
    answer = {"style": "stdio", "cases": [{"input": "", "output": ""}]}
    verdict = judge(PythonCodeVerifier(timeout=0.5), code, answer)
    assert (verdict.outcome, verdict.is_correct) == (outcome, code == "pass"), verdict


def test_partial_rewards_the_share_of_tests() -> None:
    verdict = judge(PythonCodeVerifier(partial=True), "print(3)", STDIO)
    assert (verdict.outcome, verdict.reward) == (Outcome.PARTIAL, 0.5)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {"style": "calls"},
        {"style": "calls", "entry_point": "double", "cases": []},
        {"style": "unknown"},
        {"style": "asserts", "tests": "", "entry_point": "double"},
        {"style": "asserts", "tests": "x = 1", "entry_point": "double"},
        {"style": "asserts", "tests": "assert double(", "entry_point": "double"},
        {"style": "asserts", "tests": "assert undefined.attribute", "setup": "undefined = 1"},
        {"style": "stdio", "cases": []},
        {"style": "stdio", "cases": [{"input": "1"}]},
        {"style": "pytest", "tests": "def helper():\n    pass"},
        {"style": "pytest", "tests": "import nothing_of_this_name"},
    ],
)
def test_broken_tests_are_no_verdict_on_the_answer(verifier, answer) -> None:
    verdict = judge(verifier, GOOD, answer)
    assert verdict.outcome is Outcome.VERIFIER_ERROR, verdict
    assert verdict.reward is None


def test_expected_values_with_floats_tuples_sets_and_nan(verifier) -> None:
    code = "def f(k):\n    return {'t': (1, 2), 's': {1, 2}, 'f': 0.1 + 0.2, 'n': float('nan')}[k]"
    cases = [
        {"args": ["t"], "expected": [1, 2]},
        {"args": ["s"], "expected": {2, 1}},
        {"args": ["f"], "expected": 0.3},
        {"args": [], "kwargs": {"k": "n"}, "expected": float("nan")},
    ]
    answer = {"style": "calls", "entry_point": "f", "cases": cases, "tolerance": 1e-9}
    assert judge(verifier, code, answer).is_correct
    exact = judge(verifier, code, {**answer, "tolerance": None})
    assert exact.metrics["tests_passed"] == 3.0


def test_a_reply_that_is_far_too_long_is_refused_unread(verifier) -> None:
    code = "def double(x):\n    return [0] * {}\n"
    for length, why in ((100_000, "a reply of 600,0"), (2_000_000, "the value has more than")):
        verdict = judge(verifier, code.format(length), STYLES["calls"])
        assert verdict.outcome is Outcome.INCORRECT
        assert f"cannot be compared: {why}" in verdict.reason


def test_each_call_that_raises_fails_its_own_case(verifier) -> None:
    code = "def f(x):\n    if x == 1:\n        raise ValueError('one')\n    return x\n"
    cases = [{"args": [x], "expected": x} for x in (0, 1, 2)]
    verdict = judge(verifier, code, {"style": "calls", "entry_point": "f", "cases": cases})
    assert verdict.outcome is Outcome.RUNTIME_ERROR
    assert verdict.metrics == {"tests_passed": 2.0, "tests_total": 3.0}
    assert "test 2, f(1) should be 1: it raised ValueError: one" in verdict.reason
    ended = judge(verifier, code.replace("raise ValueError('one')", "import os; os._exit(0)"), {
        "style": "calls", "entry_point": "f", "cases": cases})  # fmt: skip
    assert ended.outcome is Outcome.RUNTIME_ERROR
    assert ended.metrics == {"tests_passed": 1.0, "tests_total": 3.0}


def test_arguments_changed_in_place_are_seen_by_the_tests(verifier) -> None:
    code = "def sort(values, table):\n    values.sort()\n    table['n'] = len(values)\n"
    tests = "v, t = [3, 1, 2], {}\nw = v\nsort(v, t)\nassert w == [1, 2, 3]\nassert t == {'n': 3}"
    answer = {"style": "asserts", "tests": tests, "entry_point": "sort"}
    assert judge(verifier, code, answer).is_correct


def test_exceptions_generators_and_classes_of_the_answer(verifier) -> None:
    code = """
class Empty(LookupError):
    pass

class Stack:
    LIMIT = 3
    def __init__(self, *items):
        self.items = list(items)
    def push(self, item):
        self.items.append(item)
    def pop(self):
        if not self.items:
            raise Empty("nothing here")
        return self.items.pop()
    def __len__(self):
        return len(self.items)

def count(n):
    yield from range(n)

async def later(x):
    return x + 1
"""
    tests = """
import pytest
import solution
from solution import Stack, Empty, count

def test_stack():
    stack = Stack(1)
    stack.push(2)
    assert len(stack) == 2
    assert stack.items == [1, 2]
    assert [stack.pop(), stack.pop()] == [2, 1]
    assert isinstance(stack, Stack)
    with pytest.raises(Empty, match="nothing"):
        stack.pop()

def test_rest():
    assert list(count(3)) == [0, 1, 2]
    assert Stack.LIMIT == 3
    assert solution.later(1) == 2
"""
    verdict = judge(verifier, code, {"style": "pytest", "tests": tests})
    assert verdict.is_correct, verdict


@pytest.mark.parametrize(
    "tests",
    [
        "from solution import absent\ndef test():\n    assert absent() == 1",
        "import solution\ndef test():\n    assert solution.absent() == 1",
    ],
)
def test_a_missing_function_is_the_answers_fault(verifier, tests) -> None:
    verdict = judge(verifier, GOOD, {"style": "pytest", "tests": tests})
    assert verdict.outcome is Outcome.RUNTIME_ERROR
    assert "does not define absent" in verdict.reason


def test_an_exception_that_the_tests_ask_for_is_a_pass(verifier) -> None:
    tests = "try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass\nassert f(1) == 1"
    answer = {"style": "asserts", "tests": tests, "entry_point": "f"}
    good = "def f(x):\n    if x < 0:\n        raise ValueError\n    return x"
    assert judge(verifier, good, answer).is_correct
    assert not judge(verifier, "def f(x):\n    return x", answer).is_correct


def test_a_candidate_may_shadow_a_builtin_only_where_the_tests_call_for_it(verifier) -> None:
    shadowed = {"style": "asserts", "tests": "assert sum(10, 15) == 6", "entry_point": None}
    assert judge(verifier, "def sum(a, b):\n    return 6", shadowed).is_correct


def test_a_module_that_the_tests_use_is_not_the_candidates_to_define(verifier) -> None:
    tests = "assert size((1, 2)) == sys.getsizeof((1, 2))"
    answer = {"style": "asserts", "tests": tests, "entry_point": "size"}
    assert judge(verifier, "import sys\nsize = sys.getsizeof", answer).is_correct
    cheat = "class sys:\n    getsizeof = staticmethod(lambda x: 5)\n\ndef size(x):\n    return 5\n"
    assert judge(verifier, cheat, answer).outcome is Outcome.INCORRECT


def test_a_star_import_brings_what_the_answer_defines(verifier) -> None:
    tests = "from solution import *\ndef test():\n    assert double(2) == 4"
    assert judge(verifier, GOOD, {"style": "pytest", "tests": tests}).is_correct


def test_helpers_of_the_prompt_are_the_tests_own(verifier) -> None:
    prefix = (
        "import math\n\n\ndef poly(x):\n    return x * x - 4\n\n\ndef root():\n"
        '    """Find a root of poly."""\n'
    )
    answer = {"style": "asserts", "tests": "assert abs(poly(root())) < 1e-9", "entry_point": "root"}
    assert judge(verifier, "    return math.sqrt(4)\n", answer, prefix).is_correct
    cheat = "def poly(x):\n    return 0\n\n\ndef root():\n    return 77\n"
    assert judge(verifier, cheat, answer, prefix).outcome is Outcome.INCORRECT
    fenced = "Here:\n```python\ndef root():\n    return math.sqrt(4)\n```\n"
    assert judge(verifier, fenced, answer, prefix).is_correct


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python\nA = 1\n```\nand\n```\ndef f(): pass\n```", "def f(): pass\n"),
        ("```python\ndef f(): pass\n```\nUse it:\n```python\nprint(f())\n```", "def f(): pass\n"),
        ("```python\ndef f(): pass\n```\n```bash\npip install x\n```", "def f(): pass\n"),
        ("```python\ndef f():\n    return 1", "def f():\n    return 1"),
        ("def f(): pass", "def f(): pass"),
        ("~~~py\ndef f(): pass\n~~~", "def f(): pass\n"),
        ("   \n", None),
    ],
)
def test_the_last_whole_fence_that_defines_the_function_is_the_code(text, expected) -> None:
    assert extract_code(text, "f") == expected


def test_a_body_gets_its_indentation_back() -> None:
    prefix = "def f(x):\n"
    assert join_prefix("return x", prefix, "f") == "def f(x):\n    return x"
    stripped = "y = x\n    return y"
    assert join_prefix(stripped, prefix, "f") == "def f(x):\n    y = x\n    return y"
    future = "from __future__ import annotations\ndef f(x): pass\n"
    joined = join_prefix(future, "import os\ndef f(x):\n", "f")
    assert joined.startswith("from __future__") and "import os" in joined


def test_thinking_is_not_the_answer(verifier) -> None:
    text = f"<think>\n```python\n{GOOD}```\n</think>\n```python\ndef double(x):\n    return 0\n```"
    assert judge(verifier, text, STYLES["calls"]).outcome is Outcome.INCORRECT
    cut = Completion(text=f"<think>\n{GOOD}", finish_reason=FinishReason.LENGTH)
    task = Task(id="t", prompt="", answer=STYLES["calls"])
    assert verifier.verify(task, cut).outcome is Outcome.TRUNCATED


def test_the_verifier_is_picklable_and_deterministic(verifier) -> None:
    again = pickle.loads(pickle.dumps(verifier))
    wrong = "def double(x):\n    return {3, 'a', 'b'}\n"
    first, second = (judge(v, wrong, STYLES["asserts"]) for v in (verifier, again))
    assert (first.reason, first.outcome) == (second.reason, second.outcome)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": "fast"}, {"memory_mb": -1}])
def test_a_wrong_option_is_refused(options) -> None:
    with pytest.raises(ConfigError):
        rlvr.load_verifier("python_code", **options)


# ------------------------------------------------------------------------------------- real data


def data(name: str) -> list[dict[str, Any]]:
    folder = os.environ.get("RLVR_DATA")
    if not folder or not (Path(folder) / name).is_file():
        pytest.skip(f"RLVR_DATA names no folder with {name}")
    path = Path(folder) / name
    raw = path.read_bytes()
    text = gzip.decompress(raw) if name.endswith(".gz") else raw
    return [json.loads(line) for line in text.splitlines()]


def humaneval_task(row: dict[str, Any]) -> Task:
    answer = {"style": "asserts", "tests": row["test"], "entry_point": row["entry_point"]}
    metadata = {"code_prefix": row["prompt"]}
    return Task(id=row["task_id"], prompt=row["prompt"], answer=answer, metadata=metadata)


def attack(name: str) -> str:
    return next(path for path in ATTACKS if path.name == f"{name}.py.txt").read_text()


FORGERIES = {
    "pass": lambda entry: "    pass\n",
    "empty string": lambda entry: "    return ''\n",
    "true": lambda entry: "    return True\n",
    "equals everything": lambda entry: attack("equals_everything").replace(
        "double(x)", f"{entry}(*x)"
    ),
    "sys.exit": lambda entry: "    import sys\n    sys.exit(0)\n",
    "os._exit": lambda entry: "    import os\n    os._exit(0)\n",
    "SystemExit": lambda entry: "    raise SystemExit\n",
    "exit at import": lambda entry: f"import os\nos._exit(0)\ndef {entry}(*a): pass\n",
    "AssertionError": lambda entry: "    raise AssertionError\n",
    "tokens": lambda entry: attack("prints_tokens").replace("double(x)", f"{entry}(*x)"),
    "descriptors": lambda entry: attack("writes_to_every_descriptor").replace(
        "double(x)", f"{entry}(*x)"
    ),
    "frames": lambda entry: attack("reads_frames").replace("double(x)", f"{entry}(*x)"),
}


@pytest.mark.data
def test_humaneval_canonical_solutions_all_pass(verifier) -> None:
    for row in data("humaneval.jsonl.gz"):
        verdict = verifier.verify(humaneval_task(row), row["canonical_solution"])
        assert verdict.is_correct, (row["task_id"], verdict)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("forgery", FORGERIES)
def test_humaneval_forgeries_never_pass(verifier, forgery) -> None:
    for row in data("humaneval.jsonl.gz"):
        verdict = verifier.verify(humaneval_task(row), FORGERIES[forgery](row["entry_point"]))
        assert verdict.reward == 0.0, (row["task_id"], verdict)


@pytest.mark.data
@pytest.mark.slow
def test_mbpp_code_passes_wherever_plain_python_passes_it() -> None:
    verifier = PythonCodeVerifier(timeout=30)
    failed = []
    for row in data("mbpp.jsonl"):
        tests = {"tests": "\n".join(row["test_list"]), "setup": row["test_setup_code"]}
        answer = {"style": "asserts", "entry_point": None, **tests}
        verdict = verifier.verify(Task(id="t", prompt="", answer=answer), row["code"])
        if not verdict.is_correct:
            failed.append((row["task_id"], verdict.outcome, verdict.reason))
    assert failed == []
