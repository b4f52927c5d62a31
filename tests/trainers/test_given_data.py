"""Given rows: read in every shape, refused by line, split so that no problem is on both sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.errors import ConfigError, DataError
from rlvr.trainers.config import HeldOutConfig
from rlvr.trainers.given_data import Pair, load_demonstrations, load_pairs, split_held_out

USER = {"role": "user", "content": "2+2?"}
FOUR = {"role": "assistant", "content": "4"}
FIVE = {"role": "assistant", "content": "5"}


def load(tmp_path: Path, *rows: Any) -> list[Pair]:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_pairs(str(path), "train")


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected", "expected_prompt"),
    [
        ("2+2?", "4", "5", "2+2?"),
        ([USER], "4", "5", [USER]),
        ([USER], [FOUR], [FIVE], [USER]),
        ([USER], [USER, FOUR], [USER, FIVE], [USER]),
        ("2+2?", [USER, FOUR], [USER, FIVE], [USER]),
    ],
)
def test_texts_messages_and_whole_chats_are_read(
    tmp_path: Path, prompt: Any, chosen: Any, rejected: Any, expected_prompt: Any
) -> None:
    [pair] = load(tmp_path, {"id": 7, "prompt": prompt, "chosen": chosen, "rejected": rejected})
    assert pair == Pair(expected_prompt, "4", "5", "7")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "chosen": "b"}, "no column 'rejected'"),
        ({"prompt": "", "chosen": "b", "rejected": "c"}, "'prompt' is empty"),
        ({"prompt": "a", "chosen": None, "rejected": "c"}, "'chosen' holds nothing"),
        ({"prompt": "a", "chosen": 3, "rejected": "c"}, "'chosen' holds 3"),
        ({"prompt": "a", "chosen": [USER], "rejected": "c"}, "role 'assistant'"),
        ({"prompt": "a", "chosen": [], "rejected": "c"}, "role 'assistant'"),
        ({"prompt": "a", "chosen": ["x"], "rejected": "c"}, "among its messages"),
        ({"prompt": "a", "chosen": [USER, FOUR], "rejected": "c"}, "other messages"),
        ({"prompt": "2+2?", "chosen": [USER, FOUR], "rejected": "5"}, "different messages"),
        ({"id": 1.5, "prompt": "a", "chosen": "b", "rejected": "c"}, "'id' holds 1.5"),
        ([], "expected one object a line"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, row: Any, message: str) -> None:
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, good, row)
    assert "rows.jsonl, line 2" in str(caught.value)


def test_no_rows_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        load(tmp_path)


def test_demonstrations_come_from_the_column_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,best\n2+2?,4\n", encoding="utf-8")
    [row] = load_demonstrations(str(path), "train", "best")
    assert (row.prompt, row.completion, row.id) == ("2+2?", "4", "2+2?")


def pairs(ids: list[tuple[int, int]]) -> list[Pair]:
    return [Pair(f"prompt {p}", "a", "b", f"id {i}") for i, p in ids]


KEYS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=60)
SPLITS = st.one_of(
    st.builds(HeldOutConfig, count=st.integers(1, 10)),
    st.builds(HeldOutConfig, fraction=st.sampled_from([0.1, 0.3, 0.5])),
)


@given(KEYS, SPLITS)
def test_no_id_and_no_prompt_is_on_both_sides(
    ids: list[tuple[int, int]], settings: HeldOutConfig
) -> None:
    rows = pairs(ids)
    try:
        train, held_out = split_held_out(rows, settings)
    except ConfigError:
        return
    assert sorted(map(repr, train + held_out)) == sorted(map(repr, rows))
    assert not {row.id for row in train} & {row.id for row in held_out}
    assert not {row.prompt for row in train} & {row.prompt for row in held_out}


@given(KEYS, SPLITS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_decides_nothing(
    ids: list[tuple[int, int]], settings: HeldOutConfig, draw: Any
) -> None:
    rows = pairs(ids)
    shuffled = draw.sample(rows, len(rows))
    try:
        _, held_out = split_held_out(rows, settings)
    except ConfigError:
        return
    assert {row.id for row in split_held_out(shuffled, settings)[1]} == {r.id for r in held_out}


def test_of_unique_ids_exactly_as_many_are_held_out_as_were_asked_for() -> None:
    rows = pairs([(i, i) for i in range(731)])
    train, held_out = split_held_out(rows, HeldOutConfig(count=100))
    assert (len(train), len(held_out)) == (631, 100)


def test_with_a_fraction_rows_added_later_move_no_other() -> None:
    settings = HeldOutConfig(fraction=0.2)
    before = split_held_out(pairs([(i, i) for i in range(100)]), settings)[1]
    after = split_held_out(pairs([(i, i) for i in range(1000)]), settings)[1]
    assert set(before) <= set(after)
    assert len(after) == pytest.approx(200, abs=50)


def test_the_prompt_stands_in_for_an_id(tmp_path: Path) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    first, second = load(tmp_path, row, {**row, "chosen": "d"})
    assert first.id == second.id == "a"


def test_a_split_that_leaves_a_side_empty_is_refused() -> None:
    rows = pairs([(1, 1), (1, 2), (2, 2)])  # one problem, by id and by prompt
    with pytest.raises(ConfigError, match="leaves 0 of 3 rows to train on"):
        split_held_out(rows, HeldOutConfig(count=1))


def test_the_real_pairs_split_into_631_and_100(data_folder: Path) -> None:
    rows = load_pairs(str(data_folder / "gsm8k_preferences.jsonl"), "train")
    train, held_out = split_held_out(rows, HeldOutConfig(count=100))
    assert (len(train), len(held_out)) == (631, 100)
    assert not {row.prompt for row in train} & {row.prompt for row in held_out}
