"""What making batches ahead gains: the same run at several values of `rollout.max_staleness`.

    python benchmarks/overlap.py [--verdict SECONDS] [--steps 11] [--repeats 3] [--staleness 0 1 2]

A small policy writes 32 tokens a completion; a verdict takes as long as is said (it sleeps in a
verifier process, as one that waits for a sandbox or a server does). Runs take turns. Shown are the
lower quartiles over the steps of all of a kind, without the first three of each, because other work
on the machine can only make a step slower: seconds a step, of which the update, and the wait for
the batch; and how much faster that is than the first.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path

import yaml

import rlvr
from rlvr.tracking import read_jsonl

LEFT_OUT = 3


@rlvr.verifier("slow_digit")
def slow_digit(completion: str, answer: object, seconds: float = 0.0) -> float:
    """Whether the completion begins with a small digit, after so many seconds.

    Args:
        completion: what the policy wrote.
        answer: not looked at.
        seconds: that it takes.
    """
    time.sleep(seconds)
    return float(completion[:1] in set("01234"))


def configuration(folder: Path, staleness: int, steps: int, verdict: float) -> dict[str, object]:
    """A run of the benchmark."""
    return {
        "algorithm": "grpo",
        "output": str(folder),
        "policy": "new",
        "new_policy": {"hidden_size": 256, "layers": 4, "heads": 4, "max_length": 64},
        "environment": {"name": "arithmetic", "digits": 1, "size": 1000},
        "verifier": {"name": "slow_digit", "seconds": verdict},
        "sampling": {"max_new_tokens": 32},
        "rollout": {
            "tasks_per_step": 8,
            "group_size": 8,
            "workers": 4,
            "max_staleness": staleness,
        },
        "objective": {"mini_batches": 2},
        "evaluation": None,
        "steps": steps,
    }


def measure(staleness: int, steps: int, verdict: float) -> list[dict[str, float]]:
    """The seconds of the parts of a run's steps."""
    with tempfile.TemporaryDirectory(prefix="rlvr-overlap-") as place:
        folder = Path(place) / "run"
        file = Path(place) / "config.yaml"
        file.write_text(yaml.safe_dump(configuration(folder, staleness, steps, verdict)))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            rlvr.train(file)
        rows = [row for row in read_jsonl(folder / "timing.jsonl") if row["step"] > LEFT_OUT]
    return [row for row in rows if "checkpoint" not in row]


def quartiles(rows: list[dict[str, float]]) -> dict[str, float]:
    """Lower quartiles over steps."""

    def quartile(*names: str) -> float:
        return statistics.quantiles(
            [sum(row.get(name, 0.0) for name in names) for row in rows], n=4
        )[0]

    return {
        "step": quartile("collect", "update"),
        "update": quartile("update"),
        "wait": quartile("collect"),
        "generate": quartile("generate"),
        "verify": quartile("verify"),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What rollout.max_staleness gains.")
    parser.add_argument("--verdict", type=float, default=0.1, help="seconds a verdict takes")
    parser.add_argument("--steps", type=int, default=11)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind, taking turns")
    parser.add_argument("--staleness", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    print(f"verdict {arguments.verdict:g} s, {arguments.steps} steps")
    print("| max_staleness | step s | update | wait for the batch | generate | verify | faster |")
    print("|---|---|---|---|---|---|---|")
    rows: dict[int, list[dict[str, float]]] = {value: [] for value in arguments.staleness}
    for _ in range(arguments.repeats):
        for staleness, found in rows.items():
            found.extend(measure(staleness, arguments.steps, arguments.verdict))
    first = None
    for staleness, found in rows.items():
        row = quartiles(found)
        first = first or row["step"]
        shown = " | ".join(f"{row[name]:.2f}" for name in row)
        print(f"| {staleness} | {shown} | {first / row['step']:.2f}x |", flush=True)


if __name__ == "__main__":
    main()
