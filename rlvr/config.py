"""Strict configuration: frozen sections, YAML files, dotted overrides, errors that name the key.

A section is a pydantic model that refuses unknown keys; the message names the nearest known one.
`a.b.c=value` sets one key; the value is read as YAML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from rlvr.errors import ConfigError, nearest


class Section(BaseModel):
    """Base of every configuration section: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Component(BaseModel):
    """A registered thing and its options: `math`, or `{name: math, tolerance: 1e-6}`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @model_validator(mode="before")
    @classmethod
    def _accept_a_bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


S = TypeVar("S", bound=Section)


def load_mapping(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML file and apply `"dotted.key=value"` overrides to it.

    Raises:
        ConfigError: the file is missing, is not YAML, or is not a mapping; an override has no `=`.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"cannot read the configuration {path}: {reason}") from error
    parsed = _parse_yaml(text, str(path))
    mapping: dict[str, Any] = {} if parsed is None else parsed
    if not isinstance(mapping, dict):
        raise ConfigError(
            f"{path} holds a {type(mapping).__name__}: expected keys and values (key: value)"
        )
    for override in overrides:
        mapping = apply_override(mapping, override)
    return mapping


def apply_override(mapping: Mapping[str, Any], override: str) -> dict[str, Any]:
    """Set one `"dotted.key=value"` in a copy of `mapping`. The value is read as YAML.

    >>> apply_override({"sampler": "hf"}, "sampler.dtype=float32")
    {'sampler': {'name': 'hf', 'dtype': 'float32'}}

    Raises:
        ConfigError: there is no `=`, or a key on the way is neither a section nor a name.
    """
    dotted, separator, text = override.partition("=")
    if not separator or not dotted.strip():
        raise ConfigError(f"cannot read the override {override!r}: expected key=value")
    keys = dotted.strip().split(".")
    value = _parse_yaml(text, f"the value of {dotted!r}") if text else ""
    return _set(dict(mapping), keys, value, dotted)


def _set(mapping: dict[str, Any], keys: list[str], value: Any, dotted: str) -> dict[str, Any]:
    head, *rest = keys
    if not rest:
        return {**mapping, head: value}
    inner = mapping.get(head)
    if inner is None:
        inner = {}
    elif isinstance(inner, str):
        inner = {"name": inner}
    elif not isinstance(inner, Mapping):
        raise ConfigError(f"cannot set {dotted!r}: {head!r} holds {inner!r}, which has no keys")
    return {**mapping, head: _set(dict(inner), rest, value, dotted)}


def build(section: type[S], mapping: Mapping[str, Any], where: str) -> S:
    """Make a section from plain values.

    Args:
        section: the class to make.
        mapping: plain YAML values.
        where: what the values come from, for messages.

    Raises:
        ConfigError: one line that names the first offending key, what it holds and what it takes.
    """
    try:
        return section.model_validate(mapping)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_first_problem(section, error)}") from error


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on it, section by section; a list or a scalar replaces.

    A component of another name replaces too: its options are not those of the first.
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, str) and isinstance(value, Mapping) and "name" not in value:
            below = {"name": below}
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            renamed = "name" in below and value.get("name", below["name"]) != below["name"]
            merged[key] = dict(value) if renamed else merge(below, value)
        else:
            merged[key] = value
    return merged


def _first_problem(section: type[BaseModel], error: ValidationError) -> str:
    problems = error.errors(include_url=False)
    unknown = [p for p in problems if p["type"] == "extra_forbidden"]
    problem = (unknown or problems)[0]
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key!r}{nearest(path[-1], _known_keys(section, path[:-1]))}"
    if problem["type"] == "missing":
        return f"missing key {key!r}"
    message = problem["msg"].removeprefix("Value error, ")
    found = problem.get("input")
    return f"{key or 'the configuration'}: {message[0].lower()}{message[1:]} (found {found!r})"


def _known_keys(section: type[BaseModel], path: list[str]) -> list[str]:
    """The keys of the section that `path` leads to."""
    current: Any = section
    for part in path:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        current = next((c for c in candidates if hasattr(c, "model_fields")), current)
    return list(getattr(current, "model_fields", {}))


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigError(f"{where}{line}: not YAML: {problem}") from error
