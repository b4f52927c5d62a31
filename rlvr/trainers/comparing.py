"""Advantages: what each rollout, or each of its tokens, is worth beside what was expected.

Estimators of whole rollouts compare rewards and give all tokens of a sequence one number;
estimators of tokens (`gae`, `returns`) follow the rewards along the sequence. With the KL term in
the reward, it is taken off first: of the sequence, or token by token.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from rlvr.batch import Batch
from rlvr.objectives.advantages import estimate_advantages
from rlvr.objectives.aggregation import sequence_sums
from rlvr.objectives.kl import kl_estimate
from rlvr.objectives.values import Moments, explained_variance, token_rewards, whiten
from rlvr.registry import objectives
from rlvr.trainers.config import ObjectiveConfig
from rlvr.trainers.experience import Experience
from rlvr.trainers.loop import Metrics
from rlvr.trainers.objective import Objective, Part
from rlvr.trainers.scoring import REFERENCE, RETURNS, VALUES


@dataclass(frozen=True)
class Comparison:
    """A batch with its advantages, and what the log says of them."""

    batch: Batch
    metrics: Metrics


def compare(
    experience: Experience, settings: ObjectiveConfig, objective: Objective, kl_coefficient: float
) -> Comparison:
    """Give every trained token its advantage.

    Args:
        experience: with the columns that `Scorer.complete` fills in.
        settings: of the objective.
        objective: the same, resolved.
        kl_coefficient: as it stands, for the KL term in the reward.
    """
    batch = experience.batch
    logged = {"reward/shaped_mean": experience.rewards.rewards.mean().item()}
    penalty: Tensor | None = None
    if settings.kl_in == "reward" and REFERENCE in batch.columns:
        divergence = divergence_of(batch, settings)
        penalty = kl_coefficient * divergence
        logged["kl/reference"] = divergence.mean().item()
    if objective.is_per_token:
        found = compare_tokens(experience, objective.advantage, penalty, normalise=settings.whiten)
    else:
        found = compare_rollouts(experience, objective.advantage, penalty)
    return dataclasses.replace(found, metrics=logged | found.metrics)


def divergence_of(batch: Batch, settings: ObjectiveConfig) -> Tensor:
    """`[N]` float64: the estimate on the sampled tokens, with the policy that is to be updated."""
    assert batch.old_logprobs is not None
    mask = batch.loss_mask
    return kl_estimate(
        batch.old_logprobs[mask].double(),
        batch.columns[REFERENCE][mask].double(),
        settings.kl_estimator.name,
        **settings.kl_estimator.options,
    )


def compare_rollouts(experience: Experience, part: Part, penalty: Tensor | None) -> Comparison:
    """One advantage for all tokens of a sequence; `penalty` `[N]` is taken off its reward."""
    batch, rewards = experience.batch, experience.rewards
    if penalty is not None:
        sums = sequence_sums(penalty, batch.sequence_ids[batch.loss_mask], len(batch))
        rewards = dataclasses.replace(rewards, rewards=rewards.rewards - sums)
    advantages = estimate_advantages(part.name, rewards, **part.options)
    per_token = advantages[batch.sequence_ids] * batch.loss_mask
    return Comparison(dataclasses.replace(batch, advantages=per_token), spread(advantages))


def compare_tokens(
    experience: Experience, part: Part, penalty: Tensor | None, *, normalise: bool
) -> Comparison:
    """An advantage for each token; with a critic, what its values are to be fitted to, too."""
    batch, mask = experience.batch, experience.batch.loss_mask
    sequence_ids = batch.sequence_ids[mask]
    rewards = token_rewards(
        experience.rewards.rewards, sequence_ids, kl=penalty, kl_coefficient=1.0
    )
    options = dict(part.options)
    values: Tensor | None = None
    if VALUES in batch.columns:
        values = options["values"] = batch.columns[VALUES][mask].double()
    estimator = objectives.get(f"token-advantage/{part.name}")
    advantages, returns = estimator(rewards, sequence_ids, **options)
    metrics = spread(advantages)
    if normalise:
        advantages = whiten(advantages)
    columns = dict(batch.columns)
    if values is not None:
        columns[RETURNS] = over_batch(batch, returns)
        metrics |= fit(values, returns)
    advantages = over_batch(batch, advantages)
    batch = dataclasses.replace(batch, advantages=advantages, columns=columns)
    return Comparison(batch, metrics)


def over_batch(batch: Batch, values: Tensor) -> Tensor:
    """`[T]` float32 of `[N]` values, 0 outside the loss mask."""
    column = torch.zeros(batch.input_ids.shape)
    column[batch.loss_mask] = values.float()
    return column


def fit(values: Tensor, returns: Tensor) -> Metrics:
    """How well a critic foresaw the returns."""
    return {
        "critic/value": values.mean().item(),
        "critic/return": returns.mean().item(),
        "critic/explained_variance": explained_variance(
            Moments.of(returns), Moments.of(returns - values)
        ),
    }


def spread(advantages: Tensor) -> Metrics:
    """The spread of advantages, of sequences or of tokens, before they are normalised."""
    if not len(advantages):
        return {}
    return {
        "advantage/std": advantages.std(correction=0).item(),
        "advantage/min": advantages.min().item(),
        "advantage/max": advantages.max().item(),
    }
