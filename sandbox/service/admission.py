"""Who gets a slot, who waits, who is turned away; and the end of work that nobody waits for."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from rlvr.errors import SandboxError
from rlvr.sandbox.service.metrics import Metrics

T = TypeVar("T")
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0


class Turned(Exception):
    """A request is turned away; it may be tried again.

    Attributes:
        status: of HTTP.
        kind: `full`, `deadline`, `stopping` or `sandbox`.
        retry_after: seconds.
    """

    def __init__(self, status: int, kind: str, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after


def _stopping() -> Turned:
    return Turned(503, "stopping", "the service is stopping")


class Stoppable(Protocol):
    """What can end the program that another thread runs."""

    def stop_thread(self, thread: int) -> None:
        """End it."""
        ...


class Job:
    """One request's work, in a thread of its own while it has a slot.

    Attributes:
        stopped: nobody waits for it any more: look at it between programs.
    """

    def __init__(self) -> None:
        self.stopped = False
        self.thread: int | None = None


class Admission:
    """`slots` requests at once, `queue` more that wait, in order of arrival.

    Used from one event loop.

    Args:
        stoppable: ends what a job's thread runs.
        slots: jobs at once.
        queue: jobs that may wait.
        metrics: told of everything.
    """

    def __init__(self, stoppable: Stoppable, slots: int, queue: int, metrics: Metrics) -> None:
        self.slots = slots
        self.queue = queue
        self.in_flight = 0
        self.stopping = False
        self.failing = False
        self._stoppable = stoppable
        self._metrics = metrics
        self._free = slots
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._threads = ThreadPoolExecutor(slots, "rlvr-sandbox")
        self._reapers: set[asyncio.Task[None]] = set()
        self._mean_seconds = 0.1
        metrics.slots.set(slots)

    async def run(self, work: Callable[[Job], T], seconds: float) -> T:
        """Wait for a slot, do the work there, and give what it returns.

        Cancelling this takes the request out of the queue, or ends its program.

        Args:
            work: blocking; called in a thread.
            seconds: for all of it.

        Raises:
            Turned: the queue is full, the time is up, the service stops, or the sandbox failed.
        """
        until = time.monotonic() + seconds
        await self._enter(until)
        job = Job()
        future = asyncio.get_running_loop().run_in_executor(self._threads, self._do, job, work)
        self.in_flight += 1
        self._metrics.in_flight.set(self.in_flight)
        future.add_done_callback(self._leave)
        try:
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                found = await asyncio.shield(future)
        except TimeoutError:
            self._end(job, future)
            raise Turned(504, "deadline", f"no result within {seconds:g} s") from None
        except asyncio.CancelledError:
            self._end(job, future)
            raise
        except SandboxError as error:
            self.failing = True
            self._metrics.errors.inc()
            raise Turned(503, "sandbox", f"the sandbox failed: {error}") from error
        self.failing = False
        return found

    async def _enter(self, until: float) -> None:
        if self.stopping:
            raise _stopping()
        if self._free:
            self._free -= 1
            self._metrics.waited.observe(0.0)
            return
        if len(self._waiters) >= self.queue:
            message = f"{len(self._waiters)} requests wait already"
            raise Turned(429, "full", message, self._retry_after())
        arrived = time.monotonic()
        turn = asyncio.get_running_loop().create_future()
        self._waiters.append(turn)
        self._metrics.queued.set(len(self._waiters))
        try:
            async with asyncio.timeout(max(0.0, until - arrived)):
                await turn
        except TimeoutError:
            self._step_back(turn)
            raise Turned(504, "deadline", "no slot was free in time") from None
        except asyncio.CancelledError:
            self._step_back(turn)
            raise
        finally:
            self._metrics.queued.set(len(self._waiters))
            self._metrics.waited.observe(time.monotonic() - arrived)

    def _step_back(self, turn: asyncio.Future[None]) -> None:
        """Leave the queue; a slot that was given at the same moment goes to the next."""
        if turn in self._waiters:
            self._waiters.remove(turn)
        elif turn.done() and not turn.cancelled() and turn.exception() is None:
            self._give_back()

    def _give_back(self) -> None:
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _do(self, job: Job, work: Callable[[Job], T]) -> T:
        job.thread = threading.get_ident()
        started = time.monotonic()
        try:
            return work(job)
        finally:
            self._mean_seconds += 0.1 * (time.monotonic() - started - self._mean_seconds)

    def _leave(self, future: asyncio.Future[T]) -> None:
        if not future.cancelled():
            future.exception()  # looked at, so that an abandoned job does not log it
        self.in_flight -= 1
        self._metrics.in_flight.set(self.in_flight)
        self._give_back()

    def _end(self, job: Job, future: asyncio.Future[T]) -> None:
        """Nobody waits for this job any more: end its program, and the next, until it is done."""
        job.stopped = True
        reaper = asyncio.get_running_loop().create_task(self._reap(job, future))
        self._reapers.add(reaper)
        reaper.add_done_callback(self._reapers.discard)

    async def _reap(self, job: Job, future: asyncio.Future[T]) -> None:
        pause = _FIRST_PAUSE
        while not future.done():
            if job.thread is not None:
                self._stoppable.stop_thread(job.thread)
            await asyncio.wait([future], timeout=pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _retry_after(self) -> int:
        return max(1, min(60, math.ceil(self.queued * self._mean_seconds / self.slots)))

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._waiters)

    def stop(self) -> None:
        """Take no more work, and turn away what waits; what has a slot goes on."""
        self.stopping = True
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_exception(_stopping())

    async def close(self) -> None:
        """Wait for the jobs that were abandoned, and end the threads."""
        while self._reapers:
            await asyncio.wait(set(self._reapers))
        with contextlib.suppress(RuntimeError):
            self._threads.shutdown(wait=False)
