"""The last tier: sympy. Slow and unbounded; only for a process that can be killed.

Trees are converted to sympy node by node; no text is parsed there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rlvr.verifiers.equivalence.nodes import (
    Apply,
    Call,
    Constant,
    Negative,
    Node,
    Number,
    Operator,
    Power,
    Product,
    Quotient,
    Sum,
    Symbol,
)
from rlvr.verifiers.equivalence.result import ALGEBRA, Limits, Result


class _NoSympyError(Exception):
    """Something that has no counterpart in sympy here."""


def same_by_algebra(gold: Node, answer: Node, limits: Limits) -> Result:
    """Whether sympy shows that two expressions are equal, or that they are not.

    It may take very long. `limits.algebra_seconds` is for the caller that kills the process.
    """
    import sympy

    try:
        first, second = to_sympy(gold), to_sympy(answer)
        difference = sympy.simplify((first - second).doit())
    except (_NoSympyError, ArithmeticError, ValueError, TypeError, AttributeError) as error:
        return Result.undecided(f"algebra: {type(error).__name__}")
    except (NotImplementedError, RecursionError, MemoryError) as error:
        return Result.undecided(f"algebra: {type(error).__name__}")
    if difference == 0:
        return Result(True, ALGEBRA, "the difference simplifies to zero")
    bad = (sympy.nan, sympy.zoo, sympy.oo, -sympy.oo)
    if difference.has(*bad):
        return Result(False, ALGEBRA, "undefined")
    try:
        zero = difference.equals(0)
    except Exception as error:  # sympy raises anything; nothing is concluded from it
        return Result.undecided(f"algebra: {type(error).__name__}")
    if zero:
        return Result(True, ALGEBRA, "the difference is zero")
    if zero is False and difference.is_number:
        return Result(False, ALGEBRA, "the difference is not zero")
    return Result.undecided("algebra did not settle it")


def to_sympy(node: Node) -> Any:
    """The sympy expression of a tree."""
    import sympy

    match node:
        case Number(value):
            return sympy.Rational(value.numerator, value.denominator)
        case Symbol(name):
            return sympy.Symbol(name)
        case Constant(name):
            known = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "infinity": sympy.oo}
            return known.get(name, sympy.nan)
        case Negative(operand):
            return -to_sympy(operand)
        case Sum(terms):
            return sympy.Add(*map(to_sympy, terms))
        case Product(factors):
            return sympy.Mul(*map(to_sympy, factors))
        case Quotient(above, below):
            return to_sympy(above) / to_sympy(below)
        case Power(base, exponent):
            return _power(to_sympy(base), to_sympy(exponent))
        case Apply(name, arguments):
            return sympy.Function(name)(*map(to_sympy, arguments))
        case Call(name, arguments):
            return _call(name, [to_sympy(argument) for argument in arguments])
        case Operator():
            return _operator(node)


def _power(base: Any, exponent: Any) -> Any:
    if exponent.is_Integer and abs(exponent) > 100_000:
        raise _NoSympyError("a large exponent")
    return base**exponent


def _call(name: str, a: list[Any]) -> Any:
    import sympy

    special: dict[str, Callable[[], Any]] = {
        "root": lambda: sympy.real_root(*a) if a[0].is_number else sympy.root(*a),
        "degrees": lambda: a[0] * sympy.pi / 180,
        "round": lambda: sympy.floor(a[0] + sympy.Rational(1, 2)),
        "permutations": lambda: sympy.ff(*a),
    }
    if name in special:
        return special[name]()
    function = getattr(sympy, _NAMES.get(name, name), None)
    if function is None or (name == "factorial" and a[0].is_Integer and a[0] > 10_000):
        raise _NoSympyError(name)
    return function(*a)


_NAMES: Final = {
    "ln": "log",
    "abs": "Abs",
    "ceil": "ceiling",
    "double_factorial": "factorial2",
    "mod": "Mod",
    "max": "Max",
    "min": "Min",
}


def _operator(node: Operator) -> Any:
    import sympy

    variable = sympy.Symbol(node.variable)
    body = to_sympy(node.body)
    lower = None if node.lower is None else to_sympy(node.lower)
    upper = None if node.upper is None else to_sympy(node.upper)
    if node.kind == "sum":
        return sympy.Sum(body, (variable, lower, upper))
    if node.kind == "product":
        return sympy.Product(body, (variable, lower, upper))
    if node.kind == "derivative":
        return sympy.Derivative(body, (variable, upper))
    if node.kind == "integral":
        bounds = (variable, lower, upper) if lower is not None else variable
        return sympy.Integral(body, bounds)
    side = {"limit+": "+", "limit-": "-"}.get(node.kind, "+-")
    return sympy.limit(body, variable, lower, side)
