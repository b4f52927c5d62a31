"""An endless, seeded stream of items whose position is one number: a resume misses nothing."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from rlvr.errors import DataError
from rlvr.seeds import derive_seed

T = TypeVar("T")


class Stream(Generic[T]):
    """Items epoch after epoch, each epoch in an order of its own.

    A `Sequence` is shuffled anew in every epoch; another iterable (streamed data) is read in its
    own order, and begun again at its end. `position` counts the items given out so far.

    Args:
        items: what to give out.
        seed: of the orders.

    Raises:
        DataError: there are no items.
    """

    def __init__(self, items: Iterable[T], seed: int) -> None:
        self._items = items
        self._seed = seed
        self.position = 0
        self._order: list[int] = []
        self._epoch = -1
        self._iterator: Iterator[T] | None = None
        if isinstance(items, Sequence) and not items:
            raise DataError("there is nothing to train on: the data is empty")

    def take(self, count: int) -> list[T]:
        """The next `count` items."""
        if isinstance(self._items, Sequence):
            return [self._from_sequence(self._items) for _ in range(count)]
        return [self._from_iterator() for _ in range(count)]

    def seek(self, position: int) -> None:
        """Go to a position that was read off `position` earlier."""
        if isinstance(self._items, Sequence):
            self.position = position
            return
        self._iterator, self.position = None, 0
        while self.position < position:
            self._from_iterator()

    def _from_sequence(self, items: Sequence[T]) -> T:
        epoch, index = divmod(self.position, len(items))
        if epoch != self._epoch:
            self._order = list(range(len(items)))
            random.Random(derive_seed(self._seed, "epoch", epoch)).shuffle(self._order)
            self._epoch = epoch
        self.position += 1
        return items[self._order[index]]

    def _from_iterator(self) -> T:
        if self._iterator is None:
            self._iterator = iter(self._items)
        try:
            item = next(self._iterator)
        except StopIteration:
            self._iterator = iter(self._items)
            try:
                item = next(self._iterator)
            except StopIteration:
                raise DataError("there is nothing to train on: the data is empty") from None
        self.position += 1
        return item
