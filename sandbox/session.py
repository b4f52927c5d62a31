"""A program that is loaded once and then called, and trusted tests that call it.

`Session.call` decodes one reply, of bounded size, in this process; `run_tests` leaves even that to
a tester in a sandbox of its own, where trusted tests may do as they like with what comes back.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from rlvr.errors import RlvrError, SandboxError
from rlvr.sandbox import pipes
from rlvr.sandbox.guest import serve, values
from rlvr.sandbox.limits import Limits, RunStatus
from rlvr.sandbox.slot import Ending, Slot, SlotDied
from rlvr.sandbox.staying import SECONDS, Stay
from rlvr.sandbox.waiting import readable, writable

_LOADED = values.encode(("loaded", None))[:-1]  # how every reply begins that says so
_OK = values.encode(("ok", None, None))[:-2]
_NONE = values.encode(None)
_MARSHALLED_TYPES = (bool, int, float, complex, str, bytes, type(None))
_MARSHALLED_DEPTH = 20
_SMALL = 1 << 16
_MAX_NAMES_BYTES = 1 << 18


class CallFailed(RlvrError):
    """The program did not give a value; its doing, not the sandbox's.

    Attributes:
        kind: `syntax` (it does not compile), `raise` (it raised; it can be called again), `exit`
            (it asked to end), `gone` (its process ended), `refused` (no plain value came back).
        status: how the process ended, where it did.
        error: the name of the exception's type, where there was one.
    """

    def __init__(
        self, kind: str, message: str, status: RunStatus | None = None, error: str = ""
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.error = error


class Session:
    """A loaded program. Made by `LocalSandbox.session`; a context manager.

    Attributes:
        isolation: what holds it, by name.
        reply_bytes: of all replies to calls so far.

    Raises:
        CallFailed: the source does not compile or load.
        SlotDied: the machinery failed.
    """

    def __init__(
        self,
        slot: Slot,
        source: bytes,
        limits: Limits,
        release: Callable[[bool], None],
        at_once: bool = False,
    ) -> None:
        self._slot = slot
        self._limits = limits
        self._release = release
        self._ending: Ending | None = None
        self.reply_bytes = 0
        self.isolation = slot.isolation
        requests, self.to_program, self.from_program, replies = pipes.two_pipes()
        self._stay = Stay(at_once)
        try:
            with _null() as null:
                given = [null, null, null, requests, replies]
                slot.begin("session", limits, given, self._stay.processor)
        except BaseException:
            self._stay.end()
            self._close_pipes()
            raise
        finally:
            pipes.close(requests)
            pipes.close(replies)
        os.set_blocking(self.to_program, False)
        self._replies = select.poll()
        self._replies.register(self.from_program, select.POLLIN)
        self._frames = values.frames(self._read)
        try:
            self.names = self._load(source)
        except BaseException as error:
            if self.to_program >= 0:
                self.finish(healthy=isinstance(error, CallFailed))
            raise

    def _load(self, source: bytes) -> bytes:
        self._write(values.frame(source))
        body = self._reply()
        if len(body) > _MAX_NAMES_BYTES:
            raise CallFailed("refused", f"it says what it defines in {len(body):,} bytes")
        if body.startswith(_LOADED):
            return body
        self._fail(*_read_reply(body[:_SMALL]))

    def defines(self, name: str) -> bool:
        """Whether the program says that it defines a public `name`."""
        return name in self.definitions()

    def definitions(self) -> list[str]:
        """The public names that the program says that it defines."""
        return list(self.kinds())

    def kinds(self) -> dict[str, str]:
        """The same with what each is: `function`, `class`, `value`, ... (`guest/serve.py`)."""
        return serve.announced(self.names)

    def call(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = {},
        max_bytes: int = values.MAX_BYTES,
    ) -> Any:
        """Call a function that the program defines, with plain values.

        Args:
            name: of the function.
            args: positional arguments.
            kwargs: arguments by name.
            max_bytes: of an encoded reply; a longer one is refused unread.

        Raises:
            CallFailed: it raised, ended, ran into a limit, or returned no plain value.
            Refused: an argument is no plain value.
        """
        return self.call_encoded(encoded_call(name, args, kwargs), max_bytes)

    def call_encoded(self, request: bytes, max_bytes: int = values.MAX_BYTES) -> Any:
        """The same for a call that `encoded_call` has put in bytes.

        Raises:
            CallFailed: it raised, ended, ran into a limit, or returned no plain value.
        """
        tag, first, second = _read_reply(self.exchange(request, max_bytes))
        if tag == "ok":
            return first
        self._fail(tag, first, second)

    def exchange(self, request: bytes, max_bytes: int = values.MAX_BYTES) -> bytes:
        """The program's reply to a request, both as `guest.serve` encodes them; not decoded here.

        Raises:
            CallFailed: it ended, ran into a limit, or the reply is longer than `max_bytes`.
        """
        self._write(values.frame(request))
        body = self._reply()
        self.reply_bytes += len(body)
        if len(body) > max_bytes:
            raise CallFailed("refused", f"a reply of {len(body):,} bytes")
        return body

    def _fail(self, tag: Any, first: Any, second: Any) -> NoReturn:
        """Raise what a reply says; `exit` and `syntax` end the session."""
        if isinstance(first, list):
            first = first[0] if first else ""
        error, second = _text(first, 100), _text(second)
        status = RunStatus.MEMORY_LIMIT if error == "MemoryError" else None
        if tag == "raise":
            raise CallFailed("raise", f"{error}: {second}", status, error)
        if tag in ("exit", "syntax"):
            raise CallFailed(tag, f"{error}: {second}", status, error)
        raise CallFailed("refused", error or "the reply cannot be read")

    def _reply(self) -> bytes:
        try:
            body = next(self._frames, None)
        except values.Refused as error:
            raise CallFailed("refused", str(error)) from None
        if body is not None:
            return body
        ending = self.finish()
        raise CallFailed("gone", describe(ending, self._limits), ending.status(self._limits))

    def _read(self, count: int) -> bytes:
        if self._replies.poll(SECONDS * 1000):
            return os.read(self.from_program, count)
        self.let_go()
        left = self._slot.busy_until - time.monotonic()
        if not self._replies.poll(max(0.0, left) * 1000):
            raise SlotDied("the sandbox let a program run past its wall limit")
        return os.read(self.from_program, count)

    def _write(self, data: bytes) -> None:
        if self._ending is not None:
            raise CallFailed("gone", "the session has ended", self._ending.status(self._limits))
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.to_program, view) :]
            except BrokenPipeError:
                return  # the end of the program shows when its reply is read
            except BlockingIOError:
                left = self._slot.busy_until - time.monotonic()
                if not writable(self.to_program, left):
                    raise SlotDied("the sandbox let a program run past its wall limit") from None

    def finish(self, healthy: bool = True) -> Ending:
        """End the program and say how it ended: by itself, by a limit, or now by us.

        Raises:
            SlotDied: the machinery failed.
        """
        if self._ending is None:
            if self.to_program < 0:
                raise SlotDied("the sandbox failed during this session")
            self._slot.kill_program()
            try:
                self._ending = self._slot.finish()
            except BaseException:
                healthy = False
                raise
            finally:
                self.let_go()
                self._close_pipes()
                self._release(healthy)
        return self._ending

    def let_go(self) -> None:
        """Stay on one processor no longer (`rlvr.sandbox.staying`)."""
        self._stay.end()

    def _close_pipes(self) -> None:
        if self.to_program >= 0:
            pipes.close(self.to_program)
            pipes.close(self.from_program)
        self.to_program = self.from_program = -1

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *details: object) -> None:
        self.finish()


def encoded_call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """A call as `Session.call_encoded` takes it.

    Raises:
        Refused: an argument is no plain value.
    """
    request = ("result", name, list(args), dict(kwargs))
    if not _can_be_marshalled(request, 0):
        return values.encode(request)
    body = serve.MARSHALLED + marshal.dumps(request, 2)  # the version that all Pythons read
    if len(body) > values.MAX_BYTES:
        raise values.TooLarge(f"the value is larger than {values.MAX_BYTES} bytes")
    return body


def _can_be_marshalled(value: Any, depth: int) -> bool:
    """Whether it is made of plain values alone: what goes in is read by code without Python."""
    kind = type(value)
    if kind in _MARSHALLED_TYPES:
        return True
    if depth > _MARSHALLED_DEPTH or kind not in (list, tuple, dict):
        return False
    parts = [*value, *value.values()] if kind is dict else value
    return all(_can_be_marshalled(part, depth + 1) for part in parts)


def _text(value: Any, length: int = 500) -> str:
    """What a program says in words; where it sends something else, that is not shown."""
    return value[:length] if isinstance(value, str) else f"<{type(value).__name__}>"


def _read_reply(body: bytes) -> tuple[Any, Any, Any]:
    """A reply's tag and its two parts, the second empty where it has one."""
    try:
        if body.startswith(_OK) and body.endswith(_NONE):  # nearly all
            return "ok", values.decode(body[len(_OK) : -1]), ""
        tag, first, second = (*values.decode(body), "")[:3]
    except (ValueError, TypeError) as error:
        return "refused", f"the reply cannot be read: {error}", ""
    return tag, first, second


class TesterSandbox(Protocol):
    """What `run_tests` needs of the sandbox that the tests run in."""

    def _acquire(self) -> Slot: ...

    def _release(self, slot: Slot, healthy: bool) -> None: ...


def run_tests(
    tester: TesterSandbox, session: Session, spec: Mapping[str, Any], limits: Limits
) -> tuple[dict[str, Any] | None, Ending, Ending]:
    """Run trusted tests in a sandbox of their own against a loaded program.

    The program never meets the tests: it sees the arguments of one call at a time.

    Args:
        tester: where the tests run; not the sandbox of the program.
        session: the program; it is finished afterwards.
        spec: what `guest.tester` reads.
        limits: for the tests.

    Returns:
        The tester's report (None where the tester itself ran into a limit), how the tester ended,
        and how the program ended.

    Raises:
        SandboxError: the machinery failed.
    """
    session.let_go()  # a sandbox that is started now does not stay here
    slot = tester._acquire()
    healthy = False
    try:
        with Stay() as stay:
            report = _drive(slot, session, {**spec, "names": session.names}, limits, stay)
            ending = slot.finish()
        program = session.finish()
        healthy = True
    finally:
        tester._release(slot, healthy)
    return report, ending, program


def _drive(
    slot: Slot, session: Session, spec: Mapping[str, Any], limits: Limits, stay: Stay
) -> dict[str, Any] | None:
    specs, to_tester, from_tester, reports = pipes.two_pipes()
    os.set_blocking(session.to_program, True)
    program = [session.to_program, session.from_program]
    try:
        try:
            with _null() as null:
                given = [null, null, null, specs, reports, *program]
                slot.begin("tester", limits, given, stay.processor)
        finally:
            pipes.close(specs)
            pipes.close(reports)
        report: dict[str, Any] | None = None
        if _feed(slot, to_tester, values.frame(values.encode(dict(spec)))):
            if not readable(from_tester, SECONDS):
                stay.end()
            frames = values.frames(lambda count: _await(slot, from_tester, count))
            body = next(frames, None)
            report = values.decode(body) if body is not None else None
    except values.Refused as error:
        raise SandboxError(f"the tests cannot be sent or reported: {error}") from error
    finally:
        pipes.close(to_tester)
        pipes.close(from_tester)
    return report


@contextlib.contextmanager
def _null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def _feed(slot: Slot, fd: int, data: bytes) -> bool:
    os.set_blocking(fd, False)
    view = memoryview(data)
    while view:
        if not writable(fd, slot.busy_until - time.monotonic()):
            raise SlotDied("the tester's sandbox hangs")
        try:
            view = view[os.write(fd, view) :]
        except BrokenPipeError:
            return False
    return True


def _await(slot: Slot, fd: int, count: int) -> bytes:
    if not readable(fd, slot.busy_until - time.monotonic()):
        raise SlotDied("the tester's sandbox hangs")
    return os.read(fd, count)


def describe(ending: Ending, limits: Limits) -> str:
    """How a program ended, in words."""
    if ending.killed == "cpu":
        return f"it used more than {limits.cpu_seconds * ending.slowness:g} s of processor time"
    if ending.killed == "wall":
        return f"it took longer than {limits.wall_seconds:g} s"
    if ending.killed == "memory":
        return f"it used more than {limits.memory_bytes >> 20} MiB of memory"
    if ending.signal is not None:
        return f"it was ended by signal {ending.signal}"
    return f"it exited with code {ending.exit_code}"
