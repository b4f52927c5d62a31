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
from transformers import PreTrainedModel

from rlvr.batch import Batch
from rlvr.compute import backward
from rlvr.distributed import ALONE, World
from rlvr.forward import TokenScores
from rlvr.memory import give_back_memory
from rlvr.objectives.aggregation import Totals, aggregate
from rlvr.objectives.kl import adapted_kl_coefficient, kl_estimate
from rlvr.objectives.mismatch import MismatchSums, mismatch_weights, on_policy_sequences
from rlvr.objectives.policy import PolicyTokens, policy_loss
from rlvr.objectives.token_selection import keep_only, select_tokens
from rlvr.policy import Policy
from rlvr.seeds import derive_seed
from rlvr.sharing import parts_here
from rlvr.trainers.comparing import Comparison, compare
from rlvr.trainers.config import PolicyGradientConfig
from rlvr.trainers.critic import Critic, value_model
from rlvr.trainers.experience import Experience
from rlvr.trainers.loop import Metrics
from rlvr.trainers.objective import resolve
from rlvr.trainers.optimization import Optimizer, mean
from rlvr.trainers.scoring import REFERENCE, RETURNS, VALUES, Scorer

Sums = dict[str, Tensor]
"""Sums over tokens by the metric's name: 0-D float64, detached."""

LEVELS = {
    "off": "token",
    "token": "token",
    "sequence": "sequence-product",
    "geometric": "sequence-geometric",
}


class PolicyUpdate:
    """Minimises the configured objective.

    Args:
        config: the run.
        policy: the model that is trained, in place.
        reference: the model of the KL term; `None` where its coefficient is 0, and with LoRA.
        critic: the value model that a configured critic begins as; made from a copy of the policy
            where not given, which a sharded one cannot be.
        world: the processes, which share the sequences of every batch.
    """

    def __init__(
        self,
        config: PolicyGradientConfig,
        *,
        policy: Policy,
        reference: Policy | None,
        critic: PreTrainedModel | None = None,
        world: World = ALONE,
    ) -> None:
        self.config = config
        self.world = world
        self.policy = policy
        self.objective = resolve(config.objective)
        self.kl_coefficient = config.objective.kl_coefficient
        updates = config.steps * config.objective.epochs * config.objective.mini_batches
        self.optim = Optimizer(policy.model, config.optimizer, updates, world)
        self.critic: Critic | None = None
        if config.critic is not None:
            begun = value_model(policy.model) if critic is None else critic
            self.critic = Critic(begun, config.critic, updates, world)
        self.scorer = Scorer(
            config, policy=policy, reference=reference, critic=self.critic, world=world
        )

    def compare(self, experience: Experience) -> Comparison:
        """Give every trained token of a scored batch its advantage."""
        return compare(experience, self.config.objective, self.objective, self.kl_coefficient)

    def update(self, batch: Batch, step: int) -> Metrics:
        """Several epochs of mini-batches over one batch of rollouts with their advantages.

        Args:
            batch: with a trained token; what `Scorer.complete` has not filled in is filled in here.
            step: the training step, which the shuffle depends on.
        """
        settings = self.config.objective
        batch = self.scorer.complete(batch)
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, "shuffle", step))
        parts = min(settings.mini_batches, len(batch))
        rows = [
            self.update_once(mini, step, derive_seed(self.config.seed, "select", step, epoch, i))
            for epoch in range(settings.epochs)
            for i, mini in enumerate(batch.split(parts, generator))
            if mini.totals.tokens
        ]
        return {key: mean(row[key] for row in rows) for key in rows[0]}

    def adapt(self, measured: Metrics, totals: Totals) -> Metrics:
        """Steer the KL coefficient towards the divergence of a completion that was asked for.

        Args:
            measured: of the step; without `kl/reference` (the critic learned alone, and the KL
                term is in the loss) the coefficient stays.
            totals: of its batch.

        Returns:
            The coefficient that was in force, where one was to be steered.
        """
        settings = self.config.objective
        if settings.kl_target is None:
            return {}
        in_force = self.kl_coefficient
        if "kl/reference" in measured:
            self.kl_coefficient = adapted_kl_coefficient(
                in_force,
                measured["kl/reference"] * totals.tokens / totals.sequences,
                target=settings.kl_target,
                horizon=settings.kl_horizon,
                samples=totals.sequences,
            )
        return {"kl/coefficient": in_force}

    def update_once(self, mini: Batch, step: int, seed: int) -> Metrics:
        """One optimiser step. The loss is that of the whole mini-batch, however it is split."""
        totals = self.totals(mini)
        critic_alone = self.config.critic is not None and step <= self.config.critic.warmup_steps
        selected = None if critic_alone else self.select(mini, seed)
        tally, unused = Tally(), Tally()
        for sequences, counts in parts_here(mini, self.config.micro_batch_tokens, self.world):
            micro = mini.select(sequences)
            counted = tally if counts else unused
            weight = 1.0 if counts else 0.0
            if not critic_alone:
                chosen = None if selected is None else selected[mini.positions(sequences)]
                backward(weight * self.loss(micro, totals, chosen, counted))
            if self.critic is not None:
                counted.add(self.learn_values(self.critic, micro, totals, weight))
            give_back_memory()
        metrics = tally.metrics(totals, self.world)
        if self.critic is not None:
            metrics["critic/grad_norm"], metrics["critic/lr"] = self.critic.optim.step()
        if not critic_alone:
            metrics["grad_norm"], metrics["lr"] = self.optim.step()
        return metrics

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
        scored = self.scorer.column(mini, self.logprobs_and_entropy, (2,))
        logprobs, entropy = scored[mask].unbind(-1)
        old = logprobs if mini.old_logprobs is None else mini.old_logprobs[mask]
        tokens = PolicyTokens(
            logprobs=logprobs,
            old_logprobs=old,
            advantages=mini.advantages[mask],
            sequence_ids=mini.sequence_ids[mask],
            entropy=entropy,
        )
        selected = torch.zeros_like(mask)
        selected[mask] = select_tokens(part.name, tokens, seed=seed, **part.options)
        return selected

    def logprobs_and_entropy(self, micro: Batch) -> Tensor:
        """`[N, 2]`, under the policy as it is now."""
        scores = self.scorer.score(self.policy, micro)
        return torch.stack([scores.logprobs, scores.entropy], dim=-1)

    def loss(self, micro: Batch, totals: Totals, selected: Tensor | None, tally: Tally) -> Tensor:
        """A micro-batch's share of the loss; what the log wants of it goes to `tally`."""
        settings = self.config.objective
        scores = self.scorer.score(self.policy, micro)
        chosen = None if selected is None else selected[micro.loss_mask].to(scores.logprobs.device)
        for_loss = self.objective.selects_for_loss
        tokens = self.tokens(micro, scores, chosen if for_loss else None)
        name, options = self.objective.loss.name, self.objective.loss.options
        per_token, sums = policy_loss(name, tokens, **options)
        tally.add({f"policy/{key}": value for key, value in sums.items()})
        if chosen is not None and not for_loss:
            per_token = keep_only(per_token, chosen)
        per_token = self.corrected(per_token, tokens, tally)
        if settings.off_policy_threshold is not None:
            per_token = self.without_stale(per_token, tokens, settings.off_policy_threshold, tally)
        if REFERENCE in micro.columns and settings.kl_in == "loss":
            per_token = per_token + self.kl_coefficient * self.divergence(micro, tokens, tally)
        if settings.entropy_coefficient:
            per_token = per_token - settings.entropy_coefficient * scores.entropy
        loss = aggregate(
            per_token,
            scores.sequence_ids,
            how=settings.aggregation,
            totals=totals,
            normaliser=settings.normaliser or self.config.sampling.max_new_tokens,
        )
        tally.loss += loss.item()
        tally.add({"entropy": total(scores.entropy)})
        return loss

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
            selected=selected,
        )

    def corrected(self, per_token: Tensor, tokens: PolicyTokens, tally: Tally) -> Tensor:
        """The loss weighted for a sampler that is not the trainer; how far apart they are."""
        settings = self.config.objective.mismatch
        assert tokens.sampler_logprobs is not None
        weights, apart = mismatch_weights(
            tokens.old_logprobs,
            tokens.sampler_logprobs,
            tokens.sequence_ids,
            level=LEVELS[settings.level],
            mode=settings.mode,
            low=settings.low,
            high=settings.high,
        )
        tally.apart = apart if tally.apart is None else tally.apart + apart
        return per_token if settings.level == "off" else per_token * weights

    def without_stale(
        self, per_token: Tensor, tokens: PolicyTokens, threshold: float, tally: Tally
    ) -> Tensor:
        """The loss without sequences that went stale and would only be unlearnt."""
        assert tokens.sampler_logprobs is not None
        kept = on_policy_sequences(
            tokens.logprobs.detach(),
            tokens.sampler_logprobs,
            tokens.advantages,
            tokens.sequence_ids,
            threshold=threshold,
        )
        tally.add({"mismatch/stale": total(~kept)})
        return keep_only(per_token, kept)

    def divergence(self, micro: Batch, tokens: PolicyTokens, tally: Tally) -> Tensor:
        """`[N]`: the estimate of the divergence from the reference, as a term of the loss."""
        settings = self.config.objective
        reference = micro.columns[REFERENCE][micro.loss_mask].to(tokens.logprobs.device)
        estimate = kl_estimate(
            tokens.logprobs,
            reference,
            settings.kl_estimator.name,
            old_logprobs=None if settings.kl_ratio == "off" else tokens.old_logprobs,
            sequence_ids=tokens.sequence_ids if settings.kl_ratio == "sequence" else None,
            **settings.kl_estimator.options,
        )
        tally.add({"kl/reference": total(estimate)})
        return estimate

    def learn_values(self, critic: Critic, micro: Batch, totals: Totals, weight: float) -> Sums:
        """The critic's share of a micro-batch, its gradient times `weight`."""
        mask = micro.loss_mask
        values, returns = micro.columns[VALUES][mask], micro.columns[RETURNS][mask]
        return critic.learn(micro, values, returns, totals, weight)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs besides the optimizer's own state; plain JSON values."""
        return {"updates": self.optim.updates, "kl_coefficient": self.kl_coefficient}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.optim.updates = state["updates"]
        self.kl_coefficient = state["kl_coefficient"]


class Tally:
    """What is added up over the micro-batches of an optimiser step, for the log.

    Attributes:
        loss: the shares of the loss.
        sums: over tokens, by name.
        apart: how far the sampler is from the trainer; `None` before anything was measured.
    """

    def __init__(self) -> None:
        self.loss = 0.0
        self.sums: Sums = {}
        self.apart: MismatchSums | None = None

    def add(self, sums: Sums) -> None:
        """Add a micro-batch's sums."""
        for key, value in sums.items():
            self.sums[key] = self.sums.get(key, 0.0) + value.cpu()

    def metrics(self, totals: Totals, world: World) -> Metrics:
        """Sums over all processes, divided by the tokens of the whole optimisation batch."""
        here = {key: value.item() for key, value in self.sums.items()}
        metrics = {key: value / totals.tokens for key, value in world.add_up(here).items()}
        apart = gap_metrics(self.apart, world)
        if apart:
            metrics["loss"] = world.add_up({"loss": self.loss})["loss"]
        return metrics | apart


def gap_metrics(apart: MismatchSums | None, world: World) -> Metrics:
    """How far the sampler is from the trainer, over all processes; empty where none measured it."""
    names = [field.name for field in dataclasses.fields(MismatchSums)]
    here = {} if apart is None else {name: getattr(apart, name).item() for name in names}
    largest = max(world.gather(here.get("largest", 0.0)))
    added = world.add_up(here)
    if not added:
        return {}
    sums = {name: torch.tensor(added[name], dtype=torch.float64) for name in names}
    sums["largest"] = torch.tensor(largest, dtype=torch.float64)
    metrics = MismatchSums(**sums).metrics()
    named = {"sampler_gap/mean": metrics.pop("gap"), "kl/sampler": metrics.pop("kl")}
    return named | {f"mismatch/{key}": value for key, value in metrics.items()}


def total(values: Tensor) -> Tensor:
    """A sum for the log: 0-D float64, detached."""
    return values.detach().sum(dtype=torch.float64)
