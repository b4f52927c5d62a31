r"""Arbitrary constants: `+ C` of an integral, `C_1 e^x + C_2 e^{-x}`, under any name and order.

Only constants that occur as linear coefficients, beside one or two variables, are taken for
arbitrary; a renaming is one for the whole answer. `+ C` may be scaled (`\frac{x^3 + C}{3}`), and,
beside functions that are no polynomials, moved (`\sin^2 x + C` and `-\cos^2 x + C`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from rlvr.verifiers.equivalence.exact import UndefinedError, exact_value
from rlvr.verifiers.equivalence.expressions import same_expression
from rlvr.verifiers.equivalence.nodes import (
    Call,
    Negative,
    Node,
    Number,
    Operator,
    Power,
    Product,
    Quotient,
    Sum,
    Symbol,
    free_symbols,
    integer,
    substitute,
    walk,
)
from rlvr.verifiers.equivalence.result import IDENTITY, Limits, Result
from rlvr.verifiers.equivalence.rewrite import map_nodes, nodes_of, symbols_of
from rlvr.verifiers.equivalence.shapes import Answer, Bracket, Family, Group, Named, Scalar

_INDEXED: Final = re.compile(r"[CcKk]_\d")
_ALONE: Final = frozenset(("C", "c", "K", "k", "D"))
_CAPITALS: Final = frozenset("ABCDK")
_SMALL: Final = frozenset("abcdk")
_VARIABLES: Final = frozenset("xtnyzurs") | {"theta", "omega"}
_MAX_CONSTANTS: Final = 3


def renamings(gold: Answer, answer: Answer) -> Iterator[Answer]:
    """The answer with its arbitrary constants named as in the ground truth, in every order."""
    if type(gold) is not type(answer) or not isinstance(gold, Scalar | Named | Group | Bracket):
        return
    first, second = constants_of(gold), constants_of(answer)
    if not first or len(first) != len(second) or len(first) > _MAX_CONSTANTS:
        return
    if not _may_be_renamed(gold, answer, first, second):
        return
    wanted = sorted(first)
    for order in itertools.permutations(sorted(second)):
        if list(order) == wanted:
            continue
        values: dict[str, Node] = {old: Symbol(new) for old, new in zip(order, wanted, strict=True)}
        renamed: Answer = map_nodes(answer, partial(substitute, values=values))
        yield renamed


def without_clause(answer: Answer) -> Answer:
    """The answer without `C in R` for constants that would be taken for arbitrary anyhow."""
    if not isinstance(answer, Family) or any(kind != "R" for _, kind in answer.parameters):
        return answer
    names = {name for name, _ in answer.parameters}
    body = answer.body
    arbitrary = constants_of(body) if isinstance(body, Scalar | Named | Group | Bracket) else ()
    return body if arbitrary and names <= set(arbitrary) else answer


def constants_of(answer: Answer) -> frozenset[str]:
    """The names in an answer that may be arbitrary constants: linear coefficients; or none."""
    names = symbols_of(answer)
    found = frozenset(name for name in names if _INDEXED.fullmatch(name))
    found = found or names & _CAPITALS or names & _SMALL
    if not found or not 1 <= len(names - found) <= 2 or not names - found <= _VARIABLES:
        return frozenset()
    return found if all(_linear(node, found) for node in nodes_of(answer)) else frozenset()


def _may_be_renamed(
    gold: Answer, answer: Answer, first: frozenset[str], second: frozenset[str]
) -> bool:
    indexed = [all(map(_INDEXED.fullmatch, names)) for names in (first, second)]
    if len(first) > 1 and any(indexed):
        return True
    small = bool((first | second) & _SMALL) and not any(indexed)
    return not small and not (_polynomial(gold) and _polynomial(answer))


def _linear(node: Node, names: frozenset[str]) -> bool:
    """Whether constants occur in an expression as coefficients only."""
    if not free_symbols(node) & names:
        return True
    match node:
        case Symbol():
            return True
        case Negative(operand):
            return _linear(operand, names)
        case Sum(terms):
            return all(_linear(term, names) for term in terms)
        case Product(factors):
            having = [factor for factor in factors if free_symbols(factor) & names]
            return len(having) == 1 and _linear(having[0], names)
        case Quotient(above, below):
            return not free_symbols(below) & names and _linear(above, names)
        case _:
            return False


def _polynomial(answer: Answer) -> bool:
    """Whether no variable stands in a function or an exponent."""
    return not any(
        isinstance(part, Call | Operator)
        or (isinstance(part, Power) and not isinstance(part.exponent, Number))
        for node in nodes_of(answer)
        for part in walk(node)
        if free_symbols(part)
    )


def same_antiderivative(gold: Node, answer: Node, limits: Limits) -> Result | None:
    """Two expressions that each end in one `+ C`; None where they do not."""
    first, second = _integral(gold), _integral(answer)
    if first is None or second is None or first[1] != second[1]:
        return None
    result = same_expression(first[0], second[0], limits)
    given = first[2] == second[2] and first[2] not in ("C", "c")
    if result.equal or given or _polynomial(Scalar(gold)) or _polynomial(Scalar(answer)):
        return result
    apart = Sum((first[0], Negative(second[0])))
    for point in (1, 2, -2):
        there = substitute(apart, {first[1]: integer(point)})
        moved = same_expression(apart, there, limits)
        if moved.equal:
            return Result(True, IDENTITY, "apart by a constant", moved.error_bound)
    return result


def _integral(node: Node) -> tuple[Node, str, str] | None:
    """The part without the constant, the variable, and the name of the constant of `F(x) + C`."""
    names = free_symbols(node)
    constants = {name for name in names if name in _ALONE or _INDEXED.fullmatch(name)}
    if len(names) != 2 or len(constants) != 1 or not _linear(node, frozenset(constants)):
        return None
    (constant,), (variable,) = constants, names - constants
    try:
        slope = exact_value(_coefficient(node, constant))
    except UndefinedError:
        return None
    if not slope:
        return None
    return substitute(node, {constant: integer(0)}), variable, constant


def _coefficient(node: Node, name: str) -> Node:
    """What stands before a constant that occurs linearly."""
    match node:
        case Symbol() if node.name == name:
            return integer(1)
        case Negative(operand):
            return Negative(_coefficient(operand, name))
        case Sum(terms):
            having = [_coefficient(term, name) for term in terms if name in free_symbols(term)]
            return having[0] if len(having) == 1 else Sum(tuple(having))
        case Product(factors):
            return Product(
                tuple(_coefficient(f, name) if name in free_symbols(f) else f for f in factors)
            )
        case Quotient(above, below):
            return Quotient(_coefficient(above, name), below)
        case _:
            return node
