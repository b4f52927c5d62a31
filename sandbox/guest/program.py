"""The child of one program: from the clone to the last exit, in eight roles.

    run      the source is a whole program on file descriptors 0, 1 and 2
    first    the same, and its compiled code goes back, for
    again    the same program without compiling
    build    a compiler makes a program of a source in another language (`command.py`)
    command  this process becomes a program that was built
    session  the source is loaded once and answers calls (`serve.py`)
    tester   trusted tests that call a session elsewhere (`tester.py`)
    weak     the same with the source in this process: the report goes to standard output

The steps of `plan` come first, without Python. A word on the status pipe tells the zygote how far
the child came before any foreign code ran: nothing or `e` (our fault), `k` (confined), `kc` (the
source does not compile), `kx` (a built program could not be started: our fault). The pipe is closed
before the program's first instruction, so no program can write there.
"""

from __future__ import annotations

import atexit
import functools
import marshal
import os
import random
import resource
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from types import CodeType, ModuleType
from typing import Any, NoReturn

from . import command, kernel, landlock, queueing, serve, tester, values, view  # noqa: TID251
from .nursery import BYTES  # noqa: TID251
from .steps import AT_FDCWD, Steps  # noqa: TID251

SOURCE_FD = 3
REPLY_FD = 4
STATUS_FD = 7
_LAST_FD = 0x7FFFFFFF  # gVisor takes a larger one for a negative number
_FIRST_FREE_FD = 8
FILE_NAME = "solution.py"
_MOST_SIGNALS = 4096  # that wait, with timers
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_main = ModuleType("__main__")


def plan(settings: Any, request: dict[str, Any], received: Sequence[int], status: int) -> Steps:
    """Everything between the clone and the child's first line of Python; the order matters.

    Args:
        settings: what the zygote reached.
        request: the limits.
        received: descriptors that become 0, 1, 2, 3, ...; ascending, and above where they go.
        status: a descriptor above `STATUS_FD`.
    """
    flags = kernel.PER_PROGRAM if settings.namespaces else 0
    nursery = settings.nursery
    steps = nursery.steps(flags) if nursery else Steps(flags)
    if not stays(settings, request):
        _use_all_processors(steps)
    _arrange_descriptors(steps, received, status)
    _confine(steps, settings, request, _lowest_free(len(received)))
    steps.add("write", STATUS_FD, b"k", 1)
    if nursery:  # the last, since the steps lie there
        steps.add("munmap", nursery.address, BYTES)
    return steps.seal()


def stays(settings: Any, request: dict[str, Any]) -> bool:
    """Whether the child starts on the zygote's processor alone, and `watch` lets it go.

    That is for those who talk with the host, or with each other. Other programs never see it.
    """
    return bool(settings.namespaces) and request["role"] in ("session", "tester")


def _use_all_processors(steps: Steps) -> None:
    mask = sum(1 << number for number in queueing.PROCESSORS)
    size = 8 * (mask.bit_length() // 64 + 1)
    steps.add("sched_setaffinity", 0, size, mask.to_bytes(size, "little"))


def _arrange_descriptors(steps: Steps, received: Sequence[int], status: int) -> None:
    """Put `received` on 0, 1, 2, 3, ..., `status` on its own number, and close all others."""
    if any(fd <= number for number, fd in enumerate(received)) or list(received) != sorted(
        received
    ):
        raise OSError(f"descriptors arrived as {list(received)}")
    for number, fd in enumerate(received):
        steps.add("dup3", fd, number, 0)
    steps.add("dup3", status, STATUS_FD, 0)
    if len(received) < STATUS_FD:
        steps.add("close_range", len(received), STATUS_FD - 1, 0)
    steps.add("close_range", STATUS_FD + 1, _LAST_FD, 0)


def _lowest_free(taken: int) -> tuple[int, int]:
    """The two descriptors that the next calls to open get, after `_arrange_descriptors`."""
    first, second = [n for n in range(taken, taken + 3) if n != STATUS_FD][:2]
    return first, second


def _confine(steps: Steps, settings: Any, request: dict[str, Any], free: tuple[int, int]) -> None:
    """Give up everything that a program must not have."""
    if settings.namespaces:
        view.private_mounts(steps, request["file_bytes"])
    if settings.group:
        _die_before_the_zygote(steps, free[0])
    if settings.files:
        landlock.restrict(steps, landlock.ABI, settings.files, free)
    steps.add("setsid")
    _die_with_parent(steps)
    _set_limits(steps, settings, request)
    if settings.change_user:
        user = settings.user_id
        steps.add("setresgid", user, user, user)
        steps.add("setresuid", user, user, user)
    kernel.drop_capabilities(steps)
    # Its own /proc/self, such as /dev/stdin, is its own to read; the zygote's is out of sight.
    steps.add("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0, what="dumpable")
    _die_with_parent(steps)  # a change of user cleared it


def _die_before_the_zygote(steps: Steps, fd: int) -> None:
    """Where the group is out of memory, it is never the zygote that the kernel ends."""
    steps.add("prctl", _PR_SET_DUMPABLE, 1, 0, 0, 0, what="dumpable")  # its /proc files are its own
    flags = os.O_WRONLY | os.O_CLOEXEC
    steps.add("openat", AT_FDCWD, b"/proc/self/oom_score_adj", flags, what="oom_score_adj")
    steps.add("write", fd, b"1000", 4, what="oom_score_adj")
    steps.add("close", fd)


def _die_with_parent(steps: Steps) -> None:
    steps.add("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0, what="die with parent")


def _set_limits(steps: Steps, settings: Any, request: dict[str, Any]) -> None:
    cpu = int(request["cpu_seconds"]) + 2  # the zygote enforces the exact one; this is behind it
    address_space = request["memory_bytes"] + settings.own_bytes
    if request["role"] in ("build", "command"):
        address_space = resource.RLIM_INFINITY  # `command` sets it, where the language allows
    for name, value in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_FSIZE, request["file_bytes"]),
        (resource.RLIMIT_NPROC, request["processes"] + settings.own_processes),
        (resource.RLIMIT_NOFILE, request["open_files"]),
        # Not 0: the kernel would still hand the memory of a crash to a core handler of the host.
        (resource.RLIMIT_CORE, 1),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, _MOST_SIGNALS),
    ):
        if name in settings.unheld:
            continue
        hard = resource.getrlimit(name)[1]  # the host's own limit may be below ours
        if hard != resource.RLIM_INFINITY:
            value = hard if value == resource.RLIM_INFINITY else min(value, hard)
        pair = struct.pack("qq", value, value)
        steps.add("prlimit64", 0, name, pair, 0, what=f"limit {name}")


def stand_ready() -> None:
    """In the zygote, last: what every program starts with is made once, and our traces go."""
    global _main
    _make_standard_streams()
    random.seed(0)  # every program starts from the same state: its verdict can be repeated
    _main = _new_main_module()


def fail(result: int) -> NoReturn:
    """Be a child that could not do one of its steps, with what `Steps.explain` reads."""
    try:
        os.write(STATUS_FD, b"e%d" % result)
    finally:
        os._exit(127)


def _enter(role: Callable[[], int]) -> NoReturn:
    """Be the child, after its steps."""
    code = 127
    try:
        code = role()
    finally:
        os._exit(code)


def _run() -> int:
    """Role `run`: what `python solution.py` does, without the start and the teardown."""
    code = _compile(_read_all(SOURCE_FD))
    return 1 if code is None else _run_code(code)


def _first() -> int:
    """Role `first`: what compiling gave goes back where it fits a pipe, before the program runs."""
    source = _read_all(SOURCE_FD)
    code = _compile(source)
    if code is None:
        return 1
    if len(source) < values.PIPE_BYTES:  # a larger one's code may be too large for memory as well
        body = marshal.dumps(code)
        if len(body) < values.PIPE_BYTES:
            os.write(REPLY_FD, values.frame(body))  # never waits; the host can do without
    return _run_code(code)


def _again() -> int:
    """Role `again`: what `first` gave back runs once more."""
    return _run_code(marshal.loads(_read_all(SOURCE_FD)))


def _compile(source: bytes) -> CodeType | None:
    """The program; None where it does not compile, which has been said then."""
    try:
        code: CodeType = compile(source, FILE_NAME, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        os.write(STATUS_FD, b"c")
        traceback.print_exception(error, limit=0)
        sys.stderr.flush()
        return None
    return code


def _session() -> int:
    os.close(STATUS_FD)
    return serve.serve(SOURCE_FD, REPLY_FD, _main)


def _tester() -> int:
    os.close(STATUS_FD)
    return tester.run(SOURCE_FD, REPLY_FD)


def _build() -> int:
    return command.build(command.read_spec(SOURCE_FD), STATUS_FD)


def _command() -> int:
    spec = command.read_spec(SOURCE_FD)
    os.close(SOURCE_FD)
    return command.command(spec, STATUS_FD)


def _weak() -> int:
    os.close(STATUS_FD)
    report, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)
    return tester.run(SOURCE_FD, report)


_BY_NAME = {
    "run": _run,
    "first": _first,
    "again": _again,
    "session": _session,
    "tester": _tester,
    "weak": _weak,
    "build": _build,
    "command": _command,
}
ROLES = {name: functools.partial(_enter, role) for name, role in _BY_NAME.items()}
"""What a child does after its steps, by its role."""


def _new_main_module() -> ModuleType:
    """An empty `__main__`, with the traces of the zygote gone from `sys.modules`."""
    for name in [name for name in sys.modules if name.startswith("rlvr_guest")]:
        del sys.modules[name]
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = sys.modules["builtins"]
    module.__dict__["__file__"] = FILE_NAME
    sys.modules["__main__"] = module
    sys.argv = [FILE_NAME]
    sys.path.insert(0, "")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return module


def _run_code(code: CodeType) -> int:
    """Run a program, then what a Python process does at its end; give its exit code.

    One function, and no other where that can be: each that a program runs costs it some pages.
    """
    os.closerange(SOURCE_FD, _FIRST_FREE_FD)
    result = 0
    try:
        exec(code, _main.__dict__)  # noqa: S102 - this is the sandbox
    except SystemExit as error:
        result = _exit_code(error.code)
    except BaseException as error:
        traceback.print_exception(error.with_traceback(_without_us(error)))
        result = 1
    try:
        if getattr(threading, "_shutdown_locks", True) or getattr(
            threading, "_threading_atexits", True
        ):
            threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
    except BaseException:
        result = result or 120
    return result


def _without_us(error: BaseException) -> Any:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def _exit_code(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return int(code) & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def standard_streams(stdin: int, stdout: int, stderr: int) -> Sequence[TextIOWrapper]:
    """Streams as a Python process has them, on these descriptors, which they do not own."""
    # closefd=False as Python itself does: closing sys.stdout leaves descriptor 1 open.
    return (
        open(stdin, encoding="utf-8", errors="surrogateescape", closefd=False),
        open(stdout, "w", encoding="utf-8", errors="surrogateescape", closefd=False),
        open(stderr, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False),
    )


def _make_standard_streams() -> None:
    """As Python makes them for pipes: streams remember whether what they read could seek."""
    read, write = os.pipe()
    kept = [(number, os.dup(number)) for number in (0, 1, 2)]
    for number in (0, 1, 2):
        os.dup2(read if number == 0 else write, number)
    sys.stdin, sys.stdout, sys.stderr = standard_streams(0, 1, 2)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
    for number, fd in kept:
        os.dup2(fd, number)
        os.close(fd)
    os.close(read)
    os.close(write)


def _read_all(fd: int) -> bytes:
    """One frame; most come in one piece, and little code touches few pages."""
    piece = os.read(fd, 1 << 14)
    if len(piece) - 4 == int.from_bytes(piece[:4], "big"):
        return piece[4:]
    pieces = [piece]
    for body in values.frames(lambda count: pieces.pop() if pieces else os.read(fd, count)):
        return body
    return b""
