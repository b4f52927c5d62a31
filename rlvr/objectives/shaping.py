"""Shaping: named parts that change rewards before advantages are taken.

Plain functions on tensors first. Each is also a part of the family `shaping/<name>`, with the
signature `(rollouts: ShapedRollouts, **options) -> [G] float64`, the new rewards; `shape_rewards`
applies a list of them in turn.

    clip            rewards kept between two bounds
    scale           factor * (reward + shift)
    soft-overlong   + a penalty growing to -1 over the last tokens before the limit (DAPO)
    kimi-length     + a bonus for the short, a malus for the long of a group (Kimi k1.5)
    cosine-length   the reward itself, by correctness and length (Yeo et al. 2025)
    target-length   - alpha * |target - length| (L1)

A penalty for length is also a reward for being short: it belongs where a right answer earns more
than it can cost, and the lengths of right and wrong answers are to be watched apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from rlvr.objectives.checks import require_ids
from rlvr.objectives.groups import GroupStatistics
from rlvr.registry import check_options, objectives


@dataclass(frozen=True, kw_only=True)
class ShapedRollouts:
    """What a part may look at: one entry a rollout.

    Attributes:
        rewards: `[G]` float64, as shaped so far.
        lengths: `[G]` int64, completion tokens.
        group_ids: `[G]` int64.
        correct: `[G]` bool, what the verifier said, before any shaping.
    """

    rewards: Tensor
    lengths: Tensor
    group_ids: Tensor
    correct: Tensor

    def __post_init__(self) -> None:
        require_ids("lengths", self.lengths, self.rewards)
        require_ids("group_ids", self.group_ids, self.rewards)
        _require_flags("correct", self.correct, len(self.rewards))


def shape_rewards(
    rollouts: ShapedRollouts, parts: Sequence[tuple[str, Mapping[str, Any]]]
) -> Tensor:
    """Apply `shaping/<name>` parts in turn, each to the rewards that the one before it left.

    Args:
        rollouts: rewards and what shaping looks at.
        parts: names with their options.

    Returns:
        `[G]` float64.

    Raises:
        UnknownNameError: no part has that name.
        ConfigError: it has no such option, or one is missing.
        ValueError: an option is out of range.
    """
    for name, options in parts:
        part: Any = objectives.get(f"shaping/{name}")
        check_options(part, {"rollouts": rollouts, **options}, f"shaping {name!r}")
        rollouts = replace(rollouts, rewards=part(rollouts, **options))
    return rollouts.rewards


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


def kimi_length_bonus(lengths: Tensor, correct: Tensor, group_ids: Tensor) -> Tensor:
    """Kimi k1.5's length reward, a term to add: between 0.5 (shortest) and -0.5 (longest).

    Kimi Team 2025, arXiv:2501.12599, 2.3.3: `0.5 - (length - min) / (max - min)` over the lengths
    of the group, for right answers; at most 0 for wrong ones; 0 where all are equally long.

    Args:
        lengths: `[G]` int64 completion lengths.
        correct: `[G]` bool.
        group_ids: `[G]` int64.

    Returns:
        `[G]` float64 in [-0.5, 0.5].

    Raises:
        ValueError: a shape or dtype is wrong.
    """
    require_ids("group_ids", group_ids, lengths)
    _require_flags("correct", correct, len(lengths))
    stats = GroupStatistics.of(lengths, group_ids)
    span = (stats.highest - stats.lowest)[stats.index]
    bonus = 0.5 - (stats.values - stats.lowest[stats.index]) / span.clamp(min=1.0)
    bonus = torch.where(correct, bonus, bonus.clamp(max=0.0))
    return bonus.masked_fill(span == 0.0, 0.0)


def cosine_length_reward(
    lengths: Tensor,
    correct: Tensor,
    *,
    max_length: int,
    correct_short: float = 2.0,
    correct_long: float = 1.0,
    wrong_short: float = -10.0,
    wrong_long: float = 0.0,
    overlong: float = -10.0,
) -> Tensor:
    """Cosine reward: by length, from the short value to the long one, for right and wrong apart.

    Yeo et al. 2025, arXiv:2502.03373: `long + (short - long) / 2 * (1 + cos(pi length
    / max_length))`. Right answers earn more when short; wrong ones lose less when long, so that a
    model thinks longer about what it cannot do. It stands in place of the verifier's reward.

    Args:
        lengths: `[G]` completion lengths in tokens.
        correct: `[G]` bool.
        max_length: in tokens, at least 1.
        correct_short: for a right answer of length 0. The defaults are the paper's.
        correct_long: for a right answer of nearly `max_length`.
        wrong_short: for a wrong answer of length 0.
        wrong_long: for a wrong answer of nearly `max_length`.
        overlong: for anything of `max_length` or more.

    Returns:
        `[G]` float64.

    Raises:
        ValueError: a shape or dtype is wrong, or `max_length` is below 1.
    """
    _require_flags("correct", correct, len(lengths))
    if max_length < 1:
        raise ValueError(f"max_length is {max_length}: expected at least 1 token")
    wide = lengths.to(torch.float64)
    nearness = 0.5 * (1.0 + torch.cos(torch.pi * wide / max_length))
    right = correct_long + (correct_short - correct_long) * nearness
    wrong = wrong_long + (wrong_short - wrong_long) * nearness
    return torch.where(correct, right, wrong).masked_fill(wide >= max_length, overlong)


def target_length_penalty(lengths: Tensor, *, target: int, alpha: float) -> Tensor:
    """L1's penalty, a term to add: `-alpha * |target - length|`.

    Aggarwal and Welleck 2025, arXiv:2503.04697 (alpha 0.0003).

    Args:
        lengths: `[G]` completion lengths in tokens.
        target: in tokens.
        alpha: in units of reward a token, at least 0.

    Returns:
        `[G]` float64, at most 0.

    Raises:
        ValueError: alpha is negative.
    """
    if alpha < 0:
        raise ValueError(f"alpha is {alpha}: expected at least 0 (it is subtracted)")
    return -alpha * (lengths.to(torch.float64) - target).abs()


def clip(rollouts: ShapedRollouts, *, low: float, high: float) -> Tensor:
    """Rewards kept between `low` and `high`."""
    if not low < high:
        raise ValueError(f"low is {low}, high {high}: expected low below high")
    return rollouts.rewards.clamp(low, high)


def scale(rollouts: ShapedRollouts, *, factor: float = 1.0, shift: float = 0.0) -> Tensor:
    """`factor * (reward + shift)`."""
    return factor * (rollouts.rewards + shift)


def soft_overlong(
    rollouts: ShapedRollouts, *, max_length: int, buffer: int, penalty: float = 1.0
) -> Tensor:
    """The rewards plus `soft_overlong_penalty`."""
    return rollouts.rewards + soft_overlong_penalty(
        rollouts.lengths, max_length=max_length, buffer=buffer, penalty=penalty
    )


def kimi_length(rollouts: ShapedRollouts, *, weight: float = 1.0) -> Tensor:
    """The rewards plus `weight` times `kimi_length_bonus`."""
    bonus = kimi_length_bonus(rollouts.lengths, rollouts.correct, rollouts.group_ids)
    return rollouts.rewards + weight * bonus


def cosine_length(
    rollouts: ShapedRollouts,
    *,
    max_length: int,
    correct_short: float = 2.0,
    correct_long: float = 1.0,
    wrong_short: float = -10.0,
    wrong_long: float = 0.0,
    overlong: float = -10.0,
) -> Tensor:
    """`cosine_length_reward` in place of the rewards."""
    return cosine_length_reward(
        rollouts.lengths,
        rollouts.correct,
        max_length=max_length,
        correct_short=correct_short,
        correct_long=correct_long,
        wrong_short=wrong_short,
        wrong_long=wrong_long,
        overlong=overlong,
    )


def target_length(rollouts: ShapedRollouts, *, target: int, alpha: float) -> Tensor:
    """The rewards plus `target_length_penalty`."""
    return rollouts.rewards + target_length_penalty(rollouts.lengths, target=target, alpha=alpha)


def _require_flags(name: str, flags: Tensor, count: int) -> None:
    if flags.dtype != torch.bool or flags.shape != (count,):
        raise ValueError(
            f"{name} is {flags.dtype} of shape {list(flags.shape)}: "
            f"expected torch.bool of shape {[count]}"
        )
