r"""The embedded sandbox, `local`: hostile Python at the price of a fork, without a daemon.

    sandbox = LocalSandbox()
    sandbox.run("print(input())", b"hello").stdout      # b"hello\n"
    with sandbox.session("def f(x): return x + 1") as session:
        session.call("f", [1])                           # 2

Covered: what `docs/sandbox.md` lists. Not covered: holes of the kernel, side channels, and the use
of the processor by many programs at once.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from rlvr.errors import ConfigError, SandboxError
from rlvr.sandbox.guest import values
from rlvr.sandbox.limits import Limits, RunResult, RunStatus
from rlvr.sandbox.session import CallFailed, Session
from rlvr.sandbox.slot import Slot, SlotDied
from rlvr.sandbox.waiting import readable

T = TypeVar("T")
_QUICK_SECONDS = 0.01
_alive: weakref.WeakSet[LocalSandbox] = weakref.WeakSet()


class LocalSandbox:
    """Runs Python programs in Linux namespaces on this machine, as root or as an ordinary user.

    Safe from any thread; each of `slots` programs has a zygote of its own. Nothing is started
    before the first program, and after a fork of this process the copy starts its own.

    Args:
        slots: programs at once; by default as many as there are processors.
        allow_weaker: run even where isolation is incomplete. Only for programs that you trust.
        python_path: folders with packages that programs may import (shown to them read-only).
        preload: modules to import once, before any program.

    Raises:
        SandboxError: on first use, where isolation is incomplete; the message says what lacks.
    """

    name = "local"

    def __init__(
        self,
        slots: int | None = None,
        allow_weaker: bool = False,
        python_path: Sequence[str] = (),
        preload: Sequence[str] = (),
    ) -> None:
        if slots is not None and slots < 1:
            raise ConfigError(f"sandbox 'local': slots is {slots}: expected 1 or more")
        self._size = slots or len(os.sched_getaffinity(0))
        self._allow_weaker = allow_weaker
        self._python_path = tuple(python_path)
        self._preload = tuple(preload)
        self._reset()
        _alive.add(self)

    def _reset(self) -> None:
        self._free: list[Slot] = []
        self._all: set[Slot] = set()
        self._starting = 0
        self._change = threading.Condition()

    @property
    def isolation(self) -> tuple[str, ...]:
        """What holds a program, by name; starts the first zygote where none is up.

        Raises:
            SandboxError: it does not start, or what it reaches is not enough.
        """
        with self._slot() as slot:
            return slot.isolation

    def run(
        self, source: str | bytes, stdin: bytes = b"", limits: Limits | None = None
    ) -> RunResult:
        """Run a whole program, as `python solution.py` would.

        Args:
            source: Python source.
            stdin: what it can read.
            limits: what it may use.

        Raises:
            SandboxError: the sandbox failed twice; never for anything that the program did.
        """
        limits = limits or Limits()
        text = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
        return self._with_retry(lambda slot: _run_on(slot, text, stdin, limits))

    def session(self, source: str | bytes, limits: Limits | None = None) -> Session:
        """Load `source` once and call what it defines; a context manager.

        The limits hold for the session as a whole.

        Raises:
            SandboxError: the sandbox failed twice.
        """
        limits = limits or Limits()
        text = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
        for attempt in (1, 2):
            slot = self._acquire()
            try:
                return Session(slot, text, limits, lambda ok, slot=slot: self._release(slot, ok))  # type: ignore[misc]
            except CallFailed:
                raise  # the session has given its slot back
            except SlotDied:
                self._release(slot, False)
                if attempt == 2:
                    raise
            except BaseException:
                self._release(slot, False)
                raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End every zygote. The sandbox can be used again afterwards. May be called twice."""
        with self._change:
            slots, self._all, self._free = self._all, set(), []
        for slot in slots:
            slot.close()

    def __enter__(self) -> LocalSandbox:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def __reduce__(self) -> Any:
        return (LocalSandbox, (self._size, self._allow_weaker, self._python_path, self._preload))

    # ---------------------------------------------------------------------------------- the pool

    def _with_retry(self, action: Callable[[Slot], T]) -> T:
        """Infrastructure gets one more try, on a fresh zygote; then it is an error."""
        try:
            with self._slot() as slot:
                return action(slot)
        except SlotDied:
            with self._slot(fresh=True) as slot:
                return action(slot)

    @contextlib.contextmanager
    def _slot(self, fresh: bool = False) -> Iterator[Slot]:
        slot = self._acquire(fresh)
        try:
            yield slot
        except BaseException:
            # Whatever happened, this zygote may still be busy with the program: it goes.
            self._release(slot, False)
            raise
        self._release(slot, True)

    def _acquire(self, fresh: bool = False) -> Slot:
        stale: list[Slot] = []
        with self._change:
            while True:
                if self._free:
                    slot = self._free.pop()
                    if not fresh and not slot.has_died():
                        return slot
                    self._all.discard(slot)
                    stale.append(slot)
                if len(self._all) + self._starting < self._size:
                    self._starting += 1
                    break
                self._change.wait()
        try:
            for slot in stale:
                slot.close()
            slot = self._start()
        finally:
            with self._change:
                self._starting -= 1
                self._change.notify()
        with self._change:
            self._all.add(slot)
        return slot

    def _start(self) -> Slot:
        from rlvr.sandbox.selfcheck import prove

        slot = Slot(
            allow_weaker=self._allow_weaker,
            python_path=self._python_path,
            preload=self._preload,
        )
        try:
            if not slot.missing:
                with prove.program() as (source, stdin):
                    result = _run_on(slot, source, stdin, Limits(wall_seconds=20))
                slot.isolation = (*slot.isolation, *prove.judge(result))
        except BaseException:
            slot.close()
            raise
        return slot

    def _release(self, slot: Slot, healthy: bool) -> None:
        with self._change:
            keep = healthy and slot in self._all
            if keep:
                self._free.append(slot)
            else:
                self._all.discard(slot)
            self._change.notify()
        if not keep:
            slot.close()


def _run_on(slot: Slot, source: bytes, stdin: bytes, limits: Limits) -> RunResult:
    """One program on one zygote: feed it, drain it, wait for it."""
    with _Pipes() as pipes:
        pipes.open("stdin", "stdout", "stderr", "source")
        slot.begin("run", limits, pipes.theirs())
        pipes.close_theirs()
        exchange = _Exchange(pipes, {"stdin": stdin, "source": values.frame(source)}, limits)
        exchange.until_end(slot)
        ending = slot.finish()
        exchange.drain()
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
        isolation=slot.isolation,
    )


class _Pipes:
    """Pipes between the host and a program, closed whatever happens."""

    def __init__(self) -> None:
        self.ours: dict[str, int] = {}
        self._theirs: dict[str, int] = {}

    def open(self, *names: str) -> None:
        for name in names:
            read, write = os.pipe()
            into = name in ("stdin", "source")
            self.ours[name], self._theirs[name] = (write, read) if into else (read, write)
            os.set_blocking(self.ours[name], False)
            # The program is another user: without this it could not open /dev/stdin.
            os.fchmod(self._theirs[name], 0o666)

    def theirs(self) -> list[int]:
        return list(self._theirs.values())

    def close_theirs(self) -> None:
        while self._theirs:
            os.close(self._theirs.popitem()[1])

    def close(self, name: str) -> None:
        os.close(self.ours.pop(name))

    def __enter__(self) -> _Pipes:
        return self

    def __exit__(self, *details: object) -> None:
        self.close_theirs()
        for name in list(self.ours):
            self.close(name)


class _Exchange:
    """Writes what goes in and reads what comes out, never blocking, within `output_bytes`."""

    def __init__(self, pipes: _Pipes, into: Mapping[str, bytes], limits: Limits) -> None:
        self._pipes = pipes
        self._left = {name: memoryview(data) for name, data in into.items()}
        self._cap = limits.output_bytes
        self.output = {"stdout": bytearray(), "stderr": bytearray()}
        self.overflowed = False
        for name in list(self._left):
            self._write(name)

    @property
    def _left_to_write(self) -> bool:
        return any(name in self._pipes.ours for name in self._left)

    def until_end(self, slot: Slot) -> None:
        """Until the zygote has an answer, or every stream of the program has ended."""
        if not self._left_to_write and readable(slot.control.fileno(), _QUICK_SECONDS):
            return  # short programs: one wake-up, and their output fits the pipes
        poll = select.poll()
        poll.register(slot.control, select.POLLIN)
        names = {}
        for name, fd in self._pipes.ours.items():
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
                readable(self._pipes.ours[name], 0.5)
                self._move(name)

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
        """Read some; False at the end."""
        try:
            piece = os.read(self._pipes.ours[name], 1 << 20)
        except BlockingIOError:
            return True
        if not piece:
            self._pipes.close(name)
            return False
        kept = self.output[name]
        room = self._cap - len(kept)
        kept += piece[:room]
        self.overflowed = self.overflowed or len(piece) > room
        return True


def _forget_all() -> None:
    """In a fork: the zygotes belong to the parent."""
    for sandbox in list(_alive):
        for slot in sandbox._all:
            slot.forget()
        sandbox._reset()


os.register_at_fork(after_in_child=_forget_all)


@atexit.register
def _close_all() -> None:
    for sandbox in list(_alive):
        sandbox.close()


__all__ = ["Limits", "LocalSandbox", "RunResult", "RunStatus", "SandboxError", "Session"]
