"""The tester's tally: what was run, what passed, and the first failure in words."""

from __future__ import annotations

import importlib
import random
import sys
import traceback
from types import ModuleType
from typing import Any

from . import remote, serve  # noqa: TID251
from .remote import Channel, Stop, Unsupported  # noqa: TID251

_MOST_PASSES = 1000


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
        self.passes: list[bool] = []
        self.unfound: list[str] = []
        self.lent = False  # whether the tests hold what is the candidate's choice, but asks nothing
        self.here: ModuleType | None = None
        self.kinds = serve.announced(spec["names"])
        for name, kind in self.kinds.items():
            if kind.startswith("exception:"):
                channel.exceptions[name] = remote.exception_class(name, kind[10:])
        random.seed(0)  # the same tests for the same answer

    @property
    def met(self) -> bool:
        """Whether the candidate has had a hand in what the tests saw."""
        return self.lent or self.channel.calls > 0

    def load_here(self) -> bool:
        """Load the candidate in this process, where the mapping holds its source (weak integrity).

        Returns:
            Whether the tests can go on.
        """
        if "candidate" not in self.spec:
            return True
        name = self.spec.get("module") or "solution"
        self.here = ModuleType(name)
        sys.modules[name] = self.here
        try:
            code = compile(self.spec["candidate"], f"{name}.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            self.count(False)
            self.fail("syntax", f"while it was compiled: {type(error).__name__}: {error}")
            return False
        try:
            exec(code, self.here.__dict__)  # noqa: S102 - this is the sandbox
        except Exception as error:
            self.count(False)
            why = f"while it was loaded: {type(error).__name__}: {error}"
            self.fail("exception", why, type(error).__name__)
            return False
        self.kinds = dict(serve.definitions(self.here.__dict__))
        return True

    def count(self, passed: bool) -> None:
        """One test was run."""
        self.run += 1
        self.passed += passed
        if len(self.passes) < _MOST_PASSES:
            self.passes.append(bool(passed))

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
        elif self.here is not None:
            said = f"{type(error).__name__}: {error}"
            self.fail("exception", what + said, type(error).__name__)
        elif isinstance(error, Unsupported) or not self.met:
            self.fail("test_error", f"{what}{type(error).__name__}: {error}")
        else:
            said = self.channel.last or "its definition was used"
            self.fail("assertion", f"{what}{said}, then {type(error).__name__}: {error}")

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
            "passes": self.passes,
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
            elif self.here is not None:
                taken[name] = getattr(self.here, name)
            elif kind.startswith("module:"):
                module = _standard_module(kind[7:])
                if module is None:
                    missing.append(name)
                else:
                    self.lent = True
                    taken[name] = module
            else:
                self.lent = self.lent or kind.startswith("exception:")
                taken[name] = remote.stand_in(self.channel, name, kind)
        return missing


def _standard_module(name: str) -> ModuleType | None:
    """A module of the standard library that the candidate announced.

    Of submodules only those that are imported already: the import of `unittest.__main__` would end
    this process.
    """
    if name.split(".")[0] not in sys.stdlib_module_names:
        return None
    if "." in name:
        return sys.modules.get(name)
    try:
        return importlib.import_module(name)
    except Exception:
        return None


def _line_of(error: Exception) -> int | None:
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "<tests>"]
    return lines[-1] if lines else None
