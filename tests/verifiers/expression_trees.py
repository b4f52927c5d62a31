"""Random expression trees for hypothesis, printed in four notations, rewritten and mutated."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

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
    integer,
)

NOTATIONS = ("latex", "plain", "sympy", "mathematica")
_UNARY = {"sin": "Sin", "cos": "Cos", "ln": "Log", "atan": "ArcTan", "abs": "Abs"}


def numbers() -> st.SearchStrategy[Node]:
    return st.integers(0, 40).map(integer)


def leaves() -> st.SearchStrategy[Node]:
    names = st.sampled_from(["x", "y", "a", "n", "k"]).map(Symbol)
    constants = st.sampled_from([Constant("pi"), Constant("e")])
    return st.one_of(numbers(), names, constants)


def _larger(parts: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    several = st.lists(parts, min_size=2, max_size=3).map(tuple)
    small = st.integers(2, 4).map(integer)
    return st.one_of(
        several.map(Sum),
        several.map(Product),
        parts.map(Negative),
        st.builds(Quotient, parts, parts),
        st.builds(Power, parts, small),
        st.builds(lambda x: Call("root", (x, integer(2))), parts),
        st.builds(lambda name, x: Call(name, (x,)), st.sampled_from(sorted(_UNARY)), parts),
    )


def trees(leaf: st.SearchStrategy[Node] | None = None) -> st.SearchStrategy[Node]:
    return st.recursive(leaves() if leaf is None else leaf, _larger, max_leaves=7)


def constants() -> st.SearchStrategy[Node]:
    return trees(st.one_of(numbers(), st.sampled_from([Constant("pi"), Constant("e")])))


def rationals() -> st.SearchStrategy[Node]:
    """Trees of numbers and the four operations."""

    def larger(parts: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        several = st.lists(parts, min_size=2, max_size=3).map(tuple)
        return st.one_of(
            several.map(Sum),
            several.map(Product),
            parts.map(Negative),
            st.builds(Quotient, parts, parts),
            st.builds(Power, parts, st.integers(1, 3).map(integer)),
        )

    return st.recursive(numbers(), larger, max_leaves=8)


def show(node: Node, notation: str) -> str:
    """A tree as text; every compound part in parentheses, or in braces for LaTeX."""
    latex = notation == "latex"

    def inner(part: Node) -> str:
        text = show(part, notation)
        if isinstance(part, Symbol | Constant) or (isinstance(part, Number) and text.isdigit()):
            return text
        return f"\\left({text}\\right)" if latex else f"({text})"

    match node:
        case Number(value):
            if value.denominator == 1:
                return str(value)
            return f"\\frac{{{value.numerator}}}{{{value.denominator}}}" if latex else str(value)
        case Symbol(name):
            return name
        case Constant(name):
            table = {
                "latex": {"pi": "\\pi ", "e": "e", "i": "i"},
                "plain": {"pi": "π", "e": "e", "i": "i"},
                "sympy": {"pi": "pi", "e": "exp(1)", "i": "I"},
                "mathematica": {"pi": "Pi", "e": "Exp[1]", "i": "I"},
            }
            return table[notation][name]
        case Negative(operand):
            return "-" + inner(operand)
        case Sum(terms):
            return " + ".join(inner(term) for term in terms)
        case Product(factors):
            sign = {"latex": " \\cdot ", "plain": "·", "sympy": "*", "mathematica": "*"}[notation]
            return sign.join(inner(factor) for factor in factors)
        case Quotient(above, below):
            if latex:
                return f"\\frac{{{show(above, notation)}}}{{{show(below, notation)}}}"
            return f"{inner(above)}/{inner(below)}"
        case Power(base, exponent):
            if latex:
                return f"{inner(base)}^{{{show(exponent, notation)}}}"
            return inner(base) + ("**" if notation == "sympy" else "^") + inner(exponent)
        case Call("root", (x, _)):
            if latex:
                return f"\\sqrt{{{show(x, notation)}}}"
            if notation == "mathematica":
                return f"Sqrt[{show(x, notation)}]"
            return ("√" if notation == "plain" else "sqrt") + f"({show(x, notation)})"
        case Call(name, (x,)):
            return _function(name, show(x, notation), notation)
    raise AssertionError(node)


def _function(name: str, inside: str, notation: str) -> str:
    if notation == "mathematica":
        return f"{_UNARY[name]}[{inside}]"
    if name == "abs" and notation != "sympy":
        return f"\\left|{inside}\\right|" if notation == "latex" else f"|{inside}|"
    if notation == "latex":
        return {"atan": "\\arctan"}.get(name, f"\\{name}") + f"\\left({inside}\\right)"
    written = {"ln": "log", "atan": "atan", "abs": "Abs"} if notation == "sympy" else {}
    return f"{written.get(name, name)}({inside})"


def rewritten(draw: st.DrawFn, node: Node) -> Node:
    """An equal tree: parts rewritten by rules that hold for every complex value."""
    match node:
        case Sum(terms):
            parts = [rewritten(draw, term) for term in terms]
            node = Sum(tuple(draw(st.permutations(parts))))
        case Product(factors):
            parts = [rewritten(draw, factor) for factor in factors]
            node = Product(tuple(draw(st.permutations(parts))))
        case Negative(operand):
            node = Negative(rewritten(draw, operand))
        case Quotient(above, below):
            node = Quotient(rewritten(draw, above), rewritten(draw, below))
        case Power(base, exponent):
            node = Power(rewritten(draw, base), exponent)
        case Call(name, (x, *rest)):
            node = Call(name, (rewritten(draw, x), *rest))
        case _:
            pass
    return draw(st.sampled_from(_RULES))(node)


def _split_power(node: Node) -> Node:
    if isinstance(node, Power) and isinstance(node.exponent, Number):
        return Product((node.base,) * int(node.exponent.value))
    return node


def _other_function(node: Node) -> Node:
    match node:
        case Call("root", (x, _)):
            return Power(x, Quotient(integer(1), integer(2)))
        case Call("cos", (x,)):
            half = Quotient(x, integer(2))
            return Sum(
                (
                    integer(1),
                    Negative(Product((integer(2), Power(Call("sin", (half,)), integer(2))))),
                )
            )
        case Call("sin", (x,)):
            return Negative(Call("sin", (Negative(x),)))
        case _:
            return node


def _split_number(node: Node) -> Node:
    if isinstance(node, Number):
        return Sum((Quotient(node, integer(3)), Product((Number(Fraction(2, 3)), node))))
    return node


_RULES = (
    lambda node: node,
    lambda node: Negative(Negative(node)),
    lambda node: Quotient(Product((node, integer(6))), integer(6)),
    lambda node: Sum((node, integer(0))),
    lambda node: Sum((Product((integer(3), node)), Negative(Product((integer(2), node))))),
    _split_power,
    _other_function,
    _split_number,
)


def mutations(node: Node) -> list[Node]:
    """Trees that are near it and differ from it wherever it has a finite value."""
    return [
        Sum((node, integer(1))),
        Sum((node, Quotient(integer(1), Power(integer(10), integer(9))))),
        Sum((node, Power(integer(10), integer(12)))),
        Sum((node, Symbol("w_1"))),
        Sum((node, Negative(Quotient(Constant("pi"), integer(100))))),
    ]
