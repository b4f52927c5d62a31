"""The styles `asserts` and `pytest`: tests in Python, in another sandbox than the answer.

Where tests and answer cannot be kept apart (`code_integrity`), both run in one interpreter: then a
hostile answer can reach the tests, and the verdict's details say `"integrity": "weak"`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rlvr.errors import VerifierError
from rlvr.sandbox.guest import values
from rlvr.sandbox.languages import Job
from rlvr.sandbox.limits import Limits, RunResult, RunStatus
from rlvr.sandbox.pool import SlotPool
from rlvr.sandbox.session import CallFailed, Session, describe, run_tests
from rlvr.sandbox.slot import Ending
from rlvr.types import Outcome
from rlvr.verifiers.code_plain import NotPlain, PlainTests
from rlvr.verifiers.code_plain_reader import plain_tests
from rlvr.verifiers.code_results import ENDINGS, Tally, TestResult
from rlvr.verifiers.pool_wire import before_the_deadline

_TESTER_MEMORY = 512 << 20
_MOST_REPORT_BYTES = 1 << 18
_PASSED = TestResult(verdict=Outcome.CORRECT, score=1.0)
_FAILED = TestResult(verdict=Outcome.INCORRECT)


def run_suite(
    answers: SlotPool, tester: SlotPool, code: str, spec: Mapping[str, Any], limits: Limits,
    tester_limits: Limits,
) -> Tally:  # fmt: skip
    """Load the answer in one sandbox; run the tests in another, or evaluate them here.

    Raises:
        VerifierError: the tests are at fault.
        SandboxError: the machinery failed.
    """
    try:
        plain = None
        if spec["style"] == "asserts":
            plain = plain_tests(spec["tests"], spec["setup"], spec["entry_point"])
        if plain is not None:
            with contextlib.suppress(NotPlain):
                return _run_plain(answers, plain, code, limits)
            # The answer may have taken its time already, and takes it again.
            limits = _until(limits, before_the_deadline(limits.clock_seconds, spare=0.3))
            left = before_the_deadline(tester_limits.clock_seconds, spare=0.15)
            tester_limits = _until(tester_limits, left)
        return _run_apart(answers, tester, code, spec, limits, tester_limits)
    except _DidNotLoad as problem:
        return did_not_load(problem.failure)


def _until(limits: Limits, clock_seconds: float) -> Limits:
    return dataclasses.replace(limits, clock_seconds=clock_seconds)


class _DidNotLoad(Exception):
    def __init__(self, failure: CallFailed) -> None:
        super().__init__(str(failure))
        self.failure = failure


def _load(answers: SlotPool, code: str, limits: Limits, at_once: bool = False) -> Session:
    try:
        return answers.session(code, limits, at_once)
    except CallFailed as failure:
        raise _DidNotLoad(failure) from None


def _run_plain(answers: SlotPool, plain: PlainTests, code: str, limits: Limits) -> Tally:
    with _load(answers, code, limits, at_once=True) as session:
        report = plain.run(session)
        ending = session.finish()
    ended = describe(ending, limits)
    return read_report(report, ending.status(limits), ended, _facts(session, ending))


def _run_apart(
    answers: SlotPool, tester: SlotPool, code: str, spec: Mapping[str, Any], limits: Limits,
    tester_limits: Limits,
) -> Tally:  # fmt: skip
    with _load(answers, code, limits) as session:
        report, tester_end, program_end = run_tests(tester, session, spec, tester_limits)
    facts = _facts(session, program_end)
    if report is None:
        status = tester_end.status(tester_limits)
        if status in (RunStatus.TIMEOUT, RunStatus.MEMORY_LIMIT):
            what = "end" if status is RunStatus.TIMEOUT else "have the memory to end"
            reason = f"the tests did not {what} on what it returned"
            return Tally(0, 1, ENDINGS[status], reason, facts=facts)
        raise VerifierError(f"the tests ended by themselves: {describe(tester_end, tester_limits)}")
    ended = describe(program_end, limits)
    return read_report(report, program_end.status(limits), ended, facts)


def _facts(session: Session, ending: Ending) -> dict[str, Any]:
    return {
        "isolation": list(session.isolation),
        "cpu_seconds": round(ending.cpu_seconds, 6),
        "wall_seconds": round(ending.wall_seconds, 6),
    }


def run_weak_suite(pool: SlotPool, code: str, spec: Mapping[str, Any], limits: Limits) -> Tally:
    """Run the tests in the answer's own interpreter.

    Raises:
        VerifierError: the tests are at fault.
        SandboxError: the machinery failed.
    """
    source = code.encode("utf-8", "surrogatepass")
    payload = values.encode({**spec, "candidate": source, "names": b""})
    result = pool.run_job(Job("weak", payload, limits))
    facts = {
        "isolation": list(result.isolation),
        "cpu_seconds": round(result.cpu_seconds, 6),
        "wall_seconds": round(result.wall_seconds, 6),
    }
    report = _report_of(result)
    if report is None:
        outcome = ENDINGS.get(result.status, Outcome.RUNTIME_ERROR)
        reason = f"it ended before the tests did: {result.status.value.replace('_', ' ')}"
        return Tally(0, 1, outcome, reason, facts=facts)
    return read_report(report, result.status, "", facts)


def _report_of(result: RunResult) -> dict[str, Any] | None:
    """The report of a weak suite; the answer may have written what it liked in its place."""
    if not result.ok or len(result.stdout) > _MOST_REPORT_BYTES:
        return None
    try:
        report = values.decode(result.stdout[4:])
    except values.Refused:
        return None
    wanted = {"passed": int, "total": int, "detail": str, "error": str, "passes": list}
    if type(report) is not dict or any(type(report.get(k)) is not t for k, t in wanted.items()):
        return None
    return report if 0 <= report["passed"] <= report["total"] else None


def did_not_load(failure: CallFailed) -> Tally:
    """The tally of an answer that does not compile, or ends while it is loaded."""
    if failure.status in ENDINGS:
        outcome = ENDINGS[failure.status]
    elif failure.kind == "syntax":
        outcome = Outcome.COMPILE_ERROR
    else:
        outcome = Outcome.RUNTIME_ERROR
    doing = "compiled" if failure.kind == "syntax" else "loaded"
    return Tally(0, 1, outcome, f"while it was {doing}: {failure}")


def read_report(
    report: Mapping[str, Any], status: RunStatus, ended: str, facts: Mapping[str, Any]
) -> Tally:
    """The tally of a tester's report.

    Args:
        report: what `guest.tester` gave.
        status: how the answer's program ended.
        ended: the same in words.
        facts: more for the verdict's details.

    Raises:
        VerifierError: the tests are at fault.
    """
    passed, total = int(report["passed"]), int(report["total"])
    problem, detail = report["problem"], str(report["detail"])
    tests = marks(report["passes"])
    if problem is None:
        return Tally(passed, total, None, "", tests=tests, facts=facts)
    if problem == "test_error":
        hint = ""
        if "cannot be carried to the candidate" in detail:
            hint = "; tests that need the answer in their own interpreter say 'integrity': 'weak'"
        raise VerifierError(f"the tests are at fault: {detail}{hint}")
    outcome = Outcome.INCORRECT
    if problem == "exception":
        memory = report["error"] == "MemoryError"
        outcome = Outcome.MEMORY_LIMIT if memory else Outcome.RUNTIME_ERROR
    elif problem == "syntax":
        outcome = Outcome.COMPILE_ERROR
    elif problem in ("missing", "exit"):
        outcome = Outcome.RUNTIME_ERROR
    elif problem == "gone":
        outcome = ENDINGS.get(status, Outcome.RUNTIME_ERROR)
        detail = f"{detail}: {ended}"
    return Tally(passed, max(total, 1), outcome, detail, tests=tests, facts=facts)


def marks(passes: Sequence[Any]) -> list[TestResult]:
    """Of tests of which no more is known than whether they passed."""
    return [_PASSED if good else _FAILED for good in passes]


def tester_limits(limits: Limits, wall_seconds: float) -> Limits:
    """What tests may use beside the answer that they call."""
    return Limits(
        cpu_seconds=limits.cpu_seconds + 5,
        wall_seconds=wall_seconds,
        memory_bytes=max(limits.memory_bytes, _TESTER_MEMORY),
    )
