"""Derivatives of expressions, by the rules."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from rlvr.verifiers.equivalence.exact import UnsettledError
from rlvr.verifiers.equivalence.nodes import (
    Call,
    Constant,
    E,
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
    walk,
)

_MAX_NODES: Final = 5000
_MAX_FACTORS: Final = 60
_ONE = integer(1)
_TWO = integer(2)


def derivative_of(node: Operator) -> Node:
    """The expression that a derivative stands for.

    Raises:
        UnsettledError: something in it has no rule here.
    """
    derived = _derived(node)
    if derived is None:
        raise UnsettledError("a derivative without a rule, or a large one")
    return derived


@lru_cache(maxsize=32)
def _derived(node: Operator) -> Node | None:
    try:
        return _repeated(node)
    except UnsettledError:
        return None


def _repeated(node: Operator) -> Node:
    order = node.upper.value if isinstance(node.upper, Number) else None
    if order is None or order.denominator != 1 or order > 10:
        raise UnsettledError("a derivative of that order")
    body = node.body
    for _ in range(int(order)):
        body = differentiate(body, node.variable)
        if sum(1 for _ in walk(body)) > _MAX_NODES:
            raise UnsettledError("a large derivative")
    return body


def differentiate(node: Node, variable: str) -> Node:
    """The derivative with respect to a variable, not simplified.

    Raises:
        UnsettledError: something in it has no rule here.
    """
    if variable not in free_symbols(node):
        return integer(0)
    match node:
        case Symbol():
            return _ONE
        case Negative(operand):
            return Negative(differentiate(operand, variable))
        case Sum(terms):
            return Sum(tuple(differentiate(term, variable) for term in terms))
        case Product(factors):
            return _product_rule(factors, variable)
        case Quotient(above, below):
            first = Product((differentiate(above, variable), below))
            second = Product((above, differentiate(below, variable)))
            return Quotient(Sum((first, Negative(second))), Power(below, _TWO))
        case Power(base, exponent):
            return _power_rule(base, exponent, variable)
        case Call("root", (radicand, index)):
            return _power_rule(radicand, Quotient(_ONE, index), variable)
        case Call("log", (argument, base)):
            ratio = Quotient(Call("ln", (argument,)), Call("ln", (base,)))
            return differentiate(ratio, variable)
        case Call(name, (argument,)) if name in _OUTER:
            return Product((_OUTER[name](argument), differentiate(argument, variable)))
        case _:
            raise UnsettledError("a derivative without a rule")


def _product_rule(factors: tuple[Node, ...], variable: str) -> Node:
    if len(factors) > _MAX_FACTORS:
        raise UnsettledError("a derivative of a long product")
    terms: list[Node] = []
    for k, factor in enumerate(factors):
        if variable in free_symbols(factor):
            changed = (*factors[:k], differentiate(factor, variable), *factors[k + 1 :])
            terms.append(Product(changed))
    return terms[0] if len(terms) == 1 else Sum(tuple(terms))


def _power_rule(base: Node, exponent: Node, variable: str) -> Node:
    terms: list[Node] = []
    if variable in free_symbols(base):
        lowered = Power(base, Sum((exponent, Negative(_ONE))))
        terms.append(Product((exponent, lowered, differentiate(base, variable))))
    if variable in free_symbols(exponent):
        inner: tuple[Node, ...] = (Power(base, exponent), differentiate(exponent, variable))
        terms.append(Product(inner if base == E else (*inner, Call("ln", (base,)))))
    return terms[0] if len(terms) == 1 else Sum(tuple(terms))


def _call(name: str, x: Node) -> Node:
    return Call(name, (x,))


def _over(x: Node) -> Node:
    return Quotient(_ONE, x)


def _square(x: Node) -> Node:
    return Power(x, _TWO)


def _one_minus(x: Node) -> Node:
    return Sum((_ONE, Negative(x)))


def _root(x: Node) -> Node:
    return Call("root", (x, _TWO))


# The derivative of f at x, before the chain rule.
_OUTER: Final[dict[str, Callable[[Node], Node]]] = {
    "ln": _over,
    "sin": lambda x: _call("cos", x),
    "cos": lambda x: Negative(_call("sin", x)),
    "tan": lambda x: _square(_call("sec", x)),
    "cot": lambda x: Negative(_square(_call("csc", x))),
    "sec": lambda x: Product((_call("sec", x), _call("tan", x))),
    "csc": lambda x: Negative(Product((_call("csc", x), _call("cot", x)))),
    "sinh": lambda x: _call("cosh", x),
    "cosh": lambda x: _call("sinh", x),
    "tanh": lambda x: _over(_square(_call("cosh", x))),
    "asin": lambda x: _over(_root(_one_minus(_square(x)))),
    "acos": lambda x: Negative(_over(_root(_one_minus(_square(x))))),
    "atan": lambda x: _over(Sum((_ONE, _square(x)))),
    "asinh": lambda x: _over(_root(Sum((_ONE, _square(x))))),
    "atanh": lambda x: _over(_one_minus(_square(x))),
    "abs": lambda x: _call("sign", x),
    "degrees": lambda x: Quotient(Constant("pi"), integer(180)),
}
