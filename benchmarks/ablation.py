"""DAPO's ladder at the scale of a laptop: what each part adds, over several seeds.

    python benchmarks/ablation.py [--output runs/ablation] [--seeds 5] [--steps 75] [--jobs 1]
                                  [--plot docs/ablation.png] [--write docs/experiments.md]

Five rungs, each with everything of those before it: GRPO, clip-higher, token-level loss, overlong
shaping, dynamic sampling (Yu et al. 2025, arXiv:2503.14476, table 1). All runs begin from one
policy, imitated once from worked solutions of `ablation_task.py`, some of which are longer than the
token limit of the runs. A seed decides the order of the tasks and every draw, and is shared by the
rungs, so that differences between rungs are paired.

Every run is a folder: what is finished is used again, what was interrupted goes on. With fewer
seeds or steps than asked for, plot and table show what there is.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlvr.config import merge
from rlvr.evals.intervals import student_interval
from rlvr.evals.text import number
from rlvr.files import write_text
from rlvr.tracking import read_jsonl

HERE = Path(__file__).resolve().parent
TASK = f"{HERE / 'ablation_task.py'}:running_totals"
BEGIN, END = "<!-- benchmarks/ablation.py -->", "<!-- end of benchmarks/ablation.py -->"

WARM: dict[str, Any] = {
    "algorithm": "sft",
    "policy": "new",
    "new_policy": {
        "alphabet": "0123456789+=A:, \n",
        "hidden_size": 64,
        "layers": 2,
        "heads": 4,
        "max_length": 64,
    },
    "environment": {"name": TASK, "split": "train", "size": 60_000},
    "batch_size": 128,
    "steps": 600,
    "optimizer": {"lr": 3e-3, "warmup_steps": 20, "weight_decay": 0.01},
    "held_out": {"count": 200, "every": 100},
    "checkpoint": {"every": 50},
}
RUN: dict[str, Any] = {
    "algorithm": "grpo",
    "environment": {"name": TASK, "size": 20_000},
    "sampling": {"max_new_tokens": 28},
    "rollout": {"tasks_per_step": 48, "group_size": 8, "workers": 1, "save_every": 1000},
    "objective": {"clip_low": 0.2, "clip_high": 0.2, "mini_batches": 4},
    "optimizer": {
        "lr": 6e-4,
        "warmup_steps": 5,
        "schedule": "linear",
        "final_lr_fraction": 0.1,
    },
    "evaluation": {"every": 25, "tasks": 150, "samples": 4, "k": [1, 4]},
    "checkpoint": {"every": 25},
}
LADDER: dict[str, dict[str, Any]] = {
    "GRPO": {},
    "+ clip-higher": {"objective": {"clip_high": 0.28}},
    "+ token-level loss": {"objective": {"aggregation": "token-mean"}},
    "+ overlong shaping": {"rollout": {"overlong_buffer": 8}},
    "+ dynamic sampling": {"rollout": {"dynamic_sampling": True, "max_rounds": 4}},
}
CURVES = (
    ("eval/pass@1", "held-out pass@1"),
    ("entropy", "entropy, nats a token"),
    ("length/mean", "mean length, tokens"),
    ("effective", "informative groups a batch"),
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One rung of the ladder with one seed."""

    rung: str
    seed: int
    folder: Path

    def config(self, policy: Path, steps: int) -> dict[str, Any]:
        """Of this rung: its own change on those of the rungs before it."""
        config = {**RUN, "policy": str(policy), "output": str(self.folder)}
        for name, change in LADDER.items():
            config = merge(config, change)
            if name == self.rung:
                break
        return {**config, "seed": self.seed, "steps": steps}

    def rows(self) -> list[Row]:
        """Its metrics, one row a step, with what is derived from them."""
        joined: dict[int, Row] = {}
        for row in read_jsonl(self.folder / "metrics.jsonl"):
            joined.setdefault(row["step"], {}).update(row)
        dynamic = "dynamic" in self.rung
        for row in joined.values():
            if "sampling/groups" in row:
                share = 1.0 if dynamic else row["sampling/informative"]
                row["effective"] = row["sampling/groups"] * share
        return [joined[step] for step in sorted(joined)]


def main() -> None:
    """Train what is missing, then plot and tabulate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=75)
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, one core each")
    parser.add_argument("--plot", type=Path, help="a PNG with the curves (needs matplotlib)")
    parser.add_argument("--write", type=Path, help="a Markdown file whose marked part is replaced")
    parser.add_argument("--collect", action="store_true", help="train nothing")
    arguments = parser.parse_args()

    output = arguments.output.resolve()
    runs = [
        Run(rung, seed, output / f"{index}_seed{seed}")
        for seed in range(arguments.seeds)
        for index, rung in enumerate(LADDER)
    ]
    if not arguments.collect:
        warm = output / "warm"
        train(warm, {**WARM, "output": str(warm)})
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(
                pool.map(
                    lambda run: train(run.folder, run.config(warm / "policy", arguments.steps)),
                    runs,
                )
            )
    done = [run for run in runs if (run.folder / "policy").is_dir()]
    if not done:
        sys.exit("no run is finished")
    if arguments.plot:
        plot(done, arguments.plot)
    text = section(done, arguments)
    print(text)
    if arguments.write:
        page = arguments.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        _, _, after = rest.partition(END)
        write_text(arguments.write, f"{before}{BEGIN}\n\n{text}\n\n{END}{after or chr(10)}")


def train(folder: Path, config: dict[str, Any]) -> None:
    """Train in a process of its own, unless that was done; go on where it was interrupted.

    Raises:
        SystemExit: it failed; the message says where the reason is.
    """
    if (folder / "policy").is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".yaml")
    write_text(file, yaml.safe_dump(config, sort_keys=False))
    log = folder.with_suffix(".log")
    program = f"import rlvr; rlvr.train({str(file)!r}, resume=True)"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("ab") as stream:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=stream, stderr=stream, env=environment
        )
    print(f"{folder.name}: {'finished' if done.returncode == 0 else 'failed'}", flush=True)
    if done.returncode:
        sys.exit(f"{folder.name} failed: see {log}")


def curve(runs: Sequence[Run], name: str) -> list[tuple[int, list[float]]]:
    """(step, its value in each run that has one) of the steps that every run has."""
    found: dict[int, list[float]] = {}
    for run in runs:
        for row in run.rows():
            if isinstance(row.get(name), int | float):
                found.setdefault(row["step"], []).append(float(row[name]))
    return [(step, values) for step, values in sorted(found.items()) if len(values) == len(runs)]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95% interval over seeds; no width where there is one."""
    if len(values) < 2:
        return (values[0], values[0])
    return student_interval(values)


def mean(values: Sequence[float]) -> float:
    """NaN of nothing."""
    return sum(values) / len(values) if values else math.nan


def by_rung(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The finished runs of each rung, by seed."""
    return {
        rung: sorted((run for run in runs if run.rung == rung), key=lambda run: run.seed)
        for rung in LADDER
    }


def plot(runs: Sequence[Run], path: Path) -> None:
    """Four curves a rung: mean over seeds, with a 95% band."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7.5), layout="constrained")
    for axis, (name, label) in zip(axes.flat, CURVES, strict=True):
        for index, (rung, of_rung) in enumerate(by_rung(runs).items()):
            points = curve(of_rung, name) if of_rung else []
            if not points:
                continue
            window = 1 if name.startswith("eval") else max(1, len(points) // 25)
            points = smooth(points, window)
            steps = [step for step, _ in points]
            bounds = [interval(values) for _, values in points]
            axis.plot(steps, [mean(values) for _, values in points], color=f"C{index}", label=rung)
            low, high = zip(*bounds, strict=True)
            axis.fill_between(steps, low, high, color=f"C{index}", alpha=0.12, linewidth=0)
        axis.set_xlabel("training step")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes.flat[0].legend(fontsize=8)
    seeds = max(len(of_rung) for of_rung in by_rung(runs).values())
    figure.suptitle(
        f"DAPO's ladder on running totals: means of {seeds} seeds, 95% bands", fontsize=11
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def smooth(points: list[tuple[int, list[float]]], window: int) -> list[tuple[int, list[float]]]:
    """Each run's mean over the last `window` points."""
    smoothed = []
    for end in range(window, len(points) + 1):
        part = [values for _, values in points[end - window : end]]
        smoothed.append((points[end - 1][0], [mean(values) for values in zip(*part, strict=True)]))
    return smoothed


def section(runs: Sequence[Run], arguments: argparse.Namespace) -> str:
    """The part of the page of experiments: what was done, and what came of it, whatever it is."""
    steps = max(row["step"] for run in runs for row in run.rows())
    rows, verdicts = table(runs)
    lines = [
        "## DAPO's ladder at laptop scale: `benchmarks/ablation.py`",
        "",
        "```sh",
        "python benchmarks/ablation.py --plot docs/ablation.png --write docs/experiments.md",
        "```",
        "",
        "Sums of 3 to 5 digits, worked by running totals (`benchmarks/ablation_task.py`). A Qwen2 "
        "of two layers and width 64 imitates worked solutions for 600 steps, once; half of them "
        "write the totals twice or three times, so that at first one completion in five runs into "
        f"the limit of {RUN['sampling']['max_new_tokens']} tokens. Each run then trains it for "
        f"{steps} steps of {RUN['rollout']['tasks_per_step']} tasks, "
        f"{RUN['rollout']['group_size']} completions each, in "
        f"{RUN['objective']['mini_batches']} mini-batches. A rung has all of the rungs before it.",
        "",
        *([f"![curves]({arguments.plot.name})", ""] if arguments.plot else []),
        "At the last step, on 150 held-out tasks: mean over seeds with Student's 95% interval. "
        "Gains are over the rung before, paired by seed. Entropy, length, truncation and groups "
        "are means over the last fifth of the steps.",
        "",
        *rows,
        "",
        *verdicts,
    ]
    return "\n".join(lines)


def table(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """A row a rung, and a sentence a rung on whether its gain can be told from chance."""
    rows = [
        "| rung | seeds | pass@1 | gain | pass@4 | entropy | length | truncated | informative "
        "groups | rollouts sampled |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    verdicts = []
    before: dict[int, float] = {}
    for rung, of_rung in by_rung(runs).items():
        if not of_rung:
            continue
        last = {run.seed: final(run, "eval/pass@1", 1) for run in of_rung}
        gains = [last[seed] - before[seed] for seed in last if seed in before]
        cells = [rung, str(len(of_rung)), shown(list(last.values()))]
        cells.append(shown(gains, sign=True) if gains else "")
        cells.append(shown([final(run, "eval/pass@4", 1) for run in of_rung]))
        for name, digits in (("entropy", 3), ("length/mean", 1), ("length/truncated", 3)):
            cells.append(f"{mean([final(run, name) for run in of_rung]):.{digits}f}")
        cells.append(f"{mean([final(run, 'effective') for run in of_rung]):.1f} of 48")
        sampled = [sum(row.get("sampling/rollouts", 0) for row in run.rows()) for run in of_rung]
        cells.append(f"{mean(sampled):,.0f}")
        rows.append(f"| {' | '.join(cells)} |")
        if gains:
            verdicts.append(f"- {rung.removeprefix('+ ')}: {verdict(gains)}.")
        before = last
    return rows, verdicts


def verdict(gains: Sequence[float]) -> str:
    """What the paired gains of a rung allow to say."""
    low, high = interval(gains)
    if len(gains) < 2:
        return "one seed says nothing"
    if low > 0:
        return "a gain in pass@1"
    if high < 0:
        return "a loss in pass@1"
    return f"no gain or loss in pass@1 that {len(gains)} seeds tell from chance"


def final(run: Run, name: str, count: int | None = None) -> float:
    """Mean of the last `count` values, or of the last fifth."""
    values = [float(row[name]) for row in run.rows() if isinstance(row.get(name), int | float)]
    return mean(values[-(count or max(1, len(values) // 5)) :])


def shown(values: Sequence[float], sign: bool = False) -> str:
    """`0.512 [0.480, 0.544]`; without an interval where there is one value."""
    low, high = interval(values)
    text = number(mean(values), sign)
    return text if len(values) < 2 else f"{text} [{number(low, sign)}, {number(high, sign)}]"


if __name__ == "__main__":
    main()
