"""Updates of a tiny policy on a fixed ragged batch, by one process or by several.

    update_program.py MODE FOLDER CASE

writes the gradients (summed, clipped), the metrics and the weights to `FOLDER/CASE.safetensors`.
Run by the tests of distributed training, in two processes and in one.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rlvr.batch import Batch, Example
from rlvr.config import merge
from rlvr.distributed import World, join
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
    config = parse_config(merge(mapping, CASES[case]), "test")
    assert isinstance(config, PolicyGradientConfig)
    policy, reference = initial_policy(config, world=world), None
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


def main() -> None:
    """Run the case that the command line names, or all of them."""
    mode, folder, names = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(1)
    with join(mode=mode, timeout=60, device="cpu") as world:
        for case in names or CASES:
            found = run(case, world)
            if world.is_main:
                save_file(found, folder / f"{case}.safetensors")
    print(json.dumps({"done": True}))


if __name__ == "__main__":
    main()
