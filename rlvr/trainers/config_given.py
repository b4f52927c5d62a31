"""Training on given completions and preferences: `sft`, `reward`, `dpo`."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rlvr.config import Component, Section
from rlvr.trainers.config_run import RunConfig


class HeldOutConfig(Section):
    """Which rows are kept apart, and when they are measured on. A row's id alone decides."""

    count: PositiveInt | None = None
    """Rows, taken in the order of a hash of their ids."""
    fraction: float | None = Field(None, gt=0.0, lt=1.0)
    """In place of `count`: the share of ids whose hash lies below it."""
    every: PositiveInt = 50
    """Steps between measurements; the first and the last step always have one."""

    @model_validator(mode="after")
    def _one_of_the_two(self) -> HeldOutConfig:
        if (self.count is None) == (self.fraction is None):
            raise ValueError("expected either count or fraction")
        return self


class GivenDataConfig(RunConfig):
    """What runs have that learn from given completions rather than from their own."""

    split: str = "train"
    """Of a data folder or of a Hub data set; one file is one split."""
    held_out: HeldOutConfig | None = HeldOutConfig(fraction=0.1)
    """`null` trains on everything and measures nothing."""
    batch_size: PositiveInt = 32
    """Rows a step."""
    max_length: PositiveInt | None = None
    """Tokens of a prompt with its completion; rows with more are left out and counted. Where not
    given, as many as the policy has positions."""


class SupervisedConfig(GivenDataConfig):
    """`sft`: imitate given completions."""

    data: str | None = None
    """A file, a folder or a Hub name, with a column `prompt` and the one below."""
    completion_column: str = "completion"
    environment: Component | None = None
    """In place of `data`: the worked solutions of its tasks; its split `test` is held out."""

    @model_validator(mode="after")
    def _one_source(self) -> SupervisedConfig:
        if (self.data is None) == (self.environment is None):
            raise ValueError("expected either data or environment")
        for key, value in (("split", "train"), ("completion_column", "completion")):
            if self.environment is not None and getattr(self, key) != value:
                raise ValueError(
                    f"{key} is {getattr(self, key)!r}, which is of data: leave it out, or give it "
                    "to the environment"
                )
        return self


class RewardObjectiveConfig(Section):
    """What a reward model minimises: Bradley and Terry's likelihood."""

    centre: float = Field(0.0, ge=0.0)
    """Weight of the term that ties the level of the rewards to 0; 0.01 is usual."""


class RewardConfig(GivenDataConfig):
    """`reward`: a scalar that ranks the chosen completion of each pair above the rejected one."""

    data: str
    """A file, a folder or a Hub name, with columns `prompt`, `chosen`, `rejected`, maybe `id`."""
    objective: RewardObjectiveConfig = RewardObjectiveConfig()

    @model_validator(mode="after")
    def _trains_its_head(self) -> RewardConfig:
        if self.lora is not None:
            raise ValueError(
                "lora: a reward model's new head has to be trained whole; leave it out"
            )
        return self


class PreferenceObjectiveConfig(Section):
    """What DPO and its kin minimise."""

    kind: str = "sigmoid"
    """A registered `dpo/<kind>`."""
    beta: PositiveFloat = 0.1
    """Strength of the pull to the reference, per nat."""
    per_token: bool = False
    """Take means of the log-probabilities over a completion's tokens in place of sums: `ipo` as its
    authors and TRL have it, with a target that does not grow with the length."""
    label_smoothing: float = Field(0.0, ge=0.0, lt=0.5)
    """The share of pairs taken to be labelled the wrong way round."""


class DPOConfig(GivenDataConfig):
    """`dpo`: the policy itself learns the preferences; the reference is the policy it begins as."""

    data: str
    """A file, a folder or a Hub name, with columns `prompt`, `chosen`, `rejected`, maybe `id`."""
    objective: PreferenceObjectiveConfig = PreferenceObjectiveConfig()
