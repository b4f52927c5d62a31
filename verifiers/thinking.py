"""Taking `<think>...</think>` away from a response, so that only the answer is graded."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlvr.types import Completion, FinishReason, Outcome

_TAG = re.compile(r"<(/?)think>")


@dataclass(frozen=True, slots=True)
class Answer:
    """The part of a response outside all thinking, or why there is none.

    Attributes:
        text: what is left; empty where there is a problem.
        problem: `truncated` or `wrong_format` where a `<think>` is never closed.
        reason: the problem in words.
    """

    text: str
    problem: Outcome | None = None
    reason: str = ""


def split_thinking(completion: Completion, prompt: str = "") -> Answer:
    """Drop every thinking span of a response.

    A response may begin inside a span (the prompt ended with `<think>`, or a lone `</think>` shows
    it). Spans nest. A span that is never closed leaves no answer: `truncated` where the sampler ran
    into its token limit, `wrong_format` where the policy stopped by itself.

    Args:
        completion: the response and why it ended.
        prompt: what the policy was given; only its end matters.
    """
    text = completion.text
    depth = 1 if prompt.rstrip().endswith("<think>") else 0
    kept: list[str] = []
    position = 0
    for tag in _TAG.finditer(text):
        if depth == 0:
            kept.append(text[position : tag.start()])
        if not tag.group(1):
            depth += 1
        elif depth > 0:
            depth -= 1
        else:
            kept.clear()  # the span had been opened before this response began
        position = tag.end()
    if depth == 0:
        kept.append(text[position:])
        return Answer("".join(kept).strip() if position else text)
    if completion.finish_reason == FinishReason.LENGTH:
        return Answer("", Outcome.TRUNCATED, "<think> was still open at the token limit")
    return Answer("", Outcome.WRONG_FORMAT, "<think> was never closed")
