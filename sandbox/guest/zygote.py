"""The warm interpreter: makes one confined child a request, watches it, and says how it ended.

    host (rlvr) -> launcher -> zygote, process 1 of its namespaces -> program, process 1 of its own

The zygote never sees a program's source, input or output: those travel between host and program
through descriptors that it only hands on, so nothing of one program lies in the memory that the
next one is copied from. It does know how the program ended, from `waitpid`.

When the host dies, however it dies, its pidfd wakes the zygote, which ends; when the zygote dies,
the kernel kills everything in its pid namespace.

Messages on the control socket (SEQPACKET, JSON): the first one from here says `ready`, what was
`reached` and what is `missing`. A request names the role, the limits, and brings descriptors;
its answer says `status` (as from `wait4`), CPU, wall and `waited` seconds, `peak` memory, whether
the zygote `killed` it and for what, and how far the child came (`progress`). `kill` ends the
running program.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import select
import signal
import site
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from . import (  # noqa: TID251
    cgroup,
    compact,
    kernel,
    landlock,
    program,
    queueing,
    rehearsal,
    scratch,
    seccomp,
    view,
    watch,
)
from .nursery import Nursery  # noqa: TID251
from .steps import Steps  # noqa: TID251

_OUTER = (
    kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWNET
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)
_SPACES = ("pid", "mount", "net", "ipc", "uts", "cgroup")
_ABOVE_PROGRAMS = 32  # descriptors from here on are never those that a program gets
_OVERFLOW_ID = 65534  # who programs are outside, where the host is root and there is no better
_FIRST_OWN_ID = 0x70000000  # nobody's: from here on each slot has a user of its own
_WARM = [
    "abc",
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "heapq",
    "io",
    "itertools",
    "json",
    "math",
    "operator",
    "random",
    "re",
    "statistics",
    "string",
    "struct",
    "time",
    "traceback",
    "typing",
]


_NOT_IN_A_PLAN = {"processor": 0, "wall_seconds": 0, "clock_seconds": 0, "output_bytes": 0}


class Settings:
    """What the zygote knows once it stands, read by every child."""

    def __init__(self) -> None:
        self.namespaces = False
        self.change_user = False
        self.user_id = view.USER_ID
        self.own_bytes = 0
        self.own_processes = 0  # of the user that programs run as, which their limit counts too
        self.unheld: set[int] = set()  # limits that the kernel does not let us set
        self.retired = ""  # why no further program may run here
        self.reached: list[str] = []
        self.missing: list[str] = []
        self.files: dict[str, int] = {}  # what Landlock allows to programs, by path
        self.group: cgroup.Group | None = None
        self.scratch = ""  # where programs write that have no /tmp of their own
        self.nursery: Nursery | None = None
        self._latest: Steps | None = None
        self._processors = queueing.PROCESSORS
        self._confined = False
        self._plans: dict[tuple[Any, ...], Steps] = {}
        self._said, said = os.pipe()
        self._say = fcntl.fcntl(said, fcntl.F_DUPFD, _ABOVE_PROGRAMS)
        os.close(said)
        with contextlib.suppress(OSError):  # gVisor; containers have a socket in its place
            os.fchmod(self._said, 0)  # it cannot be opened in `/proc` by what a compiler includes
        os.set_blocking(self._said, False)

    def confine(self) -> None:
        """Filter the system calls of this process and so of every program; once.

        Raises:
            OSError: the kernel cannot.
        """
        if not self._confined:
            kernel.no_new_privileges()
            seccomp.install(alone=self.namespaces)
            self._confined = True

    def plan(self, request: dict[str, Any], received: list[int]) -> Steps:
        """The steps of a child; made once for programs that are alike."""
        alike = {**request, **_NOT_IN_A_PLAN, "cpu_seconds": int(request["cpu_seconds"])}
        key = (*alike.values(), *received)
        if key not in self._plans:
            if len(self._plans) >= 64:
                self._plans.clear()
            self._plans[key] = program.plan(self, request, received, self._say)
        return self._plans[key]

    def bear(self, request: dict[str, Any], received: list[int]) -> tuple[int, int]:
        """Make a child, which is confined and does what its role says.

        Returns:
            Its process id and pidfd.

        Raises:
            OSError: there is none.
        """
        self._latest = self.plan(request, received)
        main = program.ROLES[request["role"]]
        if self.nursery:
            return self.nursery.clone(self._latest, main)
        pid, failed = self._latest.clone(main)
        if pid == 0:
            program.fail(failed)
        return pid, self._latest.pidfd

    def follow(self, processor: int) -> None:
        """Stay where the host's thread does (`rlvr.sandbox.staying`); -1 is anywhere."""
        wanted = queueing.PROCESSORS & {processor} or queueing.PROCESSORS
        if wanted != self._processors:
            self._processors = wanted
            for pid in (0, self.nursery.pid) if self.nursery else (0,):
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(pid, wanted)

    def progress(self) -> str:
        """What a child that has ended said on its way; no program can write there."""
        try:
            said = os.read(self._said, 600).decode("utf-8", "replace")
        except BlockingIOError:
            return ""
        if self._latest and said.removeprefix("k").startswith("e"):
            return "e" + self._latest.explain(int(said.removeprefix("k")[1:]))
        return said

    def clean_up(self, pid: int, answer: dict[str, Any]) -> None:
        """Leave nothing of a program that has ended; may correct what is said about it."""
        if not self.namespaces:
            _sweep(pid)
        if self.scratch:
            try:
                os.chmod(self.scratch, 0o700)
                scratch.empty(self.scratch)
            except OSError as error:
                self.retired = f"a program's files cannot be removed: {error}"


def main() -> None:
    """Start: `argv[1]` is JSON with `host` (its pid), `folders`, `python_path`, `preload`;
    `argv[3]` is the number of the control socket.
    """
    control = socket.socket(fileno=int(sys.argv[3]))
    try:
        config = json.loads(sys.argv[1])
        kernel.forget_command_line(b"sandbox")  # programs are copies: theirs is this one
        kernel.forget_variable("LD_BIND_NOW")
        sys.argv, sys.orig_argv = [""], [sys.executable]
        host = os.pidfd_open(config["host"])
        _launch(control, host, config)
    except BaseException as error:
        _say(control, {"failed": f"{type(error).__name__}: {error}"})
        os._exit(1)


def _launch(control: socket.socket, host: int, config: dict[str, Any]) -> None:
    """Clone the zygote into its namespaces, map its users, and wait for its end."""
    if not kernel.SUPPORTED:
        raise OSError(f"machine {os.uname().machine} is not supported")
    settings = Settings()
    # A machine out of memory ends programs (1000) before us, and us before the host. Far from 1000:
    # a program of a megabyte that fills its files must not outlive a zygote of fourteen.
    with contextlib.suppress(OSError):
        _write("/proc/self/oom_score_adj", "200")
    user, group = os.geteuid(), os.getegid()
    settings.group = cgroup.make()
    go_read, go_write = os.pipe()
    try:
        pid, own_user_space = _clone_zygote(settings)
    except OSError:
        _remove(settings)
        raise
    if pid == 0:
        os.close(go_write)
        kernel.die_with_parent()
        if os.read(go_read, 1) != b"g":
            os._exit(1)
        os.close(go_read)
        _zygote(control, host, config, settings, own_user_space)
        os._exit(0)
    control.close()
    if own_user_space:
        _map_users(pid, user, group)
    os.write(go_write, b"g")
    os.waitpid(pid, 0)
    _remove(settings)
    os._exit(0)


def _remove(settings: Settings) -> None:
    if settings.group:
        settings.group.remove()
    if settings.scratch:
        scratch.remove(settings.scratch)


def _clone_zygote(settings: Settings) -> tuple[int, bool]:
    """Try a user namespace first, as root too: there the limit on processes binds."""
    problems = []
    for flags, own_user_space in ((_OUTER | kernel.CLONE_NEWUSER, True), (_OUTER, False)):
        try:
            pid, _ = kernel.fork_into(flags)
        except OSError as error:
            problems.append(f"{'with' if own_user_space else 'without'} a user namespace: {error}")
            continue
        settings.namespaces = True
        settings.reached += (["user"] if own_user_space else []) + list(_SPACES)
        return pid, own_user_space
    settings.missing.append(f"namespaces {', '.join(_SPACES)} ({'; '.join(problems)})")
    if landlock.ABI >= landlock.WHOLE:
        with contextlib.suppress(OSError):
            settings.scratch = scratch.make()
    return kernel.fork_into(0)[0], False


def _map_users(pid: int, user: int, group: int) -> None:
    """Root keeps 0 and gets one unprivileged id more; an ordinary user has only its own."""
    folder = f"/proc/{pid}"
    inner = view.USER_ID
    if user == 0:
        # What the kernel counts for each user (pipes, signals) programs of two slots do not share.
        outer = _FIRST_OWN_ID + pid
        if not _is_mapped(outer, "uid") or not _is_mapped(outer, "gid"):
            outer = _OVERFLOW_ID
        try:
            text = f"0 0 1\n{inner} {outer} 1"
            _write(f"{folder}/uid_map", text)
            _write(f"{folder}/gid_map", text)
            return
        except PermissionError:
            pass  # root of a user namespace that has only the one id
    _write(f"{folder}/uid_map", f"{inner} {user} 1")
    _write(f"{folder}/setgroups", "deny")
    _write(f"{folder}/gid_map", f"{inner} {group} 1")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _zygote(
    control: socket.socket,
    host: int,
    config: dict[str, Any],
    settings: Settings,
    own_user_space: bool,
) -> None:
    _warm_up(_WARM)
    if settings.namespaces:
        _own_the_namespaces(settings, config, own_user_space)
    else:
        kernel.become_subreaper()
        settings.own_processes = watch.tasks_of(os.getuid())
        if settings.scratch:
            _contain(settings, config)
    sys.path.extend(config["python_path"])
    _warm_up(config["preload"])
    _have_one_thread(config["preload"])
    _step(settings, "capabilities", _bound_capabilities)
    kernel.set_dumpable(False)
    rehearsal.rehearse()
    program.stand_ready()
    if _step(settings, "seccomp", settings.confine):
        settings.reached += ["no_new_privs", "rlimits"]
    _settle(settings)
    _enter_group(settings)
    if settings.namespaces:
        _start_nursery(settings)
    _say(control, {"ready": True, "reached": settings.reached, "missing": settings.missing})
    _serve(control, host, settings)


def _start_nursery(settings: Settings) -> None:
    settings.nursery = Nursery.start(program.fail)
    if settings.nursery:
        watch.ours.add(settings.nursery.pid)
        if settings.group:
            settings.group.others += 1
        settings.own_processes += 1  # where it is of the same user as programs


def _contain(settings: Settings, config: dict[str, Any]) -> None:
    """Without namespaces: Landlock alone keeps programs from the host."""
    own = settings.scratch
    settings.files = view.contained(config["folders"], config["python_path"], own)
    settings.reached += [*landlock.reached(landlock.ABI), "private scratch"]
    os.environ.update(HOME=own, TMPDIR=own)
    os.chdir(own)


def _enter_group(settings: Settings) -> None:
    """Last, so that the memory that all programs share is not counted as theirs."""
    if settings.group:
        try:
            settings.group.enter()
            settings.reached += settings.group.names
        except OSError:
            settings.group = None
    if "memory cgroup" not in settings.reached:
        settings.reached.append("polled memory")


def _own_the_namespaces(settings: Settings, config: dict[str, Any], own_user_space: bool) -> None:
    if not own_user_space:
        settings.user_id = _OVERFLOW_ID
    settings.change_user = os.geteuid() == 0 and _is_mapped(settings.user_id)
    if settings.change_user:
        with contextlib.suppress(PermissionError):
            os.setgroups([])
    if own_user_space:  # never without: this is a setting of the whole machine then
        with contextlib.suppress(OSError):
            _write("/proc/sys/user/max_user_namespaces", "0")
    socket.sethostname("sandbox")
    packages = config["python_path"]

    def build() -> None:
        config["python_path"] = view.build_root(config["folders"], packages)

    settings.namespaces = _step(settings, "private root", build)
    if not settings.namespaces:  # those of the zygote are not those of programs
        settings.reached = [name for name in settings.reached if name not in _SPACES]
    if settings.namespaces and landlock.ABI:
        settings.files = view.PRIVATE
        settings.reached += landlock.reached(landlock.ABI)


def _is_mapped(user: int, kind: str = "uid") -> bool:
    """Whether this user namespace knows `user`, so that a process can become it."""
    with open(f"/proc/self/{kind}_map", encoding="ascii") as file:
        ranges = [[int(part) for part in line.split()] for line in file]
    return any(first <= user < first + count for first, _, count in ranges)


def _bound_capabilities() -> None:
    try:
        kernel.drop_bounding_set()
        kernel.lock_securebits()
    except PermissionError:
        if kernel.has_capabilities():
            raise
        # There are none to drop, and with no_new_privs no execution gives any.


def _step(settings: Settings, name: str, action: Any) -> bool:
    try:
        action()
    except OSError as error:
        settings.missing.append(f"{name} ({error})")
        return False
    settings.reached.append(name)
    return True


def _warm_up(names: list[str]) -> None:
    """Import and compile what programs use, so that their copies have it."""
    site.setquit()
    site.sethelper()
    for name in names:
        importlib.import_module(name)
    exec(compile("def f(x):\n    return [x]\nf(1)", "<warm>", "exec"), {})  # noqa: S102


def _have_one_thread(preload: list[str]) -> None:
    """Refuse modules that leave threads behind: a child would wait for what it has no copy of."""
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        raise RuntimeError(f"preloading {', '.join(preload)} left {threads - 1} threads running")


def _settle(settings: Settings) -> None:
    """Last, before programs are copied from this process: its memory is as they find it."""
    gc.collect()
    compact.fill_holes()
    compact.merge_mappings()
    gc.freeze()
    settings.own_bytes = watch.own_address_space()


def _say(control: socket.socket, message: dict[str, Any]) -> None:
    control.send(json.dumps(message).encode())


def _serve(control: socket.socket, host: int, settings: Settings) -> None:
    """Answer requests until the host is gone."""
    settings.confine()
    for message, received in _messages(control, host):
        if message == b"kill":
            continue  # it crossed our answer on the way
        try:
            answer = _one_program(json.loads(message), received, control, host, settings)
        except OSError as error:
            answer = {"failed": str(error)}
            for fd in received:
                with contextlib.suppress(OSError):
                    os.close(fd)
        _say(control, answer)
        if settings.retired:
            os._exit(0)


def _messages(control: socket.socket, host: int) -> Iterator[tuple[bytes, list[int]]]:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(host, select.POLLIN)
    while True:
        if any(fd == host for fd, _ in poll.poll()):
            os._exit(0)
        message, received, _, _ = socket.recv_fds(control, 65536, 16)
        if not message:
            os._exit(0)
        yield message, received


def _one_program(
    request: dict[str, Any],
    received: list[int],
    control: socket.socket,
    host: int,
    settings: Settings,
) -> dict[str, Any]:
    started = time.monotonic()
    settings.follow(request["processor"])
    if settings.group:
        settings.group.begin(request["memory_bytes"], request["processes"])
    pid, pidfd = settings.bear(request, received)
    for fd in received:
        os.close(fd)
    stays = program.stays(settings, request)
    killed, seen, waited = watch.watch(pid, pidfd, request, control, host, settings.group, stays)
    _, status, usage = os.wait4(pid, 0)
    if pidfd >= 0:
        os.close(pidfd)
    killed, peak = cgroup.judge(settings.group, killed, usage)
    answer = {
        "status": status,
        "killed": killed,
        "cpu": max(seen, usage.ru_utime + usage.ru_stime),
        "wall": time.monotonic() - started,
        "peak": peak,
        "waited": waited,
        "progress": settings.progress(),
    }
    settings.clean_up(pid, answer)
    return answer


def _sweep(leader: int) -> None:
    """Without a pid namespace: end what the program left behind, as far as it can be found."""
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
        for pid in watch.descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)
