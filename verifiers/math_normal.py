r"""Writing one answer in one way: wrappers, spacing, Unicode and ASCII maths become plain LaTeX.

Only notation changes here, never value. Linear in the length of the text, which is bounded.
"""

from __future__ import annotations

import re

_UNICODE = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ",
    "∙": "\\cdot ",
    "÷": "/", "≤": "\\le ", "⩽": "\\le ", "≥": "\\ge ", "⩾": "\\ge ", "≠": "\\ne ", "π": "\\pi ",
    "θ": "\\theta ", "∞": "\\infty ", "°": "^\\circ ", "±": "\\pm ", "∓": "\\mp ", "∪": "\\cup ",
    "∩": "\\cap ", "∈": "\\in ", "∅": "\\emptyset ", "½": "\\frac{1}{2}", "⅓": "\\frac{1}{3}",
    "⅔": "\\frac{2}{3}", "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}", "\u00a0": " ", "\u202f": " ",
    "\u2009": " ", "，": ",", "：": ":", "（": "(", "）": ")", "＝": "=", "…": "\\ldots ", "€": "",
    "£": "", "∶": ":",
}  # fmt: skip
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_TRANSLATION = str.maketrans(_UNICODE)
_REPLACEMENTS = (
    (re.compile(r"\s+"), " "),
    (re.compile(r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])"), ""),
    (re.compile(r"\\(?:(?:display|text)style|(?:no)?limits)(?![A-Za-z])"), ""),
    (re.compile(r"\\! *"), ""),
    (re.compile(r"(?<!\\)\\(?:quad|qquad|,|;|:|>| )|~"), " "),
    (re.compile(r"\\varnothing(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:leqslant|leq)(?![A-Za-z])"), r"\\le"),
    (re.compile(r"\\(?:geqslant|geq)(?![A-Za-z])"), r"\\ge"),
    (re.compile(r"\\neq(?![A-Za-z])"), r"\\ne"),
    (re.compile(r"\\colon(?![A-Za-z])"), ":"),
    (re.compile(r"\\(?:(?:math|text)(?:rm|bf|it|tt|normal)|mbox|rm|operatorname) ?\{"), r"\\text{"),
    (re.compile(r"\\text \{"), r"\\text{"),
    (re.compile(r"\\(?:lg)(?![A-Za-z])"), r"\\log_{10}"),
    (re.compile(r"\\degree(?![A-Za-z])"), r"^\\circ"),
    (re.compile(r"\^ ?\{? ?\\circ ?\}?"), r"^\\circ"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\lbrace(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\(?:dots|cdots|dotsc)(?![A-Za-z])"), r"\\ldots"),
    (re.compile(r"\s+"), " "),
)  # fmt: skip
_PLAIN = re.compile(r"-?\d+(?:\.\d+)?$")
_TOKEN = r"(\d|[A-Za-z]|\\pi(?![a-z])|\{[^{}]*\})"
_FRAC_SHORT = re.compile(rf"\\(frac|binom) ?{_TOKEN} ?{_TOKEN}")
_SQRT_SHORT = re.compile(r"\\sqrt\s*(\d|[A-Za-z])(?![A-Za-z])")
_TEXT_TOKEN = re.compile(r"\\text\{\s*([+-]?[\d.,/]+|[A-Za-z])\s*\}")
_PURE_TEXT = re.compile(r"\\text\{([^{}]*)\}$")
_WRAPPERS = (
    ("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"),
    ("__", "__"),
)  # fmt: skip
_SET_BUILDER = re.compile(
    r"^\\\{ ?([A-Za-z])(?:\\in \\mathbb\{R\})? ?(?:\||:|\\mid(?![a-z])) ?([^|:]*)\\\}$"
)
_MEMBERSHIP = re.compile(r"^[A-Za-z] ?\\in ?(?=[(\[\\])")
_BOUND = r"([^<>≤≥=,A-Za-z]*(?:\\(?:frac|sqrt|pi|infty)(?![a-z])[^<>≤≥=,A-Za-z]*)*)"
_DOUBLE_INEQUALITY = re.compile(
    rf"^{_BOUND}(?:(?=[<≤][^<>≤≥]*[<≤])|(?=[>≥][^<>≤≥]*[>≥]))([<≤>≥])[A-Za-z]([<≤>≥]){_BOUND}$"
)
_SINGLE_INEQUALITY = re.compile(rf"^[A-Za-z]([<≤>≥]){_BOUND}$")
_SUPERSCRIPT = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+")
_TIGHT = re.compile(r" ?(\\(?:times|cdot)(?![A-Za-z])|[-+=/^*:;(){}\[\]]) ?| (?=,)")


def normalise(text: str) -> str:
    r"""One answer in one notation.

    >>> normalise("$\\dfrac12$.")
    '\\frac{1}{2}'
    >>> normalise("−½")
    '-\\frac{1}{2}'
    """
    text = text.strip()
    if _PLAIN.match(text):
        return text
    text = _unwrap(text)
    text = _SUPERSCRIPT.sub(lambda match: "^{" + match.group().translate(_SUPERSCRIPTS) + "}", text)
    text = re.sub(r"√\s*(\d+|[A-Za-z]|\([^()]*\))", _root, text)
    text = text.translate(_TRANSLATION)
    text = re.sub(r"(?<!\\)\$", " ", text)
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    text = _FRAC_SHORT.sub(_fraction, text)
    text = _SQRT_SHORT.sub(r"\\sqrt{\1}", text)
    text = _TEXT_TOKEN.sub(r" \1 ", text)
    text = _TIGHT.sub(lambda match: match.group(1) or "", text.strip())
    whole = _PURE_TEXT.match(text)
    return _unwrap(whole.group(1) if whole else text)


def to_latex(text: str) -> str:
    """A normalised answer with ASCII maths made LaTeX, for the parser."""
    text = re.sub(r"(?<![\\A-Za-z])(?:sqrt)\(([^()]*)\)", r"\\sqrt{\1}", text)
    text = re.sub(r"(?<![\\A-Za-z])exp\(([^()]*)\)", r"e^{\1}", text)
    text = re.sub(
        r"(?<![\\A-Za-z])(pi|sin|cos|tan|cot|sec|csc|ln|log|infty)(?![A-Za-z])", r"\\\1 ", text
    )
    text = text.replace("\\log_e", "\\ln").replace("**", "^")
    text = re.sub(r"(?<![\w.}])(\d+)/(\d+)(?![\d.])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\^\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"\^(-?\d+(?:\.\d+)?)", r"^{\1}", text)
    text = text.replace("*", "\\cdot ")
    text = re.sub(r"(?<![A-Za-z\\])i ?\(", r"i\\cdot (", text)  # not a function named i
    text = re.sub(r"(\d+(?:\.\d+)?)\^\\circ", r"(\\frac{\1\\pi}{180})", text)
    text = re.sub(r"\\text\{ ?(?:and|or) ?\}", ",", text)
    return text.strip()


def as_interval(text: str) -> str:
    r"""An inequality in one unknown, or a set built from one, in interval notation.

    >>> as_interval(r"-1<x\le 2")
    '(-1,2]'
    >>> as_interval(r"\{x\mid x>3\}")
    '(3,\\infty)'
    """
    text = _SET_BUILDER.sub(r"\2", text)
    text = _MEMBERSHIP.sub("", text)
    text = re.sub(
        r"\\(le|ge)(?![a-z]) ?", lambda match: "≤" if match.group(1) == "le" else "≥", text
    )
    double = _DOUBLE_INEQUALITY.match(text)
    if double:
        low, first, second, high = double.groups()
        if first in ">≥":
            low, first, second, high = high, second, first, low
        left, right = "(["[first in "≤≥"], ")]"[second in "≤≥"]
        return f"{left}{low},{high}{right}"
    single = _SINGLE_INEQUALITY.match(text)
    if single:
        sign, bound = single.groups()
        if sign in ">≥":
            return f"{'(['[sign == '≥']}{bound},\\infty)"
        return f"(-\\infty,{bound}{')]'[sign == '≤']}"
    return text.replace("≤", "\\le ").replace("≥", "\\ge ")


def balanced(text: str) -> bool:
    """Whether braces and brackets close, half-open intervals allowed."""
    depth = 0
    for mark in re.findall(r"\\?[{}()\[\]]", text):
        depth += 1 if mark[-1] in "{([" else -1
        if depth < 0:
            return False
    return depth == 0


def _unwrap(text: str) -> str:
    """Take away what only surrounds an answer: spaces, formula marks, Markdown, a full stop."""
    while True:
        before = text
        text = text.strip().rstrip(",;").strip()
        if text.endswith(".") and not text.endswith((".m.", "..")):
            text = text[:-1]
        for start, end in _WRAPPERS:
            inner = text[len(start) : -len(end)]
            wrapped = text.startswith(start) and text.endswith(end)
            alone = start.strip("$*_`") or start not in inner
            if len(text) > len(start + end) and wrapped and alone:
                text = inner
        text = text.removesuffix("**").removesuffix("\\")
        if text == before:
            return text


def _fraction(match: re.Match[str]) -> str:
    command, above, below = match.groups()
    return f"\\{command}{{{above.strip('{}')}}}{{{below.strip('{}')}}}"


def _root(match: re.Match[str]) -> str:
    inner = match.group(1)
    inner = inner[1:-1] if inner.startswith("(") else inner
    return f"\\sqrt{{{inner}}}"
