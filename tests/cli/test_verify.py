"""`rlvr verify`: rows in, rows out, and every mistake told before any work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlvr.cli.main import main

ROWS: list[dict[str, Any]] = [
    {"id": "a", "completion": r"\boxed{72}", "answer": 72, "extra": [1, "ü"]},
    {"completion": "73", "answer": "72", "prompt": [{"role": "user", "content": "6*12"}]},
    {"completion": r"\boxed{7", "answer": "72", "finish_reason": "length"},
    {"completion": "<think>72", "answer": "72", "metadata": {"level": 1}},
    {"completion": "72", "answer": None},
]


def write(folder: Path, *rows: Any) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
    return str(path)


def test_rows_keep_their_order_and_their_keys_and_get_a_verdict(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "verdicts.jsonl"
    assert main(["verify", "math", "--input", write(tmp_path, *ROWS), "--output", str(output)]) == 0
    graded = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert [row["reward"] for row in graded] == [1.0, 0.0, 0.0, 0.0, None]
    assert [row["outcome"] for row in graded] == [
        "correct", "incorrect", "truncated", "wrong_format", "verifier_error",
    ]  # fmt: skip
    for row, before in zip(graded, ROWS, strict=True):
        assert {key: row[key] for key in before} == before
        assert {"reason", "extracted", "seconds"} <= set(row)
    assert not list(output.parent.glob(".*"))


def test_without_an_output_rows_go_to_standard_output_and_the_summary_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "math", "--input", write(tmp_path, *ROWS)]) == 0
    captured = capsys.readouterr()
    assert [json.loads(line)["reward"] for line in captured.out.splitlines()] == [1, 0, 0, 0, None]
    assert "5 rows, mean reward 0.2500 over 4, 1 verifier errors" in captured.err


def test_options_reach_the_verifier_and_metrics_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--set", "parts.math=0.9", "--set", "parts.exact=0.5"]
    row = {"completion": "72", "answer": "72"}
    assert main(["verify", "weighted", "--input", write(tmp_path, row), *options]) == 0
    graded = json.loads(capsys.readouterr().out)
    assert graded["reward"] == pytest.approx(1.4)
    assert graded["metrics"] == {"math": 1.0, "math/undecided": 0.0, "exact": 1.0}


def test_text_that_is_no_unicode_survives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            ["verify", "exact", "--input", write(tmp_path, {"completion": "\ud800", "answer": "x"})]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["completion"] == "\ud800"


GOOD = ROWS[0]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"answer": 1}, "line 2: no column 'completion'; the columns are answer"),
        ({"completion": "1"}, "line 2: no column 'answer'"),
        ({"completion": None, "answer": 1}, "line 2: column 'completion' holds nothing"),
        ({"completion": 5, "answer": 1}, "line 2: column 'completion' holds 5 (int)"),
        ({"completion": "1", "answer": 1, "metadata": "x"}, "line 2: column 'metadata'"),
        ({"completion": "1", "answer": 1, "prompt": [1]}, "line 2: column 'prompt'"),
        (
            {"completion": "1", "answer": 1, "finish_reason": "end"},
            "line 2: column 'finish_reason'",
        ),
        ("[1]\n", "line 2: holds a JSON list"),
        ('{"completion": "1"\n', "line 2: not JSON"),
    ],
)
def test_a_malformed_row_is_named_and_nothing_is_written(
    bad: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.jsonl"
    source = write(tmp_path, GOOD, bad, GOOD)
    assert main(["verify", "math", "--input", source, "--output", str(output)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["maths"], "did you mean 'math'"),
        (["math", "--set", "timout=1"], "did you mean 'timeout'"),
        (["math", "--set", "timeout"], "expected key=value"),
        (["math", "--set", "timeout=abc"], "timeout is 'abc'"),
        (["math", "--workers", "0"], "workers is 0"),
        (["math", "--timeout", "-1"], "timeout is -1"),
        (["./none.py:x"], "no file './none.py'"),
        (["math", "--output", "/proc/none/x"], "cannot write verdicts to /proc/none"),
        (["math", "--output", "/tmp"], "it is a folder"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--input", write(tmp_path, GOOD), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing.jsonl", "No such file"), ("empty.jsonl", "no rows"), (".", "is a folder")],
)
def test_a_file_without_rows_is_refused(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    assert main(["verify", "math", "--input", str(tmp_path / name)]) == 2
    assert message in capsys.readouterr().err


def test_a_verifier_of_a_local_file_grades(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "import rlvr\n@rlvr.verifier('mine_in_verify')\n"
        "def mine(completion: str, answer: str, bonus: float = 0.0) -> float:\n"
        "    return float(completion == answer) + bonus\n"
    )
    source = write(tmp_path, {"completion": "a", "answer": "a"})
    name = f"{tmp_path}/mine.py:mine"
    assert main(["verify", name, "--input", source, "--set", "bonus=0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["reward"] == 1.5


def test_the_command_starts_without_heavy_imports(tmp_path: Path) -> None:
    code = (
        "import sys; from rlvr.cli.main import main; "
        f"main(['verify', 'math', '--input', {write(tmp_path, GOOD)!r}]); "
        "print(sorted({'torch', 'sympy', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.data
def test_labelled_gsm8k_solutions_agree_with_every_label(data_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "verdicts.jsonl"
    source = data_folder / "gsm8k_labelled_solutions.jsonl"
    assert main(["verify", "math", "--input", str(source), "--output", str(output)]) == 0
    rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    assert len(rows) == 5276
    assert all((row["outcome"] == "correct") is row["label"] for row in rows)
