"""The update: epochs of mini-batches over one batch of rollouts, each one optimiser step."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from rlvr.batch import Batch
from rlvr.forward import TokenScores, score_tokens
from rlvr.objectives.aggregation import Totals, aggregate
from rlvr.objectives.kl import kl_estimate
from rlvr.objectives.policy import clipped_policy_loss
from rlvr.policy import Policy
from rlvr.seeds import derive_seed
from rlvr.trainers.config import PolicyGradientConfig
from rlvr.trainers.loop import Metrics
from rlvr.trainers.optimization import Optimizer, mean


class PolicyUpdate:
    """Minimises the configured objective.

    Args:
        config: the run.
        policy: the model that is trained, in place.
        reference: the model of the KL term; `None` where its coefficient is 0.
    """

    def __init__(
        self, config: PolicyGradientConfig, *, policy: Policy, reference: Policy | None
    ) -> None:
        self.config = config
        self.policy = policy
        self.reference = reference
        updates = config.steps * config.objective.epochs * config.objective.mini_batches
        self.optim = Optimizer(policy.model, config.optimizer, updates)

    def update(self, batch: Batch, step: int) -> Metrics:
        """Several epochs of mini-batches over one batch of rollouts."""
        objective = self.config.objective
        if batch.totals.tokens == 0:
            return {"update/skipped": 1.0}
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, "shuffle", step))
        parts = min(objective.mini_batches, len(batch))
        if self.config.rollout.max_staleness:
            # An older policy sampled: the ratio is to that one (clipped importance sampling).
            batch = dataclasses.replace(batch, old_logprobs=batch.sampler_logprobs)
        elif objective.epochs > 1 or parts > 1:
            batch = self.with_old_logprobs(batch)
        rows = [
            self.update_once(mini)
            for _ in range(objective.epochs)
            for mini in batch.split(parts, generator)
            if mini.totals.tokens
        ]
        return {key: mean(row[key] for row in rows) for key in rows[0]}

    @torch.no_grad()
    def with_old_logprobs(self, batch: Batch) -> Batch:
        """The batch with the logprobs of the policy as it is now, before the first update."""
        old = torch.zeros_like(batch.sampler_logprobs)
        for sequences in batch.parts(self.config.micro_batch_tokens):
            micro = batch.select(sequences)
            where = batch.positions(sequences)[micro.loss_mask]
            old[where] = self.score(self.policy, micro).logprobs.cpu()
        return dataclasses.replace(batch, old_logprobs=old)

    def update_once(self, mini: Batch) -> Metrics:
        """One optimiser step. The loss is that of the whole mini-batch, however it is split."""
        totals = mini.totals
        sums: dict[str, float] = {}
        for micro in mini.micro_batches(self.config.micro_batch_tokens):
            loss, counted = self.loss(micro, totals)
            loss.backward()
            for key, value in counted.items():
                sums[key] = sums.get(key, 0.0) + value
        norm, rate = self.optim.step()
        return {**sums, "grad_norm": norm, "lr": rate}

    def loss(self, micro: Batch, totals: Totals) -> tuple[Tensor, Metrics]:
        """A micro-batch's share of the loss, and its shares of the metrics' token means."""
        objective = self.config.objective
        scores = self.score(self.policy, micro)
        logprobs = scores.logprobs
        mask, device = micro.loss_mask, logprobs.device
        old = logprobs.detach()
        if micro.old_logprobs is not None:
            old = micro.old_logprobs[mask].to(device)
        per_token, diagnostics = clipped_policy_loss(
            logprobs,
            old,
            micro.advantages[mask].to(device),
            clip_low=objective.clip_low,
            clip_high=objective.clip_high,
            dual_clip=objective.dual_clip,
        )
        share = len(logprobs) / totals.tokens
        metrics = {f"policy/{key}": value * share for key, value in diagnostics.means().items()}
        if self.reference is not None:
            with torch.no_grad():
                reference = self.score(self.reference, micro).logprobs
            divergence = kl_estimate(logprobs, reference, kind=objective.kl_estimator)
            per_token = per_token + objective.kl_coefficient * divergence
            metrics["kl/reference"] = divergence.detach().sum().item() / totals.tokens
        if objective.entropy_coefficient:
            per_token = per_token - objective.entropy_coefficient * scores.entropy
        loss = aggregate(
            per_token,
            scores.sequence_ids,
            how=objective.aggregation,
            totals=totals,
            normaliser=self.config.sampling.max_new_tokens,
        )
        metrics["loss"] = loss.item()
        metrics["entropy"] = scores.entropy.detach().sum().item() / totals.tokens
        gap = old - micro.sampler_logprobs[mask].to(device)
        metrics["sampler_gap/mean"] = gap.abs().sum().item() / totals.tokens
        metrics["kl/sampler"] = (gap.clamp(max=20.0).expm1() - gap).sum().item() / totals.tokens
        return loss, metrics

    def score(self, policy: Policy, batch: Batch) -> TokenScores:
        """Logprobs and entropy at the sampling temperature."""
        return score_tokens(policy.model, batch, temperature=self.config.sampling.temperature)
