"""A program that never ends is a time-out of its own, also where the pool's deadline is near."""

from __future__ import annotations

import pytest

import rlvr

TASK = rlvr.Task(
    id="t",
    prompt="",
    answer={"style": "calls", "entry_point": "f", "cases": [{"args": [1], "expected": 1}]},
)


@pytest.mark.slow
@pytest.mark.sandbox
@pytest.mark.parametrize(
    "program",
    [
        "def f(x):\n    while True: pass",
        "import time\ndef f(x):\n    time.sleep(1000)",
        "while True: pass",
    ],
)
def test_an_endless_program_is_a_timeout_and_no_verifier_error(program: str) -> None:
    # A loop that cannot run for its second of processor time until the deadline would be nobody's
    # time-out; a sleeper's deadline comes before its 17 s of wall time.
    verifier = rlvr.load_verifier("python_code", timeout=5.0 if "sleep" in program else 1.0)
    (verdict,) = rlvr.verify_many(verifier, [(TASK, program)], workers=1, timeout=10.0)
    assert verdict.outcome == "timeout", verdict
    assert verdict.reward == 0.0


@pytest.mark.slow
@pytest.mark.sandbox
def test_many_slow_cases_end_before_the_deadline() -> None:
    cases = [{"input": str(i), "output": str(i)} for i in range(8)]
    task = rlvr.Task(id="t", prompt="", answer={"style": "stdio", "cases": cases})
    program = "import time\ntime.sleep(1.9)\nprint(input())"
    verifier = rlvr.load_verifier("python_code")
    (verdict,) = rlvr.verify_many(verifier, [(task, program)], workers=1, timeout=10.0)
    assert verdict.outcome == "timeout", verdict


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_program_that_cannot_run_until_the_deadline_is_no_timeout(busy_machine) -> None:
    verifier = rlvr.load_verifier("python_code", timeout=5.0)
    with busy_machine(per_processor=8):
        (verdict,) = rlvr.verify_many(
            verifier, [(TASK, "def f(x):\n    while True: pass")], workers=1, timeout=10.0
        )
    assert verdict.outcome == "verifier_error", verdict
    assert verdict.reward is None


SLOW_ON_MUCH = """import sys, time
words = open(sys.argv[2]).read().split()
while len(words) > 5: time.sleep(1)
sys.exit(words != open(sys.argv[3]).read().split())
"""


@pytest.mark.slow
@pytest.mark.sandbox
def test_an_output_that_its_checker_takes_for_ever_on_is_wrong_before_the_deadline() -> None:
    """A checker may take 30 seconds by the clock, of which an item has ten."""
    checker = {"name": "program", "source": SLOW_ON_MUCH}
    cases = [{"input": "", "output": "4"}] * 3
    task = rlvr.Task(
        id="t", prompt="", answer={"style": "stdio", "cases": cases, "checker": checker}
    )
    verifier = rlvr.load_verifier("python_code", partial=True)
    for program, outcome in (("print(4)", "correct"), ("print(*range(99))", "incorrect")):
        (verdict,) = rlvr.verify_many(verifier, [(task, program)], workers=1, timeout=10.0)
        assert verdict.outcome == outcome, verdict


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_program_that_has_itself_killed_late_is_wrong_before_the_deadline() -> None:
    """SIGKILL may be the machine's doing and is tried again: by itself, twice in time alone."""
    program = (
        "import resource, time\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))\n"
        "time.sleep(5)\nwhile True: pass"
    )
    task = rlvr.Task(
        id="t", prompt="", answer={"style": "stdio", "cases": [{"input": "", "output": "4"}]}
    )
    verifier = rlvr.load_verifier("python_code")
    (verdict,) = rlvr.verify_many(verifier, [(task, program)], workers=1, timeout=10.0)
    assert (verdict.outcome, verdict.reward) == ("runtime_error", 0.0), verdict


HALF_A_REPLY = """import os, struct
def f(x):
    os.write(4, struct.pack(">I", 1000) + b"t")
    return x
"""


@pytest.mark.slow
@pytest.mark.sandbox
def test_an_answer_that_hangs_twice_does_so_before_the_deadline() -> None:
    """Once where its asserts are evaluated without a tester, and once more with one."""
    answer = {"style": "asserts", "tests": "assert f(1) == 1", "entry_point": "f"}
    task = rlvr.Task(id="t", prompt="", answer=answer)
    verifier = rlvr.load_verifier("python_code")
    (verdict,) = rlvr.verify_many(verifier, [(task, HALF_A_REPLY)], workers=1, timeout=10.0)
    assert verdict.reward == 0.0, verdict
