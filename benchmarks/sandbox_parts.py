"""A zygote that makes programs only up to a given stage: `benchmarks/sandbox.py` asks it.

Reads JSON lines `[stage, count]`, runs that many, answers each with a line. It is started as the
sandbox starts its own, and stands in the same namespaces; what it measures nothing of is messages.

With the path of HumanEval's file there are two stages more: its canonical solutions with their
tests, in a bare fork, and in an isolated process. Nobody asks for their verdict: what a sandbox
costs beside the latter is what it takes to give one that cannot be forged.
"""

import gzip
import importlib.util
import itertools
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parent.parent / "sandbox" / "guest"
_REQUEST = {
    "role": "run",
    "processor": -1,
    "wall_seconds": 15.0,
    "cpu_seconds": 5.0,
    "memory_bytes": 512 << 20,
    "processes": 64,
    "open_files": 256,
    "file_bytes": 64 << 20,
    "output_bytes": 16 << 20,
}
_SOURCE = b"print(42)"
_EXIT_GROUP = {"x86_64": 231, "aarch64": 94}


def main() -> None:
    """Start as the sandbox's zygote does, but serve our stages."""
    spec = importlib.util.spec_from_file_location(
        "rlvr_guest", _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["rlvr_guest"] = module
    spec.loader.exec_module(module)
    from rlvr_guest import kernel, program, values, zygote

    tested = [tested_solution(row) for row in read_rows(sys.argv[1])] if sys.argv[1:] else []
    os.environ.clear()
    _, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    config = {
        "host": os.getpid(),
        "allow_weaker": True,
        "folders": sorted({sys.base_prefix, sys.base_exec_prefix}),
        "python_path": [],
        "preload": [],
    }
    # The zygote puts its own streams on 0 and 1: ours move up.
    asked, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)

    def stages_only(control: Any, host: int, settings: Any) -> None:
        settings.confine()
        serve(make_stages(settings, kernel, program, values, tested), asked, answers)

    zygote._serve = stages_only
    sys.argv = ["zygote", json.dumps(config), "", str(control.detach())]
    zygote._say = lambda control, message: complain(message)
    zygote.main()


def read_rows(path: str) -> list[dict[str, str]]:
    """The rows of HumanEval's file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def tested_solution(row: dict[str, str]) -> bytes:
    """A canonical solution and its tests as one program."""
    call = f"check({row['entry_point']})"
    return "\n".join([row["prompt"] + row["canonical_solution"], row["test"], call]).encode()


def complain(message: dict[str, Any]) -> None:
    """Say what went wrong, if that is what it says."""
    if "failed" in message:
        print(message["failed"], file=sys.stderr, flush=True)


def serve(stages: dict[str, Callable[[], None]], asked: int, answers: int) -> None:
    """One line at a time, until there are no more."""
    with open(asked, encoding="utf-8") as lines:
        for line in lines:
            name, *count = json.loads(line)
            for _ in range(count[0] if count else 0):
                stages[name]()
            os.write(answers, json.dumps(list(stages)).encode() + b"\n")


def make_stages(
    settings: Any, kernel: Any, program: Any, values: Any, tested: list[bytes]
) -> dict[str, Callable[[], None]]:
    """What can be asked for: bare forks, and the sandbox's way, each stage with those before it."""
    descriptors = [os.open(os.devnull, os.O_RDWR) for _ in range(4)]
    status = settings._say
    names = program.plan(settings, _REQUEST, descriptors, status)._names

    def first(count: int, without: int = 0) -> Any:
        """The first steps of the plan, with some of the clone's flags gone, and an end."""
        part = program.plan(settings, _REQUEST, descriptors, status)
        part._names = [*names[:count], "exit_group"]
        part._words = [*part._words[: 8 * count], _EXIT_GROUP[os.uname().machine], *[0] * 7]
        part._words[1] &= ~without
        part._points = [(word, data) for word, data in part._points if word < 8 * count]
        part._sealed = {}
        return part.seal()

    steps = {"clone and exit": first(1, without=kernel.PER_PROGRAM)}
    if settings.namespaces:
        steps["namespaces"] = first(1)
        steps["descriptors and mounts"] = first(names.index("chdir") + 1)
    last = len(names) - (2 if settings.nursery else 1)  # after these: "write", "munmap"
    steps["Landlock, limits, user, capabilities"] = first(last)
    sources = itertools.cycle(tested)

    def bare(source: bytes | None) -> None:
        pid = os.fork()
        if pid == 0:
            if source is not None:
                exec(compile(source, "solution.py", "exec", dont_inherit=True), {})
                sys.stdout.flush()
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            raise OSError("a fork failed")

    def stage(steps: Any) -> None:
        if settings.nursery:
            pid, pidfd = settings.nursery.clone(steps, program.ROLES["run"])
        else:
            (pid, failed), pidfd = steps.clone(), steps.pidfd
            if pid == 0:
                os._exit(1 if failed else 0)
        status = os.waitpid(pid, 0)[1]
        os.close(pidfd)
        settings.progress()
        if status:
            raise OSError("a stage failed")

    def whole(program: bytes) -> None:
        null = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
        source, into = os.pipe()
        os.write(into, values.frame(program))
        received = [*null, source]
        pid, pidfd = settings.bear(_REQUEST, received)
        for fd in (*received, into):
            os.close(fd)
        status = os.waitpid(pid, 0)[1]
        os.close(pidfd)
        if status or settings.progress() != "k":
            raise OSError("the program failed")

    of_humaneval = {
        "os.fork, HumanEval": lambda: bare(next(sources)),
        "isolated, HumanEval": lambda: whole(next(sources)),
    }
    return {
        **(of_humaneval if tested else {}),
        "os.fork": lambda: bare(None),
        "os.fork, compile, run": lambda: bare(_SOURCE),
        **{name: (lambda steps=made: stage(steps)) for name, made in steps.items()},
        "source, compile, run, exit": lambda: whole(_SOURCE),
    }


main()
