"""Grades who is a knight and who is a knave, strictly: everyone once, nothing else in the answer.

The answer stands between `<answer>` tags, or else in the last lines of the completion; it reads
`A is a knight, B is a knave` (numbered or not, several lines or one) or, in short, `A=k B=n`.
Anything else in it (`or`, `maybe`, a second role) makes it `wrong_format`. The ground truth is a
mapping `{"A": "knight", "B": "knave"}`, or text in the same form.

Where `metadata` has `names` and `statements`, the assignment must also satisfy the statements. A
ground truth that breaks them, or is not their only solution, is the data's fault: `verifier_error`.

A statement is a syntax tree, as in the Logic-RL data: `["telling-truth", i]`, `["lying", i]` (`i`
is a place in `names`), `["not", s]`, and `["and" | "or" | "->" | "<=>", s, t]`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlvr.errors import VerifierError
from rlvr.types import Outcome, Verdict
from rlvr.verifiers.answer_tags import UnreadableAnswer, tagged_answer
from rlvr.verifiers.base import verifier

_ROLES = {"knight": True, "k": True, "knave": False, "n": False}
_ROLE = r"(?i:(?:is|=|:)\s*(?:an?\s+)?(?P<role>knight|knave|k|n)\b)"
_BETWEEN = re.compile(
    r"(?:\s|[,;.*]|-\s|\(\d+\)|\d+[.)]\s"
    r"|(?i:(?:and|so|thus|hence|therefore|the|final|answer)\b:?|is:))*"
)


@verifier("knights_knaves", bounded=True)
def knights_knaves(completion: str, answer: Any, metadata: Mapping[str, Any]) -> Verdict:
    """Who is a knight and who is a knave: everyone named once, as in the only solution."""
    expected = _ground_truth(answer)
    names = list(expected)
    statements = read_statements(metadata.get("statements"))
    if statements:
        names = list(metadata.get("names") or names)
        _check_ground_truth(expected, names, statements)
    try:
        given = parse_roles(_answer_part(completion, names), names)
    except UnreadableAnswer as error:
        empty = not completion.strip()
        return Verdict.wrong(str(error), Outcome.NO_ANSWER if empty else Outcome.WRONG_FORMAT)
    right = sum(given[name] == expected[name] for name in names)
    shared: dict[str, Any] = {
        "extracted": describe_roles(given),
        "metrics": {"people_right": right / len(names)},
    }
    if given == expected:
        return Verdict.correct(**shared)
    if statements and consistent(statements, [given[name] for name in names]):
        raise VerifierError("the puzzle has another solution than its answer")
    wrong = ", ".join(name for name in names if given[name] != expected[name])
    return Verdict.wrong(f"wrong about {wrong}", **shared)


def parse_roles(text: str, names: Sequence[str]) -> dict[str, bool]:
    """Read an assignment that names everyone exactly once and says nothing else.

    Returns:
        For every name whether it is a knight, in the order of `names`.

    Raises:
        UnreadableAnswer: something else is said, or someone is named twice or not at all.
    """
    roles: dict[str, bool] = {}
    for name, knight in _read_items(text, names):
        if name in roles:
            raise UnreadableAnswer(f"{name} is given a role twice")
        roles[name] = knight
    missing = [name for name in names if name not in roles]
    if missing:
        raise UnreadableAnswer(f"no role is given to {', '.join(missing)}")
    return {name: roles[name] for name in names}


def _read_items(text: str, names: Sequence[str]) -> list[tuple[str, bool]]:
    """Every `NAME is a ROLE` of a text that consists of them."""
    longest_first = sorted(names, key=len, reverse=True)
    item = re.compile(rf"(?P<name>{'|'.join(map(re.escape, longest_first))})\s*{_ROLE}")
    found: list[tuple[str, bool]] = []
    text = text.replace("**", "")  # Markdown's bold
    position = _skip(text, 0)
    while position < len(text):
        match = item.match(text, position)
        if match is None:
            raise UnreadableAnswer(f"cannot read {text[position : position + 40]!r} as a role")
        found.append((match["name"], _ROLES[match["role"].lower()]))
        position = _skip(text, match.end())
    return found


def describe_roles(roles: Mapping[str, bool]) -> str:
    """`A is a knight, B is a knave`."""
    return ", ".join(f"{name} is a {role_name(knight)}" for name, knight in roles.items())


def role_name(knight: bool) -> str:
    """`knight` or `knave`."""
    return "knight" if knight else "knave"


def _skip(text: str, position: int) -> int:
    match = _BETWEEN.match(text, position)
    assert match is not None
    return match.end()


def _answer_part(completion: str, names: Sequence[str]) -> str:
    """The tagged answer, or the lines at the end that consist of roles."""
    tagged = tagged_answer(completion)
    if tagged is not None:
        return tagged
    lines: list[str] = []
    for line in reversed(completion.rstrip().splitlines()):
        if line.strip() and not _only_roles(line, names):
            break
        lines.append(line)
    if not lines:
        raise UnreadableAnswer("the last line gives no roles")
    return "\n".join(reversed(lines))


def _only_roles(line: str, names: Sequence[str]) -> bool:
    """Whether a line says who is what and nothing else, be it of some only or of one twice."""
    try:
        return bool(_read_items(line, names))
    except UnreadableAnswer:
        return False


def _ground_truth(answer: Any) -> dict[str, bool]:
    if isinstance(answer, str):
        names = re.findall(rf"([^\s,;.()]+)\s+{_ROLE}", answer)
        try:
            return parse_roles(answer, [name for name, _ in names] or ["?"])
        except UnreadableAnswer as error:
            raise VerifierError(f"the ground truth {answer!r:.80} is unreadable: {error}") from None
    if not isinstance(answer, Mapping) or not answer:
        raise VerifierError(f"the ground truth is {answer!r:.80}: expected names and their roles")
    try:
        return {str(name): _ROLES[role] for name, role in answer.items()}
    except (KeyError, TypeError):
        raise VerifierError(
            f"the ground truth is {answer!r:.80}: expected every role to be knight or knave"
        ) from None


def _check_ground_truth(
    expected: Mapping[str, bool], names: Sequence[str], statements: Sequence[Any]
) -> None:
    if sorted(names) != sorted(expected) or len(statements) != len(names):
        raise VerifierError(
            f"the puzzle has names {names}, {len(statements)} statements and an answer about "
            f"{list(expected)}: expected one statement and one role for each name"
        )
    if not consistent(statements, [expected[name] for name in names]):
        raise VerifierError("the ground truth breaks the puzzle's statements")


def read_statements(value: Any) -> Sequence[Any] | None:
    """Statements as nested lists, also from the text that data files hold them as.

    Raises:
        VerifierError: the text is no tuple of statements.
    """
    if not isinstance(value, str):
        return value or None
    try:
        statements = ast.literal_eval(value)  # literals only: nothing is run
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise VerifierError(f"cannot read the statements {value!r:.80}") from error
    return list(statements) if isinstance(statements, list | tuple) else [statements]


def consistent(statements: Sequence[Any], knights: Sequence[bool]) -> bool:
    """Whether exactly the knights' statements hold.

    Args:
        statements: one of each person.
        knights: whether each person is a knight.

    Raises:
        VerifierError: a statement is malformed.
    """
    return all(
        holds(statement, knights) == knight
        for statement, knight in zip(statements, knights, strict=True)
    )


def holds(statement: Any, knights: Sequence[bool]) -> bool:
    """Whether a statement is true when `knights` says who is a knight.

    Raises:
        VerifierError: the statement is malformed.
    """
    match statement:
        case ["telling-truth", int(person)] if 0 <= person < len(knights):
            return knights[person]
        case ["lying", int(person)] if 0 <= person < len(knights):
            return not knights[person]
        case ["not", inner]:
            return not holds(inner, knights)
        case ["and", *parts] if parts:
            return all([holds(part, knights) for part in parts])
        case ["or", *parts] if parts:
            return any([holds(part, knights) for part in parts])
        case ["->", premise, conclusion]:
            return not holds(premise, knights) or holds(conclusion, knights)
        case ["<=>", left, right]:
            return holds(left, knights) == holds(right, knights)
    raise VerifierError(f"cannot read the statement {statement!r:.80}")
