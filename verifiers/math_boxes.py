r"""Boxes in a response: where they are, which of them are the answer, and what stands beside them.

Several boxes. The last one counts, together with those that are joined to it: by nothing but
space, or by a comma, "and" or "or" with a few words at most. Joined boxes are one list. An earlier
box with another content is an intermediate result only where its sentence claims less than the
sentence of the last one (nothing, or a hedge < "so", "thus" < "the answer is" < "final answer"), or
where the text between takes it back, which may happen to one answer and no more. Otherwise all
boxes are one list: a response with several different answers never answers a question that has one.

What stands beside. `x = \boxed{3}` may be read as `x = 3` too; `\boxed{x} = 3` is `x = 3`;
`\boxed{3} cm` and `\boxed{3}\%` take the unit in; `-\boxed{3}` and `\boxed{x^2} + C` are the whole
expression; "\boxed{3} or 4" hedges. Everything is linear in the length of the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlvr.verifiers.math_beside import (
    NAME,
    OR_AFTER,
    PLAIN_UNIT,
    UNIT_AFTER,
    first_side,
    formula_around,
    name_before,
    or_before,
    whole_expression,
)
from rlvr.verifiers.math_denials import (
    asked,
    denied_after,
    denied_before,
    hedged,
    is_alternative,
    supposed,
)
from rlvr.verifiers.math_phrases import claim_strength
from rlvr.verifiers.math_retractions import taken_back

_TOKEN = re.compile(
    r"(?:(?<!\\)\\+(?:boxed|fbox)|\bboxed|\x08oxed)[ \t]*(\{?)"
    r"|(\\(?:[bx]?cancel|sout|[hv]?phantom)[ \t]*\{)|\\[{}\\]|[{}]"
)
_WORD = re.compile(r"[^\s$.,;{}\\]*")
_MAX_JOINED = 50
_MAX_EARLIER = 20
_BETWEEN_CHARS = 80
_BESIDE_CHARS = 200
_SENTENCE_CHARS = 300


@dataclass(frozen=True, slots=True)
class Box:
    r"""One `\boxed{...}`.

    Attributes:
        content: what it holds; `None` where it never closes.
        start: where it begins.
        end: where it ends.
    """

    content: str | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class BoxedAnswer:
    """What the boxes of a response answer.

    Attributes:
        readings: the answer, then the same with more of what stands beside it.
        parts: the single answers, where there are several.
        note: which of the rules above read them; empty for one box by itself.
        problem: why they answer nothing; empty where they do.
    """

    readings: tuple[str, ...]
    note: str
    problem: str = ""
    parts: tuple[str, ...] = ()


def find_boxes(text: str) -> list[Box]:
    r"""Every outermost box that closes; and the last one that does not, where it is the last.

    A box that is struck out (`\cancel{\boxed{3}}`) is none.
    """
    found: list[Box] = []
    stack: list[tuple[int, int] | str | None] = []  # boxes with where they and their content begin
    bare_end = struck = 0
    begin = max(0, text.find("oxed") - 20) if "\\fbox" not in text else 0
    for match in _TOKEN.finditer(text, begin):
        token = match.group()
        if "oxed" in token or "fbox" in token:
            if match.group(1):
                stack.append((match.start(), match.end()))
            elif match.start() >= bare_end and token.startswith("\\"):
                word = _WORD.match(text, match.end())
                assert word is not None
                bare_end = word.end()
                found.append(Box(word.group(), match.start(), bare_end))
        elif match.group(2):
            stack.append(token)
            struck += 1
        elif token == "{":
            stack.append(None)
        elif token == "}" and stack:
            opened = stack.pop()
            if isinstance(opened, str):
                struck -= 1
            elif opened is not None and not struck:
                found.append(_closed(text, opened, match.start()))
    outermost = _outermost(found)
    opened_last = max((box for box in stack if isinstance(box, tuple)), default=None)
    if opened_last is not None and (not outermost or opened_last[0] > outermost[-1].start):
        outermost.append(Box(None, opened_last[0], len(text)))
    return outermost


def _closed(text: str, opened: tuple[int, int], brace: int) -> Box:
    content = text[opened[1] : brace]
    if text.startswith("\\\\", opened[0]):  # written with every backslash doubled
        content = content.replace("\\\\", "\\")
    return Box(content, opened[0], brace + 1)


def _outermost(found: list[Box]) -> list[Box]:
    """A box inside a box is part of the outer one."""
    kept: list[Box] = []
    for box in sorted(found, key=lambda box: (box.start, -box.end)):
        if not kept or box.start >= kept[-1].end:
            kept.append(box)
    return kept


def read_boxes(text: str, boxes: list[Box]) -> BoxedAnswer:
    """The answer that the boxes of a response give, by the rules above.

    Args:
        text: the response.
        boxes: its boxes, at least one; the last one closes.
    """
    first = _first_of_last_group(text, boxes)
    group, earlier = boxes[first:], boxes[:first]
    contents = {tight(box.content or "") for box in group}
    others = [box for box in earlier if tight(box.content or "") not in contents | {""}]
    contradicting = others[-_MAX_JOINED:] if len(others) > _MAX_EARLIER else []
    if not contradicting:
        contradicting = _contradicting(text, others, group[0])
    if contradicting:
        parts = _contents([*contradicting, *group])
        return BoxedAnswer((" , ".join(parts),), "several answers", parts=parts)
    if len(contents) > 1:
        named = [_with_name(text, box) for box in group]
        parts = _contents(group)
        readings = [" , ".join(parts)]
        if any("=" in name for name in named):
            readings.append(", ".join(named))
        return BoxedAnswer(tuple(readings), "joined", parts=parts)
    return _read_one(text, group[-1], "the last of several" if others else "")


def tight(text: str) -> str:
    """The text without spaces, to see whether two boxes hold the same."""
    return "".join(text.split())


def _contents(boxes: list[Box]) -> tuple[str, ...]:
    """What the boxes hold, each once."""
    contents = {tight(box.content or ""): (box.content or "").strip() for box in boxes}
    contents.pop("", None)
    return tuple(contents.values())


_MARKUP = re.compile(r"\\text(?:rm|bf|normal)?\s*\{|\\q?quad\b|\\[()\[\],;:! ]|[{}$*\s]+")
_JOINER = re.compile(
    r"(?:[\s,;.&、，]|\band\b|\bor\b|\by\b|\bo\b|\be\b|\bet\b|\bou\b|\bund\b|\boder\b|и|или|和|或|与"
    r"|と|와|또는)*"
    rf"(?:{NAME}\s*(?:=|:))?\s*"
)
_LOOSE_JOINER = re.compile(
    r"(?:[a-z]+ )?(?:[a-z]+ )?,?\s*(?:and|or)\b(?: [a-z]+){0,2}\s*(?:\w+\s*=)?\s*"
    r"|(?:for )?(?:part )?\(?[a-z]\)? and\s*"
)


def _first_of_last_group(text: str, boxes: list[Box]) -> int:
    """Where in `boxes` the last group of joined ones begins."""
    first = len(boxes) - 1
    while first > 0 and len(boxes) - first < _MAX_JOINED:
        before, box = boxes[first - 1], boxes[first]
        if box.start - before.end > _BETWEEN_CHARS or before.content is None:
            break
        between = _MARKUP.sub(" ", text[before.end : box.start]).strip()
        if not (_JOINER.fullmatch(between) or _LOOSE_JOINER.fullmatch(between.lower())):
            break
        first -= 1
    return first


def box_strength(text: str, box: Box) -> int:
    """How much the sentence of a box claims (`math_phrases.claim_strength`); a hedge nothing."""
    sentence = _sentence_before(text, box.start)
    return 0 if hedged(sentence) else claim_strength(sentence)


def _contradicting(text: str, boxes: list[Box], last: Box) -> list[Box]:
    """Those of the earlier boxes that were meant as the answer too, seeing what is said around.

    One answer may be corrected; who takes back several different ones is guessing.
    """
    if not boxes:
        return []
    strength = box_strength(text, last)
    contradicting, corrected = [], []
    nexts = [*(box.start for box in boxes[1:]), last.start]
    for box, following in zip(boxes, nexts, strict=True):
        if asked(text[box.end : min(box.end + _BESIDE_CHARS, following)]):
            continue
        if _NO.match(text, box.end):
            corrected.append(box)
        elif is_alternative(text[box.end : last.start][-_BETWEEN_CHARS * 25 :]):
            contradicting.append(box)
        elif _is_taken_back(text, box, following):
            corrected.append(box)
        elif box_strength(text, box) < strength:
            continue
        elif _is_taken_back(text, box, last.start):
            corrected.append(box)
        else:
            contradicting.append(box)
    several = len({tight(box.content or "") for box in corrected}) > 1
    return [*corrected, *contradicting] if several else contradicting


def _is_taken_back(text: str, box: Box, end: int) -> bool:
    beside = text[box.end : min(box.end + _BESIDE_CHARS, end)]
    return denied_after(beside) or bool(taken_back(text, box.end, end))


_SENTENCE_END = re.compile(r"[.!?。！？](?=[\s*$\\)]|$)|\n[ \t]*\n(?=\s*[-*\d#A-Z])|\}")


def _sentence_before(text: str, position: int) -> str:
    """The sentence up to a position, with a heading or "the answer is:" on a line before."""
    start = max(0, position - _SENTENCE_CHARS)
    ends = [match.end() for match in _SENTENCE_END.finditer(text, start, position)]
    while ends and not text[ends[-1] : position].strip(" \t\n*$\\([#"):
        ends.pop()
    begin = ends[-1] if ends else start
    heading = text.rfind("\n\n", start, begin)
    return text[max(heading, begin) : position] if heading > begin else text[begin:position]


_GOES_ON = re.compile(
    r"(?:[:：,，=]|\b(?:is|are|be|equals?|not|never|than|that|of|to|gives?|yields?|gets?|obtain|find"
    r"|have|est|es|ist|é|è|dass|que|che|что)|[是为不])[\s$*(\[\\]*$",
    re.IGNORECASE,
)


def _line_before(sentence: str) -> str:
    """The line of a box up to it; where it begins one, what leads to it on the line before."""
    head, _, line = sentence.rstrip(" \n$*([\\{").rpartition("\n")
    if sentence.rfind("\n") > len(head) + len(line):  # a formula on a line of its own
        return line if _GOES_ON.search(line) else ""
    return line


_NO = re.compile(r"[\s$*.,;!?—-]*\bno\b", re.IGNORECASE)


def _read_one(text: str, box: Box, note: str) -> BoxedAnswer:
    content = _without_saying((box.content or "").strip())
    start, end = max(0, box.start - _BESIDE_CHARS), box.end + _BESIDE_CHARS
    prose_before, prose_after = text[start : box.start], text[box.end : end]
    sentence = _line_before(_sentence_before(text, box.start))
    if denied_before(sentence) or denied_after(prose_after):
        return BoxedAnswer((), note, "the sentence of the box says that it is not the answer")
    if supposed(sentence):
        return BoxedAnswer((), note, "the box is only supposed")
    other = OR_AFTER.match(prose_after) or or_before(prose_before)
    if other is not None:
        parts = (content, first_side(other.group(1)).strip(" $*,."))
        return BoxedAnswer((" or ".join(parts),), "with an alternative", parts=parts)
    before, after = formula_around(prose_before, prose_after)
    whole = whole_expression(before, content, after)
    if whole is not None:
        return BoxedAnswer((whole,), "with the maths beside it")
    unit = UNIT_AFTER.match(after) or PLAIN_UNIT.match(prose_after)
    if unit is not None and not re.search(r"[A-Za-z%°]|\\circ", content.split("\\text")[-1][-4:]):
        written = unit.group(1).replace("$", "")
        content += written if written[0] == "^" else f" {written}"
    name = name_before(before)
    if name and "=" not in content:
        return BoxedAnswer((content, f"{name} = {content}"), note)
    return BoxedAnswer((content,), note)


def _with_name(text: str, box: Box) -> str:
    before, _ = formula_around(text[max(0, box.start - _BESIDE_CHARS) : box.start], "")
    content, name = (box.content or "").strip(), name_before(before)
    return f"{name} = {content}" if name and "=" not in content else content


_SAYING = re.compile(
    r"^(?:\\text(?:bf|rm)?\{)?\s*(?:the )?(?:final )?answer(?: is)?\s*[:=]?\s*"
    r"\}?\s*(?=[\d\\$(\[A-Z-])",
    re.IGNORECASE,
)


def _without_saying(content: str) -> str:
    """The content without "The answer is" in front, which some responses put inside the box."""
    said = _SAYING.match(content)
    if said is None:
        return content
    rest = content[said.end() :]
    return rest.removesuffix("}") if rest.count("}") > rest.count("{") else rest
