"""The formulas of the papers on padded `[B, T]` batches, written for being read, not for speed.

Independent of `rlvr.objectives`, which works on packed tokens: the tests compare the two.
"""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from rlvr.registry import objectives

SETTINGS = {"max_examples": 60, "deadline": None}

# Lengths of the completions of a batch, some of them empty, and a seed for their contents.
lengths = st.lists(st.integers(0, 7), min_size=1, max_size=6)
seeds = st.integers(0, 2**31 - 1)


def built_in(family: str) -> set[str]:
    """The names of a family of objectives that this package ships, without the family."""
    named = {name for name in objectives.names() if name.startswith(f"{family}/")}
    ours = {name for name in named if str(objectives.get(name).__module__).startswith("rlvr.")}
    return {name.partition("/")[2] for name in ours}


def padded(lengths: list[int], seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Random old and new log-probabilities `[B, T]`, advantages `[B]` and the mask `[B, T]`."""
    generator = torch.Generator().manual_seed(seed)
    width = max(max(lengths), 1)
    old = -3.0 * torch.rand(len(lengths), width, generator=generator, dtype=torch.float64)
    noise = torch.randn(old.shape, generator=generator, dtype=torch.float64)
    advantages = torch.randn(len(lengths), generator=generator, dtype=torch.float64)
    return {
        "old": old.to(dtype),
        "new": (old + 0.4 * noise).to(dtype),
        "advantages": advantages.to(dtype),
        "mask": torch.arange(width) < torch.tensor(lengths)[:, None],
    }


def pack(mask: Tensor, values: Tensor) -> Tensor:
    """`[B, T]` or `[B]` to the `[N]` values of the unmasked tokens, row by row."""
    wide = values if values.dim() == 2 else values[:, None].expand(mask.shape)
    return wide[mask.bool()]


def sequence_ids(mask: Tensor) -> Tensor:
    """`[N]`: the row of each unmasked token."""
    return pack(mask, torch.arange(len(mask)))


def clipped_surrogate(
    new: Tensor, old: Tensor, advantages: Tensor, low: float, high: float
) -> Tensor:
    """PPO eq. 7 for each token, negated, with a lower and an upper clip range."""
    ratio = torch.exp(new - old)
    weighted = ratio * advantages[:, None]
    clipped = torch.clamp(ratio, 1 - low, 1 + high) * advantages[:, None]
    return -torch.min(weighted, clipped)


def aggregated(values: Tensor, mask: Tensor, how: str, longest: float) -> Tensor:
    """The five reductions with explicit loops over rows; rows without tokens are not counted."""
    rows = [row[keep.bool()] for row, keep in zip(values, mask, strict=True)]
    rows = [row for row in rows if len(row)]
    if not rows:
        return values.sum() * 0.0
    if how == "token-mean":
        return torch.cat(rows).mean()
    if how == "token-sum":
        return torch.cat(rows).sum()
    if how == "seq-mean-token-mean":
        return torch.stack([row.mean() for row in rows]).mean()
    sums = torch.stack([row.sum() for row in rows])
    return sums.mean() if how == "seq-mean-token-sum" else sums.mean() / longest
