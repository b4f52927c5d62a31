"""From graded groups to a batch: shape the rewards, compare them in groups, pack the tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from rlvr.batch import Batch, Example
from rlvr.objectives.advantages import (
    group_advantages,
    leave_one_out_advantages,
    soft_overlong_penalty,
)
from rlvr.trainers.config import ObjectiveConfig, PolicyGradientConfig
from rlvr.trainers.loop import Metrics
from rlvr.trainers.rollout_metrics import is_cut_short
from rlvr.types import Rollout, RolloutGroup


def pack(groups: list[RolloutGroup], config: PolicyGradientConfig) -> tuple[Batch, Metrics]:
    """Shape the rewards, turn them into advantages, and pack the graded rollouts."""
    rollouts = [rollout for group in groups for rollout in group.graded]
    group_ids = torch.tensor([i for i, g in enumerate(groups) for _ in g.graded])
    verdicts = torch.tensor([rollout.reward for rollout in rollouts], dtype=torch.float64)
    rewards = verdicts + overlong_penalties(rollouts, config)
    advantages = choose_advantages(rewards, group_ids, config.objective)
    batch = Batch.pack(
        [
            Example(
                prompt_ids=rollout.completion.prompt_token_ids,
                completion_ids=rollout.completion.token_ids,
                sampler_logprobs=rollout.completion.logprobs,
                advantage=advantage,
                trained=not (config.rollout.mask_truncated and is_cut_short(rollout)),
            )
            for rollout, advantage in zip(rollouts, advantages.tolist(), strict=True)
        ]
    )
    shaped = {"reward/shaped_mean": rewards.mean().item()}
    spread = {
        "advantage/std": advantages.std(correction=0).item(),
        "advantage/min": advantages.min().item(),
        "advantage/max": advantages.max().item(),
    }
    return batch, shaped | spread


def overlong_penalties(rollouts: list[Rollout], config: PolicyGradientConfig) -> Tensor:
    """`[G]` float64, 0 or below (DAPO, eq. 13)."""
    if not config.rollout.overlong_buffer:
        return torch.zeros(len(rollouts), dtype=torch.float64)
    return soft_overlong_penalty(
        torch.tensor([len(rollout.completion.token_ids) for rollout in rollouts]),
        max_length=config.sampling.max_new_tokens,
        buffer=config.rollout.overlong_buffer,
        penalty=config.rollout.overlong_penalty,
    )


def choose_advantages(rewards: Tensor, group_ids: Tensor, objective: ObjectiveConfig) -> Tensor:
    """`[G]` float32."""
    if objective.advantage == "leave_one_out":
        return leave_one_out_advantages(rewards, group_ids)
    return group_advantages(rewards, group_ids, scale=objective.scale)
