"""The numbers of an evaluation: metrics with intervals over tasks, outcomes, verifier errors.

Samples without a reward (the verifier failed) are left out of every metric and counted apart; a
task left with fewer than `k` graded samples is left out of the metrics of `k`, and a note says so.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlvr.errors import ConfigError, DataError
from rlvr.evals.intervals import mean_interval
from rlvr.evals.metrics import (
    average_at_k,
    best_at_k,
    majority_at_k,
    pass_at_k,
    pass_hat_k,
)
from rlvr.types import FinishReason, Outcome, Rollout


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over tasks with its 95% interval.

    Attributes:
        value: the mean; NaN where no task counts.
        low: low end of the interval.
        high: high end of the interval.
        tasks: how many tasks count: those with enough graded samples.
    """

    value: float
    low: float
    high: float
    tasks: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Estimate:
        """From one value for each task; NaN stands for a task that does not count."""
        counted = [value for value in values if not math.isnan(value)]
        mean = math.fsum(counted) / len(counted) if counted else math.nan
        low, high = mean_interval(counted)
        return cls(value=mean, low=low, high=high, tasks=len(counted))

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(kw_only=True)
class TaskScores:
    """The samples of one task, as far as metrics look at them.

    Attributes:
        task_id: of the task.
        rewards: of the graded samples.
        correct: whether each graded sample counts as solved.
        answers: what was extracted from each graded sample.
        errors: samples that the verifier could not grade.
    """

    task_id: str
    rewards: list[float] = field(default_factory=list)
    correct: list[bool] = field(default_factory=list)
    answers: list[str | None] = field(default_factory=list)
    errors: int = 0

    @property
    def graded(self) -> int:
        """How many samples have a reward."""
        return len(self.rewards)

    def metric(self, name: str) -> float:
        """The value of `"pass@4"`, `"pass^4"`, `"avg@4"`, `"best@4"` or `"maj@4"` for this task."""
        kind, k = split_name(name)
        if kind == "pass@":
            return pass_at_k(self.graded, sum(self.correct), k)
        if kind == "pass^":
            return pass_hat_k(self.graded, sum(self.correct), k)
        if kind == "avg@":
            return average_at_k(self.rewards, k)
        if kind == "best@":
            return best_at_k(self.rewards, k)
        return majority_at_k(self.answers, self.correct, k)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What `summary.json` holds.

    Attributes:
        environment: its name.
        tasks: how many tasks were evaluated.
        samples: how many completions, those that could not be graded included.
        metrics: by name, such as `pass@1`.
        outcomes: how many completions had which outcome; all that occurred.
        verifier_errors: completions that the verifier could not grade.
        lengths: of the completions: `mean_tokens` and `max_tokens`, where token ids are known, and
            `truncated`, the share that ran into the token limit.
        notes: what a reader has to know to read the numbers right.
        config: what was asked for.
        versions: of the software.
    """

    environment: str
    tasks: int
    samples: int
    metrics: Mapping[str, Estimate]
    outcomes: Mapping[str, int]
    verifier_errors: int
    lengths: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; NaN where there is no value."""
        return {
            "environment": self.environment,
            "tasks": self.tasks,
            "samples": self.samples,
            "metrics": {
                name: {"value": e.value, "low": e.low, "high": e.high, "tasks": e.tasks}
                for name, e in self.metrics.items()
            },
            "outcomes": dict(self.outcomes),
            "verifier_errors": self.verifier_errors,
            "lengths": dict(self.lengths),
            "notes": list(self.notes),
            "config": dict(self.config),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Summary:
        """The inverse of `to_dict`, `null` read as NaN."""
        metrics = {}
        for name, item in row["metrics"].items():
            ends = {key: _number(item[key]) for key in ("value", "low", "high")}
            metrics[name] = Estimate(**ends, tasks=item.get("tasks", row["tasks"]))
        known = cls.__dataclass_fields__
        return cls(**{k: v for k, v in row.items() if k in known} | {"metrics": metrics})

    @classmethod
    def read(cls, path: Path) -> Summary:
        """Read a `summary.json`.

        Raises:
            DataError: it is missing, or no summary.
        """
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is no summary of an evaluation: {error!r}") from error


def summarise(
    rollouts: Iterable[Rollout],
    ks: Sequence[int] = (1,),
    *,
    environment: str = "",
    config: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Summary:
    """Measure an evaluation. Reads the rollouts once; they may be streamed.

    `pass@k` and `pass^k` for every `k`; `maj@k` for `k > 1` where the verifier says what the
    answers are; `avg@n` with `n` the most samples that a task has; `best@k` where some rewards are
    neither 0 nor 1.

    Raises:
        ConfigError: a `k` is below 1.
    """
    ks = check_ks(ks)
    table = TaskTable()
    for rollout in rollouts:
        table.add(rollout)
    tasks = list(table.scores.values())
    names = metric_names(tasks, ks)
    metrics = {name: Estimate.of([task.metric(name) for task in tasks]) for name in names}
    return Summary(
        environment=environment,
        tasks=len(tasks),
        samples=table.samples,
        metrics=metrics,
        outcomes=table.outcomes,
        verifier_errors=sum(task.errors for task in tasks),
        lengths=table.lengths,
        notes=[*notes, *_notes(tasks, ks, metrics)],
        config=config or {},
        versions=versions or {},
    )


def metric_names(tasks: Sequence[TaskScores], ks: Sequence[int]) -> list[str]:
    """The metrics that mean something for these tasks."""
    most = max((task.graded + task.errors for task in tasks), default=0)
    rewards = {reward for task in tasks for reward in task.rewards}
    names = [f"pass@{k}" for k in ks] + [f"pass^{k}" for k in ks if k > 1]
    if most:
        names.append(f"avg@{most}")
    if any(answer is not None for task in tasks for answer in task.answers):
        names += [f"maj@{k}" for k in ks if k > 1]
    if rewards - {0.0, 1.0}:
        names += [f"best@{k}" for k in ks if k > 1]
    return names


def split_name(name: str) -> tuple[str, int]:
    """`"pass@4"` as `("pass@", 4)`.

    Raises:
        ConfigError: there is no such metric.
    """
    for kind in ("pass@", "pass^", "avg@", "maj@", "best@"):
        digits = name.removeprefix(kind)
        if digits != name and digits.isdecimal() and int(digits) > 0:
            return kind, int(digits)
    raise ConfigError(
        f"unknown metric {name!r}: expected pass@K, pass^K, avg@K, maj@K or best@K, K from 1"
    )


def check_ks(ks: Sequence[int]) -> list[int]:
    """`ks` sorted, each once.

    Raises:
        ConfigError: there is none, or one is below 1.
    """
    bad = [k for k in ks if k < 1]
    if bad or not ks:
        raise ConfigError(f"k is {bad[0] if bad else 'not given'}: expected whole numbers from 1")
    return sorted(set(ks))


class TaskTable:
    """Rollouts added one by one, kept as what metrics need of them."""

    def __init__(self) -> None:
        self.scores: dict[str, TaskScores] = {}
        self._outcomes: Counter[Outcome] = Counter()
        self._tokens = self._longest = self._cut = 0
        self._tokens_known = True

    def add(self, rollout: Rollout) -> None:
        """Count one more rollout."""
        completion, verdict = rollout.completion, rollout.verdict
        self._outcomes[verdict.outcome] += 1
        self._tokens_known &= bool(completion.token_ids) or not completion.text
        self._tokens += len(completion.token_ids)
        self._longest = max(self._longest, len(completion.token_ids))
        self._cut += completion.finish_reason is FinishReason.LENGTH
        task = self.scores.setdefault(rollout.task.id, TaskScores(task_id=rollout.task.id))
        if verdict.reward is None:
            task.errors += 1
            return
        task.rewards.append(verdict.reward)
        task.correct.append(verdict.is_correct)
        task.answers.append(verdict.extracted)

    @property
    def samples(self) -> int:
        """How many rollouts were added."""
        return self._outcomes.total()

    @property
    def outcomes(self) -> dict[str, int]:
        """How many had which outcome, in the order of `Outcome`."""
        return {item.value: self._outcomes[item] for item in Outcome if self._outcomes[item]}

    @property
    def lengths(self) -> dict[str, float]:
        """`Summary.lengths`."""
        if not self.samples:
            return {}
        found: dict[str, float] = {"truncated": self._cut / self.samples}
        if self._tokens_known:
            found |= {"mean_tokens": self._tokens / self.samples, "max_tokens": self._longest}
        return found


def _notes(
    tasks: Sequence[TaskScores], ks: Sequence[int], metrics: Mapping[str, Estimate]
) -> list[str]:
    notes = []
    errors = sum(task.errors for task in tasks)
    if errors:
        touched = sum(task.errors > 0 for task in tasks)
        samples = sum(task.graded + task.errors for task in tasks)
        notes.append(
            f"the verifier could not grade {errors} of {samples} completions ({touched} tasks): "
            "they are left out of every metric"
        )
    for k in ks:
        short = sum(task.graded < k for task in tasks)
        if short:
            notes.append(
                f"the metrics of k={k} are over {len(tasks) - short} of {len(tasks)} tasks: "
                f"{short} have fewer than {k} graded completions"
            )
        voted = metrics.get(f"maj@{k}")
        if voted is not None and voted.tasks < metrics[f"pass@{k}"].tasks:
            notes.append(
                f"maj@{k} is over {voted.tasks} of {len(tasks)} tasks: in the others the verifier "
                "did not say which answer it found in a correct completion"
            )
    return notes


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
