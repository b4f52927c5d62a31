r"""The symbolic tier: math-verify's LaTeX parser and sympy, behind limits.

Runs only in a worker process that can be killed. Whole answers are parsed or refused: never a
fragment. Constants are compared to 30 digits; expressions at exact random points, then by
`simplify`; equations up to a constant factor; sets, intervals and inequalities by math-verify.
"""

from __future__ import annotations

import logging
import random
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rlvr.verifiers.math_normal import balanced, to_latex

_MAX_CHARS = 600
_MAX_DEPTH = 20
_MAX_DIGITS = 1000
_MAX_EXPONENT_DIGITS = 5
_MAX_FACTORIAL_DIGITS = 4
_POINTS = 4
_AGAIN_SECONDS = 0.1
_DIGITS = 30
_TOLERANCE = 1e-25
_TOWER = re.compile(r"\^\s*\d+\s*\^|\^\{[^{}]*\d\s*\^\s*\{?\s*\d")
_COMMAND = re.compile(r"\\(?:begin|end)\{[a-z]*\}|\\(?!text)[A-Za-z]+")
_FREE_WORD = re.compile(r"\\text|[A-Za-z]{5,}")


class OutOfTime(BaseException):
    """Algebra took too long. Not an `Exception`, so that nothing on the way catches it."""


class Undecided(Exception):
    """An answer that is not compared: too large, or not understood whole. The message says why."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block after `seconds`, where this is the main thread of a process.

    It works between two steps of the interpreter; what takes longer than that is stopped by the
    deadline of `verify_many`, from outside.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    running = True

    def stop(*_: object) -> None:
        if running:
            raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    # Again and again: an exception is lost where it meets a destructor or a garbage collection.
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
    try:
        yield
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def warm() -> None:
    """Import the parser and sympy, and build the parser's tables."""
    equivalent("x+\\frac{1}{2}", "\\frac{1}{2}+x")


def equivalent(gold: str, answer: str) -> bool:
    """Whether two normalised answers are the same by algebra.

    Raises:
        Undecided: one of them is too large or is not understood.
    """
    left, right = _parse(gold), _parse(answer)
    return _same(left, right)


def check_size(text: str) -> None:
    """Refuse what could take unbounded time before any algebra is done.

    Raises:
        Undecided: with the limit that was passed.
    """
    if len(text) > _MAX_CHARS:
        raise Undecided(f"longer than {_MAX_CHARS} characters")
    if not balanced(text.replace("\\{", "").replace("\\}", "")):
        raise Undecided("its brackets do not close")
    depth = deepest = 0
    for mark in re.findall(r"[{}()\[\]]", text):
        depth += 1 if mark in "{([" else -1
        deepest = max(deepest, depth)
    if deepest > _MAX_DEPTH:
        raise Undecided(f"nested deeper than {_MAX_DEPTH}")
    if any(len(digits) > _MAX_DIGITS for digits in re.findall(r"\d+", text)):
        raise Undecided(f"a number of more than {_MAX_DIGITS} digits")
    if any(len(d) > _MAX_EXPONENT_DIGITS for d in re.findall(r"\^\s*\{?\s*-?(\d+)", text)):
        raise Undecided(f"an exponent of more than {_MAX_EXPONENT_DIGITS} digits")
    if _TOWER.search(text):
        raise Undecided("a tower of exponents")
    if any(len(d) > _MAX_FACTORIAL_DIGITS for d in re.findall(r"(\d+)\s*!", text)):
        raise Undecided(f"a factorial of more than {_MAX_FACTORIAL_DIGITS} digits")
    if re.search(r"!\s*[!)}]|[)}]\s*!", text):
        raise Undecided("a factorial of an expression")


def _parse(text: str) -> Any:
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy

    latex = to_latex(text)
    check_size(latex)
    if _FREE_WORD.search(_COMMAND.sub("", latex)):
        raise Undecided(f"words in {text[:60]!r}")
    if ":" in latex:  # the parser would divide
        raise Undecided(f"a ratio or a time in {text[:60]!r}")
    if re.search(r"[\d)]_\{?\d", latex):  # the parser would drop the base
        raise Undecided(f"a number base in {text[:60]!r}")
    if "\\approx" in latex:
        raise Undecided(f"an approximation in {text[:60]!r}")
    if re.search(r"\\frac\{(?:d|\\partial)\b|\\frac\{d[a-z]?\}", latex):
        raise Undecided(f"a derivative in {text[:60]!r}")
    try:
        return latex2sympy(latex, conversion_config=ConversionConfig(lowercase_symbols=False))
    except Exception as error:
        raise Undecided(f"not understood: {text[:60]!r}") from error


def _same(left: Any, right: Any) -> bool:
    import sympy

    if isinstance(left, sympy.Eq) and isinstance(right, sympy.Eq):
        return _same_equation(left, right)
    if isinstance(left, sympy.MatrixBase) and isinstance(right, sympy.MatrixBase):
        return left.shape == right.shape and all(
            _same(a, b) for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr):
        return _same_expression(left, right)
    if isinstance(left, sympy.Eq) or isinstance(right, sympy.Eq):
        return False
    return _same_by_math_verify(left, right)


def _same_equation(left: Any, right: Any) -> bool:
    """Two equations have the same solutions where one is a constant, not 0, times the other."""
    import sympy

    if not all(isinstance(side, sympy.Expr) for side in (*left.args, *right.args)):
        return _same_by_math_verify(left, right)
    first, second = left.lhs - left.rhs, right.lhs - right.rhs
    if first.free_symbols != second.free_symbols or not first.free_symbols:
        return False
    ratio = sympy.cancel(sympy.together(first / second))
    return not ratio.free_symbols and ratio.is_finite is not False and ratio != 0


def _same_expression(left: Any, right: Any) -> bool:
    import sympy

    left, right = (_exact(_constants(side)).doit() for side in (left, right))
    if left == right:
        return True
    if left.free_symbols != right.free_symbols:
        return False
    if not left.free_symbols:
        return _close(left, right)
    symbols = sorted(left.free_symbols, key=str)
    generator = random.Random(0)
    for _ in range(_POINTS):
        point = {
            symbol: sympy.Rational(generator.randint(2, 999), generator.randint(2, 999))
            for symbol in symbols
        }
        if not _close(left.subs(point), right.subs(point)):
            return False
    return True


def _close(left: Any, right: Any) -> bool:
    """Whether two constants agree to 25 digits, relative to their size."""
    import sympy

    if any(side.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo) for side in (left, right)):
        return bool(left == right)
    if left.is_Rational and right.is_Rational:
        return bool(left == right)
    difference = sympy.Abs(sympy.N(left - right, _DIGITS, maxn=200))
    size = sympy.Abs(sympy.N(right, _DIGITS, maxn=200))
    if not (difference.is_number and difference.is_finite and size.is_finite):
        raise Undecided("a value that cannot be computed")
    return bool(difference <= _TOLERANCE * size) or (size == 0 and bool(difference == 0))


def _exact(expression: Any) -> Any:
    """Decimals are exact: 0.2 is 1/5."""
    import sympy

    decimals = expression.atoms(sympy.Float)
    return expression.xreplace({value: sympy.Rational(str(value)) for value in decimals})


def _constants(expression: Any) -> Any:
    import sympy

    return expression.xreplace({sympy.Symbol("e"): sympy.E, sympy.Symbol("i"): sympy.I})


def _same_by_math_verify(left: Any, right: Any) -> bool:
    from math_verify import verify

    logging.getLogger("math_verify").setLevel(
        logging.ERROR
    )  # it warns that nothing stops it: we do
    return bool(verify(left, right, timeout_seconds=None, allow_set_relation_comp=True))
