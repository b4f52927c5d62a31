"""Process 1 of a container: runs one program at a time, and leaves nothing of it.

All programs share the container's namespaces, one after another, and the user that this process
is. What keeps them apart from it: process 1 gets no signal from inside that it has no handler for,
SIGKILL and SIGSTOP included; it is not dumpable, so nobody of its user may trace it or look at its
memory or descriptors; and the filter refuses what would change its limits or its scheduling.

After each program every process of its user is killed and reaped, and what it left in the
folders that it could write to is removed. Where anything stays, the container is given up.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import site
import socket
import sys
from typing import Any

from . import cgroup, kernel, landlock, program, rehearsal, scratch, seccomp, view, watch, zygote  # noqa: TID251

_WRITABLE = ("/tmp", "/dev/shm", "/dev/mqueue")
_EVENTS = ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory.events")
_CPU = ("/sys/fs/cgroup/cpuacct/cpuacct.usage", "/sys/fs/cgroup/cpu.stat")


class ContainerSettings(zygote.Settings):
    """What process 1 knows once it stands, and how it cleans up."""

    def __init__(self) -> None:
        super().__init__()
        self.user_id = os.getuid()
        self.own_processes = 1  # this one
        self._folders = [path for path in _WRITABLE if os.access(path, os.W_OK)]
        self._speak_over_sockets()
        self.unheld = _unheld_limits() if _under_gvisor() else set()
        self.group = _ContainerGroup.find()
        if landlock.ABI:
            self.files = view.PRIVATE
            self.reached += landlock.reached(landlock.ABI)

    def _speak_over_sockets(self) -> None:
        """In place of a pipe: gVisor lets programs open pipes of process 1, but nobody a socket."""
        with contextlib.ExitStack() as stack:
            ours, theirs = map(stack.enter_context, socket.socketpair())
            os.dup2(ours.fileno(), self._said, inheritable=False)
            os.dup2(theirs.fileno(), self._say, inheritable=False)
        os.set_blocking(self._said, False)

    def clean_up(self, pid: int, answer: dict[str, Any]) -> None:
        """Kill and reap whatever runs as our user, remove what it left, and see that it is so."""
        answer["cpu"] += end_everything()
        try:
            for folder in self._folders:
                if os.listdir(folder):
                    scratch.empty(folder)
        except OSError as error:
            self.retired = f"a program's files cannot be removed: {error}"


class _ContainerGroup(cgroup.Group):
    """The container's own group: its limits are the engine's to set, but what it killed shows."""

    def __init__(self, events: int) -> None:
        self._files = {"memory": -1, "events": events}
        self._peak_resets = False
        self._kills = 0
        self._kills = self._killed()
        self.names = ["cpu cgroup"]
        for path in () if watch.ours else _CPU:  # a relay's time would be the program's
            with contextlib.suppress(OSError):
                self._files["cpu"] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                break
        try:
            self.cpu_seconds()
        except (ValueError, LookupError):  # gVisor's files say less
            del self._files["cpu"]
        if "cpu" not in self._files:
            self.names = []

    @classmethod
    def find(cls) -> _ContainerGroup | None:
        """Where the engine shows it."""
        for path in _EVENTS:
            with contextlib.suppress(OSError):
                return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        return None

    def begin(self, memory_bytes: int, processes: int) -> None:
        """Nothing: memory is polled, and the limit on processes is the user's."""


def main(control: socket.socket, config: dict[str, Any]) -> None:
    """Prove what holds, say so, and serve.

    Args:
        control: to the host, or to its relay.
        config: `python_path` and `preload`.

    Raises:
        OSError: this is no container as the host should have made it.
    """
    kernel.forget_command_line(b"sandbox")
    kernel.forget_variable("LD_BIND_NOW")
    sys.argv, sys.orig_argv = [""], [sys.executable]
    kernel.set_dumpable(False)
    if not kernel.SUPPORTED:
        raise OSError(f"machine {os.uname().machine} is not supported")
    if os.getpid() != 1 or os.getuid() == 0:
        raise OSError(f"process {os.getpid()} of user {os.getuid()}: expected 1, and not root")
    for number in signal.valid_signals():  # those with a handler are what could disturb process 1
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    watch.ours.update(watch.descendants(1))  # the relay, where there is one
    os.chdir("/tmp")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    os.close(null)
    settings = ContainerSettings()
    settings.reached[:0] = ["container", *_proved()]
    zygote._warm_up(zygote._WARM)
    sys.path.extend([*config["python_path"], *filter(os.path.isdir, site.getsitepackages())])
    try:
        zygote._warm_up(config["preload"])
    except ModuleNotFoundError as error:
        raise OSError(
            f"its image has no Python module {error.name}: build one that has "
            f"(python -m rlvr.sandbox.docker_image --packages 'python3 python3-{error.name}')"
        ) from None
    zygote._have_one_thread(config["preload"])
    rehearsal.rehearse()
    program.stand_ready()
    if _under_gvisor():
        # There neither process 1 nor processes of other users are safe from signals.
        kernel.no_new_privileges()
        seccomp.refuse_signals([-1, 1])
        settings.reached.append("gvisor")
    settings.confine()
    settings.reached += ["no_new_privs", "seccomp", "rlimits", "memory cgroup", "pids cgroup"]
    settings.reached += settings.group.names if settings.group else []
    end_everything()
    zygote._settle(settings)
    zygote._say(control, {"ready": True, "reached": settings.reached, "missing": settings.missing})
    # A descriptor that never has anything to say: the host's end shows on the control socket.
    never, _kept = socket.socketpair()
    zygote._serve(control, never.fileno(), settings)


def end_everything() -> float:
    """Kill all that this process may signal, and reap it.

    Returns:
        CPU seconds of those that were left.
    """
    seconds = 0.0
    while True:
        # -1 is all at once, and no fork escapes it; but gVisor's spares no other user's processes.
        for pid in watch.descendants(1) if watch.ours and _under_gvisor() else [-1]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            _, _, usage = os.wait3(0)
        except ChildProcessError:
            return seconds
        seconds += usage.ru_utime + usage.ru_stime


@functools.cache
def _under_gvisor() -> bool:
    """Whether the kernel is gVisor's: of those that we can run on it alone has no pidfd."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return True
    return False


def _unheld_limits() -> set[int]:
    """Limits that gVisor has no use for, such as that on message queues, and refuses to set."""
    unheld = set()
    for name in ("CORE", "MEMLOCK", "MSGQUEUE", "NPROC", "SIGPENDING"):
        kind: int = getattr(resource, f"RLIMIT_{name}")
        try:
            resource.setrlimit(kind, resource.getrlimit(kind))
        except (OSError, ValueError):
            unheld.add(kind)
    return unheld


def _proved() -> list[str]:
    """What the container holds, as far as process 1 can see it.

    Raises:
        OSError: something that it must hold is not there.
    """
    with open("/proc/self/status", encoding="ascii") as file:
        status = dict(line.rstrip().split(":\t", 1) for line in file if ":\t" in line)
    for name, value in status.items():
        if name.startswith("Cap") and int(value, 16):
            raise OSError(f"{name} is {value}: expected no capability")
    if not kernel.has_no_new_privileges():
        raise OSError("no-new-privileges is not set")
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        options = [line.split()[3].split(",") for line in file if line.split()[1] == "/"]
    if "ro" not in options[-1]:
        raise OSError("the root file system can be written")
    with open("/proc/net/dev", encoding="ascii") as file:
        interfaces = [line.split(":")[0].strip() for line in file if ":" in line]
    if interfaces not in ([], ["lo"]):
        raise OSError(f"network interfaces {', '.join(interfaces)}: expected none")
    return ["pid", "mount", "net", "ipc", "uts", "private root", "capabilities"]
