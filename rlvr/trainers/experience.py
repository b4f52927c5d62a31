"""From graded groups to a batch: pack the tokens, and shape the rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlvr.batch import Batch, Example
from rlvr.errors import ConfigError, nearest
from rlvr.objectives.groups import RewardGroups
from rlvr.objectives.shaping import ShapedRollouts, shape_rewards, soft_overlong_penalty
from rlvr.trainers.config import PolicyGradientConfig
from rlvr.trainers.rollout_metrics import is_cut_short
from rlvr.types import Rollout, RolloutGroup

OWN = "reward"
"""The part of the reward that is the verdict's own."""


@dataclass(frozen=True, kw_only=True)
class Experience:
    """The graded rollouts of a step, S of them, before they are compared.

    Attributes:
        batch: their tokens; every advantage is 0 still.
        rewards: what advantages are made from, a row a sequence of the batch.
        replayed: `[S]` bool, whether an older policy sampled the sequence.
    """

    batch: Batch
    rewards: RewardGroups
    replayed: Tensor


def pack(
    groups: Sequence[RolloutGroup],
    config: PolicyGradientConfig,
    replayed: Sequence[RolloutGroup] = (),
) -> Experience:
    """Pack the graded rollouts of fresh groups and of replayed ones, and shape their rewards."""
    every = [*groups, *replayed]
    rollouts = [rollout for group in every for rollout in group.graded]
    counts = torch.tensor([len(group.graded) for group in every])
    batch = Batch.pack(
        [
            Example(
                prompt_ids=rollout.completion.prompt_token_ids,
                completion_ids=rollout.completion.token_ids,
                sampler_logprobs=rollout.completion.logprobs,
                trained=not (config.rollout.mask_truncated and is_cut_short(rollout)),
            )
            for rollout in rollouts
        ]
    )
    group_ids = torch.repeat_interleave(torch.arange(len(every)), counts)
    rewards = RewardGroups(
        rewards=shaped_rewards(rollouts, group_ids, config),
        group_ids=group_ids,
        lengths=batch.trained_lengths,
        baseline=greedy_rewards(every, config),
        parts=reward_parts(rollouts, config) if config.reward.weights else None,
        part_weights=part_weights(config) if config.reward.weights else None,
    )
    return Experience(batch=batch, rewards=rewards, replayed=group_ids >= len(groups))


def shaped_rewards(
    rollouts: Sequence[Rollout], group_ids: Tensor, config: PolicyGradientConfig
) -> Tensor:
    """`[S]` float64: the weighted parts, the configured shaping, the overlong punishment."""
    rewards = weighted(rollouts, config)
    lengths = torch.tensor([len(rollout.completion.token_ids) for rollout in rollouts])
    parts = [(part.name, part.options) for part in config.reward.shaping]
    if parts:
        correct = torch.tensor([rollout.verdict.is_correct for rollout in rollouts])
        about = ShapedRollouts(
            rewards=rewards, lengths=lengths, group_ids=group_ids, correct=correct
        )
        rewards = shape_rewards(about, parts)
    if config.overlong_tokens:
        rewards = rewards + soft_overlong_penalty(
            lengths,
            max_length=config.sampling.max_new_tokens,
            buffer=config.overlong_tokens,
            penalty=config.rollout.overlong_penalty,
        )
    return rewards


def weighted(rollouts: Sequence[Rollout], config: PolicyGradientConfig) -> Tensor:
    """`[S]` float64: the verdicts' rewards, or the configured sum of their parts."""
    if not config.reward.weights:
        return torch.tensor([rollout.reward for rollout in rollouts], dtype=torch.float64)
    return reward_parts(rollouts, config) @ part_weights(config)


def part_weights(config: PolicyGradientConfig) -> Tensor:
    """`[R]` float64: those of `reward.weights`, in its order."""
    return torch.tensor(list(config.reward.weights.values()), dtype=torch.float64)


def reward_parts(rollouts: Sequence[Rollout], config: PolicyGradientConfig) -> Tensor:
    """`[S, R]` float64: the parts that `reward.weights` names, in its order.

    Raises:
        ConfigError: a verdict has no such part: it would silently be worth 0.
    """
    names = list(config.reward.weights)
    rows = [[part_of_reward(rollout, name) for name in names] for rollout in rollouts]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rollouts), len(names))


def part_of_reward(rollout: Rollout, name: str) -> float:
    """A named part of a graded rollout's reward.

    Raises:
        ConfigError: the verdict has no such part.
    """
    verdict = rollout.verdict
    if name in verdict.metrics:
        return verdict.metrics[name]
    if name == OWN and verdict.reward is not None:
        return verdict.reward
    raise ConfigError(
        f"reward.weights names {name!r}, which the verdict on task {rollout.task.id!r} "
        f"({verdict.outcome.value}) has not{nearest(name, [*verdict.metrics, OWN])}"
    )


def greedy_rewards(groups: Sequence[RolloutGroup], config: PolicyGradientConfig) -> Tensor | None:
    """`[S]` float64: the reward of each task's greedy rollout; `None` where there are none."""
    rollouts = [group.greedy for group in groups for _ in group.graded if group.greedy]
    if not rollouts:
        return None
    group_ids = torch.tensor([i for i, group in enumerate(groups) for _ in group.graded])
    return shaped_rewards(rollouts, group_ids, config)
