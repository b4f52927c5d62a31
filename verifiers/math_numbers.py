r"""Exact numbers as people write them: integers, decimals, fractions, thousands, units, percent.

    18   18.   -3.50   1,250.5   1{,}250   3/4   \frac{1}{2}   3\frac{1}{7}   1.2\times10^5   1.2e5
    0.\overline{27}   \$18   60\%   12\text{ cm}   18 eggs per day

Everything is exact (`fractions.Fraction`) and bounded: at most 1,000 digits, exponents to 1,000.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_MAX_CHARS = 1200
_MAX_EXPONENT = 1000
_DIGITS = r"(?:\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+)|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_SIMPLE = re.compile(rf"([+-]?)({_DECIMAL})$")
_SLASH = re.compile(rf"([+-]?)({_DECIMAL})/({_DECIMAL})$")
_FRAC = re.compile(rf"([+-]?)(\d*)\\frac\{{([+-]?{_DECIMAL})\}}\{{([+-]?{_DECIMAL})\}}$")
_MIXED = re.compile(r"([+-]?)(\d+) (\d+)/(\d+)$")
_SCIENTIFIC = re.compile(
    rf"([+-]?{_DECIMAL})(?:[eE]|(?:\\times|\\cdot|\*)10\^)\{{?([+-]?\d{{1,4}})\}}?$"
)
_RECURRING = re.compile(r"([+-]?)(\d*)\.(\d*)\\overline\{(\d+)\}$")
_NUMBER_AND_REST = re.compile(
    r"(.*?[\d}.])(\\%|%|\^\{?\\circ\}?|(?: |\\text\{)[^\d]*\S|[a-z]{2,}[23]?)$"
)
_TEXT_UNIT = re.compile(r"(.+?)(\\text\{[^{}]*\}(?:\^\{?\d\}?)?)$")
_WORDS = re.compile(r"(?:[A-Za-z]+[.']?|/)(?: (?:[A-Za-z]+[.']?|/)){0,5}$")
_SPELLINGS = {
    "centimeter": "cm", "centimetre": "cm", "meter": "m", "metre": "m", "kilometer": "km",
    "kilometre": "km", "millimeter": "mm", "millimetre": "mm", "inch": "in", "inche": "in",
    "foot": "ft", "feet": "ft", "yard": "yd", "mile": "mi", "gram": "g", "kilogram": "kg",
    "pound": "lb", "ounce": "oz", "second": "s", "sec": "s", "minute": "min", "hour": "h",
    "hr": "h",
    "liter": "l", "litre": "l", "milliliter": "ml", "degree": "degree", "dollar": "$",
    "cent": "cent",
    "day": "day", "week": "week", "month": "month", "year": "year", "radian": "rad", "mph": "mph",
}  # fmt: skip
_UNITS = {*_SPELLINGS.values(), "%"}
_NOT_UNITS = {
    "or", "and", "is", "not", "isn", "wrong", "incorrect", "if", "but", "maybe", "perhaps", "to",
    "no",
    "half", "dozen", "hundred", "thousand", "million", "billion", "trillion", "percent", "squared",
    "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "pi", "mod", "choose",
    "plus",
    "minus", "times", "over", "base", "factorial", "am", "pm", "otherwise", "for", "when", "where",
    "less", "more", "least", "most", "about", "approximately", "unless", "even", "odd", "false",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Number:
    """An exact number and the unit written after it.

    Attributes:
        value: as written; 60% has the value 60.
        unit: normalised where it is a known one, the words otherwise; empty where there is none.
    """

    value: Fraction
    unit: str = ""


def parse_number(text: str) -> Number | None:
    """Read a normalised answer (`rlvr.verifiers.math_normal.normalise`) as one exact number."""
    if not text or len(text) > _MAX_CHARS:
        return None
    currency = text.startswith("\\$")
    if currency or text.startswith("-\\$"):
        text = text.replace("\\$", "", 1)
        currency = True
    value = _parse_value(text)
    if value is not None:
        return Number(value, "$" if currency else "")
    match = _NUMBER_AND_REST.match(text)
    if match is None:
        return None
    value = _parse_value(match.group(1).strip())
    unit = _parse_unit(match.group(2))
    if value is None or unit is None:
        return None
    return Number(value, "$" if currency else unit)


def same_number(gold: Number, answer: Number) -> bool:
    """Whether two numbers agree.

    A unit may be missing on one side; two known units must be the same. A percentage agrees with
    the same number without the sign, and with its hundredth part.
    """
    if not units_agree(gold.unit, answer.unit):
        return False
    if gold.value == answer.value:
        return True
    percents = (gold.unit == "%", answer.unit == "%")
    if percents == (True, False) and not answer.unit:
        return gold.value / 100 == answer.value
    if percents == (False, True) and not gold.unit:
        return gold.value == answer.value / 100
    return False


def units_agree(gold: str, answer: str) -> bool:
    """Whether two units may stand for the same: only two known ones can disagree."""
    known = gold.split("^")[0] in _UNITS and answer.split("^")[0] in _UNITS
    return gold == answer or not known


def split_unit(text: str) -> tuple[str, str]:
    r"""An expression and the unit that follows it as `\text{...}`; the unit is empty without one.

    >>> split_unit(r"2\sqrt{3}\text{ cm}^2")
    ('2\\sqrt{3}', 'cm^2')
    """
    match = _TEXT_UNIT.match(text)
    unit = _parse_unit(match.group(2)) if match else None
    return (match.group(1).strip(), unit) if match and unit else (text, "")


def _parse_value(text: str) -> Fraction | None:
    match = _SIMPLE.match(text)
    if match:
        return _signed(match.group(1), _decimal(match.group(2)))
    match = _FRAC.match(text)
    if match:
        return _mixed(match.group(1), match.group(2), match.group(3), match.group(4))
    match = _SLASH.match(text)
    if match:
        return _mixed(match.group(1), "", match.group(2), match.group(3))
    match = _MIXED.match(text)
    if match:
        return _mixed(*match.groups())
    match = _SCIENTIFIC.match(text)
    if match:
        exponent = int(match.group(2))
        if abs(exponent) > _MAX_EXPONENT:
            return None
        return _decimal(match.group(1)) * Fraction(10) ** exponent
    match = _RECURRING.match(text)
    if match:
        return _recurring(*match.groups())
    return None


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(" ", "").rstrip(".") or "0")


def _signed(sign: str, value: Fraction) -> Fraction:
    return -value if sign == "-" else value


def _mixed(sign: str, whole: str, numerator: str, denominator: str) -> Fraction | None:
    below = _decimal(denominator)
    if below == 0:
        return None
    return _signed(sign, _decimal(whole or "0") + _decimal(numerator) / below)


def _recurring(sign: str, whole: str, fixed: str, period: str) -> Fraction:
    scale = 10 ** len(fixed)
    repeating = Fraction(int(period), scale * (10 ** len(period) - 1))
    return _signed(
        sign, Fraction(int(whole or "0")) + Fraction(int(fixed or "0"), scale) + repeating
    )


def _parse_unit(text: str) -> str | None:
    """The unit that `text` names, or `None` where it is something else (a hedge, a multiplier)."""
    text = text.strip()
    if text in ("%", "\\%"):
        return "%"
    if "\\circ" in text:
        return "degree"
    power = ""
    match = re.match(r"(.*?)\^?\{?([23])\}?$", text)
    if match and not match.group(1).endswith("^"):
        text, power = match.group(1), match.group(2)
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).strip()
    if text == "percent":
        return "%"
    if not _WORDS.match(text):
        return None
    words = [word.rstrip(".'").lower() for word in text.split()]
    if any(word in _NOT_UNITS for word in words):
        return None
    name = words[0]
    known = name if name in _UNITS else _SPELLINGS.get(name, _SPELLINGS.get(name.rstrip("s")))
    if len(words) > 1 or known is None:
        return " ".join(words) if all(len(word) > 2 for word in words[:1]) else None
    return f"{known}^{power}" if power else known
