"""The update: epochs of mini-batches over one batch of rollouts, each one optimiser step.

A mini-batch is the optimisation batch: its loss is split into micro-batches that add up, its
denominators are its own, and a selection of tokens is made over all of it. Every metric is a sum
over tokens, divided at the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlvr.adapters import without_lora
from rlvr.batch import Batch
from rlvr.distributed import ALONE, World
from rlvr.forward import TokenScores, score_tokens
from rlvr.objectives.aggregation import Totals, aggregate
from rlvr.objectives.kl import kl_estimate
from rlvr.objectives.policy import PolicyTokens, policy_loss
from rlvr.objectives.token_selection import keep_only, select_tokens
from rlvr.policy import Policy
from rlvr.seeds import derive_seed
from rlvr.sharing import parts_here
from rlvr.trainers.config import PolicyGradientConfig
from rlvr.trainers.loop import Metrics
from rlvr.trainers.objective import resolve
from rlvr.trainers.optimization import Optimizer, mean

Sums = dict[str, Tensor]
"""Sums over tokens by the metric's name: 0-D float64, detached."""


class PolicyUpdate:
    """Minimises the configured objective.

    Args:
        config: the run.
        policy: the model that is trained, in place.
        reference: the model of the KL term; `None` where its coefficient is 0, and with LoRA.
        world: the processes, which share the sequences of every batch.
    """

    def __init__(
        self,
        config: PolicyGradientConfig,
        *,
        policy: Policy,
        reference: Policy | None,
        world: World = ALONE,
    ) -> None:
        self.config = config
        self.world = world
        self.policy = policy
        self.reference = reference
        self.objective = resolve(config.objective)
        self.kl_coefficient = config.objective.kl_coefficient
        updates = config.steps * config.objective.epochs * config.objective.mini_batches
        self.optim = Optimizer(policy.model, config.optimizer, updates, world)

    def update(self, batch: Batch, step: int, replayed: Tensor | None = None) -> Metrics:
        """Several epochs of mini-batches over one batch of rollouts.

        Args:
            batch: the rollouts with their advantages.
            step: the training step, which the shuffle depends on.
            replayed: `[S]` bool, the sequences whose old policy is the one that sampled them; none
                where not given.
        """
        if batch.totals.tokens == 0:
            return {"update/skipped": 1.0}
        settings = self.config.objective
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, "shuffle", step))
        if self.config.rollout.max_staleness and settings.mismatch.level == "off":
            # An older policy sampled: the ratio is to that one (clipped importance sampling).
            replayed = torch.ones(len(batch), dtype=torch.bool)
        parts = min(settings.mini_batches, len(batch))
        batch = self.with_old_logprobs(batch, replayed, several=settings.epochs > 1 or parts > 1)
        rows = [
            self.update_once(mini, derive_seed(self.config.seed, "select", step, epoch, i))
            for epoch in range(settings.epochs)
            for i, mini in enumerate(batch.split(parts, generator))
            if mini.totals.tokens
        ]
        return {key: mean(row[key] for row in rows) for key in rows[0]}

    def with_old_logprobs(self, batch: Batch, replayed: Tensor | None, several: bool) -> Batch:
        """The batch with the logprobs that ratios are taken to, where those are not today's.

        They are the policy's own before the first of several updates; for replayed sequences, the
        sampler's.
        """
        if replayed is None or not bool(replayed.any()):
            return self.scored(batch) if several else batch
        from_sampler = replayed[batch.sequence_ids] & batch.loss_mask
        scored = self.scored(batch).old_logprobs
        assert scored is not None
        old = torch.where(from_sampler, batch.sampler_logprobs, scored)
        return dataclasses.replace(batch, old_logprobs=old)

    @torch.no_grad()
    def scored(self, batch: Batch) -> Batch:
        """The batch with the logprobs of the policy as it is now as its old ones."""
        return dataclasses.replace(batch, old_logprobs=self.score_batch(self.policy, batch)[0])

    @torch.no_grad()
    def score_batch(self, policy: Policy, batch: Batch) -> tuple[Tensor, Tensor]:
        """`[T]` logprobs and entropies of a whole batch, 0 outside the loss mask; no gradient."""
        logprobs = torch.zeros_like(batch.sampler_logprobs)
        entropy = torch.zeros_like(batch.sampler_logprobs)
        for sequences, counts in parts_here(batch, self.config.micro_batch_tokens, self.world):
            micro = batch.select(sequences)
            where = batch.positions(sequences)[micro.loss_mask]
            scores = self.score(policy, micro)
            if counts:
                logprobs[where] = scores.logprobs.cpu()
                entropy[where] = scores.entropy.cpu()
        return self.world.sum(logprobs), self.world.sum(entropy)

    def update_once(self, mini: Batch, seed: int) -> Metrics:
        """One optimiser step. The loss is that of the whole mini-batch, however it is split."""
        totals = self.totals(mini)
        selected = self.select(mini, seed)
        here: Metrics = {}
        for sequences, counts in parts_here(mini, self.config.micro_batch_tokens, self.world):
            micro = mini.select(sequences)
            chosen = None if selected is None else selected[mini.positions(sequences)]
            loss, counted = self.loss(micro, totals, chosen)
            (loss if counts else 0.0 * loss).backward()
            for key, value in counted.items() if counts else ():
                here[key] = here.get(key, 0.0) + value.item()
        norm, rate = self.optim.step()
        sums = self.world.add_up(here)
        loss_sum = sums.pop("loss")
        means = {key: value / totals.tokens for key, value in sums.items()}
        return {"loss": loss_sum, **means, "grad_norm": norm, "lr": rate}

    def totals(self, mini: Batch) -> Totals:
        """What the loss divides by."""
        counted = mini.totals
        if self.config.objective.count_masked:
            return Totals(tokens=counted.tokens, sequences=len(mini))
        return counted

    def select(self, mini: Batch, seed: int) -> Tensor | None:
        """`[T]` bool, the tokens that the configured selection chose from the whole mini-batch."""
        part = self.objective.selection
        if part is None:
            return None
        mask = mini.loss_mask
        logprobs, entropy = self.score_batch(self.policy, mini)
        old = logprobs if mini.old_logprobs is None else mini.old_logprobs
        tokens = PolicyTokens(
            logprobs=logprobs[mask],
            old_logprobs=old[mask],
            advantages=mini.advantages[mask],
            sequence_ids=mini.sequence_ids[mask],
            entropy=entropy[mask],
        )
        selected = torch.zeros_like(mask)
        selected[mask] = select_tokens(part.name, tokens, seed=seed, **part.options)
        return selected

    def loss(self, micro: Batch, totals: Totals, selected: Tensor | None) -> tuple[Tensor, Sums]:
        """A micro-batch's share of the loss, and its sums over tokens for the log."""
        settings = self.config.objective
        scores = self.score(self.policy, micro)
        tokens = self.tokens(micro, scores, selected)
        name, options = self.objective.loss.name, self.objective.loss.options
        per_token, sums = policy_loss(name, tokens, **options)
        sums = {f"policy/{key}": value for key, value in sums.items()}
        if tokens.selected is not None and not self.objective.selects_for_loss:
            per_token = keep_only(per_token, tokens.selected)
        if settings.kl_coefficient > 0:
            reference = self.reference_logprobs(micro)
            divergence = kl_estimate(scores.logprobs, reference, kind=settings.kl_estimator)
            per_token = per_token + self.kl_coefficient * divergence
            sums["kl/reference"] = total(divergence)
        if settings.entropy_coefficient:
            per_token = per_token - settings.entropy_coefficient * scores.entropy
        loss = aggregate(
            per_token,
            scores.sequence_ids,
            how=settings.aggregation,
            totals=totals,
            normaliser=settings.normaliser or self.config.sampling.max_new_tokens,
        )
        return loss, sums | self.measure(tokens, scores) | {"loss": total(loss)}

    def tokens(self, micro: Batch, scores: TokenScores, selected: Tensor | None) -> PolicyTokens:
        """The trained tokens of a micro-batch, as policy losses take them."""
        mask, device = micro.loss_mask, scores.logprobs.device
        old = scores.logprobs.detach()
        if micro.old_logprobs is not None:
            old = micro.old_logprobs[mask].to(device)
        return PolicyTokens(
            logprobs=scores.logprobs,
            old_logprobs=old,
            advantages=micro.advantages[mask].to(device),
            sequence_ids=scores.sequence_ids,
            entropy=scores.entropy,
            sampler_logprobs=micro.sampler_logprobs[mask].to(device),
            selected=None if selected is None else selected[mask].to(device),
        )

    def measure(self, tokens: PolicyTokens, scores: TokenScores) -> Sums:
        """Entropy, and how far the sampler is from the trainer."""
        assert tokens.sampler_logprobs is not None
        gap = tokens.old_logprobs - tokens.sampler_logprobs
        return {
            "entropy": total(scores.entropy),
            "sampler_gap/mean": total(gap.abs()),
            "kl/sampler": total(gap.clamp(max=20.0).expm1() - gap),
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs besides the optimizer's own state; plain JSON values."""
        return {"updates": self.optim.updates, "kl_coefficient": self.kl_coefficient}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.optim.updates = state["updates"]
        self.kl_coefficient = state["kl_coefficient"]

    @torch.no_grad()
    def reference_logprobs(self, micro: Batch) -> Tensor:
        """`[N]`, under the reference: with LoRA, the policy without its matrices."""
        if self.reference is None:
            with without_lora(self.policy.model):
                return self.score(self.policy, micro).logprobs
        return self.score(self.reference, micro).logprobs

    def score(self, policy: Policy, batch: Batch) -> TokenScores:
        """Logprobs and entropy at the sampling temperature."""
        return score_tokens(policy.model, batch, temperature=self.config.sampling.temperature)


def total(values: Tensor) -> Tensor:
    """A sum for the log: 0-D float64, detached."""
    return values.detach().sum(dtype=torch.float64)
