"""Solutions in place of an equation or inequality in one unknown: an option, decided exactly.

The roots given must be all: the equation has to be a nonzero constant times the product of
`(x - root)`, each to some power.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rlvr.verifiers.equivalence.approximate import real
from rlvr.verifiers.equivalence.expressions import same_equation
from rlvr.verifiers.equivalence.nodes import (
    Negative,
    Node,
    Power,
    Product,
    Sum,
    Symbol,
    free_symbols,
    integer,
)
from rlvr.verifiers.equivalence.result import STRUCTURE, Result
from rlvr.verifiers.equivalence.shapes import (
    Answer,
    Collection,
    Equation,
    Inequality,
    Named,
    Region,
    Scalar,
)

if TYPE_CHECKING:
    from rlvr.verifiers.equivalence.structures import Comparer

_MAX_DEGREE = 6


def solutions_of(comparer: Comparer, condition: Equation | Inequality, answer: Answer) -> Result:
    """Whether an answer lists exactly the solutions of a condition in one unknown."""
    if isinstance(condition, Inequality):
        if not isinstance(answer, Region):
            return Result(False, STRUCTURE, "no solution set")
        return _of_inequality(comparer, condition, answer)
    difference = Sum((condition.left, Negative(condition.right)))
    unknowns = free_symbols(difference)
    values = _values(answer)
    if len(unknowns) != 1 or values is None or not values:
        return Result(False, STRUCTURE, "no list of solutions")
    unknown = next(iter(unknowns))
    if isinstance(answer, Named) and not comparer.names(answer.name, unknown):
        return Result(False, STRUCTURE, "another unknown")
    return _factored(comparer, difference, unknown, values)


def _values(answer: Answer) -> list[Node] | None:
    match answer:
        case Named(_, (), (value,)):
            return _values(value)
        case Scalar(node, None):
            return None if free_symbols(node) else [node]
        case Collection(items, _):
            nodes = [item.node for item in items if isinstance(item, Scalar)]
            return nodes if len(nodes) == len(items) and not any(map(free_symbols, nodes)) else None
        case _:
            return None


def _factored(comparer: Comparer, difference: Node, unknown: str, roots: list[Node]) -> Result:
    if len(roots) > _MAX_DEGREE:
        return Result.undecided("too many solutions")
    factors = [Sum((Symbol(unknown), Negative(root))) for root in roots]
    for powers in _powers(len(roots)):
        raised = tuple(Power(f, integer(p)) for f, p in zip(factors, powers, strict=True))
        product: Node = raised[0] if len(raised) == 1 else Product(raised)
        if same_equation(difference, product, comparer.limits).equal:
            return Result(True, STRUCTURE, "all solutions of the equation")
    return Result(False, STRUCTURE, "not all solutions of the equation")


def _powers(count: int) -> Iterator[tuple[int, ...]]:
    for total in range(count, _MAX_DEGREE + 1):
        for powers in itertools.product(range(1, total - count + 2), repeat=count):
            if sum(powers) == total:
                yield powers


def _of_inequality(comparer: Comparer, condition: Inequality, region: Region) -> Result:
    unknowns = free_symbols(condition.positive)
    ends: list[Node] = []
    for span in region.spans:
        for end, closed in ((span.low, span.low_closed), (span.high, span.high_closed)):
            if end is not None:
                ends.append(end)
                if closed == condition.strict:
                    return Result(False, STRUCTURE, "other ends")
    if len(unknowns) != 1 or not ends:
        return Result(False, STRUCTURE, "no solution set")
    unknown = next(iter(unknowns))
    if region.variable is not None and not comparer.names(region.variable, unknown):
        return Result(False, STRUCTURE, "another unknown")
    roots = _factored(comparer, condition.positive, unknown, ends)
    if not roots.equal:
        return roots
    values = sorted(value for end in ends if (value := real(end)) is not None)
    points = [values[0] - 1, values[-1] + 1]
    points += [(a + b) / 2 for a, b in itertools.pairwise(values)]
    for point in points:
        value = real(condition.positive, {unknown: complex(point)})
        if value is None or (value > 0) != _inside(region, point):
            return Result(False, STRUCTURE, "another solution set")
    return Result(True, STRUCTURE, "all solutions of the inequality")


def _inside(region: Region, point: float) -> bool:
    for span in region.spans:
        low = -float("inf") if span.low is None else real(span.low)
        high = float("inf") if span.high is None else real(span.high)
        if low is not None and high is not None and low < point < high:
            return True
    return False
