"""Advantages that train for the best of k attempts instead of the mean of one.

With groups of n rollouts and rewards r (0 and 1 for pass@k; any numbers for the maximum of k), a
subset of k rollouts has the value max r. The three estimators differ in the baseline:

    pass-at-k        without a rollout: the max over the other k - 1 of the subset
    pass-at-k-group  the mean over all subsets (Chen et al.), over their std
    max-gap          pass-at-k with k = n, divided by n (Tang et al.; verl's `grpo_passk`)

What each is an unbiased estimate of is in docs/objectives.md.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlvr.objectives.advantages import leave_one_out
from rlvr.objectives.groups import GroupStatistics, RewardGroups


def pass_at_k(groups: RewardGroups, *, k: int) -> Tensor:
    """Unbiased for the gradient of E[max of k rewards], which is pass@k for rewards of 0 and 1.

    Walder and Karkhanis 2025 (PKPO), arXiv:2505.15201, with their leave-one-out baseline: the sum
    over the subsets of k that hold rollout i of `max(subset) - max(subset without i)`, times
    `n / C(n, k)`, so that the mean over the group of advantage times score is the estimate. With
    `k=1` it is leave-one-out.

    Args:
        groups: rewards and group ids.
        k: attempts, at least 1 and at most the size of each group of more than one.

    Returns:
        `[G]` float32, never negative for k above 1; 0 for a group of one.

    Raises:
        ValueError: k is out of range for a group.
    """
    if k == 1:
        return leave_one_out(groups)
    stats = groups.statistics()
    _require_k(stats, k)
    result = torch.zeros_like(stats.values)
    for members in _members(stats):
        values, order = stats.values[members].sort()
        # The subsets whose others are led by the m-th smallest number C(m - 1, k - 2).
        weights = _choose_table(len(members), k - 2, values) * (
            len(members) / math.comb(len(members), k)
        )
        zero = weights.new_zeros(1)
        below = torch.cat([zero, weights.cumsum(0)[:-1]])
        led = torch.cat([zero, (weights * values).cumsum(0)[:-1]])
        result[members[order]] = (below * values - led).clamp(min=0.0)
    return stats.zero_where_equal(result).to(torch.float32)


def pass_at_k_group(
    groups: RewardGroups, *, k: int, scale: bool = True, eps: float = 0.0
) -> Tensor:
    """Pass@k training: each rollout has the mean group-relative advantage of its subsets.

    Chen et al. 2025, arXiv:2508.10751, in closed form over all subsets of k of n
    rollouts, of which w are wrong. With `mean = 1 - C(w, k) / C(n, k)` and
    `std = sqrt(mean (1 - mean))`, right rollouts get `(1 - mean) / std` and wrong ones
    `(1 - mean - C(w - 1, k - 1) / C(n - 1, k - 1)) / std`.

    Args:
        groups: rewards of 0 and 1, and group ids.
        k: attempts, at least 1 and at most the size of each group of more than one.
        scale: whether the std divides.
        eps: added to the std.

    Returns:
        `[G]` float32; 0 for a group of one, and where no subset of k is wrong (w < k).

    Raises:
        ValueError: k is out of range for a group, or a reward is not 0 or 1.
    """
    stats = groups.statistics()
    _require_k(stats, k)
    right = stats.values == 1.0
    if not bool((right | (stats.values == 0.0)).all()):
        raise ValueError("pass-at-k-group counts right and wrong: expected rewards of 0 and 1")
    result = torch.zeros_like(stats.values)
    for members in _members(stats):
        n = len(members)
        wrong = n - int(right[members].sum())
        failing = math.comb(wrong, k) / math.comb(n, k)
        if failing in (0.0, 1.0):
            continue
        with_wrong = math.comb(wrong - 1, k - 1) / math.comb(n - 1, k - 1)
        divisor = math.sqrt(failing * (1.0 - failing)) + eps if scale else 1.0
        of_right, of_wrong = failing / divisor, (failing - with_wrong) / divisor
        share = right[members].to(torch.float64)
        result[members] = share * of_right + (1.0 - share) * of_wrong
    return result.to(torch.float32)


def max_gap(groups: RewardGroups, *, scale: bool = True, eps: float = 1e-6) -> Tensor:
    """The best rollout of a group gets its lead over the second best; the others 0.

    Tang et al. 2025, arXiv:2503.19595: leave-one-out for E[max of the group]; verl's `grpo_passk`,
    which divides by the std as well.

    Args:
        groups: rewards and group ids.
        scale: whether to divide by the group's std.
        eps: added to the std.

    Returns:
        `[G]` float32; 0 for a group of one (verl refuses those).
    """
    stats = groups.statistics()
    result = torch.zeros_like(stats.values)
    for members in _members(stats):
        best, places = stats.values[members].topk(2)
        result[members[places[0]]] = best[0] - best[1]
    if scale:
        result = result / (stats.stds()[stats.index] + eps).clamp(
            min=torch.finfo(torch.float64).tiny
        )
    return stats.zero_where_equal(result).to(torch.float32)


def _members(stats: GroupStatistics) -> list[Tensor]:
    """The places of the rollouts of each group that has a signal."""
    order = stats.index.argsort(stable=True)
    split = order.split(stats.counts.tolist())
    return [part for part, equal in zip(split, stats.equal.tolist(), strict=True) if not equal]


def _choose_table(n: int, k: int, like: Tensor) -> Tensor:
    """`C(m, k)` for m = 0 .. n - 1."""
    return like.new_tensor([float(math.comb(m, k)) for m in range(n)])


def _require_k(stats: GroupStatistics, k: int) -> None:
    several = stats.counts[stats.counts > 1]
    smallest = int(several.min()) if len(several) else k
    if not 1 <= k <= smallest:
        raise ValueError(
            f"k is {k}: expected 1 to the size of each group (the smallest has {smallest})"
        )
