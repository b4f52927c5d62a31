"""docs/training.md says what each number means that a run logs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import rlvr
from rlvr.tracking import read_jsonl

PAGE = Path(__file__).parents[2] / "docs" / "training.md"
CONFIG = {
    "algorithm": "dapo",
    "policy": "new",
    "new_policy": {"hidden_size": 16, "layers": 1, "heads": 2, "alphabet": "0123456789+=A: \n"},
    "environment": {"name": "arithmetic", "digits": 1, "size": 200},
    "sampling": {"max_new_tokens": 8},
    "objective": {"kl_coefficient": 0.01, "mini_batches": 2},
    "rollout": {
        "tasks_per_step": 4,
        "group_size": 4,
        "workers": 1,
        "overlong_buffer": 8,
        "dynamic_sampling": False,
        "mask_truncated": False,
    },
    "evaluation": {"every": 2, "tasks": 4, "samples": 2, "k": [1, 2]},
    "steps": 2,
}


def documented() -> set[str]:
    """The names in the first cells of the page's tables; `/x` goes on from the name before it."""
    names: set[str] = set()
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("| `"):
            continue
        before = ""
        for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
            if name.startswith("/"):
                name = before.rpartition("/")[0] + name
            elif name.startswith(".../"):
                name = before + name.removeprefix("...")
            else:
                before = name
            names.add(name)
    return names


def is_documented(name: str, names: set[str]) -> bool:
    """Whether it stands there, or a pattern that it follows: `outcome/NAME`, `eval/pass@k`."""
    if name.startswith("eval/"):
        name = re.sub(r"^eval/\w+[@^]\d+", "eval/pass@k", name)
    return name in names or f"{name.partition('/')[0]}/NAME" in names


@pytest.mark.slow
def test_every_number_that_a_run_logs_stands_in_the_page(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({**CONFIG, "output": str(tmp_path / "run")}))
    folder = rlvr.train(file)
    names = documented()
    rows = read_jsonl(folder / "metrics.jsonl") + read_jsonl(folder / "timing.jsonl")
    logged = {name for row in rows for name in row} - {"step"}
    assert len(logged) > 40
    assert sorted(name for name in logged if not is_documented(name, names)) == []
