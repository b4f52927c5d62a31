"""Every exception that rlvr raises on purpose, as one tree.

    RlvrError
    ├── UserError               the caller can mend it: the command line exits 2 with one line
    │   ├── ConfigError         an option or a configuration key is wrong
    │   ├── UnknownNameError    a name is not registered
    │   ├── DataError           a row or a file cannot be used
    │   └── MissingExtraError   an optional dependency is not installed
    ├── VerifierError           a verifier could not do its job: never a reward of 0
    ├── SandboxError            the sandbox itself failed: never a reward of 0
    ├── SamplerError            a sampler (or its server) failed
    ├── DistributedError        the processes of a run lost each other, or differ
    └── CheckpointError         a checkpoint is damaged or does not fit this run

A message names the thing, what was found, what was expected, and the fix.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RlvrError(Exception):
    """Base of every deliberate error of this package."""


class UserError(RlvrError):
    """Something that the caller wrote is wrong, and the caller can mend it."""


class ConfigError(UserError):
    """A configuration key or an option is unknown, missing or of the wrong type."""


class UnknownNameError(UserError):
    """A name is not registered. The message ends with the nearest known names."""


class DataError(UserError):
    """A data file or one of its rows cannot be used. The message names file and line."""


class MissingExtraError(UserError):
    """An optional dependency is missing. The message names the install command."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package!r}, which is not installed: pip install 'rlvr[{extra}]'"
        )


class VerifierError(RlvrError):
    """A verifier could not decide, through no fault of the answer."""


class SandboxError(RlvrError):
    """The sandbox could not run a program, through no fault of the program."""


class SamplerError(RlvrError):
    """A sampler could not generate: a dead server, a refused request, an engine failure."""


class DistributedError(RlvrError):
    """The processes of a run lost each other, waited too long, or no longer agree."""


class CheckpointError(RlvrError):
    """A checkpoint is damaged, incomplete, or belongs to another configuration."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names come nearest to `name`, as the end of an error message.

    Args:
        name: what was asked for.
        known: the names that exist.

    Returns:
        `"; did you mean 'math'?"`, or the list of known names where none is near, or `""`.
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(repr(match) for match in close) + "?"
    return f"; known: {', '.join(names)}" if names else ""
