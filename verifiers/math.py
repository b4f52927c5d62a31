r"""The math verifier: a stated rule of extraction, then a comparison in tiers, each with a bound.

Nearly all answers are decided in the caller's own process, in microseconds to a few milliseconds,
by `rlvr.verifiers.equivalence`. The few that need symbolic algebra go to a worker that is killed at
its deadline; what is not settled by then is `incorrect` with a reason that begins with `undecided`,
and counted in the metric of that name. `docs/math.md` lists the rules.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from rlvr.errors import ConfigError, VerifierError, nearest
from rlvr.types import Completion, FinishReason, Outcome, Task, Verdict
from rlvr.verifiers import pool_wire
from rlvr.verifiers.base import Verifier
from rlvr.verifiers.equivalence.result import Limits, Result
from rlvr.verifiers.equivalence.strictness import PRESETS, Form, LogBase, Ratios, Strictness
from rlvr.verifiers.math_decide import decide
from rlvr.verifiers.math_extract import Extraction, extract
from rlvr.verifiers.math_written import cleaned

_MAX_SHOWN = 200
_MAX_EXTRACTED = 4000
_GRACE_SECONDS = 0.05
_QUICK = Limits()


@dataclass(frozen=True)
class MathVerifier(Verifier):
    r"""Whether the final answer of a response equals the ground truth as mathematics.

    The ground truth (`task.answer`) is a number or a text: `18`, `"\\frac{1}{2}"`, `"$x=3$"`,
    `"\\boxed{7}"`, or a GSM8K solution that ends in `#### 18`.

    Every option but the first three is one of `Strictness`, which says what it means; `None` leaves
    it as the preset has it.

    Attributes:
        timeout: seconds for one answer that takes algebra; then its worker is killed.
        preset: strictness as a data set is usually graded: `gsm8k`, `math`, `aime`,
            `olympiadbench` or `minerva`.
        last_line: an answer counts that no box, tag, `####`, label or phrase marks: a response that
            is one short answer, and the conclusion that a response ends in.
    """

    timeout: float = 3.0
    preset: str | None = None
    last_line: bool = True
    rel_tol: float | None = None
    round_to_gold: bool | None = None
    unit_missing: bool | None = None
    unit_convert: bool | None = None
    unit_mismatch: bool | None = None
    percent_bare: bool | None = None
    degrees_bare: bool | None = None
    clock_bare: bool | None = None
    decimal_comma: bool | None = None
    number_words: bool | None = None
    log_base: LogBase | None = None
    ignore_case: bool | None = None
    ratios: Ratios | None = None
    vector_style: bool | None = None
    rhs_only: bool | None = None
    solve_equations: bool | None = None
    ordered_lists: bool | None = None
    form: Form | None = None
    evaluated: bool | None = None

    name: ClassVar[str] = "math"
    worker_memory_bytes: ClassVar[int | None] = 4 << 30

    def __post_init__(self) -> None:
        number = isinstance(self.timeout, int | float) and not isinstance(self.timeout, bool)
        if not number or not 0 < self.timeout < float("inf"):
            raise ConfigError(
                f"verifier 'math': timeout is {self.timeout!r}: expected seconds above 0"
            )
        if not isinstance(self.last_line, bool):
            raise ConfigError(
                f"verifier 'math': last_line is {self.last_line!r}: expected true or false"
            )
        if self.preset is not None and self.preset not in PRESETS:
            raise ConfigError(
                f"verifier 'math': preset is {self.preset!r}: expected one of "
                f"{', '.join(PRESETS)}{nearest(str(self.preset), PRESETS)}"
            )
        object.__setattr__(self, "_strictness", self._chosen_strictness())

    def _chosen_strictness(self) -> Strictness:
        base = PRESETS[self.preset] if self.preset is not None else Strictness()
        names = {field.name for field in dataclasses.fields(Strictness)}
        chosen = {name: getattr(self, name) for name in names}
        return dataclasses.replace(
            base, **{name: value for name, value in chosen.items() if value is not None}
        )

    @property
    def strictness(self) -> Strictness:
        """What counts as equal, preset and options together."""
        strictness: Strictness = self._strictness  # type: ignore[attr-defined]
        return strictness

    @property
    def time_limit(self) -> float:
        """Seconds before a worker is killed: a little more than it allows itself."""
        return self.timeout + _GRACE_SECONDS

    def on_timeout(self, seconds: float) -> Verdict:
        """An answer can be made hard to compare on purpose: it is not paid for."""
        reason = f"undecided: not settled within {min(seconds, self.timeout):g} s"
        return Verdict.wrong(reason, metrics={"undecided": 1.0})

    def warm(self) -> None:
        """Import what the comparison needs, sympy too."""
        limits = Limits(algebra=True)
        decide("x+\\frac{1}{2}", Extraction("\\frac{2x+1}{2}", "box"), self.strictness, limits)
        import sympy  # noqa: F401  (a worker that needs it must not pay for the import)

    def verify(self, task: Task, completion: str | Completion) -> Verdict:
        """Grade one completion; where that takes algebra, in a process that can be killed."""
        if pool_wire.inside_worker:
            return super().verify(task, completion)
        from rlvr.verifiers.pool import verify_many

        return verify_many(self, [(task, completion)], workers=1, timeout=self.time_limit)[0]

    def judge_quickly(self, task: Task, completion: Completion) -> Verdict | None:
        """Decide without algebra, or not at all."""
        try:
            return self._judge(task, completion, _QUICK)
        except VerifierError as error:
            return Verdict.error(str(error))

    def judge(self, task: Task, completion: Completion) -> Verdict:
        """Decide, by algebra where nothing else does.

        Raises:
            VerifierError: the ground truth is no answer.
        """
        seconds = max(0.1, 0.9 * self.timeout)
        verdict = self._judge(task, completion, Limits(algebra=True, algebra_seconds=seconds))
        assert verdict is not None
        return verdict

    def _judge(self, task: Task, completion: Completion, limits: Limits) -> Verdict | None:
        """The verdict, or `None` where only algebra can say."""
        gold = read_gold(task.answer)
        cut_short = completion.finish_reason is FinishReason.LENGTH
        found = extract(completion.text, cut_short, self.last_line)
        if found.problem is not None:
            return Verdict.wrong(f"{found.reason} ({found.how})", found.problem)
        if len(found.text) > _MAX_EXTRACTED:
            result = Result.undecided(f"an answer of {len(found.text):,} characters")
            return _as_verdict(result, found, found.text, gold)
        result, reading = decide(gold, found, self.strictness, limits)
        if result.needs_algebra and not limits.algebra:
            return None
        return _as_verdict(result, found, reading, gold)


def read_gold(answer: Any) -> str:
    """The ground truth as a text.

    Raises:
        VerifierError: it is neither a number nor a text, or there is nothing in it.
    """
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise VerifierError(f"the ground truth is {answer!r}: expected a text or a number")
    gold, problem = _read_gold_text(answer if isinstance(answer, str) else repr(answer))
    if not gold:
        raise VerifierError(f"the ground truth is {answer!r}: expected an answer{problem}")
    return gold


@lru_cache(maxsize=4096)
def _read_gold_text(text: str) -> tuple[str, str]:
    """The answer, and what is wrong with a text that has none."""
    if "####" in text or re.search(r"\\(?:boxed|fbox)", text):
        found = extract(text)
        cut = "; it may be cut: give the whole answer, without the box"
        is_cut = found.problem is Outcome.WRONG_FORMAT
        return found.text, f", but {found.reason}{cut if is_cut else ''}" if found.reason else ""
    return cleaned(text), ""


def _as_verdict(result: Result, found: Extraction, reading: str, gold: str) -> Verdict:
    how = f"{found.how}; {result.tier}"
    shown = reading[:_MAX_SHOWN]
    if result.equal:
        return Verdict.correct(f"equal ({how})", extracted=shown, metrics={"undecided": 0.0})
    undecided = result.equal is None
    reason = result.reason or f"expected {gold[:_MAX_SHOWN]}"
    if undecided:
        reason = f"undecided: {reason}"
    metrics = {"undecided": float(undecided)}
    return Verdict.wrong(f"{reason} ({how})", extracted=shown, metrics=metrics)
