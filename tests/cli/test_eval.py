"""`rlvr eval`: a local environment, saved completions, a real model, and all kinds of bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlvr.cli.main import main
from rlvr.rollout_table import read_rollouts

ENVIRONMENT = """
from rlvr.environments.base import Environment, environment
from rlvr.types import Task
from rlvr.verifiers.base import verifier

@verifier("local_sum")
def local_sum(completion: str, answer: int) -> float:
    if completion == "?":
        raise RuntimeError("cannot judge")
    return float(completion.strip() == str(answer))

@environment("local_sums")
def local_sums(size: int = 5, split: str = "test"):
    tasks = [Task(id=f"{split}/{i}", prompt=f"{i}+{i}=", answer=2 * i) for i in range(size)]
    return Environment(tasks=tasks, verifier="local_sum")
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def environment_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("environment") / "sums_environment.py"
    path.write_text(ENVIRONMENT)
    return f"{path}:local_sums"


@pytest.fixture
def run(environment_file: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """`rlvr eval` on the local environment: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main(["eval", environment_file, "--workers", "1", *map(str, arguments)])
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def completions(path: Path, wrong: int = 0, size: int = 5) -> Path:
    rows = [{"id": f"test/{i}", "completion": str(2 * i + (i < wrong))} for i in range(size)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refused(outcome: tuple[int, str, str], folder: Path) -> str:
    """The one line of a refusal that left nothing behind."""
    code, out, err = outcome
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1 and "Traceback" not in err
    assert not folder.exists()
    return err


def test_saved_completions_are_graded_and_reported(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text, _ = run("--completions", completions(tmp_path / "c.jsonl", 1), "--output", out)
    assert code == 0
    assert "pass@1  0.800" in text and "verifier errors: 0" in text
    assert f"report: {out / 'report.html'}" in text
    assert {"summary.json", "rollouts.parquet", "report.html"} <= {p.name for p in out.iterdir()}
    assert json.loads((out / "summary.json").read_text())["metrics"]["pass@1"]["value"] == 0.8


def test_a_second_call_resumes_and_another_file_is_refused(run: Run, tmp_path: Path) -> None:
    file, out = completions(tmp_path / "c.jsonl"), tmp_path / "out"
    first = run("--completions", file, "--output", out)
    stamp = (out / "rollouts.parquet").stat().st_mtime_ns
    assert run("--completions", file, "--output", out)[:2] == first[:2]
    assert (out / "rollouts.parquet").stat().st_mtime_ns == stamp
    completions(file, wrong=2)
    code, _, err = run("--completions", file, "--output", out)
    assert code == 2 and "completions_sha256" in err


def test_verifier_errors_are_shown(run: Run, tmp_path: Path) -> None:
    file = completions(tmp_path / "c.jsonl")
    file.write_text(file.read_text().replace('"4"', '"?"'))
    code, text, _ = run("--completions", file, "--output", tmp_path / "out")
    assert code == 0
    assert "verifier errors: 1" in text
    assert "note: the verifier could not grade 1 of 5 completions" in text
    assert "pass@1  1.000" in text


def test_an_evaluation_that_graded_nothing_is_a_failure(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    file.write_text("".join(f'{{"id": "test/{i}", "completion": "?"}}\n' for i in range(5)))
    code, text, _ = run("--completions", file, "--output", tmp_path / "out")
    assert code == 1
    assert "n/a" in text


def test_environment_options_reach_the_environment(run: Run, tmp_path: Path) -> None:
    file = completions(tmp_path / "c.jsonl", size=3)
    options = ("--set", "size=3", "--split", "test", "--output", tmp_path / "out")
    assert run("--completions", file, *options)[0] == 0
    stored = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert stored["tasks"] == 3
    assert stored["config"]["environment_options"] == {"size": 3, "split": "test"}


def test_missing_completions_are_refused_unless_partial(run: Run, tmp_path: Path) -> None:
    file, out = completions(tmp_path / "c.jsonl", size=3), tmp_path / "out"
    err = refused(run("--completions", file, "--output", out), out)
    assert "no completion for 2 of 5 tasks" in err and "--partial" in err
    code, text, _ = run("--completions", file, "--output", out, "--partial")
    assert code == 0 and "note: 2 of 5 tasks have no completion" in text


def test_a_real_model_is_sampled_with_seeds_and_logprobs(
    run: Run, tiny_policy_folder: Path, tmp_path: Path
) -> None:
    options = ("--model", tiny_policy_folder, "--n", 3, "--k", "1,3", "--max-new-tokens", 6)
    code, text, err = run(*options, "--output", tmp_path / "a")
    assert code == 0, err
    assert "5 tasks, 15 completions" in text and "pass^3" in text
    rollouts = read_rollouts(tmp_path / "a" / "rollouts.parquet")
    assert all(len(r.completion.logprobs) == len(r.completion.token_ids) > 0 for r in rollouts)
    assert run(*options, "--output", tmp_path / "b")[0] == 0
    again = read_rollouts(tmp_path / "b" / "rollouts.parquet")
    assert [r.completion for r in again] == [r.completion for r in rollouts]
    code, _, err = run(*options, "--seed", 1, "--output", tmp_path / "a")
    assert code == 2 and "seed = 0" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to evaluate"),
        (["--base-url", "http://localhost:1/v1"], "needs the --model"),
        (["--completions", "{file}", "--model", "m"], "takes no --model"),
        (["--model", "m", "--partial"], "--partial goes with --completions"),
        (["--completions", "{file}", "--k", "1,x"], "is no list of whole numbers"),
        (["--completions", "{file}", "--k", "0"], "is no list of whole numbers"),
        (["--completions", "{file}", "--k", "4"], "k=4 needs at least 4 completions"),
        (["--model", "m", "--k", "4"], "k=4 needs at least 4 completions a task, and n is 1"),
        (["--model", "m", "--n", "0"], "n is 0"),
        (["--model", "m", "--limit", "0"], "limit is 0"),
        (["--model", "m", "--temperature", "-1"], "--temperature -1"),
        (["--model", "m", "--top-p", "0"], "--top-p 0"),
        (["--model", "m", "--timeout", "0"], "--timeout 0"),
        (["--model", "/no/such/model"], "/no/such/model"),
        (["--completions", "{missing}"], "cannot read"),
        (["--completions", "{file}", "--set", "sise=3"], "did you mean 'size'"),
        (["--completions", "{file}", "--set", "size"], "size"),
        (["--completions", "{file}", "--data", "x"], "has no option 'data'"),
        (["--completions", "{file}", "--set", "size=0"], "no tasks"),
        (["--completions", "{file}", "--workers", "0"], "--workers 0"),
        (["--completions", "{file}", "--outptu", "x"], "did you mean '--output'"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    run: Run, tmp_path: Path, options: list[str], message: str
) -> None:
    file, out = completions(tmp_path / "c.jsonl"), tmp_path / "out"
    names = {"{file}": str(file), "{missing}": str(tmp_path / "missing.jsonl")}
    arguments = [names.get(option, option) for option in options]
    assert message in refused(run(*arguments, "--output", out), out)


def test_a_malformed_row_is_named_and_nothing_is_graded(run: Run, tmp_path: Path) -> None:
    file, out = completions(tmp_path / "c.jsonl"), tmp_path / "out"
    file.write_text(file.read_text() + "{broken\n")
    assert "line 6: not JSON" in refused(run("--completions", file, "--output", out), out)


def test_an_unwritable_output_is_refused(run: Run, tmp_path: Path) -> None:
    file = completions(tmp_path / "c.jsonl")
    code, _, err = run("--completions", file, "--output", file / "out")
    assert code == 2 and "cannot write the evaluation" in err and err.count("\n") == 1


def test_unknown_environments_are_refused_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["eval", "aritmetic", "--model", "m", "--output", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "did you mean 'arithmetic'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_shows_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["eval", "--help"])
    text = capsys.readouterr().out
    for option in ("--n", "--k", "--completions", "--temperature", "--timeout", "--set", "--split"):
        assert option in text
    assert "default: 10.0" in " ".join(text.split())
