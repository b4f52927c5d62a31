"""Seeded sums, differences and products, down to what a tiny character-level policy can learn."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from random import Random
from typing import Any

from rlvr import registry
from rlvr.environments.base import Environment, environment
from rlvr.environments.procedural import check_choice, check_range, generated
from rlvr.errors import ConfigError
from rlvr.types import Task

Problem = tuple[int, str, int]

WORKED = ("reversed", "direct")


@environment("arithmetic")
def arithmetic(
    *,
    digits: int = 2,
    operations: str = "+",
    worked: str = "reversed",
    size: int = 1_000,
    seed: int = 0,
    split: str = "train",
    verifier: Mapping[str, Any] | None = None,
) -> Environment:
    """Sums, differences and products of two numbers: `12+34=`.

    Args:
        digits: digits of both numbers, 1 to 18.
        operations: signs to draw from, of `+-*`; differences are never negative.
        worked: worked solutions write the result with its units digit first, which is how carries
            are learned, and then as the answer (`reversed`), or just the answer (`direct`).
        size: number of tasks.
        seed: of the draws.
        split: `train`, `validation` or `test`; `a+b` and `b+a` are one problem.
        verifier: options of the `math` verifier.
    """
    check_range("digits", digits, 1, 18)
    check_choice("worked", worked, WORKED)
    if not operations or set(operations) - set("+-*"):
        raise ConfigError(f"operations is {operations!r}: expected signs out of +-*, such as '+-'")
    tasks = generated(
        "arithmetic",
        draw=functools.partial(_draw, digits, operations),
        key=_key,
        make=functools.partial(_task, worked),
        size=size,
        seed=seed,
        split=split,
    )
    return Environment(tasks=tasks, verifier=registry.verifiers.create("math", verifier))


def _draw(digits: int, operations: str, rng: Random) -> Problem:
    low = 0 if digits == 1 else 10 ** (digits - 1)
    first, second = (rng.randrange(low, 10**digits) for _ in range(2))
    sign = rng.choice(operations)
    if sign == "-" and first < second:
        first, second = second, first
    return first, sign, second


def _key(problem: Problem) -> str:
    first, sign, second = problem
    return f"{max(first, second)}{sign}{min(first, second)}"


def _task(worked: str, task_id: str, problem: Problem) -> Task:
    first, sign, second = problem
    value = {"+": first + second, "-": first - second, "*": first * second}[sign]
    answer = str(value)
    solution = answer if worked == "direct" else f"{answer[::-1]}\nA: {answer}"
    return Task(
        id=task_id,
        prompt=f"{first}{sign}{second}=",
        answer=answer,
        metadata={"solution": solution},
    )
