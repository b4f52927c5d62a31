"""Approximate equality, where an option asks for it: a relative tolerance, or given decimals."""

from __future__ import annotations

from fractions import Fraction

from rlvr.verifiers.equivalence.approximate import approximate, real
from rlvr.verifiers.equivalence.nodes import (
    Negative,
    Node,
    Number,
    Power,
    Product,
    Quotient,
    Sum,
)

_MAX_EXPONENT = 400


def rational(node: Node) -> Fraction | None:
    """The exact value of a small rational expression, or None."""
    match node:
        case Number(value):
            return value
        case Negative(operand):
            inner = rational(operand)
            return None if inner is None else -inner
        case Sum(terms):
            values = [rational(term) for term in terms]
            kept = [part for part in values if part is not None]
            return sum(kept, Fraction(0)) if len(kept) == len(values) else None
        case Product(factors):
            product = Fraction(1)
            for factor in factors:
                part = rational(factor)
                if part is None:
                    return None
                product *= part
            return product
        case Quotient(numerator, denominator):
            above, below = rational(numerator), rational(denominator)
            return None if above is None or not below else above / below
        case Power(base, exponent):
            bottom, power = rational(base), rational(exponent)
            if bottom is None or power is None or power.denominator != 1:
                return None
            if abs(power) > _MAX_EXPONENT or bottom == 0 or bottom.numerator.bit_length() > 200:
                return None
            return bottom ** int(power)
        case _:
            return None


def places(node: Node) -> int | None:
    """The decimals that a number was written with; None where it has no decimal point."""
    if isinstance(node, Negative):
        node = node.operand
    return node.places if isinstance(node, Number) else None


def rounds_to(value: Node, rounded: Node) -> bool:
    """Whether a value rounds to a number, to the decimals that this is written with."""
    written = places(rounded)
    half = Fraction(1, 2 * 10 ** (written or 0))
    exact, target = rational(value), rational(rounded)
    if target is None:
        return False
    if exact is not None:
        return abs(exact - target) <= half
    rough = real(value)
    return rough is not None and abs(rough - float(target)) <= float(half) * (1 + 1e-9)


def within(gold: Node, answer: Node, rel_tol: float) -> bool:
    """Whether an answer is off by no more than a fraction of the ground truth."""
    if rel_tol <= 0:
        return False
    first, second = approximate(gold), approximate(answer)
    return first is not None and second is not None and abs(first - second) <= rel_tol * abs(first)
