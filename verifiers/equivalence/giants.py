"""Towers and other numbers that are too large for a ball: compared by structure and logarithms.

A giant is a positive number built from positive numbers with sums, products, quotients, powers and
factorials. Two giants are different if the balls of their logarithms (or of the logarithms of
those) do not meet; powers of the same number are equal if and only if their exponents are. What
cannot be told apart that way is undecided.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from rlvr.verifiers.equivalence.exact import UndefinedError, exact_value
from rlvr.verifiers.equivalence.nodes import (
    Call,
    Constant,
    Node,
    Number,
    Operator,
    Power,
    Product,
    Quotient,
    Sum,
    walk,
)
from rlvr.verifiers.equivalence.result import INTERVAL, STRUCTURE, Limits, Result

_MAX_BASE_BITS: Final = 100
_MAX_LOGARITHMS: Final = 4
_MAX_LOGARITHM_NODES: Final = 2000
_ENTIRE: Final = frozenset(["root", "abs", "floor", "ceil", "round", "sin", "cos", "max", "min"])


def is_tower(node: Node) -> bool:
    """Whether a tree is made of positive numbers, sums, products, powers and factorials only."""
    return all(
        isinstance(part, Sum | Product | Power | Quotient)
        or (isinstance(part, Number) and part.value > 0)
        or part in (Constant("pi"), Constant("e"))
        or (isinstance(part, Call) and part.name == "factorial")
        for part in walk(node)
    )


def is_entire(node: Node) -> bool:
    """Whether a tree surely has a value: nothing in it can have a pole."""
    for part in walk(node):
        match part:
            case Quotient(_, denominator) if not is_tower(denominator):
                return False
            case Power(base, exponent) if not is_tower(base) and not (
                isinstance(exponent, Number) and exponent.value > 0
            ):
                return False
            case Constant("undefined" | "infinity") | Operator():
                return False
            case Call(name, arguments) if name not in _ENTIRE and not all(map(is_tower, arguments)):
                return False
            case Call("log" | "tan" | "cot" | "sec" | "csc"):
                return False
            case _:
                pass
    return True


def compare_giants(gold: Node, answer: Node, limits: Limits) -> Result:
    """Compare two towers; undecided where neither structure nor logarithms tell."""
    if not (is_tower(gold) and is_tower(answer)):
        return Result.undecided("not a tower")
    bases = _perfect_power(gold), _perfect_power(answer)
    if bases[0] and bases[1] and bases[0][0] == bases[1][0]:
        from rlvr.verifiers.equivalence.constants import same_constant

        inner = same_constant(bases[0][1], bases[1][1], limits)
        if inner.equal is None:
            return Result.undecided("exponents that are too close")
        return Result(inner.equal, STRUCTURE, "powers of the same number", inner.error_bound)
    first, second = gold, answer
    for _ in range(_MAX_LOGARITHMS):
        lower, other = logarithm(first), logarithm(second)
        if lower is None or other is None:
            break
        first, second = lower, other
        if sum(1 for tree in (first, second) for _ in walk(tree)) > _MAX_LOGARITHM_NODES:
            break
        if _differ(first, second, limits):
            return Result(False, INTERVAL, "the logarithms differ")
    return Result.undecided("towers that are too close")


def _differ(first: Node, second: Node, limits: Limits) -> bool:
    from rlvr.verifiers.equivalence.enclosure import Enclosure, UnsettledError, precision

    try:
        with precision(128):
            a, b = Enclosure(None, limits).value(first), Enclosure(None, limits).value(second)
            return bool(a.is_finite() and b.is_finite() and not a.overlaps(b))
    except (UnsettledError, UndefinedError):
        return False


def _perfect_power(node: Node) -> tuple[Fraction, Node] | None:
    """`9^x` as (3, 2x): the smallest base, so that exponents can be compared."""
    if not isinstance(node, Power):
        return None
    base = exact_value(node.base)
    if base is None or base <= 0 or base == 1 or base.denominator != 1:
        return None
    if base.numerator.bit_length() > _MAX_BASE_BITS:
        return base, node.exponent
    for index in range(base.numerator.bit_length(), 1, -1):
        root = exact_value(Call("root", (Number(base), Number(Fraction(index)))))
        if root is not None:
            return root, Product((Number(Fraction(index)), node.exponent))
    return base, node.exponent


def logarithm(node: Node) -> Node | None:
    """The logarithm of a giant, with the outermost operation resolved; None if that is no use."""
    match node:
        case Power(base, exponent):
            inner = logarithm(base)
            return None if inner is None else Product((exponent, inner))
        case Product(factors):
            parts = [logarithm(factor) for factor in factors]
            found = tuple(part for part in parts if part is not None)
            return Sum(found) if len(found) == len(parts) else None
        case Number() | Constant():
            return Call("ln", (node,))
        case Call("ln", _):
            return Call("ln", (node,))
        case Sum(terms):
            # A sum of giants of different size: only its largest term matters, which a ball
            # cannot tell; the logarithm of a sum is left to the ball.
            return Call("ln", (Sum(terms),))
        case _:
            return None
