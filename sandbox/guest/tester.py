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

import math
import os
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from . import values  # noqa: TID251
from .asserts import run_asserts  # noqa: TID251
from .remote import Channel, Stop, Unsupported, brief  # noqa: TID251
from .suite import Suite  # noqa: TID251

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


_STYLES = {"asserts": run_asserts, "calls": _calls, "pytest": _pytest}


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
