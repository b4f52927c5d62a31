"""`benchmarks/trainer_gpu.py`: its count of operations, and its flow where there is no GPU."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from warmed import Warmed

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SHAPE = {
    "hidden_size": 4,
    "intermediate_size": 5,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 3,
    "vocab_size": 10,
}


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    return load("trainer_gpu")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_operations_are_those_counted_by_hand(gpu: ModuleType) -> None:
    """A layer's matrices: 4x6 and 6x4 (queries, output), 2 of 4x3 (keys, values), 3 of 4x5: 132.

    One row of 5 tokens: 15 pairs, in 2 products 6 wide; 3 tokens in the head. Multiply-adds:
    2 x (132 x 5 + 2 x 6 x 15) + 4 x 10 x 3 = 1,800; times 2, times 3.
    """
    row = {"prompt": [1, 2], "completion": [3, 4, 5]}
    assert gpu.flops(SHAPE, [row], prompt_once=False) == 10_800
    assert gpu.flops(SHAPE, [row], prompt_once=True) == 10_800
    assert gpu.flops(SHAPE, [row, row], prompt_once=False) == 21_600
    # 2 tokens and their 3 pairs less: 2 x (132 x 2 + 12 x 3) = 600 multiply-adds.
    assert gpu.flops(SHAPE, [row, row], prompt_once=True) == 21_600 - 6 * 600


def test_operations_are_those_that_torch_counts(gpu: ModuleType) -> None:
    """It counts the products of a forward pass: every pair of tokens, and the head for each."""
    length = 7
    shape = SHAPE | {"head_dim": 6}
    model = transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**shape, attn_implementation="eager")
    )
    ids = torch.arange(length).unsqueeze(0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids, use_cache=False)
    # Attention in full, where ours is causal.
    pairs = length * length - length * (length + 1) // 2
    more = 2 * (2 * 2 * 12 * pairs)
    row = {"prompt": [], "completion": list(range(length))}
    assert gpu.flops(shape, [row], prompt_once=False) // 3 == counter.get_total_flops() - more


def test_the_figures_that_stand_beside_ours_count_alike(gpu: ModuleType) -> None:
    """11,896 tokens a second of Qwen3-0.6B at 16k are 11.1% of an H100, by our count too."""
    row = {"prompt": [], "completion": [0] * 16_384}
    each = gpu.flops(gpu.SHAPES["qwen3-0.6b"], [row], prompt_once=False) / 16_384
    peak = gpu.peak_flops("NVIDIA H100 80GB HBM3")
    assert 11_896 * each / peak == pytest.approx(0.111, abs=0.0005)
    assert gpu.peak_flops("NVIDIA H200") == 989e12
    assert gpu.peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert gpu.peak_flops("NVIDIA H100 PCIe") == 756e12
    assert gpu.peak_flops("NVIDIA T4") is None


def test_what_does_not_fit_is_said(gpu: ModuleType) -> None:
    fits = {"seconds": [9.0, 2.0, 4.0], "tokens": [600] * 3, "peak": 2**31}
    assert "200 tokens/s, MFU  25.0%, peak   2.00 GiB" in gpu.line("ours", [fits], 75.0, 100.0)
    found = gpu.line("theirs", [{"out_of_memory": "CUDA out of memory."}], 75.0, 100.0)
    assert "out of memory: CUDA out of memory." in found


def benchmark(*options: str) -> str:
    command = [sys.executable, str(BENCHMARKS / "trainer.py"), "--gpu", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_the_flow_runs_without_a_gpu(
    warmed: Warmed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first side in a process of its own, as all are; the others in one that is warm."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    trainer = load("trainer")
    plain, asked = trainer.run, []

    def run(request: dict[str, Any], peers: str | None) -> dict[str, Any]:
        asked.append(request)
        if len(asked) == 1:
            return plain(request, peers)
        ended = warmed.run("warmed:script", str(trainer._PEERS), json.dumps(request))
        assert ended.codes == [0], ended.output
        return json.loads(ended.output.partition("RESULT ")[2].splitlines()[0])

    monkeypatch.setattr(trainer, "run", run)
    options = ("--device", "cpu", "--tiny", "--rounds", "1", "--shape", "qwen3-0.6b")
    monkeypatch.setattr(sys, "argv", ["trainer.py", "--gpu", *options])
    trainer.main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  rlvr")]
    assert len(lines) == len(asked) == 5
    assert all("tokens/s" in line and "TFLOP/s" in line for line in lines)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    assert "GPU part skipped: torch" in benchmark()
