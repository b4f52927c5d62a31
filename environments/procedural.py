"""What the procedural environments share: seeded draws, and splits that no problem crosses.

Task `i` is drawn from `Random("name/split/seed/i")` alone, so any task can be made by itself, in
any process. A problem belongs to the split that a hash of its content says, whatever the seed:
training tasks of one seed and test tasks of another never share a problem. Within a split the draws
are independent: a small space of problems yields repeats.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable, Collection
from typing import Any

from rlvr.environments.base import GeneratedTasks
from rlvr.errors import ConfigError, nearest
from rlvr.types import Task

SPLITS = {"train": 70, "validation": 10, "test": 20}
"""The share of all problems in each split, in percent."""

_MAX_DRAWS = 10_000


def split_of(key: str) -> str:
    """The split that a problem belongs to.

    Args:
        key: the problem's content in one canonical form.
    """
    percent = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) % 100
    for name, share in SPLITS.items():
        if percent < share:
            return name
        percent -= share
    raise AssertionError("the shares add up to 100")


def generated(
    name: str,
    *,
    draw: Callable[[random.Random], Any],
    key: Callable[[Any], str],
    make: Callable[[str, Any], Task],
    size: int,
    seed: int,
    split: str,
) -> GeneratedTasks:
    """Tasks of a procedural environment; all functions must be picklable.

    Args:
        name: of the environment; begins the ids.
        draw: draws a problem, or `None` to draw again.
        key: the problem's content in one canonical form; decides its split.
        make: `make(id, problem) -> Task`.
        size: how many tasks.
        seed: of the draws.
        split: `train`, `validation` or `test`.

    Raises:
        ConfigError: there is no such split, `size` is no positive number, or the options leave no
            problems to draw.
    """
    if split not in SPLITS:
        raise ConfigError(f"{name} has no split {split!r}{nearest(split, SPLITS)}")
    check_range("size", size, 1, 10**9)
    make_one = functools.partial(_make_task, f"{name}/{split}/{seed}", split, draw, key, make)
    make_one(0)  # options that leave no problems fail here and now
    return GeneratedTasks(make_one, size)


def _make_task(
    stream: str,
    split: str,
    draw: Callable[[random.Random], Any],
    key: Callable[[Any], str],
    make: Callable[[str, Any], Task],
    index: int,
) -> Task:
    task_id = f"{stream}/{index}"
    rng = random.Random(task_id)
    for _ in range(_MAX_DRAWS):
        problem = draw(rng)
        if problem is not None and split_of(key(problem)) == split:
            return make(task_id, problem)
    raise ConfigError(
        f"no problem for {task_id} in {_MAX_DRAWS} draws: these options leave too few problems"
    )


def check_range(option: str, value: int, low: int, high: int) -> None:
    """Raise a `ConfigError` unless `value` is a whole number in `low..high`."""
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{option} is {value!r}: expected a whole number from {low} to {high}")


def check_choice(option: str, value: str, choices: Collection[str]) -> None:
    """Raise a `ConfigError` unless `value` is one of `choices`."""
    if value not in choices:
        raise ConfigError(f"{option} is {value!r}: expected {' or '.join(choices)}")
