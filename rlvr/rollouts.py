"""From tasks to graded groups: sample, verify, group, and refill until a batch is full.

Knows samplers and verification by their protocols only. Where a round is made in several parts, one
is verified in a thread while the next is generated.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Sequence
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
        greedy: sample one greedy completion of each task besides.
    """

    group_size: int
    params: SamplingParams
    seed: int
    policy_version: int = 0
    parts: int = 1
    greedy: bool = False


def roll_out(
    tasks: Sequence[Task],
    sampler: Sampler,
    verify: Verify,
    settings: RoundSettings,
    *,
    first: int = 0,
) -> list[RolloutGroup]:
    """Sample and grade `group_size` completions of each task; groups come in the tasks' order.

    Args:
        tasks: those of the round, or neighbours among them (the share of a process).
        sampler: generates.
        verify: grades.
        settings: of the round.
        first: where the first of `tasks` stands in the round, which its seeds depend on.
    """
    if not tasks:
        return []
    if settings.parts == 1:
        return _grade(tasks, _sample(tasks, first, sampler, settings), verify, settings)
    size = -(-len(tasks) // settings.parts)
    pending: list[Future[list[RolloutGroup]]] = []
    with Background("verify") as verifying:
        for start in range(0, len(tasks), size):
            part = tasks[start : start + size]
            sampled = _sample(part, first + start, sampler, settings)
            pending.append(verifying.submit(partial(_grade, part, sampled, verify, settings)))
        return [group for future in pending for group in wait_for(future)]


@dataclass(frozen=True)
class _Sampled:
    """Completions with the task and the seed of each: group by group, then the greedy ones."""

    tasks: list[Task]
    completions: list[Completion]
    seeds: list[int]


def _sample(
    tasks: Sequence[Task], start: int, sampler: Sampler, settings: RoundSettings
) -> _Sampled:
    """Sample part of a round, whose first task is number `start` of the round."""
    repeated = [task for task in tasks for _ in range(settings.group_size)]
    seeds = [
        derive_seed(settings.seed, start + i, j)
        for i in range(len(tasks))
        for j in range(settings.group_size)
    ]
    completions = sampler.sample([task.prompt for task in repeated], settings.params, seeds=seeds)
    if settings.greedy:
        greedy = dataclasses.replace(settings.params, temperature=0.0)
        zeros = [0] * len(tasks)
        prompts = [task.prompt for task in tasks]
        completions = [*completions, *sampler.sample(prompts, greedy, seeds=zeros)]
        repeated, seeds = [*repeated, *tasks], [*seeds, *zeros]
    return _Sampled(repeated, completions, seeds)


def _grade(
    tasks: Sequence[Task], sampled: _Sampled, verify: Verify, settings: RoundSettings
) -> list[RolloutGroup]:
    verdicts = verify(list(zip(sampled.tasks, sampled.completions, strict=True)))
    rollouts = [
        Rollout(
            task=task,
            completion=completion,
            verdict=verdict,
            policy_version=settings.policy_version,
            seed=seed,
        )
        for task, completion, verdict, seed in zip(
            sampled.tasks, sampled.completions, verdicts, sampled.seeds, strict=True
        )
    ]
    size, greedy = settings.group_size, rollouts[len(tasks) * settings.group_size :]
    return [
        RolloutGroup(
            task=task,
            rollouts=tuple(rollouts[i * size : (i + 1) * size]),
            greedy=greedy[i] if greedy else None,
        )
        for i, task in enumerate(tasks)
    ]


def is_informative(group: RolloutGroup, parts: Collection[str] = ()) -> bool:
    """Whether the graded rewards of a group differ, so that it has a gradient (DAPO, eq. 11).

    Args:
        group: a greedy rollout in it counts as one of the others.
        parts: what the reward is made from, where that is not the verdict's own: names of its
            metrics, or `reward` for its own; one that differs is enough, or one that is missing:
            what packs the group has something to say about that.
    """
    graded = [*group.graded, *([group.greedy] if group.greedy is not None else [])]
    graded = [rollout for rollout in graded if rollout.reward is not None]
    columns = [[_part(rollout, name) for rollout in graded] for name in parts or ("reward",)]
    return any(
        len(values) > 1 and not max(values) - min(values) <= 1e-9  # NaN: missing
        for values in columns
    )


def _part(rollout: Rollout, name: str) -> float:
    """A part of a reward; NaN where the verdict has none of that name."""
    own = rollout.reward if name == "reward" and rollout.reward is not None else math.nan
    return rollout.verdict.metrics.get(name, own)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The groups of a step, and what it took to get them.

    Attributes:
        groups: those that train.
        sampled: every group that was sampled, those left out too.
        rounds: how many rounds of sampling.
        wanted: groups that a full batch has.
        metrics: what the source of tasks has to say of itself, for the log.
    """

    groups: list[RolloutGroup]
    sampled: list[RolloutGroup]
    rounds: int
    wanted: int
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Whether the batch was filled before the bound on rounds was reached."""
        return len(self.groups) >= self.wanted


def collect(
    wanted: int,
    next_round: Callable[[int, int], list[RolloutGroup]],
    *,
    keep: Callable[[RolloutGroup], bool],
    max_rounds: int,
    oversampling: float = 1.0,
) -> Collected:
    """Sample rounds until `wanted` groups pass `keep`, or the bound is reached (DAPO, section 3.2).

    Args:
        wanted: groups that a full batch has.
        next_round: `next_round(i, n)` samples `n` tasks in round `i` (the first is 0). A refill
            asks for as many as the pass rate so far says are needed.
        keep: which groups train.
        max_rounds: at the bound, the batch is smaller, or empty; what becomes of it is the
            caller's choice.
        oversampling: every round asks for that many times what is missing, at least 1: fewer
            rounds, for groups that the batch may have no room for.
    """
    kept: list[RolloutGroup] = []
    sampled: list[RolloutGroup] = []
    rounds = 0
    most = math.ceil(wanted * oversampling)
    while len(kept) < wanted and rounds < max_rounds:
        missing = wanted - len(kept)
        rate = max(0.1, len(kept) / len(sampled)) if sampled else 1.0
        groups = next_round(rounds, min(most, math.ceil(missing / rate * oversampling)))
        sampled.extend(groups)
        kept.extend(group for group in groups if keep(group))
        rounds += 1
    return Collected(groups=kept[:wanted], sampled=sampled, rounds=rounds, wanted=wanted)
