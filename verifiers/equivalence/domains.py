r"""Clauses on parameters at the end of an answer: `, k \in \mathbb{Z}`, `where n is an integer`."""

from __future__ import annotations

import re

_CLAUSE_CHARS = 160
_DOMAIN_SET = (
    r"(?:\\mathbb|\\mathbf|\\Bbb|\\text)\s*\{?\s*([ZNRQ])\s*\}?"
    r"(?:\s*[\^_]\s*\{?\s*(\+|\*|\\ge\s*0|>\s*0|0)\s*\}?)?|([ZN])(?![A-Za-z])"
)
_NAME = r"[A-Za-z](?:_(?:\d|\{\d\}))?"
_NAMES = rf"({_NAME}(?:(?:\s*,\s*|\s*\\text\{{\s*and\s*\}}\s*|\s+and\s+){_NAME})*)"
_DOMAIN = re.compile(
    r"(?:\s*[,;:]?\s*(?:\\text\{\s*,?\s*(?:where|for|with|and|such that|"
    r"for (?:all|any|some|every|each))?\s*,?\s*\}|\b(?:where|for|with)\b"
    r"(?:\s+(?:all|any|some|every))?)"
    r"\s*\(?|\s*[,;:(]\s*\(?|\s*\\forall|\s(?=\s*[A-Za-z]\s*\\in))\s*"
    + _NAMES
    + r"\s*\\in\s*(?:"
    + _DOMAIN_SET
    + r")\s*\)?\s*\Z"
)
_DOMAIN_WORDS = re.compile(
    r"\s*[,;:]?\s*\(?\s*(?:\\text\{)?\s*,?\s*(?:where|for|with|and|if)?\s*"
    r"(?:(?:all|any|some|every|each)\s)?\s*\}?\s*"
    r"(?<![A-Za-z\\])" + _NAMES + r"\s*(?:\\text\{)?\s*"
    r"(?:is|are|be|being|denotes|can be)?\s*"
    r"(?:(?:an?|any|some|arbitrary|all|the)\s+)*"
    r"((?:non-?negative|positive|whole|natural|real|arbitrary)\s+)?"
    r"(integers?|numbers?|parameters?|constants?|reals?)\s*\}?\s*\)?\s*\Z"
)
_DOMAIN_REVERSED = re.compile(
    r"\s*[,;:]?\s*\(?\s*(?:\\text\{)?\s*,?\s*(?:where|for|with)\s+"
    r"(?:(?:an?|any|some|arbitrary|all|every|each)\s+)*"
    r"((?:non-?negative|positive|natural|real)\s+)?(integers?|numbers?)\s*\}?\s*([A-Za-z])\s*\)?\s*\Z"
)
_DOMAIN_START = re.compile(r"\s*,\s*([A-Za-z])\s*(\\ge|>)\s*(\d{1,3})\s*\Z")


def without_domains(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    r"""A text without its clauses on parameters, and each parameter with the letter of its set.

    `Z`, `Q` and `R` as usual, `N` from 0, `P` from 1.

    >>> without_domains(r"2k+1, k \in \mathbb{Z}")
    ('2k+1', (('k', 'Z'),))
    """
    parameters: list[tuple[str, str]] = []
    for _ in range(3):
        found = _domain(text)
        if found is None:
            break
        text, names, kind = found
        parameters.extend((name, kind) for name in names)
    if not parameters:
        return text, ()
    bound = _DOMAIN_START.search(text)
    if bound and bound[1] in dict(parameters):
        start = "P" if (bound[2], bound[3]) in ((">", "0"), ("\\ge", "1")) else "N"
        text = text[: bound.start()]
        parameters = [(name, start if name == bound[1] else kind) for name, kind in parameters]
    return text.strip().rstrip(",;").strip(), tuple(dict.fromkeys(parameters))


def _domain(text: str) -> tuple[str, list[str], str] | None:
    """The text before a clause on parameters at its end, their names, and their set."""
    if not text[-1:].isalpha() and text[-1:] not in ("}", ")", "0"):
        return None
    head, text = text[:-_CLAUSE_CHARS], text[-_CLAUSE_CHARS:]
    match = _DOMAIN.search(text) if "\\in" in text else None
    if match and match.start() > 0:
        letter = match[2] or match[4]
        positive = match[3] in ("+", "*", ">0") or (match[3] or "").startswith(">")
        kind = "P" if positive and letter in "ZN" else "N" if match[3] else letter
        return head + text[: match.start()], _each(match[1]), kind
    if (
        "integer" in text
        or "number" in text
        or "constant" in text
        or "parameter" in text
        or "real" in text
    ):
        reverse = _DOMAIN_REVERSED.search(text)
        if reverse and reverse.start() > 0:
            return head + text[: reverse.start()], [reverse[3]], _worded(reverse[1], reverse[2])
        worded = _DOMAIN_WORDS.search(text)
        if worded and worded.start() > 0:
            names = _each(worded[1])
            return head + text[: worded.start()], names, _worded(worded[2], worded[3])
    return None


def _each(names: str) -> list[str]:
    names = re.sub(r"\\text\{[^{}]*\}|\band\b", ",", names)
    return re.findall(r"[A-Za-z](?:_\d)?", re.sub(r"[{}]", "", names))


def _worded(before: str | None, noun: str) -> str:
    before = (before or "").strip().lower()
    if noun.startswith("integer") or before in ("whole", "natural"):
        if before.startswith(("non", "whole")):
            return "N"
        return "P" if before in ("positive", "natural") else "Z"
    return "R"
