"""The public functions that load and train: `rlvr.load_verifier`, `rlvr.train` and the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlvr import registry
from rlvr.protocols import Environment, Sampler, Verifier


def load_verifier(name: str, **options: Any) -> Verifier:
    """Make the verifier registered as `name` (or `file.py:attribute`) with `options`.

    Raises:
        UnknownNameError: nothing has that name; the message gives the nearest ones.
        ConfigError: an option is unknown, missing or wrong.
    """
    verifier: Verifier = registry.verifiers.create(name, options)
    return verifier


def load_environment(name: str, **options: Any) -> Environment:
    """Make the environment registered as `name` (or `file.py:attribute`) with `options`.

    Raises:
        UnknownNameError: nothing has that name; the message gives the nearest ones.
        ConfigError: an option is unknown, missing or wrong.
        DataError: its data cannot be read.
    """
    environment: Environment = registry.environments.create(name, options)
    return environment


def load_sampler(name: str, **options: Any) -> Sampler:
    """Make the sampler registered as `name` (or `file.py:attribute`) with `options`."""
    sampler: Sampler = registry.samplers.create(name, options)
    return sampler


def train(config: str | Path, overrides: Sequence[str] = (), *, resume: bool = False) -> Path:
    """Run the training that a YAML file describes; the same as `rlvr train`.

    Args:
        config: path of the YAML file.
        overrides: `"dotted.key=value"` strings, applied last.
        resume: go on from the newest whole checkpoint of the output folder.

    Returns:
        The output folder.
    """
    from rlvr.trainers.run import run_training

    return run_training(config, overrides, resume=resume)
