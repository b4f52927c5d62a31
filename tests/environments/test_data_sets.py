"""The five environments that read data: small rows written here, and the real files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlvr
from rlvr.environments import mbpp as mbpp_module
from rlvr.environments.math import last_box
from rlvr.errors import ConfigError, DataError
from rlvr.types import Outcome, Task

GSM8K_ROW = {"question": "Two and 2?", "answer": "It is 2+2=<<2+2=4>>4.\n#### 4"}
MATH_ROW = {"problem": "Half?", "answer": "\\frac{1}{2}", "subject": "Algebra", "level": 1}
HUMANEVAL_ROW = {
    "task_id": "HumanEval/0",
    "prompt": 'def double(x):\n    """Twice x: {2} for {1}."""\n',
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(3) == 6\n    assert candidate(0) == 0\n",
    "entry_point": "double",
}
MBPP_ROW = {
    "text": "Double a number.",
    "code": "def double(x):\r\n    return 2 * x",
    "task_id": 11,
    "test_setup_code": "",
    "test_list": ["assert double(3) == 6", "assert double(0) == 0"],
}
KK_ROW = {
    "names": ["Ann", "Bob"],
    "solution": [True, False],
    "statements": "(('lying', 1), ('and', ('telling-truth', 0), ('telling-truth', 1)))",
    "quiz": "Ann says that Bob is a knave. Bob says that both are knights. Who is what?",
    "index": 7,
}
ROWS = {
    "gsm8k": GSM8K_ROW,
    "math": MATH_ROW,
    "humaneval": HUMANEVAL_ROW,
    "mbpp": MBPP_ROW,
    "knights_knaves": KK_ROW,
}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def writer(*rows: dict[str, Any]) -> Path:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return writer


def load(name: str, path: Path, **options: Any) -> list[Task]:
    return list(rlvr.load_environment(name, data=str(path), **options).tasks)


@pytest.mark.sandbox
@pytest.mark.parametrize("name", list(ROWS))
def test_a_row_becomes_a_task_whose_worked_solution_scores_1(name: str, write: Write) -> None:
    environment = rlvr.load_environment(name, data=str(write(ROWS[name])))
    task = environment.first(1)[0]
    verdict = environment.verifier.verify(task, task.metadata["solution"])
    assert verdict.is_correct, verdict
    for junk in ("", "I do not know.", "pass", "\\boxed{}", "A=k"):
        assert environment.verifier.verify(task, junk).reward == 0.0


@pytest.mark.parametrize("name", list(ROWS))
def test_prompts_never_hold_the_answer_or_the_solution(name: str, write: Write) -> None:
    task = load(name, write(ROWS[name]))[0]
    assert task.metadata["solution"] not in task.prompt_text
    if name == "humaneval":
        assert "return 2 * x" not in task.prompt_text
        assert "check(candidate)" not in task.prompt_text


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("gsm8k", {"answer": "It is 4."}, "column 'answer' does not end in '#### N': 'It is 4.'"),
        ("gsm8k", {"answer": "#### four"}, "does not end in '#### N'"),
        ("gsm8k", {"answer": 4}, "column 'answer' holds 4 (int): expected text"),
        ("math", {"answer": 3}, "column 'answer' holds 3 (int): expected text"),
        ("math", {"answer": ["3"]}, "column 'answer' holds ['3'] (list): expected text"),
        ("math", {"solution": 3}, "column 'solution' holds 3 (int): expected text"),
        ("math", {"answer": None, "solution": "It is 3."}, "'solution' has no \\boxed{}"),
        ("math", {"answer": None, "solution": "\\boxed{3"}, "has a \\boxed{ that is not closed"),
        ("humaneval", {"test": None}, "column 'test' holds nothing"),
        ("mbpp", {"task_id": "11"}, "column 'task_id' holds '11' (str): expected a whole number"),
        ("mbpp", {"test_list": []}, "column 'test_list' holds []"),
        ("mbpp", {"test_list": [1]}, "column 'test_list' holds [1]"),
        ("mbpp", {"test_list": ["assert ("]}, "not Python"),
        ("mbpp", {"test_list": ["assert True"]}, "it calls no function"),
        ("mbpp", {"test_setup_code": 5}, "column 'test_setup_code' holds 5"),
        ("knights_knaves", {"solution": [True]}, "column 'solution' holds [True]: expected 2"),
        ("knights_knaves", {"solution": [1, 0]}, "column 'solution' holds [1, 0]"),
        ("knights_knaves", {"solution": [False, True]}, "does not fit the statements"),
        ("knights_knaves", {"names": ["Ann", "Ann"]}, "column 'names'"),
        ("knights_knaves", {"statements": "(("}, "column 'statements': cannot read"),
        ("knights_knaves", {"statements": "(('says', 1), ('lying', 0))"}, "column 'statements'"),
        ("knights_knaves", {"quiz": None}, "column 'quiz' holds nothing"),
        ("knights_knaves", {"prompt": ["hello"]}, "column 'prompt' is no list of messages"),
    ],
)
def test_a_malformed_row_names_file_and_line(
    name: str, change: dict[str, Any], problem: str, write: Write
) -> None:
    first = {**ROWS[name], "task_id": 12} if name == "mbpp" else ROWS[name]
    path = write(first, {**ROWS[name], **change})
    with pytest.raises(DataError) as caught:
        load(name, path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert problem in str(caught.value)


def test_gsm8k_answers_lose_their_commas_and_work_its_calculator_marks(write: Write) -> None:
    row = {"question": "?", "answer": "20*50=<<20*50=1000>>1,000\n#### 1,000"}
    task = load("gsm8k", write(row))[0]
    assert task.answer == "1000"
    assert task.metadata["solution"] == "20*50=1,000\nThe answer is \\boxed{1000}."


def test_the_instruction_can_be_changed_or_left_out(write: Write) -> None:
    path = write(GSM8K_ROW)
    assert load("gsm8k", path)[0].prompt_text.endswith("put the final number in \\boxed{}.")
    assert load("gsm8k", path, instruction="")[0].prompt_text == "Two and 2?"
    assert load("gsm8k", path, instruction="Be brief.")[0].prompt_text.endswith("\n\nBe brief.")


def test_math_takes_its_answer_out_of_the_solution_where_there_is_no_column(write: Write) -> None:
    row = {"problem": "?", "solution": "No \\boxed{1} but $\\boxed{\\frac{1}{2}}$.", "type": "A"}
    task = load("math", write(row))[0]
    assert task.answer == "\\frac{1}{2}"
    assert task.metadata["subject"] == "A"


def test_math_rows_without_any_answer_are_left_out_and_counted(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(MATH_ROW, {**MATH_ROW, "answer": None}, {**MATH_ROW, "answer": ""}, MATH_ROW)
    assert [task.id for task in load("math", path)] == ["math/test/0", "math/test/3"]
    assert f"2 row(s) left out, the first at {path}, line 2: there is neither" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\\boxed{3}", "3"),
        ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"),
        ("\\boxed{\\text{a {b} c}} end.", "\\text{a {b} c}"),
        ("\\boxed{}", ""),
    ],
)
def test_the_last_box_is_read_with_its_inner_braces(text: str, expected: str) -> None:
    assert last_box(text) == expected


@pytest.mark.parametrize(
    ("test", "code", "name"),
    [
        ("assert f(1) == 2", "def f(x): pass", "f"),
        ("assert set(f([1, 2])) == set([1])", "not this Python", "f"),
        ("assert math.isclose(f(1), g(2))", "", "f"),
        ("assert not f(1)", "f = len", "f"),
        ("assert g(f(1)) == 2", "def f(x):\r\n  return g(x)", "f"),
        ("assert sum(10, 15) == 6", "def sum(a, b): pass", "sum"),
        ("assert list(sum(10, 15)) == 6", "def sum(a, b): pass", "sum"),
    ],
)
def test_the_tested_function_is_found_in_the_first_assert(test: str, code: str, name: str) -> None:
    assert mbpp_module.tested_function([test], code) == name


def test_mbpp_splits_by_task_id_as_published(write: Write) -> None:
    path = write(*({**MBPP_ROW, "task_id": number} for number in (1, 11, 510, 511, 601, 974)))
    ids = {
        split: [task.id for task in load("mbpp", path, split=split)]
        for split in ("prompt", "test", "validation", "train", "all")
    }
    assert ids["prompt"] == ["Mbpp/1"]
    assert ids["test"] == ["Mbpp/11", "Mbpp/510"]
    assert ids["validation"] == ["Mbpp/511"]
    assert ids["train"] == ["Mbpp/601", "Mbpp/974"]
    assert len(ids["all"]) == 6
    with pytest.raises(DataError, match="holds no rows for this environment and split"):
        load("mbpp", write({**MBPP_ROW, "task_id": 2_000}))
    with pytest.raises(ConfigError, match="no split 'tests'; did you mean 'test'"):
        load("mbpp", path, split="tests")


def test_mbpp_shows_its_tests_and_keeps_unix_line_ends(write: Write) -> None:
    task = load("mbpp", write(MBPP_ROW))[0]
    assert "assert double(3) == 6\nassert double(0) == 0" in task.prompt_text
    assert task.metadata["task_id"] == 11
    assert "\r" not in json.dumps([task.prompt, task.answer, dict(task.metadata)])
    assert "\r" not in task.metadata["solution"]


def test_humaneval_prompts_hold_braces_as_they_are(write: Write) -> None:
    assert "Twice x: {2} for {1}." in load("humaneval", write(HUMANEVAL_ROW))[0].prompt_text


def test_a_logic_row_in_chatml_becomes_a_chat(write: Write) -> None:
    text = (
        "<|im_start|>system\nBe good.\n<|im_end|>\n<|im_start|>user\nWho?\n<|im_end|>\n"
        "<|im_start|>assistant\n<think>"
    )
    row = {**KK_ROW, "prompt": [{"role": "user", "content": text}]}
    task = load("knights_knaves", write(row))[0]
    assert task.prompt == [
        {"role": "system", "content": "Be good."},
        {"role": "user", "content": "Who?"},
    ]
    assert task.id == "knights_knaves/2ppl/train/7"


def test_math_has_no_other_splits(write: Write) -> None:
    with pytest.raises(ConfigError, match="math has no split 'validation'"):
        load("math", write(MATH_ROW), split="validation")


# --- the real files ------------------------------------------------------------------------------

REAL = [
    ("gsm8k", {"split": "test"}, 1_319),
    ("gsm8k", {"split": "train"}, 7_473),
    ("math", {"split": "test"}, 500),
    ("math", {"split": "train"}, 7_470),
    ("humaneval", {}, 164),
    ("mbpp", {"split": "all"}, 974),
    ("mbpp", {"split": "test"}, 500),
]


@pytest.fixture
def real_data(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RLVR_DATA", str(data_folder))
    return data_folder


@pytest.mark.data
@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize(("name", "options", "count"), REAL, ids=str)
def test_the_published_files_are_read_whole(name: str, options: dict[str, Any], count: int) -> None:
    tasks = list(rlvr.load_environment(name, **options).tasks)
    assert len({task.id for task in tasks}) == count


@pytest.mark.data
@pytest.mark.parametrize("people", [3, 5, 7])
def test_worked_solutions_of_the_logic_rows_score_1_and_their_opposites_0(
    real_data: Path, people: int
) -> None:
    environment = rlvr.load_environment(
        "knights_knaves", data=str(real_data), people=people, split="test"
    )
    assert len(environment.first()) == 100
    swap = {"knight": "knave", "knave": "knight"}
    for task in environment.first():
        assert environment.verifier.verify(task, task.metadata["solution"]).is_correct
        opposite = "\n".join(f"{name} is a {swap[role]}" for name, role in task.answer.items())
        verdict = environment.verifier.verify(task, f"</think><answer>{opposite}</answer>")
        assert verdict.outcome is Outcome.INCORRECT


@pytest.mark.data
def test_the_chat_of_a_logic_row_says_what_its_quiz_says(real_data: Path) -> None:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(real_data / "kk_3ppl_test.parquet").to_pylist()
    environment = rlvr.load_environment(
        "knights_knaves", data=str(real_data), people=3, split="test"
    )
    for task, row in zip(environment.first(), rows, strict=True):
        system, user = task.prompt
        assert user["content"] == row["quiz"]
        assert "<answer>" in system["content"]
        assert "<|im_" not in task.prompt_text


@pytest.mark.data
@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize(
    ("name", "options"), [("gsm8k", {}), ("math", {}), ("math", {"split": "train"})], ids=str
)
def test_worked_solutions_of_the_mathematics_score_1(name: str, options: dict[str, Any]) -> None:
    environment = rlvr.load_environment(name, **options)
    tasks = environment.first(40)
    pairs = [(task, task.metadata["solution"]) for task in tasks]
    wrong = [
        (task.id, task.answer, verdict)
        for task, verdict in zip(tasks, rlvr.verify_many(environment.verifier, pairs), strict=True)
        if not verdict.is_correct
    ]
    assert not wrong


@pytest.mark.data
@pytest.mark.sandbox
@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_worked_solutions_of_the_programs_score_1_and_empty_bodies_0(name: str) -> None:
    environment = rlvr.load_environment(name)
    tasks = environment.first(12)
    pairs = [(task, task.metadata["solution"]) for task in tasks]
    assert all(v.is_correct for v in rlvr.verify_many(environment.verifier, pairs))
    empty = [(t, f"def {t.answer['entry_point']}(*a):\n    pass") for t in tasks]
    assert all(v.reward == 0.0 for v in rlvr.verify_many(environment.verifier, empty))


@pytest.mark.data
def test_humaneval_reads_the_same_from_other_formats(real_data: Path, tmp_path: Path) -> None:
    import csv

    import pyarrow
    import pyarrow.parquet

    text = gzip.decompress((real_data / "humaneval.jsonl.gz").read_bytes()).decode()
    rows = [json.loads(line) for line in text.splitlines() if line]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    expected = load("humaneval", real_data / "humaneval.jsonl.gz")
    assert load("humaneval", tmp_path / "rows.parquet") == expected
    assert load("humaneval", tmp_path / "rows.csv") == expected
