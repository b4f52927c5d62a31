"""Tests made of asserts: bare ones, or a `def check(candidate)`.

Each assert counts as a test and the next one still runs. Names that the tests use and do not define
are the candidate's, unless they are builtins or modules of the standard library.
"""

from __future__ import annotations

import ast
import builtins
from collections import Counter
from typing import Any

from .suite import Suite  # noqa: TID251


class _CountAsserts(ast.NodeTransformer):
    """Wrap every assert in a `try` that counts it and lets the suite go on.

    An assert inside the body of a `try` of the tests is left alone: the handlers there are meant
    for it.
    """

    def __init__(self) -> None:
        self.found = 0

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        failed = ast.Call(
            _read("__rlvr_failed__"),
            [ast.Constant(node.lineno), ast.Constant(node.end_lineno), _read("__rlvr_error__")],
            [],
        )
        passed = ast.Call(_read("__rlvr_passed__"), [ast.Constant(True)], [])
        handler = ast.ExceptHandler(_read("Exception"), "__rlvr_error__", [ast.Expr(failed)])
        wrapped = ast.Try([node], [handler], [ast.Expr(passed)], [])
        self.found += 1
        return ast.fix_missing_locations(ast.copy_location(wrapped, node))

    def visit_Try(self, node: ast.Try) -> ast.AST:
        for part in (node.handlers, node.orelse, node.finalbody):
            part[:] = [self.visit(child) for child in part]
        return node


def _read(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def run_asserts(suite: Suite) -> None:
    """Bare asserts, or `def check(candidate)`; names defined nowhere else are the candidate's."""
    spec = suite.spec
    scope: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
    tree = ast.parse(spec["tests"])
    sources = [ast.parse(part) for part in (spec["prefix"], spec["setup"]) if part]
    entry = spec["entry_point"]
    if spec["prefix"] and entry:
        sources[0].body = [s for s in sources[0].body if getattr(s, "name", None) != entry]
    trees = [*sources, tree]
    missing = suite.namespace(wanted(suite, trees, entry), scope, _only_dotted(trees))
    counter = _CountAsserts()
    counter.visit(tree)
    suite.expected = counter.found
    if missing:
        suite.fail("missing", f"the code does not define {', '.join(missing)}")
        return
    lines = spec["tests"].splitlines()

    def failed(first: int, last: int, error: Exception) -> None:
        label = " ".join(line.strip() for line in lines[first - 1 : last])
        suite.test_failed(label[:200], error)

    scope["__rlvr_failed__"] = failed
    scope["__rlvr_passed__"] = suite.count
    for source in [*sources, tree]:
        exec(compile(source, "<tests>", "exec"), scope)  # noqa: S102 - the data set's own tests
    if "check" in _defined(tree) and entry:
        scope["check"](scope[entry])
    if suite.run == 0 and suite.problem is None:
        if not suite.met:
            suite.fail("test_error", "they call nothing of the code and reach no assert")
        elif counter.found:
            suite.fail("assertion", "none of the asserts was reached")
        elif _checks_something(tree):
            suite.count(True)  # it raises by itself, or asserts in a `try`: it ended, so it passed


def wanted(suite: Suite, trees: list[ast.Module], entry: str | None) -> set[str]:
    """The names that the candidate has to provide.

    A name of a builtin is the candidate's only where it is the entry point, or where the tests
    call nothing else of the candidate's: else a candidate's own `abs` could bend
    `abs(f(x) - y) < e`. Where they do call nothing else, it is missing if the candidate has none.
    """
    read, bound = _names(trees)
    free = read - bound - set(dir(builtins))
    if entry:
        shadow = hasattr(builtins, entry) and entry not in suite.kinds
        return (free or {entry}) if shadow else {*free, entry}
    called = _called(trees[-1]) - bound
    return free or {name for name in called if suite.kinds.get(name) == "function"} or called


def _called(tree: ast.Module) -> set[str]:
    """Names that are called."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {called.id for called in calls if isinstance(called, ast.Name)}


def _only_dotted(trees: list[ast.Module]) -> frozenset[str]:
    """Names that are read only to take an attribute."""
    read, dotted = Counter[str](), Counter[str]()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Name):
            read[node.id] += 1
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            dotted[node.value.id] += 1
    return frozenset(name for name in dotted if dotted[name] == read[name])


def _checks_something(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.Assert | ast.Raise) for node in ast.walk(tree))


def _defined(tree: ast.Module) -> set[str]:
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def _names(trees: list[ast.Module]) -> tuple[set[str], set[str]]:
    """Names that are read somewhere, and names that are bound somewhere."""
    read: set[str] = set()
    bound: set[str] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return read, bound
