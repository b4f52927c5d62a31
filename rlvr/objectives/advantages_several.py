"""Advantages from several rewards of each rollout, normalised one by one before they are summed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from rlvr.objectives.advantages import Over, group_relative, normalise_over_batch
from rlvr.objectives.groups import GroupStatistics, RewardGroups


def gdpo(
    groups: RewardGroups,
    *,
    weights: Sequence[float] | None = None,
    scale: Literal["group", "none"] = "group",
    over: Over | Literal["none"] = "sequences",
    eps: float = 1e-6,
) -> Tensor:
    """GDPO: each reward normalised in its group, then the weighted sum, normalised over the batch.

    Liu et al. 2026, arXiv:2601.05242: summed first, a reward of small spread would be lost beside
    one of large spread, and different combinations of rewards would get equal advantages.

    Args:
        groups: `parts`, `part_weights` and group ids; lengths where `over` is `"tokens"`. `rewards`
            is not read.
        weights: one for each part; those of `groups` if not given.
        scale: whether each part is divided by its std in the group.
        over: what the batch's mean and std are taken over: `"sequences"` (TRL, with `eps=1e-4`),
            `"tokens"` (verl), or `"none"`, which leaves the weighted sum.
        eps: added to each std.

    Returns:
        `[G]` float32; exactly 0 for a group in which every part is equal (but over tokens, where
        the mean over the batch is subtracted: see `reinforce_plus_plus_baseline`).

    Raises:
        ValueError: parts or lengths are missing, or there are not as many weights as parts.
    """
    parts = groups.needed("parts", "gdpo")
    if weights is None:
        given = groups.part_weights
        weights = [1.0] * parts.shape[1] if given is None else given.tolist()
    if len(weights) != parts.shape[1]:
        raise ValueError(
            f"weights has {len(weights)} values: expected {parts.shape[1]}, one a part"
        )
    total = torch.zeros(len(parts), dtype=torch.float64, device=parts.device)
    silent = torch.ones(len(parts), dtype=torch.bool, device=parts.device)
    for part, weight in zip(parts.unbind(1), weights, strict=True):
        stats = GroupStatistics.of(part, groups.group_ids)
        total += weight * group_relative(stats, scale, eps, "zero")
        silent &= stats.equal[stats.index]
    if over == "none":
        return total.to(torch.float32)
    normalised = normalise_over_batch(total, groups, over, eps, "gdpo")
    if over == "sequences":
        normalised = normalised.masked_fill(silent, 0.0)
    whole = GroupStatistics.of(total, torch.zeros_like(groups.group_ids))
    return whole.zero_where_equal(normalised).to(torch.float32)
