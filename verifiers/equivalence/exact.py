"""The exact tier: rational arithmetic on constants, with a bound on the size of every integer."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

from rlvr.verifiers.equivalence.nodes import (
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
    walk,
)
from rlvr.verifiers.equivalence.result import DEFAULT_LIMITS, Limits


class UndefinedError(ArithmeticError):
    """The expression has no value: division by zero, `0^0` with a zero exponent, `ln 0`, nan."""


class UnsettledError(Exception):
    """No value is found here: something is not evaluated, or it would be too much work."""


class _NotRational(Exception):
    """Not settled by rational arithmetic within the bounds."""


_ONE: Final = Fraction(1)
_MAX_LOGARITHM_BITS: Final = 100_000
_MAX_VISITS: Final = 20_000


class _State:
    """The bounds of one evaluation, and what is left of them."""

    __slots__ = ("max_exact_bits", "max_terms", "visits")

    def __init__(self, limits: Limits) -> None:
        self.max_exact_bits = limits.max_exact_bits
        self.max_terms = limits.max_terms
        self.visits = 0


def exact_value(
    node: Node, limits: Limits = DEFAULT_LIMITS, point: dict[str, Fraction] | None = None
) -> Fraction | None:
    """The rational value of an expression, or None where it has none that is found here.

    Args:
        node: the expression.
        limits: `max_exact_bits` bounds every integer, `max_terms` every sum and product.
        point: values of free variables.

    Raises:
        UndefinedError: the expression has no value.
    """
    if type(node) is Number:
        return node.value
    try:
        return _value(node, _State(limits), point or {})
    except _NotRational:
        return None


def _value(node: Node, state: _State, point: dict[str, Fraction]) -> Fraction:
    match node:
        case Number(value):
            return value
        case Negative(operand):
            return -_value(operand, state, point)
        case Sum(terms):
            total = Fraction(0)
            for term in terms:
                total += _value(term, state, point)
            return _bounded(total, state)
        case Product(factors):
            product = _ONE
            for factor in factors:
                product = _bounded(product * _value(factor, state, point), state)
            return product
        case Quotient(numerator, denominator):
            below = _value(denominator, state, point)
            above = _value(numerator, state, point)
            if below == 0:
                raise UndefinedError("division by zero")
            return _bounded(above / below, state)
        case Power(base, exponent):
            power = _value(exponent, state, point)
            return _power(_value(base, state, point), power, state)
        case Call(name, arguments):
            return _call(name, [_value(a, state, point) for a in arguments], state)
        case Operator():
            return _operator(node, state, point)
        case Symbol(name):
            if name in point:
                return point[name]
        case Constant("undefined"):
            raise UndefinedError("undefined")
        case _:
            pass
    raise _NotRational


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _bounded(value: Fraction, state: _State) -> Fraction:
    if _bits(value) > state.max_exact_bits:
        raise _NotRational
    return value


def _power(base: Fraction, exponent: Fraction, state: _State) -> Fraction:
    if exponent.denominator != 1:
        rooted = real_root(base, exponent.denominator)
        if rooted is None:
            raise _NotRational
        base, exponent = rooted, Fraction(exponent.numerator)
    power = exponent.numerator
    if base == 0:
        if power < 0:
            raise UndefinedError("division by zero")
        if power == 0:
            raise UndefinedError("0^0")
        return base
    if base in (1, -1):
        return base if power % 2 else _ONE
    if abs(power) * (_bits(base) - 1) > state.max_exact_bits:
        raise _NotRational
    return base**power


def real_root(value: Fraction, index: int) -> Fraction | None:
    """The real root of a rational number if it is rational; odd roots of negative numbers too."""
    if value < 0 and index % 2 == 0:
        return None
    above = _integer_root(abs(value.numerator), index)
    below = _integer_root(value.denominator, index)
    if above is None or below is None:
        return None
    return Fraction(above if value >= 0 else -above, below)


def _integer_root(value: int, index: int) -> int | None:
    if index == 2:
        root = math.isqrt(value)
    elif value < 2:
        return value
    elif index > value.bit_length():
        return None
    else:
        root = 1 << (value.bit_length() // index + 1)
        while (better := ((index - 1) * root + value // root ** (index - 1)) // index) < root:
            root = better
    return root if root**index == value else None


def _whole(value: Fraction, most: int = 10**9) -> int:
    if value.denominator != 1 or abs(value.numerator) > most:
        raise _NotRational
    return value.numerator


def _factorial_fits(n: int, state: _State) -> bool:
    return n < 4 or n * math.log2(n / 2.72) < state.max_exact_bits


def _call(name: str, a: list[Fraction], state: _State) -> Fraction:
    first = a[0]
    match name:
        case "root":
            index = _whole(a[1], 1000)
            if index < 1:
                raise _NotRational
            root = real_root(first, index)
            if root is None:
                raise _NotRational
            return root
        case "abs":
            return abs(first)
        case "floor":
            return Fraction(math.floor(first))
        case "ceil":
            return Fraction(math.ceil(first))
        case "round":
            return Fraction(math.floor(first + Fraction(1, 2)))
        case "sign":
            return Fraction((first > 0) - (first < 0))
        case "re" | "conjugate":
            return first
        case "im":
            return Fraction(0)
        case "max":
            return max(a)
        case "min":
            return min(a)
        case "gcd":
            return Fraction(math.gcd(*(_whole(v, 1 << state.max_exact_bits) for v in a)))
        case "lcm":
            whole = [_whole(v, 1 << state.max_exact_bits) for v in a]
            return _bounded(Fraction(math.lcm(*whole)), state)
        case "mod":
            if a[1] == 0:
                raise UndefinedError("division by zero")
            return first % a[1]
        case "factorial" | "double_factorial" | "gamma" | "binomial" | "permutations" | "totient":
            return Fraction(_combinatorial(name, a, state))
        case "log":
            return _logarithm(first, a[1])
        case "ln":
            if first == 0:
                raise UndefinedError("the logarithm of zero")
            if first == 1:
                return Fraction(0)
        case _:
            pass
    raise _NotRational


def _combinatorial(name: str, a: list[Fraction], state: _State) -> int:
    n = _whole(a[0])
    if name == "gamma":
        n -= 1
    if name in ("factorial", "gamma"):
        if n < 0:
            raise UndefinedError("the factorial of a negative number")
        if not _factorial_fits(n, state):
            raise _NotRational
        return math.factorial(n)
    if name == "double_factorial":
        if n < -1:
            raise UndefinedError("the double factorial of a negative number")
        if not _factorial_fits(n, state):
            raise _NotRational
        return math.prod(range(n, 0, -2))
    if name == "totient":
        return _totient(n)
    k = _whole(a[1])
    if k < 0 or n < 0:
        raise _NotRational
    if k > n:
        return 0
    small = min(k, n - k) if name == "binomial" else k
    if small * n.bit_length() > state.max_exact_bits:
        raise _NotRational
    return math.comb(n, k) if name == "binomial" else math.perm(n, k)


def _totient(n: int) -> int:
    if not 1 <= n <= 10**9:
        raise _NotRational
    result, divisor = n, 2
    while divisor * divisor <= n:
        if n % divisor == 0:
            while n % divisor == 0:
                n //= divisor
            result -= result // divisor
        divisor += 1
    return result - result // n if n > 1 else result


def _logarithm(value: Fraction, base: Fraction) -> Fraction:
    """A rational logarithm: both are powers of the same number."""
    if value == 0 or base in (0, 1):
        raise UndefinedError("the logarithm of zero or with base one")
    if value < 0 or base < 0 or _bits(value) > 4000 or _bits(base) > 4000:
        raise _NotRational
    if value == 1:
        return Fraction(0)
    guess = Fraction(_log2(value) / _log2(base)).limit_denominator(64)
    sizes = _bits(value) * guess.denominator, _bits(base) * abs(guess.numerator)
    if max(sizes) > _MAX_LOGARITHM_BITS:
        raise _NotRational
    if value**guess.denominator != base**guess.numerator:
        raise _NotRational
    return guess


def _log2(value: Fraction) -> float:
    return math.log2(value.numerator) - math.log2(value.denominator)


def _operator(node: Operator, state: _State, point: dict[str, Fraction]) -> Fraction:
    if node.kind not in ("sum", "product") or node.lower is None or node.upper is None:
        raise _NotRational
    first = _whole(_value(node.lower, state, point))
    last = _whole(_value(node.upper, state, point))
    size = sum(1 for _ in walk(node.body))
    if last - first >= state.max_terms:
        raise _NotRational
    result = Fraction(0 if node.kind == "sum" else 1)
    for k in range(first, last + 1):
        state.visits += size
        if state.visits > _MAX_VISITS:
            raise _NotRational
        term = _value(node.body, state, {**point, node.variable: Fraction(k)})
        result = result + term if node.kind == "sum" else result * term
        _bounded(result, state)
    return result
