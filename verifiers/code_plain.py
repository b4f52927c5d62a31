"""Asserts that need no interpreter: calls with plain arguments, compared with plain values.

Most suites of the HumanEval and MBPP kind hold nothing but `assert f(ARGUMENTS) == VALUE` and its
like. They are read as expressions of a small language (`rlvr.verifiers.code_plain_reader`), and
evaluated here, while each call goes to the answer in its sandbox. That gives what the tester in a
sandbox of its own would report, without starting one. Where a call brings back what is no plain
value, `NotPlain` sends the suite to the tester after all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rlvr.sandbox.guest.remote import brief
from rlvr.sandbox.session import CallFailed, Session

_MOST_REPLY_BYTES = 1 << 17
_DATA = (bool, int, float, complex, str, bytes, bytearray)


class NotPlain(Exception):
    """What came back, or is asked for, can only be judged by running the tests."""


class Calls:
    """The calls of one suite, one after another, and what the latest gave."""

    def __init__(self, session: Session | None) -> None:
        self._session = session
        self._last: tuple[Any, str] | None = None

    def result(self, frame: bytes) -> Any:
        """Of the call that `frame` asks for."""
        if self._session is None:
            raise NotPlain
        try:
            value = self._session.call_encoded(frame, _MOST_REPLY_BYTES)
        except CallFailed as failure:
            self._last = None, f"it raised {failure}"
            raise
        if not _is_data(value):
            raise NotPlain
        self._last = value, ""
        return value

    @property
    def last(self) -> str:
        """The latest call in words; empty where there was none."""
        if self._last is None:
            return ""
        value, said = self._last
        return said or f"it returned {brief(value)}"


Expression = Callable[[Calls], Any]


@dataclass(frozen=True, slots=True)
class PlainTests:
    """A suite of asserts that can be evaluated here.

    Attributes:
        name: the function of the answer that they call.
    """

    name: str
    _asserts: Sequence[tuple[str, Expression]]

    def run(self, session: Session) -> dict[str, Any]:
        """Call the answer and compare.

        Args:
            session: the loaded answer.

        Returns:
            What the tester reports (`rlvr.sandbox.guest.tester`).

        Raises:
            NotPlain: an answer brought back what only the tester can judge.
            SandboxError: the machinery failed.
        """
        kind = session.kinds().get(self.name)
        if kind is not None and kind != "function":
            raise NotPlain
        report = _Report(len(self._asserts))
        if kind is None:
            report.fail("missing", f"the code does not define {self.name}")
            return report.told()
        calls = Calls(session)
        for label, test in self._asserts:
            try:
                good = bool(test(calls))
            except CallFailed as failure:
                if not _note_failure(report, failure, label):
                    break
            except NotPlain:
                raise
            except Exception as error:
                if not calls.last:
                    raise NotPlain from None  # the test itself is at fault: the tester says how
                report.add(False)
                said = f"{calls.last}, then {type(error).__name__}: {brief(error, str)}"
                report.fail("assertion", f"test {report.run}, {label}: {said}")
            else:
                report.add(good)
                if not good:
                    report.fail("assertion", f"test {report.run}, {label}: {calls.last}")
        return report.told()


def _note_failure(report: _Report, failure: CallFailed, label: str) -> bool:
    """Count the test as failed; False where the answer cannot be called any more."""
    if failure.kind == "refused":
        raise NotPlain
    report.add(False)
    if failure.kind == "raise":
        said = f"test {report.run}, {label}: it raised {failure}"
        report.fail("exception", said, failure.error)
        return True
    if failure.kind == "exit":
        report.fail("exit", f"test {report.run}: it raised {failure}")
    else:
        report.fail("gone", f"test {report.run}: the program ended")
    return False


class _Report:
    """Counts, and keeps the first failure."""

    def __init__(self, expected: int) -> None:
        self.run = 0
        self._expected = expected
        self._passes: list[bool] = []
        self._first: tuple[str | None, str, str] = (None, "", "")

    def add(self, passed: bool) -> None:
        self.run += 1
        self._passes.append(passed)

    def fail(self, problem: str, detail: str, error: str = "") -> None:
        if self._first[0] is None:
            self._first = (problem, detail[:400], error)

    def told(self) -> dict[str, Any]:
        problem, detail, error = self._first
        return {
            "passed": sum(self._passes),
            "total": max(self.run, self._expected),
            "passes": self._passes,
            "calls": self.run,
            "problem": problem,
            "detail": detail,
            "error": error,
        }


def _is_data(value: Any) -> bool:
    """Whether it is what it looks like, all of it: no range or iterator, which can be endless."""
    if type(value) in (list, tuple, set, frozenset):
        return all(map(_is_data, value))
    if type(value) is dict:
        return all(map(_is_data, value)) and all(map(_is_data, value.values()))
    return value is None or type(value) in _DATA
