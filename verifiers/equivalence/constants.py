r"""Two constants: balls tell them apart; fields, separation bounds and precision join them.

- Different is proved by balls that do not meet, at 64, then 128 bits, then more.
- Equal is established by the identity test in prime fields where it holds (`12 + 8\pi` and
  `4(3 + 2\pi)`), by the separation bound for algebraic numbers (`\sqrt2\sqrt3` and `\sqrt6`; a
  proof), or, for other numbers built from logarithms, exponentials and inverse functions, by
  agreement to `512 + 8 s` bits, where s is the largest absolute binary logarithm of any
  subexpression. The last is no proof. It rests on the uniformity conjecture (D. Richardson, "How to
  recognize zero", 1997): a nonzero expression of length N is not smaller than about 10^-(1.3 N);
  known exceptions fall short of it by a factor, not by an order of magnitude. Expressions of more
  than 150 nodes are not joined that way. Definite integrals are dear at high precision: `96 + 4 s`
  bits count there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rlvr.verifiers.equivalence.exact import UndefinedError
from rlvr.verifiers.equivalence.fields import ERROR_BOUND, Field, SingularError
from rlvr.verifiers.equivalence.nodes import Node, Operator, walk
from rlvr.verifiers.equivalence.result import ALGEBRA, IDENTITY, INTERVAL, NONE, Limits, Result
from rlvr.verifiers.equivalence.separation import separation_bits

if TYPE_CHECKING:
    from rlvr.verifiers.equivalence.enclosure import Work

CONJECTURAL_BOUND: Final = 1e-12
_FIRST_PRECISION: Final = 64
_MAX_CONJECTURAL_NODES: Final = 150
_GUARD_BITS: Final = 64


def same_constant(gold: Node, answer: Node, limits: Limits) -> Result:
    """Whether two expressions without free variables are equal."""
    from rlvr.verifiers.equivalence.enclosure import UnsettledError, Work

    work = Work()
    try:
        apart = _apart(gold, answer, _FIRST_PRECISION, limits, work)
        if apart is None:
            apart = _apart(gold, answer, 2 * _FIRST_PRECISION, limits, work)
    except UndefinedError as error:
        return Result(False, INTERVAL, f"undefined: {error}")
    except UnsettledError as error:
        return _without_balls(gold, answer, limits, str(error), evaluated=False)
    if apart is None:
        return _without_balls(gold, answer, limits, "no finite enclosure", evaluated=True)
    if apart:
        return Result(False, INTERVAL, "the values differ")
    if formally_equal(gold, answer, limits):
        return Result(True, IDENTITY, "", ERROR_BOUND)
    try:
        return _joined(gold, answer, limits, work)
    except UndefinedError as error:
        return Result(False, INTERVAL, f"undefined: {error}")
    except UnsettledError as error:
        return Result.undecided(str(error), needs_algebra=True)


def formally_equal(gold: Node, answer: Node, limits: Limits) -> bool:
    """Whether two expressions are equal as rational functions of their parts, in every field.

    Says nothing about whether they are defined.
    """
    for k in range(2):
        field = Field(k, limits)
        try:
            if field.value(gold) != field.value(answer):
                return False
        except (SingularError, UndefinedError):
            return False
    return True


def _apart(gold: Node, answer: Node, bits: int, limits: Limits, work: Work) -> bool | None:
    """Whether the balls are disjoint; None if one of them is not finite."""
    from rlvr.verifiers.equivalence.enclosure import Enclosure, precision

    with precision(bits):
        first = Enclosure(None, limits, work=work).value(gold)
        second = Enclosure(None, limits, work=work).value(answer)
        if not first.is_finite() or not second.is_finite():
            return None
        return not first.overlaps(second)


def _has_integral(tree: Node) -> bool:
    return any(isinstance(node, Operator) and node.kind == "integral" for node in walk(tree))


def _joined(gold: Node, answer: Node, limits: Limits, work: Work) -> Result:
    """Decide about two constants that agree to 64 bits or more."""
    from rlvr.verifiers.equivalence.enclosure import Enclosure, magnitude, precision

    separation = separation_bits(gold, answer)
    integral = _has_integral(gold) or _has_integral(answer)
    bits = 128 if integral else 256
    while True:
        with precision(bits):
            spanned = Enclosure(None, limits, work=work, spans=True)
            first, second = spanned.value(gold), spanned.value(answer)
            if not first.is_finite() or not second.is_finite():
                return Result.undecided("no finite enclosure", needs_algebra=True)
            if not first.overlaps(second):
                return Result(False, INTERVAL, "the values differ")
            difference = first - second
            size = magnitude(difference)
        agreed = float(bits) if size is None else -size
        if separation is not None and agreed > separation:
            return Result(True, ALGEBRA, "closer than two different algebraic numbers can be")
        wanted = 96 + 4 * spanned.span if integral else 512 + 8 * spanned.span
        if separation is None and agreed >= wanted:
            nodes = sum(1 for tree in (gold, answer) for _ in walk(tree))
            if nodes <= _MAX_CONJECTURAL_NODES:
                return Result(True, INTERVAL, f"agree to {agreed:.0f} bits", CONJECTURAL_BOUND)
            return Result.undecided("long and close", needs_algebra=True)
        target = separation if separation is not None else wanted
        needed = int(bits + max(_GUARD_BITS, target - agreed + _GUARD_BITS))
        if needed > limits.max_precision or bits >= limits.max_precision:
            return Result.undecided("close, and more precision is needed", needs_algebra=True)
        bits = needed


def _without_balls(
    gold: Node, answer: Node, limits: Limits, reason: str, evaluated: bool
) -> Result:
    """Constants that have no finite ball: towers, poles, or parts that are not evaluated.

    Args:
        gold: one expression.
        answer: the other.
        limits: the bounds.
        reason: why there is no ball.
        evaluated: whether everything was evaluated, so that an infinite ball may be a pole.
    """
    from rlvr.verifiers.equivalence.giants import compare_giants, is_entire

    if formally_equal(gold, answer, limits) and (
        not evaluated or (is_entire(gold) and is_entire(answer))
    ):
        return Result(True, IDENTITY, "", ERROR_BOUND)
    result = compare_giants(gold, answer, limits)
    if result.tier != NONE:
        return result
    return Result.undecided(reason, needs_algebra=True)
