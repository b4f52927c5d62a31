"""Advantages from the rewards of groups, and the length penalty that shapes those rewards.

All functions map a value for each rollout to a value for each rollout: `[G]` in, `[G]` out, in the
same order. Rollouts without a reward (the verifier failed) are left out by the caller beforehand.

A group whose rewards are equal up to float noise has advantage exactly 0, so that it can be
recognised by `advantages == 0` and never trains on amplified rounding errors. Equal means
`max - min <= tolerance * max(1, max|r|)` with tolerance 1e-9 for float64 and 5e-7 for float32.
A group of one has nothing to be compared with: 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlvr.objectives.checks import PRECISE, require_ids

Scale = Literal["group", "batch", "none"]

_EQUAL_TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-7}


def group_advantages(
    rewards: Tensor, group_ids: Tensor, *, scale: Scale = "group", eps: float = 1e-6
) -> Tensor:
    """GRPO: `(r - mean of group) / (std + eps)`.

    Args:
        rewards: `[G]` float64, float32 or integer, finite.
        group_ids: `[G]` int64; rollouts of one task share an id; ids may be any integers.
        scale: which std divides: of the `"group"` (Shao et al. 2024, arXiv:2402.03300, 4.1.2), of
            the `"batch"` of all G rewards, or `"none"` (Dr. GRPO, Liu et al. 2025,
            arXiv:2503.20783). The std is the unbiased one (n - 1).
        eps: added to the std, in units of reward.

    Returns:
        `[G]` float32; computed in float64.

    Raises:
        ValueError: a shape or dtype is wrong, a reward is not finite, or `scale` is unknown.
    """
    groups = _Groups.of(rewards, group_ids)
    if scale == "none":
        advantages = groups.centred
    elif scale == "group":
        variance = groups.sums(groups.centred.square()) / (groups.counts - 1).clamp(min=1)
        advantages = groups.centred / (variance.sqrt()[groups.index] + eps)
    elif scale == "batch":
        # The std of a single reward is undefined; that reward is a group of one, hence 0 anyway.
        std = groups.rewards.std() if len(groups.rewards) > 1 else 0.0
        advantages = groups.centred / (std + eps)
    else:
        raise ValueError(f"scale is {scale!r}: expected 'group', 'batch' or 'none'")
    return groups.zero_where_equal(advantages)


def leave_one_out_advantages(rewards: Tensor, group_ids: Tensor) -> Tensor:
    """RLOO: the reward minus the mean reward of the others of its group.

    Kool et al. 2019; Ahmadian et al. 2024, arXiv:2402.14740, section 2. It equals
    `n / (n - 1) * (r - mean)`, which is how it is computed.

    Args:
        rewards: `[G]` float64, float32 or integer, finite.
        group_ids: `[G]` int64.

    Returns:
        `[G]` float32; computed in float64. A group of one has no baseline and gets 0.

    Raises:
        ValueError: a shape or dtype is wrong, or a reward is not finite.
    """
    groups = _Groups.of(rewards, group_ids)
    factor = groups.counts / (groups.counts - 1).clamp(min=1)
    return groups.zero_where_equal(groups.centred * factor[groups.index])


def soft_overlong_penalty(
    lengths: Tensor, *, max_length: int, buffer: int, penalty: float = 1.0
) -> Tensor:
    """Soft overlong punishment: a term to add to the reward of long completions.

    Yu et al. 2025 (DAPO), arXiv:2503.14476, eq. 13: 0 up to `max_length - buffer`, then linear
    down to `-penalty` at `max_length`, and `-penalty` beyond.

    Args:
        lengths: `[G]` completion lengths in tokens.
        max_length: in tokens.
        buffer: width of the linear part, in tokens: `1 <= buffer <= max_length`.
        penalty: in units of reward, at least 0.

    Returns:
        `[G]` float64, in `[-penalty, 0]`.

    Raises:
        ValueError: `buffer` or `penalty` is out of range.
    """
    if not 1 <= buffer <= max_length:
        raise ValueError(f"buffer is {buffer}: expected 1 to max_length ({max_length}) tokens")
    if penalty < 0:
        raise ValueError(f"penalty is {penalty}: expected at least 0 (it is subtracted)")
    excess = lengths.to(torch.float64) - (max_length - buffer)
    return -penalty * (excess / buffer).clamp(0.0, 1.0)


@dataclass(frozen=True)
class _Groups:
    """Rewards by group: `rewards`, `index`, `centred` `[G]`; `counts`, `equal` one a group."""

    rewards: Tensor
    index: Tensor
    counts: Tensor
    centred: Tensor
    equal: Tensor

    @classmethod
    def of(cls, rewards: Tensor, group_ids: Tensor) -> _Groups:
        """Check the input and take the statistics that every estimator needs, in float64."""
        tolerance = _checked_tolerance(rewards, group_ids)
        values = rewards.detach().to(torch.float64)
        _, index, counts = torch.unique(group_ids, return_inverse=True, return_counts=True)
        zeros = values.new_zeros(len(counts))
        means = zeros.index_add(0, index, values) / counts
        lowest = zeros.scatter_reduce(0, index, values, "amin", include_self=False)
        highest = zeros.scatter_reduce(0, index, values, "amax", include_self=False)
        size = torch.maximum(lowest.abs(), highest.abs()).clamp(min=1.0)
        equal = (highest - lowest) <= tolerance * size
        return cls(values, index, counts, values - means[index], equal)

    def sums(self, values: Tensor) -> Tensor:
        """The sum of `values` `[G]` over each group."""
        return values.new_zeros(len(self.counts)).index_add(0, self.index, values)

    def zero_where_equal(self, advantages: Tensor) -> Tensor:
        """Exact zeros for groups without a signal; float32."""
        return advantages.masked_fill(self.equal[self.index], 0.0).to(torch.float32)


def _checked_tolerance(rewards: Tensor, group_ids: Tensor) -> float:
    exact = not rewards.dtype.is_floating_point
    if rewards.dim() != 1 or not (exact or rewards.dtype in PRECISE):
        raise ValueError(
            f"rewards is {rewards.dtype} of shape {list(rewards.shape)}: "
            "expected 1-D, float64, float32 or integer"
        )
    require_ids("group_ids", group_ids, rewards)
    bad = torch.nonzero(~torch.isfinite(rewards))
    if len(bad):
        where = int(bad[0])
        raise ValueError(
            f"rewards[{where}] is {float(rewards[where])}: expected finite rewards "
            "(leave out the rollouts that have none)"
        )
    return 0.0 if exact else _EQUAL_TOLERANCE[rewards.dtype]
