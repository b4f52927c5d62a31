"""Reading asserts as expressions of a small language without names, loops or statements.

`plain_tests` says which suites can be read so; `rlvr.verifiers.code_plain` evaluates them. What an
expression computes is bounded: nothing that an answer returns makes it take long.
"""

from __future__ import annotations

import ast
import builtins
import functools
import operator
from collections.abc import Callable, Container, Sequence
from typing import Any

from rlvr.sandbox.guest import values
from rlvr.sandbox.session import encoded_call
from rlvr.verifiers.code_plain import Calls, Expression, NotPlain, PlainTests

_MOST_BITS = 4096
_MOST_POWER = 64
_MOST_DIGITS = 400
_MOST_ITEMS = 1 << 20
_OPERANDS = (int, float, complex, str, list, tuple, type(None))
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda item, container: item in container,
    ast.NotIn: lambda item, container: item not in container,
}
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_NO_CALLS = Calls(None)


def _set(*items: Any) -> set[Any]:
    """A set of what an answer gave, unless it chose items that take for ever."""
    try:
        return set(*(values.spread(list(given)) for given in items))
    except values.Refused:
        raise NotPlain from None


def _round(number: Any, ndigits: Any = None) -> Any:
    if type(ndigits) is int and abs(ndigits) > _MOST_DIGITS:
        raise NotPlain  # 10 to that power is computed
    return round(number, ndigits)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "len": len,
    "list": list,
    "round": _round,
    "set": _set,
    "sorted": sorted,
    "tuple": tuple,
}


def _sum_or_product(kind: type[ast.operator], left: Any, right: Any) -> Any:
    """What an operator gives; `NotPlain` where that might be large."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, int) and one.bit_length() > _MOST_BITS:
            raise NotPlain
        if isinstance(one, str | list | tuple) and kind is ast.Mult:
            if not isinstance(other, int) or len(one) * other > _MOST_ITEMS:
                raise NotPlain
        elif not isinstance(one, _OPERANDS):
            raise NotPlain  # the tester knows what is meant by it
    return _OPERATORS[kind](left, right)


# ------------------------------------------------------------------------------ reading a suite


@functools.lru_cache(maxsize=512)
def plain_tests(tests: str, setup: str, entry_point: str | None) -> PlainTests | None:
    """The suite as expressions; None where it has to be run.

    Args:
        tests: bare asserts, or a `def check(candidate)` of asserts.
        setup: source that comes before; the suite is not plain where there is any.
        entry_point: the function that is `candidate`, or None.
    """
    try:
        body = ast.parse(tests).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if setup.strip():
        return None
    lines = tests.splitlines()
    body = [statement for statement in body if not _has_no_effect(statement)]
    match body:
        case [
            ast.FunctionDef(
                "check",
                ast.arguments([], [ast.arg(called)], None, [], [], None, []),
                inner,
                [],
            )
        ] if entry_point:
            name = entry_point
            names = {called} if hasattr(builtins, name) else {called, name}
            statements = [statement for statement in inner if not _has_no_effect(statement)]
        case _:
            found = _only_function(body)
            if found is None or (entry_point and found != entry_point):
                return None
            name, names = found, {found}
            statements = body
    if names & _FUNCTIONS.keys() or not statements:
        return None
    reader = _Reader(name, names)
    try:
        asserts = [reader.read_assert(part, lines) for part in statements]
    except NotPlain:
        return None
    return PlainTests(name, asserts) if reader.calls else None


def _has_no_effect(statement: ast.stmt) -> bool:
    """A docstring, `pass`, or data such as HumanEval's METADATA that nothing reads."""
    match statement:
        case ast.Pass() | ast.Expr(ast.Constant()):
            return True
        case ast.Expr(ast.Name(name)):
            return hasattr(builtins, name)
        case ast.Assign([ast.Name("METADATA")], ast.Dict()):
            return True
    return False


def _only_function(body: list[ast.stmt]) -> str | None:
    """The one name that bare asserts call and that is no builtin."""
    names = {node.id for part in body for node in ast.walk(part) if isinstance(node, ast.Name)}
    ours = {name for name in names if not hasattr(builtins, name)}
    return ours.pop() if len(ours) == 1 else None


# ------------------------------------------------------------------------------ reading an assert


class _Reader:
    """Makes functions of expressions; `NotPlain` where only Python can evaluate one."""

    def __init__(self, name: str, called: Container[str]) -> None:
        self._name, self._called = name, called
        self.calls = 0  # of the answer, in all that was read

    def _mentions(self, node: ast.AST) -> bool:
        return any(
            isinstance(part, ast.Name) and part.id in self._called for part in ast.walk(node)
        )

    def read_assert(self, statement: ast.stmt, lines: list[str]) -> tuple[str, Expression]:
        """Its text, and what it asserts."""
        if not isinstance(statement, ast.Assert):
            raise NotPlain
        last = statement.end_lineno or statement.lineno
        label = " ".join(line.strip() for line in lines[statement.lineno - 1 : last])[:200]
        test = self.read(statement.test)
        message = statement.msg
        if not (message is None or isinstance(message, ast.Constant)) and self._mentions(message):
            return label, _or_not_plain(test)
        return label, test

    def read(self, node: ast.expr) -> Expression:
        """What gives the expression's value."""
        match node:
            case ast.Constant(value) if value is not Ellipsis:
                return lambda calls: value
            case ast.BoolOp(kind, parts):
                return _and_or(isinstance(kind, ast.And), self._all(parts))
            case ast.Compare(left, kinds, others):
                self._only_singletons(kinds, [left, *others])
                compare = [_COMPARISONS[type(kind)] for kind in kinds]
                return _comparison(compare, self._all([left, *others]))
            case ast.Call(ast.Name(name), arguments, keywords) if name in self._called:
                return self._call(arguments, keywords)
        inside, make = self._simple(node)
        calls_before = self.calls
        read = self._all(inside)
        if self.calls > calls_before:
            return lambda calls: make(*[part(calls) for part in read])
        return _constant(lambda: make(*[part(_NO_CALLS) for part in read]))

    def _all(self, nodes: Sequence[ast.expr]) -> list[Expression]:
        return [self.read(node) for node in nodes]

    def _simple(self, node: ast.expr) -> tuple[Sequence[ast.expr], Callable[..., Any]]:
        """The expressions inside, and what makes the value of theirs."""
        match node:
            case ast.List(items):
                return items, lambda *found: list(found)
            case ast.Tuple(items):
                return items, lambda *found: found
            case ast.Set(items):
                return items, lambda *found: set(found)
            case ast.Dict(keys, items):
                given = [key for key in keys if key is not None]
                if len(given) == len(items):
                    return [*given, *items], _mapping
            case ast.UnaryOp(kind, operand) if type(kind) in _SIGNS:
                return [operand], _SIGNS[type(kind)]
            case ast.BinOp(ast.Constant(int(base)), ast.Pow(), ast.Constant(int(power))):
                if abs(base) <= _MOST_POWER and 0 <= power <= _MOST_POWER:
                    return [], lambda: base**power
            case ast.BinOp(left, kind, right) if type(kind) in _OPERATORS:
                return [left, right], functools.partial(_sum_or_product, type(kind))
            case ast.Call(ast.Name(name), arguments, keywords) if name in _FUNCTIONS:
                return self._with_names(_FUNCTIONS[name], arguments, keywords)
        raise NotPlain

    def _with_names(
        self,
        function: Callable[..., Any],
        arguments: Sequence[ast.expr],
        keywords: Sequence[ast.keyword],
    ) -> tuple[Sequence[ast.expr], Callable[..., Any]]:
        """A call as its arguments in a row, and what takes them in a row."""
        names = [word.arg for word in keywords if word.arg is not None]
        if len(names) < len(keywords):
            raise NotPlain
        count = len(arguments)

        def call(*found: Any) -> Any:
            return function(*found[:count], **dict(zip(names, found[count:], strict=True)))

        return [*arguments, *(word.value for word in keywords)], call

    def _call(self, arguments: Sequence[ast.expr], keywords: Sequence[ast.keyword]) -> Expression:
        """A call of the answer, as the bytes that ask for it."""

        def ask(*args: Any, **kwargs: Any) -> bytes:
            try:
                return encoded_call(self._name, args, kwargs)
            except values.Refused:
                raise NotPlain from None

        parts, make = self._with_names(ask, arguments, keywords)
        self.calls += 1
        calls_before = self.calls
        read = self._all(parts)
        if self.calls > calls_before:
            return lambda calls: calls.result(make(*[part(calls) for part in read]))
        frame = _constant(lambda: make(*[part(_NO_CALLS) for part in read]))
        return lambda calls: calls.result(frame(calls))

    def _only_singletons(self, kinds: Sequence[ast.cmpop], sides: Sequence[ast.expr]) -> None:
        """`is` compares what it means to compare only with None, True and False."""
        for kind, side in zip(kinds, sides[1:], strict=True):
            if isinstance(kind, ast.Is | ast.IsNot):
                match side:
                    case ast.Constant(None | True | False):
                        continue
                raise NotPlain


def _or_not_plain(test: Expression) -> Expression:
    """The same test; where it fails, its message calls the answer, for the tester to see."""

    def evaluate(calls: Calls) -> Any:
        if not test(calls):
            raise NotPlain
        return True

    return evaluate


def _constant(make: Callable[[], Any]) -> Expression:
    """What is the same each time; where making it fails, it fails in each test."""
    try:
        value = make()
    except NotPlain:
        raise
    except Exception:
        return lambda calls: make()
    return lambda calls: value


def _mapping(*found: Any) -> dict[Any, Any]:
    half = len(found) // 2
    return dict(zip(found[:half], found[half:], strict=True))


def _and_or(is_and: bool, parts: Sequence[Expression]) -> Expression:
    def evaluate(calls: Calls) -> Any:
        value: Any = None
        for part in parts:
            value = part(calls)
            if bool(value) is not is_and:
                break
        return value

    return evaluate


def _comparison(
    compare: Sequence[Callable[[Any, Any], Any]], sides: Sequence[Expression]
) -> Expression:
    def evaluate(calls: Calls) -> Any:
        left = sides[0](calls)
        good: Any = True
        for holds, side in zip(compare, sides[1:], strict=True):
            right = side(calls)
            good = holds(left, right)
            if not good:
                break
            left = right
        return good

    return evaluate
