"""Runs of a tiny policy that are killed with SIGKILL at named points or times; used by test_resume.

    python killed_runs.py < jobs.json > results.json

One process imports everything, does the first run itself to warm up, and forks a child for each of
the others, so that a run costs a second and not the import of torch. A job is
`{"config": FILE, "kill": POINT | SECONDS | null}`; its result says how the child ended. A point is
`target@n > target@n > ...`: once the first target has been entered n times the second one is
armed, and so on; entering the last one kills.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import rlvr
from rlvr.verifiers.pool import _WarmPool


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    """Let this process kill itself at a point."""
    first, _, rest = point.partition(" > ")
    target, _, count = first.partition("@")
    owner, name = find(target)
    plain = getattr(owner, name)
    left = int(count)

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            kill_self() if not rest else arm(rest)
        return plain(*args, **kwargs)

    setattr(owner, name, counting)


def find(target: str) -> tuple[Any, str]:
    """`package.module:Class.name` as (the class, "name")."""
    module, _, path = target.partition(":")
    *outer, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def in_child(work: Callable[[], None]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run(config: str, kill: str | float | None) -> dict[str, Any]:
    """One run, to its end or until it is killed."""

    def work() -> None:
        if isinstance(kill, str):
            arm(kill)
        rlvr.train(config, resume=True)
        _WarmPool.close_all()

    child = in_child(work)
    if isinstance(kill, float):
        time.sleep(kill)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return {"status": os.waitstatus_to_exitcode(status)}


if __name__ == "__main__":
    jobs = json.load(sys.stdin)
    results_to = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warm_up = jobs.pop(0)
    assert warm_up["kill"] is None
    rlvr.train(warm_up["config"])
    _WarmPool.close_all()
    json.dump([run(**job) for job in jobs], results_to)
