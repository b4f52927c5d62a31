"""From tasks to graded groups: sample, verify, group, and refill until a batch is full.

Knows samplers and verification by their protocols only. Where a round is made in several parts, one
is verified in a thread while the next is generated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from rlvr.background import Background, wait_for
from rlvr.protocols import Sampler
from rlvr.seeds import derive_seed
from rlvr.types import Completion, Rollout, RolloutGroup, SamplingParams, Task, Verdict

Verify = Callable[[list[tuple[Task, Completion]]], list[Verdict]]


@dataclass(frozen=True, kw_only=True)
class RoundSettings:
    """How a round of rollouts is made.

    Attributes:
        group_size: completions a task.
        params: how to sample.
        seed: of the round; every completion's seed is derived from it.
        policy_version: of the weights that sample.
        parts: a round is generated in that many parts, each verified while the next is generated.
    """

    group_size: int
    params: SamplingParams
    seed: int
    policy_version: int = 0
    parts: int = 1


def roll_out(
    tasks: Sequence[Task], sampler: Sampler, verify: Verify, settings: RoundSettings
) -> list[RolloutGroup]:
    """Sample and grade `group_size` completions of each task; groups come in the tasks' order."""
    if settings.parts == 1:
        return _grade(_generate(tasks, 0, sampler, settings), verify, settings)
    size = -(-len(tasks) // settings.parts)
    pending: list[Future[list[RolloutGroup]]] = []
    with Background("verify") as verifying:
        for start in range(0, len(tasks), size):
            part = _generate(tasks[start : start + size], start, sampler, settings)
            pending.append(verifying.submit(partial(_grade, part, verify, settings)))
        return [group for future in pending for group in wait_for(future)]


_Part = tuple[list[Task], list[Completion], list[int]]


def _generate(
    tasks: Sequence[Task], start: int, sampler: Sampler, settings: RoundSettings
) -> _Part:
    """Tasks, completions and seeds of a part of a round, whose first task is number `start`."""
    repeated = [task for task in tasks for _ in range(settings.group_size)]
    seeds = [
        derive_seed(settings.seed, start + i, j)
        for i in range(len(tasks))
        for j in range(settings.group_size)
    ]
    prompts = [task.prompt for task in repeated]
    return repeated, sampler.sample(prompts, settings.params, seeds=seeds), seeds


def _grade(part: _Part, verify: Verify, settings: RoundSettings) -> list[RolloutGroup]:
    tasks, completions, seeds = part
    verdicts = verify(list(zip(tasks, completions, strict=True)))
    rollouts = [
        Rollout(
            task=task,
            completion=completion,
            verdict=verdict,
            policy_version=settings.policy_version,
            seed=seed,
        )
        for task, completion, verdict, seed in zip(tasks, completions, verdicts, seeds, strict=True)
    ]
    size = settings.group_size
    return [
        RolloutGroup(task=rollouts[i].task, rollouts=tuple(rollouts[i : i + size]))
        for i in range(0, len(rollouts), size)
    ]


def is_informative(group: RolloutGroup) -> bool:
    """Whether the graded rewards of a group differ, so that it has a gradient (DAPO, eq. 11)."""
    rewards = [rollout.reward for rollout in group.graded if rollout.reward is not None]
    return len(rewards) > 1 and max(rewards) - min(rewards) > 1e-9


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The groups of a step, and what it took to get them.

    Attributes:
        groups: those that train.
        sampled: every group that was sampled, those left out too.
        rounds: how many rounds of sampling.
    """

    groups: list[RolloutGroup]
    sampled: list[RolloutGroup]
    rounds: int


def collect(
    wanted: int,
    next_round: Callable[[int, int], list[RolloutGroup]],
    *,
    keep: Callable[[RolloutGroup], bool],
    max_rounds: int,
) -> Collected:
    """Sample rounds until `wanted` groups pass `keep`, or the bound is reached (DAPO, section 3.2).

    Args:
        wanted: groups that a full batch has.
        next_round: `next_round(i, n)` samples `n` tasks in round `i` (the first is 0). A refill
            asks for as many as the pass rate so far says are needed.
        keep: which groups train.
        max_rounds: at the bound, what there is has to do: the batch is smaller, or empty.
    """
    kept: list[RolloutGroup] = []
    sampled: list[RolloutGroup] = []
    rounds = 0
    while len(kept) < wanted and rounds < max_rounds:
        missing = wanted - len(kept)
        rate = max(0.1, len(kept) / len(sampled)) if sampled else 1.0
        groups = next_round(rounds, min(wanted, math.ceil(missing / rate)))
        sampled.extend(groups)
        kept.extend(group for group in groups if keep(group))
        rounds += 1
    return Collected(groups=kept[:wanted], sampled=sampled, rounds=rounds)
