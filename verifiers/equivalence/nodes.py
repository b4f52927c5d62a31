r"""The expression tree: frozen, hashable nodes of bounded depth and size.

A tree says what was written, not what it is worth: `1/2` is a `Quotient`, `0.5` a `Number` with one
decimal, `-3` a `Negative`. The parser bounds depth (`MAX_DEPTH`), the number of nodes (`MAX_NODES`)
and the digits of a number (`MAX_DIGITS`), so a function over a tree may recurse.

Two trees are equal (`==`) if they were written alike up to notation: `\frac12` and `1/2`, `\pi` and
`pi`, `2x` and `2*x`. Use `expressions.same_expression` for equality as mathematics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

MAX_DEPTH = 80
MAX_NODES = 4000
MAX_DIGITS = 4000


@dataclass(frozen=True, slots=True)
class Number:
    r"""A number written in digits: `42`, `0.2`, `1.2e5`, `0.\overline{3}`; never negative.

    Attributes:
        value: its exact value.
        places: the decimals as written (`0.50`: 2), None where there is no decimal point; not part
            of equality.
    """

    value: Fraction
    places: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Constant:
    """`pi`, `e`, `i`, `infinity` or `undefined`."""

    name: str


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable by its canonical name: `x`, `alpha`, `a_1`, `a_n+1`, `x'`."""

    name: str


@dataclass(frozen=True, slots=True)
class Negative:
    """`-x`."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Sum:
    """`a + b - c`, in the order written, two terms or more; `- c` is a `Negative`."""

    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """`a b c` in the order written, two factors or more."""

    factors: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Quotient:
    r"""`a / b`, `\frac{a}{b}`, `a \div b`."""

    numerator: Node
    denominator: Node


@dataclass(frozen=True, slots=True)
class Power:
    """`base ^ exponent`; `e^x` and `exp(x)` have the base `Constant("e")`."""

    base: Node
    exponent: Node


@dataclass(frozen=True, slots=True)
class Call:
    """A known function of `FUNCTIONS`: `sin(x)`, `sqrt(x)` is `root(x, 2)`, `n!` is `factorial(n)`.

    Attributes:
        name: a key of `FUNCTIONS`.
        arguments: as many as `FUNCTIONS` says (`log` has two: the argument and the base).
    """

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Apply:
    """An unknown function applied: `f(x)`, `g(a, b)`; `f'(x)` has the name `f'`."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Operator:
    r"""A bound variable: `\sum`, `\prod`, `\int`, `\lim`, `d/dx`.

    Attributes:
        kind: `sum`, `product`, `integral`, `limit`, `limit+`, `limit-` or `derivative`.
        body: what is summed, integrated, ...
        variable: the bound variable's name.
        lower: the lower bound; the point of a limit; None for an indefinite integral and a
            derivative.
        upper: the upper bound, or None; the order of a derivative.
    """

    kind: str
    body: Node
    variable: str
    lower: Node | None = None
    upper: Node | None = None

    @property
    def unbounded(self) -> bool:
        """Whether a bound (or the point of a limit) is infinite."""
        return any(is_infinite(bound) for bound in (self.lower, self.upper))


Node = (
    Number
    | Constant
    | Symbol
    | Negative
    | Sum
    | Product
    | Quotient
    | Power
    | Call
    | Apply
    | Operator
)

_ONE_ARGUMENT = (
    "sin cos tan cot sec csc asin acos atan acot asec acsc "
    "sinh cosh tanh coth sech csch asinh acosh atanh acoth asech acsch "
    "ln abs floor ceil round factorial double_factorial sign re im conjugate arg gamma "
    "degrees totient zeta"
)

# Known functions and how many arguments they take: (least, most).
FUNCTIONS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(_ONE_ARGUMENT.split(), (1, 1)),
    "log": (2, 2),
    "root": (2, 2),
    "binomial": (2, 2),
    "permutations": (2, 2),
    "mod": (2, 2),
    "atan2": (2, 2),
    **dict.fromkeys(["gcd", "lcm", "max", "min"], (1, 100)),
}

PI = Constant("pi")
E = Constant("e")
I = Constant("i")  # noqa: E741 - the imaginary unit
INFINITY = Constant("infinity")
UNDEFINED = Constant("undefined")


def integer(value: int) -> Node:
    """The node of an integer."""
    return Number(Fraction(value)) if value >= 0 else Negative(Number(Fraction(-value)))


def is_infinite(node: Node | None) -> bool:
    """Whether a node is an infinity alone, of either sign."""
    return node == INFINITY or (isinstance(node, Negative) and node.operand == INFINITY)


def children(node: Node) -> tuple[Node, ...]:
    """The direct parts of a node, in the order written."""
    match node:
        case Sum(terms):
            return terms
        case Product(factors):
            return factors
        case Negative(operand):
            return (operand,)
        case Quotient(numerator, denominator):
            return (numerator, denominator)
        case Power(base, exponent):
            return (base, exponent)
        case Call(_, arguments) | Apply(_, arguments):
            return arguments
        case Operator(_, body, _, lower, upper):
            return tuple(part for part in (body, lower, upper) if part is not None)
        case _:
            return ()


def walk(node: Node) -> Iterator[Node]:
    """Every node of the tree, the root first."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(reversed(children(top)))


def free_symbols(node: Node) -> frozenset[str]:
    """The names of the free variables (bound ones of sums, integrals and limits left out)."""
    match node:
        case Symbol(name):
            return frozenset((name,))
        case Number() | Constant():
            return frozenset()
        case Operator(kind, body, variable, lower, upper):
            inner = free_symbols(body)
            if kind != "derivative" and not (kind == "integral" and lower is None):
                inner -= {variable}
            for bound in (lower, upper):
                if bound is not None:
                    inner |= free_symbols(bound)
            return inner
        case _:
            found: frozenset[str] = frozenset()
            for child in children(node):
                found |= free_symbols(child)
            return found


def substitute(node: Node, values: Mapping[str, Node]) -> Node:
    """The tree with free variables replaced; bound variables are left alone."""
    match node:
        case Symbol(name):
            return values.get(name, node)
        case Number() | Constant():
            return node
        case Negative(operand):
            return Negative(substitute(operand, values))
        case Sum(terms):
            return Sum(tuple(substitute(term, values) for term in terms))
        case Product(factors):
            return Product(tuple(substitute(factor, values) for factor in factors))
        case Quotient(above, below):
            return Quotient(substitute(above, values), substitute(below, values))
        case Power(base, exponent):
            return Power(substitute(base, values), substitute(exponent, values))
        case Call(name, arguments):
            return Call(name, tuple(substitute(argument, values) for argument in arguments))
        case Apply(name, arguments):
            return Apply(name, tuple(substitute(argument, values) for argument in arguments))
        case Operator(kind, body, variable, lower, upper):
            inner = {name: value for name, value in values.items() if name != variable}
            bounds = [None if b is None else substitute(b, values) for b in (lower, upper)]
            return Operator(kind, substitute(body, inner), variable, *bounds)
