r"""Text to tokens, in one pass and without backtracking.

A token is `(kind, value, raw, start)`. Kinds: `number` (value a `nodes.Number`), `name` (one
variable), `constant`, `function`, the signs themselves (`+ - * / ^ _ ( ) [ ] { } , | ! ' =`), and
the heads of the grammar (`frac`, `sqrt`, `binom`, `vulgar`, `big`, `accent`, `open`, `close`,
`degree`, `mod`, `over`, `choose`, `to`, `figure`, `set`, `end`).

Rules for what is ambiguous:

- `1,234` is one number where no round or square bracket is open; `1{,}234`, `1\,234` and
  `1 234 567` always are.
- `1.2e5`, `2e3`, `1e-5` and `3E-5` are in scientific notation; `2e-1` and `3e-2` (a whole number
  above 1, a small `e`, and `-1` or `-2`) mean Euler's number minus one or two.
- `0.333...` recurs where the last digits repeat three times (twice if nothing comes before them);
  another number with dots is refused.
- A run of letters is a known word (`sqrt`, `pi`), or begins with one (`sinx`), or is a product of
  letters if it has three at most or they are in alphabetical order (`abcd`); other words are
  refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from rlvr.verifiers.equivalence.nodes import MAX_DIGITS, MAX_NODES, Number
from rlvr.verifiers.equivalence.vocabulary import (
    COMMANDS,
    CONSTANT_WORDS,
    FUNCTION_WORDS,
    GREEK,
    PLAIN_WORDS,
    Meaning,
    plain_signs,
)

MAX_CHARACTERS: Final = 20_000
_MAX_WORD: Final = 40

Token = tuple[str, Any, str, int]


class ParseError(ValueError):
    """The text is not one expression; the message says why."""


_DOTS = r"(?:\\[lcd]?dots[cbmio]?(?![A-Za-z])|\.\.\.+)"
_TOKEN = re.compile(
    rf"""
    (?P<space>[\s~]+)
  | (?=[\d.])(?:(?P<recurring>\d*\.\d*(?:
        \\(?:overline|bar|overset\{{-\}})\s*(?:\{{\s*\d+\s*\}}|\d)
      | \\dot\s*\{{?\s*\d\s*\}}?(?:\d*\\dot\s*\{{?\s*\d\s*\}}?)?
      )(?:\s*{_DOTS})?
      | \d*\.\(\d+\) | \d*\.\d+\(\d+\)(?=\s*$) | \d*\.\d+\s*{_DOTS})
  | (?P<scientific>(?:\d+(?:\.\d*)?|\.\d+)E[+-]?\d+
      | (?:\d+\.\d*|\.\d+|1)e[+-]?\d+
      | \d+e(?:\d+|\+\d+|-(?:\d\d+|[3-9])))(?![\d.A-Za-z\^])
  | (?<![_^])(?P<grouped>\d{{1,3}}(?:(?:\{{,\}}\d{{3}})+|(?:\\,\d{{3}})+|(?:[ ]\d{{3}})+(?!\s*/)|
      (?:,(?:\\!|\s?\\,)?\d{{3}})+)(?![\d])(?:\.\d+)?)
  | (?P<number>\d+(?:\.\d*)?|\.\d+))
  | \\(?P<named>text|mathrm|operatorname\*?|mbox|textrm|textit|textbf|mathit|mathsf|hbox|mathop)
      \s*\{{(?P<content>[^{{}}\\]*)\}}
  | \\(?P<spacing>hspace|hskip|vspace|phantom|hphantom|label|tag|color)\*?\s*(?:\{{[^{{}}]*\}}|[-+])
  | \\(?P<command>[A-Za-z]+|.)
  | (?P<word>[A-Za-z]+)
  | (?P<sign>\*\*|!!|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_MARKED: Final = re.compile(r"\\overline|\\bar|\\overset|\(|\\dot(?!s)")
_DIFFERENTIALS: Final = re.compile("(?:d[a-z]){2,3}")
# Before `^`: `Be^x` is B times a power of e, not a word.
_TIMES_E: Final = re.compile("[A-Za-df-z]e")
_SIGNS: Final = frozenset("+-*/^_()[]{},|!'=")
_FUNCTION_INSIDE = re.compile(
    r"(?:a(?:rc)?)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|exp|sqrt|pi|theta|alpha|beta|lambda|omega"
)


def tokens(text: str) -> list[Token]:
    """Split a text into tokens; the last one is `end`.

    Raises:
        ParseError: the text is too long, or has something that no expression has.
    """
    if len(text) > MAX_CHARACTERS:
        raise ParseError(f"longer than {MAX_CHARACTERS} characters")
    if not text.isascii():
        text = plain_signs(text)
        if len(text) > 4 * MAX_CHARACTERS:
            raise ParseError("too long")
    found: list[Token] = []
    brackets = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        raw = match.group()
        start = match.start()
        if kind == "space":
            continue
        if kind == "number":
            found.append(("number", _number(raw), raw, start))
        elif kind == "sign":
            if raw == "**":
                raw = "^"
            elif raw == "(" or raw == "[":
                brackets += 1
            elif raw == ")" or raw == "]":
                brackets -= 1
            elif raw == "\\" or (raw not in _SIGNS and raw != "!!"):
                raise ParseError(f"unexpected {raw!r}")
            found.append((raw, raw, raw, start))
        elif kind == "word":
            if len(raw) > _MAX_WORD:
                raise ParseError(f"the word {raw[:_MAX_WORD]!r}")
            if _TIMES_E.fullmatch(raw) and text[match.end() :].lstrip()[:1] == "^":
                found.extend(("name", letter, letter, start) for letter in raw)
                continue
            found.extend((*meaning, meaning[1], start) for meaning in word(raw))
        elif kind == "command":
            found.extend(_command(raw[1:], start))
        elif kind == "content":
            found.extend(_named(match["named"], match["content"], start))
        elif kind == "grouped":
            found.extend(_grouped(raw, start, brackets))
        elif kind == "recurring":
            found.append(("number", _recurring(raw), raw, start))
        elif kind == "scientific":
            found.append(("number", _scientific(raw), raw, start))
        if len(found) > MAX_NODES:
            raise ParseError(f"more than {MAX_NODES} tokens")
    found.append(("end", "", "", len(text)))
    return found


def _command(name: str, start: int) -> Iterator[Token]:
    meaning = COMMANDS.get(name)
    if meaning is None:
        raise ParseError(f"unknown command \\{name[:40]}")
    if meaning[0] != "skip":
        yield (*meaning, name, start)


def _named(command: str, content: str, start: int) -> Iterator[Token]:
    r"""`\text{13}`, `\mathrm{e}`, `\operatorname{lcm}`: the content as if it stood bare."""
    content = content.strip().strip("~").strip()
    if command == "text" and any(c.isspace() for c in content):
        raise ParseError("text")
    for token in tokens(content)[:-1]:
        yield (token[0], token[1], token[2], start)


def _number(raw: str) -> Number:
    if len(raw) > MAX_DIGITS:
        raise ParseError(f"a number of more than {MAX_DIGITS} digits")
    if "." not in raw:
        return Number(Fraction(int(raw)))
    whole, decimals = raw.split(".")
    digits = whole + decimals
    return Number(Fraction(int(digits), 10 ** len(decimals)), len(decimals))


def _grouped(raw: str, start: int, brackets: int) -> Iterator[Token]:
    if "," in raw and "{,}" not in raw and "\\," not in raw and brackets > 0:
        for k, part in enumerate(raw.replace("\\!", "").split(",")):
            if k:
                yield (",", ",", ",", start)
            yield ("number", _number(part), part, start)
        return
    yield ("number", _number(re.sub(r"[^\d.]", "", raw)), raw, start)


def _scientific(raw: str) -> Number:
    mantissa, _, exponent = raw.lower().partition("e")
    shift = int(exponent) if len(exponent) < 8 else MAX_DIGITS + 1
    if abs(shift) + len(mantissa) > MAX_DIGITS:
        raise ParseError(f"a number of more than {MAX_DIGITS} digits")
    value = _number(mantissa).value
    return Number(value * 10**shift if shift >= 0 else value / 10**-shift)


def _recurring(raw: str) -> Number:
    whole, _, rest = raw.partition(".")
    dots = re.search(_DOTS, rest)
    if _MARKED.search(rest):
        fixed = re.match(r"\d*", rest)
        assert fixed is not None
        repeated = re.sub(r"\D", "", rest[fixed.end() :])
        return _repeat(whole, fixed.group(), repeated)
    assert dots is not None
    digits = rest[: dots.start()].strip()
    if len(digits) > MAX_DIGITS:
        raise ParseError(f"a number of more than {MAX_DIGITS} digits")
    for length in range(1, len(digits) // 2 + 1):
        period = digits[-length:]
        times = 1
        while digits.endswith(period * (times + 1)):
            times += 1
        fixed_digits = digits[: len(digits) - length * times]
        if times >= 3 or (times == 2 and not fixed_digits):
            return _repeat(whole, fixed_digits, period)
        if length > 40:
            break
    raise ParseError("a decimal that goes on")


def _repeat(whole: str, fixed: str, period: str) -> Number:
    if len(whole) + len(fixed) + len(period) > MAX_DIGITS:
        raise ParseError(f"a number of more than {MAX_DIGITS} digits")
    start = Fraction(int((whole + fixed) or "0"), 10 ** len(fixed))
    return Number(start + Fraction(int(period), 10 ** len(fixed) * (10 ** len(period) - 1)))


@lru_cache(maxsize=4096)
def word(letters: str) -> tuple[Meaning, ...]:
    """What a run of letters means: a known word, a function and its argument, or a product.

    Raises:
        ParseError: it is a word of a language.
    """
    if len(letters) == 1:
        return (("name", letters),)
    if letters in FUNCTION_WORDS:
        return (("function", FUNCTION_WORDS[letters]),)
    if letters in CONSTANT_WORDS:
        return (("constant", CONSTANT_WORDS[letters]),)
    if letters in GREEK:
        return (("name", GREEK[letters]),)
    if letters == "mod":
        return (("mod", "mod"),)
    if letters.lower() in PLAIN_WORDS:
        raise ParseError(f"the word {letters!r}")
    inside = _FUNCTION_INSIDE.search(letters)
    if inside and inside.start() <= 2 and len(letters) - inside.end() <= 8:
        rest = letters[inside.end() :]
        if len(rest) <= 2 or _FUNCTION_INSIDE.search(rest):
            before = tuple(("name", c) for c in letters[: inside.start()])
            return before + word(inside.group()) + (word(rest) if rest else ())
    ascending = len(letters) <= 26 and all(map(str.__lt__, letters, letters[1:]))
    if len(letters) <= 3 or ascending or _DIFFERENTIALS.fullmatch(letters):
        return tuple(("name", c) for c in letters)
    raise ParseError(f"the word {letters!r}")
