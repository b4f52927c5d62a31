r"""The math verifier: extraction by a stated rule, exact arithmetic first, algebra behind limits.

What is decided without algebra (the same text, exact numbers, choices, words, lists of those) takes
microseconds and needs no process. The rest goes to math-verify's parser and sympy in a worker that
can be killed; what is not settled in time is `incorrect` with a reason that begins with
`undecided`. `docs/verifiers.md` lists the rules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from rlvr.errors import ConfigError, VerifierError
from rlvr.types import Completion, Task, Verdict
from rlvr.verifiers import pool_wire
from rlvr.verifiers.base import Verifier
from rlvr.verifiers.math_compare import Comparison, compare
from rlvr.verifiers.math_extract import Extraction, extract
from rlvr.verifiers.math_normal import normalise

_MAX_SHOWN = 200
_MAX_EXTRACTED = 4000
_GRACE_SECONDS = 0.5


@dataclass(frozen=True)
class MathVerifier(Verifier):
    r"""Whether the final answer of a response equals the ground truth as mathematics.

    The ground truth (`task.answer`) is a number or a text: `18`, `"\\frac{1}{2}"`, `"$x=3$"`,
    `"\\boxed{7}"`, or a GSM8K solution that ends in `#### 18`.

    Attributes:
        timeout: seconds of algebra for one answer.
    """

    timeout: float = 3.0

    name: ClassVar[str] = "math"
    worker_memory_bytes: ClassVar[int | None] = 4 << 30

    def __post_init__(self) -> None:
        number = isinstance(self.timeout, int | float) and not isinstance(self.timeout, bool)
        if not number or not 0 < self.timeout < float("inf"):
            raise ConfigError(
                f"verifier 'math': timeout is {self.timeout!r}: expected seconds above 0"
            )

    @property
    def time_limit(self) -> float:
        """Seconds before a worker is killed: a little more than it allows itself."""
        return self.timeout + _GRACE_SECONDS

    def on_timeout(self, seconds: float) -> Verdict:
        """An answer can be made hard to compare on purpose: it is not paid for."""
        return Verdict.wrong(f"undecided: not settled within {min(seconds, self.timeout):g} s")

    def warm(self) -> None:
        """Import sympy and the parser."""
        from rlvr.verifiers import math_symbolic

        math_symbolic.warm()

    def verify(self, task: Task, completion: str | Completion) -> Verdict:
        """Grade one completion; where that takes algebra, in a process that can be killed."""
        if pool_wire.inside_worker:
            return super().verify(task, completion)
        from rlvr.verifiers.pool import verify_many

        return verify_many(self, [(task, completion)], workers=1, timeout=self.time_limit)[0]

    def judge_quickly(self, task: Task, completion: Completion) -> Verdict | None:
        """Decide without algebra, or not at all."""
        try:
            gold = read_gold(task.answer)
        except VerifierError as error:
            return Verdict.error(str(error))
        found = extract(completion.text)
        if found.problem is not None:
            return Verdict.wrong(found.reason, found.problem)
        if len(found.text) > _MAX_EXTRACTED:
            reason = f"undecided: an answer of {len(found.text):,} characters"
            return Verdict.wrong(reason, extracted=found.text[:_MAX_SHOWN])
        comparison = compare(gold, normalise(found.text), None)
        return None if comparison is None else _as_verdict(comparison, found, gold)

    def judge(self, task: Task, completion: Completion) -> Verdict:
        """Decide, by algebra where nothing else does.

        Raises:
            VerifierError: the ground truth is no answer.
        """
        verdict = self.judge_quickly(task, completion)
        if verdict is not None:
            return verdict
        from rlvr.verifiers.math_symbolic import OutOfTime, Undecided, at_most, equivalent

        gold = read_gold(task.answer)
        found = extract(completion.text)
        try:
            with at_most(self.timeout):
                comparison = compare(gold, normalise(found.text), equivalent)
        except OutOfTime:
            reason = f"undecided: not settled within {self.timeout:g} s"
            comparison = Comparison(False, "symbolic", reason)
        except Undecided as limit:
            comparison = Comparison(False, "symbolic", f"undecided: {limit}")
        except (MemoryError, RecursionError) as error:
            comparison = Comparison(False, "symbolic", f"undecided: {type(error).__name__}")
        except Exception as error:  # sympy and its parser raise anything on strange expressions
            reason = f"undecided: {type(error).__name__}: {error}"[:_MAX_SHOWN]
            comparison = Comparison(False, "symbolic", reason)
        assert comparison is not None
        return _as_verdict(comparison, found, gold)


def read_gold(answer: Any) -> str:
    """The ground truth as a normalised text.

    Raises:
        VerifierError: it is neither a number nor a text, or there is nothing in it.
    """
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise VerifierError(f"the ground truth is {answer!r}: expected a text or a number")
    gold = _read_gold_text(answer if isinstance(answer, str) else repr(answer))
    if not gold:
        raise VerifierError(f"the ground truth is {answer!r}: expected an answer")
    return gold


@lru_cache(maxsize=4096)
def _read_gold_text(text: str) -> str:
    if "####" in text or re.search(r"\\(?:boxed|fbox)", text):
        found = extract(text)
        return normalise(found.text)
    return normalise(text)


def _as_verdict(comparison: Comparison, found: Extraction, gold: str) -> Verdict:
    how = f"{found.rule} rule, {comparison.tier}"
    shown = found.text[:_MAX_SHOWN]
    if comparison.equal:
        return Verdict.correct(f"equal ({how})", extracted=shown)
    reason = comparison.reason or f"expected {gold[:_MAX_SHOWN]}"
    return Verdict.wrong(f"{reason} ({how})", extracted=shown)
