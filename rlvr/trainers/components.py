"""What a configuration names, loaded: the policy that a run begins with, and environments."""

from __future__ import annotations

from typing import cast

import torch
from transformers import PreTrainedModel

from rlvr import registry
from rlvr.adapters import add_lora, check_lora
from rlvr.compute import checkpoint_activations, compile_layers, compute_in
from rlvr.config import Component
from rlvr.distributed import ALONE, World
from rlvr.errors import ConfigError
from rlvr.policy import Policy, load_policy, make_policy, torch_dtype
from rlvr.protocols import Environment
from rlvr.seeds import derive_seed
from rlvr.sharding import shard
from rlvr.trainers.config import NEW, PolicyGradientConfig, RunConfig
from rlvr.trainers.critic import put_value_head


def initial_policy(config: RunConfig, source: str | None = None, world: World = ALONE) -> Policy:
    """The policy that a run begins with: from `source`, from the configured place, or new.

    Where it is to be sharded it is on the CPU, and whole still.

    Raises:
        UserError: it cannot be loaded, not made in the shape that was asked for, or not given the
            LoRA matrices of the configuration.
    """
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if world.sharded:
        device = "cpu"
    dtype = "float32" if config.master_weights else config.dtype
    if source is None and config.policy == NEW:
        shape = config.new_policy.model_dump()
        policy = make_policy(**shape, seed=config.seed, dtype=dtype, device=device)
    else:
        policy = load_policy(source or config.policy, dtype=dtype, device=device)
    if config.lora is not None:
        check_lora(policy.model, config.lora.targets)
    if dtype != config.dtype:
        compute_in(policy.model, torch_dtype(config.dtype))
    if config.gradient_checkpointing:
        checkpoint_activations(policy.model)
    if config.compile:
        compile_layers(policy.model)
    return policy


def adapt(policy: Policy, config: RunConfig) -> None:
    """Put LoRA matrices into a policy where the run has them; as yet they change nothing.

    A policy that is to be sharded gets them before.
    """
    if config.lora is not None:
        add_lora(policy.model, **config.lora.model_dump(), seed=derive_seed(config.seed, "lora"))


def sharded_critic(
    config: PolicyGradientConfig, source: str | None, world: World
) -> PreTrainedModel | None:
    """What a configured critic begins as where weights are sharded: the policy, loaded once more.

    Args:
        config: the run.
        source: of the policy that the run begins with, as for `initial_policy`.
        world: the processes.
    """
    if config.critic is None or not world.sharded:
        return None
    policy = initial_policy(config, source, world)
    adapt(policy, config)
    put_value_head(policy.model)
    shard(policy.model, world)
    return policy.model


def sampling_policy(policy: Policy, world: World, *, own: bool) -> Policy:
    """What a sampler is given: the policy itself, or a whole copy where the trained one is no use.

    Args:
        policy: not sharded yet.
        world: the processes.
        own: whether the sampler works while the policy is trained.
    """
    if not world.sharded:
        return policy.copy() if own else policy
    copied = policy.copy()
    return Policy(copied.model.to(world.device), copied.tokenizer)


def load_component(component: Component) -> Environment:
    """The environment of a configuration, with at least one task.

    Raises:
        UserError: it cannot be made, or it has no tasks.
    """
    environment = cast(Environment, registry.environments.create(component.name, component.options))
    if next(iter(environment.tasks), None) is None:
        raise ConfigError(f"environment {component.name!r} has no tasks: its data is empty")
    return environment
