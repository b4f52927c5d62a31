"""Which process trains on which sequences of a batch that all of them hold.

Every process knows the whole batch, so that each works out, without asking, what the others do: the
totals that losses divide by, and how many forward passes there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from rlvr.batch import Batch
from rlvr.distributed import World


def parts_here(batch: Batch, max_tokens: int, world: World) -> Iterator[tuple[list[int], bool]]:
    """The micro-batches of this process, as sequences of `batch`.

    With sharded weights every forward and backward pass is an exchange, so that all processes make
    as many: one that has fewer micro-batches (none, maybe) makes up for it with a sequence that
    does not count.

    Args:
        batch: the same on every process, with at least one trained token.
        max_tokens: of a micro-batch, as for `Batch.parts`.
        world: the processes.

    Yields:
        The sequences, and whether they count.
    """
    if world.size == 1:
        for part in batch.parts(max_tokens):
            yield part, True
        return
    shares = deal(batch, max_tokens, world.size)
    own = _parts(batch, shares[world.rank], max_tokens)
    for part in own:
        yield part, True
    if world.sharded:
        most = max(len(_parts(batch, share, max_tokens)) for share in shares)
        lengths = batch.lengths.tolist()
        shortest = min((i for share in shares for i in share), key=lambda i: (lengths[i], i))
        for _ in range(most - len(own)):
            yield [shortest], False


def deal(batch: Batch, max_tokens: int, size: int) -> list[list[int]]:
    """The sequences with a trained token, dealt to `size` processes.

    Each gets neighbours in the order in which micro-batches take them (so that what is computed
    once for several sequences stays together), and as many tokens as the others have, give or take
    a sequence.
    """
    order = [i for part in batch.parts(max_tokens) for i in part]
    lengths = batch.lengths.tolist()
    total = sum(lengths[i] for i in order)
    shares: list[list[int]] = [[] for _ in range(size)]
    before = 0
    for i in order:
        middle = 2 * before + lengths[i]
        shares[middle * size // (2 * total)].append(i)
        before += lengths[i]
    return shares


def _parts(batch: Batch, share: list[int], max_tokens: int) -> list[list[int]]:
    if not share:
        return []
    return [[share[i] for i in part] for part in batch.select(share).parts(max_tokens)]
