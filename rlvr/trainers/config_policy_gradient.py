"""GRPO, DAPO and their kin: where rollouts come from, and which of them train."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rlvr.config import Component, Section
from rlvr.trainers.config_objective import (
    CriticConfig,
    ObjectiveConfig,
    ReferenceConfig,
    RewardShapingConfig,
)
from rlvr.trainers.config_run import (
    EvaluationConfig,
    RunConfig,
    SamplingConfig,
    WarmStartConfig,
)


class RolloutConfig(Section):
    """How many rollouts a step has, and which of them train."""

    tasks_per_step: PositiveInt = 64
    group_size: PositiveInt = 8
    """Completions a task."""
    dynamic_sampling: bool = False
    """Leave out groups whose rewards are all equal, and sample until the batch is full."""
    oversampling: float = Field(1.0, ge=1.0)
    """Every round samples that many times the tasks that are missing: fewer rounds, more waste."""
    max_rounds: PositiveInt = 10
    """Sampling rounds at the most in a step."""
    at_bound: Literal["train", "skip", "stop"] = "train"
    """What becomes of a batch that `max_rounds` did not fill: train on what there is, skip the
    update, or stop the run with an error. It is said, and logged as `sampling/at_bound`."""
    mask_truncated: bool = False
    """Leave completions that ran into the token limit out of the loss (overlong filtering)."""
    overlong_buffer: float = Field(0, ge=0)
    """Tokens before the limit over which the soft overlong punishment grows, or, below 1, their
    share of `sampling.max_new_tokens`; 0 is none."""
    overlong_penalty: float = Field(1.0, ge=0.0)
    """What a completion at the limit loses, in units of reward."""
    workers: PositiveInt = 2
    """Verifier processes."""
    timeout: PositiveFloat = 30.0
    """Seconds that a verdict may take."""
    parts: PositiveInt = 1
    """Parts that a round is generated in; one part is verified while the next is generated."""
    max_staleness: int = Field(0, ge=0)
    """Steps by which the sampling weights are behind: with N, the batch of step s is made while
    earlier steps train, by the weights after step s-1-N. 0 makes each batch in its own step."""
    save_every: PositiveInt = 10
    """Steps between rollout tables kept on disk."""

    @model_validator(mode="after")
    def _buffer_is_of_whole_tokens(self) -> RolloutConfig:
        if self.overlong_buffer >= 1 and self.overlong_buffer % 1:
            raise ValueError(
                f"overlong_buffer is {self.overlong_buffer}: expected whole tokens, or a share "
                "below 1"
            )
        return self

    @model_validator(mode="after")
    def _groups_can_differ(self) -> RolloutConfig:
        if self.dynamic_sampling and self.group_size < 2:
            raise ValueError("dynamic_sampling compares the rewards of a group: group_size is 1")
        return self


class ReplayConfig(Section):
    """Informative groups of earlier steps, once more in a batch, with their own sampler's
    logprobs as the old policy.
    """

    groups: PositiveInt = 8
    """Groups that join each batch, beside the fresh ones; fewer while the buffer has fewer."""
    capacity: PositiveInt = 256
    """Groups that the buffer holds; the oldest make room."""
    max_age: PositiveInt = 16
    """Optimiser steps after which a group is forgotten."""


class CurriculumConfig(Section):
    """Draw tasks in proportion to p (1 - p), p being the running pass rate of each."""

    uniform: float = Field(0.25, gt=0.0, le=1.0)
    """Share of every draw that comes from all tasks in turn, so that none starves."""
    floor: float = Field(0.05, gt=0.0, le=1.0)
    """The least weight of a task; the largest is 1."""
    rate: float = Field(0.5, gt=0.0, le=1.0)
    """Weight of the newest group in a task's running pass rate."""


class PolicyGradientConfig(RunConfig):
    """GRPO, DAPO and their kin."""

    environment: Component
    verifier: Component | None = None
    """In place of the environment's own."""
    sampler: Component = Component(name="hf")
    sampling: SamplingConfig = SamplingConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    reward: RewardShapingConfig = RewardShapingConfig()
    reference: ReferenceConfig = ReferenceConfig()
    critic: CriticConfig | None = None
    """A value model; `objective.advantage: gae` needs one, the others take none."""
    rollout: RolloutConfig = RolloutConfig()
    replay: ReplayConfig | None = None
    curriculum: CurriculumConfig | None = None
    evaluation: EvaluationConfig | None = EvaluationConfig()
    warm_start: WarmStartConfig | None = None

    @property
    def overlong_tokens(self) -> int:
        """Tokens before the limit over which the soft overlong punishment grows; 0 is none."""
        buffer, limit = self.rollout.overlong_buffer, self.sampling.max_new_tokens
        return max(1, round(buffer * limit)) if 0 < buffer < 1 else int(buffer)

    @model_validator(mode="after")
    def _buffer_fits(self) -> PolicyGradientConfig:
        limit = self.sampling.max_new_tokens
        if self.rollout.overlong_buffer > limit:
            raise ValueError(
                f"rollout.overlong_buffer is {self.rollout.overlong_buffer}: expected at most "
                f"sampling.max_new_tokens ({limit})"
            )
        return self

    @model_validator(mode="after")
    def _no_thread_samples_meanwhile(self) -> PolicyGradientConfig:
        if self.deterministic and self.rollout.max_staleness:
            raise ValueError(
                f"deterministic is true and rollout.max_staleness {self.rollout.max_staleness}: "
                "expected 0, because torch's strict mode would hold for the thread that samples "
                "too"
            )
        return self

    @model_validator(mode="after")
    def _ratios_are_of_one_policy(self) -> PolicyGradientConfig:
        if self.lora is not None and self.lora.dropout:
            raise ValueError(
                f"lora.dropout is {self.lora.dropout}: expected 0, because the probability ratio "
                "compares the policy with the one that sampled, which drops nothing"
            )
        if self.lora is not None and self.reference.update != "fixed":
            raise ValueError(
                f"reference.update is {self.reference.update!r}: expected 'fixed' with lora, whose "
                "reference is the policy without its matrices"
            )
        return self
