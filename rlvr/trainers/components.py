"""What a configuration names, loaded: the policy that a run begins with, and environments."""

from __future__ import annotations

from typing import cast

import torch

from rlvr import registry
from rlvr.config import Component
from rlvr.errors import ConfigError
from rlvr.policy import Policy, load_policy, make_policy
from rlvr.protocols import Environment
from rlvr.trainers.config import NEW, RunConfig


def initial_policy(config: RunConfig, source: str | None = None) -> Policy:
    """The policy that a run begins with: from `source`, from the configured place, or new.

    Raises:
        UserError: it cannot be loaded, or not made in the shape that was asked for.
    """
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if source is None and config.policy == NEW:
        shape = config.new_policy.model_dump()
        return make_policy(**shape, seed=config.seed, dtype=config.dtype, device=device)
    return load_policy(source or config.policy, dtype=config.dtype, device=device)


def load_component(component: Component) -> Environment:
    """The environment of a configuration, with at least one task.

    Raises:
        UserError: it cannot be made, or it has no tasks.
    """
    environment = cast(Environment, registry.environments.create(component.name, component.options))
    if next(iter(environment.tasks), None) is None:
        raise ConfigError(f"environment {component.name!r} has no tasks: its data is empty")
    return environment
