"""`rlvr compare` prints the paired comparison, and refuses what is no evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlvr.cli.main import main
from rlvr.evals.store import EvaluationFolder
from rlvr.evals.summary import summarise
from rlvr.types import Completion, Rollout, Task, Verdict


def save(folder: Path, solved: int) -> str:
    rollouts = [
        Rollout(
            task=Task(id=str(index), prompt="p"),
            completion=Completion(text=""),
            verdict=Verdict.correct() if index < solved else Verdict.wrong(),
        )
        for index in range(40)
    ]
    with EvaluationFolder(folder, {}, 1) as store:
        store.write_part(0, rollouts)
        store.merge()
        store.write_summary(summarise(store.rollouts(), (1,), environment="e"))
    return str(folder)


def test_two_evaluations_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", save(tmp_path / "a", 10), save(tmp_path / "b", 35)]) == 0
    text = capsys.readouterr().out
    assert "40 tasks in common" in text
    assert "+0.625" in text
    assert "only A 0, only B 25" in text
    assert "B is better" in text


def test_a_folder_of_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", save(tmp_path / "a", 1), str(tmp_path / "missing")]) == 2
    err = capsys.readouterr().err
    assert "missing holds no finished evaluation" in err and err.count("\n") == 1


def test_an_evaluation_without_its_end_is_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with EvaluationFolder(tmp_path / "begun", {}, 2):
        pass
    assert main(["compare", str(tmp_path / "begun"), str(tmp_path / "begun")]) == 2
    assert "not finished" in capsys.readouterr().err


def test_a_damaged_summary_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save(tmp_path / "a", 1)
    (tmp_path / "a" / "summary.json").write_text('{"metrics": [')
    assert main(["compare", folder, folder]) == 2
    assert "summary.json is no summary" in capsys.readouterr().err
