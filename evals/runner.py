"""Evaluate a sampler on an environment, or grade saved completions. Resumes.

The tasks are cut into parts, always at the same places. A part is sampled, then graded in a thread
while the next one is sampled, then written whole. A call on the same folder goes on after the parts
that are there, so a kill (or Ctrl-C, which waits for neither) loses the part that was being sampled
and the one that was being graded, at most. Seeds depend on (seed, task id, sample index) alone: a
resumed evaluation samples what an uninterrupted one does.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rlvr.background import Background, wait_for
from rlvr.errors import ConfigError, DataError
from rlvr.evals.completions import SavedCompletions
from rlvr.evals.identity import describe_verifier, tasks_digest, versions
from rlvr.evals.store import EvaluationFolder
from rlvr.evals.summary import Summary, check_ks, summarise
from rlvr.progress import Progress
from rlvr.protocols import Environment, Sampler, Verifier
from rlvr.seeds import derive_seed
from rlvr.types import Completion, Rollout, SamplingParams, Task
from rlvr.verifiers.pool import verify_many

SAMPLES_A_PART = 512


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One completion that is wanted."""

    task: Task
    index: int
    seed: int = 0


Complete = Callable[[Sequence[_Item]], list[Completion]]


def evaluate(
    environment: Environment,
    sampler: Sampler,
    *,
    n: int = 1,
    ks: Sequence[int] = (1,),
    output: str | Path,
    params: SamplingParams | None = None,
    limit: int | None = None,
    workers: int = 8,
    timeout: float = 10.0,
    seed: int = 0,
    policy_version: int = 0,
    config: Mapping[str, Any] | None = None,
    samples_a_part: int = SAMPLES_A_PART,
) -> Summary:
    """Sample `n` completions of every task, grade them, and measure. Resumes what `output` holds.

    Args:
        environment: tasks and their verifier.
        sampler: generates the completions.
        n: completions a task.
        ks: for pass@k and its relatives; none above `n`.
        output: the folder for `rollouts.parquet` and `summary.json`.
        params: how to sample; the defaults of `SamplingParams` where not given.
        limit: the first so many tasks; all where not given.
        workers: verifier processes.
        timeout: seconds that a verdict may take.
        seed: what every completion's seed is derived from.
        policy_version: of the sampler's weights, recorded with every rollout.
        config: what else decides the rollouts (the model, options of the environment), as plain
            JSON values: recorded, and compared on resuming.
        samples_a_part: completions that are sampled at once and kept together.

    Raises:
        UserError: an option is wrong, or `output` cannot be written to or holds something else.
        SamplerError: the sampler failed; what was finished is kept.
    """
    if n < 1:
        raise ConfigError(f"n is {n}: expected at least 1")
    check_k(ks, n, f"n is {n}")
    params = params or SamplingParams()
    tasks = choose_tasks(environment, limit)
    items = [
        [_Item(task=task, index=i, seed=derive_seed(seed, task.id, i)) for i in range(n)]
        for task in tasks
    ]

    def complete(wanted: Sequence[_Item]) -> list[Completion]:
        prompts = [item.task.prompt for item in wanted]
        return sampler.sample(prompts, params, seeds=[item.seed for item in wanted])

    identity = {
        "environment": environment.name,
        "sampler": sampler.name,
        "n": n,
        "seed": seed,
        "policy_version": policy_version,
        "sampling": dataclasses.asdict(params) | {"stop": list(params.stop)},
        "samples_a_part": samples_a_part,
        **(config or {}),
    }
    work = _Work(
        environment=environment,
        items=items,
        complete=complete,
        identity=identity,
        samples_a_part=samples_a_part,
        policy_version=policy_version,
    )
    return work.run(Path(output), ks, workers=workers, timeout=timeout)


def grade(
    environment: Environment,
    completions: SavedCompletions,
    *,
    ks: Sequence[int] = (1,),
    output: str | Path,
    n: int | None = None,
    limit: int | None = None,
    partial: bool = False,
    workers: int = 8,
    timeout: float = 10.0,
    config: Mapping[str, Any] | None = None,
) -> Summary:
    """Grade saved completions and measure. Resumes what `output` holds.

    Args:
        environment: tasks and their verifier.
        completions: what to grade.
        ks: for pass@k and its relatives; none above the samples that tasks have.
        output: the folder for `rollouts.parquet` and `summary.json`.
        n: the first so many completions of each task, which must have that many; all that there
            are where not given.
        limit: the first so many tasks; all where not given.
        partial: leave out tasks without completions, with a note, rather than refuse.
        workers: verifier processes.
        timeout: seconds that a verdict may take.
        config: what else decides the verdicts, as plain JSON values.

    Raises:
        UserError: an option is wrong, completions do not fit the tasks, or `output` cannot be
            written to or holds something else.
    """
    every_task = choose_tasks(environment, None)
    completions.check_ids({task.id: None for task in every_task}, environment.name)
    _check_limit(limit)
    wanted = every_task if limit is None else every_task[:limit]
    tasks = completions.choose(wanted, n=n, partial=partial)
    counts = [n or len(completions.by_task[task.id]) for task in tasks]
    check_k(ks, max(counts), f"no task has more than {max(counts)} completions")
    items = [
        [_Item(task=task, index=i) for i in range(count)]
        for task, count in zip(tasks, counts, strict=True)
    ]

    def complete(wanted: Sequence[_Item]) -> list[Completion]:
        return [completions.by_task[item.task.id][item.index] for item in wanted]

    notes = []
    if len(tasks) < len(wanted):
        notes.append(
            f"{len(wanted) - len(tasks)} of {len(wanted)} tasks have no completion and are left "
            "out: the numbers are for the others"
        )
    work = _Work(
        environment=environment,
        items=items,
        complete=complete,
        identity={"environment": environment.name, "n": n, **(config or {})},
        samples_a_part=SAMPLES_A_PART,
        notes=notes,
    )
    return work.run(Path(output), ks, workers=workers, timeout=timeout)


def choose_tasks(environment: Environment, limit: int | None) -> list[Task]:
    """The first `limit` tasks, or all of them.

    Raises:
        DataError: there are none, or two have the same id.
        ConfigError: `limit` is below 1.
    """
    _check_limit(limit)
    tasks = list(islice(environment.tasks, limit))
    if not tasks:
        raise DataError(f"environment {environment.name!r} has no tasks: its data is empty")
    task_id, count = Counter(task.id for task in tasks).most_common(1)[0]
    if count > 1:
        raise DataError(
            f"environment {environment.name!r} has {count} tasks with the id {task_id!r}: "
            "their samples could not be told apart"
        )
    return tasks


@dataclass(frozen=True, kw_only=True)
class _Work:
    """An evaluation, ready to run.

    Attributes:
        environment: its verifier grades.
        items: the completions wanted of each task.
        complete: gets completions, in order.
        identity: what decides the rollouts.
        samples_a_part: about how many completions a part has.
        policy_version: recorded with every rollout.
        notes: for the summary.
    """

    environment: Environment
    items: list[list[_Item]]
    complete: Complete
    identity: Mapping[str, Any]
    samples_a_part: int
    policy_version: int = 0
    notes: Sequence[str] = ()

    def run(self, output: Path, ks: Sequence[int], *, workers: int, timeout: float) -> Summary:
        """Do what is not done yet, and measure."""
        tasks = [items[0].task for items in self.items]
        identity = {
            **self.identity,
            "tasks": len(tasks),
            "tasks_sha256": tasks_digest(tasks),
            "verifier": describe_verifier(self.environment.verifier),
            "timeout": timeout,
        }
        parts = _cut(self.items, self.samples_a_part)
        with EvaluationFolder(output, identity, len(parts)) as folder:
            if not folder.is_merged:
                self._finish(folder, parts, workers, timeout)
                folder.merge()
            summary = summarise(
                folder.rollouts(),
                ks,
                environment=self.environment.name,
                config=identity,
                versions=versions(),
                notes=self.notes,
            )
            folder.write_summary(summary)
        return summary

    def _finish(
        self, folder: EvaluationFolder, parts: list[list[_Item]], workers: int, timeout: float
    ) -> None:
        """Sample the parts that are missing, each graded while the next one is sampled."""
        pending: Future[None] | None = None
        name = f"evaluate {self.environment.name}"
        with Progress(name, sum(map(len, parts))) as progress, Background("grade") as grading:
            try:
                for index, items in enumerate(parts):
                    if folder.has_part(index):
                        progress.advance(len(items))
                        continue
                    completions = self.complete(items)
                    if pending is not None:
                        wait_for(pending)
                    pending = grading.submit(
                        partial(
                            self._grade, folder, index, items, completions, workers, timeout,
                            progress,
                        )
                    )  # fmt: skip
            except Exception:  # Ctrl-C is none: it does not wait
                if pending is not None:
                    wait([pending])  # what was sampled before the failure is kept
                raise
            if pending is not None:
                wait_for(pending)

    def _grade(
        self,
        folder: EvaluationFolder,
        index: int,
        items: list[_Item],
        completions: list[Completion],
        workers: int,
        timeout: float,
        progress: Progress,
    ) -> None:
        tasks = [item.task for item in items]
        verifier: Verifier = self.environment.verifier
        verdicts = verify_many(
            verifier,
            zip(tasks, completions, strict=True),
            workers=workers,
            timeout=timeout,
            on_done=lambda *_: progress.advance(),
        )
        rollouts = [
            Rollout(
                task=item.task,
                completion=completion,
                verdict=verdict,
                policy_version=self.policy_version,
                seed=item.seed,
            )
            for item, completion, verdict in zip(items, completions, verdicts, strict=True)
        ]
        folder.write_part(index, rollouts)


def _cut(items: list[list[_Item]], samples: int) -> list[list[_Item]]:
    """Parts of whole tasks, each of about `samples` completions (one task at least)."""
    parts: list[list[_Item]] = [[]]
    for of_task in items:
        if parts[-1] and len(parts[-1]) + len(of_task) > samples:
            parts.append([])
        parts[-1].extend(of_task)
    return parts


def check_k(ks: Sequence[int], most: int, why: str) -> None:
    """Refuse a `k` above the completions that a task has.

    Raises:
        ConfigError: with `why` as its end.
    """
    largest = max(check_ks(ks))
    if largest > most:
        raise ConfigError(f"k={largest} needs at least {largest} completions a task, and {why}")


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}: expected at least 1")
