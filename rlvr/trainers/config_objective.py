"""What a policy gradient step minimises, and the rewards that it is made from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    FiniteFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from rlvr.config import Component, Section
from rlvr.trainers.config_run import OptimizerConfig

OFF = BeforeValidator(lambda value: "off" if value is False else value)
"""YAML reads a bare `off` as false."""
YES_IS_TOKEN = BeforeValidator(lambda value: "token" if value is True else value)


class MismatchConfig(Section):
    """Correction for a sampler whose probabilities are not the trainer's: another kernel, another
    precision, older weights. What there is to correct is measured whatever is set here.
    """

    level: Annotated[Literal["off", "token", "sequence", "geometric"], OFF] = "off"
    """Importance weights of single tokens, of whole sequences (their product), or the geometric
    mean over a sequence."""
    mode: Literal["truncate", "mask", "reject"] = "truncate"
    """Weights outside the bounds are cut to them, or made 0, or make those of their whole sequence
    0 and all others 1."""
    low: float = Field(0.0, ge=0.0, le=1.0)
    """Lower bound of a weight; 0 is none."""
    high: float = Field(2.0, ge=1.0)
    """Upper bound of a weight."""


class ObjectiveConfig(Section):
    """What the policy gradient step minimises. Defaults are GRPO's."""

    loss: Component = Component(name="clip")
    """A registered `policy/<name>` with its options (`rlvr list objectives`)."""
    clip_low: float | None = Field(None, ge=0.0)
    """For a loss that has it; where not given, the loss's own (0.2 for `clip`)."""
    clip_high: float | None = Field(None, ge=0.0)
    """As `clip_low`."""
    dual_clip: PositiveFloat | None = None
    """Bound on the loss of negative advantages (`c` > 1), for a loss that has it; off where not
    given."""
    advantage: Component = Component(name="group")
    """A registered `advantage/<name>` with its options, or one of each token: `gae` (needs
    `critic`), `returns`."""
    scale: Literal["group", "batch", "none"] | None = None
    """What group advantages are divided by, for an estimator that asks; its own where not given."""
    whiten: bool = True
    """Normalise the advantages of tokens (`gae`, `returns`) over the batch."""
    aggregation: str = "seq-mean-token-mean"
    """A registered `aggregation/<name>`: token-mean, token-sum, seq-mean-token-mean,
    seq-mean-token-sum, seq-mean-token-sum-norm."""
    normaliser: PositiveFloat | None = None
    """The constant of `seq-mean-token-sum-norm`, in tokens; `sampling.max_new_tokens` where not
    given."""
    count_masked: bool = False
    """Whether sequences that are left out of the loss count in sequence means (TRL: yes)."""
    kl_coefficient: float = Field(0.0, ge=0.0)
    """Of the divergence from the reference, per nat; 0 needs no reference model."""
    kl_estimator: Component = Component(name="k3")
    """A registered `kl/<name>` with its options."""
    kl_in: Literal["loss", "reward"] = "loss"
    """A term of the loss, or a penalty on the reward of each token (then k1 is usual)."""
    kl_ratio: Annotated[Literal["off", "token", "sequence"], OFF, YES_IS_TOKEN] = "off"
    """In the loss: multiply the estimate by the probability ratio, which makes its gradient
    unbiased; of each token, or its geometric mean over the sequence (TRL's GSPO; not unbiased)."""
    kl_target: PositiveFloat | None = None
    """Adapts the coefficient so that the divergence of a completion stays near this many nats."""
    kl_horizon: PositiveInt = 10_000
    """Rollouts over which the coefficient adapts."""
    entropy_coefficient: float = Field(0.0, ge=0.0)
    """Weight of an entropy bonus: a policy that is sure too soon no longer explores."""
    token_selection: Component | None = None
    """A registered `token-selection/<name>`: the loss of all other tokens is 0 (`top-entropy`). The
    losses `clip-cov` and `kl-cov` bring their own, with the options that stand here."""
    mismatch: MismatchConfig = MismatchConfig()
    off_policy_threshold: PositiveFloat | None = None
    """Leave out sequences of negative advantage that the policy has become less likely to write
    than the sampler was, by more than this many nats a token."""
    epochs: PositiveInt = 1
    """Passes over the rollouts of a step."""
    mini_batches: PositiveInt = 1
    """Optimiser steps a pass."""

    @model_validator(mode="after")
    def _dual_clip_lies_outside(self) -> ObjectiveConfig:
        if self.dual_clip is not None and self.dual_clip <= 1.0 + (self.clip_high or 0.0):
            raise ValueError(
                f"dual_clip is {self.dual_clip}: expected above 1 + clip_high "
                f"({1 + (self.clip_high or 0.0)})"
            )
        return self


class ReferenceConfig(Section):
    """The model of the KL term: the policy that the run began as, or one that follows it."""

    update: Literal["fixed", "sync", "average"] = "fixed"
    """Never changed, replaced by the policy, or moved towards it."""
    every: PositiveInt = 100
    """Training steps between changes."""
    rate: float = Field(0.6, gt=0.0, le=1.0)
    """For `average`: the share of the way to the policy that a change goes."""


class RewardShapingConfig(Section):
    """From verdicts to the rewards that advantages are made from."""

    weights: dict[str, FiniteFloat] = Field(default_factory=dict)
    """The reward as a weighted sum of named parts: metrics of the verdict, and `reward` for the
    verdict's own. Empty is the verdict's own reward."""
    shaping: tuple[Component, ...] = ()
    """Registered `shaping/<name>` parts, applied in turn: `{name: clip, low: 0, high: 1}`."""

    @property
    def counted(self) -> tuple[str, ...]:
        """The parts that have a weight."""
        return tuple(name for name, weight in self.weights.items() if weight)

    @model_validator(mode="after")
    def _something_counts(self) -> RewardShapingConfig:
        if self.weights and not self.counted:
            raise ValueError("weights are all 0: every reward would be 0")
        return self


class CriticConfig(Section):
    """A value model: the policy's body with a scalar head, trained beside it."""

    value_clip: PositiveFloat | None = 0.2
    """How far a value may move from its old one before its gradient is cut; `null` is no bound."""
    warmup_steps: int = Field(0, ge=0)
    """Training steps in which the critic alone learns."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-5)
