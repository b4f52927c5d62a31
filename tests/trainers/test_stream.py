"""The data stream: every item once an epoch, and any position can be gone back to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.errors import DataError
from rlvr.trainers.stream import Stream


class Streamed:
    """An iterable that is no sequence, as streamed data is."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self):
        return iter(range(self.size))


@given(st.integers(1, 20), st.integers(0, 5))
def test_every_item_comes_once_an_epoch(size: int, seed: int) -> None:
    stream = Stream(list(range(size)), seed)
    for _ in range(3):
        assert sorted(stream.take(size)) == list(range(size))


@given(st.integers(1, 20), st.integers(0, 50), st.integers(1, 30), st.booleans())
def test_seeking_gives_what_would_have_come(
    size: int, position: int, count: int, streamed: bool
) -> None:
    items = Streamed(size) if streamed else list(range(size))
    straight = Stream(items, 3)
    straight.take(position)
    again = Stream(items, 3)
    again.seek(position)
    assert again.take(count) == straight.take(count)
    assert again.position == straight.position == position + count


def test_epochs_and_seeds_differ_in_order() -> None:
    stream = Stream(list(range(30)), 0)
    first, second = stream.take(30), stream.take(30)
    assert first != second
    assert Stream(list(range(30)), 1).take(30) != first


def test_empty_data_is_an_error() -> None:
    with pytest.raises(DataError, match="empty"):
        Stream([], 0)
    with pytest.raises(DataError, match="empty"):
        Stream(Streamed(0), 0).take(1)
