"""Processes that begin with everything imported: forked from one that has trained a policy before.

A new process takes seconds to import torch, transformers and the trainer, and tests of whole runs
would do little else. `Warmed` starts one process that has done so; each call is made in a child of
it, or in several that find each other as those of `torchrun` do.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import io
import json
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
WARM_UP: dict[str, Any] = {
    "algorithm": "ppo",
    "policy": "new",
    "new_policy": {"alphabet": "0123456789+=A: \n", "hidden_size": 8, "layers": 1, "heads": 1},
    "environment": {"name": "arithmetic", "digits": 1, "size": 40},
    "warm_start": {"max_steps": 1, "batch_size": 2, "check_tasks": 2},
    "sampling": {"max_new_tokens": 4},
    "rollout": {"tasks_per_step": 2, "group_size": 2, "workers": 1},
    "evaluation": {"every": 1, "tasks": 2, "samples": 1, "k": [1]},
    "steps": 1,
}
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Started:
    """A call that is being made.

    Attributes:
        pids: of its processes, by rank.
        log: what they print.
    """

    pids: list[int]
    log: Path


@dataclass(frozen=True)
class Ended:
    """How a call ended.

    Attributes:
        codes: of its processes, by rank: 0, 1 after an error, or the signal's number, negated.
        output: what they printed.
    """

    codes: list[int]
    output: str


class Warmed:
    """Makes calls in processes that need import nothing. Use as a context manager.

    The parent of them is started with the first call.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None
        self._folder = tempfile.TemporaryDirectory()
        self._calls = 0

    def run(
        self,
        function: str,
        *arguments: Any,
        processes: int = 1,
        kill: Mapping[int, str] | None = None,
        limit: float = 120,
    ) -> Ended:
        """Call `MODULE:FUNCTION(*arguments)` in each of so many processes.

        Args:
            function: of a module that can be imported here.
            arguments: plain JSON values.
            processes: how many; each returns, or raises.
            kill: the point at which a process kills itself (see `killing`), by rank.
            limit: seconds.

        Raises:
            AssertionError: they did not all end in time: something hangs.
        """
        return self.wait(self.start(function, *arguments, processes=processes, kill=kill), limit)

    def start(
        self,
        function: str,
        *arguments: Any,
        processes: int = 1,
        kill: Mapping[int, str] | None = None,
    ) -> Started:
        """Begin what `run` does."""
        self._calls += 1
        log = Path(self._folder.name) / f"{self._calls}.log"
        call = {"function": function, "arguments": arguments, "processes": processes}
        pids = self._ask({"call": call | {"kill": kill or {}, "log": str(log)}})
        return Started(pids, log)

    def wait(self, started: Started, limit: float = 120) -> Ended:
        """Wait for the end of all processes of a call, as `run` does."""
        codes = self._ask({"wait": started.pids, "limit": limit})
        output = started.log.read_text(errors="replace") if started.log.exists() else ""
        if None in codes:
            raise AssertionError(f"{codes}: not done after {limit} s; it had printed:\n{output}")
        return Ended(codes, output)

    def close(self) -> None:
        """End the parent, and with it whatever is left of its children."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Warmed:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
        self._folder.cleanup()

    def _ask(self, request: dict[str, Any]) -> Any:
        if self._process is None:
            self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, **ENVIRONMENT},
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BaseException:  # its answer is not to be taken for that to another request
            self.close()
            raise
        if not answer:
            self.close()
            assert self._errors is not None
            self._errors.seek(0)
            raise AssertionError(f"the warmed process ended:\n{self._errors.read()}")
        return json.loads(answer)


def train(config: str, *overrides: str) -> None:
    """Train as a configuration file says, going on with what there is."""
    import rlvr

    rlvr.train(config, overrides, resume=True)


def script(file: str, given: str) -> None:
    """Run a program that reads `given` from its standard input."""
    sys.argv, sys.stdin = [file], io.StringIO(given)
    sys.path.insert(0, str(Path(file).parent))
    runpy.run_path(file, run_name="__main__")


def warm_up() -> None:
    """Import and do once what runs do, so that nothing is left to be found out."""
    import yaml

    import rlvr
    import rlvr.trainers.dpo
    import rlvr.trainers.reward
    import rlvr.trainers.sft_run
    from rlvr.verifiers.pool import _WarmPool

    with contextlib.suppress(ModuleNotFoundError):
        import peft  # noqa: F401
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(yaml.safe_dump({**WARM_UP, "output": f"{folder}/run"}))
        rlvr.train(config)
    _WarmPool.close_all()


def fork(call: Mapping[str, Any], rank: int, port: int) -> int:
    """A child that makes a call and ends."""
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            work(call, rank, port)
            status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        end(status)


def end(status: int) -> None:
    """End as an interpreter does: threads, exit handlers, buffers."""
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def work(call: Mapping[str, Any], rank: int, port: int) -> None:
    """Make a call as one of its processes."""
    import killing

    log = os.open(call["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if call["processes"] > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.environ |= {"WORLD_SIZE": str(call["processes"])}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if str(rank) in call["kill"]:
        killing.arm(call["kill"][str(rank)])
    module, _, name = call["function"].partition(":")
    getattr(importlib.import_module(module), name)(*call["arguments"])


def free_port() -> int:
    """A port that nobody listens on, and that no outgoing connection is given."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait(pids: list[int], limit: float) -> list[int | None]:
    """How children ended; those that did not in time are killed, and count as `None`."""
    ended: dict[int, int | None] = {}
    deadline = time.monotonic() + limit
    while len(ended) < len(pids):
        for pid in pids:
            if pid not in ended:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    ended[pid] = os.waitstatus_to_exitcode(status)
                elif time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    ended[pid] = None
        time.sleep(0.005)
    return [ended[pid] for pid in pids]


def main() -> None:
    """Answer requests until there are no more."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    warm_up()
    for line in sys.stdin:
        request = json.loads(line)
        reply: list[Any]
        if "wait" in request:
            reply = wait(request["wait"], request["limit"])
        else:
            call, port = request["call"], free_port()
            reply = [fork(call, rank, port) for rank in range(call["processes"])]
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
