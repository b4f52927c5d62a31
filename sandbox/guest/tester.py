"""Role `tester`: run a data set's tests against a candidate that lives in another process.

The tests are trusted not to lie, but run confined all the same. The candidate is reached through
two pipes and sends only data; the verdict leaves by a third pipe that it does not have.

The first frame holds a mapping: `style` (`asserts` or `pytest`), `names` (what the
candidate said that it defines, still encoded), and the parts of that style. The reply is one
mapping:

    passed, total     tests; a suite that stops early counts every assert that it can see
    passes            of each test that was counted, at most 1,000, whether it passed
    problem           None, "assertion", "exception" (in the candidate), "gone", "exit", "refused",
                      "missing" (a name that the tests need), "test_error" (the tests are at fault)
                      "syntax" (of a candidate that is in the mapping)
    detail            the first failure in words
    error             for "exception", the name of the exception's type

Where the mapping holds `candidate`, a source, it is loaded here, in the tests' own interpreter.
What the tests then report may be forged: that is what weak integrity means.
"""

from __future__ import annotations

import ast
import os
import sys
from types import ModuleType
from typing import Any

from . import values  # noqa: TID251
from .asserts import run_asserts, wanted  # noqa: TID251
from .remote import Channel, Stop  # noqa: TID251
from .suite import Suite  # noqa: TID251

CALL_FD = 5
ANSWER_FD = 6


def run(requests: int, replies: int) -> int:
    """Be the tester; the exit code says nothing."""
    body = next(values.frames(lambda count: os.read(requests, count)))
    spec = values.decode(body)
    suite = Suite(spec, _open_channel())
    try:
        if suite.load_here():
            _STYLES[spec["style"]](suite)
    except SystemExit as error:
        suite.stopped(Stop("exit", f"it raised SystemExit: {error}"))
    except Stop as stop:
        suite.stopped(stop)
    except Exception as error:
        try:
            suite.crashed(error)
        except (Stop, Exception):  # to say what was raised asks the candidate
            suite.fail("assertion", f"{type(error).__name__}, which cannot be said")
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
    arguments.append("--assert=plain")  # its explanations of hostile values take for ever
    try:
        pytest.main(["-c", os.devnull, *arguments], plugins=[plugin])
    finally:
        suite.expected = plugin.collected
    if plugin.stop is not None:
        raise plugin.stop


def _solution_module(suite: Suite, name: str) -> ModuleType:
    if suite.here is not None:
        return suite.here
    module = ModuleType(name)

    def look_up(attribute: str) -> Any:
        scope: dict[str, Any] = {}
        if suite.namespace({attribute}, scope):
            suite.unfound.append(attribute)
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        return scope[attribute]

    # Of a star import come the names that the tests use and nobody else defines: not a `len`, a
    # `pytest`, a `pytestmark` or a test of the candidate's own.
    tree = _tree(suite)
    names = wanted(suite, [tree], None)
    module.__all__ = sorted(names & set(suite.kinds))  # type: ignore[attr-defined]
    if _imports_all(tree, name):
        suite.unfound += sorted(names - set(suite.kinds))
    module.__getattr__ = look_up  # type: ignore[method-assign]
    return module


def _tree(suite: Suite) -> ast.Module:
    try:
        return ast.parse(str(suite.spec["tests"]))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])  # pytest says what is wrong with them


def _imports_all(tree: ast.Module, module: str) -> bool:
    """Whether there is a `from module import *`."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return any(node.module == module and node.names[0].name == "*" for node in found)


class _Collector:
    """A pytest plugin that counts and keeps the first failure."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self.collected = 0
        self.stop: Stop | None = None

    def pytest_collection_finish(self, session: Any) -> None:
        self.collected = len(session.items)

    def pytest_exception_interact(self, call: Any, report: Any) -> None:
        """While it is collected: a file that calls the candidate as it is imported."""
        if report.when != "collect":
            return
        error = call.excinfo.value
        if isinstance(error, Stop):
            self.stop = error
        elif isinstance(error, Exception) and self._suite.met:
            self._suite.test_failed("while the tests are imported", error)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed and self.stop is None:
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


_STYLES = {"asserts": run_asserts, "pytest": _pytest}


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
