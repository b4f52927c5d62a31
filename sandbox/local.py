r"""The embedded sandbox, `local`: hostile Python at the price of a fork, without a daemon.

    sandbox = LocalSandbox()
    sandbox.run("print(input())", b"hello").stdout      # b"hello\n"
    with sandbox.session("def f(x): return x + 1") as session:
        session.call("f", [1])                           # 2

Covered: what `docs/sandbox.md` lists. Not covered: holes of the kernel, side channels, and the use
of the processor by many programs at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlvr.errors import ConfigError, SandboxError
from rlvr.sandbox import tiers
from rlvr.sandbox.limits import Limits, RunResult, RunStatus
from rlvr.sandbox.pipes import explain
from rlvr.sandbox.pool import SlotPool
from rlvr.sandbox.running import run_on
from rlvr.sandbox.selfcheck import prove
from rlvr.sandbox.session import Session
from rlvr.sandbox.slot import Slot, SlotDied
from rlvr.sandbox.toolchains import host_tools

START_SECONDS = 30.0
_CLOSE_SECONDS = 3.0
_GUEST = Path(__file__).resolve().parent / "guest"
_BOOT = (
    "import importlib.util as u,sys\n"
    "s=u.spec_from_file_location('rlvr_guest',sys.argv[2]+'/__init__.py',"
    "submodule_search_locations=[sys.argv[2]])\n"
    "m=u.module_from_spec(s);sys.modules['rlvr_guest']=m;s.loader.exec_module(m)\n"
    "import rlvr_guest.zygote as z;z.main()"
)
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",  # the order of a set must not change a verdict
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",  # threads of the zygote are not copied: numpy would wait for them
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
# What a library's calls lead to is looked up at the start: each program would look up all that it
# calls anew. The guest forgets the variable, so programs have only `ENVIRONMENT`.
AT_START = {**ENVIRONMENT, "LD_BIND_NOW": "1"}


class LocalSandbox(SlotPool):
    """Runs Python programs in Linux namespaces on this machine, as root or as an ordinary user.

    Each of `slots` programs has a zygote of its own.

    Args:
        slots: programs at once; by default as many as there are processors.
        allow_weaker: run at the weakest tier too, `basic`. Only for programs that you trust.
        python_path: folders with packages that programs may import (shown to them read-only).
        preload: modules to import once, before any program.
        calibrate: whether limits of processor time grow where this machine is slower than the
            reference (`rlvr.sandbox.calibration`).
        require: the weakest tier to run at (`rlvr.sandbox.tiers`); by default `isolated`.

    Raises:
        ConfigError: there is no such tier, or both `require` and `allow_weaker` are given.
        SandboxError: on first use, where the tier is not reached; the message says what lacks.
    """

    name = "local"

    def __init__(
        self,
        slots: int | None = None,
        allow_weaker: bool = False,
        python_path: Sequence[str] = (),
        preload: Sequence[str] = (),
        calibrate: bool = True,
        require: str | None = None,
    ) -> None:
        super().__init__(slots, calibrate)
        if require and allow_weaker:
            raise ConfigError(
                f"sandbox 'local': require={require!r} and allow_weaker=true: expected one of them"
            )
        self.tool_path = host_tools().path
        self._require = tiers.check_name(require or ("basic" if allow_weaker else "isolated"))
        self._python_path = tuple(python_path)
        self._preload = tuple(preload)

    def __reduce__(self) -> Any:
        options = (self._python_path, self._preload, self._calibrate, self._require)
        return (LocalSandbox, (self._size, False, *options))

    def _start(self) -> Slot:
        slot = LocalSlot(python_path=self._python_path, preload=self._preload)
        try:
            tiers.demand(self._require, slot.isolation, slot.missing)
            with prove.program() as (source, stdin):
                result = run_on(slot, source, stdin, Limits(wall_seconds=20))
            slot.isolation = tiers.named((*slot.isolation, *prove.judge(result, slot.isolation)))
        except BaseException:
            slot.close()
            raise
        return slot


class LocalSlot(Slot):
    """A zygote process on this machine, and what it reached.

    Attributes:
        missing: what it did not reach, and why.

    Raises:
        SandboxError: it did not start.
    """

    def __init__(self, *, python_path: Sequence[str], preload: Sequence[str]) -> None:
        prefixes = {sys.base_prefix, sys.base_exec_prefix}
        config = {
            "host": os.getpid(),
            "folders": sorted({*prefixes, *host_tools().shown}),
            "python_path": list(python_path),
            "preload": list(preload),
        }
        python = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(control)
        try:
            self.process = _start(python, json.dumps(config), theirs)
        except OSError as error:
            self.control.close()
            raise SlotDied(
                f"the sandbox's interpreter {python} does not start: {explain(error)}"
            ) from error
        finally:
            theirs.close()
        try:
            ready = self.receive(START_SECONDS)
            if not ready.get("ready"):
                raise SandboxError(f"the sandbox did not start: {ready.get('failed', ready)}")
            self.missing = tuple(ready["missing"])
            self.isolation = tuple(ready["reached"])
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the launcher above the zygote."""
        return self.process.pid

    def close(self) -> None:
        """End the zygote and all that it runs. May be called twice."""
        super().close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # the launcher removes its groups
            self.process.wait(timeout=_CLOSE_SECONDS)
            return
        with contextlib.suppress(OSError):
            self.process.kill()
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self.process.wait(timeout=10)

    def forget(self) -> None:
        """In a fork of the host: let go without touching what belongs to the parent."""
        super().forget()
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
        env=AT_START,
        cwd="/",
        start_new_session=True,
    )


__all__ = ["Limits", "LocalSandbox", "RunResult", "RunStatus", "SandboxError", "Session"]
