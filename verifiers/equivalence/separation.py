r"""When an algebraic number is zero: a bound below which only zero lies.

For a number built from integers with `+ - * /` and roots, Burnikel, Funke, Mehlhorn, Schirra and
Schmitt ("A separation bound for real algebraic expressions", ESA 2001) give `u`, `l` and `D` with:
either the value is 0 or its absolute value is at least 1 / (l u^(D-1)). `u` and `l` bound the
conjugates of a numerator and a denominator that are algebraic integers, and `D` the degree. The
bound holds for complex values as well. Sines and cosines of rational multiples of pi are halves of
sums of roots of unity, which are algebraic integers with all conjugates on the unit circle; all
those of an expression lie in one cyclotomic field.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

from rlvr.verifiers.equivalence.exact import UndefinedError, exact_value
from rlvr.verifiers.equivalence.nodes import (
    Call,
    Constant,
    Negative,
    Node,
    Number,
    Power,
    Product,
    Quotient,
    Sum,
)

_MAX_ORDER: Final = 100_000
# Binary logarithms of u and l of a trigonometric function of a rational multiple of pi.
_TRIGONOMETRIC: Final = {
    "sin": (1.0, 1.0),
    "cos": (1.0, 1.0),
    "tan": (1.0, 1.0),
    "cot": (1.0, 1.0),
    "sec": (1.0, 1.0),
    "csc": (1.0, 1.0),
}


class _Transcendental(Exception):
    """The expression is not known to be algebraic."""


def separation_bits(*nodes: Node) -> float | None:
    """Bits b such that the difference of two constants is 0 or above 2^-b; None if unknown.

    One node alone is compared with zero.
    """
    bound = _Bound()
    try:
        u, low = bound.of(nodes[0])
        for node in nodes[1:]:
            u, low = _added((u, low), bound.of(node))
    except (_Transcendental, UndefinedError):
        return None
    degree = bound.degree()
    return (degree - 1) * max(u, 0.0) + max(low, 0.0) + 1


def _log2(n: int) -> float:
    return math.log2(n) if n > 1 else 0.0


def _added(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return max(a[0] + b[1], a[1] + b[0]) + 1, a[1] + b[1]


class _Bound:
    """Walks a tree; collects the radicals and the roots of unity that set the degree."""

    def __init__(self) -> None:
        self.radicals: dict[tuple[Node, int], None] = {}
        self.order = 1

    def degree(self) -> float:
        degree = 1.0
        for _, index in self.radicals:
            degree *= index
        return min(degree * _totient(self.order), 1e12)

    def of(self, node: Node) -> tuple[float, float]:
        match node:
            case Number(value):
                return _log2(value.numerator), _log2(value.denominator)
            case Negative(operand):
                return self.of(operand)
            case Sum(terms):
                total = self.of(terms[0])
                for term in terms[1:]:
                    total = _added(total, self.of(term))
                return total
            case Product(factors):
                pairs = [self.of(factor) for factor in factors]
                return sum(u for u, _ in pairs), sum(low for _, low in pairs)
            case Quotient(numerator, denominator):
                above, below = self.of(numerator), self.of(denominator)
                return above[0] + below[1], above[1] + below[0]
            case Power(base, exponent):
                return self._power(base, exponent)
            case Constant("i"):
                self.order = math.lcm(self.order, 4)
                return 0.0, 0.0
            case Call(name, arguments):
                return self._call(name, arguments)
            case _:
                raise _Transcendental

    def _power(self, base: Node, exponent: Node) -> tuple[float, float]:
        if base == Constant("e"):
            return self._root_of_unity(exponent)
        power = exact_value(exponent)
        if power is None or abs(power.numerator) > 1000:
            raise _Transcendental
        u, low = self._root(base, power.denominator) if power.denominator > 1 else self.of(base)
        n = abs(power.numerator)
        return (u * n, low * n) if power >= 0 else (low * n, u * n)

    def _root_of_unity(self, exponent: Node) -> tuple[float, float]:
        match exponent:
            case Negative(operand):
                return self._root_of_unity(operand)
            case Product(factors) if Constant("i") in factors:
                rest = list(factors)
                rest.remove(Constant("i"))
                turn = pi_multiple(Product(tuple(rest)))
            case Quotient(Product(factors), below) if Constant("i") in factors:
                rest = list(factors)
                rest.remove(Constant("i"))
                turn = pi_multiple(Quotient(Product(tuple(rest)), below))
            case _:
                turn = None
        if turn is None:
            raise _Transcendental
        self._turned(turn)
        return 0.0, 0.0

    def _turned(self, turn: Fraction) -> None:
        # Cosine and sine of r pi lie in the field of the roots of unity of order 4 * 2q.
        self.order = math.lcm(self.order, 4, 2 * turn.denominator)
        if self.order > _MAX_ORDER:
            raise _Transcendental

    def _root(self, radicand: Node, index: int) -> tuple[float, float]:
        if index > 1000:
            raise _Transcendental
        u, low = self.of(radicand)
        self.radicals[radicand, index] = None
        if u >= low:
            return (u + (index - 1) * low) / index, low
        return u, ((index - 1) * u + low) / index

    def _call(self, name: str, arguments: tuple[Node, ...]) -> tuple[float, float]:
        if name == "root":
            index = exact_value(arguments[1])
            if index is None or index.denominator != 1 or index < 1:
                raise _Transcendental
            return self._root(arguments[0], index.numerator)
        if name in _TRIGONOMETRIC:
            turn = pi_multiple(arguments[0])
            if turn is None:
                raise _Transcendental
            self._turned(turn)
            return _TRIGONOMETRIC[name]
        number = exact_value(Call(name, arguments))
        if number is None:
            raise _Transcendental
        return _log2(abs(number.numerator)), _log2(number.denominator)


def pi_multiple(node: Node) -> Fraction | None:
    """R if the node is r pi with a rational r."""
    match node:
        case Constant("pi"):
            return Fraction(1)
        case Negative(operand):
            inner = pi_multiple(operand)
            return None if inner is None else -inner
        case Call("degrees", (argument,)):
            degrees = exact_value(argument)
            return None if degrees is None else degrees / 180
        case Quotient(numerator, denominator):
            above, below = pi_multiple(numerator), exact_value(denominator)
            return None if above is None or not below else above / below
        case Product(factors):
            return _pi_product(factors)
        case Sum(terms):
            parts = [pi_multiple(term) for term in terms]
            return None if None in parts else sum((p for p in parts if p is not None), Fraction(0))
        case _:
            return Fraction(0) if exact_value(node) == 0 else None


def _pi_product(factors: tuple[Node, ...]) -> Fraction | None:
    turn: Fraction | None = None
    scale = Fraction(1)
    for factor in factors:
        number = exact_value(factor)
        if number is not None:
            scale *= number
        elif turn is None:
            turn = pi_multiple(factor)
            if turn is None:
                return None
        else:
            return None
    return None if turn is None else turn * scale


def _totient(n: int) -> int:
    result, divisor = n, 2
    while divisor * divisor <= n:
        if n % divisor == 0:
            while n % divisor == 0:
                n //= divisor
            result -= result // divisor
        divisor += 1
    return result - result // n if n > 1 else result
