"""`rlvr report` writes the page where it is told, and refuses what it cannot read."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_compare import save

from rlvr.cli.main import main


def test_the_page_goes_to_the_first_folder_or_where_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = save(tmp_path / "a", 10), save(tmp_path / "b", 30)
    assert main(["report", a, b]) == 0
    assert capsys.readouterr().out == f"report: {tmp_path / 'a' / 'report.html'}\n"
    assert main(["report", a, "--output", str(tmp_path / "new" / "r.html")]) == 0
    assert (tmp_path / "new" / "r.html").read_text().startswith("<!doctype html>")


def test_a_folder_without_results_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty")]) == 2
    err = capsys.readouterr().err
    assert "neither a finished evaluation" in err and err.count("\n") == 1
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_damaged_table_of_rollouts_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save(tmp_path / "a", 10)
    (tmp_path / "a" / "rollouts.parquet").write_bytes(b"no")
    assert main(["report", folder]) == 2
    assert "cannot read rollouts" in capsys.readouterr().err
