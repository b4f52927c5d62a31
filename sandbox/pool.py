"""What every sandbox is to its callers: programs and sessions, over a pool of slots.

A back end (`local`, `docker`) says how a slot starts; all else is here.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from rlvr.errors import ConfigError, SandboxError
from rlvr.sandbox.calibration import slowness
from rlvr.sandbox.calling import MOST_REPLY_BYTES, Call, Called
from rlvr.sandbox.languages import (
    LANGUAGES,
    Job,
    Program,
    build_job,
    find_language,
    job_of,
    named_ending,
)
from rlvr.sandbox.limits import Limits, RunResult, RunStatus
from rlvr.sandbox.pipes import explain
from rlvr.sandbox.running import run_on, run_once_more
from rlvr.sandbox.session import CallFailed, Session
from rlvr.sandbox.slot import Slot, SlotDied
from rlvr.sandbox.toolchains import find_tools, missing_tools

T = TypeVar("T")
_alive: weakref.WeakSet[SlotPool] = weakref.WeakSet()


class SlotPool:
    """A sandbox of `slots` slots, each running one program at a time.

    Safe from any thread. Nothing is started before the first program, and after a fork of this
    process the copy starts its own.

    Args:
        slots: programs at once; by default as many as there are processors.
        calibrate: whether limits of processor time grow where this machine is slower than the
            reference (`rlvr.sandbox.calibration`).

    Raises:
        ConfigError: `slots` is below 1.
    """

    name: str
    has_own_packages = False
    """Whether what programs import is the sandbox's own, and not shown from this machine."""
    tool_path: tuple[str, ...] = ()
    """Folders to look for compilers in, beside those of the programs' `PATH`."""

    def __init__(self, slots: int | None, calibrate: bool = True) -> None:
        if slots is not None and slots < 1:
            raise ConfigError(f"sandbox {self.name!r}: slots is {slots}: expected 1 or more")
        self._size = slots or len(os.sched_getaffinity(0))
        self._calibrate = calibrate
        self._reset()
        _alive.add(self)

    def _reset(self) -> None:
        self._free: list[Slot] = []
        self._all: set[Slot] = set()
        self._users: dict[Slot, int] = {}  # by the thread that took it
        self._starting = 0
        self._tools: Mapping[str, str] | None = None
        self._change = threading.Condition()

    @property
    def size(self) -> int:
        """Programs at once."""
        return self._size

    @property
    def isolation(self) -> tuple[str, ...]:
        """What holds a program, by name; starts the first zygote where none is up.

        Raises:
            SandboxError: it does not start, or what it reaches is not enough.
        """
        with self._slot() as slot:
            return slot.isolation

    @property
    def tools(self) -> Mapping[str, str]:
        """The compilers and interpreters that programs can reach, by command; asked for once.

        Raises:
            SandboxError: the sandbox failed.
        """
        if self._tools is None:
            self._tools = find_tools(self, self.tool_path)
        return self._tools

    def build(
        self,
        source: str | bytes,
        language: str,
        limits: Limits | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Program:
        """Compile a program in the sandbox, so that it can run many times.

        Args:
            source: the program.
            language: one of `rlvr.sandbox.languages`, or a name that a code fence gives it. Python
                is taken as it is; its compile errors show when it runs.
            limits: what building may use; the language's own by default.
            files: what lies beside the source, such as headers.

        Raises:
            BuildFailed: the source does not compile, or ran into a limit.
            UnknownNameError: there is no such language.
            SandboxError: the tool chain is not there, or the sandbox failed twice.
        """
        text = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
        name = find_language(language)
        if name == "python":
            return Program("python", (), {"solution.py": text})
        missing_tools(LANGUAGES[name], self.tools, self.name)
        limits = limits or LANGUAGES[name].build_limits
        job, program = build_job(LANGUAGES[name], self.tools, text, files or {}, limits)
        return program(self.run_job(job))

    def run(
        self, source: str | bytes | Program, stdin: bytes = b"", limits: Limits | None = None
    ) -> RunResult:
        """Run a whole program, as `python solution.py` would.

        Args:
            source: Python source, or a program that was built.
            stdin: what it can read.
            limits: what it may use.

        Raises:
            SandboxError: the sandbox failed twice; never for anything that the program did.
        """
        return named_ending(source, self.run_job(job_of(source, limits or Limits()), stdin))

    def run_job(self, job: Job, stdin: bytes = b"") -> RunResult:
        """Run what `rlvr.sandbox.languages` makes jobs of.

        Raises:
            SandboxError: the sandbox failed twice.
        """
        return self._run(
            lambda slot: run_on(slot, job.payload, stdin, job.limits, job.role), job.limits
        )

    def run_each(
        self,
        source: str | bytes | Program,
        inputs: Iterable[bytes],
        limits: Limits | Callable[[], Limits] | None = None,
    ) -> Iterator[RunResult]:
        """Run one program on several inputs, each in a process of its own; lazy, in order.

        It is compiled once, by the first of them, before anything of it runs; no run sees anything
        of another. To stop early, stop iterating.

        Args:
            source: Python source, or a program that was built.
            inputs: what each run can read.
            limits: for each run; a function is asked before each one, where a deadline is near.

        Raises:
            SandboxError: the sandbox failed twice on one of them.
        """
        job = job_of(source, _asked(limits))
        compiled = bytearray()
        for number, stdin in enumerate(inputs):
            if number and callable(limits):
                job = job_of(source, limits())
            run = functools.partial(run_once_more, job=job, stdin=stdin, compiled=compiled)
            yield named_ending(source, self._run(run, job.limits))

    def session(
        self, source: str | bytes, limits: Limits | None = None, at_once: bool = False
    ) -> Session:
        """Load `source` once and call what it defines; a context manager.

        Args:
            source: Python source.
            limits: what it may use, for the session as a whole.
            at_once: whether this thread makes all calls at once and finishes, and starts no thread
                or process meanwhile. That is faster (`rlvr.sandbox.staying`).

        Raises:
            SandboxError: the sandbox failed twice.
        """
        limits = limits or Limits()
        text = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
        with self._host_errors():
            return self._session(text, limits, at_once)

    def _session(self, text: bytes, limits: Limits, at_once: bool) -> Session:
        for attempt in (1, 2):
            slot = self._acquire()
            try:
                release = functools.partial(self._release, slot)
                return Session(slot, text, limits, release, at_once)
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

    def call_all(
        self, source: str | bytes, calls: Sequence[Call], limits: Limits | None = None
    ) -> Called:
        """Load `source` once and make calls, until it ends or gives what cannot be carried.

        A call that raises does not end the series. The limits hold for all of it.

        Raises:
            CallFailed: the source does not compile or load.
            Refused: an argument is no plain value.
            SandboxError: the sandbox failed twice.
        """
        try:
            return self._call_all(source, calls, limits)
        except SlotDied:
            return self._call_all(source, calls, limits)

    def _call_all(
        self, source: str | bytes, calls: Sequence[Call], limits: Limits | None
    ) -> Called:
        results: list[Any] = []
        with self.session(source, limits, at_once=True) as session:
            for call in calls:
                try:
                    most = min(call.max_bytes, MOST_REPLY_BYTES - session.reply_bytes)
                    results.append(session.call(call.name, call.args, call.kwargs, most))
                except CallFailed as failure:
                    results.append(failure)
                    if failure.kind != "raise":
                        break
            names = frozenset(session.definitions())
            return Called(names=names, results=tuple(results), isolation=session.isolation)

    def stop_thread(self, thread: int) -> None:
        """End the program that another thread runs now; what that thread gets is not defined.

        Nothing happens where it runs none, or one that has just ended: ask again until the thread
        is done.

        Args:
            thread: as `threading.get_ident` names it.
        """
        with self._change:
            for slot, user in self._users.items():
                if user == thread:
                    slot.kill_program()

    def close(self) -> None:
        """End every zygote. The sandbox can be used again afterwards. May be called twice."""
        with self._change:
            slots, self._all, self._free = self._all, set(), []
        for slot in slots:
            slot.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    # ---------------------------------------------------------------------------------- the pool

    def _run(self, action: Callable[[Slot], RunResult], limits: Limits) -> RunResult:
        """A program that a SIGKILL ended, which was not ours, gets one more try.

        It cannot kill itself so, except by a limit that it sets itself; the machine's own killer of
        processes can, when memory runs out for others. Only where the time by the clock is enough
        for both: else who asks for the run would be out of time, which is nobody's verdict.
        """
        result = self._with_retry(action)
        in_time = 2 * result.wall_seconds < limits.clock_seconds
        if result.status is RunStatus.SIGNAL and result.signal == signal.SIGKILL and in_time:
            result = self._with_retry(action)
        return result

    def _with_retry(self, action: Callable[[Slot], T]) -> T:
        """Infrastructure gets one more try, on a fresh zygote; then it is an error."""
        with self._host_errors():
            try:
                with self._slot() as slot:
                    return action(slot)
            except SlotDied:
                with self._slot(fresh=True) as slot:
                    return action(slot)

    @contextlib.contextmanager
    def _host_errors(self) -> Iterator[None]:
        """What this machine lacks is no program's doing; say what, and what to do about it."""
        try:
            yield
        except OSError as error:
            raise SandboxError(
                f"sandbox {self.name!r}: this process cannot run programs: {explain(error)}"
            ) from error

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
                        self._users[slot] = threading.get_ident()
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
            slot.slowness = self._slowness(slot) if self._calibrate else 1.0
        finally:
            with self._change:
                self._starting -= 1
                self._change.notify()
        with self._change:
            self._all.add(slot)
            self._users[slot] = threading.get_ident()
        return slot

    def _start(self) -> Slot:
        """A slot that was proved to hold; its `isolation` says by what."""
        raise NotImplementedError

    def _slowness(self, slot: Slot) -> float:
        """How much slower than the reference the machine is that programs run on."""
        return slowness()

    def _release(self, slot: Slot, healthy: bool) -> None:
        with self._change:
            self._users.pop(slot, None)
            keep = healthy and slot in self._all
            if keep:
                self._free.append(slot)
            else:
                self._all.discard(slot)
            self._change.notify()
        if not keep:
            slot.close()


class AllPools:
    """Every sandbox of this process, for who ends the work of a thread wherever it is."""

    def stop_thread(self, thread: int) -> None:
        """End what the thread runs, as `SlotPool.stop_thread` does, in each of them."""
        with contextlib.suppress(RuntimeError):  # one is made at this moment: ask again
            for sandbox in list(_alive):
                sandbox.stop_thread(thread)


def _asked(limits: Limits | Callable[[], Limits] | None) -> Limits:
    return limits() if callable(limits) else limits or Limits()


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
