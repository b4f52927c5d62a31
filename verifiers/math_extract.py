r"""Finding the final answer in a response, by a stated rule; linear in the length of the text.

The first rule that finds something decides:

1. `tag`: what stands in the last `<answer>...</answer>`; a box inside it counts as the box.
2. `box`: what the last `\boxed{...}` holds, with what belongs to it (`rlvr.verifiers.math_boxes`).
3. `####`: what follows `####` (the form of GSM8K's own solutions), unless it is a heading.
4. `label`: a line that begins with `A:`, `Answer:` or `Final answer:`, Markdown around it or not.
5. `phrase`: what follows the last "the answer is" that is the writer's own (`math_phrases`).
6. `whole`: the response itself, where it is one short line.
7. `last line`: the value that the response ends in, where it concludes (`math_conclusion`).

Only the last 200,000 characters are read, nothing behind an end-of-turn mark, and nothing that is
struck out or a comment. An answer that hedges, asks or supposes, that its sentence negates
(`math_denials`), or that the rest of the response takes back (`math_retractions`) is no answer;
where it is taken back and another one follows, that one is. A claim of another value behind the box
makes two answers. Of a response that was cut off by the token limit only a finished answer counts:
rules 6 and 7 do not apply, nor does an answer that runs into the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rlvr.types import Outcome
from rlvr.verifiers import math_last_line
from rlvr.verifiers.math_boxes import Box, box_strength, find_boxes, read_boxes, tight
from rlvr.verifiers.math_conclusion import conclusion
from rlvr.verifiers.math_denials import asked, denied_after, denied_before, without_struck_out
from rlvr.verifiers.math_phrases import claims, is_answer, is_offered, is_own, labels
from rlvr.verifiers.math_retractions import dismissed, restated, taken_back
from rlvr.verifiers.math_sentence import sentence_value
from rlvr.verifiers.math_written import cleaned, first_sentence

_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*([^\n]*)")
_HEADING = re.compile(
    r"(?:\W*(?:step|part|case|method|solution|conclusion|final|answer|verification|check"
    r"|explanation)\b.*|\W*\d+[.)][ \t]+[A-Za-z].*|[^\d\\$]*[A-Za-z]{3,}[^\d\\$]*|.*:\s*\**)$",
    re.IGNORECASE,
)  # fmt: skip
_SPACES = re.compile(r"[^\S\n]{3,}")  # no pattern below meets a run that it could grow on
_EMPTY_LINES = re.compile(r"\n(?:[^\S\n]{0,2}\n){2,}")
_HEADING_CHARS = 200
_TURN_END = re.compile(
    r"<\|(?:im_end|im_start|endoftext|eot_id|end_of_text|end|return|user|assistant)\|?>|</s>"
    r"|<end_of_turn>|<eos>"
)
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_EXPLANATION = re.compile(
    r"(?:(?:,|\s)\s*(?:because|since|as (?:we|the|it|they|this|option|shown|required|desired)"
    r"|which (?:is|means|gives|matches)"
    r"|(?<=[\d$%*], )(?:not|nicht|pas|no|não|non|не|а не)"
    r"|so (?:the|that|we|it|option|\(?[A-J]\)?\b)|weil|parce que|porque|perché|因为|puisque)\b"
    r"|(?<=[\d$%*])，而?(?:不是|非)).*$",
    re.IGNORECASE | re.DOTALL,
)
_ASIDE = re.compile(
    r"(?<=[\d$%*)])(?: \((?:and )?(?:not|nicht|pas|no|non|não)\b[^()]{0,80}\)\.?|;\s+(?!(?:or|maybe"
    r"|perhaps|possibly|alternatively|otherwise|if|unless|but|also|another|and)\b)"
    r"[A-Za-z]{2,} [A-Za-z].*)$",
    re.IGNORECASE,
)
_SUFFIX = re.compile(r"(?:입니다|이다|이에요|예요|です|になります|となります|である|だ)[。.]?\s*$")
_LEADING = re.compile(
    r"^(?:\s|[*_:：]|(?:therefore|thus|then|that|just|simply|indeed|still|again|exactly)\b)+",
    re.IGNORECASE,
)
_SO = re.compile(r"^(?:so|thus|hence|therefore|then|finally|it is|it's)\b[,:]?\s+", re.IGNORECASE)
_NOT = re.compile(
    r"(?:\$|\\\(|\*)*\s*(?:not\b|n't\b|isn't\b|never\b|neither\b(?=.*\bnor\b)|不是|nicht\b|pas\b"
    r"|не\b)", re.IGNORECASE
)  # fmt: skip
_VALUE = re.compile(r"\$?[-\d.,/%\s\\{}()+*^_$]*(?:\\?[a-z]+[-\d.,/%\s\\{}()+*^_$]*){0,4}")
_TAIL_CHARS = 20_000
_PLAIN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_MAX_CHARS = 200_000
_LATER_CHARS = 2000
_SHORTEST_CLAIM = 5
_ASKED_CHARS = 50
_SENTENCE_CHARS = 200
_MAX_READINGS = 3
_MAX_ANSWERS = 50


@dataclass(frozen=True, slots=True)
class Extraction:
    """What a response answers, or why it answers nothing.

    Attributes:
        text: the answer as written; empty where there is a problem.
        rule: which rule found it.
        problem: the outcome where nothing can be graded.
        reason: the problem in words.
        note: more about the rule: how several boxes or what stands beside one were read.
        others: the same answer read with what stands beside it (`x = 3` beside `3`).
        parts: the single answers, where there are several; each of them may be the ground truth,
            written differently.
        stated: the value of the sentence that the answer is; empty where it is none.
    """

    text: str
    rule: str
    problem: Outcome | None = None
    reason: str = ""
    note: str = ""
    others: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    stated: str = ""

    @property
    def how(self) -> str:
        """The rule in words."""
        return f"{self.rule} rule, {self.note}" if self.note else f"{self.rule} rule"


def extract(response: str, cut_short: bool = False, last_line: bool = True) -> Extraction:
    """The final answer of a response whose thinking was taken away.

    Args:
        response: the text.
        cut_short: it was stopped by a token limit, so its end is no end.
        last_line: rules 6 and 7 apply, which take an answer that nothing marks.
    """
    response = _EMPTY_LINES.sub("\n\n", _SPACES.sub("  ", response[-_MAX_CHARS:]))
    marked = "<|" in response or "</s>" in response or "<e" in response
    turn_end = _TURN_END.search(response, 1) if marked else None
    if turn_end is not None:
        response = response[: turn_end.start()]
    response = without_struck_out(response)
    if not response.strip():
        return Extraction("", "none", Outcome.NO_ANSWER, "the response is empty")
    tagged = _from_tag(response)
    if tagged is not None:
        return tagged
    boxed = _from_boxes(response)
    if boxed is not None:
        return boxed
    tail = response[-_TAIL_CHARS:]
    found = _from_hashes(tail) or _from_labels(tail) or _from_claims(tail, cut_short)
    if found is not None:
        return found
    if cut_short:
        return Extraction("", "none", Outcome.NO_ANSWER, "cut off before there was an answer")
    if not last_line:
        return Extraction("", "none", Outcome.NO_ANSWER, "nothing marks an answer")
    return _from_whole(response) or _from_last_line(tail)


def boxes(response: str) -> list[str | None]:
    r"""What each `\boxed{...}` holds, in order; `None` for one that is never closed."""
    return [box.content for box in find_boxes(response[-_MAX_CHARS:])]


def _from_tag(response: str) -> Extraction | None:
    if "nswer>" not in response and "NSWER>" not in response:
        return None
    spans = _tag_spans(response)
    if not spans:
        return None
    begin, end = spans[-1]
    back = taken_back(response, end + len("</answer>"), content=response[begin:end].strip())
    if back:
        return _taken_back("tag", back)
    if denied_before(
        response[max(0, begin - _SENTENCE_CHARS) : begin - len("<answer>")].rpartition("\n")[2]
    ):
        return Extraction("", "tag", Outcome.INCORRECT, "the words before it deny it")
    answers = [response[begin:end] for begin, end in spans[-_MAX_ANSWERS:]]
    inside = answers[-1].strip()
    if not inside:
        return Extraction("", "tag", Outcome.NO_ANSWER, "the last <answer> is empty")
    found = _from_boxes(inside) or _from_claims(inside, False)
    if found is not None:
        return replace(found, rule="tag", note=f"{found.rule} inside it")
    return _one_or_several(answers, "tag") or Extraction(inside, "tag")


def _tag_spans(response: str) -> list[tuple[int, int]]:
    """Where the contents of `<answer>...</answer>` lie; tags without a partner are passed over."""
    spans: list[tuple[int, int]] = []
    begin: int | None = None
    for tag in _TAG.finditer(response):
        if not tag.group(1):
            begin = tag.end()
        elif begin is not None:
            spans.append((begin, tag.start()))
            begin = None
    return spans


def _from_boxes(response: str) -> Extraction | None:
    if "oxed" not in response and "\\fbox" not in response:
        return None
    found = find_boxes(response)
    if not found:
        return None
    if found[-1].content is None:
        return Extraction("", "box", Outcome.WRONG_FORMAT, "the last box is not closed")
    found = [box for box in found if (box.content or "").strip()]
    if not found:
        return Extraction("", "box", Outcome.NO_ANSWER, "the box is empty")
    last = found[-1]
    content = (last.content or "").strip()
    back = taken_back(response, last.end, content=content)
    back = back or dismissed(content, response[last.end :])
    if back:
        return _after_retraction(response, last, back)
    if asked(response[last.end : last.end + _ASKED_CHARS]):
        later = _from_claims(response[last.end :][-_TAIL_CHARS:], False)
        asks = Extraction("", "box", Outcome.INCORRECT, "the sentence of the box asks")
        return later or asks
    answer = read_boxes(response, found)
    if answer.problem:
        return Extraction("", "box", Outcome.INCORRECT, answer.problem)
    first, *others = answer.readings
    later = _stated_later(response, found)
    if later is not None:
        return later
    different = _different_claim(response, last)
    if different:
        parts = (*(answer.parts or (cleaned(first),)), different)
        note = "and a claim behind the box"
        return Extraction(" , ".join(parts), "box", note=note, parts=parts)
    found_others = tuple(cleaned(other) for other in others[: _MAX_READINGS - 1])
    return Extraction(
        cleaned(first),
        "box",
        note=answer.note,
        others=found_others,
        parts=answer.parts,
        stated="" if answer.parts else sentence_value(first),
    )


def _stated_later(response: str, found: list[Box]) -> Extraction | None:
    """A "final answer is" behind the last box, where the box itself claimed to be none."""
    rest = response[found[-1].end :][-_TAIL_CHARS:]
    if "inal" not in rest or box_strength(response, found[-1]) > 1:
        return None
    own = (claim for claim in reversed(claims(rest)) if is_own(rest, claim))
    last = next((claim for claim in own if "final" in claim.words.lower()), None)
    stated = None if last is None else _from_claims(rest[last.start :], False)
    if stated is None or stated.problem is not None or not _VALUE.fullmatch(stated.text):
        return None
    return replace(stated, note="a final answer behind the box")


def _different_claim(response: str, box: Box) -> str:
    """The value of a claim behind the last box that is not written as the box is; or nothing."""
    rest = response[box.end : box.end + _LATER_CHARS]
    if len(rest) < _SHORTEST_CLAIM:
        return ""
    last = next((c for c in reversed(claims(rest)) if is_answer(c) and is_own(rest, c)), None)
    stated = None if last is None else _from_claims(rest[last.start :], False)
    values = restated(rest)
    if stated is not None and stated.problem is None and re.search(r"\d", stated.text):
        values.append(stated.text)
    written = tight(box.content or "")
    return next((v for v in values if tight(v) != written and _VALUE.fullmatch(v)), "")


def _after_retraction(response: str, box: Box, back: str) -> Extraction:
    """What is said instead of a box that was taken back."""
    found = _from_claims(response[box.end :][-_TAIL_CHARS:], False)
    if found is None or found.problem is not None:
        return _taken_back("box", back)
    return replace(found, note=f"the box is taken back: {back!r}")


def _taken_back(rule: str, words: str) -> Extraction:
    return Extraction("", rule, Outcome.INCORRECT, f"the text after it takes it back: {words!r}")


def _one_or_several(answers: Sequence[str], rule: str) -> Extraction | None:
    """The list of the answers where they differ; `None` where they are one."""
    distinct = {tight(answer.strip("*_ ")): answer.strip() for answer in answers}
    if len(distinct) < 2:
        return None
    parts = tuple(distinct.values())[-_MAX_ANSWERS:]
    return Extraction(" , ".join(parts), rule, note="several answers", parts=parts)


def _from_hashes(tail: str) -> Extraction | None:
    if "####" not in tail:
        return None
    matches = [match for match in _HASHES.finditer(tail) if match.group(1).strip()]
    answers = [m.group(1).strip() for m in matches if not _is_heading(m, tail)]
    if not answers or answers[-1] != matches[-1].group(1).strip():
        return None
    back = taken_back(tail, matches[-1].end())
    if back:
        return _taken_back("####", back)
    return _one_or_several(answers, "####") or Extraction(answers[-1], "####")


def _is_heading(match: re.Match[str], tail: str) -> bool:
    """Whether `#### Step 2: add them` begins a section; the last line of all is an answer."""
    line = match.group(1).strip()
    is_like_one = len(line) > _HEADING_CHARS or _HEADING.match(line)
    return bool(is_like_one and tail[match.end() :].strip())


def _from_labels(tail: str) -> Extraction | None:
    answers = [answer for answer in labels(tail) if answer.strip(" *_$")]
    if not answers:
        return None
    back = taken_back(tail, tail.rfind(answers[-1]) + len(answers[-1]))
    if back:
        return _taken_back("label", back)
    several = _one_or_several(answers, "label")
    if several is not None:
        return several
    if _PLAIN_NUMBER.fullmatch(answers[-1]):
        return Extraction(answers[-1], "label")  # most of them, and nothing to read in it
    answer = math_last_line.without_hope(answers[-1])
    inner = _from_claims(answer, False)
    return _as_answer(answer, "label") if inner is None else inner


def _from_claims(text: str, cut_short: bool) -> Extraction | None:
    """What follows the last own claim that something follows; a claim in a question is none.

    A value that is only asked about or offered ("another answer is") behind the last claim leaves
    open which of the two is meant.
    """
    doubt = ""
    for claim in reversed(claims(text)[-_MAX_ANSWERS:]):
        rest = text[claim.end :]
        if not rest.strip(" *_$:：\n\t") or not is_own(text, claim):
            continue
        answer, length = first_sentence(rest)
        end = claim.end + length
        if not _LEADING.sub("", answer):
            continue
        is_asked = asked(text[end - (text[end - 1] in "?？") : end + _ASKED_CHARS])
        if is_asked or is_offered(text, claim):
            doubt = doubt or (answer if math_last_line.has_value(answer) else "")
            continue
        if doubt:
            reason = f"another answer is asked about or offered behind it: {doubt[:80]!r}"
            return Extraction("", "phrase", Outcome.INCORRECT, reason)
        if (
            cut_short
            and end >= len(text.rstrip())
            and not text.rstrip().endswith((".", "$", "*", "。"))
        ):
            return Extraction("", "phrase", Outcome.NO_ANSWER, "cut off within the answer")
        back = taken_back(text, end)
        return _taken_back("phrase", back) if back else _unless_another(answer, text[end:])
    return None


def _unless_another(answer: str, rest: str) -> Extraction:
    """What a claim answers, unless the text behind it names another value for it."""
    found = _as_answer(answer, "phrase")
    others = [value for value in restated(rest) if tight(value) != tight(found.text.strip("$"))]
    if found.problem is not None or not others:
        return found
    reason = f"the text behind it names another answer: {others[0][:80]!r}"
    return Extraction("", "phrase", Outcome.INCORRECT, reason)


def _as_answer(sentence: str, rule: str) -> Extraction:
    """The answer in what a label or a claim is followed by."""
    sentence = _ASIDE.sub("", _LEADING.sub("", sentence))
    if _NOT.match(sentence):
        return Extraction(
            "", rule, Outcome.INCORRECT, f"the sentence negates it: {sentence[:80]!r}"
        )
    if sentence.count("**") % 2:  # its beginning went with what stood before
        bold, _, rest = sentence.partition("**")
        if denied_after(rest):
            return Extraction("", rule, Outcome.INCORRECT, f"it is negated: {sentence[:80]!r}")
        joined = re.match(
            r"[ *]*(?:or\b|and\b|,\s*[\d*$\\])", rest
        ) or math_last_line.UNIT_NEXT.match(rest)
        sentence = bold + rest.replace("**", "") if joined else bold
    answer = _EXPLANATION.sub("", _SUFFIX.sub("", sentence)).strip()
    if rule == "phrase" and denied_after(" " + sentence[len(answer) :]):
        return Extraction("", rule, Outcome.INCORRECT, f"it is negated: {sentence[:80]!r}")
    inner = math_last_line.value_of_sentence(answer) if len(answer) > 12 else None
    if inner is None or inner.problem is Outcome.NO_ANSWER:
        return Extraction(cleaned(answer), rule)
    note = "the value of its sentence" if inner.problem is None else ""
    return Extraction(inner.text, rule, inner.problem, inner.reason, note)


def _from_whole(response: str) -> Extraction | None:
    text = math_last_line.unwrapped(math_last_line.without_hope(response.strip()))
    text = _SO.sub("", text)
    return Extraction(cleaned(text), "whole") if math_last_line.is_short_answer(text) else None


def _from_last_line(tail: str) -> Extraction:
    """Rule 7."""
    found = conclusion(tail)
    return Extraction(found.text, "last line", found.problem, found.reason)
