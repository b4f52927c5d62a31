"""Equations and inequalities: whether two expressions are proportional."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from typing import Any, Final

from rlvr.verifiers.equivalence.exact import UndefinedError, exact_value
from rlvr.verifiers.equivalence.fields import ERROR_BOUND, Field, SingularError
from rlvr.verifiers.equivalence.identity import Kinds, same_function, sample_points
from rlvr.verifiers.equivalence.nodes import (
    Constant,
    Negative,
    Node,
    Number,
    Power,
    Product,
    Quotient,
    Sum,
    Symbol,
    free_symbols,
    substitute,
)
from rlvr.verifiers.equivalence.result import IDENTITY, Limits, Result

_SALTS: Final = ("", "second", "third")
_MAX_ANCHORS: Final = 16
_MAX_DEGREE: Final = 40
_MAX_TERMS: Final = 500


def proportional(gold: Node, answer: Node, limits: Limits, *, positive: bool) -> Result:
    """Whether one is a nonzero (or a positive) constant times the other.

    Two expressions that are zero everywhere, or have no variables, are no relation: not the same.
    """
    if not free_symbols(gold) or not free_symbols(answer):
        return Result(False, IDENTITY, "a relation without variables")
    try:
        formal = _by_fields(gold, answer, limits)
    except (SingularError, UndefinedError):
        return Result(False, IDENTITY, "undefined")
    if formal is None:
        return _by_samples(gold, answer, limits, positive)
    if formal and positive:
        anchor = _anchor(gold, answer, limits)
        if anchor is None:
            return Result.undecided("no point where both are real")
        formal = anchor[2] > 0
    if formal:
        return Result(True, IDENTITY, "proportional", ERROR_BOUND)
    if not positive and _has_denominator(gold, answer):
        return _by_numerators(gold, answer)
    return Result(False, IDENTITY, "not proportional")


def _by_fields(gold: Node, answer: Node, limits: Limits) -> bool | None:
    """Whether the ratio is the same at three points of two prime fields; None if not known."""
    for k in range(2):
        values: list[tuple[int, int]] = []
        faithful = True
        for salt in _SALTS:
            field = Field(k, limits, salt)
            values.append((field.value(gold), field.value(answer)))
            faithful &= field.faithful
        p = field.prime
        if any(0 in pair for pair in values):
            return False if faithful else None
        above, below = values[0]
        if any((a * below - above * b) % p for a, b in values[1:]):
            return False if faithful else None
    return True


def _by_samples(gold: Node, answer: Node, limits: Limits, positive: bool) -> Result:
    """Scale both by their values at one point, and compare them as functions."""
    anchor = _anchor(gold, answer, limits)
    if anchor is None:
        return Result.undecided("no point where both are real")
    gold_there, answer_there, sign = anchor
    if positive and sign < 0:
        return Result(False, IDENTITY, "the inequality is turned over")
    return same_function(Product((gold, answer_there)), Product((answer, gold_there)), limits)


def _anchor(gold: Node, answer: Node, limits: Limits) -> tuple[Node, Node, int] | None:
    """Both at one point where they are real and not zero, and the sign of their ratio."""
    from rlvr.verifiers.equivalence.enclosure import Enclosure, UnsettledError, Work, precision

    names = sorted(free_symbols(gold) | free_symbols(answer))
    work = Work()
    for point in _short_points(names, Kinds(gold, answer)):
        values = {name: number(value) for name, value in point.items()}
        first, second = substitute(gold, values), substitute(answer, values)
        try:
            with precision(128):
                a = Enclosure(None, limits, work=work).value(first)
                b = Enclosure(None, limits, work=work).value(second)
                if not (a.is_finite() and b.is_finite()) or a.contains(0) or b.contains(0):
                    continue
                if not (a.imag.contains(0) and b.imag.contains(0)):
                    continue
                return first, second, 1 if (a.real > 0) == (b.real > 0) else -1
        except UndefinedError:
            continue
        except UnsettledError:
            return None
    return None


def _short_points(names: list[str], kinds: Kinds) -> Iterator[dict[str, Fraction]]:
    for point in islice(sample_points(names, kinds), _MAX_ANCHORS):
        yield {name: real.limit_denominator(1000) for name, (real, _) in point.items()}


def number(value: Fraction) -> Node:
    """The node of a rational number."""
    return Number(value) if value >= 0 else Negative(Number(-value))


def _has_denominator(*trees: Node) -> bool:
    from rlvr.verifiers.equivalence.nodes import walk

    return any(
        (isinstance(node, Quotient) and free_symbols(node.denominator))
        or (isinstance(node, Power) and isinstance(node.exponent, Negative))
        for tree in trees
        for node in walk(tree)
    )


class _NotPolynomialError(Exception):
    """Not a rational function of its variables within the bounds."""


def _by_numerators(gold: Node, answer: Node) -> Result:
    """Compare the numerators of two rational functions in lowest terms."""
    from flint import Ordering, fmpq_mpoly_ctx

    names = sorted(free_symbols(gold) | free_symbols(answer) | {"constant pi", "constant e"})
    context = fmpq_mpoly_ctx.get([f"v{k}" for k in range(len(names))], Ordering.lex)
    generators = dict(zip(names, context.gens(), strict=True))
    try:
        first = _fraction(gold, generators, context)[0]
        second = _fraction(answer, generators, context)[0]
    except (_NotPolynomialError, ZeroDivisionError):
        return Result(False, IDENTITY, "not proportional")
    if first.is_zero() or second.is_zero():
        return Result(False, IDENTITY, "an equation that says nothing")
    same = first * second.leading_coefficient() == second * first.leading_coefficient()
    reason = "the same when denominators are cleared" if same else "not proportional"
    return Result(bool(same), IDENTITY, reason)


def _fraction(node: Node, generators: dict[str, Any], context: Any) -> tuple[Any, Any]:
    """Numerator and denominator of a rational function, in lowest terms."""
    one = context.constant(1)
    match node:
        case Number(value):
            from flint import fmpq

            return context.constant(fmpq(value.numerator, value.denominator)), one
        case Symbol(name):
            return generators[name], one
        case Constant("pi" | "e" as name):
            return generators[f"constant {name}"], one
        case Negative(operand):
            above, below = _fraction(operand, generators, context)
            return -above, below
        case Sum(terms):
            above, below = context.constant(0), one
            for term in terms:
                a, b = _fraction(term, generators, context)
                above, below = _lowest(above * b + a * below, below * b)
            return above, below
        case Product(factors):
            above, below = one, one
            for factor in factors:
                a, b = _fraction(factor, generators, context)
                above, below = _lowest(above * a, below * b)
            return above, below
        case Quotient(numerator, denominator):
            a, b = _fraction(numerator, generators, context)
            c, d = _fraction(denominator, generators, context)
            if c.is_zero():
                raise _NotPolynomialError
            return _lowest(a * d, b * c)
        case Power(base, exponent):
            return _fraction_power(_fraction(base, generators, context), exponent)
        case _:
            raise _NotPolynomialError


def _fraction_power(base: tuple[Any, Any], exponent: Node) -> tuple[Any, Any]:
    power = exact_value(exponent)
    if power is None or power.denominator != 1 or abs(power.numerator) > _MAX_DEGREE:
        raise _NotPolynomialError
    n = power.numerator
    above, below = base if n >= 0 else (base[1], base[0])
    longest = max(len(above), len(below), 1)
    if below.is_zero() or math.comb(longest + abs(n) - 1, abs(n)) > _MAX_TERMS:
        raise _NotPolynomialError
    return above ** abs(n), below ** abs(n)


def _lowest(above: Any, below: Any) -> tuple[Any, Any]:
    if len(above) > _MAX_TERMS or len(below) > _MAX_TERMS:
        raise _NotPolynomialError
    if below.is_constant():
        return above, below
    divisor = above.gcd(below)
    return above / divisor, below / divisor
