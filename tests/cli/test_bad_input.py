"""A mistake of the user's: exit code 2, one clear line on standard error, nothing half-written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlvr.cli.main import main

TRAIN = """
algorithm: grpo
output: {output}
policy: new
environment: {environment}
steps: 1
"""
GOOD_ROW = {"completion": "4", "answer": "4"}


class Desk:
    """A folder with good and bad files, and the commands that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "out"
        self.missing = folder / "missing.jsonl"
        self.empty = self.write("empty.jsonl", "")
        self.malformed = self.write("malformed.jsonl", json.dumps(GOOD_ROW) + "\n{oops\n")
        self.good = self.write("good.jsonl", json.dumps(GOOD_ROW) + "\n")
        self.tasks = self.write("tasks.jsonl", '{"question": "1+1?", "answer": "#### 2"}\n')
        self.bad_task = self.write(
            "bad_task.jsonl", '{"question": "1+1?", "answer": "#### 2"}\n{"question": 7}\n'
        )
        self.unwritable = self.write("a_file", "not a folder") / "inside"

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def verify(self, verifier: str = "exact", *more: str, rows: Path | None = None) -> list[str]:
        return ["verify", verifier, "--input", str(rows or self.good), *more]

    def train(
        self, *more: str, environment: str = "arithmetic", output: object = None
    ) -> list[str]:
        text = TRAIN.format(output=output or self.output, environment=environment)
        return ["train", str(self.write("config.yaml", text)), *more]

    def eval(
        self,
        environment: str = "gsm8k",
        *more: str,
        output: object = None,
        task: str = "gsm8k/test/0",
    ) -> list[str]:
        row = {"id": task, "completion": "2"}
        completions = self.write("completions.jsonl", json.dumps(row) + "\n")
        arguments = ["eval", environment, "--output", str(output or self.output), *more]
        return arguments if "--model" in more else [*arguments, "--completions", str(completions)]


Case = tuple[Callable[[Desk], list[str]], str]

CASES: dict[str, Case] = {
    "verify: missing file": (lambda d: d.verify(rows=d.missing), "missing.jsonl"),
    "verify: malformed row": (lambda d: d.verify(rows=d.malformed), "line 2"),
    "verify: unknown name": (lambda d: d.verify("exatc"), "did you mean 'exact'"),
    "verify: unknown key": (
        lambda d: d.verify("exact", "--set", "ignore_kase=true"),
        "ignore_case",
    ),
    "verify: empty data": (lambda d: d.verify(rows=d.empty), "empty"),
    "verify: unwritable": (lambda d: d.verify("exact", "--output", str(d.unwritable)), "a_file"),
    "verify: unknown argument": (lambda d: d.verify("exact", "--outptu", "x"), "--output"),
    "check: unknown name": (lambda d: ["check", "verifier:mahth"], "did you mean 'math'"),
    "check: missing file": (lambda d: ["check", str(d.folder / "no.py") + ":thing"], "no.py"),
    "eval: missing file": (lambda d: d.eval("gsm8k", "--data", str(d.missing)), "missing.jsonl"),
    "eval: malformed row": (lambda d: d.eval("gsm8k", "--data", str(d.bad_task)), "line 2"),
    "eval: unknown name": (lambda d: d.eval("gsmk8"), "did you mean 'gsm8k'"),
    "eval: unknown key": (
        lambda d: d.eval("gsm8k", "--data", str(d.tasks), "--set", "spilt=x"),
        "did you mean 'split'",
    ),
    "eval: empty data": (lambda d: d.eval("gsm8k", "--data", str(d.empty)), "empty"),
    "eval: unwritable": (
        lambda d: d.eval("gsm8k", "--data", str(d.tasks), output=d.unwritable),
        "a_file",
    ),
    "eval: missing model": (
        lambda d: d.eval("gsm8k", "--data", str(d.tasks), "--model", str(d.folder / "none")),
        "none",
    ),
    "eval: unknown task id": (lambda d: d.eval("gsm8k", "--data", str(d.tasks), task="x"), "'x'"),
    "train: missing file": (lambda d: ["train", str(d.folder / "no.yaml")], "no.yaml"),
    "train: no file": (lambda d: ["train"], "configuration file"),
    "train: malformed": (lambda d: ["train", str(d.write("b.yaml", "a: [1\nb: 2"))], "line"),
    "train: unknown key": (lambda d: d.train("--set", "stesp=3"), "did you mean 'steps'"),
    "train: unknown environment": (
        lambda d: d.train(environment="arithmetics"),
        "did you mean 'arithmetic'",
    ),
    "train: unknown option": (lambda d: d.train("--set", "environment.digit=3"), "digits"),
    "train: unknown sampler": (lambda d: d.train("--set", "sampler=vlm"), "did you mean 'vllm'"),
    "train: missing data": (
        lambda d: d.train(environment=f"{{name: gsm8k, data: {d.missing}}}"),
        "missing.jsonl",
    ),
    "train: malformed row": (
        lambda d: d.train(environment=f"{{name: gsm8k, data: {d.bad_task}}}"),
        "line 2",
    ),
    "train: empty data": (
        lambda d: d.train(environment=f"{{name: gsm8k, data: {d.empty}}}"),
        "empty",
    ),
    "train: unwritable": (lambda d: d.train(output=d.unwritable), "a_file"),
    "train: missing policy": (lambda d: d.train("--set", "policy=./nowhere"), "nowhere"),
    "compare: missing folder": (
        lambda d: ["compare", str(d.folder / "a"), str(d.folder / "b")],
        "a",
    ),
    "report: missing folder": (lambda d: ["report", str(d.folder / "none")], "none"),
    "report: no evaluation there": (lambda d: ["report", str(d.folder)], "neither"),
    "unknown command": (lambda d: ["trian"], "trian"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_and_leaves_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = CASES[name]
    desk = Desk(tmp_path)
    command = arguments(desk)
    before = sorted(tmp_path.rglob("*"))
    try:
        code = main(command)
    except SystemExit as exit_:  # argparse refuses before a command runs
        code = int(exit_.code or 0)
    errors = capsys.readouterr().err.strip()
    assert code == 2, errors
    assert len(errors.splitlines()) == 1, errors
    assert expected in errors
    assert sorted(tmp_path.rglob("*")) == before
