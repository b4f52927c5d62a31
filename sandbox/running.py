"""One program on one slot: feed it, drain it, wait for it, and name its ending."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Mapping

from rlvr.sandbox import pipes, staying
from rlvr.sandbox.guest import values
from rlvr.sandbox.languages import Job
from rlvr.sandbox.limits import Limits, RunResult, RunStatus
from rlvr.sandbox.slot import Slot, SlotDied
from rlvr.sandbox.staying import Stay
from rlvr.sandbox.waiting import readable


def run_on(
    slot: Slot,
    source: bytes,
    stdin: bytes,
    limits: Limits,
    role: str = "run",
    compiled: bytearray | None = None,
) -> RunResult:
    """Run a program to its end.

    Args:
        slot: an idle one.
        source: UTF-8, with surrogates let through; for other roles than `run`, what they read.
        stdin: what the program can read.
        limits: what it may use.
        role: `run`, `first`, `again`, `build` or `command`.
        compiled: takes what `first` gives back; it stays empty where there is nothing.

    Raises:
        SlotDied: the machinery failed; never for anything that the program did.
    """
    with Stay() as stay, _Pipes() as streams:
        streams.open("stdin", "stdout", "stderr", "source")
        if compiled is not None:
            streams.open("compiled")
            streams.never_wait_for("compiled")
        slot.begin(role, limits, streams.theirs(), stay.processor)
        streams.close_theirs()
        exchange = _Exchange(streams, {"stdin": stdin, "source": values.frame(source)}, limits)
        exchange.until_end(slot, stay)
        ending = slot.finish()
        exchange.drain()
        if compiled is not None:
            compiled += _one_frame(streams.ours["compiled"])
    status = ending.status(limits, bytes(exchange.output["stderr"][-4096:]))
    if exchange.overflowed:
        status = RunStatus.OUTPUT_LIMIT
    return RunResult(
        status=status,
        exit_code=ending.exit_code,
        signal=ending.signal,
        stdout=bytes(exchange.output["stdout"]),
        stderr=bytes(exchange.output["stderr"]),
        cpu_seconds=ending.cpu_seconds,
        wall_seconds=ending.wall_seconds,
        peak_memory_bytes=ending.peak_memory_bytes,
        isolation=slot.isolation,
        waited_seconds=ending.waited_seconds,
        slowness=ending.slowness,
    )


def run_once_more(slot: Slot, job: Job, stdin: bytes, compiled: bytearray) -> RunResult:
    """Run a program that may have run before, and need not be compiled again then.

    Args:
        slot: an idle one.
        job: the program.
        stdin: what it can read.
        compiled: what the first run puts here, of a Python program, and later ones use.

    Raises:
        SlotDied: the machinery failed; never for anything that the program did.
    """
    if job.role != "run":
        return run_on(slot, job.payload, stdin, job.limits, job.role)
    if compiled:
        return run_on(slot, bytes(compiled), stdin, job.limits, "again")
    return run_on(slot, job.payload, stdin, job.limits, "first", compiled)


def _one_frame(fd: int) -> bytes:
    """What lies in a pipe that nobody writes to any more."""
    with contextlib.suppress(BlockingIOError, values.Refused):
        for body in values.frames(lambda count: os.read(fd, count)):
            return body
    return b""


class _Pipes:
    """Pipes between the host and a program, closed whatever happens."""

    def __init__(self) -> None:
        self.ours: dict[str, int] = {}
        self._theirs: dict[str, int] = {}

    def open(self, *names: str) -> None:
        for name in names:
            read, write = pipes.pipe()
            into = name in ("stdin", "source")
            self.ours[name], self._theirs[name] = (write, read) if into else (read, write)
            os.set_blocking(self.ours[name], False)
            # The program is another user: without this it could not open /dev/stdin.
            os.fchmod(self._theirs[name], 0o666)

    def never_wait_for(self, name: str) -> None:
        """What does not fit the pipe is lost: a user who has many gets small ones."""
        os.set_blocking(self._theirs[name], False)

    def theirs(self) -> list[int]:
        return list(self._theirs.values())

    def close_theirs(self) -> None:
        pipes.close(*self._theirs.values())
        self._theirs.clear()

    def close(self, name: str) -> None:
        pipes.close(self.ours.pop(name))

    def __enter__(self) -> _Pipes:
        return self

    def __exit__(self, *details: object) -> None:
        self.close_theirs()
        pipes.close(*self.ours.values())
        self.ours.clear()


class _Exchange:
    """Writes what goes in and reads what comes out, never blocking, within `output_bytes`."""

    def __init__(self, streams: _Pipes, into: Mapping[str, bytes], limits: Limits) -> None:
        self._pipes = streams
        self._left = {name: memoryview(data) for name, data in into.items()}
        self._cap = limits.output_bytes
        self.output = {"stdout": bytearray(), "stderr": bytearray()}
        self.overflowed = False
        for name in list(self._left):
            self._write(name)

    @property
    def _left_to_write(self) -> bool:
        return any(name in self._pipes.ours for name in self._left)

    def until_end(self, slot: Slot, stay: Stay) -> None:
        """Until the zygote has an answer, or every stream of the program has ended."""
        if not self._left_to_write and readable(slot.control.fileno(), staying.SECONDS):
            return  # short programs: one wake-up, and their output fits the pipes
        stay.end()
        poll = select.poll()
        poll.register(slot.control, select.POLLIN)
        names = {}
        for name, fd in self._pipes.ours.items():
            if name == "compiled":
                continue  # it fits its pipe, or is not needed
            poll.register(fd, select.POLLOUT if name in self._left else select.POLLIN)
            names[fd] = name
        while True:
            left = slot.busy_until - time.monotonic()
            if left <= 0:
                return
            for fd, _ in poll.poll(left * 1000):
                if fd not in names:
                    return
                open_still = self._move(names[fd])
                if not open_still:
                    poll.unregister(fd)
                    del names[fd]
                if self.overflowed:
                    slot.kill_program()
                    return
            if not names:
                return

    def drain(self) -> None:
        """Read what is left once every process of the program is dead.

        Raises:
            SlotDied: one of them is not, and holds on to its output.
        """
        deadline = time.monotonic() + 5.0
        for name in ("stdout", "stderr"):
            while name in self._pipes.ours:
                if time.monotonic() > deadline:
                    raise SlotDied("the sandbox left a process of a program behind")
                if self._read(name):
                    readable(self._pipes.ours[name], 0.5)

    def _move(self, name: str) -> bool:
        return self._write(name) if name in self._left else self._read(name)

    def _write(self, name: str) -> bool:
        """Write some; False once all is written, or nobody reads any more."""
        data = self._left[name]
        try:
            while data:
                data = data[os.write(self._pipes.ours[name], data[: 1 << 16]) :]
        except BlockingIOError:
            self._left[name] = data
            return True
        except BrokenPipeError:
            pass
        self._pipes.close(name)
        return False

    def _read(self, name: str) -> bool:
        """Read what there is, or some where it is too much; False at the end."""
        kept = self.output[name]
        while True:
            try:
                piece = os.read(self._pipes.ours[name], 1 << 16)
            except BlockingIOError:
                return True
            if not piece:
                self._pipes.close(name)
                return False
            room = self._cap - len(kept)
            kept += piece[:room]
            self.overflowed = self.overflowed or len(piece) > room
            if self.overflowed:
                return True
