"""Updates of a tiny policy on a fixed ragged batch, by one process or by several.

Run by the tests of distributed training, in two processes and in one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    PreTrainedConfig,
    PreTrainedModel,
)

from rlvr.batch import Batch, Example
from rlvr.config import merge
from rlvr.distributed import World, join
from rlvr.policy import Policy
from rlvr.sharding import shard, whole
from rlvr.trainers.components import adapt, initial_policy, sharded_critic
from rlvr.trainers.config import PolicyGradientConfig, parse_config
from rlvr.trainers.optimization import Optimizer
from rlvr.trainers.policy_update import PolicyUpdate
from rlvr.trainers.scoring import RETURNS

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "small_micro_batches": {"micro_batch_tokens": 12},
    "grpo": {"algorithm": "grpo", "micro_batch_tokens": 20},
    "several_updates": {
        "objective": {"epochs": 2, "mini_batches": 2, "kl_coefficient": 0.1},
        "micro_batch_tokens": 12,
    },
    "selection": {
        "objective": {"loss": "clip-cov", "epochs": 2, "entropy_coefficient": 0.01},
        "micro_batch_tokens": 12,
    },
    "mismatch": {
        "objective": {"mismatch": {"level": "geometric", "high": 1.5}, "epochs": 2},
        "micro_batch_tokens": 12,
    },
    "critic": {
        "algorithm": "ppo",
        "critic": {"optimizer": {"lr": 1e-2, "max_grad_norm": 0.05}},
        "micro_batch_tokens": 12,
    },
    "lora": {
        "lora": {"rank": 4, "alpha": 8},
        "objective": {"epochs": 2, "kl_coefficient": 0.1},
        "micro_batch_tokens": 12,
    },
    "critic_lora": {
        "algorithm": "ppo",
        "critic": {"optimizer": {"lr": 1e-2, "max_grad_norm": 0.05}},
        "lora": {"rank": 3},
        "gradient_checkpointing": True,
        "micro_batch_tokens": 12,
    },
    "checkpointed": {"gradient_checkpointing": True, "micro_batch_tokens": 12},
    "bfloat16": {
        "dtype": "bfloat16",
        "master_weights": True,
        "objective": {"epochs": 2},
        "micro_batch_tokens": 12,
    },
    "one_sequence": {"micro_batch_tokens": 12},
    "softcap": {"objective": {"entropy_coefficient": 0.01}},
    "logit_scale": {"objective": {"epochs": 2}, "micro_batch_tokens": 12},
}
ONE_LAYER = {"new_policy": {"layers": 1}}
COMPILED: dict[str, dict[str, Any]] = {
    "compiled": {**ONE_LAYER, "compile": True},
    "not compiled": ONE_LAYER,
}
SMALL: dict[str, Any] = {
    "vocab_size": 16,
    "hidden_size": 12,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
}
# What a model does to its logits; the rows of the first one are padded, a few at a time, too.
HEADS: dict[str, PreTrainedConfig] = {
    "softcap": Gemma2Config(**SMALL, query_pre_attn_scalar=6, final_logit_softcapping=0.5),
    "logit_scale": CohereConfig(**SMALL, logit_scale=0.25),
}


def ragged(one: bool) -> Batch:
    """Uneven lengths, two groups of equal prompts; with `one`, a single trained sequence."""
    generator = torch.Generator().manual_seed(3)
    examples = []
    for i, length in enumerate((1, 9, 3, 5, 2, 17, 4)):
        ids = torch.randint(2, 15, (length,), generator=generator).tolist()
        examples.append(
            Example(
                prompt_ids=(3, 4, 5) if i < 4 else (7, 8),
                completion_ids=tuple(ids),
                sampler_logprobs=(-2.5,) * length,
                advantage=(-1.0) ** i * (i + 1) / 3,
                trained=i == 1 if one else i != 3,
            )
        )
    return Batch.pack(examples)


def run(case: str, world: World) -> dict[str, torch.Tensor]:
    """The gradients of each optimiser step, the weights at the end, and the metrics."""
    mapping = {
        "algorithm": "dapo",
        "policy": "new",
        "new_policy": {"alphabet": "0123456789+=A:", "hidden_size": 12, "layers": 2, "heads": 2},
        "device": "cpu",
        "output": "nowhere",
        "environment": "arithmetic",
        "steps": 2,
        "sampling": {"max_new_tokens": 32},
        "optimizer": {"lr": 1e-3, "max_grad_norm": 0.05},
        "objective": {"mini_batches": 1},
    }
    config = parse_config(merge(mapping, (CASES | COMPILED)[case]), "test")
    assert isinstance(config, PolicyGradientConfig)
    policy, reference = initial_policy(config, world=world), None
    if case in HEADS:
        policy = Policy(model_of(HEADS[case]), policy.tokenizer)
    adapt(policy, config)
    shard(policy.model, world)
    if config.objective.kl_coefficient and config.lora is None:
        reference = initial_policy(config.model_copy(update={"seed": 1}), world=world)
        shard(reference.model, world)
    updating = PolicyUpdate(
        config,
        policy=policy,
        reference=reference,
        critic=sharded_critic(config, None, world),
        world=world,
    )
    found: dict[str, torch.Tensor] = {}
    parameters = dict(policy.model.named_parameters())
    remember("policy", updating.optim, parameters, found)
    if updating.critic is not None:
        remember("critic", updating.critic.optim, dict(updating.critic.trained()), found)
    batch = ragged(case == "one_sequence")
    if updating.critic is not None:
        batch = dataclasses.replace(batch, columns={RETURNS: 0.1 * batch.advantages})
    metrics = updating.update(batch, step=1)
    if updating.critic is not None:
        for name, parameter in updating.critic.trained():
            found[f"critic {name}"] = whole(parameter.detach()).clone()
    for name, parameter in parameters.items():
        found[name] = whole(parameter.detach()).clone()
    for name, value in metrics.items():
        found[f"metric.{name}"] = torch.tensor(value, dtype=torch.float64)
    return found


def model_of(config: PreTrainedConfig) -> PreTrainedModel:
    """A random model whose weights, norms too, are neither 0 nor 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model


def remember(
    whose: str,
    optim: Optimizer,
    parameters: dict[str, torch.nn.Parameter],
    found: dict[str, torch.Tensor],
) -> None:
    """Note the gradients of each step of an optimiser, as `WHOSE-NUMBER NAME.grad`."""
    apply = optim.inner.step

    def remember_and_apply() -> None:
        for name, parameter in parameters.items():
            if parameter.requires_grad:
                assert parameter.grad is not None
                found[f"{whose}-{optim.updates} {name}.grad"] = whole(parameter.grad).clone()
        apply()

    optim.inner.step = remember_and_apply  # type: ignore[method-assign]


def main(mode: str, folder: str, cases: Sequence[str] = tuple(CASES)) -> None:
    """Run cases; what `run` gives goes to `FOLDER/CASE.safetensors`."""
    torch.set_num_threads(1)
    with join(mode=mode, timeout=60, device="cpu") as world:
        for case in cases:
            found = run(case, world)
            if world.is_main:
                save_file(found, Path(folder) / f"{case}.safetensors")


def compiled(mode: str, folder: str) -> None:
    """The case `compiled`, its layers traced, but not made into C++, which takes a minute."""
    compile_in_full = torch.nn.Module.compile

    def trace(layer: torch.nn.Module, **options: Any) -> None:
        compile_in_full(layer, **options, backend="eager")

    torch.nn.Module.compile = trace  # type: ignore[method-assign]
    main(mode, folder, ["compiled"])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
