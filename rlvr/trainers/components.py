"""What a configuration names, loaded: the policy that a run begins with, and environments."""

from __future__ import annotations

from typing import cast

import torch

from rlvr import registry
from rlvr.adapters import add_lora, check_lora
from rlvr.config import Component
from rlvr.errors import ConfigError
from rlvr.policy import Policy, load_policy, make_policy
from rlvr.protocols import Environment
from rlvr.seeds import derive_seed
from rlvr.trainers.config import NEW, RunConfig


def initial_policy(config: RunConfig, source: str | None = None) -> Policy:
    """The policy that a run begins with: from `source`, from the configured place, or new.

    Raises:
        UserError: it cannot be loaded, not made in the shape that was asked for, or not given the
            LoRA matrices of the configuration.
    """
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if source is None and config.policy == NEW:
        shape = config.new_policy.model_dump()
        policy = make_policy(**shape, seed=config.seed, dtype=config.dtype, device=device)
    else:
        policy = load_policy(source or config.policy, dtype=config.dtype, device=device)
    if config.lora is not None:
        check_lora(policy.model, config.lora.targets)
    return policy


def adapt(policy: Policy, config: RunConfig) -> None:
    """Put LoRA matrices into a policy where the run has them; as yet they change nothing."""
    if config.lora is not None:
        add_lora(policy.model, **config.lora.model_dump(), seed=derive_seed(config.seed, "lora"))


def load_component(component: Component) -> Environment:
    """The environment of a configuration, with at least one task.

    Raises:
        UserError: it cannot be made, or it has no tasks.
    """
    environment = cast(Environment, registry.environments.create(component.name, component.options))
    if next(iter(environment.tasks), None) is None:
        raise ConfigError(f"environment {component.name!r} has no tasks: its data is empty")
    return environment
