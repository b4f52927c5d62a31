"""`benchmarks/ablation.py`: the rungs, the task, and the table, without training."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rlvr.registry import environments
from rlvr.trainers.config import PolicyGradientConfig, SupervisedConfig, parse_config

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def ablation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ablation", BENCHMARKS / "ablation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ablation"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_rung_has_what_the_rungs_before_it_have(ablation: ModuleType, tmp_path: Path) -> None:
    configs = []
    for rung in ablation.LADDER:
        mapping = ablation.Run(rung, 3, tmp_path).config(tmp_path / "policy", 50)
        config = parse_config(mapping, rung)
        assert isinstance(config, PolicyGradientConfig)
        assert (config.seed, config.steps) == (3, 50)
        configs.append(config)
    assert [c.objective.clip_high for c in configs] == [0.2, 0.28, 0.28, 0.28, 0.28]
    means = ["seq-mean-token-mean"] * 2 + ["token-mean"] * 3
    assert [c.objective.aggregation for c in configs] == means
    assert [c.rollout.overlong_buffer > 0 for c in configs] == [False] * 3 + [True] * 2
    assert [c.rollout.dynamic_sampling for c in configs] == [False] * 4 + [True]
    warm = parse_config({**ablation.WARM, "output": str(tmp_path)}, "warm")
    assert isinstance(warm, SupervisedConfig)


def test_worked_solutions_are_right_and_some_are_longer_than_the_limit(
    ablation: ModuleType,
) -> None:
    environment = environments.create(ablation.TASK, {"size": 200})
    limit = ablation.RUN["sampling"]["max_new_tokens"]
    lengths = []
    for task in environment.tasks:
        solution = str(task.metadata["solution"])
        assert environment.verifier.verify(task, solution).is_correct
        assert not environment.verifier.verify(task, "A: 99").is_correct
        lengths.append(len(solution) + 1)
    over = sum(length > limit for length in lengths) / len(lengths)
    assert 0.1 < over < 0.4


def test_the_table_pairs_gains_by_seed_and_replaces_only_its_own_part(
    ablation: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for rung in (0, 1):
        for seed in (0, 1):
            folder = tmp_path / "runs" / f"{rung}_seed{seed}"
            (folder / "policy").mkdir(parents=True)
            rows = [
                {
                    "step": step,
                    "entropy": 0.5,
                    "length/mean": 10 + step,
                    "length/truncated": 0.0,
                    "sampling/groups": 24,
                    "sampling/informative": 0.5,
                    "sampling/rollouts": 100,
                }
                for step in range(1, 6)
            ]
            score = 0.4 + 0.2 * seed + 0.1 * rung
            rows.append({"step": 5, "eval/pass@1": score, "eval/pass@4": 0.9})
            (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{ablation.BEGIN}\nold\n{ablation.END}\nafter\n")
    arguments = ["ablation.py", "--output", str(tmp_path / "runs"), "--seeds", "2", "--collect"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--write", str(page)])
    ablation.main()
    text = page.read_text()
    assert text.startswith(f"before\n{ablation.BEGIN}\n")
    assert text.endswith(f"{ablation.END}\nafter\n")
    assert "old" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("| + clip-higher")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "2"
    assert cells[2].startswith("0.600 [")
    assert cells[3] == "+0.100 [+0.100, +0.100]"
    assert cells[6:] == ["15.0", "0.000", "12.0 of 48", "500"]
    assert capsys.readouterr().out.strip() in text
    assert "- clip-higher: a gain in pass@1." in text
    assert ablation.verdict([0.1, -0.1, 0.05]).startswith("no gain or loss")
    assert ablation.verdict([-0.1, -0.11, -0.1]) == "a loss in pass@1"
    assert ablation.verdict([0.1]) == "one seed says nothing"
