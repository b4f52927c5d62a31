"""What every training run has: policy, sampling, optimiser, checkpoints, evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rlvr.config import Component, Section
from rlvr.types import SamplingParams

NEW = "new"
"""The policy name that means: make one from scratch, as `new_policy` says."""


Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


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
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: float = Field(0.0, ge=0.0)
    warmup_steps: int = Field(0, ge=0)
    """Optimiser steps over which the rate rises linearly from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the rate goes on after the warm-up: level, or down to `final_lr_fraction`."""
    final_lr_fraction: float = Field(0.0, ge=0.0, le=1.0)
    max_grad_norm: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _fraction_is_reached(self) -> OptimizerConfig:
        if self.final_lr_fraction and self.schedule == "constant":
            raise ValueError(
                f"final_lr_fraction is {self.final_lr_fraction}, but schedule is 'constant': set "
                "schedule to linear or cosine, or leave it out"
            )
        return self


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


class DistributedConfig(Section):
    """How several processes (`torchrun`) share the work; nothing of it matters to one alone."""

    mode: Literal["auto", "data_parallel", "fsdp"] = "auto"
    """`data_parallel` gives every process all weights, `fsdp` a part of them; `auto` is `fsdp` on
    GPUs."""
    timeout: PositiveFloat = 1800.0
    """Seconds that a process waits for the others before the run fails."""


class LoraConfig(Section):
    """Small matrices that are trained in place of the weights (Hu et al. 2021); needs `peft`."""

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    """The product of the matrices is scaled by `alpha / rank`."""
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Of the matrices' inputs; for `sft` and `dpo` only."""
    targets: tuple[str, ...] = ()
    """Names of layers (`q_proj`); where not given, every linear layer but the output head."""


class RunConfig(Section):
    """What every training run has."""

    algorithm: str
    output: str
    """The run's folder."""
    seed: int = 0
    policy: str
    """A folder, a Hub name, or `new`."""
    new_policy: NewPolicyConfig = NewPolicyConfig()
    """The shape of a `policy: new`; of any other, the weights themselves say it."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the model computes in."""
    master_weights: bool = True
    """Keep weights, gradients and the optimiser's state in float32 whatever `dtype` is. Off, they
    are in `dtype`: half the memory, but small updates are rounded away."""
    gradient_checkpointing: bool = False
    """Keep one activation a layer and compute the others again: less memory for more time."""
    compile: bool = False
    """Compile the layers with `torch.compile`: minutes at the start, faster steps after."""
    deterministic: bool = False
    """On a GPU: add up gradients in a fixed order, or fail where torch has no kernel that does.
    Slower, and without it two runs differ by rounding; on a CPU the order is fixed anyway."""
    device: str = "auto"
    """`auto` takes a GPU where there is one."""
    threads: PositiveInt = 1
    """Torch threads on a CPU; part of what makes a run repeatable bit for bit."""
    steps: PositiveInt
    """Training steps."""
    optimizer: OptimizerConfig = OptimizerConfig()
    micro_batch_tokens: PositiveInt = 16384
    """Tokens in one forward pass; a prompt that several completions share counts once."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where the metrics are shown besides, as the run goes; needs `rlvr[track]`."""
    lora: LoraConfig | None = None
    """Train LoRA matrices, and leave the weights as they are."""
    distributed: DistributedConfig = DistributedConfig()

    @model_validator(mode="after")
    def _master_weights_are_another_precision(self) -> RunConfig:
        if not self.master_weights and self.dtype == "float32":
            raise ValueError(
                "master_weights is false, but dtype is 'float32', in which weights are kept "
                "anyway: set dtype=bfloat16, or master_weights=true"
            )
        return self


def output_folder(config: RunConfig) -> Path:
    """Where the run writes."""
    return Path(config.output).expanduser()
