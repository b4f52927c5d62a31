"""Waiting for a program while its time and memory are measured from outside.

The program and all its descendants are the only other processes that the zygote's `/proc` shows, so
both are summed over the whole tree. What is polled here is exact in CPU time to `_TICK`; behind
it stand the kernel's own limits for each process (`program.confine`).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from typing import Any

from . import cgroup  # noqa: TID251
from .queueing import PROCESSORS, Waits  # noqa: TID251

_TICK, _LEAST = 0.05, 0.002
_STAY = 0.005  # `rlvr.sandbox.staying.SECONDS`
_PASSES = 20
_BUSY = 0.25  # the share of its time that a program has to wait for the machine to be to blame
_PAGE = os.sysconf("SC_PAGESIZE")
_HERTZ = os.sysconf("SC_CLK_TCK")
ours: set[int] = set()  # processes beside the zygote that are no program's


def own_address_space() -> int:
    """Bytes of address space that this process has reserved, which every child starts with."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * _PAGE
    except OSError:
        return 256 << 20


def watch(
    pid: int,
    pidfd: int,
    request: dict[str, Any],
    control: Any,
    host: int,
    group: cgroup.Group | None,
    stays: bool = False,
) -> tuple[str | None, float, float]:
    """Wait until the program ends, and kill it where it goes too far.

    Memory is polled where no control group holds it, and the end where there is no pidfd: gVisor
    has none (-1).

    Args:
        pid: of the program.
        pidfd: the same.
        request: its limits.
        control: to the host.
        host: a pidfd of it.
        group: the program's control group.
        stays: whether the program is on our processor alone, until it has run for `_STAY` seconds.

    Returns:
        What it was killed for (`wall`, `cpu`, `memory`, `load`, `host`, or None), the CPU seconds
        seen, and the seconds in which it could have run but no processor was free.
    """
    started = time.monotonic()
    waits = Waits(pid)
    poll = select.poll()
    for fd in (pidfd, control.fileno(), host):
        if fd >= 0:
            poll.register(fd, select.POLLIN)
    tick = _STAY if stays else _TICK if pidfd >= 0 else _LEAST
    held = group is not None and "memory cgroup" in group.names
    cpu = 0.0
    cpu_before = group.cpu_seconds() if group else 0.0
    killed: str | None = None
    while killed is None:
        left = request["wall_seconds"] + waits.seconds - (time.monotonic() - started)
        events = {fd for fd, _ in poll.poll(max(_LEAST, min(left, tick)) * 1000)}
        if host in events:
            os._exit(0)
        if pidfd in events or (pidfd < 0 and _has_ended(pid)):
            break
        if stays:
            _let_go()
            stays, tick = False, _TICK
        tick = min(_TICK, 2 * tick)
        if control.fileno() in events:
            if not control.recv(16):
                os._exit(0)
            killed = "host"
        else:
            memory, cpu = _measure()
            if group:
                cpu = max(cpu, group.cpu_seconds() - cpu_before)
            waits.update(descendants(os.getpid()))
            killed = _exceeded(request, started, waits.seconds, cpu, 0 if held else memory)
            if group and (group.ran_out() or (killed and _starves(group, request))):
                killed = "memory"
    if killed is not None:
        os.kill(pid, signal.SIGKILL)  # it was not waited for yet: the number is still its own
    return killed, cpu, waits.seconds


def _let_go() -> None:
    """Let the program use all processors, once: again until nothing that it starts is missed."""
    ours = os.sched_getaffinity(0)
    if len(ours) == len(PROCESSORS):
        return
    for _ in range(_PASSES):
        held = 0
        for pid in descendants(os.getpid()):
            with contextlib.suppress(OSError):
                for thread in map(int, os.listdir(f"/proc/{pid}/task")):
                    if os.sched_getaffinity(thread) == ours:
                        os.sched_setaffinity(thread, PROCESSORS)
                        held += 1
        if not held:
            return


def _starves(group: cgroup.Group, request: dict[str, Any]) -> bool:
    """Whether it spent its time on memory that there is not: the kernel took the pages of its code
    again and again, and found just enough of them not to kill it.
    """
    return group.is_full() and _shared_out() > request["memory_bytes"] // 2


def _has_ended(pid: int) -> bool:
    """Whether a child has, without waiting for it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _exceeded(
    request: dict[str, Any], started: float, waited: float, cpu: float, memory: int
) -> str | None:
    if cpu > request["cpu_seconds"]:
        return "cpu"
    if memory > request["memory_bytes"] and _shared_out() > request["memory_bytes"]:
        return "memory"
    clock = time.monotonic() - started
    if clock - waited >= request["wall_seconds"]:
        return "wall"
    if clock < request["clock_seconds"]:
        return None
    return "load" if waited >= _BUSY * clock else "wall"


def _measure() -> tuple[int, float]:
    """Resident bytes, at most (pages that are shared count often), and CPU seconds, of the tree."""
    memory, ticks = 0, 0
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError, ValueError, IndexError):
            memory += _resident(pid)
            ticks += sum(int(field) for field in _stat(pid)[11:15])
    return memory, ticks / _HERTZ


def _stat(pid: int) -> list[str]:
    """The fields after the name, which may hold anything."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        return file.read().rpartition(")")[2].split()


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            pages = file.read().split()
    except OSError:  # it has just ended
        return 0
    return int(pages[1]) * _PAGE


def _shared_out() -> int:
    """The same memory without file pages, and with shared pages counted once (slower)."""
    total = 0
    for pid in descendants(os.getpid()):
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                lines = file.read().splitlines()
            own = ("Pss_Anon:", "Pss_Shmem:")
            sizes = [int(line.split()[1]) for line in lines if line.startswith(own)]
            total += 1024 * sum(sizes)
        except OSError:  # it hid itself with PR_SET_DUMPABLE: it pays for shared pages in full
            total += _resident(pid)
    return total


def tasks_of(user: int) -> int:
    """How many threads run as a user, whom its limit on processes counts too."""
    count = 0
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def descendants(root: int) -> Iterator[int]:
    """Process ids below `root`: all others, where `root` is process 1 of its own namespace."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    if root == 1:
        yield from (pid for pid in pids if pid != 1 and pid not in ours)
        return
    parents = {}
    for pid in pids:
        with contextlib.suppress(OSError, ValueError):
            parents[pid] = int(_stat(pid)[1])
    below = {root}
    for pid in sorted(parents):
        if parents[pid] in below:
            below.add(pid)
            yield pid
