"""Pipes of the host that no copy of it keeps, and what to do where it can have no more.

A process that forks while a program runs would keep that program's streams open: it would never
read the end of its input, and its own end would never show. So a copy closes them at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading

_lock = threading.RLock()  # no fork while one is made or closed
_open: set[int] = set()

_ADVICE = {
    errno.EMFILE: "raise the limit on open files of this process (ulimit -n)",
    errno.ENFILE: "the machine's limit on open files (fs.file-max) is reached",
    errno.EAGAIN: "the limit on processes of this user (ulimit -u) or of its control group is "
    "reached: raise it, or run fewer at once",
    errno.ENOMEM: "the machine, or our control group, is out of memory: run fewer at once",
    errno.ENOSPC: "free some space there, or set TMPDIR to a folder that has some",
    errno.EDQUOT: "free some space there, or set TMPDIR to a folder that has some",
    errno.EROFS: "set TMPDIR to a folder that can be written to",
    errno.EACCES: "set TMPDIR to a folder that can be written to",
}


def pipe() -> tuple[int, int]:
    """A pipe: the ends to read from and to write to, to be closed with `close`.

    Raises:
        OSError: there are no descriptors left.
    """
    with _lock:
        ends = os.pipe()
        _open.update(ends)
    return ends


def two_pipes() -> tuple[int, int, int, int]:
    """Two pipes or none: the ends of the first to read and to write, and of the second.

    Raises:
        OSError: there are no descriptors left.
    """
    first = pipe()
    try:
        return *first, *pipe()
    except OSError:
        for fd in first:
            close(fd)
        raise


def close(*ends: int) -> None:
    """Close some ends."""
    with _lock:
        _open.difference_update(ends)
        for fd in ends:
            os.close(fd)


def explain(error: OSError) -> str:
    """The reason in words, and the fix where one is known."""
    advice = _ADVICE.get(error.errno or 0)
    return f"{error}; {advice}" if advice else str(error)


def _close_all() -> None:
    global _lock
    _lock = threading.RLock()
    for fd in _open:
        with contextlib.suppress(OSError):
            os.close(fd)
    _open.clear()


os.register_at_fork(
    before=lambda: _lock.acquire(),
    after_in_parent=lambda: _lock.release(),
    after_in_child=_close_all,
)
