"""The far side of the verifier pool: a nursery process, and the workers that it forks.

The nursery is a fresh, single-threaded interpreter. It loads the verifier once, so that imports
are paid once, and then forks a worker for each socket that it is sent: forking never happens in
the caller, which may hold threads, locks and a GPU. A worker grades one item at a time.

Nothing outlives its owner. The kernel kills a worker when the nursery dies. The nursery leaves when
its socket closes or its parent is gone. A killed worker's descendants, whatever sessions they made,
become children of the nursery (`PR_SET_CHILD_SUBREAPER`) and are killed with it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import pickle
import resource
import select
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlvr.errors import UserError
from rlvr.types import Verdict
from rlvr.verifiers import pool_wire
from rlvr.verifiers.pool_wire import FORK, KILL, LENGTH, receive_exactly, receive_frame, send_frame

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PARENT_CHECK_MS = 1000
_libc = ctypes.CDLL(None, use_errno=True)


def main(descriptor: int, parent: int) -> None:
    """Run the nursery on a socket until it closes.

    Args:
        descriptor: of the control socket.
        parent: pid of the process that this one belongs to.
    """
    os.dup2(2, 1)  # what a verifier prints must not mix with what the caller prints
    control = socket.socket(fileno=descriptor)
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    payload = receive_frame(control)
    if payload is None:
        return
    try:
        verifier = pickle.loads(payload)  # noqa: S301  (from our own parent)
        warm = getattr(verifier, "warm", None)
        if warm is not None:
            warm()
    except BaseException as error:
        send_frame(control, json.dumps(_describe(error)).encode())
        return
    send_frame(control, b"{}")
    gc.collect()
    gc.freeze()
    workers: set[int] = set()
    try:
        _serve_requests(control, parent, verifier, workers)
    finally:
        _kill_all(workers)
    os._exit(0)


def _serve_requests(control: socket.socket, parent: int, verifier: Any, workers: set[int]) -> None:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while os.getppid() == parent:
        if not poll.poll(_PARENT_CHECK_MS):
            continue
        request, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if request == FORK:
            pid = _fork_worker(control, descriptors[0], verifier)
            workers.add(pid)
            control.sendall(LENGTH.pack(pid))
        elif request == KILL:
            body = receive_exactly(control, LENGTH.size)
            if body is None:
                return
            pid = LENGTH.unpack(body)[0]
            control.sendall(LENGTH.pack(_kill_worker(pid, workers)))
        else:
            return


def _fork_worker(control: socket.socket, descriptor: int, verifier: Any) -> int:
    nursery = os.getpid()
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return pid
    status = 1
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != nursery:
            os._exit(1)
        os.setsid()
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        control.close()
        _limit_memory(getattr(verifier, "worker_memory_bytes", None))
        pool_wire.inside_worker = True
        _grade_forever(socket.socket(fileno=descriptor), verifier)
        status = 0
    finally:
        os._exit(status)


def _limit_memory(bytes_more: int | None) -> None:
    """Let this process allocate `bytes_more` beyond the address space that it has now."""
    if bytes_more is None:
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + bytes_more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _grade_forever(connection: socket.socket, verifier: Any) -> None:
    while True:
        frame = receive_frame(connection)
        if frame is None:
            return
        send_frame(connection, _grade(verifier, frame))


def _grade(verifier: Any, frame: bytes) -> bytes:
    """One reply, as JSON: a verdict, or the error that the caller is to raise."""
    try:
        task, completion, seconds = pickle.loads(frame)  # noqa: S301  (from our own parent)
        pool_wire.deadline = time.monotonic() + seconds
        verdict = verifier.verify(task, completion)
        return json.dumps({"verdict": verdict.to_dict()}, default=float).encode()
    except UserError as error:
        return json.dumps(_describe(error)).encode()
    except BaseException as error:
        verdict = Verdict.error(f"{type(error).__name__}: {error}"[:500])
        return json.dumps({"verdict": verdict.to_dict()}).encode()


def _describe(error: BaseException) -> dict[str, str]:
    kind = type(error).__name__ if isinstance(error, UserError) else ""
    text = str(error) if kind else f"{type(error).__name__}: {error}"
    return {"user_error" if kind else "error": text, "kind": kind}


def _kill_worker(pid: int, workers: set[int]) -> int:
    """Kill a worker and everything that it started.

    Returns:
        Its wait status, as `os.waitpid` gives it.
    """
    if pid not in workers:
        return 0
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    workers.discard(pid)
    _kill_orphans(workers)
    return status


def _kill_orphans(workers: set[int]) -> None:
    """Kill every child of this process that is no worker: the descendants of dead workers."""
    while orphans := [pid for pid in _children() if pid not in workers]:
        for pid in orphans:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _kill_all(workers: set[int]) -> None:
    for pid in tuple(workers):
        with suppress(OSError):
            _kill_worker(pid, workers)
    _kill_orphans(workers)


def _children() -> list[int]:
    own = os.getpid()
    try:
        return [int(pid) for pid in Path(f"/proc/{own}/task/{own}/children").read_text().split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [pid for pid in _all_pids() if _parent_of(pid) == own]


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _parent_of(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(status.rpartition(")")[2].split()[1])
