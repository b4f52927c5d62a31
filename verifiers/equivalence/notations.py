r"""Notations with a sign of their own: `1:2:3`, `3 \pmod 7`, `2i + 3j`, `1, 2, \ldots, n`."""

from __future__ import annotations

import re

from rlvr.verifiers.equivalence.names import read_name
from rlvr.verifiers.equivalence.nodes import Product, Quotient
from rlvr.verifiers.equivalence.scalars import VECTORS, components, expression
from rlvr.verifiers.equivalence.scan import bracketed, marks, relations
from rlvr.verifiers.equivalence.shapes import (
    Answer,
    Bracket,
    Congruence,
    Dotted,
    Named,
    Opaque,
    Ratio,
    Read,
    Scalar,
)

_MAX_PARTS = 200
_DOTS = re.compile(r"\\ldots|\.{3,}|…")
_ONLY_DOTS = re.compile(r"(?:\\ldots|\.{2,}|\\text\{\s*\.{3}\s*\})\Z")
_VECTOR = re.compile(
    r"\\(?:mathbf|hat|vec|bold|boldsymbol|bm|widehat|overrightarrow)\s*\{?\s*"
    r"(?:\\(?:mathbf|text|bold|imath|jmath)\s*\{?)?\s*(?:\\?([ijk])(?:math)?)\s*\}?\s*\}?"
)
_CONGRUENCE = re.compile(
    r"(.*?)\s*\(?\s*(?:\\pmod|\\bmod|\\mod|\\text\{\s*\(?\s*mod(?:ulo)?\s*\}|\(\s*mod\b|\bmod\b)"
    r"\s*\{?\s*"
    r"([^{}()]+?)\s*\}?\s*(?:\\text\{\s*\)\s*\})?\)?\Z"
)


def read_ratio(text: str) -> Answer | None:
    """Two numbers or more with colons between them, or None."""
    found = marks(text) if ":" in text else None
    if not found or not any(mark.token == ":" for mark in found):
        return None
    parts: list[str] = []
    start = 0
    for mark in found:
        if mark.token == ":":
            parts.append(text[start : mark.start])
            start = mark.end
    parts.append(text[start:])
    if len(parts) > 20:
        return None
    nodes = [expression(part.strip()) for part in parts]
    if any(isinstance(node, Opaque) for node in nodes):
        return None
    return Ratio(tuple(node for node in nodes if not isinstance(node, Opaque)))


def read_congruence(text: str) -> Answer | None:
    """`3 (mod 7)`, or None."""
    match = _CONGRUENCE.match(text) if "mod" in text else None
    if match is None:
        return None
    residue, modulus = expression(match[1]), expression(match[2])
    if isinstance(residue, Opaque) or isinstance(modulus, Opaque):
        return None
    return Congruence(residue, modulus)


def read_vector(text: str) -> Answer | None:
    """`2i + 3j - k` with marked unit vectors, or None."""
    if _VECTOR.search(text) is None:
        return None

    def replace(match: re.Match[str]) -> str:
        return f" {VECTORS['ijk'.index(match[1])].replace('_', '_{')}}} "

    node = expression(_VECTOR.sub(replace, text))
    if isinstance(node, Opaque):
        return None
    if isinstance(node, Product | Quotient):
        return None
    found = components(node)
    if found is None:
        return None
    planar = "k" not in "".join(match[1] for match in _VECTOR.finditer(text))
    kept = found[:2] if planar else found
    return Bracket("\\langle", tuple(Scalar(part) for part in kept), "\\rangle")


def read_dotted(read: Read, text: str) -> Answer | None:
    """A sequence or a sum with dots, or None."""
    if _DOTS.search(text) is None:
        return None
    pair = bracketed(text)
    if pair and pair[0] in ("(", "\\{", "\\langle", "["):
        text = pair[1]
    named = relations(text)
    if named and named[1] == ["="] and read_name(named[0][0]):
        value = read(named[0][1])
        name = read_name(named[0][0])
        return Named(name[0], name[1], (value,)) if name else None
    for joint in (",", ":", "+"):
        parts = _split_at(text, joint)
        if parts is None or len(parts) < 2 or len(parts) > _MAX_PARTS:
            continue
        dots = [bool(_ONLY_DOTS.match(part)) for part in parts]
        if not any(dots):
            continue
        items = [None if d else read(p) for p, d in zip(parts, dots, strict=True) if p]
        if any(isinstance(item, Opaque) for item in items):
            return Opaque(text, "a sequence that is not understood")
        return Dotted(tuple(items), joint)
    return None


def _split_at(text: str, sign: str) -> list[str] | None:
    parts: list[str] = []
    depth = start = 0
    for match in re.finditer(r"\\[A-Za-z]+|\\.|[{}()\[\],;:+]", text):
        token = match.group()
        if token in ("{", "(", "[", "\\{"):
            depth += 1
        elif token in ("}", ")", "]", "\\}"):
            depth -= 1
        elif depth == 0 and (token == sign or (sign == "," and token == ";")):
            parts.append(text[start : match.start()].strip())
            start = match.end()
    parts.append(text[start:].strip())
    return parts if depth == 0 else None
