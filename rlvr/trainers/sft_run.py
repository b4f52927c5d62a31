"""`rlvr train` with `algorithm: sft`: imitate given completions, and measure on held-out ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from rlvr.batch import Batch, Example
from rlvr.config import Component
from rlvr.distributed import ALONE, World
from rlvr.errors import ConfigError
from rlvr.evals.intervals import student_interval
from rlvr.forward import score_tokens
from rlvr.objectives.aggregation import sequence_sums
from rlvr.objectives.supervised import cross_entropy
from rlvr.policy import Policy
from rlvr.sharding import shard
from rlvr.trainers.components import adapt, initial_policy, load_component
from rlvr.trainers.config import SupervisedConfig
from rlvr.trainers.given_data import load_demonstrations, split_held_out
from rlvr.trainers.given_run import (
    announce,
    by_problem,
    encode_example,
    keep_usable,
    length,
    make_plan,
    sequence_limit,
    show,
    with_interval,
)
from rlvr.trainers.loop import Metrics, fit
from rlvr.trainers.supervised import Demonstration, SupervisedLearner, worked_solution


def prepare_sft(config: SupervisedConfig, world: World = ALONE) -> Callable[[Path, bool], None]:
    """Load everything that the run needs.

    Raises:
        UserError: something that it names cannot be loaded or used.
    """
    train, held_out = load_sides(config)
    policy = initial_policy(config, world=world)
    limit = sequence_limit(config, policy)

    def why_not(row: Demonstration) -> str | None:
        fits = length(encode_example(policy.tokenizer, row.prompt, row.completion)) <= limit
        return None if fits else f"longer than {limit} tokens"

    train = keep_usable(train, why_not, "to train on")
    held_out = keep_usable(held_out, why_not, "held out") if held_out else []
    examples = [encode_example(policy.tokenizer, row.prompt, row.completion) for row in held_out]
    ids = [row.id for row in held_out]

    adapt(policy, config)
    shard(policy.model, world)

    def job(folder: Path, resume: bool) -> None:
        learner = SupervisedLearner(
            policy=policy,
            demonstrations=train,
            batch_size=config.batch_size,
            optimizer=config.optimizer,
            steps=config.steps,
            micro_batch_tokens=config.micro_batch_tokens,
            seed=config.seed,
            measure=lambda step: measure(policy, ids, examples, config.micro_batch_tokens),
            world=world,
        )
        last = fit(learner, make_plan(config, folder), resume=resume, world=world)
        if world.is_main:
            announce("policy", folder, result(last))

    return job


def result(last: Metrics) -> str | None:
    """What the last evaluation found, in a line; `None` where there was none."""
    if "eval/loss" not in last:
        return None
    return (
        f"held-out loss {show(last, 'eval/loss')}, perplexity "
        f"{show(last, 'eval/perplexity')} ({last['eval/problems']:.0f} problems)"
    )


def load_sides(config: SupervisedConfig) -> tuple[list[Demonstration], list[Demonstration]]:
    """The demonstrations to train on, and those held out.

    Raises:
        UserError: they cannot be read or split, or an environment has no worked solutions.
    """
    if config.data is not None:
        rows = load_demonstrations(config.data, config.split, config.completion_column)
        return split_held_out(rows, config.held_out)
    component = config.environment
    assert component is not None
    if config.held_out is not None:
        if config.held_out.count is None:
            raise ConfigError(
                "held_out.fraction is for data; what is held out of an environment is tasks of its "
                "test split: give held_out.count"
            )
        if component.options.get("split", "test") == "test":
            raise ConfigError(
                "environment.split: the test split is held out: give another one to train on, "
                "such as environment.split=train, or held_out: null"
            )
    train = [worked_solution(task) for task in load_component(component).tasks]
    if config.held_out is None:
        return train, []
    test = load_component(Component(name=component.name, **{**component.options, "split": "test"}))
    tasks = zip(range(config.held_out.count or 0), test.tasks, strict=False)
    return train, [worked_solution(task) for _, task in tasks]


def measure(
    policy: Policy, ids: Sequence[str], examples: Sequence[Example], max_tokens: int
) -> Metrics:
    """Loss a token and perplexity on held-out demonstrations, with 95% intervals over problems.

    The loss is a ratio R of sums over problems, of losses L and of token counts n. Its interval is
    Student's on `R + (L - R n) / mean(n)`, whose mean is R (the delta method for a ratio; Cochran,
    Sampling Techniques, 3rd ed., section 6.4).
    """
    batch = Batch.pack(examples)
    losses = [0.0] * len(examples)
    with torch.no_grad():
        for sequences in batch.parts(max_tokens):
            scores = score_tokens(policy.model, batch.select(sequences), entropy="none")
            sums = sequence_sums(
                cross_entropy(scores.logprobs), scores.sequence_ids, len(sequences)
            )
            for sequence, value in zip(sequences, sums.tolist(), strict=True):
                losses[sequence] = value
    rows = [(loss, float(len(e.completion_ids))) for loss, e in zip(losses, examples, strict=True)]
    problems = list(by_problem(ids, rows).values())
    tokens = sum(count for _, count in problems)
    ratio = sum(loss for loss, _ in problems) / tokens
    mean_tokens = tokens / len(problems)
    low, high = student_interval([ratio + (ls - ratio * n) / mean_tokens for ls, n in problems])
    perplexity = (_exp(low), _exp(high))
    return {
        "eval/problems": float(len(problems)),
        "eval/tokens": tokens,
        **with_interval("eval/loss", ratio, (low, high)),
        **with_interval("eval/perplexity", _exp(ratio), perplexity),
    }


def _exp(value: float) -> float:
    return math.exp(value) if value < 700.0 else math.inf
