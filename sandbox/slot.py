"""One zygote as the host sees it: started, asked for programs one at a time, and ended.

`Slot` is used by one thread at a time; `rlvr.sandbox.local` keeps a pool of them. Every failure of
the machinery is a `SlotDied`; what the program does is never an exception.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr.errors import SandboxError
from rlvr.sandbox.limits import Limits, RunStatus
from rlvr.sandbox.waiting import readable

START_SECONDS = 30.0
GRACE_SECONDS = 20.0
_GUEST = Path(__file__).resolve().parent / "guest"
_BOOT = (
    "import importlib.util as u,sys\n"
    "s=u.spec_from_file_location('rlvr_guest',sys.argv[2]+'/__init__.py',"
    "submodule_search_locations=[sys.argv[2]])\n"
    "m=u.module_from_spec(s);sys.modules['rlvr_guest']=m;s.loader.exec_module(m)\n"
    "import rlvr_guest.zygote as z;z.main()"
)
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",  # the order of a set must not change a verdict
    "MALLOC_ARENA_MAX": "2",
}


class SlotDied(SandboxError):
    """The zygote is gone, or could not do what only our side can be blamed for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a program ended, as the zygote's `waitpid` has it."""

    exit_code: int | None
    signal: int | None
    killed: str | None
    cpu_seconds: float
    wall_seconds: float
    compiled: bool

    def status(self, limits: Limits, said: bytes = b"") -> RunStatus:
        """Name the ending.

        Args:
            limits: those that the program had.
            said: the end of its standard error, which tells a `MemoryError` from other exits.
        """
        if self.killed in ("wall", "cpu"):
            return RunStatus.TIMEOUT
        if self.killed == "memory":
            return RunStatus.MEMORY_LIMIT
        if not self.compiled:
            return RunStatus.COMPILE_ERROR
        if self.signal is not None:
            over = self.signal in (signal.SIGKILL, signal.SIGXCPU)
            over = over and self.cpu_seconds >= limits.cpu_seconds
            return RunStatus.TIMEOUT if over else RunStatus.SIGNAL
        if self.exit_code == 0:
            return RunStatus.OK
        last = said.rstrip().rpartition(b"\n")[2]
        if last.startswith((b"MemoryError", b"numpy._core._exceptions._ArrayMemoryError")):
            return RunStatus.MEMORY_LIMIT
        return RunStatus.NONZERO_EXIT


class Slot:
    """A zygote process, its control socket, and what it reached.

    Raises:
        SandboxError: isolation is incomplete and `allow_weaker` is false, or it did not start.
    """

    def __init__(
        self, *, allow_weaker: bool, python_path: Sequence[str], preload: Sequence[str]
    ) -> None:
        self.busy_until = 0.0
        prefixes = {sys.base_prefix, sys.base_exec_prefix}
        config = {
            "host": os.getpid(),
            "allow_weaker": allow_weaker,
            "folders": sorted(prefixes),
            "python_path": list(python_path),
            "preload": list(preload),
        }
        python = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.process = _start(python, json.dumps(config), theirs)
        except OSError as error:
            self.control.close()
            raise SlotDied(f"the sandbox's interpreter {python} does not start: {error}") from error
        finally:
            theirs.close()
        try:
            ready = self._receive(START_SECONDS)
            if not ready.get("ready"):
                raise SandboxError(f"the sandbox did not start: {ready.get('failed', ready)}")
            self.missing = tuple(ready["missing"])
            self.isolation = tuple(ready["reached"])
            if self.missing and not allow_weaker:
                raise SandboxError(
                    f"the sandbox cannot isolate programs here: missing {'; '.join(self.missing)}. "
                    "Run where Linux namespaces are allowed (in Docker: --privileged, or "
                    "--security-opt seccomp=unconfined --security-opt systempaths=unconfined), or "
                    "accept less with allow_weaker=true, for programs that you trust"
                )
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the launcher above the zygote."""
        return self.process.pid

    def has_died(self) -> bool:
        """Whether an idle zygote has ended: then its socket has something to say."""
        return readable(self.control.fileno(), 0)

    def begin(self, role: str, limits: Limits, descriptors: Sequence[int]) -> None:
        """Start one program.

        Args:
            role: `run`, `session` or `tester`.
            limits: what it may use.
            descriptors: become 0, 1, 2, 3, ... in the program; ours stay open.

        Raises:
            SlotDied: the zygote is gone.
        """
        request = {
            "role": role,
            **{name: getattr(limits, name) for name in limits.__slots__},
        }
        self.busy_until = time.monotonic() + limits.wall_seconds + GRACE_SECONDS
        try:
            socket.send_fds(self.control, [json.dumps(request).encode()], list(descriptors))
        except OSError as error:
            raise SlotDied(f"the sandbox's zygote is gone: {error}") from error

    def kill_program(self) -> None:
        """End the running program; `finish` still has to be called."""
        with contextlib.suppress(OSError):
            self.control.send(b"kill")

    def finish(self) -> Ending:
        """Wait for the end of the running program.

        Raises:
            SlotDied: the zygote died or hangs, or the program could not be started.
        """
        answer = self._receive(max(1.0, self.busy_until - time.monotonic()))
        if "failed" in answer:
            raise SlotDied(f"the sandbox could not start a program: {answer['failed']}")
        progress = answer["progress"]
        if not progress.startswith("k"):
            raise SlotDied(f"the sandbox could not confine a program: {progress[1:] or 'it died'}")
        status = answer["status"]
        return Ending(
            exit_code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            killed=answer["killed"],
            cpu_seconds=answer["cpu"],
            wall_seconds=answer["wall"],
            compiled="c" not in progress,
        )

    def _receive(self, timeout: float) -> dict[str, Any]:
        if not readable(self.control.fileno(), timeout):
            raise SlotDied(f"the sandbox's zygote gave no answer for {timeout:.0f} s")
        try:
            message = self.control.recv(65536)
        except OSError as error:
            raise SlotDied(f"the sandbox's zygote is gone: {error}") from error
        if not message:
            raise SlotDied("the sandbox's zygote ended without an answer")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def close(self) -> None:
        """End the zygote and all that it runs. May be called twice."""
        self.control.close()
        with contextlib.suppress(OSError):
            self.process.kill()
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.process.wait(timeout=10)

    def forget(self) -> None:
        """In a fork of the host: let go without touching what belongs to the parent."""
        self.control.close()
        self.process.returncode = 0


def _start(python: str, config: str, control: socket.socket) -> subprocess.Popen[bytes]:
    """Execute the launcher with `control` and a minimal environment; no shell."""
    flags = ["-S", "-s", "-P", "-B", "-X", "utf8"]
    return subprocess.Popen(
        [python, *flags, "-c", _BOOT, config, str(_GUEST), str(control.fileno())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[control.fileno()],
        env=_ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )
