"""What programs will do, done once in the zygote.

Code that has run a few times is specialised by the interpreter, and the tables and free lists that
it needs are there; `typing` keeps the types that it has made. A program that is copied from the
zygote after that writes to fewer pages, each of which would have to be copied too.
"""

from __future__ import annotations

import marshal
import os
import sys
from types import ModuleType

from . import asserts, program, remote, serve, suite, values  # noqa: TID251

_TIMES = 20
_SOURCE = b'''
import math
from typing import Any, Callable, Dict, List, Optional, Set, Tuple, Union

Common = [
    (List[kind], Set[kind], Optional[kind], Tuple[kind, kind], Dict[str, kind], Dict[kind, int],
     List[List[kind]], List[Tuple[kind, kind]], Optional[List[kind]], Callable[[], kind])
    for kind in (int, str, float, bool, Any)
] + [List[Union[int, float]], Union[str, int], Tuple[str, bool], Tuple[int, str], Tuple[int, ...]]

class Point:
    """A class."""
    def __init__(self, x: int, y: float = 0.5) -> None:
        self.x, self.y = x, y

    @property
    def total(self):
        return self.x + self.y

def f(items: List[int], key: Optional[str] = None, *rest, **more):
    """A function."""
    seen = {}
    for place, item in enumerate(sorted(items)):
        if item % 2 == 0 and place not in seen or key is None:
            seen[item] = f"{item:>3}" + str(place)
        else:
            continue
    squares = [n * n for n in items if n > 0]
    try:
        largest = max(squares)
    except ValueError as error:
        raise IndexError(str(error)) from None
    while largest > 1:
        largest //= 2
    return {"a": [Point(1).total, math.sqrt(4)], "b": (largest, None, True), "c": seen}
'''
_TESTS = """
METADATA = {}
def check(candidate):
    assert candidate([1, 2]) == [1, 2]
    for n in range(2):
        assert abs(candidate(n) - 1.5) < 1e-6, "message"
"""


_PROGRAM = """
import sys
n = int(input())
numbers = list(map(int, input().split()))
print(sum(i * i for i in range(n)))
print(n, *numbers, sep=", ")
print(f"{n / 7:.2f}", file=sys.stderr)
for line in sys.stdin:
    sys.stdout.write(line.strip() + "\\n")
sys.stdout.flush()
"""


def rehearse() -> None:
    """Load and call a program, and judge one, as sessions and testers do; run one that reads and
    writes.
    """
    for _ in range(_TIMES):
        _program()
    _session()
    _tester()


def _program() -> None:
    kept = sys.stdin, sys.stdout, sys.stderr
    read, write = os.pipe()
    output, errors = os.pipe()
    os.write(write, b"3\n1 2 3\nmore\n")
    os.close(write)
    try:
        sys.stdin, sys.stdout, sys.stderr = program.standard_streams(read, errors, errors)
        exec(compile(_PROGRAM, "rehearsal", "exec"), {})  # noqa: S102 - our own
    finally:
        sys.stdin, sys.stdout, sys.stderr = kept
        for fd in (read, output, errors):
            os.close(fd)


def _session() -> None:
    requests = [(kind, "f", [[3, 1, 2]], {"key": "x"}) for kind in ("call", "result")] * _TIMES
    requests.append(("result", "f", [[]], {}))
    bodies = [values.encode(request) for request in requests]
    bodies += [serve.MARSHALLED + marshal.dumps(request, 2) for request in requests]
    frames = values.frame(_SOURCE) + b"".join(map(values.frame, bodies))
    asked, replies = os.memfd_create("rehearsal"), os.open(os.devnull, os.O_WRONLY)
    try:
        os.write(asked, frames)
        os.lseek(asked, 0, os.SEEK_SET)
        serve.serve(asked, replies, ModuleType("rehearsal"))
    finally:
        os.close(asked)
        os.close(replies)


def _tester() -> None:
    names = values.encode(("loaded", "f function"))
    reply = values.encode(("ok", [1, 2], None))
    for _ in range(2):
        spec = {"names": names, "tests": _TESTS, "entry_point": "f", "setup": "", "prefix": ""}
        channel = remote.Channel(lambda data: None, lambda: reply)
        tests = suite.Suite(spec, channel)
        asserts.run_asserts(tests)
        values.encode(tests.verdict())
