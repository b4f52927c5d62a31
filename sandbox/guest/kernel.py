"""Linux calls that Python has no name for, through libc and raw system-call numbers.

Every function raises `OSError` with the kernel's reason. x86-64 and aarch64 only.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct

from .steps import Steps  # noqa: TID251

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEWTIME = 0x00000080
CLONE_PIDFD = 0x00001000
ANY_NAMESPACE = (
    CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
)

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

PER_PROGRAM = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC  # new for each program
SCRATCH = MS_NOSUID | MS_NODEV  # how its own /proc, /tmp and /dev/shm are mounted

_NUMBERS = {
    "x86_64": {"clone": 56, "pivot_root": 155, "mount_setattr": 442, "seccomp": 317},
    "aarch64": {"clone": 220, "pivot_root": 41, "mount_setattr": 442, "seccomp": 277},
}.get(platform.machine(), {})
SUPPORTED = bool(_NUMBERS)

# PyDLL keeps the interpreter lock: between clone() and the first instruction of the child nothing
# else may run.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(name: str, *arguments: object) -> int:
    return _check(_libc.syscall(ctypes.c_long(_NUMBERS[name]), *arguments), name)


def fork_into(flags: int) -> tuple[int, int]:
    """Fork, with the child in new namespaces.

    Args:
        flags: `CLONE_NEW*`, or 0.

    Returns:
        `(pid, pidfd)` in the parent and `(0, -1)` in the child.
    """
    pidfd = ctypes.c_int(-1)
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = _libc.syscall(
        ctypes.c_long(_NUMBERS["clone"]),
        ctypes.c_ulong(flags | CLONE_PIDFD | signal.SIGCHLD),
        ctypes.c_void_p(0),
        ctypes.byref(pidfd),
        ctypes.c_void_p(0),
        ctypes.c_void_p(0),
    )
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0, -1
    error = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(error, f"clone: {os.strerror(error)}")
    return pid, pidfd.value


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """`mount(2)`."""
    result = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _check(result, f"mount {target}")


def unmount(target: str) -> None:
    """`umount2(2)`, detached."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """`pivot_root(2)`."""
    _syscall("pivot_root", ctypes.c_char_p(new.encode()), ctypes.c_char_p(old.encode()))


def restrict_mount(target: str, flags: int) -> None:
    """Add read-only (1), nosuid (2), nodev (4), noexec (8) to a mount and all below it."""
    attributes = struct.pack("QQQQ", flags, 0, 0, 0)
    at_recursive, at_fdcwd = 0x8000, -100
    _syscall(
        "mount_setattr",
        ctypes.c_int(at_fdcwd),
        ctypes.c_char_p(target.encode()),
        ctypes.c_uint(at_recursive),
        ctypes.c_char_p(attributes),
        ctypes.c_size_t(len(attributes)),
    )


def _prctl(option: int, value: int, what: str, third: int = 0) -> None:
    result = _libc.prctl(
        ctypes.c_int(option),
        ctypes.c_ulong(value),
        ctypes.c_ulong(third),
        ctypes.c_ulong(0),
        ctypes.c_ulong(0),
    )
    _check(result, what)


def die_with_parent() -> None:
    """SIGKILL for this process when its parent dies."""
    _prctl(1, signal.SIGKILL, "PR_SET_PDEATHSIG")


def set_dumpable(allowed: bool) -> None:
    """Whether processes of the same user may read this one's memory and descriptors."""
    _prctl(4, int(allowed), "PR_SET_DUMPABLE")


def no_new_privileges() -> None:
    """No setuid binary or file capability gives this process or its children anything, ever."""
    _prctl(38, 1, "PR_SET_NO_NEW_PRIVS")


def has_no_new_privileges() -> bool:
    """Whether `no_new_privileges` was done, by this process or one that made it."""
    zero = ctypes.c_ulong(0)
    return bool(_libc.prctl(ctypes.c_int(39), zero, zero, zero, zero) == 1)


def seccomp_filter(program: ctypes.Array[ctypes.c_char]) -> None:
    """Install a `struct sock_fprog` for this process and all that it starts."""
    set_mode_filter = 1
    _syscall("seccomp", ctypes.c_uint(set_mode_filter), ctypes.c_uint(0), program)


def become_subreaper() -> None:
    """Orphans below this process become its children."""
    _prctl(36, 1, "PR_SET_CHILD_SUBREAPER")


def forget_command_line(title: bytes) -> None:
    """Put `title` where the kernel and every child read this process's arguments."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start, arg_end
    if 0 < start < end:
        ctypes.memmove(start, title.ljust(end - start, b"\0")[: end - start], end - start)


def forget_variable(name: str) -> None:
    """Take a variable out of the environment, and its text from where the kernel shows it."""
    text = f"{name}={os.environ.pop(name, '')}".encode()
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])  # env_start, env_end
    at = ctypes.string_at(start, end - start).find(text) if 0 < start < end else -1
    if at >= 0:
        ctypes.memset(start + at, 0, len(text))


def drop_bounding_set() -> None:
    """Nothing executed from here on can gain a capability."""
    for capability in range(64):
        try:
            _prctl(24, capability, "PR_CAPBSET_DROP")
        except OSError:
            if capability == 0:
                raise
            return  # the first number past the last capability


def lock_securebits() -> None:
    """User id 0 means nothing any more: NOROOT, NO_CAP_AMBIENT_RAISE, and their locks."""
    _prctl(28, 0b1100_0011, "PR_SET_SECUREBITS")


def has_capabilities() -> bool:
    """Whether this process is permitted any."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return any(line.startswith("CapPrm:") and int(line.split()[1], 16) for line in file)


def drop_capabilities(steps: Steps) -> None:
    """Effective, permitted and inheritable sets: empty."""
    steps.add("capset", struct.pack("Ii", 0x20080522, 0), bytes(24))
