"""Environments: tasks, prompts and verifiers joined. See `rlvr.environments.base`."""

from rlvr.environments.base import Environment, GeneratedTasks, environment

__all__ = ["Environment", "GeneratedTasks", "environment"]
