"""Drawing one token a row from logits: temperature, top-k, top-p, and a seed for each row.

A row's draw is a function of its logits, its own seed and the step alone: neither the global random
state nor the other rows of the batch enter into it. The log-probabilities are those of the
distribution that the token was drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlvr.types import SamplingParams

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SCRATCH = 1 << 24  # elements of logits that are worked on at a time: bounds the float64 scratch


def seed_array(seeds: Sequence[int]) -> NDArray[np.uint64]:
    """Python integers of any size, taken modulo 2**64."""
    return np.array([seed & 0xFFFFFFFFFFFFFFFF for seed in seeds], dtype=np.uint64)


def uniforms(seeds: NDArray[np.uint64], step: int) -> NDArray[np.float64]:
    """The `step`-th number of each seed's own stream, uniform in [0, 1) with 52 random bits.

    SplitMix64 (Steele, Lea and Flood, 2014), started at a scrambled seed so that neighbouring seeds
    do not walk the same sequence one step apart.

    Args:
        seeds: `[B]`.
        step: counted from 0.

    Returns:
        `[B]` float64.
    """
    offset = np.uint64((step + 1) * int(_GAMMA) & 0xFFFFFFFFFFFFFFFF)
    bits = _scramble(_scramble(seeds) + offset)
    return (bits >> np.uint64(12)).astype(np.float64) * 2.0**-52


def _scramble(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))


def draw(
    logits: Tensor, params: SamplingParams, uniform: NDArray[np.float64]
) -> tuple[Tensor, Tensor]:
    """Draw one token a row by inverting the cumulative distribution.

    Args:
        logits: `[B, V]` of any float dtype.
        params: temperature 0 takes the likeliest token, and its log-probability is then that of the
            untempered, untruncated distribution, as vLLM reports it.
        uniform: `[B]`, one number in [0, 1) a row.

    Returns:
        Tokens `[B]` int64 and their log-probabilities `[B]` float32, in nats; NaN where the logits
        hold a NaN.
    """
    rows = max(1, _SCRATCH // logits.shape[-1])
    numbers = torch.from_numpy(uniform).to(logits.device)
    parts = [
        _draw_some(logits[start : start + rows], params, numbers[start : start + rows])
        for start in range(0, len(logits), rows)
    ]
    if len(parts) == 1:
        return parts[0]
    return torch.cat([tokens for tokens, _ in parts]), torch.cat([logps for _, logps in parts])


def _draw_some(logits: Tensor, params: SamplingParams, numbers: Tensor) -> tuple[Tensor, Tensor]:
    scores = logits.float()
    if params.temperature == 0:
        logprobs = scores.log_softmax(dim=-1)
        tokens = scores.argmax(dim=-1)
    else:
        scores = truncate(scores / params.temperature, top_k=params.top_k, top_p=params.top_p)
        logprobs = scores.log_softmax(dim=-1)
        # A token of probability 0 adds nothing to the sum, so that `right=True` steps over it.
        cumulative = logprobs.exp().cumsum(dim=-1, dtype=torch.float64)
        targets = (numbers * cumulative[:, -1]).unsqueeze(-1)
        tokens = torch.searchsorted(cumulative, targets, right=True).squeeze(-1)
        tokens = tokens.clamp(max=logits.shape[-1] - 1)  # NaN sorts after everything
    return tokens, logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def truncate(scores: Tensor, *, top_k: int, top_p: float) -> Tensor:
    """Put -inf where top-k, then top-p, leaves a token out.

    Args:
        scores: `[B, V]` tempered logits.
        top_k: keep the k likeliest (all that tie with the k-th); 0 keeps all.
        top_p: keep the fewest likeliest tokens whose mass reaches this; 1 keeps all. The likeliest
            token always stays.
    """
    if 0 < top_k < scores.shape[-1]:
        kth = scores.topk(top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < kth, -torch.inf)
    if top_p < 1.0:
        ordered, order = scores.sort(dim=-1, descending=True, stable=True)
        probabilities = ordered.softmax(dim=-1)
        mass_before = probabilities.cumsum(dim=-1) - probabilities
        dropped = mass_before >= top_p
        dropped[:, 0] = False
        scores = scores.masked_fill(
            torch.zeros_like(dropped).scatter(-1, order, dropped), -torch.inf
        )
    return scores
