"""GRPO, DAPO and their kin: collect rollouts, compare them in groups, update the policy.

The step is four verbs: `update_weights` of the sampler and `collect` (`collecting.py`), some steps
ahead where that is asked for (`pipeline.py`); `pack` (`experience.py`) and `update`
(`policy_update.py`). What is minimised is chosen by
`ObjectiveConfig` and lives in `rlvr.objectives` as pure functions.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
from collections.abc import Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from rlvr.adapters import copy_weights
from rlvr.batch import Batch
from rlvr.distributed import ALONE, World
from rlvr.evals.runner import evaluate
from rlvr.policy import Policy
from rlvr.protocols import Environment, Sampler, TrainableSampler
from rlvr.rollout_table import write_rollouts
from rlvr.rollouts import Collected
from rlvr.seeds import derive_seed
from rlvr.trainers.collecting import RolloutSource, within_bound
from rlvr.trainers.config import EvaluationConfig, PolicyGradientConfig
from rlvr.trainers.experience import pack
from rlvr.trainers.in_flight import load_batches, save_batches
from rlvr.trainers.loop import Clock, Metrics
from rlvr.trainers.pipeline import Pipeline
from rlvr.trainers.policy_update import PolicyUpdate
from rlvr.trainers.reference_model import Reference
from rlvr.trainers.replay import ReplayBuffer
from rlvr.trainers.rollout_metrics import evaluation_metrics, rollout_metrics, staleness
from rlvr.trainers.shared_sampler import sample_together
from rlvr.trainers.weight_sync import PROMPTS, WeightSync
from rlvr.types import RolloutGroup


class PolicyGradientLearner:
    """Trains a policy on the verdicts of an environment.

    Args:
        config: the run.
        policy: the model that is trained, in place.
        reference: the model of the KL term; `None` where its coefficient is 0, and with LoRA.
        environment: training tasks and their verifier.
        held_out: the environment of evaluations; `None` for none.
        sampler: generates rollouts; with `rollout.max_staleness`, on weights of its own.
        folder: the run's folder.
        whole: a whole copy of a sharded policy, before it has LoRA matrices, on the CPU; needed
            with `rollout.max_staleness`.
        critic: the value model that a configured critic begins as; needed with sharded weights.
        world: the processes that train it; with sharded weights, the sampler has its own.
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
        whole: PreTrainedModel | None = None,
        critic: PreTrainedModel | None = None,
        world: World = ALONE,
    ) -> None:
        self.config = config
        self.world = world
        self.policy = policy
        self.held_out = held_out
        self.folder = folder
        self.clock = Clock()
        self.sampler = sampler
        self.sampling_version: int | None = None
        self.bound_was_said = False
        self.source = RolloutSource(
            config, environment=environment, sampler=sampler, clock=self.clock, world=world
        )
        self.reference: Reference | None = None
        if reference is not None:
            self.reference = Reference(reference, config.reference, world)
        self.replay: ReplayBuffer | None = None
        if config.replay is not None:
            self.replay = ReplayBuffer(config.replay, derive_seed(config.seed, "replay"))
        self.updating = PolicyUpdate(
            config, policy=policy, reference=reference, critic=critic, world=world
        )
        self.optim = self.updating.optim
        self.optimizer = self.optim.inner
        self.sync = WeightSync(
            sampler,
            [task.prompt for task in islice(environment.tasks, PROMPTS)],
            temperature=config.sampling.temperature,
            max_new_tokens=config.sampling.max_new_tokens,
            seed=config.seed,
        )
        self.sync_gaps: dict[int, float] = {}
        self.pipeline: Pipeline[Collected] = Pipeline(
            self.source.collect,
            hand_over=self.hand_over,
            model=policy.model,
            version=lambda: self.optim.updates,
            ahead=config.rollout.max_staleness,
            last=config.steps,
            snapshot=None if whole is None else partial(self.gather, whole),
        )

    def gather(self, whole: nn.Module, model: nn.Module) -> nn.Module:
        """A whole copy of a sharded policy as it is now, which needs no other process any more."""
        copy_weights(model, whole)
        return copy.deepcopy(whole).to(self.world.device)

    def hand_over(self, model: nn.Module, version: int) -> None:
        """Give the sampler weights with `version` updates behind them, if it lacks them."""
        if version != self.sampling_version:
            with self.clock.part("sync"):
                self.sync_gaps[version] = self.sync.push(model)
            self.sampling_version = version

    def sync_metrics(self, collected: Collected) -> Metrics:
        """How well the sampler agreed with the weights that a batch was sampled from."""
        version = min(one.policy_version for group in collected.sampled for one in group.rollouts)
        for older in [v for v in list(self.sync_gaps) if v < version]:
            del self.sync_gaps[older]
        return {"sampler_gap/after_sync": self.sync_gaps[version]}

    def step(self, step: int) -> Metrics:
        """Take one batch of rollouts and learn from it."""
        with self.clock.part("collect"):
            collected = self.pipeline.take(step)
        say = self.world.is_main and not self.bound_was_said
        groups, bound = within_bound(collected, self.config.rollout, step, say=say)
        self.bound_was_said |= not collected.is_full
        metrics = rollout_metrics(collected) | staleness(collected, self.optim.updates) | bound
        metrics |= self.sync_metrics(collected) | collected.metrics
        if groups:
            metrics |= self.learn(groups, step)
        if self.reference is not None:
            self.reference.follow(self.policy, step)
        self.remember(collected)
        if step % self.config.rollout.save_every == 0:
            self.save_rollouts(collected, step)
        return metrics

    def learn(self, groups: list[RolloutGroup], step: int) -> Metrics:
        """Update the policy on fresh groups, and on replayed ones where there are any."""
        replayed: list[RolloutGroup] = []
        if self.replay is not None:
            replayed = self.replay.draw(step, self.optim.updates, groups)
        experience = pack(groups, self.config, replayed)
        if not experience.batch.totals.tokens:  # every completion was cut short, and is left out
            return {"update/skipped": 1.0}
        with self.clock.part("update"):
            scored = self.updating.scorer.complete(experience.batch, experience.replayed)
            compared = self.updating.compare(dataclasses.replace(experience, batch=scored))
            self.world.check_equal("the batch", fingerprint(compared.batch))
            metrics = compared.metrics | self.updating.update(compared.batch, step)
            metrics |= self.updating.adapt(metrics, compared.batch.totals)
        self.clock.count("update", len(scored.input_ids) * self.config.objective.epochs)
        if self.replay is not None:
            metrics["sampling/replayed"] = float(len(replayed))
        return metrics

    def remember(self, collected: Collected) -> None:
        """Keep the informative groups of a step for later ones, trained on or not."""
        if self.replay is not None:
            self.replay.add(list(filter(self.source.teaches, collected.sampled)))

    def evaluate(self, step: int) -> Metrics:
        """pass@k and its relatives on held-out tasks, with the sampler that trains."""
        settings = self.config.evaluation
        if settings is None or self.held_out is None:
            return {}
        self.pipeline.drain()
        self.hand_over(self.policy.model, self.optim.updates)
        held_out = self.held_out
        metrics: Metrics = sample_together(
            self.world,
            self.sampler,
            lambda sampler: self.evaluate_with(sampler, held_out, settings, step),
        )
        return metrics

    def evaluate_with(
        self, sampler: Sampler, held_out: Environment, settings: EvaluationConfig, step: int
    ) -> Metrics:
        """Evaluate in the process that writes."""
        params = self.config.sampling.params()
        if settings.temperature is not None:
            params = dataclasses.replace(params, temperature=settings.temperature)
        summary = evaluate(
            held_out,
            sampler,
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
        if not self.world.is_main:
            return
        folder = self.folder / "rollouts"
        folder.mkdir(exist_ok=True)
        rollouts = [rollout for group in collected.sampled for rollout in group.rollouts]
        write_rollouts(folder / f"step_{step:06d}.parquet", rollouts)

    def state(self) -> Mapping[str, Any]:
        """Where the source of rollouts stands, batches in flight included; the update's counts."""
        self.pipeline.drain()
        return {
            "source": self.source.state(),
            "updating": self.updating.state(),
            "sync_gaps": sorted(self.sync_gaps.items()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a data position; the sampler gets the restored weights when they are needed."""
        self.source.restore(state["source"])
        self.updating.restore(state["updating"])
        self.sync_gaps = {version: gap for version, gap in state["sync_gaps"]}
        self.sampling_version = None

    def close(self) -> None:
        """Stop what is being made, and close the sampler."""
        self.pipeline.close()
        self.sampler.close()

    def save_files(self, folder: Path) -> None:
        """Write what a checkpoint needs besides: batches in flight, replay, a moving reference."""
        batches = self.pipeline.drain()
        if self.world.is_main:
            save_batches(folder, batches)
            if self.replay is not None:
                self.replay.save(folder)
        for part in (self.reference, self.updating.critic):
            if part is not None:
                part.save(folder)

    def load_files(self, folder: Path) -> None:
        """The inverse of `save_files`."""
        self.pipeline.restore(load_batches(folder))
        for part in (self.replay, self.reference, self.updating.critic):
            if part is not None:
                part.load(folder)

    def headline(self, metrics: Metrics) -> str:
        """Reward of the rollouts, and pass@1 of the last evaluation."""
        shown = f"reward {metrics.get('reward/mean', math.nan):.3f}"
        if "eval/pass@1" in metrics:
            shown += f", held-out pass@1 {metrics['eval/pass@1']:.3f}"
        return shown


def fingerprint(batch: Batch) -> str:
    """A digest of what a batch says; processes that differ in it would train different runs."""
    digest = hashlib.blake2b(digest_size=8)
    for tensor in (batch.input_ids, batch.boundaries, batch.loss_mask, batch.advantages):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
