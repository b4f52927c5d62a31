"""Sums of several digits, worked out by running totals, for `benchmarks/ablation.py`.

`7+5+9=` is worked as `12,21`, then the answer, `A: 21`. Half of the worked solutions write the
totals once, others two or three times, so that a policy that imitates them writes completions of
many lengths that are right about as often, and the longest do not fit under the token limit: what
a reasoning policy is like, in miniature.
"""

from __future__ import annotations

from itertools import accumulate
from random import Random

from rlvr import registry
from rlvr.environments.base import Environment, environment
from rlvr.environments.procedural import generated
from rlvr.types import Task

TERMS = (3, 5)
REPEATS = (1, 1, 1, 2, 2, 3)


@environment("running_totals")
def running_totals(*, size: int = 20_000, seed: int = 0, split: str = "train") -> Environment:
    """Sums of 3 to 5 digits.

    Args:
        size: number of tasks.
        seed: of the draws.
        split: `train`, `validation` or `test`.
    """
    tasks = generated(
        "running_totals", draw=_draw, key=_key, make=_task, size=size, seed=seed, split=split
    )
    return Environment(tasks=tasks, verifier=registry.verifiers.create("math", None))


def _draw(rng: Random) -> tuple[tuple[int, ...], int]:
    terms = tuple(rng.randint(1, 9) for _ in range(rng.randint(*TERMS)))
    return terms, rng.choice(REPEATS)


def _key(problem: tuple[tuple[int, ...], int]) -> str:
    return "+".join(map(str, sorted(problem[0])))


def _task(task_id: str, problem: tuple[tuple[int, ...], int]) -> Task:
    terms, repeats = problem
    totals = list(accumulate(terms))[1:]
    worked = ",".join(str(total) for _ in range(repeats) for total in totals)
    return Task(
        id=task_id,
        prompt="+".join(map(str, terms)) + "=",
        answer=str(totals[-1]),
        metadata={"solution": f"{worked}\nA: {totals[-1]}"},
    )
