"""The configuration of `rlvr train`: one frozen section a concern, each field with its unit.

`algorithm` picks the section class and lays its presets beneath the file's own values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rlvr.config import Component, Section, build, merge
from rlvr.errors import ConfigError, nearest
from rlvr.types import SamplingParams

NEW = "new"
"""The policy name that means: make one from scratch, as `new_policy` says."""


class NewPolicyConfig(Section):
    """The shape of a policy made from scratch (Qwen2, one token a character)."""

    alphabet: str | None = None
    """The characters that the tokenizer knows; all bytes where not given."""
    hidden_size: PositiveInt = 128
    layers: PositiveInt = 4
    heads: PositiveInt = 4
    max_length: PositiveInt = 512
    """The longest sequence, in tokens."""


class SamplingConfig(Section):
    """How completions are sampled."""

    max_new_tokens: PositiveInt = 256
    temperature: float = Field(1.0, ge=0.0)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    top_k: int = Field(0, ge=0)
    """0 keeps every token."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion."""

    def params(self) -> SamplingParams:
        """The same as the samplers take it."""
        return SamplingParams(**self.model_dump())


class OptimizerConfig(Section):
    """AdamW, and how its learning rate runs."""

    lr: PositiveFloat = 1e-6
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: float = Field(0.0, ge=0.0)
    warmup_steps: int = Field(0, ge=0)
    """Optimiser steps over which the rate rises linearly from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate goes on after the warm-up: level, or down to `final_lr_fraction`."""
    final_lr_fraction: float = Field(0.0, ge=0.0, le=1.0)
    max_grad_norm: PositiveFloat = 1.0


class CheckpointConfig(Section):
    """When checkpoints are written and how many are kept."""

    every: PositiveInt = 50
    """Steps between checkpoints; the last step always has one."""
    keep: PositiveInt = 2
    """The newest ones that stay."""


class EvaluationConfig(Section):
    """Evaluation before, during and after training."""

    environment: Component | None = None
    """Held-out tasks; where not given, the training environment with `split: test`."""
    every: PositiveInt = 50
    """Steps between evaluations; the first and the last step always have one."""
    tasks: PositiveInt | None = None
    """At most this many tasks; all of them where not given."""
    samples: PositiveInt = 8
    """Completions a task."""
    k: tuple[PositiveInt, ...] = (1, 8)
    """For pass@k and its relatives; none above `samples`."""
    temperature: float | None = None
    """Where not given, the one of training."""

    @model_validator(mode="after")
    def _enough_samples(self) -> EvaluationConfig:
        if max(self.k, default=1) > self.samples:
            raise ValueError(
                f"k={max(self.k)} needs at least that many samples; samples is {self.samples}"
            )
        return self


class WarmStartConfig(Section):
    """Supervised steps on worked solutions before reinforcement learning."""

    max_steps: PositiveInt = 3000
    batch_size: PositiveInt = 128
    """Worked solutions a step."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-3, warmup_steps=50, weight_decay=0.01)
    stop_at: float = Field(0.3, gt=0.0, le=1.0)
    """Stop as soon as the measured pass@1 reaches this."""
    check_every: PositiveInt = 50
    """Steps between measurements."""
    check_tasks: PositiveInt = 200
    """Tasks a measurement, taken from a split of their own (`validation`)."""


class RunConfig(Section):
    """What every training run has."""

    algorithm: str
    output: str
    """The run's folder."""
    seed: int = 0
    policy: str
    """A folder, a Hub name, or `new`."""
    new_policy: NewPolicyConfig = NewPolicyConfig()
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    """`auto` takes a GPU where there is one."""
    threads: PositiveInt = 1
    """Torch threads on a CPU; part of what makes a run repeatable bit for bit."""
    steps: PositiveInt
    """Training steps."""
    optimizer: OptimizerConfig = OptimizerConfig()
    micro_batch_tokens: PositiveInt = 16384
    """Tokens (padding counted) in one forward pass."""
    checkpoint: CheckpointConfig = CheckpointConfig()


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


class PreferenceObjectiveConfig(Section):
    """What DPO and its kin minimise."""

    kind: str = "sigmoid"
    """A registered `dpo/<kind>`."""
    beta: PositiveFloat = 0.1
    """Strength of the pull to the reference, per nat."""
    label_smoothing: float = Field(0.0, ge=0.0, lt=0.5)
    """The share of pairs taken to be labelled the wrong way round."""


class DPOConfig(GivenDataConfig):
    """`dpo`: the policy itself learns the preferences; the reference is the policy it begins as."""

    data: str
    """A file, a folder or a Hub name, with columns `prompt`, `chosen`, `rejected`, maybe `id`."""
    objective: PreferenceObjectiveConfig = PreferenceObjectiveConfig()


PRESETS: dict[str, dict[str, Any]] = {
    # Shao et al. 2024 (DeepSeekMath), without the reference model.
    "grpo": {},
    # Yu et al. 2025 (DAPO): clip-higher, dynamic sampling, token-level loss, overlong shaping.
    "dapo": {
        "objective": {"clip_high": 0.28, "aggregation": "token-mean"},
        "rollout": {"dynamic_sampling": True, "mask_truncated": True},
    },
    # Liu et al. 2025 (Dr. GRPO): no division by the standard deviation nor by the length.
    "dr_grpo": {"objective": {"scale": "none", "aggregation": "seq-mean-token-sum-norm"}},
    # Ahmadian et al. 2024 (RLOO).
    "rloo": {"objective": {"advantage": "leave_one_out", "aggregation": "seq-mean-token-sum"}},
}

SECTIONS: dict[str, type[RunConfig]] = {
    **dict.fromkeys(PRESETS, PolicyGradientConfig),
    "sft": SupervisedConfig,
    "reward": RewardConfig,
    "dpo": DPOConfig,
}


def parse_config(mapping: Mapping[str, Any], where: str) -> RunConfig:
    """Check a configuration and lay it on the presets of its algorithm.

    Args:
        mapping: plain values, overrides applied.
        where: what they come from, for messages.

    Raises:
        ConfigError: a key is unknown, missing or wrong; the message is one line.
    """
    algorithm = mapping.get("algorithm")
    if algorithm is None:
        raise ConfigError(f"{where}: missing key 'algorithm'; known: {', '.join(sorted(SECTIONS))}")
    if not isinstance(algorithm, str) or algorithm not in SECTIONS:
        raise ConfigError(
            f"{where}: unknown algorithm {algorithm!r}{nearest(str(algorithm), SECTIONS)}"
        )
    return build(SECTIONS[algorithm], merge(PRESETS.get(algorithm, {}), mapping), where)


def output_folder(config: RunConfig) -> Path:
    """Where the run writes."""
    return Path(config.output).expanduser()
