"""One call of `verify_many`: items go out to workers, verdicts come in, deadlines are kept.

The loop runs in the calling thread. It starts with few workers and takes one more whenever
nothing has come back for a moment, so that cheap batches stay in few processes and slow ones
spread over all.
"""

from __future__ import annotations

import dataclasses
import json
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rlvr import protocols
from rlvr.types import Completion, Task, Verdict
from rlvr.verifiers.pool_nursery import (
    WorkerProcess,
    describe_status,
    pickle_value,
    raise_described,
)
from rlvr.verifiers.pool_wire import LENGTH, MAX_REPLY_BYTES, send_frame

_ITEMS_PER_WORKER = 16
_STALL_SECONDS = 0.01
_WAKE_SECONDS = 1.0
_SEND_SECONDS = 5.0
_MAX_ATTEMPTS = 2


class Processes(Protocol):
    """Who lends workers: `rlvr.verifiers.pool.WorkerProcesses`."""

    @property
    def has_idle(self) -> bool:
        """Whether a worker stands ready."""
        ...

    def lend(self, wait: bool) -> WorkerProcess | None:
        """A worker for one item."""
        ...

    def take_back(self, worker: WorkerProcess) -> None:
        """Take back a worker that has answered."""
        ...

    def discard(self, worker: WorkerProcess) -> int:
        """Kill a worker; its wait status."""
        ...


@dataclass
class _Job:
    index: int
    worker: WorkerProcess
    started: float
    deadline: float


class Batch:
    """The items of one call.

    Args:
        processes: lends the workers.
        verifier: says what an overrun means, and how much time it allows itself.
        pairs: tasks with completions.
        verdicts: one place an item; those that are not `None` are done.
        workers: at most this many items at a time.
        timeout: seconds an item.
        on_done: called as each item is done.
    """

    def __init__(
        self,
        processes: Processes,
        verifier: protocols.Verifier,
        pairs: Sequence[tuple[Task, str | Completion]],
        verdicts: Sequence[Verdict | None],
        workers: int,
        timeout: float,
        on_done: Callable[[int, Verdict], None] | None,
    ) -> None:
        self._processes = processes
        self._verifier = verifier
        self._pairs = pairs
        self._verdicts = list(verdicts)
        self._workers = workers
        own_limit = getattr(verifier, "time_limit", None)
        self._timeout = timeout if own_limit is None else min(timeout, own_limit)
        self._on_done = on_done
        self._todo = deque(i for i, verdict in enumerate(verdicts) if verdict is None)
        self._allowed = 1 + len(self._todo) // _ITEMS_PER_WORKER
        self._attempts: dict[int, int] = {}
        self._running: dict[int, _Job] = {}
        self._poll = select.poll()

    def run(self) -> list[Verdict]:
        """Grade what is left, and give all verdicts in order."""
        try:
            while self._todo or self._running:
                self._hand_out()
                self._collect()
                self._stop_overruns()
        finally:
            for job in list(self._running.values()):
                self._forget(job)
                self._processes.discard(job.worker)
        return [verdict for verdict in self._verdicts if verdict is not None]

    def _hand_out(self) -> None:
        while self._todo and len(self._running) < self._workers:
            enough = len(self._running) >= max(1, self._allowed)
            if enough and not self._processes.has_idle:
                return
            worker = self._processes.lend(wait=not self._running)
            if worker is None:
                return
            self._start(self._todo.popleft(), worker)

    def _start(self, index: int, worker: WorkerProcess) -> None:
        started = time.monotonic()
        job = _Job(index, worker, started, started + self._timeout)
        self._running[worker.connection.fileno()] = job
        self._poll.register(worker.connection, select.POLLIN)
        frame = pickle_value((*self._pairs[index], self._timeout), f"item {index}")
        worker.connection.settimeout(_SEND_SECONDS)
        try:
            send_frame(worker.connection, frame)
        except OSError:
            self._lose(job)
            return
        worker.connection.setblocking(False)

    def _collect(self) -> None:
        if not self._running:
            return
        now = time.monotonic()
        wait = min(job.deadline for job in self._running.values()) - now
        wait = min(wait, _WAKE_SECONDS)  # a background thread that is stopped learns of it here
        could_grow = bool(self._todo) and len(self._running) < self._workers
        if could_grow:
            wait = min(wait, _STALL_SECONDS)
        ready = self._poll.poll(max(0.0, wait) * 1000.0 + 0.5)
        if not ready and could_grow:
            self._allowed += 1
        for descriptor, _ in ready:
            job = self._running[descriptor]
            try:
                reply = _read(job.worker)
            except OSError:
                self._lose(job)
                continue
            if reply is not None:
                self._finish(job, reply)

    def _finish(self, job: _Job, reply: bytes) -> None:
        self._forget(job)
        self._processes.take_back(job.worker)
        answer = json.loads(reply)
        raise_described(answer)
        self._settle(job.index, Verdict.from_dict(answer["verdict"]))

    def _stop_overruns(self) -> None:
        now = time.monotonic()
        for job in [job for job in self._running.values() if job.deadline <= now]:
            self._forget(job)
            self._processes.discard(job.worker)
            verdict = self._verdict_of_overrun()
            self._settle(job.index, dataclasses.replace(verdict, seconds=now - job.started))

    def _verdict_of_overrun(self) -> Verdict:
        on_timeout: Callable[[float], Verdict] | None = getattr(self._verifier, "on_timeout", None)
        if on_timeout is None:
            return Verdict.error(f"no verdict within {self._timeout:g} s")
        return on_timeout(self._timeout)

    def _lose(self, job: _Job) -> None:
        """Deal with a worker that died."""
        self._forget(job)
        status = self._processes.discard(job.worker)
        attempts = self._attempts[job.index] = self._attempts.get(job.index, 0) + 1
        if attempts < _MAX_ATTEMPTS:
            self._todo.appendleft(job.index)
            return
        reason = f"the worker process died {attempts} times ({describe_status(status)})"
        seconds = time.monotonic() - job.started
        self._settle(job.index, Verdict.error(reason, seconds=seconds))

    def _forget(self, job: _Job) -> None:
        descriptor = job.worker.connection.fileno()
        self._poll.unregister(descriptor)
        del self._running[descriptor]

    def _settle(self, index: int, verdict: Verdict) -> None:
        self._verdicts[index] = verdict
        if self._on_done is not None:
            self._on_done(index, verdict)


def _read(worker: WorkerProcess) -> bytes | None:
    """Take in what has come from a worker: a whole reply, or `None` as long as it is not whole.

    Raises:
        ConnectionError: the worker has gone, or sends what is no reply.
    """
    chunk = worker.connection.recv(1 << 20)
    if not chunk:
        raise ConnectionError("the worker closed its socket")
    received = worker.received
    received += chunk
    if len(received) < LENGTH.size:
        return None
    size = LENGTH.unpack_from(received)[0]
    if size > MAX_REPLY_BYTES:
        raise ConnectionError("the worker's reply is too long")
    if len(received) < LENGTH.size + size:
        return None
    reply = bytes(received[LENGTH.size : LENGTH.size + size])
    received.clear()
    return reply
