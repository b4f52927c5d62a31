"""The sandboxes that verifiers run programs in, made once for the process and shared."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rlvr import registry
from rlvr.errors import ConfigError
from rlvr.sandbox.calling import Call, Called
from rlvr.sandbox.languages import Program
from rlvr.sandbox.limits import Limits, RunResult


class Sandbox(Protocol):
    """What every sandbox has; those of this machine are more (`SlotPool`)."""

    def run_each(
        self, source: str | bytes | Program, inputs: Sequence[bytes], limits: Limits | None = None
    ) -> Iterator[RunResult]:
        """Run one program on several inputs."""
        ...

    def call_all(
        self, source: str | bytes, calls: Sequence[Call], limits: Limits | None = None
    ) -> Called:
        """Load a program and make calls."""
        ...

    def build(
        self,
        source: str | bytes,
        language: str,
        limits: Limits | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Program:
        """Compile a program."""
        ...


def answers_sandbox(name: str, options: Mapping[str, Any]) -> Any:
    """Where answers run: one for the process, started by the first answer.

    Raises:
        ConfigError: the options are not the sandbox's.
    """
    return _made(name, _key(name, options), "answers")


def trusted_sandbox(name: str, options: Mapping[str, Any]) -> Any:
    """Where tests and checkers run: never the zygote that an answer is copied from.

    Raises:
        ConfigError: the options are not the sandbox's.
    """
    return _made(name, _key(name, options), "trusted")


def with_packages(
    name: str, options: Mapping[str, Any], packages: tuple[str, ...]
) -> Mapping[str, Any]:
    """The options that show packages to the tests that import them, and import them once.

    They are this machine's, where the sandbox shows folders of it; what is not installed here is
    left out then. A sandbox that has packages of its own is asked for all of them.
    """
    factory = registry.sandboxes.get(name)
    known = inspect.signature(factory).parameters
    if getattr(factory, "has_own_packages", False):
        folders: dict[str, str] = {}
        wanted = set(packages)
    else:
        folders = {package: folder for package in packages if (folder := _folder(package))}
        wanted = set(folders)
    if not wanted or not {"python_path", "preload"} <= known.keys():
        return options
    return {
        **options,
        "python_path": sorted({*options.get("python_path", ()), *folders.values()}),
        "preload": sorted({*options.get("preload", ()), *wanted}),
    }


def weak_sandbox(name: str, options: Mapping[str, Any]) -> Any:
    """Where answers run together with their tests, where they cannot be kept apart.

    Raises:
        ConfigError: the options are not the sandbox's.
    """
    return _made(name, _key(name, options), "weak")


@functools.cache
def _made(name: str, options: str, purpose: str) -> Any:
    return registry.sandboxes.create(name, json.loads(options))


def _key(name: str, options: Mapping[str, Any]) -> str:
    try:
        return json.dumps(options, sort_keys=True)
    except TypeError as error:
        raise ConfigError(f"sandbox {name!r}: its options are no plain JSON: {error}") from error


def _folder(package: str) -> str | None:
    """The folder that holds a package; None where it is not installed."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if found is None or found.origin is None:
        return None
    parent = Path(found.origin).parent
    return os.path.realpath(parent.parent if found.submodule_search_locations else parent)
