r"""The `format` verifier: whether a response has the shape that was asked for, whatever it says."""

from __future__ import annotations

import re

from rlvr.errors import ConfigError, nearest
from rlvr.types import Completion, Outcome, Task, Verdict
from rlvr.verifiers.base import verifier
from rlvr.verifiers.math_extract import boxes
from rlvr.verifiers.thinking import split_thinking

STYLES = ("think_answer", "boxed")
_TAG = re.compile(r"<(/?)(think|answer)>")
_EXPECTED = [("", "think"), ("/", "think"), ("", "answer"), ("/", "answer")]


@verifier("format", sees_thinking=True, bounded=True)
def format_verifier(completion: str, task: Task, style: str = "think_answer") -> Verdict:
    r"""The response has the shape that was asked for.

    Args:
        completion: the whole response. Where the prompt ends with `<think>`, so it begins inside.
        task: whose prompt the response follows.
        style: `think_answer`: one `<think>...</think>`, then one `<answer>...</answer>`, both with
            something in them, and nothing around them. `boxed`: exactly one `\boxed{...}` outside
            the thinking, with something in it.
    """
    if style not in STYLES:
        raise ConfigError(f"verifier 'format' has no style {style!r}{nearest(style, STYLES)}")
    prompt = task.prompt_text
    problem = (
        _think_answer(completion, prompt) if style == STYLES[0] else _boxed(completion, prompt)
    )
    if problem:
        return Verdict.wrong(problem, Outcome.WRONG_FORMAT)
    return Verdict.correct(f"the shape of {style}")


def _think_answer(completion: str, prompt: str) -> str:
    """What is wrong with the tags; empty where nothing is."""
    if prompt.rstrip().endswith("<think>"):
        completion = "<think>" + completion
    tags = list(_TAG.finditer(completion))
    if [tag.groups() for tag in tags] != _EXPECTED:
        return "expected one <think>...</think> and then one <answer>...</answer>"
    ends = [0, *(position for tag in tags for position in tag.span()), len(completion)]
    gaps = [completion[ends[i] : ends[i + 1]].strip() for i in range(0, len(ends), 2)]
    before, thinking, between, answer, after = gaps
    if before or between or after:
        return "there is text outside the tags"
    if not thinking or not answer:
        return "there is nothing between the tags"
    return ""


def _boxed(completion: str, prompt: str) -> str:
    outside = split_thinking(Completion(text=completion), prompt)
    if outside.problem is not None:
        return outside.reason
    found = boxes(outside.text)
    if len(found) != 1:
        return f"expected one box, found {len(found)}"
    if found[0] is None:
        return "the box is not closed"
    return "" if found[0].strip() else "the box is empty"
