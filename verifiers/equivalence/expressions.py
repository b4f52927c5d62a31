r"""Whether two expressions are equal: `same_expression`, `same_equation`, `same_inequality`.

The tiers, each bounded, in their order: exact rational arithmetic (`exact`); trees that are alike
(`structure`); for constants
`constants`, for expressions with free variables `identity`; `symbolic` last, and only where
`Limits.algebra` allows it. All are symmetric. Expressions without a value (`0/0`, `\ln 0`, nan,
infinity in arithmetic) equal nothing, themselves included; an infinity alone equals itself.
"""

from __future__ import annotations

from typing import Final

from rlvr.verifiers.equivalence.exact import UndefinedError, exact_value
from rlvr.verifiers.equivalence.giants import is_entire
from rlvr.verifiers.equivalence.nodes import (
    INFINITY,
    Negative,
    Node,
    Number,
    free_symbols,
    integer,
    walk,
)
from rlvr.verifiers.equivalence.result import (
    DEFAULT_LIMITS,
    EXACT,
    STRUCTURE,
    Limits,
    Result,
)

_EQUAL: Final = Result(True, EXACT)
_ALIKE: Final = Result(True, STRUCTURE)
_DIFFERENT: Final = Result(False, EXACT, "the values differ")
_TOO_DEEP: Final = Result.undecided("nested too deep")


def same_expression(gold: Node, answer: Node, limits: Limits = DEFAULT_LIMITS) -> Result:
    """Whether two expressions are equal. Symmetric.

    Returns:
        `equal` is None where nothing settles it within the limits; `needs_algebra` then says
        whether the symbolic tier might.
    """
    if type(gold) is Number and type(answer) is Number:
        return _EQUAL if gold.value == answer.value else _DIFFERENT
    try:
        result = _same(gold, answer, limits)
        if result.equal is None and result.needs_algebra and limits.algebra:
            from rlvr.verifiers.equivalence.symbolic import same_by_algebra

            return same_by_algebra(gold, answer, limits)
        return result
    except RecursionError:
        return _TOO_DEEP


def _same(gold: Node, answer: Node, limits: Limits) -> Result:
    try:
        first, second = exact_value(gold, limits), exact_value(answer, limits)
    except UndefinedError as error:
        return Result(False, EXACT, f"undefined: {error}")
    if first is not None and second is not None:
        return _EQUAL if first == second else _DIFFERENT
    if gold == answer and is_entire(gold):
        return _ALIKE
    infinite = _infinity(gold), _infinity(answer)
    if any(infinite):
        return Result(infinite[0] == infinite[1], STRUCTURE, "infinity")
    if free_symbols(gold) or free_symbols(answer) or _has_unknown_function(gold, answer):
        from rlvr.verifiers.equivalence.identity import same_function

        return same_function(gold, answer, limits)
    from rlvr.verifiers.equivalence.constants import same_constant

    return same_constant(gold, answer, limits)


def _infinity(node: Node) -> int:
    """1 and -1 for an infinity alone, 0 for anything else."""
    if node == INFINITY:
        return 1
    return -1 if isinstance(node, Negative) and node.operand == INFINITY else 0


def _has_unknown_function(*trees: Node) -> bool:
    from rlvr.verifiers.equivalence.nodes import Apply

    return any(isinstance(node, Apply) for tree in trees for node in walk(tree))


def same_equation(gold: Node, answer: Node, limits: Limits = DEFAULT_LIMITS) -> Result:
    """Whether `gold = 0` and `answer = 0` are the same equation.

    They are if one is a nonzero constant times the other, or, for rational functions, if the
    numerators are when denominators are cleared (`y = 1/x` and `xy = 1`). Squares and other
    factors that add no solutions are not dropped: `x^2 = 0` is not `x = 0`.
    """
    from rlvr.verifiers.equivalence.relations import proportional

    return proportional(gold, answer, limits, positive=False)


def same_inequality(gold: Node, answer: Node, limits: Limits = DEFAULT_LIMITS) -> Result:
    """Whether `gold > 0` and `answer > 0` are the same: one is a positive constant times the other.

    Give it `lhs - rhs` of `lhs > rhs` and `rhs - lhs` of `lhs < rhs`; strictness is the caller's.
    """
    from rlvr.verifiers.equivalence.relations import proportional

    return proportional(gold, answer, limits, positive=True)


def difference(left: Node, right: Node) -> Node:
    """`left - right`, without the zero of an equation `... = 0`."""
    from rlvr.verifiers.equivalence.nodes import Sum

    if right == integer(0):
        return left
    if left == integer(0):
        return Negative(right)
    return Sum((left, Negative(right)))
