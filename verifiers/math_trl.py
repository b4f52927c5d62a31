r"""A reward function for TRL's trainers, with the signature of TRL's own `accuracy_reward`.

    from rlvr.verifiers.math_trl import accuracy_reward

    trainer = GRPOTrainer(..., reward_funcs=accuracy_reward)   # a column `solution` in the data

It works in any thread and never hangs: a batch is graded by `rlvr.verify_many`, with a deadline for
each answer. TRL's takes only LaTeX answers; this one takes every answer that `docs/math.md` lists.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlvr import registry
from rlvr.protocols import Verifier
from rlvr.types import Task
from rlvr.verifiers.math import MathVerifier
from rlvr.verifiers.pool import verify_many

Completions = Sequence[str | Sequence[Mapping[str, str]]]


def accuracy_reward(
    completions: Completions,
    solution: Sequence[Any],
    log_extra: Callable[[str, list[Any]], None] | None = None,
    **kwargs: Any,
) -> list[float | None]:
    r"""1 for a completion whose final answer equals its solution, else 0.

    Args:
        completions: texts, or conversations whose last message is the answer.
        solution: the ground truth of each.
        log_extra: TRL's logger of further columns.
        kwargs: the other columns; unused.

    Returns:
        One reward for each completion; `None`, which TRL leaves out, where the solution is no
        answer.

    >>> accuracy_reward([[{"role": "assistant", "content": r"\boxed{\frac13}"}]], ["1/3"])
    [1.0]
    """
    return _reward(MathVerifier(), completions, solution, log_extra)


def math_reward(**options: Any) -> Callable[..., list[float | None]]:
    """`accuracy_reward` with the options of `MathVerifier`: `math_reward(preset="aime")`.

    Raises:
        ConfigError: an option does not exist or makes no sense.
    """
    verifier = registry.verifiers.create("math", options)
    reward = functools.partial(_with_columns, verifier)
    reward.__name__ = "math_reward"  # type: ignore[attr-defined]  # TRL logs by name
    return reward


def _with_columns(
    verifier: Verifier,
    completions: Completions,
    solution: Sequence[Any],
    log_extra: Callable[[str, list[Any]], None] | None = None,
    **kwargs: Any,
) -> list[float | None]:
    return _reward(verifier, completions, solution, log_extra)


def _reward(
    verifier: Verifier,
    completions: Completions,
    solution: Sequence[Any],
    log_extra: Callable[[str, list[Any]], None] | None,
) -> list[float | None]:
    pairs = [
        (Task(id="", prompt="", answer=answer), _text_of(completion))
        for completion, answer in zip(completions, solution, strict=True)
    ]
    verdicts = verify_many(verifier, pairs)
    if log_extra is not None:
        log_extra("solution", list(solution))
        log_extra("answer", [verdict.extracted for verdict in verdicts])
        log_extra("verdict", [verdict.reason for verdict in verdicts])
    return [verdict.reward for verdict in verdicts]


def _text_of(completion: str | Sequence[Mapping[str, str]]) -> str:
    return completion if isinstance(completion, str) else completion[-1]["content"]
