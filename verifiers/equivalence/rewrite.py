"""Rebuilding answers, and a walk over all nodes of an answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

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
    free_symbols,
)
from rlvr.verifiers.equivalence.shapes import Answer, Scalar

_NODES = (
    Number, Constant, Symbol, Negative, Sum, Product, Quotient, Power, Call, Apply, Operator,
)  # fmt: skip


def replaced(node: Node, old: Node, new: Node) -> Node:
    """A tree with every part that is written as `old` replaced; not inside sums and integrals."""
    if node == old:
        return new
    match node:
        case Negative(operand):
            return Negative(replaced(operand, old, new))
        case Sum(terms):
            return Sum(tuple(replaced(term, old, new) for term in terms))
        case Product(factors):
            return Product(tuple(replaced(factor, old, new) for factor in factors))
        case Quotient(above, below):
            return Quotient(replaced(above, old, new), replaced(below, old, new))
        case Power(base, exponent):
            return Power(replaced(base, old, new), replaced(exponent, old, new))
        case Call(name, arguments):
            return Call(name, tuple(replaced(part, old, new) for part in arguments))
        case _:
            return node


def map_nodes(answer: Any, change: Callable[[Node], Node]) -> Any:
    """An answer with every expression changed."""
    if isinstance(answer, _NODES):
        return change(answer)
    if isinstance(answer, tuple):
        return tuple(map_nodes(item, change) for item in answer)
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        if type(answer).__name__ in ("Unit", "Clock", "Date"):
            return answer
        values = {
            field.name: map_nodes(getattr(answer, field.name), change)
            for field in dataclasses.fields(answer)
        }
        return type(answer)(**values)
    return answer


def nodes_of(answer: Any) -> Iterator[Node]:
    """Every expression of an answer."""
    if isinstance(answer, _NODES):
        yield answer
    elif isinstance(answer, tuple):
        for item in answer:
            yield from nodes_of(item)
    elif dataclasses.is_dataclass(answer) and type(answer).__name__ not in (
        "Unit",
        "Clock",
        "Date",
    ):
        for field in dataclasses.fields(answer):
            yield from nodes_of(getattr(answer, field.name))


def symbols_of(answer: Answer) -> frozenset[str]:
    """The free variables of all expressions of an answer."""
    if isinstance(answer, Scalar):
        return free_symbols(answer.node)
    found: frozenset[str] = frozenset()
    for node in nodes_of(answer):
        found |= free_symbols(node)
    return found
