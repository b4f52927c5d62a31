"""Evaluation: what it writes, how it resumes, what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import evaluation_toy as toy
import pytest

from rlvr.errors import ConfigError, DataError, SamplerError, UserError
from rlvr.evals.completions import read_completions
from rlvr.evals.runner import evaluate, grade
from rlvr.evals.summary import Summary
from rlvr.rollout_table import read_rollouts
from rlvr.types import Outcome, Rollout


def untimed(path: Path) -> list[Rollout]:
    """The rollouts without the seconds, which no two runs share."""
    return [
        dataclasses.replace(item, verdict=dataclasses.replace(item.verdict, seconds=0.0))
        for item in read_rollouts(path / "rollouts.parquet")
    ]


def write_rows(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def saved(path: Path, per_task: int = 2, size: int = 12) -> Path:
    rows = [
        {"task_id": f"sum/{i}", "completion": str(2 * i + j)}
        for i in range(size)
        for j in range(per_task)
    ]
    return write_rows(path, list(rows))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    toy.run(str(folder), toy.SeededSampler())
    return folder


def test_rollouts_stand_in_order_with_distinct_seeds(whole: Path) -> None:
    rollouts = read_rollouts(whole / "rollouts.parquet")
    assert [item.task.id for item in rollouts] == [f"sum/{i}" for i in range(12) for _ in range(4)]
    assert len({item.seed for item in rollouts}) == 48


def test_the_summary_file_has_the_promised_keys_and_counts(whole: Path) -> None:
    row = json.loads((whole / "summary.json").read_text())
    promised = {"environment", "tasks", "samples", "metrics", "outcomes", "verifier_errors"}
    assert promised | {"config", "versions"} <= set(row)
    assert (row["environment"], row["tasks"], row["samples"]) == ("sums", 12, 48)
    assert set(row["metrics"]["pass@1"]) >= {"value", "low", "high"}
    assert sum(row["outcomes"].values()) == 48
    assert row["outcomes"]["verifier_error"] == row["verifier_errors"] > 0
    assert any("could not grade" in note for note in row["notes"])


def test_verifier_errors_are_left_out_of_the_metric_and_not_zeros(whole: Path) -> None:
    by_task: dict[str, list[Rollout]] = {}
    for item in read_rollouts(whole / "rollouts.parquet"):
        by_task.setdefault(item.task.id, []).append(item)
    graded = [[r for r in rollouts if r.reward is not None] for rollouts in by_task.values()]
    expected = [sum(r.verdict.is_correct for r in rs) / len(rs) for rs in graded if rs]
    summary = Summary.read(whole / "summary.json")
    assert summary.metrics["pass@1"].value == pytest.approx(math.fsum(expected) / len(expected))
    assert summary.metrics["pass@4"].tasks == sum(len(rs) == 4 for rs in graded) < 12


def test_only_the_whole_is_left_behind(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "rollouts.parquet",
        "summary.json",
        "evaluation.json",
        ".lock",
    }


def test_a_finished_evaluation_is_not_sampled_again_and_takes_other_ks(whole: Path) -> None:
    sampler = toy.SeededSampler()
    summary = toy.run(str(whole), sampler, ks=(2,))
    assert sampler.calls == []
    assert "pass@2" in summary.metrics


def test_an_interrupted_evaluation_goes_on_after_its_finished_parts(
    whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(SamplerError, match="gone"):
        toy.run(str(tmp_path), toy.SeededSampler(fail_at=3, failure=SamplerError("gone")))
    assert not (tmp_path / "rollouts.parquet").exists()
    assert len(list((tmp_path / "parts").iterdir())) == 3
    sampler = toy.SeededSampler()
    toy.run(str(tmp_path), sampler)
    assert sampler.calls == [8, 8, 8]
    assert untimed(tmp_path) == untimed(whole)


def test_ctrl_c_waits_for_no_verdict_and_keeps_the_finished_parts(
    whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        toy.run(str(tmp_path / "kept"), toy.SeededSampler(fail_at=3))
    assert len(list((tmp_path / "kept").glob("parts/part_*.parquet"))) >= 2
    toy.run(str(tmp_path / "kept"), toy.SeededSampler())
    assert untimed(tmp_path / "kept") == untimed(whole)

    slow = dataclasses.replace(toy.environment(), verifier=toy.SleepingVerifier())
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        evaluate(
            slow,
            toy.SeededSampler(fail_at=1),
            n=1,
            ks=(1,),
            output=tmp_path / "slow",
            workers=1,
            timeout=60,
            samples_a_part=8,
        )
    assert time.monotonic() - started < 30


@pytest.mark.slow
def test_kill_minus_9_and_resume_gives_the_rollouts_of_an_uninterrupted_run(
    whole: Path, tmp_path: Path
) -> None:
    command = [sys.executable, str(Path(toy.__file__)), str(tmp_path), "0.3"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("parts/part_*.parquet"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "rollouts.parquet").exists()
    assert len(list(tmp_path.glob("parts/part_*.parquet"))) >= 2
    sampler = toy.SeededSampler()
    toy.run(str(tmp_path), sampler)
    assert len(sampler.calls) <= 4
    assert untimed(tmp_path) == untimed(whole)
    resumed, straight = (json.loads((d / "summary.json").read_text()) for d in (tmp_path, whole))
    for key in ("outcomes", "config", "lengths"):
        assert resumed[key] == straight[key]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 2, "ks": (1,)}, "n = 4, and this one has 2"),
        ({"seed": 4}, "seed = 3, and this one has 4"),
        ({"params": dataclasses.replace(toy.PARAMS, top_p=0.5)}, r"sampling\.top_p = 1\.0"),
        ({"size": 11}, "tasks = 12, and this one has 11"),
        ({"config": {"model": "m"}}, "model = 'nothing', and this one has 'm'"),
    ],
)
def test_another_configuration_in_the_same_folder_is_refused_by_key(
    whole: Path, changes: dict[str, object], message: str
) -> None:
    before = (whole / "rollouts.parquet").read_bytes()
    with pytest.raises(UserError, match=message):
        toy.run(str(whole), toy.SeededSampler(), **changes)
    assert (whole / "rollouts.parquet").read_bytes() == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("algorithm: grpo\n")
    with pytest.raises(UserError, match=r"holds config\.yaml"):
        toy.run(str(tmp_path), toy.SeededSampler())


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    class Nested(toy.SeededSampler):
        def sample(self, *args: object, **kwargs: object) -> list[object]:  # type: ignore[override]
            with pytest.raises(UserError, match="another process is writing"):
                toy.run(str(tmp_path), toy.SeededSampler())
            return super().sample(*args, **kwargs)  # type: ignore[arg-type, return-value]

    toy.run(str(tmp_path), Nested())


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the evaluation"):
        toy.run(str(tmp_path / "file" / "x"), toy.SeededSampler())


def test_impossible_numbers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    for changes in ({"n": 0}, {"ks": (8,)}, {"ks": (0,)}, {"ks": ()}, {"limit": 0}):
        with pytest.raises(ConfigError):
            toy.run(str(tmp_path / "x"), toy.SeededSampler(), **changes)
    assert not (tmp_path / "x").exists()


def test_no_tasks_and_doubled_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tasks"):
        toy.run(str(tmp_path), toy.SeededSampler(), size=0)
    doubled = dataclasses.replace(toy.environment(), tasks=[toy.make_task(1), toy.make_task(1)])
    with pytest.raises(DataError, match=r"2 tasks with the id 'sum/1'"):
        evaluate(doubled, toy.SeededSampler(), output=tmp_path)


def test_saved_completions_are_graded_in_the_order_of_the_file(tmp_path: Path) -> None:
    completions = read_completions(saved(tmp_path / "c.jsonl"))
    summary = grade(toy.environment(), completions, ks=(1, 2), output=tmp_path / "out", workers=1)
    assert summary.metrics["pass@1"].value == 0.5
    assert summary.metrics["pass@2"].value == 1.0
    assert summary.metrics["pass^2"].value == 0.0
    assert summary.metrics["maj@2"].value == 0.5
    rollouts = read_rollouts(tmp_path / "out" / "rollouts.parquet")
    assert [r.completion.text for r in rollouts[:4]] == ["0", "1", "2", "3"]
    first = grade(toy.environment(), completions, n=1, output=tmp_path / "one", workers=1)
    assert first.metrics["pass@1"].value == 1.0


def test_numeric_ids_and_cut_completions_are_read(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "c.jsonl", [{"id": 7, "completion": "", "finish_reason": "length"}]
    )
    completions = read_completions(path)
    assert completions.by_task["7"][0].finish_reason == "length"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"completion": "1"}, "line 2: names no task"),
        ({"id": "sum/1"}, "line 2: has no completion"),
        ({"id": "sum/1", "completion": None}, "line 2: completion is None"),
        ({"id": ["x"], "completion": ""}, "line 2: id is"),
        ({"id": True, "completion": ""}, "line 2: id is True"),
        ({"id": "a", "completion": "", "finish_reason": "tired"}, "line 2: finish_reason"),
        ([1], "line 2: holds a JSON list"),
    ],
)
def test_a_malformed_row_is_named_by_line(tmp_path: Path, row: object, message: str) -> None:
    path = write_rows(tmp_path / "c.jsonl", [{"id": "sum/0", "completion": "0"}, row])
    with pytest.raises(DataError, match=message):
        read_completions(path)


def test_an_empty_or_missing_file_of_completions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no completions"):
        read_completions(write_rows(tmp_path / "c.jsonl", []))
    with pytest.raises(DataError, match="cannot read"):
        read_completions(tmp_path / "missing.jsonl")


def test_a_completion_of_no_known_task_is_named_by_line(tmp_path: Path) -> None:
    rows: list[object] = [{"id": "sum/1", "completion": "2"}, {"id": "2", "completion": "2"}]
    completions = read_completions(write_rows(tmp_path / "c.jsonl", rows))
    with pytest.raises(DataError, match=r"line 2: .* no task '2'; did you mean 'sum/2'"):
        grade(toy.environment(), completions, output=tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_tasks_without_completions_are_refused_or_left_out_with_a_note(tmp_path: Path) -> None:
    completions = read_completions(saved(tmp_path / "c.jsonl", size=9))
    with pytest.raises(DataError, match=r"no completion for 3 of 12 tasks \(sum/9"):
        grade(toy.environment(), completions, output=tmp_path / "out", workers=1)
    summary = grade(
        toy.environment(), completions, output=tmp_path / "out", workers=1, partial=True
    )
    assert summary.tasks == 9
    assert "3 of 12 tasks have no completion" in summary.notes[0]


def test_k_above_the_saved_samples_and_n_above_them_are_refused(tmp_path: Path) -> None:
    completions = read_completions(saved(tmp_path / "c.jsonl"))
    with pytest.raises(ConfigError, match="k=4 needs"):
        grade(toy.environment(), completions, ks=(4,), output=tmp_path / "out")
    with pytest.raises(DataError, match="fewer than n=3"):
        grade(toy.environment(), completions, n=3, output=tmp_path / "out")


def test_everything_ungraded_is_nan_and_not_zero(tmp_path: Path) -> None:
    rows: list[object] = [{"id": f"sum/{i}", "completion": "?"} for i in range(12)]
    completions = read_completions(write_rows(tmp_path / "c.jsonl", rows))
    summary = grade(toy.environment(), completions, output=tmp_path / "out", workers=1)
    assert math.isnan(summary.metrics["pass@1"].value)
    assert summary.outcomes == {Outcome.VERIFIER_ERROR: 12}
    stored = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert stored["metrics"]["pass@1"]["value"] is None
    assert math.isnan(Summary.read(tmp_path / "out" / "summary.json").metrics["pass@1"].value)
