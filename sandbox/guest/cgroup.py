"""The control group of one slot, where the host lets us make one (versions 1 and 2).

The zygote moves into it once it is warm, so that every program is born there: to move each would
now and then wait milliseconds for the kernel. The kernel then holds all processes
of a program together, with their files in `/tmp` and `/dev/shm` and the kernel's own memory for
them, to one limit on memory and one on processes, and knows the most that they used.

The launcher makes the folders and removes them at the end. Those of a launcher that was killed
are removed by the next one that starts.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from . import owner  # noqa: TID251

_SLACK = 4 << 20  # page tables, stacks of the kernel, and what it charges in advance
_MEMORY_FILES = {  # version: limit, use, peak, events, how swapping is switched off
    1: (
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "memory.max_usage_in_bytes",
        "memory.oom_control",
        "memory.swappiness",
    ),
    2: ("memory.max", "memory.current", "memory.peak", "memory.events", "memory.swap.max"),
}
_CPU_FILES = {1: "cpuacct.usage", 2: "cpu.stat"}
_CONTROLLERS = ("memory", "pids")
_COUNTER = "cpuacct"  # of version 1: it holds nothing, so alone it makes no group


class Group:
    """One group, in one folder (version 2) or one for each controller (version 1).

    Attributes:
        names: what it holds, or counts: `memory cgroup`, `pids cgroup`, `cpu cgroup`.
        others: processes in it that are no program's: the zygote, and its copy.
    """

    def __init__(self, folders: Mapping[str, tuple[int, str]]) -> None:
        self._folders = sorted({folder for _, folder in folders.values()})
        self._files: dict[str, int] = {}
        self._peak_resets = False
        self._limits: tuple[int, int] | None = None
        self._limit = 0
        self._used_before = 0
        self._kills = 0
        self.names: list[str] = []
        self.others = 1
        for folder in self._folders:
            self._open(f"enter {folder}", folder, "cgroup.procs", os.O_WRONLY)
        if "memory" in folders:
            version, folder = folders["memory"]
            limit, use, peak, events, swap = _MEMORY_FILES[version]
            with contextlib.suppress(OSError):  # a kernel without swap has no such file
                _write(f"{folder}/{swap}", "0")
            self._open("memory", folder, limit, os.O_WRONLY)
            self._open("use", folder, use, os.O_RDONLY)
            self._open("events", folder, events, os.O_RDONLY)
            try:  # from Linux 6.12 on the peak of version 2 can be set back, before that only read
                self._open("peak", folder, peak, os.O_RDWR)
                os.pwrite(self._files["peak"], b"0", 0)
                self._peak_resets = True
            except OSError:
                pass
            self.names.append("memory cgroup")
        if "pids" in folders:
            self._open("pids", folders["pids"][1], "pids.max", os.O_WRONLY)
            self.names.append("pids cgroup")
        version, folder = folders.get(_COUNTER) or next(iter(folders.values()))
        with contextlib.suppress(OSError):
            self._open("cpu", folder, _CPU_FILES[version], os.O_RDONLY)
            self.names.append("cpu cgroup")

    def _open(self, name: str, folder: str, file: str, flags: int) -> None:
        self._files[name] = os.open(f"{folder}/{file}", flags | os.O_CLOEXEC)

    def enter(self) -> None:
        """Move this process, which must have one thread, into the group.

        Raises:
            OSError: the kernel does not let us.
        """
        for name, fd in self._files.items():
            if name.startswith("enter "):
                os.write(fd, b"0")

    def begin(self, memory_bytes: int, processes: int) -> None:
        """Before a program: its limits, and a peak of its own.

        Raises:
            OSError: a limit cannot be set.
        """
        if self._limits != (memory_bytes, processes):
            if "memory" in self._files:
                self._limit = self._number("use") + memory_bytes + _SLACK
                os.pwrite(self._files["memory"], b"%d" % self._limit, 0)
            if "pids" in self._files:
                os.pwrite(self._files["pids"], b"%d" % (processes + self.others), 0)
            self._limits = (memory_bytes, processes)
        if "memory" in self._files:
            self._used_before = self._number("use")
            if self._peak_resets:
                os.pwrite(self._files["peak"], b"0", 0)

    def end(self) -> tuple[bool, int | None]:
        """After a program: whether memory ran out, and the most bytes that were in use.

        The bytes are those beyond what was in use before it; None where the kernel does not tell.
        """
        if not self._peak_resets:
            return self.ran_out(), None
        peak = self._number("peak")
        ran_out = peak > self._limit - _SLACK and self.ran_out()
        return ran_out, max(0, peak - self._used_before)

    def ran_out(self) -> bool:
        """Whether the kernel has killed a process of the group for memory since it was last asked.

        A control group's processes go on after one of them was killed.
        """
        if "memory" not in self._files:
            return False
        before, self._kills = self._kills, self._killed()
        return self._kills > before

    def cpu_seconds(self) -> float:
        """Processor time of all that ever ran in the group but this process; 0 where none tells.

        It counts children too that nobody waited for.
        """
        if "cpu" not in self._files:
            return 0.0
        words = os.pread(self._files["cpu"], 128, 0).split()
        used = int(words[0]) * 1e-9 if len(words) == 1 else int(words[1]) * 1e-6
        return used - time.process_time()

    def is_full(self) -> bool:
        """Whether the group uses all that it may, so that the kernel searches for pages to free."""
        return "use" in self._files and self._number("use") > self._limit - 2 * _SLACK

    def _killed(self) -> int:
        for line in os.pread(self._files["events"], 512, 0).splitlines():
            if line.startswith(b"oom_kill "):
                return int(line[9:])
        return 0

    def _number(self, name: str) -> int:
        return int(os.pread(self._files[name], 32, 0))

    def remove(self) -> None:
        """Remove the folders once the zygote has ended; for up to two seconds."""
        for fd in self._files.values():
            os.close(fd)
        self._files = {}
        deadline = time.monotonic() + 2.0
        for folder in self._folders:
            while not _removed(folder) and time.monotonic() < deadline:
                time.sleep(0.005)


def make() -> Group | None:
    """A new group below the one that this process is in, and the end of stale ones there.

    Returns:
        None where neither memory nor processes can be held.
    """
    name = owner.name()
    folders: dict[str, tuple[int, str]] = {}
    mounts = dict(_own_folders())
    for controller in (*_CONTROLLERS, _COUNTER):
        if controller in mounts and (folders or controller != _COUNTER):
            made = _child(mounts[controller], name)
            if made:
                folders[controller] = (1, made)
    if not folders and "" in mounts:
        folders = {c: (2, folder) for c, folder in _unified(mounts[""], name).items()}
    if not folders:
        return None
    try:
        return Group(folders)
    except OSError:
        for _, folder in folders.values():
            _removed(folder)
        return None


def _own_folders() -> Iterator[tuple[str, str]]:
    """The folder of our own group by controller; "" for version 2."""
    own: dict[str, str] = {}
    for line in _lines("/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    for line in _lines("/proc/self/mountinfo"):
        fields, _, rest = line.partition(" - ")
        root, place = fields.split()[3:5]
        kind, _, options = rest.split()[:3]
        if kind not in ("cgroup", "cgroup2"):
            continue
        for controller in options.split(",") if kind == "cgroup" else [""]:
            group = own.get(controller)
            if group is not None:
                inside = group[len(root.rstrip("/")) :] if group.startswith(root) else group
                yield controller, place.rstrip("/") + inside.rstrip("/")


def _unified(own: str, name: str) -> dict[str, str]:
    """Version 2: below our group, or beside us, since a group with processes may have no others.

    That is where systemd hands a part of the tree to its users.
    """
    for parent in (own, os.path.dirname(own)):
        with contextlib.suppress(OSError):
            wanted = set(_CONTROLLERS) & set(_words(f"{parent}/cgroup.controllers"))
            missing = wanted - set(_words(f"{parent}/cgroup.subtree_control"))
            if missing:
                text = " ".join(f"+{controller}" for controller in sorted(missing))
                _write(f"{parent}/cgroup.subtree_control", text)
            made = _child(parent, name) if wanted else None
            if made:
                return dict.fromkeys(sorted(wanted), made)
    return {}


def _child(parent: str, name: str) -> str | None:
    """Make a group; None where that is refused."""
    try:
        for path in owner.stale(parent):
            _removed(path)  # one with processes stays
        os.mkdir(f"{parent}/{name}")
    except OSError:
        return None
    return f"{parent}/{name}"


def _removed(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _words(path: str) -> list[str]:
    with open(path, encoding="ascii") as file:
        return file.read().split()


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def judge(group: Group | None, killed: str | None, usage: Any) -> tuple[str | None, int]:
    """What a program was ended for, with what the group knows, and its peak memory in bytes."""
    largest: int = usage.ru_maxrss * 1024
    if group is None:
        return killed, largest
    ran_out, peak = group.end()
    if killed is None and ran_out:
        killed = "memory"
    return killed, largest if peak is None else peak
