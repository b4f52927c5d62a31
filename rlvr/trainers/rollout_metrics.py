"""What the rollouts of a step, and an evaluation, say in numbers: the metrics of a run.

What each of them means stands in docs/training.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rlvr.rollouts import Collected, is_informative
from rlvr.trainers.loop import Metrics
from rlvr.trainers.optimization import mean
from rlvr.types import FinishReason, Outcome, Rollout, RolloutGroup


def rollout_metrics(collected: Collected) -> Metrics:
    """Numbers of everything that was sampled in a step; rollouts without a reward are counted."""
    rollouts = [rollout for group in collected.sampled for rollout in group.rollouts]
    graded = [rollout for rollout in rollouts if rollout.reward is not None]
    rewards = [rollout.reward for rollout in graded if rollout.reward is not None]
    metrics: Metrics = {
        "reward/mean": mean(rewards),
        "reward/std": standard_deviation(rewards),
        "sampling/rounds": float(collected.rounds),
        "sampling/rollouts": float(len(rollouts)),
        "sampling/tokens": float(sum(map(tokens, rollouts))),
        "sampling/groups": float(len(collected.groups)),
        "verifier_errors": float(len(rollouts) - len(graded)),
    }
    metrics |= length_metrics(rollouts) | signal_metrics(collected.sampled)
    for outcome in sorted({Outcome.CORRECT, *(rollout.verdict.outcome for rollout in rollouts)}):
        share = mean(float(rollout.verdict.outcome is outcome) for rollout in rollouts)
        metrics[f"outcome/{outcome.value}"] = share
    for name in sorted({name for rollout in graded for name in rollout.verdict.metrics}):
        values = [r.verdict.metrics[name] for r in graded if name in r.verdict.metrics]
        metrics[f"verifier/{name}"] = mean(values)
    return metrics


def length_metrics(rollouts: Sequence[Rollout]) -> Metrics:
    """Tokens of the completions, of correct and of wrong ones apart."""
    lengths = sorted(map(tokens, rollouts))
    metrics: Metrics = {
        "length/mean": mean(lengths),
        "length/truncated": mean(float(is_cut_short(rollout)) for rollout in rollouts),
    }
    if not lengths:
        return metrics
    metrics["length/max"] = float(lengths[-1])
    for percent in (50, 90, 99):
        metrics[f"length/p{percent}"] = float(quantile(lengths, percent))
    graded = [rollout for rollout in rollouts if not rollout.verdict.is_error]
    for name, kind in (("correct", True), ("wrong", False)):
        of_kind = [tokens(rollout) for rollout in graded if rollout.verdict.is_correct is kind]
        if of_kind:
            metrics[f"length/{name}"] = mean(of_kind)
    return metrics


def signal_metrics(groups: Sequence[RolloutGroup]) -> Metrics:
    """Shares of the groups that have a gradient, and of those that have none, and why.

    None of these where every group is a single rollout, which is compared with other tasks' (PPO,
    REINFORCE++).
    """
    if groups and all(len(group.rollouts) == 1 and group.greedy is None for group in groups):
        return {}
    silent = [group.graded for group in groups if not is_informative(group)]
    right = [graded for graded in silent if graded and all(r.verdict.is_correct for r in graded)]
    wrong = [
        graded for graded in silent if graded and not any(r.verdict.is_correct for r in graded)
    ]
    count = len(groups) or math.nan
    return {
        "sampling/informative": (len(groups) - len(silent)) / count,
        "groups/zero_signal": len(silent) / count,
        "groups/all_right": len(right) / count,
        "groups/all_wrong": len(wrong) / count,
    }


def staleness(collected: Collected, updates: int) -> Metrics:
    """Updates that the policy has gone through since it sampled what it is about to train on."""
    ages = [updates - one.policy_version for group in collected.groups for one in group.rollouts]
    return {"staleness/mean": mean(ages), "staleness/max": float(max(ages))} if ages else {}


def evaluation_metrics(summary: Any) -> Metrics:
    """The numbers of an evaluation's summary, with their intervals, as metrics of a step."""
    metrics: Metrics = {}
    for name, estimate in summary.metrics.items():
        metrics[f"eval/{name}"] = estimate.value
        metrics[f"eval/{name}/low"] = estimate.low
        metrics[f"eval/{name}/high"] = estimate.high
    return metrics


def is_cut_short(rollout: Rollout) -> bool:
    """Whether the completion ran into the token limit."""
    return rollout.completion.finish_reason is FinishReason.LENGTH


def tokens(rollout: Rollout) -> int:
    """Tokens of the completion."""
    return len(rollout.completion.token_ids)


def standard_deviation(values: Sequence[float]) -> float:
    """Of the values as a population: 0 where they are equal, NaN of nothing."""
    if not values:
        return math.nan
    centre = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / len(values))


def quantile(ascending: Sequence[int], percent: int) -> int:
    """The smallest value that at least `percent` in a hundred do not exceed (nearest rank)."""
    return ascending[max(0, -(-percent * len(ascending) // 100) - 1)]
