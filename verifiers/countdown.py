r"""Grades an arithmetic expression that must reach a target with given numbers. Nothing is run.

The expression stands between `<answer>` tags, in `\boxed{...}`, or on the last line; `= target`
may follow it. It is made of the given numbers, `+ - * /` and parentheses (`\times`, `\div` and
their signs are read as well; no unary minus, no powers, no joining of digits), is parsed by hand,
and is computed in exact fractions. The ground truth is
`{"numbers": [3, 5, 7], "target": 22}`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from rlvr.errors import VerifierError
from rlvr.types import Outcome, Verdict
from rlvr.verifiers.answer_tags import UnreadableAnswer, tagged_answer
from rlvr.verifiers.base import verifier

_MAX_CHARACTERS = 1_000
_MAX_DEPTH = 50
_MAX_DIGITS = 18
_TOKEN = re.compile(r"\s*(?:(?P<number>\d+)|(?P<symbol>[-+*/()]))", re.ASCII)
_SPELLINGS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-", "·": "*", "⋅": "*"})
_LATEX = re.compile(r"\\(times|cdot|div|left|right)(?![a-zA-Z])")
_LATEX_SIGNS = {"times": "*", "cdot": "*", "div": "/", "left": "", "right": ""}


@verifier("countdown", bounded=True)
def countdown(completion: str, answer: Any, use_all: bool = True) -> Verdict:
    """An expression that reaches the target, each given number used once.

    Args:
        completion: the response.
        answer: the numbers and the target.
        use_all: every number must be used; otherwise each may be used at most once.
    """
    numbers, target = _ground_truth(answer)
    try:
        expression, claimed = _split_equation(_answer_part(completion))
        used, value = evaluate(expression, allowed=Counter(numbers))
    except UnreadableAnswer as error:
        empty = not completion.strip()
        return Verdict.wrong(str(error), Outcome.NO_ANSWER if empty else Outcome.WRONG_FORMAT)
    except _RuleBroken as error:
        return Verdict.wrong(str(error))
    if use_all and used != Counter(numbers):
        unused = sorted((Counter(numbers) - used).elements())
        return Verdict.wrong(f"unused numbers: {unused}", extracted=expression)
    if value is None:
        return Verdict.wrong("divides by zero", extracted=expression)
    if value != target:
        return Verdict.wrong(f"gives {value}, not {target}", extracted=expression)
    if claimed is not None and claimed != value:
        return Verdict.wrong(f"claims to give {claimed}, but gives {value}", extracted=expression)
    return Verdict.correct(extracted=expression)


class _RuleBroken(Exception):
    """The expression is readable but uses a number that it may not use."""


def _ground_truth(answer: Any) -> tuple[list[int], int]:
    if isinstance(answer, Mapping):
        numbers, target = answer.get("numbers"), answer.get("target")
        whole = isinstance(numbers, list | tuple) and all(type(n) is int for n in numbers)
        if whole and numbers and type(target) is int:
            return list(numbers), target
    raise VerifierError(
        f"the ground truth is {answer!r:.80}: expected "
        '{"numbers": [whole numbers], "target": whole number}'
    )


def _answer_part(completion: str) -> str:
    answer = tagged_answer(completion)
    if answer is None:
        boxes = completion.count(r"\boxed")
        if boxes > 1:
            raise UnreadableAnswer("there are several boxes")
        answer = _boxed(completion) if boxes else (completion.strip().splitlines() or [""])[-1]
    answer = answer.strip().strip("$").strip()
    if not answer:
        raise UnreadableAnswer("there is no expression")
    if len(answer) > _MAX_CHARACTERS:
        raise UnreadableAnswer(f"the expression has over {_MAX_CHARACTERS} characters")
    return answer


def _boxed(completion: str) -> str:
    r"""What stands in the only `\boxed{...}`; an expression has no braces of its own."""
    match = re.search(r"\\boxed\s*\{([^{}]*)\}", completion)
    if match is None:
        raise UnreadableAnswer("the box is not closed")
    return match[1]


def _split_equation(text: str) -> tuple[str, int | None]:
    """Separate `expression = number` into its sides."""
    text = text.translate(_SPELLINGS)
    text = _LATEX.sub(lambda match: _LATEX_SIGNS[match[1]], text)
    expression, equals, right = text.partition("=")
    if not equals:
        return expression.strip(), None
    if not re.fullmatch(rf"\s*-?\d{{1,{_MAX_DIGITS}}}\s*", right, re.ASCII):
        raise UnreadableAnswer(f"expected one number after '=', found {right.strip()!r:.40}")
    return expression.strip(), int(right)


def evaluate(expression: str, allowed: Counter[int]) -> tuple[Counter[int], Fraction | None]:
    """Parse an expression and compute it.

    Args:
        expression: numbers, `+ - * /` and parentheses.
        allowed: how often each number may be used; checked before anything is computed, so that
            the work is bounded.

    Returns:
        How often each number was used, and the value (`None` after a division by zero).

    Raises:
        UnreadableAnswer: this is no such expression.
        _RuleBroken: a number is used that is not allowed, or too often.
    """
    parser = _Parser(_tokens(expression))
    used = Counter(token for token in parser.tokens if isinstance(token, int))
    tree = parser.whole()
    excess = sorted((used - allowed).elements())
    if excess:
        raise _RuleBroken(f"uses numbers that are not given, or too often: {excess}"[:200])
    try:
        return used, _value(tree)
    except ZeroDivisionError:
        return used, None


def _tokens(expression: str) -> list[int | str]:
    tokens: list[int | str] = []
    position = 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            raise UnreadableAnswer(f"cannot read {expression[position : position + 40]!r}")
        number = match["number"]
        if number and len(number) > _MAX_DIGITS:
            raise UnreadableAnswer(f"a number has over {_MAX_DIGITS} digits")
        tokens.append(int(number) if number else match["symbol"])
        position = match.end()
    return tokens


Tree = int | tuple[str, "Tree", "Tree"]
"""A number, or a sign with its two sides."""


class _Parser:
    """Recursive descent: sum -> product {+|- product}; product -> factor {*|/ factor}."""

    def __init__(self, tokens: list[int | str]) -> None:
        self.tokens = tokens
        self._position = 0
        self._depth = 0

    def whole(self) -> Tree:
        tree = self._sum()
        if self._position < len(self.tokens):
            raise UnreadableAnswer(f"did not expect {self.tokens[self._position]!r}")
        return tree

    def _sum(self) -> Tree:
        tree = self._product()
        while (sign := self._peek()) in ("+", "-"):
            self._position += 1
            tree = (str(sign), tree, self._product())
        return tree

    def _product(self) -> Tree:
        tree = self._factor()
        while (sign := self._peek()) in ("*", "/"):
            self._position += 1
            tree = (str(sign), tree, self._factor())
        return tree

    def _factor(self) -> Tree:
        token = self._peek()
        self._position += 1
        if isinstance(token, int):
            return token
        if token != "(":
            found = "the end" if token is None else repr(token)
            raise UnreadableAnswer(f"expected a number or '(', found {found}")
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnreadableAnswer(f"parentheses are over {_MAX_DEPTH} deep")
        tree = self._sum()
        if self._peek() != ")":
            raise UnreadableAnswer("a '(' is not closed")
        self._position += 1
        self._depth -= 1
        return tree

    def _peek(self) -> int | str | None:
        return self.tokens[self._position] if self._position < len(self.tokens) else None


def _value(tree: Tree) -> Fraction:
    if isinstance(tree, int):
        return Fraction(tree)
    sign, left, right = tree
    first, second = _value(left), _value(right)
    match sign:
        case "+":
            return first + second
        case "-":
            return first - second
        case "*":
            return first * second
    return first / second
