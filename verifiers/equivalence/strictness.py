"""What counts as equal where people disagree: `Strictness`, and `PRESETS` for usual data sets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from rlvr.errors import ConfigError

Form = Literal["any", "simplified", "factored", "no_evaluation"]
LogBase = Literal["e", "10", "either"]
Ratios = Literal["exact", "scaled", "fraction"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "form": ("any", "simplified", "factored", "no_evaluation"),
    "log_base": ("e", "10", "either"),
    "ratios": ("exact", "scaled", "fraction"),
}


@dataclass(frozen=True, slots=True)
class Strictness:
    r"""What counts as equal. The defaults accept what says the same, and never an approximation.

    Attributes:
        rel_tol: a numeric answer may be off by this fraction of the ground truth; 0 is exact.
            Policy `approx:exact-gold-decimal-pred`: refused at 0.
        round_to_gold: a ground truth with decimals (`0.67`) accepts what rounds to it (`2/3`).
            Policy `approx:decimal-gold-rounds`: accepted where True.
        unit_missing: a unit may be missing on one side: `12` for `12 cm`.
        unit_convert: `0.12 m` is `12 cm`. Policy `unit-convert`: accepted where True.
        unit_mismatch: another unit with the same number is accepted: `12 m` for `12 cm`.
            Policy `unit-mismatch`: refused where False.
        percent_bare: the sign may be missing without a change of the number: `60` for `60%`.
            (`0.6` is always `60%`.) Policy `percent-bare`: accepted where True.
        degrees_bare: `30` for `30^\circ`, and `\frac{\pi}{6}` too.
        clock_bare: `16:30` and `4:30` for `4:30 p.m.`. Policy `24h-clock`: accepted where True.
        decimal_comma: `3,14` is a number, and `1.234,5` too. Policy `decimal-comma`: accepted
            where True.
        number_words: `seven` is `7`. Policy `number-words`: accepted where True.
        log_base: what `\log` without a base means; `either` accepts both readings, the same one
            for both sides. Policy `log-base`: accepted with `either`.
        ignore_case: `p = 3` for `P = 3`, `a` for `A`. Policy `case`: accepted where True.
        ratios: `exact` (`1:2`), `scaled` (`2:4` is `1:2`) or `fraction` (and `1/2`, too).
            Policy `ratio-fraction`: accepted with `fraction`.
        vector_style: a column, a row, `(1,2)`, `\langle1,2\rangle` and `i+2j` are one vector.
            Policy `vector-style`: accepted where True.
        rhs_only: `2x+3` for `y=2x+3`. (`7` for `x=7` is always accepted, and the value of a
            formula or function: `2x` for `f(x)=2x`.) Policy `rhs-only`: accepted where True.
        solve_equations: all solutions for an equation in one unknown: `x=1 or x=2` for
            `(x-1)(x-2)=0`. Policy `equation-vs-solution`: accepted where True.
        ordered_lists: the order of a list without brackets counts.
        form: `any`; `simplified`: no fraction that can be reduced, nothing left to compute;
            `factored`: at least as many factors as the ground truth has; `no_evaluation`: written
            alike, up to notation.
        evaluated: where the ground truth is a plain number, so must the answer be: what the problem
            asks to compute (`\sum`, `\binom{5}{2}`, `3 \cdot 7`) is refused.
    """

    rel_tol: float = 0.0
    round_to_gold: bool = False
    unit_missing: bool = True
    unit_convert: bool = True
    unit_mismatch: bool = False
    percent_bare: bool = True
    degrees_bare: bool = True
    clock_bare: bool = True
    decimal_comma: bool = False
    number_words: bool = True
    log_base: LogBase = "either"
    ignore_case: bool = False
    ratios: Ratios = "scaled"
    vector_style: bool = True
    rhs_only: bool = True
    solve_equations: bool = False
    ordered_lists: bool = False
    form: Form = "any"
    evaluated: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            allowed = _CHOICES.get(field.name)
            if allowed is not None:
                if value not in allowed:
                    raise ConfigError(
                        f"strictness: {field.name} is {value!r}: expected one of {allowed}"
                    )
            elif field.name == "rel_tol":
                number = isinstance(value, int | float) and not isinstance(value, bool)
                if not number or not 0 <= value < 1:
                    raise ConfigError(
                        f"strictness: rel_tol is {value!r}: expected a number from 0 to below 1"
                    )
            elif not isinstance(value, bool):
                raise ConfigError(f"strictness: {field.name} is {value!r}: expected True or False")


DEFAULT = Strictness()

# Which option each policy of the labelled pairs names.
POLICIES: dict[str, Strictness] = {
    "approx:exact-gold-decimal-pred": Strictness(rel_tol=0.0),
    "approx:decimal-gold-rounds": Strictness(round_to_gold=True),
    "vector-style": Strictness(vector_style=True),
    "number-words": Strictness(number_words=True),
    "unit-mismatch": Strictness(unit_mismatch=False),
    "unit-convert": Strictness(unit_convert=True),
    "rhs-only": Strictness(rhs_only=True),
    "24h-clock": Strictness(clock_bare=True),
    "decimal-comma": Strictness(decimal_comma=True),
    "log-base": Strictness(log_base="either"),
    "case": Strictness(ignore_case=True),
    "ratio-fraction": Strictness(ratios="fraction"),
    "percent-bare": Strictness(percent_bare=True),
    "equation-vs-solution": Strictness(solve_equations=True),
}

PRESETS: dict[str, Strictness] = {
    # One number, often with a unit or a currency; `number_words` as people answer in prose.
    "gsm8k": Strictness(),
    # The problem says which form it wants; graders of MATH accept every equal form.
    "math": Strictness(),
    # Integers from 0 to 999: what is left to compute is no answer.
    "aime": Strictness(evaluated=True, number_words=False, unit_convert=False),
    # Its own grader compares numbers to 1e-8, and a solution for an equation.
    "olympiadbench": Strictness(rel_tol=1e-8, solve_equations=True),
    # Physics and chemistry with measured values: a percent off is right.
    "minerva": Strictness(rel_tol=0.01, round_to_gold=True),
}
