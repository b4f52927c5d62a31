"""Seeded countdown puzzles: reach a target with given numbers. Every puzzle has a solution."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from rlvr import registry
from rlvr.environments.base import Environment, environment, user_message
from rlvr.environments.procedural import check_choice, check_range, generated
from rlvr.types import Task

STYLES = ("short", "text")

_TEXT = (
    "Using the numbers {numbers}, each exactly once, with +, -, * and /, write an expression that "
    "equals {target}. Give the expression between <answer> and </answer>."
)


@dataclass(frozen=True)
class _Term:
    """A value, the expression that gives it, and the sign that was applied last."""

    value: int
    text: str
    sign: str = ""


@dataclass(frozen=True)
class _Puzzle:
    numbers: tuple[int, ...]
    target: int
    solution: str


@environment("countdown")
def countdown(
    *,
    numbers: int = 3,
    largest: int = 9,
    target: int = 99,
    style: str = "short",
    size: int = 1_000,
    seed: int = 0,
    split: str = "train",
    verifier: Mapping[str, Any] | None = None,
) -> Environment:
    """Reach a target with given numbers, each used once: `3 5 7=22`.

    Args:
        numbers: how many numbers are given, 2 to 8.
        largest: the numbers are drawn from 1 to this.
        target: the target is at most this.
        style: `short` (`3 5 7=22`, for tiny policies) or `text` (a chat message in words).
        size: number of tasks.
        seed: of the draws.
        split: `train`, `validation` or `test`; the order of the numbers makes no other problem.
        verifier: options of the `countdown` verifier.
    """
    check_range("numbers", numbers, 2, 8)
    check_range("largest", largest, 1, 10**6)
    check_range("target", target, 1, 10**9)
    check_choice("style", style, STYLES)
    tasks = generated(
        "countdown",
        draw=functools.partial(_draw, numbers, largest, target),
        key=_key,
        make=functools.partial(_task, style),
        size=size,
        seed=seed,
        split=split,
    )
    return Environment(tasks=tasks, verifier=registry.verifiers.create("countdown", verifier))


def _draw(count: int, largest: int, limit: int, rng: Random) -> _Puzzle | None:
    """Join random numbers by random signs; what stays a small whole number is a puzzle."""
    given = [rng.randint(1, largest) for _ in range(count)]
    terms = [_Term(number, str(number)) for number in given]
    while len(terms) > 1:
        left = terms.pop(rng.randrange(len(terms)))
        right = terms.pop(rng.randrange(len(terms)))
        joined = _join(rng.choice("+-*/"), left, right)
        if joined is None:
            return None
        terms.append(joined)
    if terms[0].value > limit:
        return None
    return _Puzzle(tuple(given), terms[0].value, terms[0].text)


def _join(sign: str, left: _Term, right: _Term) -> _Term | None:
    """`left sign right` with the parentheses that it needs; `None` unless positive and whole."""
    first, second = left.value, right.value
    if (sign == "-" and first <= second) or (sign == "/" and first % second):
        return None
    value = {"+": first + second, "-": first - second, "*": first * second}.get(sign)
    left_text = f"({left.text})" if sign in "*/" and left.sign in ("+", "-") else left.text
    bare = sign == "+" or not right.sign or (sign == "-" and right.sign in "*/")
    bare = bare or (sign == "*" and right.sign == "*")
    right_text = right.text if bare else f"({right.text})"
    return _Term(
        first // second if value is None else value, f"{left_text}{sign}{right_text}", sign
    )


def _key(puzzle: _Puzzle) -> str:
    return f"{sorted(puzzle.numbers)}={puzzle.target}"


def _task(style: str, task_id: str, puzzle: _Puzzle) -> Task:
    numbers, target = list(puzzle.numbers), puzzle.target
    prompt: Any = f"{' '.join(map(str, numbers))}={target}\n"
    solution = puzzle.solution
    if style == "text":
        prompt = user_message(_TEXT.format(numbers=", ".join(map(str, numbers)), target=target))
        solution = f"{solution} = {target}\n<answer>{solution}</answer>"
    return Task(
        id=task_id,
        prompt=prompt,
        answer={"numbers": numbers, "target": target},
        metadata={"solution": solution},
    )
