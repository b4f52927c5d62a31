"""Advantages from the rewards of whole rollouts: a reward less a baseline, perhaps scaled.

Each estimator is registered as `advantage/<name>` with the signature
`(groups: RewardGroups, **options) -> [G] float32`, in the order of the rollouts; it is computed in
float64. `estimate_advantages(name, groups, **options)` looks it up. Advantages for each token
(GAE, discounted returns) are in `rlvr.objectives.values`.

A group whose rewards are equal up to float noise has advantage exactly 0 in every estimator that
compares within a group, so that it can be recognised by `advantages == 0` and never trains on
amplified rounding errors. A group of one has nothing to be compared with: 0, or with
`single="raw"` its reward as it stands (verl's choice).

Which of them is an unbiased estimate of which gradient is in docs/objectives.md; the tests hold the
table to it.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from rlvr.objectives.groups import GroupStatistics, RewardGroups
from rlvr.objectives.shaping import soft_overlong_penalty
from rlvr.registry import check_options, objectives

__all__ = [
    "RewardGroups",
    "estimate_advantages",
    "gpg",
    "group",
    "group_advantages",
    "group_relative",
    "leave_one_out",
    "leave_one_out_advantages",
    "maxrl",
    "normalise_over_batch",
    "opo",
    "reinforce",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
    "remax",
    "soft_overlong_penalty",
]

Scale = Literal["group", "batch", "none"]
Single = Literal["zero", "raw"]
Over = Literal["sequences", "tokens"]

# verl's: added to the variance, not to the std, where it normalises over tokens.
TOKEN_VARIANCE_EPS = 1e-8


def estimate_advantages(name: str, groups: RewardGroups, **options: Any) -> Tensor:
    """The advantages of the registered `advantage/<name>`.

    Args:
        name: such as `"group"` or `"leave-one-out"`.
        groups: the rollouts of the whole optimisation batch, over all processes.
        options: the estimator's own.

    Returns:
        `[G]` float32.

    Raises:
        UnknownNameError: no estimator has that name.
        ConfigError: it has no such option, or one is missing.
        ValueError: an option is out of range, or `groups` lacks what the estimator needs.
    """
    estimator: Any = objectives.get(f"advantage/{name}")
    check_options(estimator, {"groups": groups, **options}, f"advantage {name!r}")
    advantages: Tensor = estimator(groups, **options)
    return advantages


def group_advantages(
    rewards: Tensor, group_ids: Tensor, *, scale: Scale = "group", eps: float = 1e-6
) -> Tensor:
    """`group` (GRPO) on plain tensors: see there."""
    return group(RewardGroups(rewards=rewards, group_ids=group_ids), scale=scale, eps=eps)


def leave_one_out_advantages(rewards: Tensor, group_ids: Tensor) -> Tensor:
    """`leave_one_out` (RLOO) on plain tensors: see there."""
    return leave_one_out(RewardGroups(rewards=rewards, group_ids=group_ids))


def group(
    groups: RewardGroups, *, scale: Scale = "group", eps: float = 1e-6, single: Single = "zero"
) -> Tensor:
    """GRPO: `(r - mean of group) / (std + eps)`.

    Args:
        groups: rewards and group ids.
        scale: which std divides: of the `"group"` (Shao et al. 2024, arXiv:2402.03300, 4.1.2), of
            the `"batch"` of all G rewards, or `"none"` (Dr. GRPO, Liu et al. 2025,
            arXiv:2503.20783). The std is the unbiased one (n - 1).
        eps: added to the std, in units of reward; TRL has 1e-4, verl 1e-6.
        single: what a group of one gets: `"zero"`, or `"raw"`, the reward as if its mean were 0
            and its std 1 (verl; TRL gives 0).

    Returns:
        `[G]` float32.

    Raises:
        ValueError: `scale` or `single` is unknown.
    """
    return group_relative(groups.statistics(), scale, eps, single).to(torch.float32)


def leave_one_out(groups: RewardGroups, *, single: Single = "zero") -> Tensor:
    """RLOO: the reward minus the mean reward of the others of its group.

    Kool et al. 2019; Ahmadian et al. 2024, arXiv:2402.14740. It equals
    `n / (n - 1) * (r - mean)`, which is how it is computed.

    Args:
        groups: rewards and group ids.
        single: what a group of one gets, which has no baseline: `"zero"` (TRL, verl's
            `rloo_vectorized`) or `"raw"` (verl's `rloo`).

    Returns:
        `[G]` float32.

    Raises:
        ValueError: `single` is unknown.
    """
    stats = groups.statistics()
    factor = stats.counts / (stats.counts - 1).clamp(min=1)
    return (_centred(stats, single) * factor[stats.index]).to(torch.float32)


def reinforce(groups: RewardGroups) -> Tensor:
    """REINFORCE (Williams 1992): the reward itself, without a baseline.

    Args:
        groups: rewards.

    Returns:
        `[G]` float32.
    """
    return groups.rewards.detach().to(torch.float32)


def reinforce_plus_plus(
    groups: RewardGroups, *, over: Over = "sequences", eps: float = 1e-6
) -> Tensor:
    """REINFORCE++: rewards normalised over the whole batch, whatever their group.

    Hu et al. 2025, arXiv:2501.03262. This is the case without discount and without a KL term in
    the reward; with those, see `rlvr.objectives.values.discounted_returns`.

    Args:
        groups: rewards; lengths where `over` is `"tokens"`.
        over: whether mean and std are taken over `"sequences"`, each counted once, with `eps` added
            to the std; or over `"tokens"`, each sequence counted by its length, with 1e-8 added to
            the variance (verl).
        eps: added to the std, for `"sequences"`.

    Returns:
        `[G]` float32; exactly 0 where all rewards of the batch are equal.

    Raises:
        ValueError: `over` is unknown, or lengths are missing.
    """
    whole_batch = GroupStatistics.of(groups.rewards, torch.zeros_like(groups.group_ids))
    normalised = normalise_over_batch(whole_batch.values, groups, over, eps, "reinforce++")
    return whole_batch.zero_where_equal(normalised).to(torch.float32)


def reinforce_plus_plus_baseline(
    groups: RewardGroups,
    *,
    over: Over = "sequences",
    eps: float = 1e-6,
    single: Single = "zero",
) -> Tensor:
    """REINFORCE++ with baseline: the group's mean subtracted, then normalised over the batch.

    Hu et al. 2025, arXiv:2501.03262.

    Args:
        groups: rewards and group ids; lengths where `over` is `"tokens"`.
        over: as in `reinforce_plus_plus`. Over sequences the mean to subtract is 0 already, so that
            a group of equal rewards keeps advantage 0. Over tokens (verl) it is not, and such a
            group gets `-mean / std`: the one exception from the rule, and only by this choice.
        eps: added to the std, for `"sequences"`.
        single: what a group of one has before normalising (verl: `"raw"`).

    Returns:
        `[G]` float32.

    Raises:
        ValueError: `over` or `single` is unknown, or lengths are missing.
    """
    stats = groups.statistics()
    centred = _centred(stats, single)
    normalised = normalise_over_batch(centred, groups, over, eps, "reinforce++-baseline")
    if over == "sequences" and single == "zero":
        normalised = stats.zero_where_equal(normalised)
    return normalised.to(torch.float32)


def remax(groups: RewardGroups) -> Tensor:
    """ReMax: the reward minus that of the greedy rollout of the same task.

    Li et al. 2023, arXiv:2310.10505. The baseline does not depend on the sample, so the
    estimate is unbiased, for groups of one too.

    Args:
        groups: rewards and `baseline`.

    Returns:
        `[G]` float32; exactly 0 where reward and baseline are equal up to float noise.

    Raises:
        ValueError: the baseline is missing.
    """
    baseline = groups.needed("baseline", "remax")
    rewards = groups.rewards.detach()
    pairs = torch.cat([rewards, baseline.detach().to(rewards)])
    rows = torch.arange(len(rewards), device=rewards.device)
    stats = GroupStatistics.of(pairs, torch.cat([rows, rows]))
    difference = rewards.to(torch.float64) - baseline.detach().to(torch.float64)
    return difference.masked_fill(stats.equal, 0.0).to(torch.float32)


def opo(groups: RewardGroups, *, single: Single = "zero") -> Tensor:
    """OPO: the reward minus the length-weighted mean reward of its group.

    Hao et al. 2025, arXiv:2505.23585: the baseline of least variance where the squared norm
    of a sequence's gradient grows with its length.

    Args:
        groups: rewards, group ids and lengths.
        single: what a group of one gets (verl: `"raw"`).

    Returns:
        `[G]` float32. A group without any token has baseline 0.

    Raises:
        ValueError: lengths are missing, or `single` is unknown.
    """
    stats = groups.statistics()
    lengths = groups.needed("lengths", "opo").to(torch.float64)
    totals = stats.sums(lengths).clamp(min=1.0)
    # Of centred rewards, so that nothing is lost where rewards are large and alike.
    shift = stats.sums(lengths * stats.centred) / totals
    advantages = stats.zero_where_equal(stats.centred - shift[stats.index])
    return _with_singles(stats, advantages, single).to(torch.float32)


def gpg(
    groups: RewardGroups,
    *,
    count: Literal["signal", "nonzero"] = "signal",
    single: Single = "zero",
) -> Tensor:
    """GPG: the reward minus the group's mean, times `G / M` for the G - M rollouts without effect.

    Chu et al. 2025, arXiv:2504.02546: dividing by the batch understates the gradient when
    some of its groups have no signal.

    Args:
        groups: rewards and group ids.
        count: what M counts: rollouts of groups with a `"signal"`, rewards not all equal (the
            paper), or rollouts with a `"nonzero"` reward (verl's code).
        single: what a group of one gets (verl: `"raw"`).

    Returns:
        `[G]` float32.

    Raises:
        ValueError: `count` or `single` is unknown.
    """
    stats = groups.statistics()
    if count == "signal":
        counted = int((~stats.equal)[stats.index].sum())
    elif count == "nonzero":
        counted = int(torch.count_nonzero(stats.values))
    else:
        raise ValueError(f"count is {count!r}: expected 'signal' or 'nonzero'")
    return (_centred(stats, single) * (len(stats.values) / max(counted, 1))).to(torch.float32)


def maxrl(groups: RewardGroups, *, eps: float = 0.0) -> Tensor:
    """MaxRL: `(r - mean of group) / (mean of group + eps)`, 0 where no rollout succeeded.

    Tajwar et al. 2026, arXiv:2602.02710: for rewards of 0 and 1 and groups of n, an estimate of the
    gradient of `sum over k < n of pass@k / k`, which tends to that of log pass@1.

    Args:
        groups: rewards of at least 0, and group ids.
        eps: added to the mean.

    Returns:
        `[G]` float32.

    Raises:
        ValueError: a reward is negative.
    """
    stats = groups.statistics()
    if len(stats.values) and float(stats.values.min()) < 0.0:
        raise ValueError(
            f"maxrl divides by the mean reward: found {float(stats.values.min())}, expected "
            "rewards of at least 0"
        )
    means = (stats.values - stats.centred).clamp(min=_TINY)
    return stats.zero_where_equal(stats.centred / (means + eps)).to(torch.float32)


def group_relative(stats: GroupStatistics, scale: str, eps: float, single: str) -> Tensor:
    """`group` on statistics, in float64."""
    if scale == "none":
        divisor = torch.ones_like(stats.values)
    elif scale == "group":
        divisor = torch.where(stats.alone(), 1.0, stats.stds()[stats.index]) + eps
    elif scale == "batch":
        # The std of a single reward is undefined; that reward is a group of one.
        std = float(stats.values.std()) if len(stats.values) > 1 else 1.0
        divisor = torch.full_like(stats.values, std + eps)
    else:
        raise ValueError(f"scale is {scale!r}: expected 'group', 'batch' or 'none'")
    return _centred(stats, single) / divisor.clamp(min=_TINY)


_TINY = torch.finfo(torch.float64).tiny


def _centred(stats: GroupStatistics, single: str) -> Tensor:
    return _with_singles(stats, stats.zero_where_equal(stats.centred), single)


def _with_singles(stats: GroupStatistics, advantages: Tensor, single: str) -> Tensor:
    if single == "raw":
        return torch.where(stats.alone(), stats.values, advantages)
    if single != "zero":
        raise ValueError(f"single is {single!r}: expected 'zero' or 'raw'")
    return advantages


def normalise_over_batch(
    values: Tensor, groups: RewardGroups, over: str, eps: float, who: str
) -> Tensor:
    """Values less their mean, over their unbiased std, counted over sequences or over tokens."""
    if over == "sequences":
        weights = torch.ones_like(values)
    elif over == "tokens":
        weights = groups.needed("lengths", f"{who} over tokens").to(torch.float64)
    else:
        raise ValueError(f"over is {over!r}: expected 'sequences' or 'tokens'")
    count = weights.sum()
    centred = values - (weights * values).sum() / count.clamp(min=1.0)
    variance = (weights * centred.square()).sum() / (count - 1.0).clamp(min=1.0)
    if over == "tokens":
        return centred * (variance + TOKEN_VARIANCE_EPS).rsqrt()
    return centred / (variance.sqrt() + eps).clamp(min=_TINY)
