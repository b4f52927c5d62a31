"""Many programs in one sandbox, a tenth of them hostile: nothing may grow, no verdict may change.

    python benchmarks/sandbox_endurance.py [--programs 100000] [--slots 2] [--load 0]
        [--seed 0] [--out endurance.svg]

Honest programs of several kinds with known answers, and hostile ones from `sandbox/cases/`, run in
a random order from as many threads as there are slots; then all of them again in another order,
with `--load` busy processes beside them. Now and then, while nothing runs, it samples what could
leak: memory of the host and of the zygotes, descriptors, processes, mounts, control groups,
temporary files.

It exits with 1 where the level at the end is above the level at the beginning, where an honest
program did not get exactly its answer, or where a verdict of the second pass is another. The
picture needs matplotlib.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import hashlib
import importlib.util
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rlvr.errors import SandboxError
from rlvr.sandbox import CallFailed, Limits, LocalSandbox, RunStatus
from rlvr.sandbox.conformance import Case, load_cases

SAMPLES = 60
_HONEST = Limits(cpu_seconds=5, wall_seconds=60)
_ENDS_BY_A_LIMIT = {RunStatus.TIMEOUT, RunStatus.MEMORY_LIMIT, RunStatus.OUTPUT_LIMIT}
_SLOW = {"file_deep_folders", "file_fills_inodes", "process_children_nobody_waits_for"}
_MEBIBYTE = 1 << 20
_GROWTH = {"host memory": 8 * _MEBIBYTE, "zygote memory": 2 * _MEBIBYTE}
"""By how many bytes the last fifth's median may lie above that of the second fifth; all that is
counted and not weighed may not grow at all."""


def main() -> int:
    """Run both passes; 1 where anything grew or differed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=int, default=100_000, help="of both passes together")
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--load", type=int, default=0, help="busy processes in the second pass")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="picture: a .svg or .png file")
    arguments = parser.parse_args()
    if arguments.programs < 20:
        parser.error(f"--programs is {arguments.programs}: expected 20 or more")
    if arguments.out and importlib.util.find_spec("matplotlib") is None:
        parser.error("--out needs matplotlib: pip install matplotlib")
    count = arguments.programs // 2
    with tempfile.TemporaryDirectory() as folder, LocalSandbox(slots=arguments.slots) as sandbox:
        tempfile.tempdir = folder  # ours alone, so that what is left there is ours
        run = Run(sandbox, arguments.slots, 2 * count)
        programs = make_programs(count, arguments.seed)
        sandbox.run("print(1)")
        first = run.all(programs, random.Random(arguments.seed + 1))
        with busy(arguments.load):
            second = run.all(programs, random.Random(arguments.seed + 2))
    wrong = report(programs, first, second, run)
    if arguments.out:
        draw(run, arguments.out)
    return 1 if wrong else 0


@dataclasses.dataclass(frozen=True)
class Program:
    """One program and what is known of its verdict.

    Attributes:
        kind: for the report.
        act: runs it and gives its verdict, as plain values that can be compared.
        expected: the verdict, where there is only one.
        judged: whether a verdict is as it should be, where there are several.
    """

    kind: str
    act: Callable[[LocalSandbox], Any]
    expected: Any = None
    judged: Callable[[Any], bool] | None = None

    def is_right(self, verdict: Any) -> bool:
        """Whether this verdict may come out."""
        if self.judged is None and self.expected is None:
            return True  # it hangs on the machine: only that both passes agree is asked
        return self.judged(verdict) if self.judged else bool(verdict == self.expected)


def make_programs(count: int, seed: int) -> list[Program]:
    """Nine tenths honest, one tenth hostile."""
    draw_from = random.Random(seed)
    hostile = [
        hostile_program(case)
        for case in load_cases()
        if not case.name.startswith(("honest_", "input_")) and case.name not in _SLOW
    ]
    made = [draw_from.choice(hostile) for _ in range(count // 10)]
    return made + [honest_program(number) for number in range(count - len(made))]


def honest_program(number: int) -> Program:
    """One of ten kinds, with numbers of its own."""
    square = number * number

    def of(source: str, status: str, output: str, stdin: bytes = b"") -> Program:
        def act(sandbox: LocalSandbox) -> Any:
            result = sandbox.run(source, stdin, _HONEST)
            return result.status.value, digest(result.stdout)

        return Program("honest", act, (status, digest(output.encode())))

    match number % 10:
        case 0:
            return of("n = int(input())\nprint(n * n)", "ok", f"{square}\n", b"%d\n" % number)
        case 1:
            return of(f"print({number} ** 2)\nexit()", "ok", f"{square}\n")
        case 2:
            return of(f"print({square})\nraise SystemExit(1)", "nonzero_exit", f"{square}\n")
        case 3:
            return of(f"print({number}", "compile_error", "")
        case 4:
            text = "x" * (number % 5000 + 200_000)
            return of(f"print('x' * {len(text)})", "ok", text + "\n")
        case 5:
            source = f"open('n', 'w').write('{number}')\nprint(open('n').read())"
            return of(source, "ok", f"{number}\n")
        case 6:
            child = f"    os.write(1, b'{number}')\n    os._exit(0)\n"
            source = f"import os\nif os.fork() == 0:\n{child}os.wait()\nos.write(1, b'!')"
            return of(source, "ok", f"{number}!")
        case 7:
            source = "import sys\nprint(sum(map(int, sys.stdin)))"
            lines = "".join(f"{n}\n" for n in range(number % 3000))
            return of(source, "ok", f"{sum(range(number % 3000))}\n", lines.encode())
        case 8:
            return Program("session", lambda sandbox: session(sandbox, number), [square, "raise"])
        case _:
            return Program("each", lambda sandbox: each(sandbox, number), [number, square, "end"])


def digest(output: bytes) -> bytes:
    """What stands for an output, so that the verdicts of all programs fit in memory."""
    return output if len(output) <= 32 else hashlib.sha256(output).digest()


def session(sandbox: LocalSandbox, number: int) -> list[Any]:
    """A call that gives a value, and one that raises."""
    source = f"def f(x): return x * {number}\ndef g(): raise KeyError({number})"
    with sandbox.session(source, _HONEST) as made:
        found = [made.call("f", [number])]
        try:
            made.call("g")
        except CallFailed as failure:
            found.append(failure.kind)
    return found


def each(sandbox: LocalSandbox, number: int) -> list[Any]:
    """One program on two inputs; it fails on a third."""
    source = "n = int(input())\nprint(n)"
    inputs = [b"%d" % number, b"%d" % (number * number), b"no number"]
    results = list(sandbox.run_each(source, inputs, _HONEST))
    good = [int(result.stdout) for result in results if result.ok]
    return [*good, *("end" for result in results if result.status is RunStatus.NONZERO_EXIT)]


def hostile_program(case: Case) -> Program:
    """A case; one that ends by a limit only gets small limits, so that it does so soon."""
    limits = case.limits
    if set(case.expect) <= _ENDS_BY_A_LIMIT:
        limits = dataclasses.replace(
            limits,
            cpu_seconds=min(limits.cpu_seconds, 0.1),
            wall_seconds=min(limits.wall_seconds, 1.0),
            memory_bytes=min(limits.memory_bytes, 64 << 20),
            output_bytes=min(limits.output_bytes, 1 << 20),
        )
    else:
        limits = dataclasses.replace(limits, wall_seconds=60.0)
    source = case.source
    stdin = case.stdin if case.stdin is not None else b'{"secret": "/", "port": 9, "host": 1}'
    allowed = set(case.expect) | (_ENDS_BY_A_LIMIT if limits.cpu_seconds < 1 else set())

    def act(sandbox: LocalSandbox) -> Any:
        result = sandbox.run(source, stdin, limits)
        out = digest(result.stdout) if case.output is not None else b""
        # How it ended, where several endings are right: only that it was one of them.
        return result.status.value if len(allowed) == 1 else result.status in allowed, out

    def judged(verdict: Any) -> bool:
        status, out = verdict
        right = status in (True, case.expect[0].value)
        return right and (case.output is None or status is True or out == digest(case.output))

    return Program(f"hostile {case.name}", act, judged=None if case.stdin is None else judged)


class Run:
    """Runs programs on threads, and samples the machine while they run."""

    def __init__(self, sandbox: LocalSandbox, threads: int, total: int) -> None:
        self.sandbox, self.threads, self.total = sandbox, threads, total
        self.series: dict[str, list[float]] = {}
        self.done: list[int] = []
        self.finished = 0
        self.launchers: set[int] = set()
        self.errors: list[str] = []
        self.wrong: dict[str, Any] = {}
        self.seconds: list[float] = []
        self._lock = threading.Lock()

    def all(self, programs: list[Program], order_by: random.Random) -> array[int]:
        """What stands for each verdict, in the programs' order; a pass in a random order.

        Eight bytes each, all there from the start: else keeping them would look like a leak.
        """
        order = array("Q", range(len(programs)))
        order_by.shuffle(order)
        verdicts = array("Q", bytes(8 * len(programs)))
        started = time.monotonic()
        for piece in _pieces(order, SAMPLES // 2):
            queue = iter(piece)

            def work(queue: Iterator[int] = queue) -> None:
                while (number := self._next(queue)) is not None:
                    verdict = self._act(programs[number])
                    verdicts[number] = fingerprint(verdict)
                    if not programs[number].is_right(verdict):
                        self.wrong[programs[number].kind] = verdict

            threads = [threading.Thread(target=work) for _ in range(self.threads)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self._sample(len(piece))
        self.seconds.append(time.monotonic() - started)
        return verdicts

    def _next(self, queue: Iterator[int]) -> int | None:
        with self._lock:
            return next(queue, None)

    def _act(self, program: Program) -> Any:
        try:
            return program.act(self.sandbox)
        except (SandboxError, CallFailed) as error:
            self.errors.append(f"{program.kind}: {type(error).__name__}: {error}")
            return self.errors[-1]

    def _sample(self, more: int) -> None:
        """While nothing runs."""
        gc.collect()
        self.finished += more
        self.done.append(self.finished)
        self.launchers |= {slot.pid for slot in self.sandbox._all}  # type: ignore[attr-defined]
        for name, value in observe(self.sandbox, self.launchers).items():
            self.series.setdefault(name, []).append(value)
        if sys.stderr.isatty():
            print(f"\r{self.finished} of {self.total}", end="", file=sys.stderr)

    def growth(self) -> dict[str, float]:
        """How far the level of the last fifth lies above that of the second fifth."""
        found = {}
        for name, values in self.series.items():
            fifth = max(1, len(values) // 5)
            before, after = values[fifth : 2 * fifth], values[-fifth:]
            found[name] = statistics.median(after) - statistics.median(before)
        return found


def fingerprint(verdict: Any) -> int:
    """Eight bytes that stand for a verdict."""
    return int.from_bytes(hashlib.blake2b(repr(verdict).encode(), digest_size=8).digest())


def _pieces(order: array[int], count: int) -> Iterator[array[int]]:
    size = -(-len(order) // count)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def observe(sandbox: LocalSandbox, all_launchers: set[int]) -> dict[str, float]:
    """What could leak, as it is now; `all_launchers` are those that there ever were."""
    launchers = {slot.pid for slot in sandbox._all}  # type: ignore[attr-defined]
    ours = tuple(f"rlvr-slot-{pid}-" for pid in all_launchers)
    parents = {pid: parent for pid, parent in _parents()}
    zygotes = [pid for pid, parent in parents.items() if parent in launchers]
    below = [pid for pid, parent in parents.items() if parent in zygotes]
    return {
        "host memory": _status("self", "VmRSS"),
        "zygote memory": max((_status(str(pid), "VmRSS") for pid in zygotes), default=0.0),
        "host descriptors": len(os.listdir("/proc/self/fd")),
        "zygote descriptors": max((_count(f"/proc/{pid}/fd") for pid in zygotes), default=0),
        "zygotes": len(zygotes),
        "processes below": len(below),
        "host threads": threading.active_count(),
        "host mounts": _lines("/proc/self/mountinfo", but="docker"),
        "zygote mounts": max((_lines(f"/proc/{pid}/mountinfo") for pid in zygotes), default=0),
        "control groups": sum(
            name.startswith(ours)
            # Not `rglob`, which minds the groups that others remove meanwhile.
            for _, folders, _ in os.walk("/sys/fs/cgroup")
            for name in folders
        ),
        "temporary files": len(os.listdir(tempfile.gettempdir())),
        "System V objects": _lines("/proc/sysvipc/shm") + _lines("/proc/sysvipc/sem"),
    }


def _parents() -> Iterator[tuple[int, int]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                stat = Path(f"/proc/{name}/stat").read_text(errors="replace")
                yield int(name), int(stat.rpartition(")")[2].split()[1])


def _status(pid: str, field: str) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return float(line.split()[1]) * 1024
    return 0.0


def _count(folder: str) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(folder))
    return 0


def _lines(path: str, but: str = "?") -> int:
    with contextlib.suppress(OSError):
        return sum(but not in line for line in Path(path).read_text().splitlines())
    return 0


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that do nothing but count."""
    command = [sys.executable, "-S", "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def report(programs: list[Program], first: array[int], second: array[int], run: Run) -> int:
    """Print what was found; how many things are not as they should be."""
    wrong = Counter(
        program.kind
        for program, one, two in zip(programs, first, second, strict=True)
        if one != two
    )
    hostile = sum(program.kind.startswith("hostile") for program in programs)
    rate = [round(len(programs) / seconds) for seconds in run.seconds]
    print(f"{2 * len(programs)} programs, {2 * hostile} hostile; {rate} programs/s in each pass")
    print(f"sandbox errors: {len(run.errors)}", *run.errors[:3], sep="\n  ")
    for name, count in wrong.most_common():
        print(f"{count} x {name}: the second verdict differs")
    for name, verdict in run.wrong.items():
        print(f"{name}: the verdict is wrong: {verdict!r:.300}")
    grown = 0
    for name, growth in run.growth().items():
        values = run.series[name]
        allowed = _GROWTH.get(name, 0)
        grown += growth > allowed
        unit, size = (" MiB", _MEBIBYTE) if name in _GROWTH else ("", 1)
        shown = ", ".join(f"{value / size:.1f}" for value in (values[0], max(values), values[-1]))
        note = "   <-- grows" if growth > allowed else ""
        print(f"{name}: first, highest, last {shown}{unit}; growth {growth / size:+.2f}{note}")
    return len(wrong) + len(run.wrong) + grown + len(run.errors)


def draw(run: Run, path: str) -> None:
    """One small picture a quantity, over the programs that had run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = 3
    rows = -(-len(run.series) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(9, 1.5 * rows), sharex=True)
    for axis, (name, values) in zip(axes.flat, run.series.items(), strict=False):
        size = _MEBIBYTE if name in _GROWTH else 1
        axis.plot(run.done, [value / size for value in values], linewidth=1)
        axis.set_title(name + (" (MiB)" if size > 1 else ""), fontsize=8)
        axis.set_ylim(0, 1.3 * max(1.0, max(values) / size))
        axis.tick_params(labelsize=6)
    for axis in axes[-1]:
        axis.set_xlabel("programs", fontsize=7)
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
