"""Where a suite of tests in Python runs: in sandboxes of this machine, or on a service of one.

The same `Suite` goes either way, and the same `Tally` comes back. On the service the tests do not
meet the answer either: the process that answers requests drives two sandboxes, as it is done here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlvr.errors import ConfigError, SandboxError, VerifierError
from rlvr.sandbox.limits import Limits
from rlvr.sandbox.pool import SlotPool
from rlvr.types import Outcome
from rlvr.verifiers.code_results import Tally
from rlvr.verifiers.code_sandboxes import trusted_sandbox, weak_sandbox, with_packages
from rlvr.verifiers.code_suites import marks, run_suite, run_weak_suite, tester_limits

if TYPE_CHECKING:  # a service needs more packages than a verifier
    from rlvr.sandbox.service.core import Service
    from rlvr.sandbox.service.schema import SuiteRequest
    from rlvr.sandbox.service.suites import Suites


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """Tests in Python, and the answer that they are for.

    Attributes:
        code: the answer.
        spec: what the tester reads (`rlvr.sandbox.guest.tester`).
        packages: modules outside the standard library that the tests import.
        weak: whether the tests run in the answer's own interpreter.
        limits: for the answer.
        tester_seconds: by the clock, for the tests.
    """

    code: str
    spec: Mapping[str, Any]
    packages: tuple[str, ...]
    weak: bool
    limits: Limits
    tester_seconds: float


def run_here(answers: SlotPool, name: str, options: Mapping[str, Any], suite: Suite) -> Tally:
    """Run a suite on this machine.

    Args:
        answers: where the answer is loaded.
        name: of the sandbox, for the tests' own.
        options: its options.
        suite: the tests and the answer.

    Raises:
        VerifierError: the tests are at fault.
        SandboxError: the machinery failed.
    """
    options = with_packages(name, options, suite.packages)
    if suite.weak:
        pool = weak_sandbox(name, options)
        tally = run_weak_suite(pool, suite.code, suite.spec, suite.limits)
        return dataclasses.replace(tally, facts={**tally.facts, "integrity": "weak"})
    tester = trusted_sandbox(name, options)
    limits = tester_limits(suite.limits, suite.tester_seconds)
    return run_suite(answers, tester, suite.code, suite.spec, suite.limits, limits)


def run_there(sandbox: Any, name: str, suite: Suite) -> Tally:
    """Run a suite on a service.

    Args:
        sandbox: `rlvr.sandbox.remote`, or what does the same.
        name: of it.
        suite: the tests and the answer.

    Raises:
        ConfigError: it does not.
        VerifierError: the tests are at fault.
        SandboxError: the service could not be reached, or failed, until the time was up.
    """
    if not hasattr(sandbox, "run_suite"):
        style = suite.spec["style"]
        raise ConfigError(f"sandbox {name!r} cannot run tests of style {style!r}: use another")
    found = sandbox.run_suite(
        suite.code,
        suite.spec,
        packages=suite.packages,
        weak=suite.weak,
        limits=suite.limits,
        tester_seconds=suite.tester_seconds,
    )
    try:
        if found.get("fault") is not None:
            raise VerifierError(str(found["fault"]))
        return Tally(
            passed=int(found["passed"]),
            total=int(found["total"]),
            outcome=None if found["outcome"] is None else Outcome(found["outcome"]),
            reason=str(found["reason"]),
            tests=marks(found["passes"]),
            facts=dict(found["facts"]),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise SandboxError(
            f"sandbox {name!r}: what the service says of a suite cannot be read: {error!r}"
        ) from error


def make_suites(name: str, options: Mapping[str, Any]) -> Suites:
    """What runs suites on a service, in the same sandbox that it has.

    Args:
        name: of its sandbox.
        options: its options.
    """

    def run(service: Service, request: SuiteRequest) -> dict[str, Any]:
        suite = Suite(
            code=request.text("source"),
            spec={
                "style": request.style,
                "tests": request.text("tests"),
                "setup": request.text("setup"),
                "prefix": request.text("prefix"),
                "entry_point": request.entry_point,
                "module": request.module,
            },
            packages=tuple(request.packages),
            weak=request.weak,
            limits=service.limits(request.limits),
            tester_seconds=request.tester_seconds,
        )
        service.check(tester_limits(suite.limits, suite.tester_seconds))
        try:
            tally = run_here(service.sandbox, name, options, suite)
        except VerifierError as error:
            return {"fault": str(error)}
        return {
            "passed": tally.passed,
            "total": tally.total,
            "outcome": None if tally.outcome is None else tally.outcome.value,
            "reason": tally.reason,
            "passes": [test.verdict is Outcome.CORRECT for test in tally.tests],
            "facts": dict(tally.facts),
        }

    return run


__all__ = ["Suite", "make_suites", "run_here", "run_there"]
