"""A resumed run equals one that was never stopped, whatever keeps state besides the weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from learners import EVEN, TINY

import rlvr
from rlvr.config import merge

CASES: dict[str, dict[str, Any]] = {
    "replay-curriculum-reference": {
        "replay": {"groups": 3, "capacity": 9, "max_age": 6},
        "curriculum": {"uniform": 0.25},
        "reference": {"update": "average", "every": 2, "rate": 0.5},
        "objective": {
            "kl_coefficient": 0.1,
            "kl_target": 0.01,
            "kl_horizon": 100,
            "mini_batches": 2,
            "loss": "kl-cov",
        },
        "rollout": {"dynamic_sampling": True, "oversampling": 1.5, "max_rounds": 3},
    },
    "ppo": {
        "algorithm": "ppo",
        "critic": {"optimizer": {"lr": 1e-3}, "warmup_steps": 1},
        "rollout": {"group_size": 2},
        "objective": {"mini_batches": 2},
    },
    "remax-replay": {"algorithm": "remax", "replay": {"groups": 2}},
    "stale-curriculum": {
        "curriculum": {},
        "rollout": {"max_staleness": 2},
        "objective": {"mismatch": {"level": "geometric"}},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_is_equal_bit_for_bit(tmp_path: Path, case: str) -> None:
    base = merge(
        TINY,
        {
            "verifier": f"{EVEN}:even",
            "optimizer": {"lr": 5e-3},
            "checkpoint": {"every": 1, "keep": 10},
            "evaluation": {"every": 3, "tasks": 4, "samples": 2, "k": [1]},
            "steps": 6,
        },
    )
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(merge(base, CASES[case])))
    straight = tmp_path / "straight"
    rlvr.train(file, [f"output={straight}"])
    for cut in (1, 4):
        stopped = tmp_path / f"stopped_{cut}"
        shutil.copytree(straight, stopped)
        for step in range(cut + 1, 7):
            shutil.rmtree(stopped / "checkpoints" / f"step_{step:06d}")
        rlvr.train(file, [f"output={stopped}"], resume=True)
        for name in ("metrics.jsonl", "policy/model.safetensors"):
            assert (stopped / name).read_bytes() == (straight / name).read_bytes(), (cut, name)
