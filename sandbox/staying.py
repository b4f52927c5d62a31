"""A program, its zygote and the thread that waits for them share one processor for a moment.

They take turns, many times for a program of milliseconds. Where the kernel spreads them over
processors, each turn has to wake another one, and what one has just read or written is far from the
other. So a thread stays where it runs while it has a short program, and tells the zygote where that
is (`guest/zygote.py`). It lets go once the program has taken `SECONDS`. One turn in sixteen it does
not stay, for the kernel to find a better place: two threads on one processor would remain there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from typing import Self

SECONDS = 0.005
ANYWHERE = -1
_FREE_TURN = 16
_turns = threading.local()
_getcpu = getattr(ctypes.CDLL(None), "sched_getcpu", None)


class Stay:
    """From its making until `end`; both by one thread, which starts no thread or process meanwhile.

    Args:
        wanted: whether to stay at all.

    Attributes:
        processor: the number of the one that the thread stays on, or `ANYWHERE`.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.processor = ANYWHERE
        self._before: set[int] = set()
        _turns.count = getattr(_turns, "count", 0) + 1
        if not wanted or _getcpu is None or _turns.count % _FREE_TURN == 0:
            return
        with contextlib.suppress(OSError):
            before, here = os.sched_getaffinity(0), _getcpu()
            if len(before) > 1:
                os.sched_setaffinity(0, {here})
                self._before = before
            self.processor = here

    def end(self) -> None:
        """Let the thread run anywhere again. May be called twice."""
        before, self._before = self._before, set()
        if before:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.end()
