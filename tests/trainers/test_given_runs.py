"""Runs of sft, reward and dpo: they resume bit for bit, and refuse bad input before they write."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from preferences import rows, settings, write

from rlvr.checkpoints import checkpoints
from rlvr.cli.main import main
from rlvr.trainers import pairs, supervised
from rlvr.trainers.run import run_training

ALGORITHMS = ("sft", "reward", "dpo")


def put(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def stop_before(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process be interrupted at the beginning of a step."""
    for learner in (pairs.PairLearner, supervised.SupervisedLearner):
        real = learner.step

        def interrupted(self: Any, at: int, real: Any = real) -> Any:
            if at == step:
                raise KeyboardInterrupt
            return real(self, at)

        monkeypatch.setattr(learner, "step", interrupted)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_that_was_stopped_resumes_to_the_same_metrics_bit_for_bit(
    algorithm: str, tmp_path: Path
) -> None:
    data = write(tmp_path / "rows.jsonl", rows(60))
    straight = settings(algorithm, data, tmp_path / "straight")
    run_training(put(tmp_path / "straight.yaml", straight))
    stopped = put(tmp_path / "stopped.yaml", settings(algorithm, data, tmp_path / "stopped"))
    with pytest.MonkeyPatch.context() as patch:
        stop_before(7, patch)
        with pytest.raises(KeyboardInterrupt):
            run_training(stopped)
    kept = [path.name for path in checkpoints(tmp_path / "stopped" / "checkpoints")]
    assert kept == ["step_000004"]
    before = (tmp_path / "stopped" / "metrics.jsonl").read_bytes()
    run_training(stopped, resume=True)
    after = (tmp_path / "stopped" / "metrics.jsonl").read_bytes()
    assert len(after) > len(before)
    assert after == (tmp_path / "straight" / "metrics.jsonl").read_bytes()
    weights = ("policy/model.safetensors", "policy/config.json")
    for name in weights:
        one, other = (tmp_path / run / name for run in ("straight", "stopped"))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "absent.jsonl"}, "no file or folder 'absent.jsonl'"),
        ({"data": "{empty}"}, "holds no rows"),
        ({"data": "{malformed}"}, "line 2: not JSON"),
        ({"held_out": {"counts": 3}}, "unknown key 'held_out.counts'; did you mean 'count'?"),
        ({"held_out": {"count": 3, "fraction": 0.1}}, "either count or fraction"),
        ({"held_out": {"count": 60}}, "leaves 0 of 60 rows to train on"),
        ({"max_length": 65}, "the policy has 64 positions (new_policy.max_length)"),
        ({"max_length": 3}, "left out: longer than 3 tokens"),
        ({"policy": "./absent"}, "there is no such folder"),
        ({"policy": "runs/absent/policy"}, "there is no such folder"),
        ({"bath_size": 3}, "unknown key 'bath_size'; did you mean 'batch_size'?"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    algorithm: str,
    change: dict[str, Any],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {
        "{empty}": write(tmp_path / "empty.jsonl", []),
        "{malformed}": str(tmp_path / "malformed.jsonl"),
    }
    Path(files["{malformed}"]).write_text(json.dumps(rows(1)[0]) + "\n{\n", encoding="utf-8")
    good = write(tmp_path / "rows.jsonl", rows(60))
    change = {key: files.get(str(value), value) for key, value in change.items()}
    values = {**settings(algorithm, good, tmp_path / "run"), **change}
    assert main(["train", str(put(tmp_path / "run.yaml", values))]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("algorithm", "kept"), [("reward", 38), ("sft", 39)])
def test_rows_of_exactly_the_limit_train_and_longer_ones_are_counted(
    algorithm: str, kept: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = rows(40)
    for row, length in zip(made, (64, 65), strict=False):
        row["chosen"] = "x" * (length - len(row["prompt"]) - 1)  # and the end of sequence
    made[2]["rejected"] = made[2]["chosen"]  # no preference, but a demonstration
    data = write(tmp_path / "rows.jsonl", made)
    values = settings(algorithm, data, tmp_path / "run", held_out=None, steps=1)
    run_training(put(tmp_path / "run.yaml", values))
    shown = capsys.readouterr().out
    assert f"{kept} rows to train on" in shown
    assert "1 left out: longer than 64 tokens" in shown
    assert ("1 left out: chosen and rejected are the same" in shown) == (algorithm == "reward")
    assert "held-out" not in shown


def test_both_sides_are_what_the_seed_of_the_run_has_no_say_in(tmp_path: Path) -> None:
    from preferences import config

    from rlvr.trainers.dpo import initial_policy
    from rlvr.trainers.pairs import prepare_pairs

    data = write(tmp_path / "rows.jsonl", rows(60))
    held_out = []
    for seed in (0, 1):
        run = config("dpo", data, tmp_path / "run", seed=seed)
        sides = prepare_pairs(run, initial_policy(run))  # type: ignore[arg-type]
        held_out.append([dataclasses.replace(pair, reference=(0.0, 0.0)) for pair in sides[1]])
    assert held_out[0] == held_out[1]
