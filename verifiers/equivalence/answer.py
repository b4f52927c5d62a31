r"""The grammar of whole answers: `readings` reads a text as what it can mean.

    7   12\text{ cm}   -1<x\le 2   \{1,2\}   (3,-1)   x=1 \text{ or } x=2   3\pm\sqrt2   1:2:3
    \begin{pmatrix}1\\2\end{pmatrix}   \frac{\pi}{6}+2k\pi, k\in\mathbb{Z}   (E) 12   \text{east}

Total: what is not understood is `Opaque`, with a reason. The whole text is read or none of it.
Linear in the length of the text up to a fixed depth and number of parts.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rlvr.verifiers.equivalence import moments, words
from rlvr.verifiers.equivalence.conditions import (
    combine_regions,
    complement_point,
    inequality_chain,
    membership,
    to_region,
    whole_line,
)
from rlvr.verifiers.equivalence.names import read_name
from rlvr.verifiers.equivalence.nodes import (
    INFINITY,
    UNDEFINED,
    Constant,
    Negative,
    Node,
    Number,
    Product,
    Quotient,
    Symbol,
    free_symbols,
)
from rlvr.verifiers.equivalence.scalars import (
    VECTORS,
    components,
    expression,
    is_locale_number,
    mixed_units,
    parse_scalar,
)
from rlvr.verifiers.equivalence.scan import bracketed, clean, marks, relations, split
from rlvr.verifiers.equivalence.shapes import (
    Answer,
    Bracket,
    Cases,
    Choice,
    Collection,
    Congruence,
    Dotted,
    Equation,
    Family,
    Group,
    Inequality,
    Matrix,
    Moment,
    Named,
    NumberSet,
    Opaque,
    Ratio,
    Region,
    Scalar,
    System,
    Words,
)
from rlvr.verifiers.equivalence.strictness import DEFAULT, Strictness

MAX_CHARS = 4000
_MAX_DEPTH = 8
_MAX_PARTS = 200
_CLAUSE_CHARS = 160
_EMPTY = re.compile(
    r"none|(?:there (?:is|are|exists?) )?(?:no|none|empty|the empty) (?:(?:real|integer|such|possible|valid|"
    r"positive|rational|other)? ?)?(?:solutions?|roots?|values?|set|x|numbers?|integers?|answers?)"
    r"(?: exists?| exist| in .{1,20})?\Z"
)
_ALL_REALS = re.compile(
    r"(?:x (?:is|can be) )?(?:all|any|every|the set of all|the set of|for all|the) ?(?:the )?real"
    r" ?(?:numbers?|values?|x|values? of x|line)?(?: of x| x)?\Z|reals\Z|all x\Z|r\Z"
)
_ALL_EXCEPT = re.compile(
    r"(?:\\text\{)?\s*(?:all|any|every|the set of all)?\s*(?:real|x)\s*(?:numbers?|values?)?(?:\s*x)?"
    r"\s*,?\s*(?:except|excluding|other than|but|not equal to|where|such that)(?:\s*for)?\s*\}?\s*(.+)\Z"
)
_NAMED_SETS = re.compile(
    r"(?:the set of |the )?(?:all |every )?(?:the )?"
    r"(integers?|natural numbers?|rational numbers?|complex numbers?|positive integers?)\Z"
)
_SET_LETTERS = {
    name + ending: letter
    for name, letter in {
        "integer": "Z", "natural number": "N", "rational number": "Q", "complex number": "C",
        "positive integer": "Z+",
    }.items()
    for ending in ("", "s")
}  # fmt: skip
_NUMBER_SETS = re.compile(
    r"\\(?:mathbb|mathbf|Bbb|text)\s*\{?\s*([RZNQC])\s*\}?(?:\^\s*\{?\s*([+*-])\s*\}?|_\s*\{?\s*([+]|>\s*0|\\ge\s*0)\s*\}?)?\Z"
)
_DOMAIN_SET = r"(?:\\mathbb|\\mathbf|\\Bbb|\\text)\s*\{?\s*([ZNRQ])\s*\}?(?:\s*[\^_]\s*\{?\s*(\+|\*|\\ge\s*0|>\s*0|0)\s*\}?)?|([ZN])(?![A-Za-z])"
_TEXT_OPEN, _TEXT_CLOSE = r"(?:\\text\{\s*)?", r"(?:\s*\})?"
_DOMAIN = re.compile(
    r"(?:\s*[,;:]?\s*(?:\\text\{\s*,?\s*(?:where|for|with|and|such that|"
    r"for (?:all|any|some|every|each))?\s*,?\s*\}|\b(?:where|for|with)\b(?:\s+(?:all|any|some|every))?)"
    r"\s*\(?|\s*[,;:(]\s*\(?|\s*\\forall|\s(?=\s*[A-Za-z]\s*\\in))\s*"
    r"([A-Za-z](?:\s*,\s*[A-Za-z])*)\s*\\in\s*(?:" + _DOMAIN_SET + r")\s*\)?\s*\Z"
)
_DOMAIN_WORDS = re.compile(
    r"\s*[,;:]?\s*\(?\s*(?:\\text\{)?\s*,?\s*(?:where|for|with|and|if)?\s*(?:(?:all|any|some|every|each)\s)?\s*\}?\s*"
    r"(?<![A-Za-z\\])([A-Za-z](?:\s*,\s*[A-Za-z])*)\s*(?:\\text\{)?\s*(?:is|are|be|being|denotes|can be)?\s*"
    r"(?:(?:an?|any|some|arbitrary|all|the)\s+)*((?:non-?negative|positive|whole|natural|real|arbitrary)\s+)?"
    r"(integers?|numbers?|parameters?|constants?|reals?)\s*\}?\s*\)?\s*\Z"
)
_DOMAIN_REVERSED = re.compile(
    r"\s*[,;:]?\s*\(?\s*(?:\\text\{)?\s*,?\s*(?:where|for|with)\s+(?:(?:an?|any|some|arbitrary|all|every|each)\s+)*"
    r"((?:non-?negative|positive|natural|real)\s+)?(integers?|numbers?)\s*\}?\s*([A-Za-z])\s*\)?\s*\Z"
)
_DOMAIN_START = re.compile(r"\s*,\s*([A-Za-z])\s*(\\ge|>)\s*(\d{1,3})\s*\Z")
_MATRIX = re.compile(
    r"(?:\\begin\{([pbB]?matrix|smallmatrix|array)\}|\\[pb]matrix\{)(?:\{[clr| ]+\})?(.*?)(?:\\end\{\1\}|\})"
    r"(?P<transposed>\^\s*\{?\s*(?:T|\\top|\\text\{T\}|\\intercal)\s*\}?)?\Z",
    re.DOTALL,
)
_HELD_MATRIX = re.compile(
    r"[(\[]\s*(\\begin\{(?:array|matrix|smallmatrix)\}.*\\end\{(?:array|matrix|smallmatrix)\})\s*[)\]]\Z"
    r"|Matrix\((\[.*\])\)\Z",
    re.DOTALL,
)
_NESTED = re.compile(r"\{\s*\{[^\\]*\}\s*\}\Z")
_TRANSPOSED = re.compile(r"(.+)\^\s*\{?\s*(?:T|\\top|\\text\{T\})\s*\}?\Z")
_CASES = re.compile(
    r"\\begin\{(?:cases|dcases|rcases)\}(.*)\\end\{(?:cases|dcases|rcases)\}\Z", re.DOTALL
)
_ARRAY_CASES = re.compile(
    r"\\\{\s*\\begin\{array\}\{[clr| ]*\}(.*)\\end\{array\}\s*\.?\Z", re.DOTALL
)
_CONDITION_WORDS = re.compile(
    r"\\text\{\s*,?\s*(?:if|for|when|where|and|as)?\s*\}|\b(?:if|for|when|where)\b"
)
_OTHERWISE = re.compile(r"otherwise|else|elsewhere", re.IGNORECASE)
_ANGLES = re.compile(r"<\s*([^<>=]*,[^<>=]*)>\Z")
_FRENCH = re.compile(r"([\[\]])([^\[\]()]*[,;][^\[\]()]*)([\[\]])\Z")
_DOTS = re.compile(r"\\ldots|\.{3,}|…")
_ONLY_DOTS = re.compile(r"(?:\\ldots|\.{2,}|\\text\{\s*\.{3}\s*\})\Z")
_VECTOR = re.compile(
    r"\\(?:mathbf|hat|vec|bold|boldsymbol|bm|widehat|overrightarrow)\s*\{?\s*"
    r"(?:\\(?:mathbf|text|bold|imath|jmath)\s*\{?)?\s*(?:\\?([ijk])(?:math)?)\s*\}?\s*\}?"
)
_BUILDER_SIGN = re.compile(r"\\mid(?![A-Za-z])|\||:|\\colon(?![A-Za-z])")
_CONGRUENCE = re.compile(
    r"(.*?)\s*\(?\s*(?:\\pmod|\\bmod|\\mod|\\text\{\s*\(?\s*mod\s*\}|\\text\{\s*\(?\s*modulo\s*\}|\(\s*mod\b|\bmod\b)\s*\{?\s*"
    r"([^{}()]+?)\s*\}?\s*(?:\\text\{\s*\)\s*\})?\)?\Z"
)
_FACTOR = re.compile(r"(.+?)\s*(?:\\cdot|\\times|\*)?\s*(?=\\begin\{[pb]?matrix\})")
_FUNCTION_LIST = re.compile(r"(?:\\?(?:max|min|gcd|lcm))\s*[({\\]")
_SHORT_WORDS = frozenset(
    "yes no odd one two six ten all any and red blue out in up even true none east west both"
    " sun mon tue wed thu fri sat jan feb mar apr jun jul aug sep oct nov dec".split()
)
_GREEK = frozenset(
    "alpha beta gamma delta epsilon theta lambda mu nu xi pi rho sigma tau phi chi psi omega"
    " infinity infty oo".split()
)
_MATHS_WORDS = re.compile(
    r"(?:\d|\b)(?:sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|theta|alpha|beta|gamma|infty)\b"
)


@lru_cache(maxsize=4096)
def readings(text: str, strictness: Strictness = DEFAULT) -> tuple[Answer, ...]:
    """What a text can mean, the likeliest first; at least one, `Opaque` where nothing else."""
    if len(text) > MAX_CHARS:
        return (Opaque(text[:80], f"an answer of more than {MAX_CHARS:,} characters"),)
    return _readings(clean(text), strictness)


def parse_answer(text: str, strictness: Strictness = DEFAULT) -> Answer:
    r"""What a text most likely means.

    >>> parse_answer(r"\\{1, 2\\}").kind
    'set'
    """
    return readings(text, strictness)[0]


def _readings(text: str, strictness: Strictness) -> tuple[Answer, ...]:
    if not text:
        return (Opaque(text, "nothing is left of the answer"),)
    if len(text) > MAX_CHARS:
        return (Opaque(text[:80], f"an answer of more than {MAX_CHARS:,} characters"),)
    text = words.without_lead(text)
    found: list[Answer] = [*_wordy(text, strictness)]
    if found and not any(isinstance(item, Choice | Moment | Scalar) for item in found):
        return tuple(found)
    joined = _join_thousands(text)
    for variant in dict.fromkeys((joined, text)):
        reader = _Reader(strictness)
        found.append(reader.read(variant))
    if words.is_words(text) and not any(isinstance(item, Words) for item in found):
        found.append(Words(words.folded(text)))
    return tuple(dict.fromkeys(found))


_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}(?:, ?\d{3})+)(?![\d])(?!,\d)")
_TIGHT_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3}(?:,\d{3})+)(?![\d])(?!,\d)")


def _join_thousands(text: str) -> str:
    """`1,250` as 1250, outside the brackets of tuples and sets."""
    if "," not in text or not _TIGHT_THOUSANDS.search(text):
        return text
    found = bracketed(text)
    if found is not None and found[0] != "{":
        return text
    return _TIGHT_THOUSANDS.sub(lambda match: match.group(1).replace(",", ""), text)


def _wordy(text: str, strictness: Strictness) -> list[Answer]:
    """Choices, times, dates, numbers in words, and words."""
    found: list[Answer] = []
    letters = words.choices(text)
    if letters is not None:
        found.append(Choice(letters))
        if len(words.plain(text).strip("() ")) > 1:
            return found
    elif (beside := words.choice_and_text(text)) is not None:
        found.append(Choice(frozenset(beside[0]), beside[1]))
        return found
    plain = words.plain(text).strip()
    if len(plain) <= 60 and "\\" not in plain:
        clock = moments.parse_clock(plain)
        if clock is not None:
            found.append(Moment(clock=clock))
        dates = moments.parse_date(plain)
        if dates:
            found.append(Moment(dates=dates))
            if words.is_words(text):
                found.append(Words(words.folded(text)))
            if not plain[0].isdigit() or not plain[-1].isdigit():
                return found
    if words.is_words(text):
        found.extend(_in_words(text, plain, strictness))
    return found


def _in_words(text: str, plain: str, strictness: Strictness) -> list[Answer]:
    lower = plain.lower().strip(" .,;!")
    if _EMPTY.match(lower):
        return [Region(None, ()), Words(words.folded(text))]
    if len(lower) > 1 and _ALL_REALS.match(lower):
        return [whole_line(), Words(words.folded(text))]
    named = _NAMED_SETS.match(lower)
    if named:
        return [NumberSet(_SET_LETTERS[named[1]]), Words(words.folded(text))]
    if strictness.number_words:
        value = words.number(plain)
        if value is not None:
            node: Node = Number(abs(value))
            return [Scalar(Negative(node) if value < 0 else node), Words(words.folded(text))]
    bare = "\\text" not in text
    if lower in ("infinity", "positive infinity", "plus infinity"):
        return [Scalar(INFINITY)]
    if bare and (lower in _GREEK or _MATHS_WORDS.search(lower)):
        return []
    if bare and re.fullmatch(r"[A-Za-z]{2,3}", plain) and lower not in _SHORT_WORDS:
        return []
    if (
        bare
        and re.search(r"\b(?:or|and)\b", plain)
        and re.fullmatch(r"[A-Za-z](?: ?,? ?(?:or|and)? [A-Za-z])*", plain)
    ):
        return []
    return [Words(words.folded(text))]


class _Reader:
    """Reads one text; remembers how deep it is."""

    def __init__(self, strictness: Strictness) -> None:
        self._strictness = strictness
        self._depth = 0

    def read(self, text: str) -> Answer:
        """Any answer."""
        text = text.strip()
        if not text:
            return Opaque(text, "a part is empty")
        if self._depth >= _MAX_DEPTH:
            return Opaque(text[:80], "nested too deep")
        self._depth += 1
        try:
            return self._read(text)
        finally:
            self._depth -= 1

    def _read(self, text: str) -> Answer:
        if "\\" not in text and text.isalnum():
            return self._scalar(text)
        if self._strictness.decimal_comma and is_locale_number(text):
            return self._scalar(text)
        if "\\begin" in text or "atrix" in text:
            found = self._environment(text)
            if found is not None:
                return found
        if _NESTED.match(text):
            text = text.replace("{", "[").replace("}", "]")
        special = _special(text)
        if special is not None:
            return special
        family = self._family(text)
        if family is not None:
            return family
        if _DOTS.search(text):
            dotted = self._dotted(text)
            if dotted is not None:
                return dotted
        mixed = mixed_units(text) if text[0].isdigit() else None
        if mixed is not None:
            return mixed
        angles = _ANGLES.match(text)
        if angles:
            return self._bracket("\\langle", angles[1], "\\rangle")
        french = _FRENCH.match(text)
        if french and (french[1] == "]" or french[3] == "["):
            return self._french(french)
        parts = split(text)
        if parts is None:
            return Opaque(text, "its brackets do not close, or a part is missing")
        if not any(parts[0]):
            return Opaque(text, "a part is empty")
        if len(parts[0]) > _MAX_PARTS:
            return Opaque(text[:80], f"more than {_MAX_PARTS} parts")
        if len(parts[0]) > 1:
            return self._combine(text, *parts)
        return self._single(parts[0][0] if parts[0] else text)

    def _scalar(self, text: str) -> Answer:
        return parse_scalar(text, self._strictness.decimal_comma)

    # One part, without connectives outside brackets.

    def _single(self, text: str) -> Answer:
        sides = relations(text)
        if sides is not None and sides[1]:
            return self._relation(text, *sides)
        held = bracketed(text)
        if held is not None:
            found = self._held(text, *held)
            if found is not None:
                return found
        if _PLUS_MINUS.search(text):
            return self._plus_minus(text)
        if ":" in text:
            ratio = self._ratio(text)
            if ratio is not None:
                return ratio
        transposed = _TRANSPOSED.match(text)
        if transposed and transposed[1][-1] in ")]":
            inner = self.read(transposed[1])
            if isinstance(inner, Bracket):
                return inner
        if "mod" in text:
            congruence = self._congruence(text)
            if congruence is not None:
                return congruence
        if _VECTOR.search(text):
            vector = self._vector(text)
            if vector is not None:
                return vector
        return self._scalar(text)

    def _relation(self, text: str, sides: list[str], signs: list[str]) -> Answer:
        kinds = set(signs)
        if kinds == {"!="} and _PLUS_MINUS.search(text):
            return self.read(" , ".join(_signs(text)))
        if not all(sides):
            if kinds == {"~"}:
                return Opaque(text, "an approximation")
            return Opaque(text, "a relation with an empty side")
        if kinds == {"="}:
            return self._equality(text, sides)
        if kinds <= {"=", "~"}:
            return self._approximation(text, sides, signs)
        if kinds == {"in"} and len(sides) == 2:
            return membership(sides[0], self.read(sides[1]))
        if kinds == {"notin"} and len(sides) == 2:
            points = to_region(self.read(sides[1]))
            return Opaque(text, "not understood") if points is None else complement_point(points)
        if kinds == {"=="}:
            congruence = self._congruence(sides[-1]) if len(sides) == 2 else None
            return congruence or Opaque(text, "a congruence without a modulus")
        if kinds <= {"<", ">", "<=", ">=", "!=", "="}:
            return inequality_chain(sides, signs, text)
        if kinds == {"mapsto"} and len(sides) == 2:
            return self._equality(text, [f"f({sides[0]})", sides[1]])
        if kinds == {"to"} and len(sides) == 2:
            return Opaque(text, "a limit or a map")
        return Opaque(text, "a relation that is not compared")

    def _equality(self, text: str, sides: list[str]) -> Answer:
        held = bracketed(sides[0])
        if held is not None and len(sides) == 2 and held[0] in ("(", "["):
            group = self._tuple_of_names(held[1], sides[1])
            if group is not None:
                return group
        name = read_name(sides[0])
        if name is not None:
            values = tuple(self.read(side) for side in sides[1:])
            opaque = next((value for value in values if isinstance(value, Opaque)), None)
            return opaque or Named(name[0], name[1], values)
        last = read_name(sides[-1])
        if last is not None and len(sides) == 2:
            value = self.read(sides[0])
            if not isinstance(value, Opaque):
                return Named(last[0], last[1], (value,))
        values = tuple(self.read(side) for side in sides)
        opaque = next((value for value in values if isinstance(value, Opaque)), None)
        if opaque is not None:
            return opaque
        if all(isinstance(value, Scalar) and not free_symbols(value.node) for value in values):
            return Named(None, (), values)
        if len(sides) == 2:
            left, right = values
            if isinstance(left, Scalar) and isinstance(right, Scalar):
                return Equation(left.node, right.node)
            if isinstance(left, Scalar) and isinstance(right, Collection):
                nodes = [item for item in right.items if isinstance(item, Scalar)]
                if len(nodes) == len(right.items):
                    return System(tuple(Equation(left.node, item.node) for item in nodes), "or")
        elif all(isinstance(value, Scalar) for value in values):
            pairs = zip(values, values[1:], strict=False)
            return System(tuple(Equation(a.node, b.node) for a, b in pairs), "and")  # type: ignore[union-attr]
        return Opaque(text, "an equation that is not compared")

    def _tuple_of_names(self, inside: str, value: str) -> Answer | None:
        parts = split(inside)
        names = [read_name(part) for part in parts[0]] if parts else []
        if len(names) < 2 or any(name is None for name in names):
            return None
        return _assigned([name[0] for name in names if name], self.read(value))

    def _approximation(self, text: str, sides: list[str], signs: list[str]) -> Answer:
        """`x = 2/3 ~ 0.67`: the exact value counts, and the other must round to it."""
        first = signs.index("~")
        exact = self.read("=".join(sides[: first + 1]))
        rounded = [self.read(side) for side in sides[first + 1 :]]
        value = exact.values[-1] if isinstance(exact, Named) else exact
        name = read_name(sides[0]) if first == 0 else None
        if name is not None and not isinstance(value, Named):
            return Opaque(text, "an approximation")
        if not isinstance(value, Scalar) or not all(isinstance(r, Scalar) for r in rounded):
            return Opaque(text, "an approximation")
        from rlvr.verifiers.equivalence.tolerance import rounds_to

        if all(rounds_to(value.node, r.node) for r in rounded if isinstance(r, Scalar)):
            return exact
        return Opaque(text, "an approximation that is not one")

    def _held(self, text: str, opening: str, inside: str, closing: str) -> Answer | None:
        """What one pair of brackets holds; None where they only hold together an expression."""
        if opening == "\\{":
            return self._set(inside) if closing == "\\}" else None
        if opening == "{":
            return self.read(inside) if closing == "}" else None
        parts = split(inside, frozenset((",", ";")))
        if parts is None or opening not in ("(", "[", "\\langle"):
            return None
        if len(parts[0]) > 1:
            return self._bracket(opening, inside, closing)
        if (opening, closing) in (("(", ")"), ("[", "]")):
            if relations(inside) and relations(inside)[1]:  # type: ignore[index]
                return self.read(inside)
            inner = split(inside)
            if inner and len(inner[0]) > 1:
                return self.read(inside)
            if _PLUS_MINUS.search(inside):
                return self.read(inside)
            if opening == "[" and bracketed(inside):
                value = self.read(inside)
                return Bracket("[", (value,), "]") if isinstance(value, Bracket) else value
        return None

    def _bracket(self, opening: str, inside: str, closing: str) -> Answer:
        if _DOTS.search(inside):
            dotted = self._dotted(inside)
            if dotted is not None:
                return dotted
        joints = frozenset((";",)) if ";" in inside and "," in inside and opening == "[" else None
        parts = split(inside, joints or frozenset((",", ";")))
        if parts is None or len(parts[0]) > _MAX_PARTS:
            return Opaque(inside[:80], "brackets that are not understood")
        variants = _tuple_signs(parts[0])
        if len(variants) > 1:
            rows = [self._items(opening, variant, closing) for variant in variants]
            return next((r for r in rows if isinstance(r, Opaque)), Collection(tuple(rows), "list"))
        if joints:  # [1, 2; 3, 4]
            rows = [self._bracket("(", part, ")") for part in parts[0]]
            if all(isinstance(row, Bracket) for row in rows):
                return Matrix(tuple(row.items for row in rows if isinstance(row, Bracket)))
        return self._items(opening, parts[0], closing)

    def _items(self, opening: str, parts: list[str], closing: str) -> Answer:
        items = tuple(self.read(part) for part in parts)
        opaque = next((item for item in items if isinstance(item, Opaque)), None)
        return opaque or Bracket(opening, items, closing)

    def _french(self, match: re.Match[str]) -> Answer:
        opening = "(" if match[1] == "]" else "["
        closing = ")" if match[3] == "[" else "]"
        return self._bracket(opening, match[2], closing)

    def _set(self, inside: str) -> Answer:
        if not inside:
            return Region(None, ())
        sign = _outside(inside, _BUILDER_SIGN)
        if sign is not None:
            built = self._builder(inside[: sign[0]], inside[sign[1] :])
            if built is not None:
                return built
        if _DOTS.search(inside):
            dotted = self._dotted(inside)
            if dotted is not None:
                return dotted
        parts = split(inside, frozenset((",", ";", "and")))
        if parts is None or len(parts[0]) > _MAX_PARTS:
            return Opaque(inside[:80], "a set that is not understood")
        items: list[Answer] = []
        for part in parts[0]:
            item = self.read(part)
            if isinstance(item, Opaque):
                return item
            if isinstance(item, Collection) and item.kind == "list":
                items.extend(item.items)
            else:
                items.append(item)
        named = [item for item in items if isinstance(item, Named)]
        if len(named) == len(items) > 1 and len({item.name for item in named}) == len(named):
            return _joined_names(named, {","})
        return Collection(tuple(items), "set")

    def _builder(self, left: str, right: str) -> Answer | None:
        sides = relations(left)
        if sides and sides[1] == ["in"]:
            left = sides[0][0]
            domain = self.read(sides[0][1])
            if isinstance(domain, NumberSet) and domain.name != "R":
                condition = self.read(right)
                return System((membership(left, domain), condition), "and")
        condition = self.read(re.sub(r"\\(?:land|wedge)(?![A-Za-z])", r"\\text{ and }", right))
        name = read_name(left.strip())
        if name is None:
            family = self._family(f"{left}, {right}")
            return family
        if isinstance(condition, Region):
            return Region(None, condition.spans) if condition.variable in (None, name[0]) else None
        if isinstance(condition, Named) and condition.name == name[0]:
            return Collection(condition.values, "set")
        if isinstance(condition, Family) and isinstance(condition.body, Named):
            return condition
        if isinstance(condition, Collection | Inequality | System | Equation | Family):
            return condition
        return None

    def _ratio(self, text: str) -> Answer | None:
        found = marks(text)
        if not found or not any(mark.token == ":" for mark in found):
            return None
        if _DOTS.search(text):
            return self._dotted(text)
        parts: list[str] = []
        start = 0
        for mark in found:
            if mark.token == ":":
                parts.append(text[start : mark.start])
                start = mark.end
        parts.append(text[start:])
        if len(parts) > 20:
            return None
        nodes = [expression(part.strip()) for part in parts]
        if any(isinstance(node, Opaque) for node in nodes):
            return None
        return Ratio(tuple(node for node in nodes if not isinstance(node, Opaque)))

    def _congruence(self, text: str) -> Answer | None:
        match = _CONGRUENCE.match(text)
        if match is None:
            return None
        residue, modulus = expression(match[1]), expression(match[2])
        if isinstance(residue, Opaque) or isinstance(modulus, Opaque):
            return None
        return Congruence(residue, modulus)

    def _vector(self, text: str) -> Answer | None:
        def replace(match: re.Match[str]) -> str:
            return f" {VECTORS['ijk'.index(match[1])].replace('_', '_{')}}} "

        node = expression(_VECTOR.sub(replace, text))
        if isinstance(node, Opaque):
            return None
        if isinstance(node, Product | Quotient):
            return None
        found = components(node)
        if found is None:
            return None
        planar = "k" not in "".join(match[1] for match in _VECTOR.finditer(text))
        kept = found[:2] if planar else found
        return Bracket("\\langle", tuple(Scalar(part) for part in kept), "\\rangle")

    def _plus_minus(self, text: str) -> Answer:
        """Both signs; several signs go together, `\\mp` the other way round."""
        items = [self.read(variant) for variant in _signs(text)]
        opaque = next((item for item in items if isinstance(item, Opaque)), None)
        return opaque or Collection(_flat(items), "list")

    # Several parts.

    def _combine(self, text: str, parts: list[str], joints: list[str]) -> Answer:
        kinds = set(joints)
        if "then" in kinds:
            return Opaque(text, "a derivation, not an answer")
        if kinds & {"cap", "minus"}:
            return self._set_algebra(text, parts, joints)
        low = {"or", ";"}
        if kinds & low and kinds - low:
            grouped = self._grouped(text, low)
            if grouped is not None:
                return grouped
        if _FUNCTION_LIST.match(text) and len(parts) == 1:
            return self._single(text)
        first = relations(parts[0])
        if first and first[1] == ["!="] and not any(relations(part)[1] for part in parts[1:]):  # type: ignore[index]
            parts = [parts[0], *(f"{first[0][0]} \\ne {part}" for part in parts[1:])]
        items = [self.read(part) for part in parts]
        opaque = next((item for item in items if isinstance(item, Opaque)), None)
        if opaque is not None:
            return opaque
        return _joined(items, kinds)

    def _grouped(self, text: str, low: set[str]) -> Answer | None:
        outer = split(text, frozenset(low))
        if outer is None or len(outer[0]) < 2:
            return None
        items = [self.read(part) for part in outer[0]]
        if any(isinstance(item, Opaque) for item in items):
            return None
        if any(isinstance(item, Group | Region | System | Family) for item in items):
            return _joined(items, set(outer[1]))
        return None

    def _set_algebra(self, text: str, parts: list[str], joints: list[str]) -> Answer:
        total = to_region(self.read(parts[0]))
        for part, joint in zip(parts[1:], joints, strict=True):
            other = to_region(self.read(part))
            if total is None or other is None:
                return Opaque(text, "sets that are not understood")
            if joint == "minus":
                outside = complement_point(other)
                combined = (
                    None if isinstance(outside, Opaque) else combine_regions(total, outside, "and")
                )
            else:
                combined = combine_regions(total, other, "and" if joint == "cap" else "or")
            total = combined
        return total or Opaque(text, "sets that are not understood")

    # Families, sequences, environments.

    def _family(self, text: str) -> Answer | None:
        parameters: list[tuple[str, str]] = []
        start = ""
        for _ in range(3):
            found = _domain(text)
            if found is None:
                break
            text, names, kind = found
            parameters.extend((name, kind) for name in names)
        if not parameters:
            return None
        bound = _DOMAIN_START.search(text)
        if bound:
            start = "P" if (bound[2], bound[3]) in ((">", "0"), ("\\ge", "1")) else "N"
            if bound[1] in dict(parameters):
                text = text[: bound.start()]
                parameters = [(n, start if n == bound[1] else k) for n, k in parameters]
        text = text.strip().rstrip(",;").strip()
        held = bracketed(text)
        if held and held[0] == "\\{" and not _outside(held[1], _BUILDER_SIGN):
            text = held[1]
        body = self.read(text)
        if isinstance(body, Opaque):
            return body
        return Family(body, tuple(dict.fromkeys(parameters)))

    def _dotted(self, text: str) -> Answer | None:
        held = bracketed(text)
        if held and held[0] in ("(", "\\{", "\\langle", "["):
            text = held[1]
        named = relations(text)
        if named and named[1] == ["="] and read_name(named[0][0]):
            value = self.read(named[0][1])
            name = read_name(named[0][0])
            return Named(name[0], name[1], (value,)) if name else None
        for joint in (",", ":", "+"):
            parts = _split_at(text, joint)
            if parts is None or len(parts) < 2 or len(parts) > _MAX_PARTS:
                continue
            dots = [bool(_ONLY_DOTS.match(part)) for part in parts]
            if not any(dots):
                continue
            items = [None if d else self.read(p) for p, d in zip(parts, dots, strict=True) if p]
            if any(isinstance(item, Opaque) for item in items):
                return Opaque(text, "a sequence that is not understood")
            return Dotted(tuple(items), joint)
        return None

    def _environment(self, text: str) -> Answer | None:
        cases = _CASES.match(text) or _ARRAY_CASES.match(text)
        if cases:
            return self._cases(cases[1])
        sides = relations(text)
        if sides and sides[1] == ["="] and (name := read_name(sides[0][0])) is not None:
            return Named(name[0], name[1], (self.read(sides[0][1]),))
        held = _HELD_MATRIX.match(text)
        if held:
            return self.read(held[1] or held[2])
        match = _MATRIX.match(text)
        if match:
            return self._matrix(match[2], bool(match["transposed"]))
        factor = _FACTOR.match(text)
        if factor and "\\begin" not in factor[1] and "," not in factor[1] and "=" not in factor[1]:
            matrix = self.read(text[factor.end() :])
            by = expression("1" if factor[1] == "+" else "-1" if factor[1] == "-" else factor[1])
            if isinstance(matrix, Matrix) and not isinstance(by, Opaque):
                rows = tuple(tuple(_times(by, cell) for cell in row) for row in matrix.rows)
                return Matrix(rows)
        return None

    def _matrix(self, body: str, transposed: bool) -> Answer:
        rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?|\\cr(?![a-z])", body)]
        rows = [row.replace("\\hline", "").strip() for row in rows if row.strip()]
        if len(rows) > 50:
            return Opaque(body[:80], "a matrix of more than 50 rows")
        cells = tuple(tuple(self.read(cell) for cell in row.split("&")) for row in rows)
        opaque = next((c for row in cells for c in row if isinstance(c, Opaque)), None)
        if opaque is not None:
            return opaque
        if transposed and len({len(row) for row in cells}) == 1:
            cells = tuple(zip(*cells, strict=True))
        return Matrix(cells)

    def _cases(self, body: str) -> Answer:
        items: list[tuple[Answer, Answer | None]] = []
        for row in re.split(r"\\\\(?:\[[^\]]*\])?", body):
            if not row.strip():
                continue
            value, ampersand, condition = row.partition("&")
            if not ampersand:
                found = re.search(r",?\s*\\text\{\s*(?:if|for|when|otherwise)|,", row)
                if found:
                    value, condition = row[: found.start()], row[found.start() :]
            condition = condition.strip().strip(",").strip()
            parsed = self.read(value.strip().rstrip(",").strip())
            if _OTHERWISE.search(condition):
                items.append((parsed, None))
                continue
            if not condition:
                items.append((parsed, Opaque("", "no condition")))
                continue
            bare = _CONDITION_WORDS.sub(" ", condition, count=1).strip()
            items.append((parsed, self.read(bare)))
        if all(isinstance(c, Opaque) and not c.text for _, c in items):
            return _joined([value for value, _ in items], {"and"})  # a system of equations
        for value, condition_answer in items:
            for part in (value, condition_answer):
                if isinstance(part, Opaque):
                    return part
        return Cases(tuple(items))


def _special(text: str) -> Answer | None:
    if text in ("\\emptyset", "\\{ \\}", "\\{\\}", "\\phi", "{}", "[]"):
        return Region(None, ())
    match = _NUMBER_SETS.match(text)
    if match and "text" not in text:
        sign = match[2] or match[3]
        if match[1] == "R":
            if sign is None:
                return whole_line()
            return None
        return NumberSet(match[1] + (sign or "").replace(" ", ""))
    if text.startswith(("all", "\\text{all", "\\text{All", "All")):
        excepted = _ALL_EXCEPT.match(text.replace("All", "all"))
        if excepted:
            reader = _Reader(DEFAULT)
            found = reader.read(excepted[1])
            if isinstance(found, Region) and len(found.spans) == 2:
                return found
            points = to_region(found)
            if points is not None:
                return complement_point(points)
    return None


def _assigned(names: list[str], value: Answer) -> Answer | None:
    """`(x, y) = (3, 2)` by name; several tuples are several groups."""
    if isinstance(value, Bracket) and len(value.items) == len(names):
        pairs = zip(names, value.items, strict=True)
        return Group(tuple(Named(name, (), (item,)) for name, item in pairs))
    if isinstance(value, Collection):
        groups = [_assigned(names, item) for item in value.items]
        if all(isinstance(group, Group) for group in groups):
            return Collection(tuple(group for group in groups if group), "list")
    return None


def _joined(items: list[Answer], kinds: set[str]) -> Answer:
    """Several answers with connectives between them."""
    joint = "or" if kinds & {"or", "cup", ";"} and "and" not in kinds else "and"
    if any(isinstance(item, Family) for item in items):
        return Collection(_flat(items), "list")
    if all(isinstance(item, Region | Inequality | System) for item in items):
        return _joined_conditions(items, joint, kinds)
    if any(isinstance(item, Region) for item in items):
        regions = [to_region(i) if isinstance(i, Region | Named) else None for i in items]
        if None not in regions:
            return _joined_conditions([r for r in regions if r is not None], joint, kinds)
    if kinds == {"cup"} or (kinds == {"or"} and all(map(_is_interval, items))):
        regions = [to_region(item) for item in items]
        total = regions[0]
        for other in regions[1:]:
            total = None if total is None or other is None else combine_regions(total, other, "or")
        if total is not None:
            return total
        return Collection(_flat(items), "union")
    named = [item for item in items if isinstance(item, Named)]
    if len(named) == len(items):
        return _joined_names(named, kinds)
    if named and isinstance(items[0], Named) and len(named) < len(items):
        return _first_named(items)
    if isinstance(items[0], Group) and all(isinstance(i, Bracket | Group) for i in items):
        names = [item.name or "" for item in items[0].items]
        groups = [i if isinstance(i, Group) else _assigned(names, i) for i in items]
        if all(isinstance(group, Group) for group in groups):
            return Collection(tuple(group for group in groups if group), "list")
    if any(
        isinstance(item, Equation | Region | Inequality | System | Congruence) for item in items
    ):
        if all(isinstance(item, Collection | Bracket | Scalar) for item in items):
            return Collection(_flat(items), "list")
        return System(tuple(items), joint)
    return Collection(_flat(items), "list")


def _is_interval(item: Answer) -> bool:
    """An interval that is no pair: half-closed, or with an infinite end."""
    region = to_region(item) if isinstance(item, Bracket) else None
    if region is None or not isinstance(item, Bracket):
        return isinstance(item, Region)
    infinite = any(end is None for span in region.spans for end in (span.low, span.high))
    return infinite or (item.opening, item.closing) != ("(", ")")


def _joined_conditions(items: list[Answer], joint: str, kinds: set[str]) -> Answer:
    regions = [item for item in items if isinstance(item, Region)]
    if len(regions) < len(items):
        return System(tuple(items), joint)
    total: Region | None = regions[0]
    for other in regions[1:]:
        total = None if total is None else combine_regions(total, other, joint)
    if total is not None and not total.spans and "or" not in kinds:
        total = regions[0]
        for other in regions[1:]:  # `x < 1, x > 2`
            total = None if total is None else combine_regions(total, other, "or")
    return total if total is not None else System(tuple(items), joint)


_INDEX = re.compile(r"_\{?[0-9a-z]\}?\Z")


def _joined_names(named: list[Named], kinds: set[str]) -> Answer:
    """Values of one unknown, or several unknowns at once."""
    names = [item.name or "" for item in named]
    bases = {_INDEX.sub("", name) for name in names}
    once = len(set(names)) == len(names)
    plain = not any(item.parameters for item in named)
    if len(bases) == 1 and plain and (len(set(names)) == 1 or len(set(names)) == len(names)):
        indexed = once and any(_INDEX.search(name) for name in names)
        if not indexed or len(named) > 1:
            values = _flat([item.values[-1] for item in named])
            kind = "indexed" if indexed else "list"
            if kind == "indexed":
                return Named(next(iter(bases)), (), (Collection(values, "list"),))
            return Named(names[0], (), (Collection(values, "list"),))
    if once and "or" in kinds:
        return System(tuple(named), "or")
    if once:
        return Group(tuple(named))
    size = len(set(names))
    if size and len(named) % size == 0:
        groups = [named[start : start + size] for start in range(0, len(named), size)]
        if all(len({item.name for item in group}) == size for group in groups):
            return Collection(tuple(Group(tuple(group)) for group in groups), "list")
    return System(tuple(named), "and")


def _first_named(items: list[Answer]) -> Answer:
    """`x = 1, 2`: values of one unknown; `x = 1, 2` and `y = 3` is not understood."""
    first = items[0]
    assert isinstance(first, Named)
    if all(not isinstance(item, Named) for item in items[1:]):
        rest = items[1:]
        if all(isinstance(item, Scalar | Collection | Bracket | Matrix) for item in rest):
            values = _flat([first.values[-1], *rest])
            if len(first.values) == 1:
                return Named(first.name, first.parameters, (Collection(values, "list"),))
    return System(tuple(items), "and")


def _flat(items: list[Answer]) -> tuple[Answer, ...]:
    flat: list[Answer] = []
    for item in items:
        if isinstance(item, Collection) and item.kind == "list":
            flat.extend(item.items)
        else:
            flat.append(item)
    return tuple(flat)


def _times(by: Node, cell: Answer) -> Answer:
    return Scalar(Product((by, cell.node))) if isinstance(cell, Scalar) else Opaque("", "a cell")


_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![A-Za-z])\s*")
_DOUBLE_SIGN = re.compile(r"([({\[,=^]|^)\s*\+\s*")


def _signs(text: str) -> list[str]:
    upper = _PLUS_MINUS.sub(lambda match: "+" if match[1] == "pm" else "-", text)
    lower = _PLUS_MINUS.sub(lambda match: "-" if match[1] == "pm" else "+", text)
    return [_DOUBLE_SIGN.sub(r"\1", upper), _DOUBLE_SIGN.sub(r"\1", lower)]


def _tuple_signs(parts: list[str]) -> list[list[str]]:
    r"""The tuples that signs inside one stand for: `(\pm 1, \pm 2)` is four, `(\pm 1, \mp 2)` two."""
    signed = [index for index, part in enumerate(parts) if _PLUS_MINUS.search(part)]
    if not signed:
        return [parts]
    together = len(signed) == 1 or any("\\mp" in part for part in parts) or len(signed) > 4
    if together:
        both = [
            _signs(part) if index in signed else [part, part] for index, part in enumerate(parts)
        ]
        return [[pair[side] for pair in both] for side in (0, 1)]
    variants: list[list[str]] = [[]]
    for index, part in enumerate(parts):
        options = _signs(part) if index in signed else [part]
        variants = [[*variant, option] for variant in variants for option in options]
    return variants


def _outside(text: str, pattern: re.Pattern[str]) -> tuple[int, int] | None:
    """The first match of a pattern outside brackets."""
    depth = 0
    for match in re.finditer(r"\\[A-Za-z]+|\\.|[{}()\[\]|:]", text):
        token = match.group()
        if token in ("{", "(", "[", "\\{"):
            depth += 1
        elif token in ("}", ")", "]", "\\}"):
            depth -= 1
        elif depth == 0 and pattern.fullmatch(token):
            return match.start(), match.end()
    return None


def _split_at(text: str, sign: str) -> list[str] | None:
    parts: list[str] = []
    depth = start = 0
    for match in re.finditer(r"\\[A-Za-z]+|\\.|[{}()\[\],;:+]", text):
        token = match.group()
        if token in ("{", "(", "[", "\\{"):
            depth += 1
        elif token in ("}", ")", "]", "\\}"):
            depth -= 1
        elif depth == 0 and (token == sign or (sign == "," and token == ";")):
            parts.append(text[start : match.start()].strip())
            start = match.end()
    parts.append(text[start:].strip())
    return parts if depth == 0 else None


_KINDS = {"Z": "Z", "N": "N", "R": "R", "Q": "Q"}


def _domain(text: str) -> tuple[str, list[str], str] | None:
    """The text before a clause on parameters at its end, their names, and their set."""
    if not text[-1:].isalpha() and text[-1:] not in ("}", ")", "0"):
        return None
    head, text = text[:-_CLAUSE_CHARS], text[-_CLAUSE_CHARS:]
    match = _DOMAIN.search(text) if "\\in" in text else None
    if match and match.start() > 0:
        letter = match[2] or match[4]
        positive = match[3] in ("+", "*", ">0") or (match[3] or "").startswith(">")
        kind = "P" if positive and letter in "ZN" else "N" if match[3] else _KINDS[letter]
        return head + text[: match.start()], re.findall(r"[A-Za-z]", match[1]), kind
    if (
        "integer" in text
        or "number" in text
        or "constant" in text
        or "parameter" in text
        or "real" in text
    ):
        reverse = _DOMAIN_REVERSED.search(text)
        if reverse and reverse.start() > 0:
            return head + text[: reverse.start()], [reverse[3]], _worded(reverse[1], reverse[2])
        worded = _DOMAIN_WORDS.search(text)
        if worded and worded.start() > 0:
            names = re.findall(r"[A-Za-z]", worded[1])
            return head + text[: worded.start()], names, _worded(worded[2], worded[3])
    return None


def _worded(before: str | None, noun: str) -> str:
    before = (before or "").strip().lower()
    if noun.startswith("integer") or before in ("whole", "natural"):
        if before.startswith(("non", "whole")):
            return "N"
        return "P" if before in ("positive", "natural") else "Z"
    return "R"
