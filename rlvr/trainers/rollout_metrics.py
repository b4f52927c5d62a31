"""What the rollouts of a step, and an evaluation, say in numbers: the metrics of a run."""

from __future__ import annotations

from typing import Any

from rlvr.rollouts import Collected, is_informative
from rlvr.trainers.loop import Metrics
from rlvr.trainers.optimization import mean
from rlvr.types import FinishReason, Rollout


def rollout_metrics(collected: Collected) -> Metrics:
    """Means over everything that was sampled in a step; rollouts without a reward are counted."""
    rollouts = [rollout for group in collected.sampled for rollout in group.rollouts]
    graded = [rollout for rollout in rollouts if rollout.reward is not None]
    metrics: Metrics = {
        "reward/mean": mean(rollout.reward for rollout in graded if rollout.reward is not None),
        "length/mean": mean(len(rollout.completion.token_ids) for rollout in rollouts),
        "length/truncated": mean(float(is_cut_short(rollout)) for rollout in rollouts),
        "sampling/rounds": float(collected.rounds),
        "sampling/rollouts": float(len(rollouts)),
        "sampling/groups": float(len(collected.groups)),
        "sampling/informative": mean(float(is_informative(group)) for group in collected.sampled),
        "verifier_errors": float(len(rollouts) - len(graded)),
    }
    for outcome in sorted({rollout.verdict.outcome for rollout in rollouts}):
        share = mean(float(rollout.verdict.outcome is outcome) for rollout in rollouts)
        metrics[f"outcome/{outcome.value}"] = share
    for name in sorted({name for rollout in graded for name in rollout.verdict.metrics}):
        values = [r.verdict.metrics[name] for r in graded if name in r.verdict.metrics]
        metrics[f"verifier/{name}"] = mean(values)
    return metrics


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
