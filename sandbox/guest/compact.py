"""What a program makes goes to whole pages, and not into holes between what the zygote made.

A page that a program writes to is copied first. Memory that was used and freed again while the
zygote warmed up lies in holes all over the heap, and an allocator gives those out before anything
else: a program that makes a hundred small objects would write to as many pages. So the holes are
filled once, for ever, with what costs nothing more, since their pages are there anyway.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from typing import Any

_kept: list[Any] = []
_BYTES_HEAD = sys.getsizeof(b"")
_READ, _EXECUTE = 1, 4
_LARGE = 120_000  # below what malloc maps apart, and larger than any hole
_HOLES = [*(1 << power for power in range(16, 10, -1)), *range(1040, 31, -16)]


def fill_holes() -> None:
    """Fill those of Python's own allocator and of malloc. Right before the first program."""
    _fill_malloc()
    for size, count in _free_blocks().items():
        if size <= _BYTES_HEAD:
            kind: Any = object if size == object.__sizeof__(object()) else complex
            _kept.append([kind() for _ in range(count)])
        else:
            _kept.append([bytes(size - _BYTES_HEAD) for _ in range(count)])
    _trim_malloc()


def merge_mappings() -> None:
    """Make what each library has to read or to execute one mapping, in place of three.

    A fork copies each mapping, and the end of the copy undoes it. That constants can be executed
    takes nothing away: a program can map what it likes.
    """
    mprotect = ctypes.PyDLL(None).mprotect
    for start, end in _libraries():
        mprotect(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _READ | _EXECUTE)


def _libraries() -> Iterator[tuple[int, int]]:
    """Where files lie of which parts can be executed, without the parts that were written to."""
    found: list[tuple[int, int, str, bool]] = []  # from, to, file and its place, executable
    head: list[str] = []
    with open("/proc/self/smaps", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            words = line.rstrip("\n").split(None, 5)
            if not words[0].endswith(":"):
                head = words
            elif words[:2] == ["Anonymous:", "0"] and head[1] in ("r--p", "r-xp"):
                first, last = (int(part, 16) for part in head[0].split("-"))
                name = f"{head[5:]} {first - int(head[2], 16)}"
                executable = head[1] == "r-xp"
                if found and found[-1][1:3] == (first, name):
                    start, _, _, before = found.pop()
                    found.append((start, last, name, before or executable))
                elif head[5:] and head[5].startswith("/"):
                    found.append((first, last, name, executable))
    return ((start, end) for start, end, _, executable in found if executable)


def _free_blocks() -> dict[int, int]:
    """Free blocks in the pages that Python's allocator uses, by their size; from its report.

    Empty where this Python has no such allocator, or no such report.
    """
    report = getattr(sys, "_debugmallocstats", None)
    if report is None:
        return {}
    read, write = os.pipe()
    kept = os.dup(2)
    os.set_blocking(write, False)  # a report that is too long is cut, and nobody waits
    os.dup2(write, 2)
    try:
        report()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(write)
    with open(read, "rb") as file:
        rows = [line.split() for line in file]
    # class, size, pools, blocks in use, blocks free
    return {int(row[1]): int(row[4]) for row in rows if len(row) == 5 and b"".join(row).isdigit()}


def _trim_malloc() -> None:
    """Give back what is free and was used: a new page costs half of one that has to be copied."""
    trim = getattr(ctypes.PyDLL(None), "malloc_trim", None)  # the C library may not be GNU's
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _fill_malloc() -> None:
    """Take chunks, large ones first, until each size comes from beyond all that was in use."""
    libc = ctypes.PyDLL(None)
    malloc, free = libc.malloc, libc.free
    malloc.argtypes, malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    free.argtypes, free.restype = [ctypes.c_void_p], None
    beyond = malloc(_LARGE)
    free(beyond)
    for size in _HOLES:
        while beyond and (chunk := malloc(size)):
            if not beyond - (64 << 20) < chunk < beyond:
                free(chunk)
                break
