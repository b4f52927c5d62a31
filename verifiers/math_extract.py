r"""Finding the final answer in a response, by a stated rule; linear in the length of the text.

The first rule that finds something decides:

1. `box`: what `\boxed{...}` holds. Several boxes with different contents are one list: they never
   answer a question that has one answer.
2. `####`: what follows `####` (the form of GSM8K's own solutions).
3. `label`: a line that begins with `A:`, `Answer:` or `Final answer:`, Markdown around it or not.
4. `phrase`: what follows "the answer is" (or the same in a few other languages).
5. `whole`: the response itself, where it is one short line.
6. `last line`: the last formula or number of the last line.

An answer that hedges, or that the rest of the response takes back, is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rlvr.types import Outcome

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_LABEL = re.compile(
    r"^[ \t>*_#-]{0,8}(?:final[ \t]{1,4})?(?:a|answer|ans)\b[ \t*_]{0,4}[:：=][ \t*_]*([^\n]+)",
    re.IGNORECASE | re.MULTILINE,
)
_PHRASE = re.compile(
    r"(?:answer|solution|result)(?:[ \t]+to[ \t]+[^\n.:]{1,60})?[ \t*_]*"
    r"(?:[ \t]is|[ \t]equals|[ \t]are|:)"
    r"|答案(?:是|为)|la respuesta (?:final )?es|la réponse (?:finale )?est"
    r"|die antwort (?:ist|lautet)|la risposta (?:finale )?è|a resposta (?:final )?é",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(
    r"(?<![A-Za-z])\.(?=\s|$)|(?<=[A-Za-z}$)])\.(?=\s+[A-Z]|\s*$)|[。！？!?](?=\s|$)"
)
_FORMULA = re.compile(r"\$\$([^$]{1,2000})\$\$|\$([^$\n]{1,2000})\$|\\\((.{1,2000}?)\\\)")
_NUMBER = re.compile(r"[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?|[-−]?\.\d+")
_TAKEN_BACK = re.compile(
    r"\bwait\b|\bscratch that\b|\bon second thought\b|\bnot (?:correct|right)\b"
    r"|(?:\bis|\bwas|'s) (?:wrong|incorrect)\b|\bI made an? (?:mistake|error)\b",
    re.IGNORECASE,
)
_SENTENCE_OR_SUM = re.compile(r"[A-Za-z]{3,}[^=]*\d|[\d\s.,+*/()$×÷−-]+=")
_BOX_TAIL_CHARS = 2000
_WHOLE_CHARS = 200
_TAIL_CHARS = 20_000
_LINE_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a response answers, or why it answers nothing.

    Attributes:
        text: the answer as written; empty where there is a problem.
        rule: which rule found it.
        problem: the outcome where nothing can be graded.
        reason: the problem in words.
    """

    text: str
    rule: str
    problem: Outcome | None = None
    reason: str = ""


def extract(response: str) -> Extraction:
    """The final answer of a response whose thinking was taken away."""
    if not response.strip():
        return Extraction("", "none", Outcome.NO_ANSWER, "the response is empty")
    boxed = _from_boxes(response)
    if boxed is not None:
        return boxed
    tail = response[-_TAIL_CHARS:]
    for rule, found in (
        ("####", [match.group(1) for match in _HASHES.finditer(tail)]),
        ("label", [match.group(1) for match in _LABEL.finditer(tail)]),
    ):
        answers = [answer.strip() for answer in found if answer.strip()]
        if answers:
            return Extraction(_join(answers), rule)
    return _from_phrase(tail) or _from_whole(response) or _from_last_line(tail)


def boxes(response: str) -> list[str | None]:
    r"""What each `\boxed{...}` holds, in order; `None` for one that is never closed."""
    return [content for content, _ in _boxes(response)]


def _boxes(response: str) -> list[tuple[str | None, int]]:
    """What each box holds, and where it ends. A box inside a box is part of the outer one."""
    found: list[tuple[str | None, int]] = []
    end = 0
    for match in _BOX.finditer(response):
        if match.start() >= end:
            content, end = _braced(response, match.end())
            found.append((content, end))
    return found


def _from_boxes(response: str) -> Extraction | None:
    found = _boxes(response)
    if not found:
        return None
    last, end = found[-1]
    if last is None:
        return Extraction("", "box", Outcome.WRONG_FORMAT, "the last box is not closed")
    if not last.strip():
        return Extraction("", "box", Outcome.NO_ANSWER, "the last box is empty")
    back = _TAKEN_BACK.search(response, end, end + _BOX_TAIL_CHARS)
    if back is not None:
        reason = f"the text after the box takes it back: {back.group()!r}"
        return Extraction("", "box", Outcome.INCORRECT, reason)
    return Extraction(
        _join([text for content, _ in found if (text := (content or "").strip())]), "box"
    )


def _braced(text: str, start: int) -> tuple[str | None, int]:
    """The group that begins at `start`, or the one word there; and where it ends."""
    if start >= len(text) or text[start] != "{":
        word = re.compile(r"[^\s$.,;]*").match(text, start)
        assert word is not None
        return word.group(), word.end()
    depth = 0
    for brace in _UNESCAPED_BRACE.finditer(text, start):
        depth += 1 if brace.group().endswith("{") else -1
        if depth == 0:
            return text[start + 1 : brace.start()], brace.end()
    return None, len(text)


_UNESCAPED_BRACE = re.compile(r"(?<!\\)[{}]|(?<=\\\\)[{}]")


def _join(answers: Sequence[str]) -> str:
    """One answer; or, where several differ, the list of them."""
    distinct = list(dict.fromkeys(re.sub(r"\s+", "", answer) for answer in answers))
    if len(distinct) == 1:
        return answers[-1]
    return " , ".join(distinct)


def _from_phrase(text: str) -> Extraction | None:
    last = None
    for match in _PHRASE.finditer(text):
        if text[match.end() :].strip(" *_$:\n"):
            last = match
    if last is None:
        return None
    rest = text[last.end() :].lstrip(" \t*_:\n")
    line = rest.split("\n", 1)[0] if not rest.startswith("$$") else rest
    end = _SENTENCE_END.search(line)
    answer = (line[: end.start()] if end else line).strip()
    return Extraction(answer, "phrase") if answer else None


def _from_whole(response: str) -> Extraction | None:
    text = response.strip()
    if "\n" in text or len(text) > _WHOLE_CHARS:
        return None
    if _SENTENCE_OR_SUM.match(text):
        return None
    if len(re.findall(r"[A-Za-z]{3,}", re.sub(r"\\[A-Za-z]+", "", text))) > 3:
        return None
    return Extraction(text, "whole")


def _from_last_line(text: str) -> Extraction:
    line = text.rstrip().rsplit("\n", 1)[-1][-_LINE_CHARS:]
    formulas = [
        next(group for group in match.groups() if group) for match in _FORMULA.finditer(line)
    ]
    if formulas:
        return Extraction(formulas[-1].strip(), "last line")
    numbers = list(_NUMBER.finditer(line))
    if not numbers:
        return Extraction("", "last line", Outcome.NO_ANSWER, "the last line has no answer")
    last = numbers[-1]
    before = line[numbers[-2].end() : last.start()] if len(numbers) > 1 else line[: last.start()]
    around = line[max(0, last.start() - 1) : last.start()] + line[last.end() : last.end() + 1]
    if re.search(r"[{}^_\\]", around):
        return Extraction(
            "", "last line", Outcome.NO_ANSWER, "the last line has no answer of its own"
        )
    listed = len(numbers) > 1 and re.fullmatch(r"[\s,;/$]*(?:and)?[\s$]*", before)
    if listed or re.search(r"\b(?:or|not|oder|ou|isn't)\b\s*\$?$", before):
        reason = f"the last line hedges: {line[-80:]!r}"
        return Extraction("", "last line", Outcome.INCORRECT, reason)
    return Extraction(last.group(), "last line")
