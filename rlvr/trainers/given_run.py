"""What runs on given completions share: the length limit, the plan, and how intervals are taken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from rlvr.batch import Example
from rlvr.encoding import encode_completion, encode_prompt
from rlvr.errors import ConfigError, DataError
from rlvr.policy import Policy
from rlvr.trainers.config import GivenDataConfig
from rlvr.trainers.loop import Metrics, Plan
from rlvr.types import Prompt

G = TypeVar("G")


def sequence_limit(config: GivenDataConfig, policy: Policy) -> int:
    """The most tokens that a prompt may have with its completion.

    Raises:
        ConfigError: the policy has fewer positions than the configuration asks for.
    """
    positions = getattr(policy.model.config, "max_position_embeddings", None) or sys.maxsize
    if config.max_length is None:
        return int(positions)
    if config.max_length > positions:
        raise ConfigError(
            f"max_length is {config.max_length}: the policy has {positions} positions"
            + (" (new_policy.max_length)" if config.policy == "new" else "")
        )
    return config.max_length


def encode_example(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, completion: str) -> Example:
    """Token ids of a prompt and a given completion, which ends with the end of sequence.

    Raises:
        DataError: nothing is left of the prompt, because the tokenizer knows none of it.
    """
    prompt_ids = tuple(encode_prompt(tokenizer, prompt))
    if not prompt_ids:
        raise DataError(f"the prompt {prompt!r:.60} has no token that the policy knows")
    completion_ids = tuple(encode_completion(tokenizer, completion))
    return Example(prompt_ids=prompt_ids, completion_ids=completion_ids)


def length(example: Example) -> int:
    """Tokens of a prompt with its completion."""
    return len(example.prompt_ids) + len(example.completion_ids)


def keep_usable(rows: Iterable[G], why_not: Callable[[G], str | None], where: str) -> list[G]:
    """The rows that can be used; the others are counted by reason, and shown.

    Args:
        rows: what there is.
        why_not: the reason to leave a row out, or `None`.
        where: what the rows are, for messages.

    Raises:
        DataError: none is left.
    """
    kept: list[G] = []
    left_out: dict[str, int] = {}
    for row in rows:
        reason = why_not(row)
        if reason is None:
            kept.append(row)
        else:
            left_out[reason] = left_out.get(reason, 0) + 1
    reasons = "; ".join(f"{count} left out: {reason}" for reason, count in left_out.items())
    if not kept:
        raise DataError(f"no row {where} can be used: {reasons}")
    print(f"data: {len(kept)} rows {where}" + (f" ({reasons})" if reasons else ""))
    return kept


def make_plan(config: GivenDataConfig, folder: Path) -> Plan:
    """When the loop measures and saves."""
    return Plan(
        name=config.algorithm,
        folder=folder,
        steps=config.steps,
        evaluate_every=None if config.held_out is None else config.held_out.every,
        checkpoint_every=config.checkpoint.every,
        keep=config.checkpoint.keep,
        tracking=config.tracking,
    )


def announce(what: str, folder: Path, result: str | None) -> None:
    """Write the report, and say what the run came to.

    Args:
        what: the model that was trained.
        folder: of the run.
        result: what was measured on held-out data, if anything was.
    """
    from rlvr.evals.report import write_report

    report = write_report([folder], folder / "report.html")
    if result is not None:
        print(result)
    print(f"{what}: {folder / 'policy'}")
    print(f"report: {report}")


def with_interval(name: str, value: float, interval: tuple[float, float]) -> Metrics:
    """A metric and the ends of its 95% interval, under `name`, `name/low` and `name/high`."""
    return {name: value, f"{name}/low": interval[0], f"{name}/high": interval[1]}


def show(metrics: Mapping[str, float], name: str, digits: int = 3) -> str:
    """`0.580 [0.482, 0.672]`."""
    value, low, high = (metrics[f"{name}{end}"] for end in ("", "/low", "/high"))
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def by_problem(ids: Sequence[str], values: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Add up the values of the rows of each problem, which are no independent draws.

    Args:
        ids: of each row's problem.
        values: of each row, as many for each.
    """
    sums: dict[str, list[float]] = {}
    for key, row in zip(ids, values, strict=True):
        old = sums.get(key, [0.0] * len(row))
        sums[key] = [a + b for a, b in zip(old, row, strict=True)]
    return sums
