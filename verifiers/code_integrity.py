"""What tests in Python need, read from their source: packages, and whether they can be kept apart.

Tests run in one sandbox and the answer in another, joined by plain values. A few tests cannot be
split so: those that hand a function or an object to the answer, inherit from its classes, patch its
module, or compare its objects by its own `__eq__`. They need the answer in their own interpreter,
where it can reach them: weak integrity. This is decided from the tests alone, so that no answer can
choose it.
"""

from __future__ import annotations

import ast
import builtins
import functools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rlvr.verifiers.code_plain_reader import plain_tests

_PATCHERS = {"patch", "setattr", "delattr", "setitem", "object", "dict"}
_OBJECTS = {
    *("date", "datetime", "time", "timedelta", "deque", "array", "arange", "DataFrame", "Series"),
    *("StringIO", "BytesIO", "Path", "partial", "compile", "Mock", "MagicMock", "SimpleNamespace"),
}
"""What makes objects that are no plain values, in the tests of data sets."""

_EVALUATORS = {"eval", "exec", "compile", "__import__", "import_module"}
_UNPICKLERS = {"pickle", "marshal", "dill", "cloudpickle", "joblib", "shelve"}
_INSPECTORS = {"getsource", "getsourcelines", "signature", "getmembers", "getfullargspec"}


@dataclass(frozen=True, slots=True)
class Needs:
    """What tests need.

    Attributes:
        packages: modules outside the standard library that they import.
        one_interpreter: why they and the answer cannot be kept apart; None where they can.
    """

    packages: tuple[str, ...]
    one_interpreter: str | None


def needs_of(answer: Mapping[str, Any]) -> Needs:
    """What the tests of an answer key of style `asserts` or `pytest` need.

    A key may settle it with `integrity`: `strong` or `weak`.
    """
    if answer["style"] == "asserts" and answer.get("integrity") is None:
        keys = (answer["tests"], answer.get("setup") or "", answer.get("entry_point"))
        plain = plain_tests(*keys)
        if plain is not None and not plain.name[:1].isupper():  # a class has objects to compare
            return Needs((), None)
    module = str(answer.get("module") or "solution")
    source = f"{answer.get('setup') or ''}\n{answer['tests']}"
    found = _read(source, answer.get("entry_point"), module)
    packages = {"pytest", *found.packages} if answer["style"] == "pytest" else found.packages
    reason = found.one_interpreter
    if answer.get("integrity") is not None:
        reason = "the task says so" if answer["integrity"] == "weak" else None
    return Needs(tuple(sorted(packages)), reason)


@functools.lru_cache(maxsize=256)
def _read(source: str, entry_point: str | None, module: str) -> Needs:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Needs((), None)  # the tester says what is wrong with them
    tests = _Tests(tree, entry_point, module)
    return Needs(tuple(sorted(tests.packages)), next(tests.reasons(), None))


class _Tests:
    """The names of a test's source, sorted by whose they are."""

    def __init__(self, tree: ast.Module, entry_point: str | None, module: str) -> None:
        self.tree = tree
        self.packages: set[str] = set()
        self.modules = {module}  # names of the answer's module
        self.functions: set[str] = set()  # functions and lambdas of the tests
        self.classes: set[str] = set()
        bound: set[str] = set()
        read: set[str] = set()
        imported: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions.add(node.name)
                bound.add(node.name)
            elif isinstance(node, ast.ClassDef):
                self.classes.add(node.name)
                bound.add(node.name)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
                self.functions |= {t.id for t in node.targets if isinstance(t, ast.Name)}
            elif isinstance(node, ast.Import):
                self._imports(node, module, bound)
            elif isinstance(node, ast.ImportFrom):
                self._imports_from(node, module, bound, imported)
            if isinstance(node, ast.Name):
                (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        self.answers = (read - bound - set(dir(builtins)) - self.modules) | imported
        self.answers |= {entry_point} if entry_point else set()
        if any(isinstance(n, ast.FunctionDef) and n.name == "check" for n in tree.body):
            self.answers.add("candidate")

    def _imports(self, node: ast.Import, module: str, bound: set[str]) -> None:
        for alias in node.names:
            top = alias.name.split(".")[0]
            if top == module:
                self.modules.add(alias.asname or top)
            else:
                bound.add(alias.asname or top)
                self._package(top)

    def _imports_from(
        self, node: ast.ImportFrom, module: str, bound: set[str], imported: set[str]
    ) -> None:
        top = (node.module or "").split(".")[0]
        names = {alias.asname or alias.name for alias in node.names}
        if top == module:
            imported |= names
        else:
            bound |= names
            self._package(top)

    def _package(self, top: str) -> None:
        if top and top not in sys.stdlib_module_names:
            self.packages.add(top)

    def reasons(self) -> Iterator[str]:
        """Why the tests cannot be kept apart from the answer; nothing where they can."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ClassDef) and any(map(self._is_answers, node.bases)):
                yield f"class {node.name} of the tests inherits from the answer's"
            elif isinstance(node, ast.Call):
                yield from self._of_call(node)
            elif isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                if sum(map(self._makes_object, sides)) > 1:
                    yield f"line {node.lineno} compares objects of the answer's classes"

    def _of_call(self, node: ast.Call) -> Iterator[str]:
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        name = _last_name(node.func)
        if name in _EVALUATORS or (name in ("load", "loads") and _first_name(node) in _UNPICKLERS):
            # Of constants alone it is the tests' own code.
            if not all(isinstance(argument, ast.Constant) for argument in arguments):
                yield f"line {node.lineno} may run as code what the answer returns"
        elif self._is_answers(node.func):
            if any(map(self._is_function, arguments)):
                yield f"line {node.lineno} passes a function to the answer"
            if any(map(self._is_object, arguments)):
                yield f"line {node.lineno} passes an object to the answer that is no plain value"
        elif name in _PATCHERS and any(map(self._is_of_module, node.args[:1])):
            yield f"line {node.lineno} patches the answer's module"
        elif name in _INSPECTORS and any(map(self._is_answers, arguments)):
            yield f"line {node.lineno} inspects the answer's source"

    def _is_answers(self, node: ast.expr) -> bool:
        """Whether an expression is a name of the answer: `f`, `solution.f`, `Class.f`."""
        if isinstance(node, ast.Name):
            return node.id in self.answers
        if isinstance(node, ast.Attribute):
            return self._is_of_module(node) or self._is_answers(node.value)
        return False

    def _is_of_module(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value.split(".")[0] in self.modules
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self.modules

    def _is_function(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Lambda):
            return True
        if not isinstance(node, ast.Name):
            return False
        builtin = getattr(builtins, node.id, None)
        return node.id in self.functions or (callable(builtin) and not isinstance(builtin, type))

    def _is_object(self, node: ast.expr) -> bool:
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return any(map(self._is_object, node.elts))
        if isinstance(node, ast.Name):
            return node.id in self.classes
        if not isinstance(node, ast.Call) or self._is_answers(node.func):
            return False
        if isinstance(node.func, ast.Name) and node.func.id in self.functions:
            return False
        return _last_name(node.func) in self.classes | _OBJECTS

    def _makes_object(self, node: ast.expr) -> bool:
        return (
            isinstance(node, ast.Call)
            and self._is_answers(node.func)
            and _last_name(node.func)[:1].isupper()
        )


def _first_name(node: ast.Call) -> str:
    inside = node.func
    while isinstance(inside, ast.Attribute):
        inside = inside.value
    return inside.id if isinstance(inside, ast.Name) else ""


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
