"""pass@k and its relatives for one task, as pure functions.

All of them answer the same question: what is to be expected of `k` samples drawn without
replacement from the `n` that were graded? That makes them unbiased estimates of the value for `k`
fresh samples. `n < k` is NaN: there is no such draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that at least one of `k` samples is correct.

    `1 - C(n-c, k) / C(n, k)` (Chen et al. 2021, arXiv:2107.03374, eq. 1), in exact integers.

    Args:
        n: graded samples.
        c: correct ones among them.
        k: samples drawn.
    """
    if not _drawable(n, c, k):
        return math.nan
    total = math.comb(n, k)
    return (total - math.comb(n - c, k)) / total


def pass_hat_k(n: int, c: int, k: int) -> float:
    """The chance that all `k` samples are correct: `C(c, k) / C(n, k)`.

    pass^k of Yao et al. 2024 (tau-bench, arXiv:2406.12045, section 3).
    """
    if not _drawable(n, c, k):
        return math.nan
    return math.comb(c, k) / math.comb(n, k)


def average_at_k(scores: Sequence[float], k: int) -> float:
    """The expected mean score of `k` samples, which is the mean of all, whatever `k`."""
    if not _drawable(len(scores), 0, k):
        return math.nan
    return math.fsum(scores) / len(scores)


def best_at_k(scores: Sequence[float], k: int) -> float:
    """The expected highest score of `k` samples.

    The `i`-th smallest score (from 1) is the highest of `C(i-1, k-1)` of the `C(n, k)` draws. With
    scores of 0 and 1 this is pass@k.
    """
    n = len(scores)
    if not _drawable(n, 0, k):
        return math.nan
    total = math.comb(n, k)
    ordered = enumerate(sorted(scores), start=1)
    return math.fsum(score * (math.comb(i - 1, k - 1) / total) for i, score in ordered)


def majority_at_k(answers: Sequence[str | None], correct: Sequence[bool], k: int) -> float:
    """The chance that the answer which most of `k` samples give is correct; exact, not simulated.

    A sample without an answer (`None`) has no vote; a draw without any vote is wrong. A tie is
    decided by lot among the answers that lead. Where samples with the same answer were judged
    differently, the answer counts for the share judged correct.

    The votes for each answer are independent binomials with success rate `k/n`, given their sum
    (which makes them hypergeometric); the expectation is summed over the leading number of votes.

    Args:
        answers: `[n]` what was extracted from each graded sample.
        correct: `[n]` whether it was judged correct.
        k: samples drawn.

    Returns:
        NaN also where a sample without an answer was judged correct: the verifier then does not
        say what the answers are, and nothing can be voted on.
    """
    n = len(answers)
    if not _drawable(n, sum(correct), k):
        return math.nan
    votes: dict[str, list[bool]] = {}
    for answer, is_correct in zip(answers, correct, strict=True):
        if answer is not None:
            votes.setdefault(answer, []).append(is_correct)
        elif is_correct:
            return math.nan
    classes = sorted((len(judged), sum(judged) / len(judged)) for judged in votes.values())
    silent = n - sum(size for size, _ in classes)
    return _majority(tuple(classes), silent, k)


@lru_cache(maxsize=65536)
def _majority(classes: tuple[tuple[int, float], ...], silent: int, k: int) -> float:
    """The expected value of the winner's score.

    Args:
        classes: (size, score) of every answer that was given.
        silent: samples without an answer.
        k: samples drawn.
    """
    n = silent + sum(size for size, _ in classes)
    if all(score == 0 for _, score in classes):
        return 0.0
    if silent == 0 and all(score == 1 for _, score in classes):
        return 1.0
    rate = k / n
    expected = 0.0
    for lead in range(1, min(k, max(size for size, _ in classes)) + 1):
        ties = k // lead + 1
        # weight[d, t]: chance of d votes so far with t answers on `lead` votes and none above it.
        # score[d, t]: the same, times the summed scores of those t answers.
        weight = np.zeros((k + 1, ties + 1))
        # Answers too rare to lead are free, as silence is: their votes are one binomial together.
        free = silent + sum(size for size, _ in classes if size < lead)
        weight[: free + 1, 0] = _binomial(free, rate)[: k + 1]
        score = np.zeros_like(weight)
        for size, value in (item for item in classes if item[0] >= lead):
            chance = _binomial(size, rate)
            new_weight, new_score = np.zeros_like(weight), np.zeros_like(score)
            for count in range(lead):
                new_weight[count:] += chance[count] * weight[: k + 1 - count]
                new_score[count:] += chance[count] * score[: k + 1 - count]
            here, there = slice(lead, None), slice(None, k + 1 - lead)
            new_weight[here, 1:] += chance[lead] * weight[there, :-1]
            new_score[here, 1:] += chance[lead] * (score[there, :-1] + value * weight[there, :-1])
            weight, score = new_weight, new_score
        expected += float(np.sum(score[k, 1:] / np.arange(1, ties + 1)))
    return min(1.0, expected / float(_binomial(n, rate)[k]))


@lru_cache(maxsize=4096)
def _binomial(size: int, rate: float) -> np.ndarray:
    """`[size + 1]` float64: the chances of 0, 1, ..., `size` successes."""
    from scipy.stats import binom

    chances: np.ndarray = binom.pmf(np.arange(size + 1), size, rate)
    return chances


def _drawable(n: int, c: int, k: int) -> bool:
    """Whether `k` of `n` samples can be drawn."""
    if k < 1 or not 0 <= c <= n:
        raise ValueError(f"n={n}, c={c}, k={k}: expected 0 <= c <= n and k >= 1")
    return n >= k
