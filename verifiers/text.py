"""Verifiers of plain text: `exact`, `regex` and `choice`."""

from __future__ import annotations

import re
from typing import Any

from rlvr.errors import ConfigError, VerifierError
from rlvr.types import Outcome, Verdict
from rlvr.verifiers.base import verifier
from rlvr.verifiers.math_extract import extract

_LETTER = re.compile(
    r"(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+)?"
    r"(?:\(\s*([A-Za-z])\s*\)|([A-Z])(?=$|[).:,]|\s*[-–—]\s)|([a-z])(?=$|\)))"
)
_IN_BRACKETS = re.compile(r"\(([A-Z])\)")
_MARKS = re.compile(r"\\text(?:bf|rm|it)?\{([^{}]*)\}|[*_$`{}]|\\[()\[\]]")
_SEVERAL = re.compile(
    r"\(\s*[A-Z]\s*\)|(?:\b(?:or|and|not|maybe|but)\b|[,/&;])\s*(?:[a-z]+\s+){0,3}[A-Z](?![A-Za-z'])"
)
_TAIL_CHARS = 2000


@verifier("exact", bounded=True)
def exact(completion: str, answer: Any, strip: bool = True, ignore_case: bool = False) -> Verdict:
    """The completion is the ground truth, character for character.

    Args:
        completion: what the policy wrote, thinking taken away.
        answer: the ground truth: a text or a number.
        strip: leave white space around both out.
        ignore_case: compare in small letters.
    """
    expected, found = _text_of(answer), completion
    if strip:
        expected, found = expected.strip(), found.strip()
    if not found:
        return Verdict.wrong("the completion is empty", Outcome.NO_ANSWER)
    same = found.casefold() == expected.casefold() if ignore_case else found == expected
    if same:
        return Verdict.correct("the same text", extracted=found[:_TAIL_CHARS])
    return Verdict.wrong(f"expected {expected[:200]!r}", extracted=found[:_TAIL_CHARS])


@verifier("regex")
def regex(completion: str, answer: Any, pattern: str | None = None) -> Verdict:
    """The whole completion, white space around it left out, matches a regular expression.

    A pattern that backtracks without end is stopped by the deadline of `verify_many`.

    Args:
        completion: what the policy wrote, thinking taken away.
        answer: the pattern, where no option gives one.
        pattern: for every task the same.
    """
    expression = _text_of(answer) if pattern is None else pattern
    try:
        compiled = re.compile(expression)
    except re.error as error:
        message = f"{expression!r} is no regular expression: {error}"
        raise (VerifierError if pattern is None else ConfigError)(message) from error
    found = completion.strip()
    if not found:
        return Verdict.wrong("the completion is empty", Outcome.NO_ANSWER)
    if compiled.fullmatch(found):
        return Verdict.correct("matches", extracted=found[:_TAIL_CHARS])
    return Verdict.wrong(f"does not match {expression[:200]!r}", extracted=found[:_TAIL_CHARS])


@verifier("choice", bounded=True)
def choice(completion: str, answer: Any) -> Verdict:
    """One letter is chosen, and it is the right one; two letters, or a hedge, are no choice.

    The letter is looked for where the `math` verifier looks for its answer (a box, `Answer: B`,
    "the answer is (B)", a one-line response), then as the only `(B)` of the last line.

    Args:
        completion: what the policy wrote, thinking taken away.
        answer: the letter, with or without brackets.
    """
    expected = _text_of(answer).strip().strip("().").upper()
    if not (len(expected) == 1 and expected.isascii() and expected.isalpha()):
        raise VerifierError(f"the ground truth is {answer!r}: expected one letter")
    found = extract(completion)
    unusable_box = found.rule == "box" and found.problem is not None
    if found.problem is not None and (unusable_box or found.problem is Outcome.INCORRECT):
        return Verdict.wrong(found.reason, found.problem)
    rule = found.rule
    letter = None if rule == "last line" else _one_letter(found.text)
    if letter is None and rule in ("whole", "last line"):
        letter, rule = _bracketed_letter(completion), "last line"
    if letter is None:
        return Verdict.wrong("no single letter is chosen", Outcome.NO_ANSWER)
    if letter == expected:
        return Verdict.correct(f"chosen ({rule} rule)", extracted=letter)
    return Verdict.wrong(f"expected {expected} ({rule} rule)", extracted=letter)


def _one_letter(text: str) -> str | None:
    """The letter of `B`, `(B)`, `B) Paris`, `option B`; `None` where there are several."""
    text = _MARKS.sub(r"\1", text[:_TAIL_CHARS]).strip().rstrip(".")
    match = _LETTER.match(text)
    if match is None or _SEVERAL.search(text, match.end()):
        return None
    return next(group for group in match.groups() if group).upper()


def _bracketed_letter(text: str) -> str | None:
    line = text.rstrip().rsplit("\n", 1)[-1][-_TAIL_CHARS:]
    letters: set[str] = set(_IN_BRACKETS.findall(line))
    if len(letters) != 1 or re.search(r"\b(?:not|maybe|isn't)\b", line):
        return None
    return letters.pop()


def _text_of(answer: Any) -> str:
    if isinstance(answer, bool) or not isinstance(answer, str | int | float) or answer == "":
        raise VerifierError(f"the ground truth is {answer!r}: expected a text or a number")
    return str(answer)
