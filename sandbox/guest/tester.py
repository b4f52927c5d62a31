"""Role `tester`: run a data set's tests against a candidate that lives in another process.

The tests are trusted not to lie, but run confined all the same. The candidate is reached through
two pipes and sends only data; the verdict leaves by a third pipe that it does not have.

The first frame holds a mapping: `style` (`asserts`, `calls` or `pytest`), `names` (what the
candidate said that it defines, still encoded), and the parts of that style. The reply is one
mapping:

    passed, total     tests; a suite that stops early counts every assert that it can see
    problem           None, "assertion", "exception" (in the candidate), "gone", "exit", "refused",
                      "missing" (a name that the tests need), "test_error" (the tests are at fault)
    detail            the first failure in words
    error             for "exception", the name of the exception's type
"""

from __future__ import annotations

import ast
import builtins
import importlib
import math
import os
import random
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from . import remote, values  # noqa: TID251
from .remote import Channel, Stop, Unsupported, brief  # noqa: TID251

CALL_FD = 5
ANSWER_FD = 6


def run(requests: int, replies: int) -> int:
    """Be the tester; the exit code says nothing."""
    body = next(values.frames(lambda count: os.read(requests, count)))
    spec = values.decode(body)
    suite = Suite(spec, _open_channel())
    try:
        _STYLES[spec["style"]](suite)
    except Stop as stop:
        suite.stopped(stop)
    except Unsupported as error:
        suite.fail("test_error", str(error))
    except Exception as error:
        suite.crashed(error)
    _write_all(replies, values.frame(values.encode(suite.verdict())))
    return 0


def _open_channel() -> Channel:
    incoming = values.frames(lambda count: os.read(ANSWER_FD, count))

    def send(data: bytes) -> None:
        try:
            _write_all(CALL_FD, data)
        except BrokenPipeError:
            raise Stop("gone", "the program ended") from None

    return Channel(send, lambda: next(incoming, None))


class Suite:
    """Counts tests and remembers the first failure."""

    def __init__(self, spec: dict[str, Any], channel: Channel) -> None:
        self.spec = spec
        self.channel = channel
        self.passed = 0
        self.run = 0
        self.expected = 0
        self.problem: str | None = None
        self.detail = ""
        self.error = ""
        self.unfound: list[str] = []
        self.kinds = _announced(spec["names"])
        for name, kind in self.kinds.items():
            if kind.startswith("exception:"):
                channel.exceptions[name] = remote.exception_class(name, kind[10:])
        random.seed(0)  # the same tests for the same answer

    def count(self, passed: bool) -> None:
        """One test was run."""
        self.run += 1
        self.passed += passed

    def fail(self, problem: str, detail: str, error: str = "") -> None:
        """Keep the first failure; later ones change nothing."""
        if self.problem is None:
            self.problem, self.detail, self.error = problem, detail[:400], error

    def test_failed(self, label: str, error: Exception) -> None:
        """A test raised: the candidate's doing where its exception came through or it was asked."""
        self.count(False)
        what = f"test {self.run}, {label}: " if label else ""
        if error is self.channel.raised:
            self.fail("exception", what + self.channel.last, type(error).__name__)
        elif isinstance(error, AssertionError):
            said = self.channel.last or str(error)
            self.fail("assertion", (what + said) if said else what.removesuffix(": "))
        elif name := self.missing_from(error):
            self.fail("missing", f"the code does not define {name}")
        elif isinstance(error, Unsupported) or self.channel.calls == 0:
            self.fail("test_error", f"{what}{type(error).__name__}: {error}")
        else:
            said = f"{self.channel.last}, then {type(error).__name__}: {error}"
            self.fail("assertion", what + said)

    def missing_from(self, error: object) -> str | None:
        """The name that the tests looked for in the candidate in vain, if that is the error."""
        text = str(error)
        return next((name for name in self.unfound if f"'{name}'" in text), None)

    def stopped(self, stop: Stop) -> None:
        """The candidate can no longer be called: the test that was under way has failed."""
        self.count(False)
        self.fail(stop.kind, f"test {self.run}: {stop.detail}")

    def crashed(self, error: Exception) -> None:
        """The tests themselves ended early, outside any single assert."""
        line = _line_of(error)
        self.test_failed(f"line {line} of the tests" if line else "", error)

    def verdict(self) -> dict[str, Any]:
        """What goes back."""
        total = max(self.run, self.expected)
        return {
            "passed": self.passed,
            "total": total,
            "calls": self.channel.calls,
            "problem": self.problem,
            "detail": self.detail,
            "error": self.error,
        }

    def namespace(
        self, wanted: set[str], taken: dict[str, Any], modules: frozenset[str] = frozenset()
    ) -> list[str]:
        """Put stand-ins for `wanted` into `taken`; give the names that nobody defines.

        Args:
            wanted: names that the tests use and do not define.
            taken: where the stand-ins go.
            modules: those of them that are used as `name.attribute` only. One that the standard
                library has is that module: the candidate's word on `math` counts for nothing.
        """
        missing = []
        for name in sorted(wanted):
            kind = self.kinds.get(name)
            if name in modules and name in sys.stdlib_module_names:
                taken[name] = importlib.import_module(name)
            elif kind is None:
                missing.append(name)
            elif kind.startswith("module:"):
                if kind[7:].split(".")[0] in sys.stdlib_module_names:
                    taken[name] = importlib.import_module(kind[7:])
            else:
                taken[name] = remote.stand_in(self.channel, name, kind)
        return missing


def _announced(names: bytes) -> dict[str, str]:
    """Read the candidate's list of what it defines; nonsense is an empty list."""
    try:
        _, pairs = values.decode(names)
        return {str(name): str(kind) for name, kind in pairs}
    except (ValueError, TypeError):
        return {}


# ------------------------------------------------------------------------------ asserts


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


def _asserts(suite: Suite) -> None:
    """Bare asserts, or `def check(candidate)`; names defined nowhere else are the candidate's."""
    spec = suite.spec
    scope: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
    tree = ast.parse(spec["tests"])
    sources = [ast.parse(part) for part in (spec["prefix"], spec["setup"]) if part]
    entry = spec["entry_point"]
    if spec["prefix"] and entry:
        sources[0].body = [s for s in sources[0].body if getattr(s, "name", None) != entry]
    trees = [*sources, tree]
    missing = suite.namespace(_wanted(suite, trees, entry), scope, _only_dotted(trees))
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
    if suite.run == 0 and suite.channel.calls and _checks_something(tree):
        suite.count(True)  # it raises by itself, or asserts within a `try`: it ended, so it passed


def _wanted(suite: Suite, trees: list[ast.Module], entry: str | None) -> set[str]:
    """The names that the candidate has to provide.

    A name of a builtin is the candidate's only where it is the entry point, or where the tests
    call nothing else of the candidate's: else a candidate's own `abs` could bend
    `abs(f(x) - y) < e`.
    """
    read, bound = _names(trees)
    free = read - bound - set(dir(builtins))
    if entry:
        shadow = hasattr(builtins, entry) and entry not in suite.kinds
        return free if shadow else {*free, entry}
    return free or {name for name in read - bound if suite.kinds.get(name) == "function"}


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


# ------------------------------------------------------------------------------ calls


def _calls(suite: Suite) -> None:
    """`entry_point(*args, **kwargs)` compared with an expected value, case by case."""
    spec = suite.spec
    entry = spec["entry_point"]
    suite.expected = len(spec["cases"])
    scope: dict[str, Any] = {}
    if suite.namespace({entry}, scope):
        suite.fail("missing", f"the code does not define {entry}")
        return
    for args, kwargs, expected in spec["cases"]:
        label = f"{entry}({', '.join(_arguments(args, kwargs))}) should be {brief(expected)}"
        try:
            result = scope[entry](*args, **kwargs)
            same = equal(result, expected, spec["tolerance"])
        except Unsupported:
            raise
        except Exception as error:
            suite.test_failed(label, error)
            continue
        suite.count(same)
        if not same:
            suite.fail("assertion", f"test {suite.run}, {label}: {suite.channel.last}")


def _arguments(args: list[Any], kwargs: dict[str, Any]) -> Iterator[str]:
    yield from (brief(value) for value in args)
    yield from (f"{key}={brief(value)}" for key, value in kwargs.items())


def equal(got: Any, expected: Any, tolerance: float | None = None) -> bool:
    """Whether a plain value is the expected one.

    Numbers compare as in Python (`True == 1`), a tuple equals a list (JSON has no tuples), nan
    equals nan. With a tolerance, floats may differ by that much, absolutely or relative to the
    expected.
    """
    if isinstance(got, list | tuple) and isinstance(expected, list | tuple):
        pairs = zip(got, expected, strict=False)
        return len(got) == len(expected) and all(equal(g, e, tolerance) for g, e in pairs)
    if type(got) is dict and type(expected) is dict:
        keys = got.keys() == expected.keys()
        return keys and all(equal(got[key], expected[key], tolerance) for key in expected)
    if isinstance(got, int | float) and isinstance(expected, int | float):
        if isinstance(got, float) and isinstance(expected, float) and math.isnan(expected):
            return math.isnan(got)
        if tolerance and not isinstance(got, bool) and not isinstance(expected, bool):
            return got == expected or _close(got, expected, tolerance)
        return bool(got == expected)
    if type(got) is complex and tolerance:
        return bool(abs(got - complex(expected)) <= tolerance * max(1.0, abs(expected)))
    return type(got) is type(expected) and bool(got == expected)


def _close(got: float, expected: float, tolerance: float) -> bool:
    try:
        return abs(got - expected) <= tolerance * max(1.0, abs(expected))
    except OverflowError:
        return False


# ------------------------------------------------------------------------------ pytest


def _pytest(suite: Suite) -> None:
    """A pytest file that imports the solution by name; real pytest, in this trusted process."""
    import pytest

    name = suite.spec["module"]
    sys.modules[name] = _solution_module(suite, name)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # others' plugins cost a second and more
    path = "test_solution.py"
    with open(path, "w", encoding="utf-8") as file:
        file.write(suite.spec["tests"])
    plugin = _Collector(suite)
    arguments = [path, "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir=."]
    try:
        pytest.main(["-c", os.devnull, *arguments], plugins=[plugin])
    finally:
        suite.expected = plugin.collected
    if plugin.stop is not None:
        raise plugin.stop


def _solution_module(suite: Suite, name: str) -> ModuleType:
    module = ModuleType(name)

    def look_up(attribute: str) -> Any:
        scope: dict[str, Any] = {}
        if suite.namespace({attribute}, scope):
            suite.unfound.append(attribute)
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        return scope[attribute]

    module.__all__ = [n for n in suite.kinds if not n.startswith("_")]  # type: ignore[attr-defined]
    module.__getattr__ = look_up  # type: ignore[method-assign]
    return module


class _Collector:
    """A pytest plugin that counts and keeps the first failure."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self.collected = 0
        self.stop: Stop | None = None

    def pytest_collection_finish(self, session: Any) -> None:
        self.collected = len(session.items)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            text = str(report.longrepr).strip() or "the tests do not import"
            if name := self._suite.missing_from(text):
                self._suite.fail("missing", f"the code does not define {name}")
            self._suite.fail("test_error", text.splitlines()[-1])

    def pytest_runtest_makereport(self, item: Any, call: Any) -> None:
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, Stop):
            self.stop = error
            item.session.shouldstop = "the candidate ended"
        elif isinstance(error, Exception):
            self._suite.test_failed(item.name, error)
        elif error is not None and type(error).__name__ == "Failed":  # pytest.fail, pytest.raises
            self._suite.count(False)
            said = f"test {self._suite.run}, {item.name}: {error}"
            self._suite.fail("assertion", said)
        elif call.when == "call" and error is None:
            self._suite.count(True)


_STYLES = {"asserts": _asserts, "calls": _calls, "pytest": _pytest}


def _line_of(error: Exception) -> int | None:
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "<tests>"]
    return lines[-1] if lines else None


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
