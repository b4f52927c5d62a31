"""A run killed with `kill -9` at any moment goes on to the metrics of one never killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlvr.evals.runner import evaluate  # noqa: F401  (fails early where evaluation is missing)

CONFIG = """
algorithm: dapo
output: {output}
policy: new
new_policy: {{alphabet: "0123456789+=A: \\n", hidden_size: 16, layers: 1, heads: 2, max_length: 32}}
environment: {{name: arithmetic, digits: 1, size: 300}}
warm_start:
  max_steps: 30
  batch_size: 16
  stop_at: 0.9
  check_every: 10
  check_tasks: 20
sampling: {{max_new_tokens: 8}}
rollout: {{tasks_per_step: 8, group_size: 4, dynamic_sampling: false, workers: 1, save_every: 4}}
optimizer: {{lr: 1.0e-3}}
objective: {{epochs: 2, mini_batches: 2, kl_coefficient: 0.01}}
steps: 12
evaluation: {{every: 6, tasks: 10, samples: 2, k: [1, 2]}}
checkpoint: {{every: 3, keep: 2}}
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A training process in a group of its own."""
    config = folder.with_suffix(".yaml")
    config.write_text(CONFIG.format(output=folder))
    program = f"import rlvr; rlvr.train({str(config)!r}, resume=True)"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )


def finish(folder: Path) -> None:
    process = start(folder)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()


def metrics(folder: Path) -> tuple[bytes, bytes]:
    stages = (folder / "warm_start", folder)
    first, second = ((stage / "metrics.jsonl").read_bytes() for stage in stages)
    return first, second


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_run_resumes_to_the_same_metrics_bit_for_bit(tmp_path: Path) -> None:
    straight = tmp_path / "straight"
    began = time.monotonic()
    finish(straight)
    duration = time.monotonic() - began

    draw = random.Random(os.environ.get("RLVR_TEST_SEED", "kill"))
    kills = 0
    killed = tmp_path / "killed"
    for _ in range(6):
        process = start(killed)
        try:
            process.wait(timeout=draw.uniform(0.3, 1.0) * duration)
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
    finish(killed)
    assert kills >= 1
    assert metrics(killed) == metrics(straight)
    weights = "policy/model.safetensors"
    assert (killed / weights).read_bytes() == (straight / weights).read_bytes()
    assert not list(killed.rglob(".writing_*"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_runs_with_one_seed_are_equal(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    finish(first)
    finish(second)
    assert metrics(first) == metrics(second)
