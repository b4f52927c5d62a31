"""Rewards of a batch of rollouts by group, and the statistics that advantages are made from.

A group whose rewards are equal up to float noise is recognised here, once for all estimators. Equal
means `max - min <= tolerance * max(1, max|r|)`, with tolerance 1e-9 for float64, 5e-7 for float32
and 0 for integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlvr.objectives.checks import PRECISE, require_ids

_EQUAL_TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-7}


@dataclass(frozen=True, kw_only=True)
class RewardGroups:
    """What outcome-level advantages are made from: one entry a rollout, in any order.

    It holds the rollouts of the whole optimisation batch, over all processes, because some
    estimators normalise over the batch. Rollouts without a reward (the verifier failed) are left
    out beforehand.

    Attributes:
        rewards: `[G]` float64 (float32 and integers are taken too), finite.
        group_ids: `[G]` int64; rollouts of one task share an id; ids may be any integers.
        lengths: `[G]` int64, trained tokens of each rollout; for `opo` and for normalising over
            tokens.
        baseline: `[G]` float, what `remax` subtracts: the reward of the greedy rollout of the task.
        parts: `[G, R]` float, the rewards that `gdpo` normalises one by one.
        part_weights: `[R]` float, what `gdpo` multiplies them by afterwards; 1 each if not given.

    Raises:
        ValueError: a shape or dtype is wrong, or a value is not finite.
    """

    rewards: Tensor
    group_ids: Tensor
    lengths: Tensor | None = None
    baseline: Tensor | None = None
    parts: Tensor | None = None
    part_weights: Tensor | None = None

    def __post_init__(self) -> None:
        _require_finite("rewards", self.rewards)
        require_ids("group_ids", self.group_ids, self.rewards)
        if self.lengths is not None:
            require_ids("lengths", self.lengths, self.rewards)
            if len(self.lengths) and int(self.lengths.min()) < 0:
                raise ValueError(f"lengths has {int(self.lengths.min())}: expected at least 0")
        if self.baseline is not None:
            _require_finite("baseline", self.baseline)
            _require_rows("baseline", self.baseline, self.rewards)
        if self.parts is not None:
            _require_finite("parts", self.parts, dims=2)
            _require_rows("parts", self.parts, self.rewards)
        if self.part_weights is not None:
            _require_finite("part_weights", self.part_weights)
            if self.parts is None or self.parts.shape[1] != len(self.part_weights):
                raise ValueError(
                    f"part_weights has {len(self.part_weights)} values: expected one a column of "
                    "parts"
                )

    def statistics(self) -> GroupStatistics:
        """The statistics of the rewards by group."""
        return GroupStatistics.of(self.rewards, self.group_ids)

    def needed(self, field: str, who: str) -> Tensor:
        """The optional field of that name.

        Raises:
            ValueError: it was not given; the message says that `who` needs it.
        """
        value = getattr(self, field)
        if not isinstance(value, Tensor):
            raise ValueError(f"{who} needs RewardGroups.{field}, which was not given")
        return value


@dataclass(frozen=True)
class GroupStatistics:
    """Values by group, in float64.

    Attributes:
        values: `[G]`.
        index: `[G]`, the group of each value, 0 to the number of groups - 1.
        counts: how many values each group has.
        centred: `[G]`, value minus the mean of its group.
        lowest: the least value of each group.
        highest: the greatest value of each group.
        equal: whether the values of a group are equal up to float noise; true for a group of one.
    """

    values: Tensor
    index: Tensor
    counts: Tensor
    centred: Tensor
    lowest: Tensor
    highest: Tensor
    equal: Tensor

    @classmethod
    def of(cls, values: Tensor, group_ids: Tensor) -> GroupStatistics:
        """Take the statistics of checked values."""
        tolerance = _EQUAL_TOLERANCE.get(values.dtype, 0.0)
        values = values.detach().to(torch.float64)
        _, index, counts = torch.unique(group_ids, return_inverse=True, return_counts=True)
        zeros = values.new_zeros(len(counts))
        means = zeros.index_add(0, index, values) / counts
        lowest = zeros.scatter_reduce(0, index, values, "amin", include_self=False)
        highest = zeros.scatter_reduce(0, index, values, "amax", include_self=False)
        size = torch.maximum(lowest.abs(), highest.abs()).clamp(min=1.0)
        equal = (highest - lowest) <= tolerance * size
        return cls(values, index, counts, values - means[index], lowest, highest, equal)

    def sums(self, values: Tensor) -> Tensor:
        """The sum of `values` `[G]` over each group."""
        return values.new_zeros(len(self.counts)).index_add(0, self.index, values)

    def stds(self) -> Tensor:
        """The std of each group, unbiased (n - 1); 0 for a group of one."""
        variance = self.sums(self.centred.square()) / (self.counts - 1).clamp(min=1)
        return variance.sqrt()

    def alone(self) -> Tensor:
        """`[G]`: whether a value is the only one of its group."""
        return (self.counts == 1)[self.index]

    def zero_where_equal(self, advantages: Tensor) -> Tensor:
        """Exact zeros for groups without a signal."""
        return advantages.masked_fill(self.equal[self.index], 0.0)


def _require_finite(name: str, values: Tensor, dims: int = 1) -> None:
    exact = not values.dtype.is_floating_point and not values.dtype.is_complex
    if values.dim() != dims or not (exact or values.dtype in PRECISE):
        raise ValueError(
            f"{name} is {values.dtype} of shape {list(values.shape)}: "
            f"expected {dims}-D, float64, float32 or integer"
        )
    bad = torch.nonzero(~torch.isfinite(values))
    if len(bad):
        where = tuple(bad[0].tolist())
        raise ValueError(
            f"{name}[{', '.join(map(str, where))}] is {float(values[where])}: "
            f"expected finite {name} (leave out the rollouts that have none)"
        )


def _require_rows(name: str, values: Tensor, rewards: Tensor) -> None:
    if len(values) != len(rewards):
        raise ValueError(f"{name} has {len(values)} rows: expected {len(rewards)}, one a reward")
