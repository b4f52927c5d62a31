"""How long a program could have run while no processor was free: not its doing, not its time.

The kernel counts for each thread how long it ran and how long it waited in a run queue
(`/proc/PID/task/TID/schedstat`). A program's wait is the longest of its threads' within each
interval, and at most the time in which none of them ran: what threads of one program wait for each
other is its own affair.

A program that wants to pass for one that waits must not: what ended within an interval may have run
all the time, so such an interval counts for nothing; and who is once seen to ask for less of the
processors than others get waits by choice, from then on.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable

_NANO = 1e-9
_WORTH_A_LOOK = 1_000_000  # nanoseconds of waiting within one interval
PROCESSORS = frozenset(os.sched_getaffinity(0))  # what programs may use, before we stay on one


class Waits:
    """Sums the waits of one program, from the calls of `update`.

    Args:
        pid: of the program, which has just been born.

    Attributes:
        seconds: so far; 0 where the kernel does not count.
    """

    def __init__(self, pid: int) -> None:
        self._at = time.monotonic()
        self._seen: dict[str, tuple[int, int]] = {}
        self._born = pid - 1 if os.getpid() == 1 else 0  # what `_last_born` said before it
        self._idle = 0.0
        self._waited = 0.0
        self._by_choice = False
        self.seconds = 0.0

    def update(self, pids: Iterable[int]) -> None:
        """Look at all threads of the program's processes."""
        now, pids = time.monotonic(), list(pids)
        ran, longest = 0, 0
        seen: dict[str, tuple[int, int]] = {}
        for thread, ran_so_far, waited_so_far in _threads(pids):
            ran_before, waited_before = self._seen.get(thread, (0, 0))
            ran += ran_so_far - ran_before
            longest = max(longest, waited_so_far - waited_before)
            seen[thread] = ran_so_far, waited_so_far
        born = _last_born()
        new = seen.keys() - self._seen.keys()
        some_ended = self._seen.keys() - seen.keys() or (born - self._born not in (0, len(new)))
        if longest > _WORTH_A_LOOK and not self._by_choice:
            self._by_choice = waits_by_choice(pids)
        if not some_ended and not self._by_choice:
            self._idle += max(0.0, now - self._at - ran * _NANO)
            self._waited += longest * _NANO
        self._at, self._seen, self._born = now, seen, born
        self.seconds = max(self.seconds, min(self._idle, self._waited))


def waits_by_choice(pids: Iterable[int]) -> bool:
    """Whether a thread of the processes asked for less of the processors than this process gets."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in map(int, os.listdir(f"/proc/{pid}/task")):
                nice = os.getpriority(os.PRIO_PROCESS, thread)
                if nice > own or len(os.sched_getaffinity(thread)) < len(PROCESSORS):
                    return True
    return False


def _last_born() -> int:
    """The newest process or thread of this pid namespace; 0 where others make some in it too."""
    if os.getpid() != 1:
        return 0
    try:
        fd = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)  # a file object costs far more
        try:
            return int(os.read(fd, 128).split()[4])
        finally:
            os.close(fd)
    except (OSError, ValueError, IndexError):
        return 0


def _threads(pids: Iterable[int]) -> Iterable[tuple[str, int, int]]:
    """Each thread's id, and the nanoseconds that it ran and that it waited."""
    for pid in pids:
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                    ran, waited, _ = file.read().split()
                yield thread, int(ran), int(waited)
        except (OSError, ValueError):  # it has just ended, or the kernel does not count
            continue
