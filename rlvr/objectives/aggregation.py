"""From a value for each token to the scalar that is differentiated.

The denominators are those of the whole optimisation batch (`Totals`), not of the micro-batch at
hand, so the sum of the micro-batch losses is the loss of the batch, gradient included, for every
split into micro-batches, accumulation steps and packings. Across data-parallel processes, `Totals`
are sums over all processes, and gradients are summed too (an average over W processes is undone by
a factor W).

    token-mean               sum_t x_t / T           DAPO (arXiv:2503.14476, eq. 12)
    token-sum                sum_t x_t               verl; for a loss that is normalised already
    seq-mean-token-mean      sum_s mean_t x_st / S   GRPO (arXiv:2402.03300, eq. 3)
    seq-mean-token-sum       sum_t x_t / S           REINFORCE on whole sequences
    seq-mean-token-sum-norm  sum_t x_t / (S L)       Dr. GRPO (arXiv:2503.20783), L constant

T is `totals.tokens`, S `totals.sequences`. A sequence without any trained token adds nothing to the
sum; whether it counts in S is the caller's choice: counted, it dilutes the loss (TRL); not counted,
the mean is over the sequences that train (verl).

Each is one function `(per_token, sequence_ids, totals, normaliser) -> scalar`, registered as
`aggregation/<name>`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rlvr.objectives.checks import PRECISE, require_ids
from rlvr.registry import objectives

Aggregation = Literal[
    "token-mean",
    "token-sum",
    "seq-mean-token-mean",
    "seq-mean-token-sum",
    "seq-mean-token-sum-norm",
]


@dataclass(frozen=True)
class Totals:
    """Counts over the whole optimisation batch: all micro-batches, all processes.

    Attributes:
        tokens: trained completion tokens.
        sequences: the S that sequence means divide by (see the module on empty sequences).
    """

    tokens: int
    sequences: int

    def __post_init__(self) -> None:
        if self.tokens < 0 or self.sequences < 0:
            raise ValueError(f"{self}: expected counts of at least 0")


def aggregate(
    per_token: Tensor,
    sequence_ids: Tensor,
    *,
    how: Aggregation | str,
    totals: Totals,
    normaliser: float | None = None,
) -> Tensor:
    """The share of one micro-batch in the batch's loss, by the registered `aggregation/<how>`.

    Args:
        per_token: `[N]` float32 or float64; gradients flow.
        sequence_ids: `[N]` int64, which sequence of this micro-batch each token belongs to, in any
            order. All trained tokens of a sequence are in one micro-batch: its own length is
            counted here.
        how: an `Aggregation`.
        totals: counts over the whole optimisation batch.
        normaliser: L of `seq-mean-token-sum-norm`, in tokens (usually the longest allowed
            completion); the other ways do not read it.

    Returns:
        A 0-D tensor of `per_token`'s dtype; exactly 0 (and differentiable) where N is 0.

    Raises:
        ValueError: a shape or dtype is wrong, there are more tokens here than `totals` says
            there are in all, or the normaliser is missing.
        UnknownNameError: no aggregation has that name.
    """
    if per_token.dim() != 1 or per_token.dtype not in PRECISE:
        raise ValueError(
            f"per_token is {per_token.dtype} of shape {list(per_token.shape)}: "
            "expected 1-D, float32 or float64"
        )
    require_ids("sequence_ids", sequence_ids, per_token)
    if len(per_token) > totals.tokens:
        raise ValueError(
            f"totals.tokens is {totals.tokens}, but this micro-batch alone has {len(per_token)}: "
            "totals are counted over the whole optimisation batch"
        )
    reduce: Any = objectives.get(f"aggregation/{how}")
    scalar: Tensor = reduce(per_token, sequence_ids, totals, normaliser)
    return scalar


def token_mean(
    per_token: Tensor, sequence_ids: Tensor, totals: Totals, normaliser: float | None
) -> Tensor:
    """Mean over all tokens of the batch: every token weighs the same (DAPO)."""
    return per_token.sum() / max(totals.tokens, 1)


def token_sum(
    per_token: Tensor, sequence_ids: Tensor, totals: Totals, normaliser: float | None
) -> Tensor:
    """Sum over all tokens of the batch: the update grows with the batch."""
    return per_token.sum()


def seq_mean_token_mean(
    per_token: Tensor, sequence_ids: Tensor, totals: Totals, normaliser: float | None
) -> Tensor:
    """Mean over sequences of each one's token mean: every sequence weighs the same (GRPO)."""
    lengths = torch.bincount(sequence_ids).to(per_token.dtype)
    return (per_token / lengths[sequence_ids]).sum() / max(totals.sequences, 1)


def seq_mean_token_sum(
    per_token: Tensor, sequence_ids: Tensor, totals: Totals, normaliser: float | None
) -> Tensor:
    """Mean over sequences of each one's token sum: the policy gradient of whole sequences."""
    return per_token.sum() / max(totals.sequences, 1)


def seq_mean_token_sum_norm(
    per_token: Tensor, sequence_ids: Tensor, totals: Totals, normaliser: float | None
) -> Tensor:
    """Mean over sequences of each one's token sum, over a constant length (Dr. GRPO)."""
    if normaliser is None or not normaliser > 0:
        raise ValueError(
            f"seq-mean-token-sum-norm divides by a constant number of tokens: normaliser is "
            f"{normaliser}, expected above 0 (usually the longest allowed completion)"
        )
    return per_token.sum() / (max(totals.sequences, 1) * normaliser)


def sequence_sums(per_token: Tensor, sequence_ids: Tensor, sequences: int) -> Tensor:
    """The sum over the tokens of each sequence, such as a completion's log-probability.

    Args:
        per_token: `[N]`; gradients flow.
        sequence_ids: `[N]` int64 in 0..sequences-1.
        sequences: how many sequences there are.

    Returns:
        `[sequences]`; 0 for a sequence without tokens.

    Raises:
        ValueError: shape or dtype of the ids is wrong.
    """
    require_ids("sequence_ids", sequence_ids, per_token)
    return per_token.new_zeros(sequences).index_add(0, sequence_ids, per_token)
