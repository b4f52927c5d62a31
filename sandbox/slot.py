"""One slot of a sandbox as the host sees it: asked for programs one at a time, over one socket.

`Slot` is used by one thread at a time; `rlvr.sandbox.pool` keeps several. Every failure of the
machinery is a `SlotDied`; what the program does is never an exception.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlvr.errors import SandboxError
from rlvr.sandbox.limits import Limits, RunStatus
from rlvr.sandbox.staying import ANYWHERE
from rlvr.sandbox.waiting import readable

GRACE_SECONDS = 20.0
_BY_THE_CLOCK = 4.0  # times the wall limit, where a program waits for processors


class MachineBusy(SandboxError):
    """A program had too little of the processors to say whether it is in time. Not its doing."""


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
    waited_seconds: float
    slowness: float
    compiled: bool
    peak_memory_bytes: int | None = None

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
            over = over and self.cpu_seconds >= limits.cpu_seconds * self.slowness
            return RunStatus.TIMEOUT if over else RunStatus.SIGNAL
        if self.exit_code == 0:
            return RunStatus.OK
        last = said.rstrip().rpartition(b"\n")[2]
        if last.startswith((b"MemoryError", b"numpy._core._exceptions._ArrayMemoryError")):
            return RunStatus.MEMORY_LIMIT
        return RunStatus.NONZERO_EXIT


class Slot:
    """The host's end of a warm interpreter (`guest/zygote.py` has the messages).

    Args:
        control: a SEQPACKET socket to it, which this slot owns from here on.

    Attributes:
        isolation: what holds a program, by name.
        busy_until: when the running program must have ended, by `time.monotonic`.
        slowness: what `Limits.cpu_seconds` is multiplied by.
    """

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.isolation: tuple[str, ...] = ()
        self.busy_until = 0.0
        self.slowness = 1.0

    def has_died(self) -> bool:
        """Whether an idle zygote has ended: then its socket has something to say."""
        return readable(self.control.fileno(), 0)

    def begin(
        self, role: str, limits: Limits, descriptors: Sequence[int], processor: int = ANYWHERE
    ) -> None:
        """Start one program.

        Args:
            role: one of those that `guest/program.py` has.
            limits: what it may use.
            descriptors: become 0, 1, 2, 3, ... in the program; ours stay open.
            processor: where the calling thread stays (`rlvr.sandbox.staying`).

        Raises:
            SlotDied: the zygote is gone.
        """
        request = {
            "role": role,
            "processor": processor,
            **{name: getattr(limits, name) for name in limits.__slots__},
        }
        request["cpu_seconds"] = limits.cpu_seconds * self.slowness
        request["wall_seconds"] += request["cpu_seconds"] - limits.cpu_seconds
        request["clock_seconds"] = min(
            limits.clock_seconds, _BY_THE_CLOCK * request["wall_seconds"]
        )
        self.busy_until = time.monotonic() + request["clock_seconds"] + GRACE_SECONDS
        try:
            socket.send_fds(self.control, [json.dumps(request).encode()], list(descriptors))
        except OSError as error:
            raise SlotDied(f"the sandbox's zygote is gone: {error}") from error

    def kill_program(self) -> None:
        """End the running program; `finish` still has to be called. Never blocks."""
        with contextlib.suppress(OSError):
            self.control.send(b"kill", socket.MSG_DONTWAIT)

    def finish(self) -> Ending:
        """Wait for the end of the running program.

        Raises:
            SlotDied: the zygote died or hangs, or the program could not be started.
            MachineBusy: the program hardly ran, since the processors were taken.
        """
        answer = self.receive(max(1.0, self.busy_until - time.monotonic()))
        if "failed" in answer:
            raise SlotDied(f"the sandbox could not start a program: {answer['failed']}")
        progress = answer["progress"]
        if not progress.startswith("k"):
            raise SlotDied(f"the sandbox could not confine a program: {progress[1:] or 'it died'}")
        if progress.startswith("kx"):
            raise SlotDied(f"the sandbox could not start a built program: {progress[2:]}")
        if answer["killed"] == "load":
            raise MachineBusy(
                f"the machine is too busy to judge a program by time: in {answer['wall']:.1f} s it "
                f"ran for {answer['cpu']:.1f} s and waited for a processor for "
                f"{answer['waited']:.1f} s; run fewer at once, or allow more wall_seconds"
            )
        status = answer["status"]
        return Ending(
            exit_code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            killed=answer["killed"],
            cpu_seconds=answer["cpu"],
            wall_seconds=answer["wall"],
            peak_memory_bytes=answer.get("peak"),
            waited_seconds=answer["waited"],
            slowness=self.slowness,
            compiled="c" not in progress,
        )

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next message.

        Raises:
            SlotDied: none came in `timeout` seconds, or the other end is gone.
        """
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
        """End the interpreter and all that it runs. May be called twice."""
        self.control.close()

    def forget(self) -> None:
        """In a fork of the host: let go without touching what belongs to the parent."""
        self.control.close()
