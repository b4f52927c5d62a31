r"""Identity testing in large prime fields (Schwartz-Zippel).

An expression is evaluated modulo a prime of 61 bits at a point that the names of its variables
decide. Whole numbers, `i` (a square root of -1 modulo the prime) and the four operations with whole
powers are evaluated as they are; `pi`, `e` and every other subexpression (`\sqrt3`, `\sin 2x`) is
replaced by a value that its name and its evaluated arguments decide, as if it were a variable.

Two expressions with equal values are equal as rational functions of those parts, except with a
probability of at most degree / 2^61 for each of the primes. Two expressions with different values
are different if no part was replaced, or only `pi` or only `e` (both are transcendental);
otherwise nothing is said.

Powers are split (`a^{x+1} = a^x a`, `a^{2x} = (a^x)^2`, valid for every complex x); roots are not.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from rlvr.verifiers.equivalence.exact import UndefinedError, exact_value
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
    is_infinite,
    walk,
)
from rlvr.verifiers.equivalence.result import DEFAULT_LIMITS, Limits

# Primes p = 1 mod 4 below 2^61, each with a square root of -1.
PRIMES: Final = (
    (2305843009213693921, 583529827753931384),
    (2305843009213693693, 966685122347009555),
    (2305843009213693669, 1015389886790033265),
)
# With whole exponents of variables below 2^40, nesting bounded by the parser, and three primes.
ERROR_BOUND: Final = 1e-15
_MAX_EXPONENT: Final = 1 << 40
_MAX_FACTORIAL: Final = 20_000
_MAX_VISITS: Final = 20_000
_ODD_NAMES: Final = "sin tan cot csc asin atan acot acsc sinh tanh coth csch asinh atanh sign"
_ODD: Final = frozenset(_ODD_NAMES.split())
_EVEN: Final = frozenset(["cos", "sec", "cosh", "sech", "abs"])


class SingularError(Exception):
    """A denominator vanishes at the point."""


@lru_cache(maxsize=16384)
def _hashed(key: str, prime: int) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=16).digest()) % (prime - 2) + 1


class Field:
    """Evaluates trees modulo one prime.

    Attributes:
        salt: another salt is another point; the parts without variables keep their values.
        opaque: whether a part was replaced that could satisfy relations of its own.
        giants: whether whole exponents of 2^40 and more are reduced, not replaced: then different
            values still prove the expressions different, but equal ones prove nothing.
        transcendental: which of `pi` and `e` occurred.
    """

    def __init__(
        self, k: int, limits: Limits = DEFAULT_LIMITS, salt: str = "", *, giants: bool = False
    ) -> None:
        self.salt = salt
        self.giants = giants
        self.prime, self.i = PRIMES[k]
        self.limits = limits
        self.opaque = False
        self.transcendental: set[str] = set()
        self.bound: dict[str, int] = {}
        self.whole: dict[str, Fraction] = {}
        self.depth = 0
        self.visits = 0

    @property
    def faithful(self) -> bool:
        """Whether different values prove the expressions different."""
        return not self.opaque and len(self.transcendental) <= 1

    def value(self, node: Node) -> int:
        """The value of a node modulo the prime.

        Raises:
            SingularError: a denominator is zero there.
            UndefinedError: the expression has no value anywhere.
        """
        p = self.prime
        match node:
            case Number(value):
                if value.denominator == 1:
                    return value.numerator % p
                return value.numerator * pow(value.denominator, -1, p) % p
            case Symbol(name):
                bound = self.bound.get(name)
                return _hashed(f"symbol {name}{self.salt}", p) if bound is None else bound
            case Negative(operand):
                return -self.value(operand) % p
            case Sum(terms):
                return sum(map(self.value, terms)) % p
            case Product(factors):
                product = 1
                for factor in factors:
                    product = product * self.value(factor) % p
                return product
            case Quotient(numerator, denominator):
                return self.value(numerator) * self._inverse(self.value(denominator)) % p
            case Power(base, exponent):
                return self._power(base, exponent)
            case Constant(name):
                return self._constant(name)
            case Call(name, arguments):
                return self._call(name, arguments)
            case Apply(name, arguments):
                return self._part(f"apply {name}", *map(self.value, arguments))
            case Operator():
                return self._operator(node)

    def _exact(self, node: Node) -> Fraction | None:
        """The rational value of a node, bound variables of finite sums included."""
        return exact_value(node, self.limits, self.whole)

    def _inverse(self, value: int) -> int:
        if value == 0:
            raise SingularError
        return pow(value, -1, self.prime)

    def _part(self, name: str, *arguments: int) -> int:
        """The value that stands for a part that is not rational."""
        self.opaque = True
        return _hashed(f"{name} {arguments}", self.prime)

    def _constant(self, name: str) -> int:
        if name == "i":
            return self.i
        if name in ("pi", "e"):
            self.transcendental.add(name)
            return _hashed(f"constant {name}", self.prime)
        raise UndefinedError(name)

    def _power(self, base: Node, exponent: Node) -> int:
        """A power, its exponent split into terms and whole multiples."""
        match exponent:
            case Negative(operand):
                return self._inverse(self._power(base, operand))
            case Sum(terms) if self._exact(exponent) is None:
                product = 1
                for term in terms:
                    product = product * self._power(base, term) % self.prime
                return product
            case _:
                pass
        whole = self._exact(exponent)
        if whole is not None:
            if whole.denominator == 1:
                return self._whole_power(base, whole.numerator)
            root = self._root(base, whole.denominator)
            return self._raised(root, whole.numerator)
        if self.giants or (isinstance(base, Number) and base.value.denominator == 1):
            tower = tower_modulo(exponent, self.prime - 1)
            if tower is not None:
                return self._raised(self.value(base), tower)
        return self._general_power(base, exponent)

    def _general_power(self, base: Node, exponent: Node) -> int:
        """`a^{3x}` as the cube of `a^x`."""
        times = 1
        factors = exponent.factors if isinstance(exponent, Product) else (exponent,)
        rest: list[int] = []
        for factor in factors:
            number = factor.value if isinstance(factor, Number) else None
            if number is not None and number.denominator == 1 and 0 < number < _MAX_EXPONENT:
                times *= number.numerator
            else:
                rest.append(self.value(factor))
        product = 1
        for value in rest:
            product = product * value % self.prime
        if times >= _MAX_EXPONENT:
            product, times = product * times % self.prime, 1
        name = "exp" if base == Constant("e") else f"power {self.value(base)}"
        return pow(self._part(name, product), times, self.prime)

    def _whole_power(self, base: Node, power: int) -> int:
        value = self.value(base)
        if abs(power) >= _MAX_EXPONENT and not isinstance(base, Number) and not self.giants:
            return self._part("power", value, power % self.prime)
        return self._raised(value, power)

    def _raised(self, value: int, power: int) -> int:
        if value == 0 and power <= 0:
            raise SingularError
        return pow(value, power, self.prime)

    def _root(self, radicand: Node, index: int) -> int:
        number = self._exact(Call("root", (radicand, Number(Fraction(index)))))
        if number is not None:
            return self.value(_number(number))
        return self._part(f"root {index}", self.value(radicand))

    def _call(self, name: str, arguments: tuple[Node, ...]) -> int:
        p = self.prime
        try:
            number = self._exact(Call(name, arguments))
        except UndefinedError:
            raise SingularError from None
        if number is not None:
            return number.numerator * self._inverse(number.denominator % p) % p
        if name == "root":
            index = self._exact(arguments[1])
            if index is not None and index.denominator == 1 and index > 0:
                return self._root(arguments[0], index.numerator)
        if name == "degrees":
            self.transcendental.add("pi")
            pi = _hashed("constant pi", p)
            return self.value(arguments[0]) * pi * self._inverse(180) % p
        if name in ("factorial", "binomial"):
            large = self._large_whole(name, arguments)
            if large is not None:
                return large
        values = [self.value(argument) for argument in arguments]
        if name == "log":
            return self._part("ln", values[0]) * self._inverse(self._part("ln", values[1])) % p
        if name in ("max", "min", "gcd", "lcm"):
            values.sort()
        elif values[0] > p // 2 and (name in _ODD or name in _EVEN):
            part = self._part(name, p - values[0])
            return part if name in _EVEN else p - part
        return self._part(name, *values)

    def _large_whole(self, name: str, arguments: tuple[Node, ...]) -> int | None:
        """Factorials and binomials of whole numbers that are too large to be built."""
        numbers = [self._exact(argument) for argument in arguments]
        wholes = [n.numerator for n in numbers if n is not None and n.denominator == 1]
        if len(wholes) < len(arguments):
            return None
        n, p = wholes[0], self.prime
        if name == "factorial":
            return _factorial_modulo(n, p) if 0 <= n <= _MAX_FACTORIAL else None
        k = min(wholes[1], n - wholes[1])
        if not 0 <= k <= _MAX_FACTORIAL or n >= p:
            return None
        above = 1
        for factor in range(n - k + 1, n + 1):
            above = above * factor % p
        return above * self._inverse(_factorial_modulo(k, p)) % p

    def _operator(self, node: Operator) -> int:
        if node.kind in ("sum", "product") and node.lower and node.upper and not node.unbounded:
            first = self._exact(node.lower)
            last = self._exact(node.upper)
            if first is not None and last is not None and last - first < self.limits.max_terms:
                return self._added_up(node, int(first), int(last))
        if node.kind == "derivative":
            from rlvr.verifiers.equivalence.calculus import derivative_of
            from rlvr.verifiers.equivalence.enclosure import UnsettledError

            try:
                return self.value(derivative_of(node))
            except UnsettledError:
                pass
        self.depth += 1
        body = self._at(node.variable, _hashed(f"bound {self.depth}", self.prime), node.body)
        if node.kind == "derivative" or node.lower is None:
            # What a derivative or an antiderivative is taken for stays free.
            body = body * _hashed(f"symbol {node.variable}{self.salt}", self.prime)
        self.depth -= 1
        bounds = [self._bound(bound) for bound in (node.lower, node.upper) if bound is not None]
        return self._part(node.kind, body, *bounds)

    def _bound(self, node: Node) -> int:
        if is_infinite(node):
            return _hashed(f"infinity {isinstance(node, Negative)}", self.prime)
        return self.value(node)

    def _added_up(self, node: Operator, first: int, last: int) -> int:
        result = 0 if node.kind == "sum" else 1
        size = sum(1 for _ in walk(node.body))
        for k in range(first, last + 1):
            self.visits += size
            if self.visits > _MAX_VISITS:
                return self._part("too long", self.visits)
            outer, self.whole = self.whole, {**self.whole, node.variable: Fraction(k)}
            term = self._at(node.variable, k % self.prime, node.body)
            self.whole = outer
            result = (result + term if node.kind == "sum" else result * term) % self.prime
        return result

    def _at(self, variable: str, value: int, body: Node) -> int:
        outer = self.bound
        self.bound = {**outer, variable: value}
        try:
            return self.value(body)
        finally:
            self.bound = outer


def _number(value: Fraction) -> Node:
    return Number(value) if value >= 0 else Negative(Number(-value))


@lru_cache(maxsize=64)
def _factorial_modulo(n: int, p: int) -> int:
    result = 1
    for factor in range(2, n + 1):
        result = result * factor % p
    return result


# Towers: exponents that are too large to be built, modulo the order of the group.


def tower_modulo(node: Node, modulus: int) -> int | None:
    """A value congruent to a huge positive whole number, usable as an exponent modulo `modulus`.

    The number is built from whole numbers with sums, products and powers. None if it is not, or if
    it might be small or negative.
    """
    if modulus == 1:
        return 1
    match node:
        case Number(value) if value.denominator == 1 and value > 0:
            n = value.numerator
            # Adding the modulus keeps a number that is above it above it (Euler's theorem for
            # bases that are not coprime to the modulus).
            return n if n < modulus else n % modulus + modulus
        case Sum(parts) | Product(parts):
            result = 0 if isinstance(node, Sum) else 1
            for part in parts:
                value_of_part = tower_modulo(part, modulus)
                if value_of_part is None:
                    return None
                result = result + value_of_part if isinstance(node, Sum) else result * value_of_part
            return result if result < modulus else result % modulus + modulus
        case Power(base, exponent):
            order = _totient(modulus)
            lower, power = tower_modulo(base, modulus), tower_modulo(exponent, order)
            if lower is None or power is None:
                return None
            if power < min(order, 64) and lower**power < modulus:
                return int(lower**power)
            return pow(lower, power, modulus) + modulus
        case Call("factorial", (Number(value),)) if value.denominator == 1:
            return _factorial_as_exponent(value.numerator, modulus)
        case _:
            return None


def _factorial_as_exponent(n: int, modulus: int) -> int | None:
    if not 1 < n <= _MAX_FACTORIAL:
        return None
    result, above = 1, False
    for factor in range(2, n + 1):
        result *= factor
        above = above or result >= modulus
        result %= modulus
    return result + modulus if above else result


@lru_cache(maxsize=256)
def _totient(n: int) -> int:
    from flint import fmpz

    return math.prod((int(q) - 1) * int(q) ** (k - 1) for q, k in fmpz(n).factor())
