"""What a policy gradient step minimises."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rlvr.config import Section


class ObjectiveConfig(Section):
    """What the policy gradient step minimises. Defaults are GRPO's."""

    advantage: Literal["group", "leave_one_out"] = "group"
    scale: Literal["group", "batch", "none"] = "group"
    """What group advantages are divided by."""
    clip_low: float = Field(0.2, ge=0.0, lt=1.0)
    clip_high: float = Field(0.2, ge=0.0)
    dual_clip: PositiveFloat | None = None
    """Bound on the loss of negative advantages (`c` > 1); off where not given."""
    aggregation: Literal[
        "token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"
    ] = "seq-mean-token-mean"
    kl_coefficient: float = Field(0.0, ge=0.0)
    """0 needs no reference model."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    entropy_coefficient: float = Field(0.0, ge=0.0)
    """Weight of an entropy bonus: a policy that is sure too soon no longer explores."""
    epochs: PositiveInt = 1
    """Passes over the rollouts of a step."""
    mini_batches: PositiveInt = 1
    """Optimiser steps a pass."""

    @model_validator(mode="after")
    def _dual_clip_lies_outside(self) -> ObjectiveConfig:
        if self.dual_clip is not None and self.dual_clip <= 1.0 + self.clip_high:
            raise ValueError(
                f"dual_clip is {self.dual_clip}: expected above 1 + clip_high "
                f"({1 + self.clip_high})"
            )
        return self
