"""Whether two expressions are equal: `same_expression`, `same_equation`, `same_inequality`."""

from __future__ import annotations

from rlvr.verifiers.equivalence.nodes import Node
from rlvr.verifiers.equivalence.result import DEFAULT_LIMITS, Limits, Result


def same_expression(gold: Node, answer: Node, limits: Limits = DEFAULT_LIMITS) -> Result:
    """Whether two expressions are equal. Symmetric."""
    raise NotImplementedError


def same_equation(gold: Node, answer: Node, limits: Limits = DEFAULT_LIMITS) -> Result:
    """Whether `gold = 0` and `answer = 0` are the same equation: equal up to a nonzero constant."""
    raise NotImplementedError


def same_inequality(gold: Node, answer: Node, limits: Limits = DEFAULT_LIMITS) -> Result:
    """Whether `gold > 0` and `answer > 0` are the same: equal up to a positive constant."""
    raise NotImplementedError
