"""rlvr: reinforcement learning with verifiable rewards, and evaluation.

`import rlvr` loads the standard library only; what is heavy is imported where it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rlvr.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    MissingExtraError,
    RlvrError,
    SamplerError,
    SandboxError,
    UnknownNameError,
    UserError,
    VerifierError,
)
from rlvr.types import (
    Completion,
    FinishReason,
    Message,
    Outcome,
    Rollout,
    RolloutGroup,
    SamplingParams,
    Task,
    Verdict,
)

if TYPE_CHECKING:
    from rlvr.api import (
        load_environment,
        load_sampler,
        load_verifier,
        train,
    )
    from rlvr.environments.base import Environment, environment
    from rlvr.verifiers.base import Verifier, verifier
    from rlvr.verifiers.pool import verify_many

__version__ = "0.1.0"

_LAZY = {
    "Environment": "rlvr.environments.base",
    "Verifier": "rlvr.verifiers.base",
    "environment": "rlvr.environments.base",
    "load_environment": "rlvr.api",
    "load_sampler": "rlvr.api",
    "load_verifier": "rlvr.api",
    "train": "rlvr.api",
    "verifier": "rlvr.verifiers.base",
    "verify_many": "rlvr.verifiers.pool",
}

__all__ = [
    "CheckpointError",
    "Completion",
    "ConfigError",
    "DataError",
    "Environment",
    "FinishReason",
    "Message",
    "MissingExtraError",
    "Outcome",
    "RlvrError",
    "Rollout",
    "RolloutGroup",
    "SamplerError",
    "SamplingParams",
    "SandboxError",
    "Task",
    "UnknownNameError",
    "UserError",
    "Verdict",
    "Verifier",
    "VerifierError",
    "__version__",
    "environment",
    "load_environment",
    "load_sampler",
    "load_verifier",
    "train",
    "verifier",
    "verify_many",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'rlvr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
