"""What models say of a whole batch before it trains: old logprobs, the reference's, values.

Each is a column of the batch, computed once in micro-batches, without gradients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from rlvr.adapters import without_lora
from rlvr.batch import Batch
from rlvr.distributed import ALONE, World
from rlvr.forward import TokenScores, score_tokens
from rlvr.policy import Policy
from rlvr.sharing import parts_here
from rlvr.trainers.config import PolicyGradientConfig
from rlvr.trainers.critic import Critic

REFERENCE = "reference_logprobs"
VALUES = "values"
RETURNS = "returns"


class Scorer:
    """The models of a run, asked about batches.

    Args:
        config: the run.
        policy: the model that is trained.
        reference: the model of the KL term; `None` for none, or for the policy without LoRA.
        critic: the value model; `None` for none.
        world: the processes, which share the work and all have the answer.
    """

    def __init__(
        self,
        config: PolicyGradientConfig,
        *,
        policy: Policy,
        reference: Policy | None,
        critic: Critic | None,
        world: World = ALONE,
    ) -> None:
        self.world = world
        self.config = config
        self.policy = policy
        self.reference = reference
        self.critic = critic

    def complete(self, batch: Batch, replayed: Tensor | None = None) -> Batch:
        """The batch with everything that has to be known before the first update on it.

        Args:
            batch: what it has already stays as it is.
            replayed: `[S]` bool, the sequences whose old policy is the one that sampled them; none
                where not given.
        """
        settings = self.config.objective
        old = batch.old_logprobs
        if old is None:
            several = settings.epochs > 1 or min(settings.mini_batches, len(batch)) > 1
            old = self.old_logprobs(batch, replayed, needed=several or settings.kl_in == "reward")
        columns = dict(batch.columns)
        if settings.kl_coefficient > 0 and REFERENCE not in columns:
            columns[REFERENCE] = self.reference_logprobs(batch)
        if self.critic is not None and VALUES not in columns:
            columns[VALUES] = self.column(batch, self.critic.values)
        return dataclasses.replace(batch, old_logprobs=old, columns=columns)

    def old_logprobs(self, batch: Batch, replayed: Tensor | None, *, needed: bool) -> Tensor | None:
        """`[T]`, what ratios are taken to; `None` where that is the policy as it is now.

        They are the policy's own before the first update, and for replayed sequences the sampler's.
        """
        if self.config.rollout.max_staleness and self.config.objective.mismatch.level == "off":
            # An older policy sampled: the ratio is to that one (clipped importance sampling).
            replayed = torch.ones(len(batch), dtype=torch.bool)
        if replayed is None or not bool(replayed.any()):
            return self.logprobs(self.policy, batch) if needed else None
        if bool(replayed.all()):
            return batch.sampler_logprobs * batch.loss_mask
        from_sampler = replayed[batch.sequence_ids] & batch.loss_mask
        own = self.logprobs(self.policy, batch)
        return torch.where(from_sampler, batch.sampler_logprobs, own)

    def reference_logprobs(self, batch: Batch) -> Tensor:
        """`[T]` under the reference: with LoRA, the policy without its matrices."""
        if self.reference is not None:
            return self.logprobs(self.reference, batch)
        with without_lora(self.policy.model):
            return self.logprobs(self.policy, batch)

    def logprobs(self, policy: Policy, batch: Batch) -> Tensor:
        """`[T]` logprobs of a whole batch, 0 outside the loss mask."""
        return self.column(batch, lambda micro: self.score(policy, micro).logprobs)

    @torch.no_grad()
    def column(
        self, batch: Batch, of: Callable[[Batch], Tensor], each: tuple[int, ...] = ()
    ) -> Tensor:
        """`[T, *each]` float32 of what `of` says of trained tokens, 0 elsewhere; no gradient.

        Args:
            batch: taken apart into micro-batches.
            of: `[N, *each]` of the N trained tokens of a micro-batch.
            each: the shape of what it says of one token.
        """
        column = torch.zeros(len(batch.input_ids), *each)
        for sequences, counts in parts_here(batch, self.config.micro_batch_tokens, self.world):
            micro = batch.select(sequences)
            found = of(micro).float().cpu()
            if counts:
                column[batch.positions(sequences)[micro.loss_mask]] = found
        return self.world.sum(column)

    def score(self, policy: Policy, batch: Batch) -> TokenScores:
        """Logprobs and entropy at the sampling temperature."""
        return score_tokens(
            policy.model,
            batch,
            temperature=self.config.sampling.temperature,
            entropy="gradient" if self.config.objective.entropy_coefficient else "value",
        )
