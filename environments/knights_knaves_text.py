"""Knights-and-knaves puzzles and their worked solutions, in words and in a short notation.

In the short notation `A:Bn B:Bk&Ak` reads: A says that B is a knave; B says that B is a knight and
A is a knight. The signs are `& | > =` (and, or, if-then, if and only if) and `!` (not).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from rlvr.types import Message
from rlvr.verifiers.knights_knaves import describe_roles, holds, role_name

LETTERS = ["A", "B", "C", "D", "E", "F", "G", "H"]
NAMES = [
    "Ada", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo", "Ida", "Jonas", "Karin",
    "Leo", "Maria", "Nina", "Oscar", "Paula", "Ruth", "Simon", "Tina", "Victor",
]  # fmt: skip

INSTRUCTION = (
    "Think step by step. Then say who is what between <answer> and </answer>, one person a line, "
    "such as: (1) Zoe is a knight"
)

_SIGNS = {"and": "&", "or": "|", "->": ">", "<=>": "="}
_MESSAGE = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>\n?|\Z)", re.DOTALL)


def short_prompt(names: Sequence[str], statements: Sequence[Any]) -> str:
    """`A:Bn B:Bk&Ak` and a line end."""
    said = (f"{name}:{_short(s, names)}" for name, s in zip(names, statements, strict=True))
    return " ".join(said) + "\n"


def short_solution(
    names: Sequence[str], statements: Sequence[Any], knights: Sequence[bool], reasoning: bool
) -> str:
    """`kk:nk kn:kn` and, on a line of its own, `A=k B=n`.

    Each trial names an assignment and, after the colon, what everyone would have to be for having
    said what they said. The trials end with the one where both sides agree.
    """
    answer = " ".join(f"{name}={_letter(k)}" for name, k in zip(names, knights, strict=True))
    if not reasoning:
        return answer
    trials = [
        f"{_letters(trial)}:{_letters(implied)}" for trial, implied in _trials(statements, knights)
    ]
    return " ".join(trials) + "\n" + answer


def text_prompt(names: Sequence[str], statements: Sequence[Any]) -> str:
    """The puzzle in words, with the form of the answer."""
    said = [
        f'{name} says: "{_capital(words(statement, names))}."'
        for name, statement in zip(names, statements, strict=True)
    ]
    return (
        "On an island everyone is either a knight, who always tells the truth, or a knave, who "
        f"always lies. You meet {len(names)} of them: {', '.join(names)}. {' '.join(said)} "
        f"Who is a knight and who is a knave?\n\n{INSTRUCTION}"
    )


def text_solution(
    names: Sequence[str], statements: Sequence[Any], knights: Sequence[bool], reasoning: bool
) -> str:
    """Trials in words, and the tagged answer."""
    answer = tagged_roles(names, knights)
    if not reasoning:
        return answer
    work = "\n".join(_trial_in_words(names, *trial) for trial in _trials(statements, knights))
    return f"{work}\n\n{answer}"


def tagged_roles(names: Sequence[str], knights: Sequence[bool]) -> str:
    """`(1) Ada is a knight` and so on, between `<answer>` tags."""
    numbered = "\n".join(
        f"({number}) {name} is a {role_name(knight)}"
        for number, (name, knight) in enumerate(zip(names, knights, strict=True), start=1)
    )
    return f"<answer>\n{numbered}\n</answer>"


def words(statement: Any, names: Sequence[str]) -> str:
    """A statement in words; what is joined inside of what is joined stands in parentheses."""
    head: str = statement[0]
    parts = statement[1:]
    if head in ("telling-truth", "lying"):
        return f"{names[parts[0]]} is a {role_name(head == 'telling-truth')}"
    said = [words(part, names) for part in parts]
    said = [
        f"({text})" if part[0] in _SIGNS else text for text, part in zip(said, parts, strict=True)
    ]
    match head:
        case "not":
            return f"it is not true that {said[0]}"
        case "->":
            return f"if {said[0]} then {said[1]}"
        case "<=>":
            return f"{said[0]} if and only if {said[1]}"
    return f" {head} ".join(said)


def read_chatml(text: str) -> list[Message]:
    """The messages of a ChatML text, without the opening of the assistant's answer."""
    messages: list[Message] = [
        {"role": role, "content": content.strip()} for role, content in _MESSAGE.findall(text)
    ]
    return [message for message in messages if message["role"] != "assistant"]


def _short(statement: Any, names: Sequence[str]) -> str:
    head: str = statement[0]
    parts: Sequence[Any] = statement[1:]
    if head in ("telling-truth", "lying"):
        return names[int(parts[0])] + _letter(head == "telling-truth")
    said = [
        f"({_short(part, names)})" if part[0] in _SIGNS else _short(part, names) for part in parts
    ]
    return f"!{said[0]}" if head == "not" else _SIGNS[head].join(said)


def _trials(
    statements: Sequence[Any], knights: Sequence[bool]
) -> Iterator[tuple[tuple[bool, ...], list[bool]]]:
    """Assignments from all knights on, each with whose statement it makes true, to the solution."""
    for trial in itertools.product([True, False], repeat=len(statements)):
        yield trial, [holds(statement, trial) for statement in statements]
        if trial == tuple(knights):
            return


def _trial_in_words(names: Sequence[str], trial: Sequence[bool], implied: Sequence[bool]) -> str:
    supposed = describe_roles(dict(zip(names, trial, strict=True)))
    for name, knight, true in zip(names, trial, implied, strict=True):
        if knight != true:
            what = "true" if true else "false"
            return (
                f"Suppose {supposed}. Then {name}, a {role_name(knight)}, says what is {what}: no."
            )
    return f"Suppose {supposed}. Then the knights say what is true and the knaves do not: yes."


def _letter(knight: bool) -> str:
    return "k" if knight else "n"


def _letters(knights: Sequence[bool]) -> str:
    return "".join(map(_letter, knights))


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
