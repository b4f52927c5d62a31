"""The GPU part of `benchmarks/trainer.py`: the update of real shapes at 4k and 16k context.

    python benchmarks/trainer.py --gpu --peers PYTHON --rounds 1 --steps 3
    python benchmarks/trainer.py --gpu --device cpu --tiny        # the same, without a GPU

Random weights, products in bfloat16 over float32 master weights, no generation. All rollouts of a
group share a prompt of an eighth of the context and fill the rest of it, so that no side computes
padding, and both may have as many tokens in a pass; each is run without and with checkpointing, and
with the tokens of one rollout in a pass ("smallest").

Model FLOP are those of the mathematics: multiply-adds times 2, times 3 for forward and backward.
Of a layer they are its matrices for each token and two products as wide as the queries for each
pair of tokens that causal attention looks at; of the head, the tokens of completions. What is
computed again (checkpointing, attention's backward pass) does not count. A prompt counts once a
group where a side computes it once: ours is not credited with work that it leaves out. MFU is model
FLOP a second over the peak of the device, dense and in bfloat16, as NVIDIA's data sheets have it.

Memory is `torch.cuda.max_memory_allocated` after the model was made.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable
from typing import Any

import torch

SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-0.6b": {
        "model_type": "qwen3",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
    },
    "qwen2.5-1.5b": {
        "model_type": "qwen2",
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
    },
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 512,
}
_CONTEXTS = (4096, 16_384)
_TINY_CONTEXTS = (64, 256)
_PASSES = 4  # passes of the longest context in a step

# FLOP/s of dense bfloat16, by a part of the device's name; the first that fits.
_PEAKS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H200 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "GH200": 989e12,
    "A100": 312e12,
}
# Checked into its repository; the trainer alone on one H100. It counts every pair of tokens, at a
# width of `hidden_size`: for this shape (queries twice as wide) the same as the causal pairs.
_PRIME_RL = {
    ("qwen3-0.6b", 16_384): "prime-rl, published (H100): 11,896 tokens/s, MFU 11.1%, 12.5 GiB"
}


def measure(
    options: argparse.Namespace, run: Callable[[dict[str, Any], str | None], dict[str, Any]]
) -> None:
    """Print a line for each side of each shape and context, or why there is none.

    Args:
        options: of `benchmarks/trainer.py`.
        run: runs a request in a process of its own (`benchmarks/trainer.py`).
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"GPU part skipped: torch {torch.__version__} finds no CUDA device")
        return
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    peak = peak_flops(name)
    known = f"{peak / 1e12:.0f} TFLOP/s dense bf16" if peak else "unknown: no MFU"
    print(f"{name}; peak assumed: {known}")
    print("model FLOP: 6 (matrices x tokens + 2 x layers x query width x causal pairs)")
    for shape in options.shape or SHAPES:
        for context in _TINY_CONTEXTS if options.tiny else _CONTEXTS:
            _compare(shape, context, peak, options, run)


def _compare(
    shape_name: str,
    context: int,
    peak: float | None,
    options: argparse.Namespace,
    run: Callable[[dict[str, Any], str | None], dict[str, Any]],
) -> None:
    shape = SHAPES[shape_name] | (TINY if options.tiny else {})
    budget = max(_TINY_CONTEXTS if options.tiny else _CONTEXTS)
    rows = rollouts(_PASSES * budget // context, context, shape["vocab_size"])
    base = {
        "shape": shape,
        "rows": rows,
        "group": len(rows),
        "device": options.device,
        "threads": options.threads,
        "steps": options.steps,
        "bf16": True,
        "checkpointing": False,
        "rows_at_a_time": budget // context,
        "micro_batch_tokens": budget,
        "new_tokens": context,
        "generate": False,
    }
    sides: dict[str, dict[str, Any]] = {}
    for side in ("rlvr", "trl") if options.peers else ("rlvr",):
        sides[side] = base | {"side": side}
        sides[f"{side}, checkpointing"] = sides[side] | {"checkpointing": True}
        if context < budget:
            least = {"checkpointing": True, "rows_at_a_time": 1, "micro_batch_tokens": context}
            sides[f"{side}, smallest"] = sides[side] | least
    tokens = sum(len(row["prompt"]) + len(row["completion"]) for row in rows)
    print(f"\n{shape_name}, context {context}: {len(rows)} rollouts, {tokens} tokens")
    norms: dict[str, float] = {}
    for name, asked in sides.items():
        results = [run(asked, options.peers) for _ in range(options.rounds)]
        work = flops(shape, rows, prompt_once=asked["side"] == "rlvr")
        print("  " + line(name, results, work, peak), flush=True)
        if "grad_norm" in results[0]:
            norms[name] = results[0]["grad_norm"]
    if (shape_name, context) in _PRIME_RL and not options.tiny:
        print("  " + _PRIME_RL[shape_name, context])
    if norms and max(norms.values()) > 1.05 * min(norms.values()):
        raise SystemExit(f"the sides did not do the same work: gradient norms {norms}")


def line(name: str, results: list[dict[str, Any]], work: float, peak: float | None) -> str:
    """The median step of all rounds, without the first of each; what did not fit is said so.

    Args:
        name: of the side.
        results: of its rounds.
        work: model FLOP of a step.
        peak: FLOP/s of the device; `None` where not known.
    """
    for result in results:
        if "out_of_memory" in result:
            return f"{name:20} out of memory: {result['out_of_memory']}"
    seconds = statistics.median(s for result in results for s in result["seconds"][1:])
    memory = statistics.median(result["peak"] for result in results) / 2**30
    mfu = f"MFU {work / seconds / peak:6.1%}" if peak else f"{work / seconds / 1e12:.4f} TFLOP/s"
    settings = results[0].get("settings", "")
    rate = results[0]["tokens"][0] / seconds
    return f"{name:20} {rate:9.0f} tokens/s, {mfu}, peak {memory:6.2f} GiB{settings}"


def rollouts(count: int, context: int, vocabulary: int) -> list[dict[str, Any]]:
    """One group of random tokens: a prompt of an eighth of the context, completions of the rest."""
    chooser = random.Random(0)

    def tokens(length: int) -> list[int]:
        return [chooser.randrange(4, vocabulary) for _ in range(length)]

    prompt = tokens(context // 8)
    return [
        {"prompt": prompt, "completion": tokens(context - len(prompt)), "reward": chooser.random()}
        for _ in range(count)
    ]


def flops(shape: dict[str, Any], rows: list[dict[str, Any]], *, prompt_once: bool) -> int:
    """Model FLOP of an update on rollouts of one prompt; the module says what counts.

    Args:
        shape: of a Qwen2 or Qwen3.
        rows: with `prompt` and `completion`.
        prompt_once: the prompt goes through the layers once, not once a rollout.
    """
    hidden, layers = shape["hidden_size"], shape["num_hidden_layers"]
    head_dim = shape.get("head_dim") or hidden // shape["num_attention_heads"]
    queries = shape["num_attention_heads"] * head_dim
    keys = shape["num_key_value_heads"] * head_dim
    matrices = 2 * hidden * queries + 2 * hidden * keys + 3 * hidden * shape["intermediate_size"]
    tokens = pairs = scored = 0
    for i, row in enumerate(rows):
        before, after = len(row["prompt"]), len(row["completion"])
        whole = before + after
        tokens, pairs = tokens + whole, pairs + whole * (whole + 1) // 2
        scored += after
        if prompt_once and i:
            tokens, pairs = tokens - before, pairs - before * (before + 1) // 2
    products = layers * (matrices * tokens + 2 * queries * pairs)
    return 6 * (products + hidden * shape["vocab_size"] * scored)


def peak_flops(device: str) -> float | None:
    """FLOP/s of dense bfloat16 of a device, by its name; `None` where it is not known."""
    return next((peak for part, peak in _PEAKS.items() if part in device), None)
