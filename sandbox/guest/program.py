"""The child of one program: from the clone to the last exit, in three roles.

    run      the source is a whole program on file descriptors 0, 1 and 2
    session  the source is loaded once and answers calls (`serve.py`)
    tester   trusted tests that call a session elsewhere (`tester.py`)

`confine` comes first. A word on the status pipe tells the zygote how far the child came before any
foreign code ran: nothing (our fault), `k` (confined), `kc` (the source does not compile). The pipe
is closed before the program's first instruction, so no program can write there.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import resource
import signal
import sys
import threading
import traceback
from types import ModuleType
from typing import Any

from . import kernel, serve, tester, values, view  # noqa: TID251

SOURCE_FD = 3
REPLY_FD = 4
STATUS_FD = 7
_FIRST_FREE_FD = 8
_PARKED_FD = 64
FILE_NAME = "solution.py"


def confine(settings: Any, request: dict[str, Any]) -> None:
    """Give up everything that a program must not have; the order matters.

    Raises:
        OSError: the kernel refused a step.
    """
    if settings.namespaces:
        view.private_mounts(request["file_bytes"])
    os.setsid()
    kernel.die_with_parent()
    _set_limits(settings, request)
    if settings.change_user:
        os.setresgid(settings.user_id, settings.user_id, settings.user_id)
        os.setresuid(settings.user_id, settings.user_id, settings.user_id)
    kernel.drop_capabilities()
    kernel.no_new_privileges()
    kernel.set_dumpable(
        True
    )  # its own /proc/self, such as /dev/stdin; the zygote's is out of sight
    kernel.die_with_parent()  # a change of user cleared it
    settings.filter.install()


def _set_limits(settings: Any, request: dict[str, Any]) -> None:
    cpu = int(request["cpu_seconds"]) + 2  # the zygote enforces the exact one; this is behind it
    address_space = request["memory_bytes"] + settings.own_bytes
    for name, value in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_FSIZE, request["file_bytes"]),
        (resource.RLIMIT_NPROC, request["processes"]),
        (resource.RLIMIT_NOFILE, request["open_files"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(name, (value, value))


def arrange_descriptors(received: list[int], status: int) -> None:
    """Put `received` on 0, 1, 2, 3, ..., `status` on its own number, and close all others."""
    parked = [fcntl.fcntl(fd, fcntl.F_DUPFD, _PARKED_FD) for fd in [*received, status]]
    for number, fd in enumerate(parked[:-1]):
        os.dup2(fd, number)
    os.dup2(parked[-1], STATUS_FD)
    os.closerange(3 + max(0, len(received) - 3), STATUS_FD)
    kernel.close_from(_FIRST_FREE_FD)


def enter(settings: Any, request: dict[str, Any], received: list[int], status: int) -> None:
    """Be the child. Never returns."""
    code = 127
    try:
        arrange_descriptors(received, status)
        try:
            confine(settings, request)
        except BaseException as error:
            os.write(STATUS_FD, f"e{type(error).__name__}: {error}".encode()[:500])
            os._exit(127)
        os.write(STATUS_FD, b"k")
        code = _ROLES[request["role"]]()
    finally:
        os._exit(code)


def _run() -> int:
    """Role `run`: what `python solution.py` does, without the start and the teardown."""
    source = _read_all(SOURCE_FD)
    _fresh_standard_streams()
    try:
        code = compile(source, FILE_NAME, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        os.write(STATUS_FD, b"c")
        traceback.print_exception(error, limit=0)
        sys.stderr.flush()
        return 1
    os.closerange(SOURCE_FD, _FIRST_FREE_FD)
    module = new_main_module()
    return _until_exit(lambda: exec(code, module.__dict__))  # noqa: S102 - this is the sandbox


def _session() -> int:
    os.close(STATUS_FD)
    return serve.serve(SOURCE_FD, REPLY_FD, new_main_module)


def _tester() -> int:
    os.close(STATUS_FD)
    return tester.run(SOURCE_FD, REPLY_FD)


_ROLES = {"run": _run, "session": _session, "tester": _tester}


def new_main_module() -> ModuleType:
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


def _until_exit(main: Any) -> int:
    """Run `main`, then what a Python process does at its end; give its exit code."""
    code = 0
    try:
        main()
    except SystemExit as error:
        code = _exit_code(error.code)
    except BaseException as error:
        traceback.print_exception(error.with_traceback(_without_us(error)))
        code = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
    except BaseException:
        code = code or 120
    return code


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


def _fresh_standard_streams() -> None:
    """The zygote's own were made on /dev/null, and remember that they could seek."""
    # closefd=False as Python itself does: closing sys.stdout leaves descriptor 1 open.
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]


def _read_all(fd: int) -> bytes:
    """One frame."""
    for body in values.frames(lambda count: os.read(fd, count)):
        return body
    return b""
