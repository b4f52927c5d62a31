r"""What stands beside a box in its formula: a name, a unit, an alternative, more of an expression.

Nothing here knows boxes: what stands before one, what it holds, and what stands after it.
"""

from __future__ import annotations

import re

NAME = (
    r"(?:[A-Za-z](?:_\{?\w{1,3}\}?)?'?(?:\([A-Za-z0-9](?:,[A-Za-z0-9])*\))?|\\[a-z]+"
    r"|\([A-Za-z](?:,\s*[A-Za-z])+\)|\|[A-Za-z]+\||[A-Z]{2,3})"
)
_FORMULA_STARTS = ("\n", "$", "\\(", "\\[", "\\\\", "&")
_FORMULA_END = re.compile(r"(?<!\\)\$|\\\)|\\\]|\\end\{|\\\\|&|\n|\\q?quad")
_RELATION = re.compile(
    r"=|\\(?:approx|simeq|implies|iff|Rightarrow|rightarrow|to|Longrightarrow|equiv|le|ge|leq"
    r"|geq|in|lt|gt)(?![A-Za-z])"
    r"|[<>≈≤≥⇒→:,;]|\\text\{[^{}]*\}"
)
_NAMED = re.compile(rf"(?:^|[\s,;:({{]|\}})({NAME})\s*=\s*$")
_OR_WORDS = ("or", "ou", "或")
_OR_CHARS = 60
_NAME_CHARS = 40
_SPACING = re.compile(r"(?:\\[,;:! ]|\\q?quad(?![a-z])|~|\s)+")
_OPERATOR_BEFORE = re.compile(r"(?:[-−+*/]|\\(?:cdot|times|pm))\s*$")
_OPERATOR_AFTER = re.compile(r"\s*(?:[-−+*/]|\\(?:cdot|times|pm)(?![a-z]))\s*[\w\\({]")
UNIT_AFTER = re.compile(
    r"(?:\\[,;: ]|~|\s)*(\\?%|°|\^\s*\{?\s*\\circ\s*\}?|\\degree|\\(?:text|mathrm|mbox"
    r"|textnormal|rm)\s*\{[^{}]{1,30}\}"
    r"(?:\^\s*\{?\d\}?)?)"
)
PLAIN_UNIT = re.compile(
    r"\$?[ \t]*(%|°|(?:percent|pct|degrees?|radians?|cm|mm|km|kg|mg|ml|mL|kWh|meters?|metres?"
    r"|centimeters?"
    r"|kilometers?|inches|feet|foot|ft|yards?|miles?|mph|km/h|m/s|seconds?|minutes?|hours?|days?"
    r"|weeks?|years?"
    r"|grams?|kilograms?|pounds?|lbs?|ounces?|liters?|litres?|gallons?|cents?|dollars?|euros?"
    r"|sq(?:uare)? [a-z]+"
    r"|cubic [a-z]+)(?:\$?\^?\{?[23²³]\}?\$?)?)(?![\w])"
)
OR_AFTER = re.compile(
    r"[\s$*)\\]*\b(?:or|oder|ou|或)\b[\s$*(]*(?:\\\(\s*)?(?:maybe |perhaps "
    r"|even )?(\$?[-\w\\][^.\n]{0,40})"
)
_OR_BEFORE = re.compile(
    r"(\$[^$]{1,50}\$|\$?[-\d][\d.,/]*|\\[a-z{][^ ]*)[\s$*)]*\b(?:or|oder|ou"
    r"|或)\b[\s$*(\\a-z]{0,12}$"
)
_TAKES_ARGUMENT = re.compile(
    r"(?:\\[dtc]?frac(?:\{[^{}]*\})?|\\sqrt(?:\[[^\]]*\])?|\\d?binom(?:\{[^{}]*\})?|[\^_])\s*$"
)
_IS_NAME = re.compile(rf"\s*{NAME}\s*$")


def or_before(before: str) -> re.Match[str] | None:
    """What is offered before a box, as in `72 or [box]`."""
    close = before[-_OR_CHARS:]
    return _OR_BEFORE.search(close) if any(word in close for word in _OR_WORDS) else None


def name_before(before: str) -> str:
    """The name in `x = [box]`, or nothing."""
    before = _SPACING.sub(" ", before[-_NAME_CHARS:]).rstrip()
    named = _NAMED.search(before) if before.endswith("=") else None
    return named.group(1) if named is not None else ""


def formula_around(before: str, after: str) -> tuple[str, str]:
    """What stands before and after a box in its own formula; of prose, the same line."""
    begin = max(
        before.rfind(mark) + len(mark) for mark in _FORMULA_STARTS if mark in before or mark == "\n"
    )
    environment = before.rfind("\\begin{")
    if environment >= begin - 1:
        begin = before.find("}", environment) + 1 or begin
    before = before[begin:]
    stop = _FORMULA_END.search(after)
    return before, after[: stop.start()] if stop else after


def whole_expression(before: str, content: str, after: str) -> str | None:
    """The expression that a box is only a part of, or `None` where the box is all of it."""
    if _is_argument(before):
        return _last_side(before) + content + first_side(after)
    equals = re.match(r"\s*=\s*(?!=)(.+)", after)
    left_operator = _OPERATOR_BEFORE.search(before[-10:])
    if equals is not None and not left_operator:
        right = _until_sentence(equals.group(1))
        return f"{right} = {content}" if _IS_NAME.match(right) else f"{content} = {right}"
    right_operator = _OPERATOR_AFTER.match(after)
    relation_right = _RELATION.search(after)
    if left_operator is None and right_operator is None:
        return None
    if relation_right is not None and relation_right.group() == "=":
        return None  # 3 + [box] = 7 asks for what is missing
    if left_operator is not None and not _is_math(_last_side(before)):
        return None  # a dash in prose
    right = _until_sentence(first_side(after)) if right_operator else ""
    return _last_side(before) + f"({content})" + right


def _is_argument(before: str) -> bool:
    """Whether a box stands inside the braces of a fraction, a root or an exponent."""
    if "{" not in before:
        return False
    depth = 0
    for mark in reversed(list(re.finditer(r"(?<!\\\\)[{}]", before))):
        depth += 1 if mark.group() == "}" else -1
        if depth < 0:
            return _TAKES_ARGUMENT.search(before, 0, mark.start()) is not None
    return False


def _is_math(side: str) -> bool:
    return re.search(r"[A-Za-z]{3,}", re.sub(r"\\[A-Za-z]+", "", side)) is None


def _last_side(before: str) -> str:
    ends = [match.end() for match in _RELATION.finditer(before)]
    return before[ends[-1] :] if ends else before


def first_side(after: str) -> str:
    """What follows, up to the next relation."""
    relation = _RELATION.search(after)
    return after[: relation.start()] if relation else after


def _until_sentence(text: str) -> str:
    end = re.search(r"[.,;。](?=\s|$)|[.。]$|\bfor\b|\\text\{", text)
    return (text[: end.start()] if end else text).strip()
