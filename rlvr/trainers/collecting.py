"""Where the rollouts of a step come from: tasks, sampled and verified until the batch is full."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

from rlvr import registry
from rlvr.config import Component
from rlvr.distributed import ALONE, World
from rlvr.errors import DistributedError, RlvrError
from rlvr.policy import Policy
from rlvr.protocols import Environment, Sampler, TrainableSampler, Verifier
from rlvr.rollout_table import groups_from_bytes, groups_to_bytes
from rlvr.rollouts import Collected, RoundSettings, collect, is_informative, roll_out
from rlvr.seeds import derive_seed
from rlvr.trainers.config import PolicyGradientConfig, RolloutConfig
from rlvr.trainers.curriculum import Curriculum
from rlvr.trainers.loop import Clock, Metrics
from rlvr.trainers.stream import Stream
from rlvr.types import Completion, Prompt, RolloutGroup, SamplingParams, Task, Verdict
from rlvr.verifiers.pool import verify_many


class RolloutSource:
    """Samples and verifies what a step trains on.

    Args:
        config: the run.
        environment: training tasks and their verifier.
        sampler: generates completions, with the weights that it was given last.
        clock: counts the seconds of generation and verification.
        world: the processes; each samples and verifies its share of every round, and has all of it
            afterwards.
    """

    def __init__(
        self,
        config: PolicyGradientConfig,
        *,
        environment: Environment,
        sampler: TrainableSampler,
        clock: Clock,
        world: World = ALONE,
    ) -> None:
        self.config = config
        self.world = world.apart() if config.rollout.max_staleness else world
        self.sampler = sampler
        self.clock = clock
        self.timed = TimedSampler(sampler, clock)
        self.verifier = choose_verifier(config.verifier, environment)
        self.tasks: Stream[Task] = Stream(environment.tasks, derive_seed(config.seed, "tasks"))
        self.curriculum: Curriculum | None = None
        if config.curriculum is not None:
            seed = derive_seed(config.seed, "curriculum")
            self.curriculum = Curriculum(environment.tasks, config.curriculum, seed)

    def collect(self, step: int, policy_version: int) -> Collected:
        """Sample and verify until the batch is full."""
        settings = self.config.rollout

        def next_round(index: int, count: int) -> list[RolloutGroup]:
            round_settings = RoundSettings(
                group_size=settings.group_size,
                params=self.config.sampling.params(),
                seed=derive_seed(self.config.seed, "rollouts", step, index),
                policy_version=policy_version,
                parts=settings.parts,
                greedy=self.config.objective.advantage.name == "remax",
            )
            with self.clock.part("rollout"):
                groups = self.roll_out(self.draw(count), round_settings)
            if self.curriculum is not None:
                self.curriculum.observe(groups)
            return groups

        collected = collect(
            settings.tasks_per_step,
            next_round,
            keep=self.trains,
            max_rounds=settings.max_rounds,
            oversampling=settings.oversampling,
        )
        if self.curriculum is not None:
            collected.metrics.update(self.curriculum.metrics())
        return collected

    def roll_out(self, tasks: Sequence[Task], settings: RoundSettings) -> list[RolloutGroup]:
        """A round: the same groups whatever the number of processes, but for float rounding."""
        first = self.world.start_of_share(len(tasks))
        share = self.world.share(tasks)
        own = roll_out(share, self.timed, self.verify, settings, first=first)
        return gather_groups(self.world, own, tasks)

    def draw(self, count: int) -> list[Task]:
        """The next tasks, by the curriculum where there is one."""
        return (self.curriculum or self.tasks).take(count)

    def trains(self, group: RolloutGroup) -> bool:
        """Whether a group belongs into the batch."""
        if self.config.rollout.dynamic_sampling:
            return self.teaches(group)
        return self.is_comparable(group)

    def teaches(self, group: RolloutGroup) -> bool:
        """Whether a group has a gradient."""
        return self.is_comparable(group) and is_informative(group, self.config.reward.counted)

    def is_comparable(self, group: RolloutGroup) -> bool:
        """Whether the verifier left enough of a group to take advantages of."""
        if group.greedy is not None and group.greedy.reward is None:
            return False
        least: int = self.config.objective.advantage.options.get("k", 1)
        return len(group.graded) >= least

    def state(self) -> dict[str, Any]:
        """Where the stream of tasks stands, and what the curriculum knows; plain JSON values."""
        state: dict[str, Any] = {"position": self.tasks.position}
        if self.curriculum is not None:
            state["curriculum"] = self.curriculum.state()
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.tasks.seek(state["position"])
        if self.curriculum is not None:
            self.curriculum.restore(state["curriculum"])

    def verify(self, pairs: list[tuple[Task, Completion]]) -> list[Verdict]:
        """Grade, each verdict bounded in time."""
        settings = self.config.rollout
        with self.clock.part("verify"):
            return verify_many(
                self.verifier, pairs, workers=settings.workers, timeout=settings.timeout
            )


def gather_groups(
    world: World, own: Sequence[RolloutGroup], tasks: Sequence[Task]
) -> list[RolloutGroup]:
    """The groups of all processes, in the order of the round's tasks, on every process.

    Raises:
        DistributedError: the processes worked on different tasks.
    """
    if world.size == 1:
        return list(own)
    # A task stays where it is, as the object that it is: only its name travels.
    named = [_with_task(group, Task(id=group.task.id, prompt="")) for group in own]
    parts = [groups_from_bytes(part) for part in world.gather_bytes(groups_to_bytes(named))]
    groups = [group for part in parts for group in part]
    if [group.task.id for group in groups] != [task.id for task in tasks]:
        raise DistributedError(
            "the processes sampled different tasks: the environment gives out other tasks, or in "
            "another order, in different processes"
        )
    return [_with_task(group, task) for group, task in zip(groups, tasks, strict=True)]


def _with_task(group: RolloutGroup, task: Task) -> RolloutGroup:
    greedy = group.greedy and dataclasses.replace(group.greedy, task=task)
    members = tuple(dataclasses.replace(rollout, task=task) for rollout in group.rollouts)
    return dataclasses.replace(group, task=task, rollouts=members, greedy=greedy)


def within_bound(
    collected: Collected, settings: RolloutConfig, step: int, *, say: bool = True
) -> tuple[list[RolloutGroup], Metrics]:
    """The groups to train on, after what was chosen for a batch that could not be filled.

    Returns:
        The groups, none where the update is to be skipped; and what the log gets.

    Raises:
        RlvrError: the batch is not full, and the run is to stop then.
    """
    metrics = {"sampling/at_bound": float(not collected.is_full)}
    if collected.is_full:
        return collected.groups, metrics
    found = (
        f"step {step}: {collected.rounds} rounds ({len(collected.sampled)} groups sampled) gave "
        f"{len(collected.groups)} of {collected.wanted} groups to train on"
    )
    if settings.at_bound == "stop":
        raise RlvrError(
            f"{found}; rollout.at_bound says to stop there: raise rollout.max_rounds, choose other "
            "tasks, or set rollout.at_bound=train or skip"
        )
    if settings.at_bound == "skip" or not collected.groups:
        does = "the update is skipped"
    else:
        does = "trains on those"
    if say:
        print(
            f"warning: {found}; {does} (rollout.at_bound); later ones are in the metric "
            "sampling/at_bound alone",
            file=sys.stderr,
            flush=True,
        )
    return ([] if settings.at_bound == "skip" else collected.groups), metrics


class TimedSampler:
    """A sampler whose seconds and tokens are counted, as the part `generate`."""

    def __init__(self, sampler: Sampler, clock: Clock) -> None:
        self.name = sampler.name
        self._sampler = sampler
        self._clock = clock

    def sample(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seeds: Sequence[int]
    ) -> list[Completion]:
        """One completion for each prompt, in order."""
        with self._clock.part("generate"):
            completions = self._sampler.sample(prompts, params, seeds=seeds)
        self._clock.count("generate", sum(len(one.token_ids) for one in completions))
        return completions

    def close(self) -> None:
        """Close the sampler."""
        self._sampler.close()


def make_sampler(component: Component, policy: Policy) -> TrainableSampler:
    """The sampler of a configuration, on the live policy."""
    sampler = registry.samplers.create(component.name, {"policy": policy, **component.options})
    return cast(TrainableSampler, sampler)


def choose_verifier(component: Component | None, environment: Environment) -> Verifier:
    """The configured verifier, or the environment's own."""
    if component is None:
        return environment.verifier
    return cast(Verifier, registry.verifiers.create(component.name, component.options))
