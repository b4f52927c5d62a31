"""GRPO, DAPO and their kin: where rollouts come from, and what is minimised on them."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rlvr.config import Component, Section
from rlvr.trainers.config_objective import ObjectiveConfig
from rlvr.trainers.config_run import (
    EvaluationConfig,
    RunConfig,
    SamplingConfig,
    WarmStartConfig,
)


class RolloutConfig(Section):
    """How many rollouts a step has, and which of them train."""

    tasks_per_step: PositiveInt = 64
    group_size: int = Field(8, ge=2)
    """Completions a task."""
    dynamic_sampling: bool = False
    """Leave out groups whose rewards are all equal, and sample until the batch is full."""
    max_rounds: PositiveInt = 10
    """Sampling rounds at the most in a step; then it trains on what there is."""
    mask_truncated: bool = False
    """Leave completions that ran into the token limit out of the loss."""
    overlong_buffer: int = Field(0, ge=0)
    """Tokens before the limit over which the punishment grows; 0 is none."""
    overlong_penalty: float = Field(1.0, ge=0.0)
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


class PolicyGradientConfig(RunConfig):
    """GRPO, DAPO and their kin."""

    environment: Component
    verifier: Component | None = None
    """In place of the environment's own."""
    sampler: Component = Component(name="hf")
    sampling: SamplingConfig = SamplingConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    rollout: RolloutConfig = RolloutConfig()
    evaluation: EvaluationConfig | None = EvaluationConfig()
    warm_start: WarmStartConfig | None = None

    @model_validator(mode="after")
    def _buffer_fits(self) -> PolicyGradientConfig:
        limit = self.sampling.max_new_tokens
        if self.rollout.overlong_buffer > limit:
            raise ValueError(
                f"rollout.overlong_buffer is {self.rollout.overlong_buffer}: expected at most "
                f"sampling.max_new_tokens ({limit})"
            )
        return self
