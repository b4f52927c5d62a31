"""The near side of the pool's processes: starting a nursery, forking and killing workers."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import cloudpickle

from rlvr import errors
from rlvr.errors import ConfigError, UserError, VerifierError
from rlvr.verifiers.pool_wire import FORK, KILL, LENGTH, receive_exactly, receive_frame, send_frame

_START_SECONDS = 120.0
_CONTROL_SECONDS = 30.0
_LOCAL_MODULE = "rlvr_local_"
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from rlvr.verifiers.pool_worker import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)


class NurseryGone(VerifierError):
    """The process that forks workers has died or does not answer."""


@dataclass
class WorkerProcess:
    """One worker, and what it has answered so far.

    Attributes:
        pid: its process id; the nursery is its parent.
        connection: requests out, replies in.
        nursery: who can kill it.
        received: the part of a reply that has come in.
    """

    pid: int
    connection: socket.socket
    nursery: Nursery
    received: bytearray = field(default_factory=bytearray)

    def is_alive(self) -> bool:
        """Whether it still holds its socket; asked while it has nothing to say."""
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        return not poll.poll(0)

    def kill(self) -> int:
        """Kill it with everything it started.

        Returns:
            Its wait status; 0 where that is unknown.
        """
        self.connection.close()
        return self.nursery.kill(self.pid)


class Nursery:
    """A fresh interpreter that has loaded a verifier and forks workers from itself.

    Args:
        payload: the pickled verifier.

    Raises:
        UserError: the verifier says so when it is loaded.
        VerifierError: it cannot be loaded there, or no process can be started.
    """

    def __init__(self, payload: bytes) -> None:
        self._lock = threading.Lock()
        near, far = socket.socketpair()
        path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
        # Hashes of strings decide the order of sets: the same verdicts need the same order.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        try:
            with far:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _BOOT, str(far.fileno()), str(os.getpid()), path],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[far.fileno()],
                    start_new_session=True,
                    env=environment,
                )
        except OSError as error:
            near.close()
            raise VerifierError(f"cannot start a verifier process: {error.strerror}") from error
        self._control = near
        self._control.settimeout(_START_SECONDS)
        try:
            send_frame(self._control, payload)
            reply = receive_frame(self._control)
        except OSError:
            reply = None
        if reply is None:
            self.close()
            raise VerifierError("the process for the verifier's workers died while it started")
        try:
            raise_described(json.loads(reply))
        except BaseException:
            self.close()
            raise
        self._control.settimeout(_CONTROL_SECONDS)

    def fork(self) -> WorkerProcess:
        """Start a worker.

        Raises:
            NurseryGone: the nursery has died.
        """
        near, far = socket.socketpair()
        try:
            with far, self._lock:
                socket.send_fds(self._control, [FORK], [far.fileno()])
                pid = self._answer()
        except OSError as error:
            near.close()
            raise NurseryGone("the process that forks the verifier's workers died") from error
        return WorkerProcess(pid, near, self)

    def kill(self, pid: int) -> int:
        """Kill a worker with everything it started, and give its wait status.

        Where the nursery has died, the kernel has killed its workers: the status is 0.
        """
        try:
            with self._lock:
                self._control.sendall(KILL + LENGTH.pack(pid))
                return self._answer()
        except OSError:
            return 0

    def close(self) -> None:
        """End the nursery and all its workers."""
        with suppress(OSError):
            self._control.close()
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self) -> int:
        reply = receive_exactly(self._control, LENGTH.size)
        if reply is None:
            raise ConnectionError("the nursery closed its socket")
        number: int = LENGTH.unpack(reply)[0]
        return number


def pickle_verifier(verifier: Any) -> bytes:
    """A verifier as bytes that a fresh interpreter can load.

    What scripts, notebooks and local files define goes by value, since no other process can
    import it.

    Raises:
        ConfigError: it holds something that cannot be sent.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith(_LOCAL_MODULE):
            cloudpickle.register_pickle_by_value(module)
    return pickle_value(verifier, f"verifier {getattr(verifier, 'name', verifier)!r}")


def pickle_value(value: Any, what: str) -> bytes:
    """Pickle for a process of our own.

    Raises:
        ConfigError: naming `what` cannot be sent.
    """
    try:
        data: bytes = cloudpickle.dumps(value)
    except Exception as error:
        raise ConfigError(
            f"{what} cannot be sent to a worker process: {type(error).__name__}: {error}"
        ) from error
    return data


def raise_described(reply: dict[str, Any]) -> None:
    """Raise the error that a reply describes, if it describes one."""
    if "user_error" in reply:
        kind = getattr(errors, str(reply.get("kind")), UserError)
        if not (isinstance(kind, type) and issubclass(kind, UserError)):
            kind = UserError
        error = kind.__new__(kind)
        error.args = (str(reply["user_error"]),)
        raise error
    if "error" in reply:
        raise VerifierError(f"the verifier cannot be loaded in a worker process: {reply['error']}")


def describe_status(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"
