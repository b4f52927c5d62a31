"""A custom checker: a trusted program that is given input, output and answer, as testlib has it.

    {"name": "program", "language": "cpp", "source": SOURCE, "files": {"testlib.h": TEXT}}

It is built once for the process, and runs for each test in a sandbox of its own as

    checker input.txt output.txt answer.txt

with the same three texts in a Python checker's `sys.argv`. Its exit code decides: 0 right, 1 wrong,
2, 4 and 8 a wrong presentation, 3 the tests are at fault (`VerifierError`), 7 points: its standard
error begins with a number, or `points` and a number, of `max_points` (1 by default).

It ends before the pool's deadline does, so that no output makes it take the verdict along.
Where it ends in any other way (a crash, a time-out) it is run once more with the expected output as
the program's: if it stands that, the output broke it and is wrong; if not, the checker is broken.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rlvr.errors import UnknownNameError, VerifierError
from rlvr.sandbox.languages import BuildFailed, Program, find_language
from rlvr.sandbox.limits import Limits, RunResult, RunStatus
from rlvr.verifiers.pool_wire import before_the_deadline

LIMITS = Limits(cpu_seconds=10.0, wall_seconds=30.0, memory_bytes=1 << 30, output_bytes=1 << 20)
"""What a checker may use for one test."""

_NAMES = ("input.txt", "output.txt", "answer.txt")
_WRONG = {1: "wrong answer", 2: "presentation error", 4: "presentation error", 8: "presentation "
          "error: unexpected end"}  # fmt: skip
_POINTS = re.compile(r"\s*(?:points\s+)?([+-]?\d{1,9}(?:\.\d{1,30})?)\b")
# Halves the time that testlib takes to compile, which the first answer of a task waits for.
_UNOPTIMISED = b'#pragma GCC optimize ("O0")\n#line 1\n'
# The files and the command line of a Python checker come before it, by standard input.
_PYTHON_START = b"""
def _start():
    import json, sys
    read = sys.stdin.buffer.read
    names = []
    for name, size in json.loads(sys.stdin.buffer.readline()):
        with open(name, "wb") as file:
            file.write(read(size))
        names.append(name)
    sys.argv[1:] = names
    sys.stdin = open("/dev/null")
_start()
del _start
"""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a checker decided: a score from 0 to 1, and what it said."""

    score: float
    note: str
    said: str


@dataclass(frozen=True, kw_only=True)
class ProgramChecker:
    """A checker that runs in a sandbox.

    Attributes:
        language: of the source.
        source: the program.
        files: what lies beside the source when it is built, by name.
        max_points: the points that are worth 1.

    Raises:
        VerifierError: an option is wrong.
    """

    source: str
    language: str = "python"
    files: tuple[tuple[str, str], ...] = ()
    max_points: float = 1.0

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> ProgramChecker:
        """The checker of an answer key's mapping."""
        known = {"name", "source", "language", "files", "max_points"}
        if unknown := sorted(map(str, given.keys() - known)):
            raise VerifierError(f"checker 'program' has no option {unknown[0]!r}")
        source, files = given.get("source"), given.get("files") or {}
        points = given.get("max_points", 1.0)
        language = given.get("language", "python")
        if not isinstance(source, str) or not source.strip():
            raise VerifierError("checker 'program' needs a 'source': the text of a program")
        if not isinstance(files, Mapping) or not all(isinstance(v, str) for v in files.values()):
            raise VerifierError("checker 'program': expected 'files' to map names to texts")
        if isinstance(points, bool) or not isinstance(points, int | float) or not points > 0:
            raise VerifierError(f"checker 'program': max_points is {points!r}: expected above 0")
        try:
            language = find_language(str(language))
        except UnknownNameError as error:
            raise VerifierError(f"checker 'program': {error}") from error
        pairs = tuple(sorted((str(name), text) for name, text in files.items()))
        return cls(source=source, language=language, files=pairs, max_points=float(points))

    def judge(self, sandbox: Any, stdin: str, output: bytes, expected: str) -> Judgement:
        """Run it on one test.

        Args:
            sandbox: where it runs; never the one that ran the answer.
            stdin: the test's input.
            output: what the program wrote.
            expected: the test's own output.

        Raises:
            VerifierError: it does not compile, is broken, or says that the tests are at fault.
            SandboxError: the sandbox failed.
        """
        program = _built(sandbox, self)
        result = self._run(sandbox, program, stdin, output, expected, spare=0.2)
        judgement = self._judgement(result)
        if judgement is not None:
            return judgement
        again = self._run(sandbox, program, stdin, expected.encode(), expected, spare=0.1)
        if self._judgement(again) is None:
            raise VerifierError(f"the task's checker is broken: {_ending(again)}")
        return Judgement(0.0, f"the checker could not read the output ({_ending(result)})", "")

    def _judgement(self, result: RunResult) -> Judgement | None:
        """None where it ended in a way that decides nothing."""
        said = result.stderr[:2000].decode("utf-8", "replace").strip()[:300]
        if result.exit_code is None or result.status not in (
            RunStatus.OK,
            RunStatus.NONZERO_EXIT,
        ):
            return None
        if result.exit_code == 0:
            return Judgement(1.0, "", said)
        if result.exit_code == 3:
            raise VerifierError(f"the task's checker says that the tests are at fault: {said}")
        if result.exit_code in _WRONG and not _is_traceback(said):
            return Judgement(0.0, _WRONG[result.exit_code], said)
        if result.exit_code == 7 and (points := _POINTS.match(said)):
            score = min(1.0, max(0.0, float(points.group(1)) / self.max_points))
            return Judgement(score, "" if score == 1.0 else f"{score:.3g} of the points", said)
        return None

    def _run(
        self,
        sandbox: Any,
        program: Program,
        stdin: str,
        output: bytes,
        expected: str,
        spare: float,
    ) -> RunResult:
        limits = replace(LIMITS, clock_seconds=before_the_deadline(120.0, spare))
        texts = (stdin.encode(), output, expected.encode())
        if program.language != "python":
            given = program.given(dict(zip(_NAMES, texts, strict=True)), _NAMES)
            result: RunResult = sandbox.run(given, b"", limits)
            return result
        sizes = [(name, len(text)) for name, text in zip(_NAMES, texts, strict=True)]
        head = json.dumps(sizes).encode() + b"\n"
        result = sandbox.run(program, b"".join((head, *texts)), limits)
        return result


@functools.lru_cache(maxsize=64)
def _built(sandbox: Any, checker: ProgramChecker) -> Program:
    source = checker.source.encode("utf-8", "surrogatepass")
    if checker.language == "python":
        return Program("python", (), {"solution.py": _PYTHON_START + source})
    files = {name: text.encode() for name, text in checker.files}
    if checker.language in ("c", "cpp"):
        source = _UNOPTIMISED + source
    try:
        program: Program = sandbox.build(source, checker.language, files=files)
    except BuildFailed as error:
        raise VerifierError(f"the task's checker does not compile: {error}") from error
    return program


def _is_traceback(said: str) -> bool:
    """Whether a Python checker fell over: its exit code is 1 then, as for a wrong answer."""
    return said.startswith("Traceback (most recent call last)")


def _ending(result: RunResult) -> str:
    said = result.stderr[-300:].decode("utf-8", "replace").strip().rpartition("\n")[2]
    ended = f"exit code {result.exit_code}" if result.signal is None else f"signal {result.signal}"
    return f"{result.status.value.replace('_', ' ')}, {ended}" + (f": {said}" if said else "")
