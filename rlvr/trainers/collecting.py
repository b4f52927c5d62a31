"""Where the rollouts of a step come from: tasks, sampled and verified until the batch is full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from rlvr import registry
from rlvr.config import Component
from rlvr.policy import Policy
from rlvr.protocols import Environment, Sampler, TrainableSampler, Verifier
from rlvr.rollouts import Collected, RoundSettings, collect, is_informative, roll_out
from rlvr.seeds import derive_seed
from rlvr.trainers.config import PolicyGradientConfig
from rlvr.trainers.loop import Clock
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
    """

    def __init__(
        self,
        config: PolicyGradientConfig,
        *,
        environment: Environment,
        sampler: TrainableSampler,
        clock: Clock,
    ) -> None:
        self.config = config
        self.sampler = sampler
        self.clock = clock
        self.timed = TimedSampler(sampler, clock)
        self.verifier = choose_verifier(config.verifier, environment)
        self.tasks: Stream[Task] = Stream(environment.tasks, derive_seed(config.seed, "tasks"))

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
            )
            with self.clock.part("rollout"):
                tasks = self.tasks.take(count)
                return roll_out(tasks, self.timed, self.verify, round_settings)

        return collect(
            settings.tasks_per_step,
            next_round,
            keep=is_informative if settings.dynamic_sampling else has_rewards,
            max_rounds=settings.max_rounds,
        )

    def verify(self, pairs: list[tuple[Task, Completion]]) -> list[Verdict]:
        """Grade, each verdict bounded in time."""
        settings = self.config.rollout
        with self.clock.part("verify"):
            return verify_many(
                self.verifier, pairs, workers=settings.workers, timeout=settings.timeout
            )


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


def has_rewards(group: RolloutGroup) -> bool:
    """Whether anything of the group was graded."""
    return bool(group.graded)
