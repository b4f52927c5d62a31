r"""Sequences with dots: `1, 2, \ldots, n` is arithmetic and ends; `1, 3, 5, \ldots` does not."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlvr.verifiers.equivalence.approximate import real
from rlvr.verifiers.equivalence.nodes import (
    Negative,
    Node,
    Product,
    Quotient,
    Sum,
    integer,
)
from rlvr.verifiers.equivalence.result import STRUCTURE, Result
from rlvr.verifiers.equivalence.shapes import Answer, Collection, Dotted, Scalar
from rlvr.verifiers.equivalence.tolerance import rational

if TYPE_CHECKING:
    from rlvr.verifiers.equivalence.structures import Comparer

_MAX_TERMS = 200


@dataclass(frozen=True, slots=True)
class _Rule:
    """First term, step (a difference or a ratio), and the last term, None where it has none."""

    kind: str
    first: Node
    step: Node
    last: Node | None


def same_sequence(comparer: Comparer, gold: Dotted, answer: Dotted) -> Result:
    """Two sequences written with dots."""
    if gold.joint != answer.joint:
        return Result(False, STRUCTURE, "another kind of sequence")
    if _dots(gold) == _dots(answer) and len(gold.items) == len(answer.items):
        terms = zip(gold.items, answer.items, strict=True)
        results = [comparer.same(g, a) for g, a in terms if g is not None and a is not None]
        if all(result.equal for result in results):
            return Result(True, STRUCTURE, "", sum(result.error_bound for result in results))
    first, second = _rule(comparer, gold), _rule(comparer, answer)
    if first is None or second is None:
        return _prefixes(comparer, gold, answer)
    if (first.last is None) != (second.last is None) or first.kind != second.kind:
        return Result(False, STRUCTURE, "another sequence")
    pairs = [(first.first, second.first), (first.step, second.step)]
    if first.last is not None and second.last is not None:
        pairs.append((first.last, second.last))
    bound = 0.0
    for g, a in pairs:
        result = comparer.expressions(g, a)
        if not result.equal:
            return result
        bound += result.error_bound
    return Result(True, STRUCTURE, "", bound)


def written_out(comparer: Comparer, sequence: Dotted) -> Answer | None:
    """All terms of a finite arithmetic sequence of numbers, or None."""
    rule = _rule(comparer, sequence)
    if rule is None or rule.kind != "arithmetic" or rule.last is None:
        return None
    first, step, last = rational(rule.first), rational(rule.step), rational(rule.last)
    if first is None or last is None or not step:
        return None
    steps = (last - first) / step
    if (
        steps.denominator != 1
        or not 0 < steps <= _MAX_TERMS
        or (first.denominator, step.denominator) != (1, 1)
    ):
        return None
    terms = [integer(int(first + step * index)) for index in range(int(steps) + 1)]
    return Collection(tuple(Scalar(term) for term in terms), "list")


def summed(comparer: Comparer, sequence: Dotted) -> Answer | None:
    """The value of `1 + 2 + ... + n` or of a geometric series, or None."""
    rule = _rule(comparer, sequence)
    if rule is None:
        return None
    if rule.kind == "arithmetic":
        if rule.last is None:
            return None
        count = Sum((Quotient(Sum((rule.last, Negative(rule.first))), rule.step), integer(1)))
        ends = Sum((rule.first, rule.last))
        return Scalar(Quotient(Product((count, ends)), integer(2)))
    rest = Sum((integer(1), Negative(rule.step)))
    if rule.last is None:
        ratio = real(rule.step)
        return Scalar(Quotient(rule.first, rest)) if ratio is not None and abs(ratio) < 1 else None
    return Scalar(Quotient(Sum((rule.first, Negative(Product((rule.last, rule.step))))), rest))


def _dots(sequence: Dotted) -> list[int]:
    return [index for index, item in enumerate(sequence.items) if item is None]


def _rule(comparer: Comparer, sequence: Dotted) -> _Rule | None:
    dots = _dots(sequence)
    terms = [item.node for item in sequence.items if isinstance(item, Scalar)]
    if len(dots) != 1 or len(terms) != len(sequence.items) - 1:
        return None
    before, after = terms[: dots[0]], terms[dots[0] :]
    if not before:
        return None
    if len(before) == 1:
        if not after:
            return None
        return _Rule("arithmetic", before[0], integer(1), after[-1]) if len(after) == 1 else None
    last = after[-1] if after else None
    for kind in ("arithmetic", "geometric"):
        step = _step(kind, before[0], before[1])
        runs = [*itertools.pairwise(before), *itertools.pairwise(after)]
        if all(comparer.expressions(_step(kind, a, b), step).equal for a, b in runs):
            if kind == "geometric" and len(before) < 3:
                return None
            return _Rule(kind, before[0], step, last)
    return None


def _step(kind: str, first: Node, second: Node) -> Node:
    if kind == "arithmetic":
        return Sum((second, Negative(first)))
    return Quotient(second, first)


def _prefixes(comparer: Comparer, gold: Dotted, answer: Dotted) -> Result:
    for g, a in zip(gold.items, answer.items, strict=False):
        if g is None or a is None:
            break
        if comparer.same(g, a).equal is False:
            return Result(False, STRUCTURE, "another term")
    return Result.undecided("sequences whose rule is not found")
