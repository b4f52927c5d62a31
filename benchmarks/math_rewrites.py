r"""Equal rewrites and near misses of ground truths, by rule: corpora of `benchmarks/math.py`.

    rewrites(r"\frac{3}{4}")    20 texts that say the same
    mutations(r"\frac{3}{4}")   20 texts that come close and say something else

Both are deterministic. A rewrite changes notation (spacing, brackets, `\dfrac`, Unicode, units,
percent and degree signs) or does what never changes a value (adding and taking away, reducing and
extending fractions, the order of a set). A mutation changes a digit, a sign, an operator, a bracket
of an interval, a function, a letter, or the number of parts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from fractions import Fraction

COUNT = 20
_INTEGER = re.compile(r"-?\d+$")
_GROUPED = re.compile(r"-?\d{1,3}(?:,(?:\\!)?\s?\d{3})+$")
_DECIMAL = re.compile(r"-?\d*\.\d+$")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}$")
_SCALAR = re.compile(
    r"(?!.*(?:[,=<>:;|%$!]|\\(?:text|mbox|mathrm|circ|pm|in|le|ge|cup|begin|approx|%|\$)|_\d"
    r"|&))[^\[\]]+$",
    re.DOTALL,
)
_LIST = re.compile(r"[^()\[\]{}=]+(?:,[^()\[\]{}=]+)+$")
_TUPLE = re.compile(r"\\?(?:left)?\(?.*\\?(?:right)?\)$")
_CHOICE = re.compile(r"(?:\\text\{)?\(?([A-E])\)?\}?$")


def rewrites(gold: str, count: int = COUNT) -> list[str]:
    """Texts that say the same as the ground truth: values, then notation, then what is around."""
    values = _each([gold.strip().removesuffix(".")], (_numbers, _algebra, _parts))
    written = _each(values, (_notation,))
    found = list(dict.fromkeys(_each(written, (_around,))))
    found = [text for text in found if text != gold]
    random.Random(gold).shuffle(found)
    return found[:count]


def mutations(gold: str, count: int = COUNT) -> list[str]:
    """Texts that come close to the ground truth and say something else."""
    found: dict[str, None] = {}
    for mutate in _OTHER:
        for text in mutate(gold):
            if _bare(text) != _bare(gold) and text.strip():
                found.setdefault(text)
    texts = list(found)
    random.Random(gold).shuffle(texts)
    return texts[:count]


def _each(texts: list[str], rules: tuple[Callable[[str], Iterator[str]], ...]) -> list[str]:
    """The texts, and what each rule makes of each."""
    return [*texts, *(made for text in texts for rule in rules for made in rule(text))]


def _bare(text: str) -> str:
    return re.sub(r"\s|\\[,!; ]|\\left|\\right|\\displaystyle|[${}]|\.$", "", text).replace(
        "dfrac", "frac"
    )


# ------------------------------------------------------------------------------- the same value


def _notation(gold: str) -> Iterator[str]:
    yield gold.replace(r"\frac", r"\dfrac")
    yield gold.replace(r"\frac", r"\tfrac")
    yield re.sub(r"\\(?:left|right)(?![a-z])", "", gold)
    yield re.sub(r"(?<![\\a-z])([=+])", r" \1 ", gold)
    yield (
        gold.replace(",", ", ")
        if "," in gold and not re.search(r"\d,(?:\\!)?\d{3}", gold)
        else gold
    )
    yield gold.replace("-", "−")
    yield gold.replace(r"\pi", "π") if not re.search(r"\\pi[a-z]", gold) else gold
    yield re.sub(r"\\sqrt\{(\d+)\}", r"√\1", gold)
    yield re.sub(r"\^\\circ|\^\{\\circ\}", "°", gold)
    yield gold.replace(r"^\circ", r"^{\circ}")
    yield re.sub(r"\^(\d)(?!\d)", r"^{\1}", gold)
    yield re.sub(r"\^\{(\w)\}", r"^\1", gold)
    yield re.sub(r"\\frac\{(\d)\}\{(\d)\}(?!\d)", r"\\frac\1\2", gold)
    if re.match(r"[\d.]+\s*\\(?:text|mbox)\{[^{}]*\}", gold):
        yield re.sub(r"\\text\{ ?([a-z]+)\}", r"\\mathrm{~\1}", gold)
        yield re.sub(r"\\(?:text|mbox)\{( ?[a-z ]+)\}", r" \1", gold)
    yield gold.replace(r"\cdot", r"\times") if not re.search(r"[(\]]\\cdot", gold) else gold


def _around(gold: str) -> Iterator[str]:
    yield f"${gold}$"
    yield rf"\({gold}\)"
    yield f"{gold}."
    yield rf"\displaystyle {gold}"
    yield f"  {gold} "
    yield rf"\, {gold} \,"
    if "\\text" not in gold:
        yield f"{{{gold}}}" if "," not in gold else gold


def _numbers(gold: str) -> Iterator[str]:
    if _GROUPED.match(gold):
        yield re.sub(r",|\\!|\s", "", gold)
        yield re.sub(r",(?:\\!)?\s?", "{,}", gold)
    if _INTEGER.match(gold) and len(gold) < 16:
        value = int(gold)
        yield f"{value}.0"
        yield rf"\frac{{{2 * value}}}{{2}}"
        yield f"{value - 7} + 7"
        yield rf"\frac{{{value}}}{{1}}"
        yield f"{3 * value}/3"
        yield rf"{value} \times 10^0"
        if abs(value) >= 10_000:
            yield f"{value:,}"
            yield f"{value:,}".replace(",", "{,}")
        if value >= 0:
            yield rf"\sqrt{{{value * value}}}"
    match = _FRACTION.match(gold)
    if match and int(match.group(3)):
        yield from _fractions(match.group(1), int(match.group(2)), int(match.group(3)))
    if _DECIMAL.match(gold):
        value_of = Fraction(gold)
        yield f"{gold}0"
        yield rf"\frac{{{value_of.numerator}}}{{{value_of.denominator}}}"
        yield f"{value_of.numerator}/{value_of.denominator}"


def _fractions(sign: str, top: int, bottom: int) -> Iterator[str]:
    yield f"{sign}{top}/{bottom}"
    yield rf"{sign}\frac{{{3 * top}}}{{{3 * bottom}}}"
    yield rf"\frac{{{sign}{top}}}{{{bottom}}}"
    yield rf"{sign}{top} \cdot \frac{{1}}{{{bottom}}}"
    yield rf"{sign}{top} \div {bottom}"
    if set(_primes(bottom)) <= {2, 5}:
        yield f"{sign}{top / bottom:.12f}".rstrip("0") if bottom < 1000 else f"{sign}{top}/{bottom}"
    if top > bottom > 1 and top % bottom:
        yield rf"{sign}{top // bottom}\frac{{{top % bottom}}}{{{bottom}}}"


def _primes(number: int) -> Iterator[int]:
    factor = 2
    while number > 1 and factor < 100_000:
        while number % factor == 0:
            yield factor
            number //= factor
        factor += 1


def _algebra(gold: str) -> Iterator[str]:
    if not _SCALAR.match(gold) or len(gold) > 80 or re.fullmatch(r"[A-Z]|\\text.*", gold):
        return
    yield f"({gold})"
    yield f"({gold}) + 1 - 1"
    yield rf"\frac{{2({gold})}}{{2}}"
    yield f"-(-({gold}))"
    yield rf"1 \cdot ({gold})"
    yield f"0 + ({gold})"
    yield rf"\frac{{{gold}}}{{1}}"
    yield f"5({gold}) - 4({gold})"
    terms = re.fullmatch(r"([\w\\^]+) ?([+-]) ?((?:\\sqrt\{\d+\}|[\w\\^])+)", gold)
    if terms:
        first, sign, last = terms.groups()
        yield f"{last} + {first}" if sign == "+" else f"-{last} + {first}"
    yield re.sub(r"\\sqrt\{(\d+)\}", r"(\1)^{1/2}", gold)
    yield re.sub(r"\\sqrt\{(\d+)\}", r"\\sqrt{\1} \\cdot 1", gold)


def _parts(gold: str) -> Iterator[str]:
    if _LIST.match(gold) and not _GROUPED.match(gold):
        parts = [part.strip() for part in gold.split(",")]
        yield ", ".join(reversed(parts))
        yield ", ".join(parts[1:] + parts[:1])
        yield ";".join(parts)
        yield r"\{" + ", ".join(parts) + r"\}"
        yield ", ".join(parts[:-1]) + r" \text{ and } " + parts[-1]
    pair = re.fullmatch(r"\((-?\d+),\s*(-?\d+)\)", gold)
    if pair:
        first, second = int(pair.group(1)), int(pair.group(2))
        yield rf"\left({first}, {second}\right)"
        yield rf"\left(\frac{{{2 * first}}}{{2}}, {second}.0\right)"
        yield f"( {first} , {second} )"
    equation = re.fullmatch(r"([^=<>]+)=([^=<>]+)", gold)
    if equation and re.search(r"[a-z].*[a-z]", gold) and "\\text" not in gold:
        left, right = (side.strip() for side in equation.groups())
        yield f"{right} = {left}"
        yield f"2({left}) = 2({right})"
        yield f"{left} - ({right}) = 0"
    letter = _CHOICE.match(gold)
    if letter:
        yield f"({letter.group(1)})"
        yield rf"\text{{{letter.group(1)}}}"
        yield rf"\textbf{{({letter.group(1)})}}"


# ------------------------------------------------------------------------------ another value


def _digits(gold: str) -> Iterator[str]:
    for match in re.finditer(r"\d", gold):
        before = gold[: match.start()]
        if re.search(r"(?:^|[^\d.])[01]\^\{?-?\d*$|\\sqrt\[$|_\{?\d*$|10\^\{?0*$", before):
            continue
        for step in (1, 9):
            digit = str((int(match.group()) + step) % 10)
            yield before + digit + gold[match.end() :]


def _signs(gold: str) -> Iterator[str]:
    if re.search(r"[1-9a-z]", gold) and _SCALAR.match(gold) and not re.match(r"[A-Z]$", gold):
        yield f"-({gold})" if not gold.startswith("-") else gold[1:]
        yield f"({gold}) + 1"
        yield f"({gold}) - 1"
        yield f"2({gold})"
        yield f"({gold})/2"
        yield f"10({gold})"
        yield f"({gold}) + 10^{{-12}}"
        yield f"({gold})(1 + 10^{{-15}})"
        yield f"({gold}) + x_0"
        yield f"({gold}), ({gold}) + 1"
        yield f"({gold}) = ({gold}) + 1"
        yield rf"({gold}) \text{{ or }} ({gold}) + 1"
        yield rf"\pm ({gold})"
        yield f"[({gold}) - 1, ({gold}) + 1]"
    for match in re.finditer(r"(?<=[\w})])\s*([+-])\s*(?=[\w\\(])", gold):
        if "e" not in gold[: match.start()][-1:] and "\\phantom" not in gold:
            flipped = "-" if match.group(1) == "+" else "+"
            yield gold[: match.start(1)] + flipped + gold[match.end(1) :]


def _names(gold: str) -> Iterator[str]:
    if _CHOICE.match(gold):
        yield from (letter for letter in "ABCDE" if letter not in gold)
        yield "A, B, C, D, E"
        yield "A or B"
        return
    for old, new in (
        (r"\sin", r"\cos"), (r"\cos", r"\sin"), (r"\tan", r"\cot"), (r"\ln", r"\log_{2}"),
        (r"\pi", "3"), (r"\sqrt", ""), (r"\infty", "100"), (r"\cup", r"\cap"),
        (r"\le ", "< "), (r"\ge ", "> "), ("<", ">"), (r"^\circ", r"^\circ + 1^\circ"),
    ):  # fmt: skip
        if old in gold and not (new == "" and re.search(r"\\sqrt\[|\\sqrt\{?[01]\}?(?!\d)", gold)):
            yield gold.replace(old, new, 1)
    fraction = re.search(r"\\frac\{([^{}]+)\}\{([^{}]+)\}", gold)
    if fraction and _bare(fraction.group(1)) != _bare(fraction.group(2)):
        swapped = rf"\frac{{{fraction.group(2)}}}{{{fraction.group(1)}}}"
        yield gold[: fraction.start()] + swapped + gold[fraction.end() :]
        yield gold[: fraction.start()] + fraction.group(1) + gold[fraction.end() :]


def _shapes(gold: str) -> Iterator[str]:
    if _LIST.match(gold) and not _GROUPED.match(gold):
        parts = [part.strip() for part in gold.split(",")]
        yield ", ".join(parts[:-1])
        yield ", ".join(parts[1:])
        yield gold + ", 98765"
    if gold.startswith("[") or gold.endswith("]"):
        yield "(" + gold[1:] if gold.startswith("[") else gold
        yield gold[:-1] + ")" if gold.endswith("]") else gold
    pair = re.fullmatch(r"\(([^(),]+),([^(),]+)\)", gold)
    if pair:
        first, second = (side.strip() for side in pair.groups())
        if first != second:
            yield f"({second}, {first})"
        yield f"({first}, {second}, {first})"
        yield f"({first})"
    yield gold + r" \text{ is wrong}"
    yield rf"\text{{not }} {gold}"
    yield ""
    if not _CHOICE.search(gold):
        yield gold + r" \text{ or } 98765"
        yield "98765, " + gold
        yield gold + " = 98765"


_OTHER = (_digits, _signs, _names, _shapes)
