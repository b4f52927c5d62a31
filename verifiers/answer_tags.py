"""Finding the one answer between `<answer>` tags, for verifiers whose answers are whole phrases."""

from __future__ import annotations

import re

_TAG = re.compile(r"<(/?)answer>")


class UnreadableAnswer(ValueError):
    """The completion gives no single answer that can be read; the message says why."""


def tagged_answer(text: str) -> str | None:
    """What stands between `<answer>` and `</answer>`, or `None` where neither tag is used.

    Raises:
        UnreadableAnswer: there are several answers, a tag has no partner, or text follows the
            closing tag, where it could take the answer back.
    """
    tags = list(_TAG.finditer(text))
    if not tags:
        return None
    if [tag.group(1) for tag in tags] != ["", "/"]:
        raise UnreadableAnswer("expected one <answer>...</answer>")
    opening, closing = tags
    if text[closing.end() :].strip():
        raise UnreadableAnswer("there is text after </answer>")
    return text[opening.end() : closing.start()].strip()
