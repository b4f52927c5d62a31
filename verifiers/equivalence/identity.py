r"""Two expressions with free variables: prime fields first, then rigorous balls at sample points.

On which domain equality is asked: on the real points where every part of both expressions is
real (so `\sqrt{x}\sqrt{x}` and `x` are equal, and so are `\ln x^2` and `2 \ln x`; `\sqrt{x^2}` and
`x` are not). Where the expressions have no such points among the samples, or contain `i`, they are
compared at real points with their principal complex values. Variables under `Re`, `Im`, a conjugate
or an argument, and `z` and `w` beside `i`, are complex. Variables in factorials, binomials,
greatest common divisors, bounds of sums, and exponents of negative numbers are positive whole
numbers, and so are `n k m j l N M K` in floors, ceilings and
remainders.

Two balls that do not meet prove the expressions different. Agreement at four points or more, each
to 128 bits beyond the size of the numbers that occur, counts as equality: for analytic functions a
random point is a zero of the difference with probability zero, and the points have 60 random bits.
With piecewise functions (`|x|`, floors, maxima) all of 24 points over nine magnitudes of both signs
must agree; a third of them are whole or half numbers, where floors jump.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Final

from rlvr.verifiers.equivalence.constants import CONJECTURAL_BOUND
from rlvr.verifiers.equivalence.exact import UndefinedError, exact_value
from rlvr.verifiers.equivalence.fields import ERROR_BOUND, Field, SingularError
from rlvr.verifiers.equivalence.nodes import (
    Call,
    Constant,
    Negative,
    Node,
    Operator,
    Power,
    Quotient,
    free_symbols,
    walk,
)
from rlvr.verifiers.equivalence.result import IDENTITY, Limits, Result

if TYPE_CHECKING:
    from flint import acb

    from rlvr.verifiers.equivalence.enclosure import Work

Point = dict[str, tuple[Fraction, Fraction]]

_WHOLE_FUNCTIONS: Final = frozenset(
    ["factorial", "double_factorial", "binomial", "permutations", "gcd", "lcm", "totient"]
)
_PIECEWISE: Final = frozenset(["abs", "floor", "ceil", "round", "max", "min", "sign", "mod"])
# Letters that count: whole numbers inside floors and ceilings.
_COUNTS: Final = frozenset(["n", "k", "m", "j", "l", "N", "M", "K"])
_COMPLEX_PARTS: Final = frozenset(["re", "im", "conjugate", "arg"])
_NEEDED: Final = 4
_FIRST_PRECISION: Final = 64
_SECOND_PRECISION: Final = 320
_NEEDED_PIECEWISE: Final = 12
# Ranges of the samples, as (low, high) in thousandths; the sign is in the range.
_RANGES: Final = (
    (100, 990), (1010, 3000), (-990, -100), (1000, 9000), (-3000, -1010), (3000, 40000),
    (5, 100), (-9000, -1000), (200, 1500), (-40000, -3000), (40000, 900000), (-1500, -200),
)  # fmt: skip
# Those of piecewise functions reach further, on both sides.
_WIDE_RANGES: Final = (
    (100, 990), (-990, -100), (-9000, -1000), (1000, 9000), (-90000, -9000), (9000, 90000),
    (1, 100), (-100, -1), (-900000, -90000), (90000, 900000), (-(10**10), -(10**6)),
    (10**6, 10**10), (1000, 3000),
)  # fmt: skip
_MAX_POINTS: Final = 48


def same_function(gold: Node, answer: Node, limits: Limits) -> Result:
    """Whether two expressions, at least one of them with free variables, are equal."""
    formal = by_fields(gold, answer, limits)
    if formal is None:
        return _by_samples(gold, answer, limits)
    if formal.equal and not _defined_somewhere(gold, answer, limits):
        return Result.undecided("no point found where both are defined", needs_algebra=True)
    return formal


def _defined_somewhere(gold: Node, answer: Node, limits: Limits) -> bool:
    r"""Whether two formally equal expressions have values at a sample point.

    A part that stands for a function may hide a pole: `1 / (\sin^2 x + \cos^2 x - 1)`.
    """
    from rlvr.verifiers.equivalence.enclosure import Enclosure, UnsettledError, Work, precision

    if not any(_may_have_pole(node) for tree in (gold, answer) for node in walk(tree)):
        return True
    names = sorted(free_symbols(gold) | free_symbols(answer))
    work = Work()
    for point in islice(sample_points(names, Kinds(gold, answer)), 8):
        try:
            with precision(_SECOND_PRECISION):
                balls = {name: _ball(*value) for name, value in point.items()}
                values = [Enclosure(balls, limits, work=work).value(t) for t in (gold, answer)]
        except UndefinedError:
            continue
        except UnsettledError:
            return True
        if all(value.is_finite() for value in values):
            return True
    return False


def _may_have_pole(node: Node) -> bool:
    """Whether a node can be undefined on a whole region though the fields do not see it."""
    match node:
        case Quotient(_, denominator):
            return any(isinstance(part, Call | Power) for part in walk(denominator))
        case Power(base, Negative()):
            return any(isinstance(part, Call) for part in walk(base))
        case Call("ln" | "log" | "tan" | "cot" | "sec" | "csc" | "gamma", _):
            return True
        case _:
            return False


def by_fields(gold: Node, answer: Node, limits: Limits) -> Result | None:
    """Decide by the identity test in prime fields; None where that says nothing."""
    for k in range(2):
        field = Field(k, limits)
        try:
            if field.value(gold) != field.value(answer):
                if field.faithful or _differ_with_giants(gold, answer, k, limits):
                    return Result(False, IDENTITY, "different rational functions")
                return None
        except SingularError:
            if field.faithful:
                return Result(False, IDENTITY, "undefined: a denominator is zero everywhere")
            return None
        except UndefinedError as error:
            return Result(False, IDENTITY, f"undefined: {error}")
    return Result(True, IDENTITY, "", ERROR_BOUND)


def _differ_with_giants(gold: Node, answer: Node, k: int, limits: Limits) -> bool:
    """Whether two expressions differ as rational functions with giant exponents."""
    if not any(isinstance(node, Power) for tree in (gold, answer) for node in walk(tree)):
        return False
    field = Field(k, limits, giants=True)
    try:
        return field.value(gold) != field.value(answer) and field.faithful
    except (SingularError, UndefinedError):
        return False


def _random(name: str, k: int, salt: str = "") -> int:
    digest = blake2b(f"{name} {k} {salt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)


class Kinds:
    """What the variables of some expressions stand for."""

    def __init__(self, *trees: Node) -> None:
        self.whole: set[str] = set()
        # Whole numbers that may be large: not in factorials or bounds of sums.
        self.large: set[str] = set()
        small: set[str] = set()
        self.complex: set[str] = set()
        self.piecewise = False
        self.imaginary = False
        for tree in trees:
            for node in walk(tree):
                self._note(node)
                small |= _small_numbers(node)
        self.large -= small
        if self.imaginary:
            self.complex |= {"z", "w"}
        self.complex -= self.whole

    def _note(self, node: Node) -> None:
        match node:
            case Call(name, arguments):
                if name in _WHOLE_FUNCTIONS:
                    self.whole |= frozenset().union(*map(free_symbols, arguments))
                if name in _COMPLEX_PARTS:
                    self.complex |= frozenset().union(*map(free_symbols, arguments))
                self.piecewise |= name in _PIECEWISE
                if name in ("gcd", "lcm", "totient"):
                    self.large |= frozenset().union(*map(free_symbols, arguments))
                if name in ("floor", "ceil", "round", "mod"):
                    self.large |= frozenset().union(*map(free_symbols, arguments))
                    self.whole |= frozenset().union(*map(free_symbols, arguments)) & _COUNTS
            case Power(Negative(), exponent):
                self.whole |= free_symbols(exponent)
            case Operator("sum" | "product", _, _, lower, upper):
                for bound in (lower, upper):
                    if bound is not None:
                        self.whole |= free_symbols(bound)
            case Constant("i"):
                self.imaginary = True
            case _:
                pass


def _small_numbers(node: Node) -> frozenset[str]:
    """Variables whose value sets the cost: those in factorials and in bounds of sums."""
    match node:
        case Call("factorial" | "double_factorial" | "binomial" | "permutations", _):
            return free_symbols(node)
        case Operator("sum" | "product", _, _, lower, upper):
            return frozenset().union(*(free_symbols(b) for b in (lower, upper) if b is not None))
        case _:
            return frozenset()


def sample_points(names: list[str], kinds: Kinds) -> Iterator[Point]:
    """Points that the variables' names decide: rational numbers of about 60 bits."""
    ranges = _WIDE_RANGES if kinds.piecewise else _RANGES
    for k in range(_MAX_POINTS):
        point: Point = {}
        for index, name in enumerate(names):
            imaginary = Fraction(0)
            if name in kinds.whole:
                real = Fraction(1 + _random(name, k) % _most(k, name in kinds.large))
            else:
                place = k * (1 + 2 * (index % 2)) + 5 * index * (k % 3)
                low, high = ranges[place % len(ranges)]
                real = (low + (high - low) * Fraction(_random(name, k), 1 << 64)) / 1000
                if kinds.piecewise and k % 3 == 2:
                    # Where floors jump.
                    real = Fraction(round(2 * real), 2 - k % 2)
            if name in kinds.complex:
                imaginary = Fraction(_random(name, k, "i") - (1 << 63), 1 << 62)
            point[name] = real, imaginary
        yield point


def _most(k: int, large: bool) -> int:
    """The largest whole number of the k-th sample."""
    if k < 6:
        return 9
    if large:
        return 10**6 if k % 2 else 10**3
    return 200 if k % 8 == 7 else 40


def _by_samples(gold: Node, answer: Node, limits: Limits) -> Result:
    from rlvr.verifiers.equivalence.enclosure import UnsettledError, Work

    names = sorted(free_symbols(gold) | free_symbols(answer))
    if len(names) > 26:
        return Result.undecided("too many variables")
    kinds = Kinds(gold, answer)
    work = Work()
    agreed_real, agreed = 0, 0
    differs = False
    needed = _NEEDED_PIECEWISE if kinds.piecewise or kinds.whole else _NEEDED
    points = 24 if needed > _NEEDED else 14
    for k, point in enumerate(sample_points(names, kinds)):
        if needed == _NEEDED and agreed_real > _NEEDED:
            break
        # Few points where both are real: look further.
        if k >= points and (agreed_real >= needed or agreed_real == 0):
            break
        try:
            outcome, real = _at_point(gold, answer, point, limits, work)
        except UndefinedError:
            continue
        except UnsettledError as error:
            return Result.undecided(str(error), needs_algebra=True)
        if outcome is False and (real or kinds.imaginary or kinds.complex):
            return Result(False, IDENTITY, "the values differ at a point")
        differs |= outcome is False
        agreed += outcome is True
        agreed_real += outcome is True and real
    if agreed_real >= needed:
        return Result(True, IDENTITY, f"agree at {agreed_real} points", CONJECTURAL_BOUND)
    if differs:
        return Result(False, IDENTITY, "the values differ at a point")
    if agreed >= needed:
        return Result(True, IDENTITY, f"agree at {agreed} points", CONJECTURAL_BOUND)
    return Result.undecided("too few points where both are defined", needs_algebra=True)


def _at_point(
    gold: Node, answer: Node, point: Point, limits: Limits, work: Work
) -> tuple[bool | None, bool]:
    """Whether the values at a point agree (None: cannot tell), and whether all parts are real."""
    from rlvr.verifiers.equivalence.enclosure import Enclosure, magnitude, precision

    if all(im == 0 and re.denominator == 1 for re, im in point.values()):
        exact = _exactly(gold, answer, {name: re for name, (re, _) in point.items()}, limits)
        if exact is not None:
            return exact, True
    bits = _FIRST_PRECISION
    while True:
        with precision(bits):
            balls = {name: _ball(*value) for name, value in point.items()}
            enclosure = Enclosure(balls, limits, work=work, spans=bits > _FIRST_PRECISION)
            first = enclosure.value(gold)
            if not first.is_finite():
                return None, enclosure.real
            second = enclosure.value(answer)
            if not second.is_finite():
                return None, enclosure.real
            if not first.overlaps(second):
                return False, enclosure.real
            size = magnitude(first - second)
            scale = magnitude(first)
        if bits == _FIRST_PRECISION:
            bits = _SECOND_PRECISION
            continue
        agreed = float(bits) if size is None else -size
        wanted = 128 + 2 * enclosure.span + max(0.0, -(scale or 0.0))
        if agreed >= wanted:
            return True, enclosure.real
        if bits + wanted - agreed + 64 > limits.max_precision:
            return None, enclosure.real
        bits = int(bits + wanted - agreed + 64)


def _ball(real: Fraction, imaginary: Fraction) -> acb:
    from flint import acb

    from rlvr.verifiers.equivalence.enclosure import enclose_fraction

    ball = enclose_fraction(real)
    return ball if imaginary == 0 else ball + enclose_fraction(imaginary) * acb(0, 1)


def _exactly(gold: Node, answer: Node, point: dict[str, Fraction], limits: Limits) -> bool | None:
    first = exact_value(gold, limits, point)
    second = exact_value(answer, limits, point)
    return None if first is None or second is None else first == second
