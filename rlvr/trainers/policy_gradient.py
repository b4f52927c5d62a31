"""GRPO, DAPO and their kin: collect rollouts, compare them in groups, update the policy.

The step is four verbs: `update_weights` of the sampler and `collect` (`collecting.py`), some steps
ahead where that is asked for (`pipeline.py`); `pack` (`experience.py`) and `update`
(`policy_update.py`). What is minimised is chosen by
`ObjectiveConfig` and lives in `rlvr.objectives` as pure functions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from rlvr.evals.runner import evaluate
from rlvr.policy import Policy
from rlvr.protocols import Environment, TrainableSampler
from rlvr.rollout_table import write_rollouts
from rlvr.rollouts import Collected
from rlvr.trainers.collecting import RolloutSource
from rlvr.trainers.config import PolicyGradientConfig
from rlvr.trainers.experience import pack
from rlvr.trainers.in_flight import load_batches, save_batches
from rlvr.trainers.loop import Clock, Metrics
from rlvr.trainers.pipeline import Pipeline
from rlvr.trainers.policy_update import PolicyUpdate
from rlvr.trainers.rollout_metrics import evaluation_metrics, rollout_metrics, staleness


class PolicyGradientLearner:
    """Trains a policy on the verdicts of an environment.

    Args:
        config: the run.
        policy: the model that is trained, in place.
        reference: the model of the KL term; `None` where its coefficient is 0.
        environment: training tasks and their verifier.
        held_out: the environment of evaluations; `None` for none.
        sampler: generates rollouts; with `rollout.max_staleness`, on weights of its own.
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
        self.held_out = held_out
        self.folder = folder
        self.clock = Clock()
        self.sampler = sampler
        self.sampling_version: int | None = None
        self.source = RolloutSource(
            config, environment=environment, sampler=sampler, clock=self.clock
        )
        self.updating = PolicyUpdate(config, policy=policy, reference=reference)
        self.optim = self.updating.optim
        self.optimizer = self.optim.inner
        self.pipeline: Pipeline[Collected] = Pipeline(
            self.source.collect,
            hand_over=self.hand_over,
            model=policy.model,
            version=lambda: self.optim.updates,
            ahead=config.rollout.max_staleness,
            last=config.steps,
        )

    def hand_over(self, model: nn.Module, version: int) -> None:
        """Give the sampler weights with `version` updates behind them, if it lacks them."""
        if version != self.sampling_version:
            with self.clock.part("sync"):
                self.sampler.update_weights(model)
            self.sampling_version = version

    def step(self, step: int) -> Metrics:
        """Take one batch of rollouts and learn from it."""
        with self.clock.part("collect"):
            collected = self.pipeline.take(step)
        metrics = rollout_metrics(collected) | staleness(collected, self.optim.updates)
        if collected.groups:
            batch, reward_metrics = pack(collected.groups, self.config)
            with self.clock.part("update"):
                metrics |= reward_metrics | self.updating.update(batch, step)
            self.clock.count("update", len(batch.input_ids) * self.config.objective.epochs)
        if step % self.config.rollout.save_every == 0:
            self.save_rollouts(collected, step)
        return metrics

    def evaluate(self, step: int) -> Metrics:
        """pass@k and its relatives on held-out tasks, with the sampler that trains."""
        settings = self.config.evaluation
        if settings is None or self.held_out is None:
            return {}
        self.pipeline.drain()
        self.hand_over(self.policy.model, self.optim.updates)
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
        """The data position, after the batches in flight, and the count of updates."""
        self.pipeline.drain()
        return {"position": self.source.tasks.position, "updates": self.optim.updates}

    def save_files(self, folder: Path) -> None:
        """Write the batches in flight into a checkpoint."""
        save_batches(folder, self.pipeline.drain())

    def load_files(self, folder: Path) -> None:
        """Take up the batches that were in flight."""
        self.pipeline.restore(load_batches(folder))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a data position; the sampler gets the restored weights when they are needed."""
        self.source.tasks.seek(state["position"])
        self.optim.updates = state["updates"]
        self.sampling_version = None

    def close(self) -> None:
        """Stop what is being made, and close the sampler."""
        self.pipeline.close()
        self.sampler.close()

    def headline(self, metrics: Metrics) -> str:
        """Reward of the rollouts, and pass@1 of the last evaluation."""
        shown = f"reward {metrics.get('reward/mean', math.nan):.3f}"
        if "eval/pass@1" in metrics:
            shown += f", held-out pass@1 {metrics['eval/pass@1']:.3f}"
        return shown
