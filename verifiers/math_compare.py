r"""Whether two normalised answers say the same, in tiers; each names itself.

    text        the same characters, but for spaces
    number      exact rational arithmetic, units and percent seen to
    choice      letters of choices, in any order
    words       answers in words: the same words or nothing
    structure   lists, sets, tuples, intervals, assignments, plus-minus: part by part
    symbolic    `rlvr.verifiers.math_symbolic`; the only tier that is not done in microseconds

A tier answers True or False, or leaves it to the next. Never is a fragment compared in place of the
whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from rlvr.verifiers.math_normal import as_interval, balanced
from rlvr.verifiers.math_numbers import parse_number, same_number, split_unit, units_agree

MAX_CHARS = 2000
_MAX_PARTS = 50
_MAX_CHAIN = 10
_HEDGE = re.compile(
    r"\b(?:wrong|incorrect|not|isn't|maybe|perhaps|either|answer|unsure|unknown|correct)\b",
    re.IGNORECASE,
)
_CHOICES = re.compile(r"\(?[A-J]\)?(?:(?:, ?|&|;| |\\&|and|or)*\(?[A-J]\)?)*$")
_CHOICE_AND_TEXT = re.compile(r"(?:\(([A-J])\)|([A-J])[.):])\s*\S")
_TEXT_COMMAND = re.compile(r"\\text\{([^{}]*)\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_ASSIGNMENT = re.compile(
    r"(?:[A-Za-z](?:_\{?\w+\}?)?'?(?:\([A-Za-z0-9]\))?|\\(?:theta|alpha|beta|lambda|mu)"
    r"|m?\\angle ?[A-Z]+)=(?!=)"
)
_PLUS_MINUS = re.compile(r"\\pm|\\mp")
_SEPARATOR = re.compile(r"\\text\{ ?,? ?(?:and|or) ?\}|,? (?:and|or) |;|\\cup(?![a-z])")
_MATRIX = re.compile(r"\\begin\{[pbBvV]?matrix\}(.*)\\end\{[pbBvV]?matrix\}$")
_CLOCK = re.compile(r"(\d{1,2}:\d\d) ?([ap])\.?m\.?$", re.IGNORECASE)
_SOLVER = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        equal: the answer is the same.
        tier: which tier said so.
        reason: why, where there is more to say.
    """

    equal: bool
    tier: str
    reason: str = ""


def compare(gold: str, answer: str, solve: _SOLVER | None) -> Comparison | None:
    """Compare two normalised answers.

    Args:
        gold: the ground truth.
        answer: what was extracted.
        solve: the symbolic tier; without it, what would need it is left undecided (`None`).
    """
    if not answer:
        return Comparison(False, "text", "nothing is left of the answer")
    tight_gold, tight = _tight(gold), _tight(answer)
    if tight_gold == tight:
        return Comparison(True, "text")
    if max(len(gold), len(answer)) > MAX_CHARS:
        return Comparison(False, "text", f"undecided: longer than {MAX_CHARS:,} characters")
    gold_number, number = parse_number(gold), parse_number(answer)
    if gold_number is not None and number is not None:
        return Comparison(same_number(gold_number, number), "number")
    gold_letters = _letters(gold)
    if gold_letters is not None:
        return Comparison(_letters(answer, with_text=True) == gold_letters, "choice")
    gold_words = _words(gold)
    if gold_words is not None:
        return Comparison(_words(answer) == gold_words, "words")
    if _HEDGE.search(_COMMAND.sub(" ", answer)) or _words(answer) is not None:
        return Comparison(False, "words", "the answer is in words, the ground truth is not")
    return _compare_structures(gold, answer, solve)


def _compare_structures(gold: str, answer: str, solve: _SOLVER | None) -> Comparison | None:
    gold_shape, shape = _shape(gold), _shape(answer)
    if gold_shape.kind == shape.kind == "scalar":
        return _compare_scalars(gold_shape.parts[0], shape.parts[0], solve)
    if _kind(gold_shape.kind) != _kind(shape.kind):
        if "scalar" not in (gold_shape.kind, shape.kind):
            return Comparison(False, "structure", f"a {shape.kind}, not a {gold_shape.kind}")
        if solve is None:
            return None
        return Comparison(solve(as_interval(gold), as_interval(answer)), "symbolic")
    if len(gold_shape.parts) != len(shape.parts):
        reason = f"{len(shape.parts)} parts where the ground truth has {len(gold_shape.parts)}"
        return Comparison(False, "structure", reason)
    ordered = _kind(gold_shape.kind) != "set"
    return _compare_parts(gold_shape.parts, shape.parts, ordered, solve)


def _compare_parts(
    gold: list[str], parts: list[str], ordered: bool, solve: _SOLVER | None
) -> Comparison | None:
    """Part by part, in order or in any order. `None` where that needs the symbolic tier."""
    remaining = list(parts)
    undecided = False
    for wanted in gold:
        match = None
        for index, part in enumerate(remaining[:1] if ordered else remaining):
            result = compare(wanted, part, solve)
            undecided = undecided or result is None
            if result is not None and result.equal:
                match = index
                break
        if match is None:
            return None if undecided else Comparison(False, "structure")
        del remaining[match]
    return Comparison(True, "structure")


def _compare_scalars(gold: str, answer: str, solve: _SOLVER | None) -> Comparison | None:
    """Two scalars. Of an assignment the value counts, and all values of a chain must agree."""
    gold, gold_unit = split_unit(gold)
    answer, unit = split_unit(answer)
    if not units_agree(gold_unit, unit):
        return Comparison(False, "structure", f"{unit}, not {gold_unit}")
    gold_values, values = _assigned(gold), _assigned(answer)
    plain_answer = values is None and "=" not in answer
    same_unknown = bool(gold_values and values) and _head(gold_values) == _head(values)
    if gold_values and plain_answer:
        return compare(gold_values[-1], answer, solve)
    if values and ("=" not in gold or same_unknown):
        wanted = gold_values[-1] if gold_values else gold
        results = [compare(wanted, value, solve) for value in values[1:]]
        if None in results:
            return None
        if all(result is not None and result.equal for result in results):
            return Comparison(True, "structure")
        if "=" not in gold:
            return Comparison(False, "structure")
    return None if solve is None else Comparison(solve(gold, answer), "symbolic")


def _head(values: list[str] | None) -> str:
    return values[0] if values else ""


def _assigned(text: str) -> list[str] | None:
    """`x=3+4=7` as `["x", "3+4", "7"]`, or `None` where it is no assignment."""
    match = _ASSIGNMENT.match(text)
    if (
        match is None
        or text.count("=") > _MAX_CHAIN
        or re.search(r"[<>]|\\[lg]e(?![a-z])|\\ne(?![a-z])", text)
    ):
        return None
    return [match.group()[:-1], *text[match.end() :].split("=")]


@dataclass(frozen=True, slots=True)
class _Shape:
    kind: str
    parts: list[str]


def _shape(text: str) -> _Shape:
    """A scalar, a bare list, or what brackets hold; `(`, `[` and `{` are told apart."""
    matrix = _MATRIX.match(text)
    if matrix:
        rows = [row.split("&") for row in re.split(r"\\\\", matrix.group(1)) if row.strip()]
        cells = [cell.strip() for row in rows for cell in row]
        return _Shape(f"matrix of {' and '.join(str(len(row)) for row in rows)}", cells)
    text = as_interval(text)
    text = re.sub(r"^\\langle(.*)\\rangle$", r"(\1)", text)
    inner, kind = _bracketed(text)
    if kind and not re.search(r"[|:]|\\mid", inner):
        parts = _split(inner)
        if len(parts) > 1 or kind == "{}":
            return _Shape(kind, _expand(parts) if kind == "{}" else parts)
    parts = _expand(_split(_SEPARATOR.sub(",", text)))
    if len(parts) > 1 and all(parts):
        return _Shape("list", _share_unknown(parts))
    if ":" in text and re.match(r"[\d.]+(:[\d.]+)+$", text):
        return _Shape("ratio", text.split(":"))
    return _Shape("scalar", [text])


def _kind(kind: str) -> str:
    return "set" if kind in ("{}", "list") else kind


def _bracketed(text: str) -> tuple[str, str]:
    """What one pair of outer brackets holds, and the brackets; `("", "")` without them."""
    if text.startswith("\\{") and text.endswith("\\}"):
        inner, kind = text[2:-2], "{}"
    elif text[:1] in ("(", "[") and text[-1:] in (")", "]"):
        inner, kind = text[1:-1], text[0] + text[-1]
    else:
        return "", ""
    return (inner, kind) if balanced(inner) else ("", "")


def _split(text: str) -> list[str]:
    """Split at the commas outside all brackets, thousands left whole."""
    if parse_number(text) is not None:
        return [text]
    parts: list[str] = []
    depth = start = 0
    for mark in re.finditer(r"\\?[{}()\[\]]|,", text):
        if mark.group() == ",":
            if depth == 0:
                parts.append(text[start : mark.start()].strip())
                start = mark.end()
        else:
            depth += 1 if mark.group()[-1] in "{([" else -1
    parts.append(text[start:].strip())
    return [part for part in parts if part] if len(parts) <= _MAX_PARTS else [text]


def _expand(parts: list[str]) -> list[str]:
    r"""Write `a \pm b` as two."""
    expanded: list[str] = []
    for part in parts:
        if _PLUS_MINUS.search(part) and "=" not in part.replace("=", "", 1):
            expanded.append(re.sub(r"^(.*=)?\+", r"\1", _signs(part, "+", "-")))
            expanded.append(_signs(part, "-", "+"))
        else:
            expanded.append(part)
    return expanded


def _signs(text: str, pm: str, mp: str) -> str:
    return re.sub(r"\\mp ?", mp, re.sub(r"\\pm ?", pm, text))


def _share_unknown(parts: list[str]) -> list[str]:
    """`x=1`, `x=2` and `x=1`, `2` are the values 1, 2; `a=1`, `b=2` stay assignments."""
    names = [match.group()[:-1] if (match := _ASSIGNMENT.match(part)) else None for part in parts]
    base = [re.sub(r"_\{?\d\}?$", "", name) if name else None for name in names]
    if base[0] is None or any(name not in (None, base[0]) for name in base):
        return parts
    return [
        part.split("=", 1)[1] if name else part for part, name in zip(parts, names, strict=True)
    ]


def _letters(text: str, with_text: bool = False) -> frozenset[str] | None:
    """The choices that a text names, or `None` where it is something else."""
    plain = _TEXT_COMMAND.sub(r"\1", text).strip()
    if not _CHOICES.match(plain):
        match = _CHOICE_AND_TEXT.match(plain) if with_text else None
        if match is None or re.search(r"\([A-J]\)|\b(?:or|not)\b", plain[match.end() :]):
            return None
        return frozenset(match.group(1) or match.group(2))
    if with_text and re.search(r"\bor\b", plain):
        return None
    return frozenset(re.findall(r"[A-J]", plain))


def _words(text: str) -> str | None:
    """A text answer in small letters, or `None` where it is maths."""
    plain = _TEXT_COMMAND.sub(r"\1", text)
    if "\\" in plain or re.search(r"[\d=^_<>+*/]", plain) or not re.search(r"[^\W\d_]{2,}", plain):
        return None
    if plain in ("pi", "ln") or (
        "\\text" not in text and not re.search(r"[A-Za-z]{4}|[^\x00-\x7f]|yes|no", plain, re.I)
    ):
        return None
    return re.sub(r"[\s.,'\"-]+", " ", plain).strip().casefold()


def _tight(text: str) -> str:
    plain = _TEXT_COMMAND.sub(r"\1", text)
    if clock := _CLOCK.match(plain):
        return f"{clock.group(1)}{clock.group(2).lower()}m"
    plain = re.sub(r"_\{(\w)\}", r"_\1", plain)
    return re.sub(r"(?<!\d)\s+|\s+(?!\d)", "", plain)
