"""Rough values of expressions, to order and to sample; nothing is ever decided by them alone."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping

from rlvr.verifiers.equivalence.nodes import (
    Call,
    Constant,
    Negative,
    Node,
    Number,
    Power,
    Product,
    Quotient,
    Sum,
    Symbol,
)

_FUNCTIONS: dict[str, Callable[[complex], complex]] = {
    "sin": cmath.sin, "cos": cmath.cos, "tan": cmath.tan, "asin": cmath.asin, "acos": cmath.acos,
    "atan": cmath.atan, "sinh": cmath.sinh, "cosh": cmath.cosh, "tanh": cmath.tanh,
    "ln": cmath.log, "abs": abs, "floor": lambda z: math.floor(z.real),
    "ceil": lambda z: math.ceil(z.real), "cot": lambda z: 1 / cmath.tan(z),
    "sec": lambda z: 1 / cmath.cos(z), "csc": lambda z: 1 / cmath.sin(z),
    "degrees": lambda z: z * math.pi / 180, "factorial": lambda z: math.gamma(z.real + 1),
    "acot": lambda z: math.pi / 2 - cmath.atan(z), "re": lambda z: z.real,
    "im": lambda z: z.imag, "conjugate": lambda z: z.conjugate(),
    "sign": lambda z: (z.real > 0) - (z.real < 0),
}  # fmt: skip
_CONSTANTS: dict[str, complex] = {"pi": math.pi, "e": math.e, "i": 1j}


def approximate(node: Node, point: Mapping[str, complex] | None = None) -> complex | None:
    """A value to about 12 digits at a point, or None where there is none."""
    try:
        value = _value(node, point or {})
    except (ArithmeticError, ValueError, TypeError, KeyError):
        return None
    return value if cmath.isfinite(value) else None


def real(node: Node, point: Mapping[str, complex] | None = None) -> float | None:
    """A real value, or None where it is none."""
    value = approximate(node, point)
    if value is None or abs(value.imag) > 1e-9 * max(1.0, abs(value)):
        return None
    return value.real


def _value(node: Node, point: Mapping[str, complex]) -> complex:
    match node:
        case Number(value):
            return complex(float(value))
        case Constant(name):
            return _CONSTANTS[name]
        case Symbol(name):
            return point[name]
        case Negative(operand):
            return -_value(operand, point)
        case Sum(terms):
            return sum((_value(term, point) for term in terms), 0j)
        case Product(factors):
            return math.prod((_value(factor, point) for factor in factors), start=1 + 0j)
        case Quotient(numerator, denominator):
            return _value(numerator, point) / _value(denominator, point)
        case Power(base, exponent):
            return complex(_value(base, point) ** _value(exponent, point))
        case Call("root", (radicand, index)):
            inner, order = _value(radicand, point), _value(index, point)
            if inner.imag == 0 and inner.real < 0 and order.imag == 0 and order.real % 2 == 1:
                return complex(-((-inner.real) ** (1 / order.real)))
            return complex(inner ** (1 / order))
        case Call("log", (argument, base)):
            return cmath.log(_value(argument, point)) / cmath.log(_value(base, point))
        case Call(name, (argument,)):
            return complex(_FUNCTIONS[name](_value(argument, point)))
        case Call("binomial", (above, below)):
            return complex(math.comb(*map(_small, (_value(above, point), _value(below, point)))))
        case Call("max" | "min" as name, arguments):
            values = [_value(argument, point).real for argument in arguments]
            return complex(max(values) if name == "max" else min(values))
        case _:
            raise KeyError(type(node).__name__)


def _small(value: complex) -> int:
    whole = round(value.real)
    if whole != value or not 0 <= whole <= 10_000:
        raise ValueError("not a small integer")
    return whole
