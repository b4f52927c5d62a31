"""Every key of a training file with its type, default and meaning, read off the sections."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlvr.config import Component, Section, merge
from rlvr.errors import ConfigError, nearest
from rlvr.trainers.config import PRESETS, SECTIONS


@dataclass(frozen=True, slots=True)
class Key:
    """One key: `name` dotted, and what the file may say."""

    name: str
    type: str
    default: str
    meaning: str


def keys_of(algorithm: str) -> list[Key]:
    """The keys that a file of this algorithm may have, its presets laid on the defaults.

    Raises:
        ConfigError: no algorithm has that name.
    """
    if algorithm not in SECTIONS:
        raise ConfigError(f"unknown algorithm {algorithm!r}{nearest(algorithm, SECTIONS)}")
    return list(_walk(SECTIONS[algorithm], "", PRESETS.get(algorithm, {})))


def _walk(section: type[BaseModel], prefix: str, presets: dict[str, Any]) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        inner = _section_in(field.annotation)
        preset = presets.get(name)
        if inner is not None:
            if type(None) in typing.get_args(field.annotation):
                shown = _default(field, None) if preset is None else "on"
                yield Key(prefix + name, "section or null", shown, _meaning(field))
            yield from _walk(inner, f"{prefix}{name}.", merge(_set_in(field), preset or {}))
        else:
            yield Key(
                prefix + name, _type(field.annotation), _default(field, preset), _meaning(field)
            )


def _set_in(field: FieldInfo) -> dict[str, Any]:
    """What the default of a section sets otherwise than its class does."""
    default = field.get_default(call_default_factory=True)
    return default.model_dump(exclude_unset=True) if isinstance(default, Section) else {}


def _section_in(annotation: Any) -> type[Section] | None:
    for candidate in (annotation, *typing.get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Component:
        return "name or {name, options}"
    if origin is typing.Literal:
        return " | ".join(str(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if a is type(None) else _type(a) for a in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is dict:
        return f"names with a {_type(arguments[1])} each"
    if origin in (list, tuple):
        return f"list of {_type(arguments[0])}"
    return getattr(annotation, "__name__", str(annotation))


def _default(field: FieldInfo, preset: Any) -> str:
    if preset is not None:
        return str(preset)
    if field.is_required():
        return "(needed)"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Component):
        return default.name
    if isinstance(default, Section):
        return "on"
    if isinstance(default, tuple):
        return str(list(default))
    return "null" if default is None else str(default)


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())
