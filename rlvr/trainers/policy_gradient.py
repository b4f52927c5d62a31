"""GRPO, DAPO and their kin: collect rollouts, compare them in groups, update the policy.

The step is four verbs: `collect`, `pack`, `update`, and `update_weights` of the sampler. What is
minimised is chosen by `ObjectiveConfig` and lives in `rlvr.objectives` as pure functions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from rlvr import registry
from rlvr.batch import Batch, Example
from rlvr.config import Component
from rlvr.evals.runner import evaluate
from rlvr.forward import TokenScores, score_tokens
from rlvr.objectives.advantages import (
    group_advantages,
    leave_one_out_advantages,
    soft_overlong_penalty,
)
from rlvr.objectives.aggregation import Totals, aggregate
from rlvr.objectives.kl import kl_estimate
from rlvr.objectives.policy import clipped_policy_loss
from rlvr.policy import Policy
from rlvr.protocols import Environment, TrainableSampler, Verifier
from rlvr.rollout_table import write_rollouts
from rlvr.rollouts import Collected, RoundSettings, collect, is_informative, roll_out
from rlvr.seeds import derive_seed
from rlvr.trainers.config import PolicyGradientConfig
from rlvr.trainers.loop import Clock, Metrics
from rlvr.trainers.optimization import Optimizer, mean
from rlvr.trainers.stream import Stream
from rlvr.types import Completion, FinishReason, Rollout, RolloutGroup, Task, Verdict
from rlvr.verifiers.pool import verify_many


class PolicyGradientLearner:
    """Trains a policy on the verdicts of an environment.

    Args:
        config: the run.
        policy: the model that is trained, in place.
        reference: the model of the KL term; `None` where its coefficient is 0.
        environment: training tasks and their verifier.
        held_out: the environment of evaluations; `None` for none.
        sampler: generates rollouts; it is given the policy's weights here and after every update.
        folder: the run's folder.
    """

    def __init__(
        self,
        config: PolicyGradientConfig,
        *,
        policy: Policy,
        reference: Policy | None,
        environment: Environment,
        held_out: Environment | None,
        sampler: TrainableSampler,
        folder: Path,
    ) -> None:
        self.config = config
        self.policy = policy
        self.reference = reference
        self.held_out = held_out
        self.folder = folder
        self.clock = Clock()
        self.verifier = choose_verifier(config.verifier, environment)
        self.tasks: Stream[Task] = Stream(environment.tasks, derive_seed(config.seed, "tasks"))
        updates = config.steps * config.objective.epochs * config.objective.mini_batches
        self.optim = Optimizer(policy.model, config.optimizer, updates)
        self.optimizer = self.optim.inner
        self.sampler = sampler
        self.sampler.update_weights(policy.model)

    def step(self, step: int) -> Metrics:
        """Collect one batch of rollouts and learn from it."""
        collected = self.collect(step)
        metrics = rollout_metrics(collected)
        if collected.groups:
            batch, reward_metrics = self.pack(collected.groups)
            metrics |= reward_metrics | self.update(batch, step)
            with self.clock.part("sync"):
                self.sampler.update_weights(self.policy.model)
        if step % self.config.rollout.save_every == 0:
            self.save_rollouts(collected, step)
        return metrics

    def collect(self, step: int) -> Collected:
        """Sample and verify until the batch is full."""
        settings = self.config.rollout

        def next_round(index: int, count: int) -> list[RolloutGroup]:
            round_settings = RoundSettings(
                group_size=settings.group_size,
                params=self.config.sampling.params(),
                seed=derive_seed(self.config.seed, "rollouts", step, index),
                policy_version=self.optim.updates,
                parts=settings.parts,
            )
            with self.clock.part("rollout"):
                tasks = self.tasks.take(count)
                return roll_out(tasks, self.sampler, self.verify, round_settings)

        return collect(
            settings.tasks_per_step,
            next_round,
            keep=is_informative if settings.dynamic_sampling else has_rewards,
            max_rounds=settings.max_rounds,
        )

    def verify(self, pairs: list[tuple[Task, Completion]]) -> list[Verdict]:
        """Grade, each verdict bounded in time."""
        settings = self.config.rollout
        return verify_many(self.verifier, pairs, workers=settings.workers, timeout=settings.timeout)

    def pack(self, groups: list[RolloutGroup]) -> tuple[Batch, Metrics]:
        """Shape the rewards, turn them into advantages, and pack the graded rollouts."""
        rollouts = [rollout for group in groups for rollout in group.graded]
        group_ids = torch.tensor([i for i, g in enumerate(groups) for _ in g.graded])
        verdicts = torch.tensor([rollout.reward for rollout in rollouts], dtype=torch.float64)
        rewards = verdicts + self.overlong_penalties(rollouts)
        advantages = self.advantages(rewards, group_ids)
        batch = Batch.pack(
            [
                Example(
                    prompt_ids=rollout.completion.prompt_token_ids,
                    completion_ids=rollout.completion.token_ids,
                    sampler_logprobs=rollout.completion.logprobs,
                    advantage=advantage,
                    trained=not (self.config.rollout.mask_truncated and is_cut_short(rollout)),
                )
                for rollout, advantage in zip(rollouts, advantages.tolist(), strict=True)
            ]
        )
        shaped = {"reward/shaped_mean": rewards.mean().item()}
        return batch, shaped | {"advantage/std": advantages.std().item()}

    def overlong_penalties(self, rollouts: list[Rollout]) -> Tensor:
        """`[G]` float64, 0 or below (DAPO, eq. 13)."""
        if not self.config.rollout.overlong_buffer:
            return torch.zeros(len(rollouts), dtype=torch.float64)
        return soft_overlong_penalty(
            torch.tensor([len(rollout.completion.token_ids) for rollout in rollouts]),
            max_length=self.config.sampling.max_new_tokens,
            buffer=self.config.rollout.overlong_buffer,
            penalty=self.config.rollout.overlong_penalty,
        )

    def advantages(self, rewards: Tensor, group_ids: Tensor) -> Tensor:
        """`[G]` float32."""
        if self.config.objective.advantage == "leave_one_out":
            return leave_one_out_advantages(rewards, group_ids)
        return group_advantages(rewards, group_ids, scale=self.config.objective.scale)

    def update(self, batch: Batch, step: int) -> Metrics:
        """Several epochs of mini-batches over one batch of rollouts."""
        objective = self.config.objective
        if batch.totals.tokens == 0:
            return {"update/skipped": 1.0}
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, "shuffle", step))
        parts = min(objective.mini_batches, len(batch))
        single = objective.epochs == 1 and parts == 1
        with self.clock.part("update"):
            old = None if single else self.with_old_logprobs(batch)
            rows = [
                self.update_once(mini)
                for _ in range(objective.epochs)
                for mini in (batch if old is None else old).split(parts, generator)
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
        gap = (old - micro.sampler_logprobs[mask].to(device)).abs()
        metrics["sampler_gap/mean"] = gap.sum().item() / totals.tokens
        return loss, metrics

    def score(self, policy: Policy, batch: Batch) -> TokenScores:
        """Logprobs and entropy at the sampling temperature."""
        return score_tokens(policy.model, batch, temperature=self.config.sampling.temperature)

    def evaluate(self, step: int) -> Metrics:
        """pass@k and its relatives on held-out tasks, with the sampler that trains."""
        settings = self.config.evaluation
        if settings is None or self.held_out is None:
            return {}
        params = self.config.sampling.params()
        if settings.temperature is not None:
            params = dataclasses.replace(params, temperature=settings.temperature)
        summary = evaluate(
            self.held_out,
            self.sampler,
            n=settings.samples,
            ks=settings.k,
            output=self.folder / "evals" / f"step_{step:06d}",
            params=params,
            limit=settings.tasks,
            workers=self.config.rollout.workers,
            timeout=self.config.rollout.timeout,
            seed=self.config.seed,
            policy_version=self.optim.updates,
        )
        return evaluation_metrics(summary)

    def save_rollouts(self, collected: Collected, step: int) -> None:
        """Keep every rollout of the step, those left out of the batch too."""
        folder = self.folder / "rollouts"
        folder.mkdir(exist_ok=True)
        rollouts = [rollout for group in collected.sampled for rollout in group.rollouts]
        write_rollouts(folder / f"step_{step:06d}.parquet", rollouts)

    def state(self) -> Mapping[str, Any]:
        """The data position and the count of updates."""
        return {"position": self.tasks.position, "updates": self.optim.updates}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a data position, and give the restored weights to the sampler."""
        self.tasks.seek(state["position"])
        self.optim.updates = state["updates"]
        self.sampler.update_weights(self.policy.model)

    def headline(self, metrics: Metrics) -> str:
        """Reward of the rollouts, and pass@1 of the last evaluation."""
        shown = f"reward {metrics.get('reward/mean', math.nan):.3f}"
        if "eval/pass@1" in metrics:
            shown += f", held-out pass@1 {metrics['eval/pass@1']:.3f}"
        return shown


def make_sampler(component: Component, policy: Policy) -> TrainableSampler:
    """The sampler of a configuration, on the live policy."""
    sampler = registry.samplers.create(component.name, {"policy": policy, **component.options})
    return cast(TrainableSampler, sampler)


def choose_verifier(component: Component | None, environment: Environment) -> Verifier:
    """The configured verifier, or the environment's own."""
    if component is None:
        return environment.verifier
    return cast(Verifier, registry.verifiers.create(component.name, component.options))


def is_cut_short(rollout: Rollout) -> bool:
    """Whether the completion ran into the token limit."""
    return rollout.completion.finish_reason is FinishReason.LENGTH


def has_rewards(group: RolloutGroup) -> bool:
    """Whether anything of the group was graded."""
    return bool(group.graded)


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
