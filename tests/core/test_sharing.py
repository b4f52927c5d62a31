"""Sequences dealt to processes: all of them, once, evenly, with as many passes everywhere."""

from __future__ import annotations

import pytest
import torch

from rlvr.batch import Batch, Example
from rlvr.distributed import World
from rlvr.sharing import deal, parts_here


def batch(lengths: list[int], untrained: frozenset[int] = frozenset()) -> Batch:
    return Batch.pack(
        [
            Example(
                prompt_ids=(1, 2, i % 3 + 3),
                completion_ids=tuple(range(length)),
                trained=i not in untrained,
            )
            for i, length in enumerate(lengths)
        ]
    )


RAGGED = [1, 30, 2, 7, 7, 15, 3, 22, 9, 1, 4, 18]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("lengths", [RAGGED, [5], [4, 4]])
def test_every_trained_sequence_is_dealt_once_and_evenly(lengths: list[int], size: int) -> None:
    whole = batch(lengths)
    shares = deal(whole, 40, size)
    assert sorted(i for share in shares for i in share) == list(range(len(lengths)))
    tokens = [sum(int(whole.lengths[i]) for i in share) for share in shares]
    assert max(tokens) - min(tokens) <= 2 * int(whole.lengths.max())


def test_sequences_without_a_trained_token_are_nobodys() -> None:
    shares = deal(batch(RAGGED, frozenset({1, 4})), 40, 2)
    assert sorted(i for share in shares for i in share) == [0, 2, 3, 5, 6, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("lengths", [RAGGED, [5]])
@pytest.mark.parametrize("budget", [1, 33, 10_000])
def test_sharded_processes_make_as_many_passes(
    lengths: list[int], budget: int, sharded: bool
) -> None:
    whole = batch(lengths)
    worlds = [World(rank=rank, size=3, sharded=sharded) for rank in range(3)]
    passes = [list(parts_here(whole, budget, world)) for world in worlds]
    counted = [i for here in passes for part, counts in here if counts for i in part]
    assert sorted(counted) == list(range(len(lengths)))
    if sharded:
        assert len({len(here) for here in passes}) == 1
        assert all(part for here in passes for part, _ in here)
    else:
        assert all(counts for here in passes for _, counts in here)


def test_one_process_makes_the_passes_that_it_always_made() -> None:
    whole = batch(RAGGED)
    found = [part for part, counts in parts_here(whole, 33, World()) if counts]
    assert found == list(whole.parts(33))
    assert torch.equal(whole.select(found[0]).lengths, whole.lengths[torch.tensor(found[0])])
