"""What tests showed: of one test, and of all."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlvr.sandbox.limits import RunResult, RunStatus
from rlvr.types import Outcome

ENDINGS = {
    RunStatus.COMPILE_ERROR: Outcome.COMPILE_ERROR,
    RunStatus.TIMEOUT: Outcome.TIMEOUT,
    RunStatus.MEMORY_LIMIT: Outcome.MEMORY_LIMIT,
    RunStatus.OUTPUT_LIMIT: Outcome.OUTPUT_LIMIT,
}
"""Endings of a program that have an outcome of their own."""

_MOST_TESTS = 200
_EXCERPT = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class TestResult:
    """What one test showed. Nothing here quotes what the test expects, but `checker_said`.

    Attributes:
        verdict: `correct`, `partial`, or why not.
        score: from 0 to 1.
        note: what is wrong, in words.
        checker_said: what a custom checker wrote; it may quote the expected output.
        cpu_seconds: processor time of the program, where it ran for this test alone.
        wall_seconds: time by the clock.
        peak_memory_bytes: the most memory that it held, where the sandbox says so.
        exit_code: its exit code, where it exited.
        signal: the signal that ended it, where one did.
        output: the beginning of what it wrote, where that was not right.
    """

    __test__ = False  # no class of tests, whatever pytest thinks

    verdict: Outcome
    score: float = 0.0
    note: str = ""
    checker_said: str = ""
    cpu_seconds: float | None = None
    wall_seconds: float | None = None
    peak_memory_bytes: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    output: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without what is not known or empty."""
        pairs = zip(_FIELDS, _fields_of(self), strict=True)
        kept = {name: value for name, value in pairs if value is not None and value != ""}
        return {**kept, "verdict": self.verdict.value}


_FIELDS = tuple(item.name for item in dataclasses.fields(TestResult))
_fields_of = operator.attrgetter(*_FIELDS)


def of_run(result: RunResult, verdict: Outcome, score: float, note: str, said: str) -> TestResult:
    """The result of a test that was one run of a program."""
    return TestResult(
        verdict=verdict,
        score=score,
        note=note,
        checker_said=said,
        cpu_seconds=round(result.cpu_seconds, 6),
        wall_seconds=round(result.wall_seconds, 6),
        peak_memory_bytes=getattr(result, "peak_memory_bytes", None),
        exit_code=result.exit_code,
        signal=result.signal,
        output=None if verdict is Outcome.CORRECT else excerpt(result.stdout),
    )


def excerpt(output: bytes) -> str:
    """The beginning of an output, as text that can be stored."""
    text = output[: 4 * _EXCERPT].decode("utf-8", "replace")[:_EXCERPT]
    return text + "..." if len(output) > len(text.encode()) else text


@dataclass(frozen=True, slots=True)
class Tally:
    """What the tests showed; `outcome` and `reason` are those of the first failure.

    Attributes:
        passed: how many tests passed.
        total: how many there are.
        outcome: why the first one failed; None where none did.
        reason: the same in words.
        score: the sum of the tests' scores; by default the number that passed.
        tests: each test that was run, where they were run one by one.
        facts: more for the verdict's details: how the program ended, what held it.
    """

    passed: int
    total: int
    outcome: Outcome | None
    reason: str
    score: float | None = None
    tests: Sequence[TestResult] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The mean score."""
        return (self.passed if self.score is None else self.score) / self.total

    def details(self) -> dict[str, Any]:
        """Plain JSON: the facts, and the first 200 tests."""
        found = dict(self.facts)
        if self.tests:
            found["tests_run"] = len(self.tests)
            found["tests"] = [test.to_dict() for test in self.tests[:_MOST_TESTS]]
        return found


def one_line(text: str) -> str:
    """At most 1,000 characters that can be shown and stored; hostile code may have chosen them."""
    shown = text[:1000].replace("\n", " ")
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
