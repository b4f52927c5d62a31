from __future__ import annotations

import csv
import gzip
import io
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.environments import data as data_module
from rlvr.environments.data import Published, Rows, load_rows
from rlvr.environments.readers import Row, read_file
from rlvr.errors import ConfigError, DataError, UserError
from rlvr.types import Task

COLUMNS = {"question": str, "number": int, "parts": list}
PUBLISHED = Published(file="set_{split}.jsonl", hub="somebody/set", config="main")
ROWS: list[dict[str, Any]] = [
    {"question": "one, “quoted”\nand broken", "number": 1, "parts": ["a", "b"]},
    {"question": "two\r\n", "number": -2, "parts": []},
    {"question": 'three "3"', "number": 3, "parts": [1, None]},
]


def make(index: int, row: Row) -> Task:
    return Task(id=f"t/{index}", prompt=row["question"], answer=(row["number"], row["parts"]))


def tasks_of(path: Path | str, **options: Any) -> list[Task]:
    return list(load_rows(str(path), "test", PUBLISHED, COLUMNS, **options).tasks(make))


def write_jsonl(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_csv(path: Path) -> Path:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(COLUMNS))
    writer.writeheader()
    for row in ROWS:
        writer.writerow({**row, "parts": json.dumps(row["parts"])})
    path.write_bytes(text.getvalue().encode())
    return path


def write_parquet(path: Path) -> Path:
    import pyarrow
    import pyarrow.parquet

    rows = [{**row, "parts": [str(part) for part in row["parts"]]} for row in ROWS]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def zipped(path: Path) -> Path:
    target = path.with_name(path.name + ".gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    return target


def test_every_format_gives_the_same_tasks(tmp_path: Path) -> None:
    jsonl, table = write_jsonl(tmp_path / "a.jsonl"), write_csv(tmp_path / "b.csv")
    expected = [make(index, row) for index, row in enumerate(ROWS)]
    for path in (jsonl, zipped(jsonl), table, zipped(table)):
        assert tasks_of(path) == expected, path
    parquet = tasks_of(write_parquet(tmp_path / "c [1].parquet"))
    assert [task.prompt for task in parquet] == [task.prompt for task in expected]
    assert parquet[0] == expected[0]


def test_streamed_rows_are_the_same_and_can_be_read_again(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl")
    streamed = load_rows(str(path), "test", PUBLISHED, COLUMNS, streaming=True).tasks(make)
    assert not isinstance(streamed, list)
    assert list(streamed) == list(streamed) == tasks_of(path)


def test_a_large_file_is_streamed_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl")
    assert not load_rows(path, "test", PUBLISHED, COLUMNS).large
    monkeypatch.setattr(data_module, "LARGE_BYTES", 10)
    assert load_rows(path, "test", PUBLISHED, COLUMNS).large


def test_streaming_reads_no_further_than_it_is_asked_to(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl")
    path.write_text(path.read_text() + "this is no JSON\n")
    tasks = iter(load_rows(path, "test", PUBLISHED, COLUMNS, streaming=True).tasks(make))
    assert [next(tasks).id for _ in ROWS] == ["t/0", "t/1", "t/2"]
    with pytest.raises(DataError, match="line 4"):
        next(tasks)


GOOD = json.dumps(ROWS[0])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "holds a JSON list"),
        ("null", "holds a JSON NoneType"),
        ("{}", "no column 'question'; the columns are none"),
        ('{"question": "x", "number": 1}', "no column 'parts'; the columns are question, number"),
        (
            '{"question": 1, "number": 1, "parts": []}',
            "column 'question' holds 1 (int): expected text",
        ),
        ('{"question": "x", "number": "1", "parts": []}', "expected a whole number"),
        ('{"question": "x", "number": true, "parts": []}', "expected a whole number"),
        ('{"question": "x", "number": 1.5, "parts": []}', "expected a whole number"),
        ('{"question": "x", "number": 1, "parts": "[]"}', "expected a list"),
        ('{"question": null, "number": 1, "parts": []}', "column 'question' holds nothing"),
        ("[" * 100_000, "cannot be read"),
        ('{"question": "x", "number": ' + "9" * 5_000 + "}", "cannot be read"),
    ],
)
def test_a_malformed_jsonl_row_names_file_and_line(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{GOOD}\n\n{line}\n{GOOD}\n")
    with pytest.raises(DataError) as caught:
        tasks_of(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD.encode() + b"\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2: not UTF-8"):
        tasks_of(path)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ("only one", "has 1 cells where the header has 3"),
        ("a,1,[],more", "has 4 cells where the header has 3"),
        ("a,one,[]", "column 'number' holds 'one' (str): expected a whole number"),
        ("a,1,[", "column 'parts' holds '[' (str): expected a list"),
        ('"never closed,1,[]\n', "not CSV"),
    ],
)
def test_a_malformed_csv_row_names_the_line_it_begins_on(
    tmp_path: Path, record: str, problem: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f'question,number,parts\n"a\nb",1,[]\n{record}\n')
    with pytest.raises(DataError) as caught:
        tasks_of(path)
    assert str(caught.value).startswith(f"{path}, line 4: ")
    assert problem in str(caught.value)


def test_a_malformed_parquet_row_names_the_row(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "rows.parquet"
    rows = [ROWS[0], {**ROWS[0], "question": None}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    with pytest.raises(DataError, match=r"rows\.parquet, row 2: column 'question' holds nothing"):
        tasks_of(path)


def test_a_complaint_of_the_environment_is_given_the_line(tmp_path: Path) -> None:
    def refuse(index: int, row: Row) -> Task:
        if index == 1:
            raise DataError("column 'question' is too short")
        return make(index, row)

    rows = load_rows(write_jsonl(tmp_path / "a.jsonl"), "test", PUBLISHED, COLUMNS)
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: column 'question' is too short"):
        rows.tasks(refuse)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
@pytest.mark.parametrize("streaming", [True, False])
def test_an_empty_file_is_an_error(tmp_path: Path, name: str, streaming: bool) -> None:
    (tmp_path / name).write_text("\n" if name == "a.jsonl" else "question,number,parts\n")
    with pytest.raises(DataError, match="holds no rows"):
        tasks_of(tmp_path / name, streaming=streaming)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.jsonl.gz", b"no gzip"),
        ("cut.jsonl.gz", gzip.compress(GOOD.encode() * 50)[:40]),
        ("broken.parquet", b"no parquet"),
        ("empty.parquet", b""),
        ("notes.txt", b"text"),
        ("rows.parquet.gz", b""),
    ],
)
def test_an_unreadable_file_is_one_clear_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        tasks_of(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    ["/nowhere/rows.jsonl", "nowhere/rows.parquet", "rows.csv", "no name", "x" * 5_000, "a\0b"],
    ids=repr,
)
def test_a_missing_file_is_one_clear_line(data: str) -> None:
    with pytest.raises(UserError) as caught:
        tasks_of(data)
    assert "\n" not in str(caught.value)


def test_no_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="data is empty"):
        tasks_of("")


def test_two_rows_of_one_id_are_refused(tmp_path: Path) -> None:
    rows = load_rows(write_jsonl(tmp_path / "a.jsonl"), "test", PUBLISHED, COLUMNS)
    with pytest.raises(DataError, match="two rows have the id 'same'"):
        rows.tasks(lambda index, row: Task(id="same", prompt=""))


def test_a_folder_gives_the_published_file_or_the_one_of_the_split(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", ROWS[:1])
    write_jsonl(tmp_path / "test.jsonl", ROWS[:2])
    assert len(tasks_of(tmp_path)) == 2
    write_jsonl(tmp_path / "set_test.jsonl")
    assert len(tasks_of(tmp_path)) == 3


def test_a_folder_without_the_split_or_with_two_of_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no set_test\.jsonl.*found: none"):
        tasks_of(tmp_path)
    write_jsonl(tmp_path / "test.jsonl")
    write_csv(tmp_path / "test.csv")
    with pytest.raises(DataError, match=r"found: test\.csv, test\.jsonl"):
        tasks_of(tmp_path)


def test_without_data_the_published_file_of_rlvr_data_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(tmp_path / "set_test.jsonl")
    monkeypatch.setenv("RLVR_DATA", str(tmp_path))
    assert len(list(load_rows(None, "test", PUBLISHED, COLUMNS))) == len(ROWS)


def asked_of_the_hub(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> str:
    asked: list[Any] = []
    monkeypatch.setattr(
        data_module, "read_hub", lambda *args, **more: asked.append(args) or iter([])
    )
    list(rows)
    name, config, split = asked[0]
    return f"{name}:{config} {split}"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, "somebody/set:main train"),
        ("somebody/set", "somebody/set:main train"),
        ("somebody/set:other", "somebody/set:other train"),
        ("another/set", "another/set:None train"),
    ],
)
def test_other_names_are_looked_for_on_the_hub(
    data: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLVR_DATA", str(tmp_path))
    rows = load_rows(data, "train", PUBLISHED, COLUMNS)
    assert asked_of_the_hub(rows, monkeypatch) == expected


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **more: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.mark.usefixtures("no_network")
def test_an_unreachable_hub_is_one_clear_line_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        tasks_of("somebody/set")
    assert "Hub cannot be reached" in str(caught.value)
    assert "data=FILE" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 15


@pytest.mark.usefixtures("no_network")
def test_local_files_need_no_network_and_leave_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    assert len(tasks_of(write_parquet(tmp_path / "a.parquet"))) == len(ROWS)
    assert len(tasks_of(write_jsonl(tmp_path / "a.jsonl"))) == len(ROWS)
    assert not (tmp_path / "cache").exists()


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet")
    assert tasks_of(path)[0].answer[0] == 1
    ROWS[0]["number"] = 10
    try:
        write_parquet(path)
    finally:
        ROWS[0]["number"] = 1
    assert tasks_of(path)[0].answer[0] == 10


JSON_ROWS = st.lists(
    st.dictionaries(st.text(min_size=1), st.text() | st.integers() | st.none(), min_size=1),
    min_size=1,
    max_size=5,
)


@given(JSON_ROWS)
def test_jsonl_gives_back_what_was_written(rows: list[dict[str, Any]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = write_jsonl(Path(folder) / "a.jsonl", rows)
        assert [row for _, row in read_file(path)] == rows


@given(st.binary(max_size=200))
def test_no_bytes_make_a_reader_fail_otherwise_than_by_a_data_error(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.jsonl", "a.csv", "a.jsonl.gz", "a.csv.gz"):
            path = Path(folder) / name
            path.write_bytes(content)
            try:
                list(read_file(path))
            except DataError as error:
                assert str(path) in str(error)
