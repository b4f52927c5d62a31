"""Our GRPO update beside TRL's: tokens a second and peak memory on the same rollouts.

    python benchmarks/trainer.py --peers PYTHON [--shape small large] [--part update step]
        [--setting fast default small] [--rounds 3] [--steps 2] [--threads 1] [--plot FOLDER]
    python benchmarks/trainer.py --gpu ...      (real shapes, long context: see trainer_gpu.py)

`--peers` names the Python of an environment that has trl 1.16, accelerate and datasets; it is run
with the same torch and transformers. Without it, only our side is measured.

Each side runs in a process of its own, in turn, on the same random Qwen2 (vocabulary of 32,000),
prompts, completions, rewards and loss (GRPO advantages, mean over tokens, no KL). Lengths are
ragged: completions of 16 to `--longest` tokens, evenly on a logarithmic scale. Tokens are those of
prompts and completions, each counted once a rollout. The gradient norms of both sides are compared:
they did the same work, or the benchmark fails.

Seconds of the processor are what counts on a machine that others use; wall time stands beside them.
Memory is the peak of the resident set: in all, and above what the process held before its first
step, which is the model and the libraries. Each setting runs on both sides: `fast` (`--rows` rows
of the longest at a time, all activations kept), `default` (8 rows and gradient checkpointing, which
are TRL's defaults) and `small` (one row, checkpointing). TRL's chunked log-probabilities are always
on; its `use_liger_kernel` wants Triton, and so a GPU. Weights, gradients and AdamW's state are
float32 on both sides, 16 bytes a weight: 0.8 GiB of the large shape that no setting saves.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import trainer_gpu

_PEERS = Path(__file__).with_name("trainer_peers.py")
SHAPES: dict[str, dict[str, Any]] = {
    "small": {
        "hidden_size": 64,
        "intermediate_size": 172,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    },
    "large": {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
    },
}


SETTINGS = {"fast": (None, False), "default": (8, True), "small": (1, True)}
"""Rows of the longest at a time (None: `--rows`), and whether activations are computed twice."""


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", help="Python with trl (see the docstring)")
    parser.add_argument("--shape", nargs="+", choices=[*SHAPES, *trainer_gpu.SHAPES])
    parser.add_argument("--part", nargs="*", choices=("update", "step"), default=["update"])
    parser.add_argument("--setting", nargs="+", choices=SETTINGS, default=["fast", "small"])
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side, in turn")
    parser.add_argument("--steps", type=int, default=2, help="a run; the first warms up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--longest", type=int, default=1024, help="completion, in tokens")
    parser.add_argument("--rows", type=int, default=4, help="of TRL at a time")
    parser.add_argument("--new-tokens", type=int, default=64, help="generated, in the whole step")
    parser.add_argument("--bf16", action="store_true", help="both sides, over float32 weights")
    parser.add_argument("--plot", help="folder for pictures of how our cost grows (matplotlib)")
    parser.add_argument("--gpu", action="store_true", help="real shapes at 4k and 16k, alone")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="of --gpu")
    parser.add_argument("--tiny", action="store_true", help="shapes of --gpu to try it on a CPU")
    options = parser.parse_args()
    known = trainer_gpu.SHAPES if options.gpu else SHAPES
    if not set(options.shape or ()) <= set(known):
        parser.error(f"--shape: {', '.join(known)} {'with' if options.gpu else 'without'} --gpu")
    if options.steps < 2:
        parser.error("--steps: at least 2, since the first warms up")
    print(f"torch {torch.__version__}, {options.threads} threads, load {os.getloadavg()[0]:.1f}")
    if options.gpu:
        trainer_gpu.measure(options, run)
        return
    for shape in options.shape or ["small"]:
        for part in options.part:
            compare(shape, part, options)
    if options.plot:
        plot(Path(options.plot), options)


def compare(shape: str, part: str, options: argparse.Namespace) -> None:
    """Run all sides in turn, and print a line for each."""
    rows = rollouts(options.tasks, options.group, options.longest)
    base = request(SHAPES[shape], rows, options) | {"generate": part == "step"}
    sides = {}
    for setting in options.setting:
        size, checkpointing = SETTINGS[setting]
        chosen = at_a_time(size or options.rows, options) | {"checkpointing": checkpointing}
        for side in ("rlvr", "trl") if options.peers else ("rlvr",):
            sides[f"{setting}, {side}"] = base | chosen | {"side": side}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, asked in sides.items():
            found[name].append(run(asked, options.peers))
    if part == "update":
        norms = {name: results[0]["grad_norm"] for name, results in found.items()}
        tolerance = 5e-2 if options.bf16 else 1e-3
        first = next(iter(norms.values()))
        if any(abs(norm / first - 1) > tolerance for norm in norms.values()):
            sys.exit(f"the sides did not do the same work: gradient norms {norms}")
    tokens = sum(len(row["prompt"]) + len(row["completion"]) for row in rows)
    print(f"\n{shape}, {part}: {len(rows)} rollouts, {tokens} tokens given")
    for name, results in found.items():
        print("  " + line(name, results), flush=True)


def line(name: str, results: list[dict[str, Any]]) -> str:
    """The median of the rounds; the first step of each warms up."""

    def rate(of: str) -> float:
        rates = [
            n / seconds
            for result in results
            for n, seconds in list(zip(result["tokens"], result[of], strict=True))[1:]
        ]
        return statistics.median(rates)

    peak = statistics.median(result["peak"] for result in results) / 2**20
    above = statistics.median(r["peak"] - r["before"] for r in results) / 2**20
    return (
        f"{name:20} {rate('processor'):8.0f} tokens a processor second, {rate('seconds'):8.0f} a "
        f"second; peak {peak:6.0f} MiB, {above:6.0f} above the start"
    )


def request(shape: dict[str, Any], rows: list[Any], options: argparse.Namespace) -> dict[str, Any]:
    """What a process is asked to do."""
    whole = {**shape, "vocab_size": shape.get("vocab_size", 32_000), "tie_word_embeddings": True}
    return {
        "shape": whole,
        "rows": rows,
        "group": options.group,
        "device": "cpu",
        "threads": options.threads,
        "steps": options.steps,
        "bf16": options.bf16,
        "checkpointing": False,
        **at_a_time(options.rows, options),
        "new_tokens": options.new_tokens,
        "generate": False,
    }


def at_a_time(rows: int, options: argparse.Namespace) -> dict[str, int]:
    """So many of the longest rows in one forward pass, in the words of both sides."""
    return {"rows_at_a_time": rows, "micro_batch_tokens": rows * (options.longest + 256)}


def rollouts(tasks: int, group: int, longest: int) -> list[dict[str, Any]]:
    """Ragged rollouts of random tokens, with rewards."""
    chooser = random.Random(0)

    def tokens(low: int, high: int) -> list[int]:
        count = round(math.exp(chooser.uniform(math.log(low), math.log(high))))
        return [chooser.randrange(4, 32_000) for _ in range(count)]

    rows = []
    for _ in range(tasks):
        prompt = tokens(16, 256)
        rows += [
            {"prompt": prompt, "completion": tokens(16, longest), "reward": chooser.random()}
            for _ in range(group)
        ]
    return rows


def run(asked: dict[str, Any], peers: str | None) -> dict[str, Any]:
    """One process."""
    python = peers if asked["side"] == "trl" else sys.executable
    assert python is not None
    done = subprocess.run(
        [python, str(_PEERS)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        sys.exit(f"{asked['side']} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    return result


def plot(folder: Path, options: argparse.Namespace) -> None:
    """How the cost of an update grows, the small shape: in one picture, TRL beside us if given."""
    import matplotlib.pyplot as plt

    sides = {"rlvr": {"side": "rlvr"}}
    if options.peers:
        sides["TRL, as fast as it goes"] = {"side": "trl"}
    series = growth(options)
    figure, axes = plt.subplots(2, len(series), figsize=(4 * len(series), 6), sharex="col")
    for column, (name, points) in enumerate(series.items()):
        for side, asked in sides.items():
            results = [run(point | asked, options.peers) for _, point in points]
            at = [x for x, _ in points]
            costs = [1e3 * min(r["processor"][1:]) / r["tokens"][-1] for r in results]
            peaks = [(r["peak"] - r["before"]) / 2**20 for r in results]
            axes[0, column].plot(at, costs, "o-", label=side)
            axes[1, column].plot(at, peaks, "o-", label=side)
            pairs = zip(at, costs, peaks, strict=True)
            print(f"{name}, {side}: ", [(x, round(c, 3), round(m)) for x, c, m in pairs])
        axes[0, column].set(yscale="log", title=name)
        axes[1, column].set(xscale="log", yscale="log", xticks=at, xticklabels=at)
        axes[1, column].minorticks_off()
    axes[0, 0].set_ylabel("processor ms a token")
    axes[1, 0].set_ylabel("peak MiB above the start")
    axes[0, 0].legend()
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "trainer.png", dpi=100)


def growth(options: argparse.Namespace) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """What is asked for at each point of each curve."""

    def point(rows: list[Any], words: int = 32_000) -> dict[str, Any]:
        asked = request({**SHAPES["small"], "vocab_size": words}, rows, options)
        return asked | {"rows_at_a_time": min(options.rows, len(rows))}

    return {
        "longest completion, tokens": [(n, point(rollouts(2, 4, n))) for n in (128, 512, 2048)],
        "completions a prompt": [
            (n, point(rollouts(1, n, 128)) | {"group": n}) for n in (2, 8, 32)
        ],
        "vocabulary": [(n, point(rollouts(2, 4, 128), n)) for n in (32_000, 64_000, 152_000)],
    }


if __name__ == "__main__":
    main()
