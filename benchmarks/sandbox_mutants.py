"""Wrong answers made from right ones, and forgeries, over all of HumanEval and MBPP: none is paid.

    RLVR_DATA=FOLDER python benchmarks/sandbox_mutants.py [--workers 2] [--every 1] [--only KIND]

Each right answer is changed in each of several ways. Whether a mutant is truly wrong is decided by
plain CPython, with the problem's own asserts in a process of its own (right answers and mutants of
them are trusted): one that passes there is no wrong answer, is counted apart, and must be paid.
So each verdict has to be that of plain CPython, in both directions. Forgeries replace the answer by
a program of `tests/sandbox/programs/`, or by a body below, and may never be paid.

It exits with 1 where any verdict is not as it should be, or was none.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gzip
import json
import os
import re
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr.types import Task, Verdict
from rlvr.verifiers.python_code import PythonCodeVerifier

PROGRAMS = Path(__file__).resolve().parent.parent / "tests" / "sandbox" / "programs"
_CPU_SECONDS = 1.0  # for an answer
_FOR_EVER = "loop for ever"  # wrong by itself: no plain Python has to show that
_CPU_SECONDS_FOR_EVER = 0.1


@dataclass(frozen=True)
class Problem:
    """A problem with its right answer, as one program and its asserts."""

    name: str
    entry: str
    code: str
    tests: str
    call: str
    answer: dict[str, Any]
    metadata: dict[str, Any]


def main() -> int:
    """All kinds over all problems; 1 where a verdict is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="only each N-th problem")
    parser.add_argument("--only", help="only kinds whose name begins so")
    arguments = parser.parse_args()
    folder = Path(os.environ.get("RLVR_DATA", ""))
    if not (folder / "humaneval.jsonl.gz").is_file():
        parser.error("RLVR_DATA must name the folder that holds humaneval.jsonl.gz and mbpp.jsonl")
    problems = [*humaneval(folder), *mbpp(folder)][:: arguments.every]
    wrong = 0
    started = time.monotonic()
    with ProcessPoolExecutor(arguments.workers) as plain:
        for kind, make in {**MUTATIONS, **forgeries()}.items():
            if not kind.startswith(arguments.only or ""):
                continue
            made = [(problem, code) for problem in problems if (code := make(problem)) is not None]
            passes = [False] * len(made)
            if kind in MUTATIONS and kind != _FOR_EVER:
                programs = [f"{code}\n{problem.tests}\n{problem.call}" for problem, code in made]
                passes = list(plain.map(passes_in_plain_python, programs, chunksize=16))
            wrong += tell(kind, made, judged(kind, made, arguments.workers), passes)
    print(f"{wrong} verdicts are not as they should be; {time.monotonic() - started:.0f} s")
    return 1 if wrong else 0


def judged(kind: str, made: list[tuple[Problem, str]], workers: int) -> list[Verdict]:
    """The verdict on each answer."""
    seconds = _CPU_SECONDS_FOR_EVER if kind == _FOR_EVER else _CPU_SECONDS
    verifier = PythonCodeVerifier(timeout=seconds)

    def judge(item: tuple[Problem, str]) -> Verdict:
        problem, code = item
        fields = {"answer": problem.answer, "metadata": problem.metadata}
        return verifier.verify(
            Task(id=problem.name, prompt="", **fields), f"```python\n{code}\n```"
        )

    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(judge, made))


def tell(
    kind: str, made: list[tuple[Problem, str]], verdicts: list[Verdict], passes: list[bool]
) -> int:
    """Print what became of a kind; how many verdicts are wrong."""
    paid = sum(verdict.reward == 1.0 for verdict in verdicts)
    outcomes = Counter(verdict.outcome.value for verdict in verdicts if verdict.reward != 1.0)
    bad = [
        (problem, verdict, right)
        for (problem, _), verdict, right in zip(made, verdicts, passes, strict=True)
        if verdict.reward != (1.0 if right else 0.0)
    ]
    equal = sum(passes)
    print(f"{kind}: {len(made)} answers, {paid} paid, {equal} right in plain CPython; ", end="")
    print(", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()), flush=True)
    for problem, verdict, right in bad[:5]:
        said = "passes" if right else "fails"
        print(
            f"  {problem.name} {said} in plain CPython: {verdict.outcome.value}; {verdict.reason}"
        )
    return len(bad)


# ------------------------------------------------------------------------------ the problems


def humaneval(folder: Path) -> Iterator[Problem]:
    """164 problems, each with a `check(candidate)`."""
    for row in read(folder / "humaneval.jsonl.gz"):
        entry = row["entry_point"]
        answer = {"style": "asserts", "tests": row["test"], "entry_point": entry}
        code = row["prompt"] + row["canonical_solution"]
        call = f"check({entry})"
        metadata = {"code_prefix": row["prompt"]}
        yield Problem(row["task_id"], entry, code, row["test"], call, answer, metadata)


def mbpp(folder: Path) -> Iterator[Problem]:
    """974 problems, each with three asserts or so."""
    for row in read(folder / "mbpp.jsonl"):
        tests = "\n".join([row["test_setup_code"], *row["test_list"]])
        functions = [n.name for n in ast.parse(row["code"]).body if isinstance(n, ast.FunctionDef)]
        called = re.findall(r"\w+", row["test_list"][0])
        entry = next((name for name in called if name in functions), None)
        if entry is None:
            continue  # the tests call a class, or a name that is no function
        answer = {"style": "asserts", "entry_point": None}
        answer |= {"tests": "\n".join(row["test_list"]), "setup": row["test_setup_code"]}
        yield Problem(f"Mbpp/{row['task_id']}", entry, row["code"], tests, "", answer, {})


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    yield from (json.loads(line) for line in text.split("\n") if line)


def passes_in_plain_python(program: str) -> bool:
    """Whether a trusted program ends well in a copy of this process, within a second or so."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            seconds = int(2 * _CPU_SECONDS)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
            signal.alarm(20)
            exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


# ------------------------------------------------------------------------------ mutations


def _entry_of(tree: ast.Module, entry: str) -> ast.FunctionDef:
    found = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == entry]
    return found[-1]


def body(source: str) -> Callable[[Problem], str | None]:
    """The function with another body."""

    def make(problem: Problem) -> str:
        tree = ast.parse(problem.code)
        _entry_of(tree, problem.entry).body = ast.parse(source).body
        return ast.unparse(tree)

    return make


def returned(expression: str, helper: str = "") -> Callable[[Problem], str | None]:
    """Each `return X` of the function, but not of those within it, with something made of X."""

    class Change(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            return node

        def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
            return node

        def visit_Return(self, node: ast.Return) -> ast.AST | list[ast.stmt]:
            inner = node.value or ast.Constant(None)
            new = ast.parse(expression).body
            for part in new:
                for name in ast.walk(part):
                    for field, value in ast.iter_fields(name):
                        if isinstance(value, ast.Name) and value.id == "X":
                            setattr(name, field, inner)
                        elif isinstance(value, list):
                            same = [isinstance(v, ast.Name) and v.id == "X" for v in value]
                            value[:] = [inner if s else v for s, v in zip(same, value, strict=True)]
            return new

    def make(problem: Problem) -> str | None:
        tree = ast.parse(problem.code)
        function = _entry_of(tree, problem.entry)
        function.body = [
            new
            for old in function.body
            for new in ([old] if isinstance(old, ast.FunctionDef) else _many(Change().visit(old)))
        ]
        tree.body = [*ast.parse(helper).body, *tree.body]
        futures = [
            n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"
        ]
        tree.body = [*futures, *(n for n in tree.body if n not in futures)]
        return ast.unparse(ast.fix_missing_locations(tree))

    return make


def _many(found: Any) -> list[ast.stmt]:
    return found if isinstance(found, list) else [found]


def changed(kind: type[ast.AST], change: Callable[[Any], Any]) -> Callable[[Problem], str | None]:
    """The first node of a kind, in the function, for which there is a change; None without one."""

    def make(problem: Problem) -> str | None:
        tree = ast.parse(problem.code)
        function = _entry_of(tree, problem.entry)
        for part in function.body:
            for parent in ast.walk(part):
                if isinstance(parent, kind):
                    new = change(copy.deepcopy(parent))
                    if new is not None:
                        for field in parent._fields:
                            setattr(parent, field, getattr(new, field))
                        return ast.unparse(ast.fix_missing_locations(tree))
        return None

    return make


def _negated(node: ast.If) -> ast.If:
    node.test = ast.UnaryOp(ast.Not(), node.test)
    return node


def _shifted(node: ast.Compare) -> ast.Compare | None:
    swaps: dict[type, type] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
    swaps |= {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In}
    if type(node.ops[0]) not in swaps:
        return None
    node.ops[0] = swaps[type(node.ops[0])]()
    return node


def _other_operator(node: ast.BinOp) -> ast.BinOp | None:
    swaps: dict[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv}
    swaps |= {ast.Mod: ast.Mult, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Pow: ast.Mult}
    if type(node.op) not in swaps:
        return None
    node.op = swaps[type(node.op)]()
    return node


def _next_number(node: ast.Constant) -> ast.Constant | None:
    if type(node.value) is not int:
        return None
    node.value += 1
    return node


def without_last_statement(problem: Problem) -> str | None:
    """All of the function but its last statement."""
    tree = ast.parse(problem.code)
    function = _entry_of(tree, problem.entry)
    function.body = function.body[:-1] or [ast.Pass()]
    return ast.unparse(tree)


def first_argument(problem: Problem) -> str | None:
    """The function gives back its first argument."""
    arguments = _entry_of(ast.parse(problem.code), problem.entry).args
    names = [a.arg for a in [*arguments.posonlyargs, *arguments.args]]
    return body(f"return {names[0]}")(problem) if names else None


_OFF = """
def _off(v):
    if isinstance(v, bool):
        return not v
    if isinstance(v, (int, float, complex)):
        return v + 1
    if isinstance(v, str):
        return v + "x"
    if isinstance(v, (list, tuple)):
        return type(v)([*v, None])
    if isinstance(v, dict):
        return {**v, None: None}
    if isinstance(v, (set, frozenset)):
        return v | {None}
    return 0
"""

MUTATIONS: dict[str, Callable[[Problem], str | None]] = {
    "the right answer": lambda problem: problem.code,
    "empty body": body("pass"),
    "return a number": body("return 0"),
    "return true": body("return True"),
    "return an empty list": body("return []"),
    "return an empty text": body("return ''"),
    "return nan": body("return float('nan')"),
    "return the argument": first_argument,
    "raise": body("raise ValueError('no')"),
    _FOR_EVER: body("while True: pass"),
    "call itself for ever": lambda problem: body(f"return {problem.entry}(*[0] * 1)")(problem),
    "off by one": returned("return _off(X)", _OFF),
    "wrong type": returned("return [_v] if isinstance((_v := X), str) else str(_v)"),
    "in a list": returned("return [X]"),
    "print instead of return": returned("print(X)"),
    "yield instead of return": returned("yield X"),
    "no last statement": without_last_statement,
    "negated condition": changed(ast.If, _negated),
    "other comparison": changed(ast.Compare, _shifted),
    "other operator": changed(ast.BinOp, _other_operator),
    "next number": changed(ast.Constant, _next_number),
}

_FORGED_BODIES = {
    "sys.exit": "import sys\nsys.exit(0)",
    "os._exit": "import os\nos._exit(0)",
    "SystemExit": "raise SystemExit",
    "AssertionError": "raise AssertionError",
    "StopIteration": "raise StopIteration",
}
_FORGING_PROGRAMS = (
    "announces_a_module",
    "contains_everything",
    "equals_everything",
    "equals_everything_int",
    "equals_everything_str",
    "exit_at_import",
    "exit_exec",
    "forges_a_report",
    "is_a_module",
    "is_an_exception",
    "patches_builtins",
    "prints_tokens",
    "reads_frames",
    "replies_early",
    "replies_huge_names",
    "traces",
    "writes_to_every_descriptor",
)


def forgeries() -> dict[str, Callable[[Problem], str | None]]:
    """Bodies, and whole programs with the function's name."""

    def program(name: str) -> Callable[[Problem], str | None]:
        source = (PROGRAMS / f"{name}.py.txt").read_text(encoding="utf-8")

        def make(problem: Problem) -> str:
            any_arguments = source.replace("def double(x)", "def double(*x)")
            return re.sub(r"\bdouble\b", problem.entry, any_arguments)

        return make

    return {
        **{f"forged: {name}": body(text) for name, text in _FORGED_BODIES.items()},
        **{f"forged: {name}": program(name) for name in _FORGING_PROGRAMS},
    }


if __name__ == "__main__":
    sys.exit(main())
