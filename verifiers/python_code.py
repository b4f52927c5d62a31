"""The `python_code` verifier: Python answers judged by tests, in the sandbox.

`task.answer` is a mapping with a `style`:

    {"style": "calls", "entry_point": "f", "tolerance": 1e-6,
     "cases": [{"args": [...], "kwargs": {}, "expected": v}]}  kwargs, tolerance may be left out
    {"style": "asserts", "tests": SOURCE, "entry_point": "f" or None, "setup": SOURCE}
    {"style": "stdio", "cases": [{"input": TEXT, "output": TEXT}], "checker": "lines"}
    {"style": "pytest", "tests": SOURCE, "module": "solution"}

`task.metadata["code_prefix"]`, where present, is the prompt that an answer continues (HumanEval).
A case's `output` may be a list of texts, any of which is right; `checker` is one of
`rlvr.verifiers.checkers`, or a program (`rlvr.verifiers.checker_program`).

What is expected never enters the interpreter that runs the answer. There, in one sandbox, the
answer is loaded and its functions are called with one test's plain arguments at a time. What comes
back, decoded and plain, is compared here (`calls`), or by the tests, which run in another sandbox
where a stand-in makes those calls. So an object that equals everything, an early exit with code 0,
or a printed token is only a wrong answer. The few tests that cannot be kept apart from the answer
(`rlvr.verifiers.code_integrity`) are refused, unless `allow_weak_integrity` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlvr import registry
from rlvr.errors import ConfigError, SandboxError, VerifierError
from rlvr.sandbox.languages import Program
from rlvr.sandbox.limits import Limits
from rlvr.sandbox.pool import SlotPool
from rlvr.sandbox.slot import MachineBusy
from rlvr.types import Completion, Outcome, Task, Verdict
from rlvr.verifiers.base import Verifier, verifier
from rlvr.verifiers.code_answer import checked, suite_spec
from rlvr.verifiers.code_calls import run_calls
from rlvr.verifiers.code_extraction import extract_code, join_prefix
from rlvr.verifiers.code_integrity import needs_of
from rlvr.verifiers.code_places import Suite, run_here, run_there
from rlvr.verifiers.code_results import Tally, one_line
from rlvr.verifiers.code_sandboxes import (
    answers_sandbox,
    trusted_sandbox,
)
from rlvr.verifiers.code_stdio import checker_of, run_cases
from rlvr.verifiers.pool_wire import before_the_deadline


@verifier("python_code")
@dataclass(frozen=True, kw_only=True)
class PythonCodeVerifier(Verifier):
    """Runs Python answers against tests in a sandbox.

    Attributes:
        timeout: processor seconds for one program: a suite of calls as a whole, or one stdio case.
            By the clock it may take three times as long and two seconds more, since a loaded
            machine is not the program's doing.
        memory_mb: MiB of memory for one program and all that it starts.
        partial: reward the fraction of tests that pass; otherwise all must pass.
        early_stop: stop at the first stdio case that fails, where all must pass; `tests_passed` is
            then how many passed before it. With `partial` every case is run.
        sandbox: name of the sandbox that runs programs.
        sandbox_options: its options, such as `python_path` of `local`.
        allow_weaker: run even where the machine cannot isolate programs. Only for answers that you
            trust.
        allow_weak_integrity: run tests that cannot be kept apart from the answer in the answer's
            own interpreter, where a hostile answer can make them pass. The verdict says so.
    """

    timeout: float = 5.0
    memory_mb: int = 512
    partial: bool = False
    early_stop: bool = True
    sandbox: str = "local"
    sandbox_options: Mapping[str, Any] = field(default_factory=dict)
    allow_weaker: bool = False
    allow_weak_integrity: bool = False

    def __post_init__(self) -> None:
        for name in ("timeout", "memory_mb"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ConfigError(
                    f"verifier {self.name!r}: {name} is {value!r}: expected a number above 0"
                )
        factory = registry.sandboxes.get(self.sandbox)
        registry.check_options(factory, self._options, f"sandbox {self.sandbox!r}")

    def judge(self, task: Task, completion: Completion) -> Verdict:
        """Find the code, run the tests, say what became of them.

        Raises:
            VerifierError: the answer key is malformed, or the tests are broken or empty.
            SandboxError: the sandbox cannot run here, or failed twice.
        """
        answer = checked(task.answer)
        entry_point = answer.get("entry_point")
        found = extract_code(completion.text, entry_point)
        if found is None:
            return Verdict.wrong("the answer holds no code", Outcome.NO_ANSWER)
        prefix = str(task.metadata.get("code_prefix") or "")
        code = join_prefix(found, prefix, entry_point)
        if answer["style"] == "stdio":
            tally = self._run_cases(code, answer)
        elif answer["style"] == "calls":
            tally = run_calls(self._answers(), code, answer, self.limits)
        else:
            tally = self._run_suite(code, answer, prefix)
        return self._verdict(tally, found, answer["style"], "python")

    @property
    def limits(self) -> Limits:
        """What one program may use.

        It ends before the pool's deadline does, so that a program that never ends is a time-out of
        its own, and not a verifier that gave no verdict.
        """
        return Limits(
            cpu_seconds=self.timeout,
            wall_seconds=3 * self.timeout + 2,
            clock_seconds=before_the_deadline(4 * (3 * self.timeout + 2), spare=0.3),
            memory_bytes=int(self.memory_mb) << 20,
        )

    @property
    def _options(self) -> dict[str, Any]:
        weaker = {"allow_weaker": True} if self.allow_weaker else {}
        return {**self.sandbox_options, **weaker}

    def _answers(self) -> Any:
        return answers_sandbox(self.sandbox, self._options)

    def _verdict(self, tally: Tally, code: str, style: str, language: str) -> Verdict:
        if tally.total < 1:
            raise VerifierError("the tests check nothing: expected at least one test")
        weak = tally.facts.get("integrity") == "weak"
        metrics = {"tests_passed": float(tally.passed), "tests_total": float(tally.total)}
        fields: dict[str, Any] = {
            "extracted": code,
            "metrics": {**metrics, "weak_integrity": 1.0} if weak else metrics,
            "details": {
                "language": language, "style": style, "integrity": "strong", **tally.details()
            },
        }  # fmt: skip
        if tally.outcome is None and tally.passed == tally.total:
            return Verdict.correct(f"{tally.total} of {tally.total} tests pass", **fields)
        reason = f"{tally.passed} of {tally.total} tests pass; {one_line(tally.reason)}"
        if self.partial and tally.share > 0:
            return Verdict(reward=tally.share, outcome=Outcome.PARTIAL, reason=reason, **fields)
        outcome = tally.outcome or Outcome.INCORRECT
        if outcome is Outcome.PARTIAL:  # some of a test's points, where all are asked for
            outcome = Outcome.INCORRECT
        return Verdict.wrong(reason, outcome, **fields)

    def _run_cases(self, program: str | Program, answer: Mapping[str, Any]) -> Tally:
        """Programs that read and write: each case in a process of its own."""
        checker, cases = checker_of(answer), answer["cases"]
        inputs = [case["input"].encode() for case in cases]
        sandbox = self._answers()
        if isinstance(sandbox, SlotPool):
            results = sandbox.run_each(program, inputs, lambda: self.limits)
        else:
            results = sandbox.run_each(program, inputs, self.limits)
        stop = self.early_stop and not self.partial
        return run_cases(
            results, cases, checker, lambda: trusted_sandbox(self.sandbox, self._options), stop
        )

    def _run_suite(self, code: str, answer: Mapping[str, Any], prefix: str) -> Tally:
        """Tests in Python, which call functions."""
        needs = needs_of(answer)
        if needs.one_interpreter is not None:
            self._check_weak(needs.one_interpreter)

        def suite() -> Suite:
            limits = self.limits
            return Suite(
                code=code,
                spec={**suite_spec(answer), "style": answer["style"], "prefix": prefix},
                packages=needs.packages,
                weak=needs.one_interpreter is not None,
                limits=limits,
                tester_seconds=before_the_deadline(limits.wall_seconds + 5, spare=0.15),
            )

        sandbox = self._answers()
        if not isinstance(sandbox, SlotPool):
            return run_there(sandbox, self.sandbox, suite())
        try:
            return run_here(sandbox, self.sandbox, self._options, suite())
        except MachineBusy:
            raise  # more work would not help
        except SandboxError:  # our infrastructure gets one more try
            return run_here(sandbox, self.sandbox, self._options, suite())

    def _check_weak(self, why: str) -> None:
        if not self.allow_weak_integrity:
            raise VerifierError(
                f"the tests cannot be kept apart from the answer: {why}; with "
                "allow_weak_integrity=true they run in the answer's interpreter, where a hostile "
                "answer can make them pass"
            )


__all__ = ["PythonCodeVerifier"]
