"""Alarms: what a person who watched the curves would stop the run for, said once, with its cause.

Each check is a pure function of the history of the metrics up to a step, so that a resumed run
raises what a run that was never stopped raises, at the same step. `docs/training.md` holds the
thresholds; the constants here are what counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rlvr.evals.text import number

WINDOW = 5
"""Steps whose mean is looked at, so that one odd batch raises nothing."""
ENTROPY_SHARE = 0.35
"""Where a policy learns, entropy falls about as the share of wrong answers does: in 16 of 17 runs
of three tasks, never below 0.52 times that. The 17th, which stopped learning, came to 0.30."""
SOLVED = 0.9
"""A mean reward from which equal rewards are what success looks like."""
ZERO_SIGNAL_SHARE = 0.8
LENGTH_FACTOR = 2.0
SAMPLER_GAP = 0.05
"""Nats a token. bfloat16 and other kernels come to 0.01 to 0.02; float32 to 1e-6."""
TRUNCATED_SHARE = 0.3
ERROR_SHARE = 0.05
ERROR_SHARE_AT_ONCE = 0.5


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """What was seen, at which step, why that usually is, and what to do."""

    name: str
    step: int
    seen: str
    cause: str
    remedy: str

    def text(self) -> str:
        """The lines that are printed."""
        return (
            f"ALARM at step {self.step}: {self.name.replace('_', ' ')}: {self.seen}\n"
            f"  likely cause: {self.cause}\n  what to do: {self.remedy}"
        )

    def row(self) -> dict[str, Any]:
        """The row of `alarms.jsonl`."""
        return asdict(self)


class History:
    """The metrics of a run so far, by name. A number that is not finite is kept as NaN."""

    def __init__(self) -> None:
        self._series: dict[str, list[tuple[int, float]]] = {}

    def add(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Add what a step logged; `null` (of a metrics file) is read as NaN."""
        for name, value in metrics.items():
            if name != "step":
                value = math.nan if value is None or not math.isfinite(value) else float(value)
                self._series.setdefault(name, []).append((step, value))

    def series(self, name: str) -> list[tuple[int, float]]:
        """(step, value) pairs, in order."""
        return self._series.get(name, [])

    def first(self, name: str) -> float | None:
        """Mean of the first `WINDOW` values, where there are so many and all are numbers."""
        return _mean(value for _, value in self.series(name)[:WINDOW])

    def last(self, name: str) -> float | None:
        """Mean of the last `WINDOW` values, where there are so many and all are numbers."""
        return _mean(value for _, value in self.series(name)[-WINDOW:])

    def now(self, name: str) -> float | None:
        """The newest value."""
        values = self.series(name)
        return values[-1][1] if values else None


def entropy_collapse(history: History) -> str | None:
    """Entropy has fallen much further than the share of wrong answers."""
    before, now = history.first("entropy"), history.last("entropy")
    then, right = history.first("outcome/correct"), history.last("outcome/correct")
    if before is None or now is None or then is None or right is None or before <= 0:
        return None
    if now / before < ENTROPY_SHARE * (1.0 - right) / max(1e-9, 1.0 - then):
        return (
            f"entropy {number(now)} nats a token, {number(before)} in the first steps; "
            f"{right:.0%} of the answers right, {then:.0%} then"
        )
    return None


def zero_signal(history: History) -> str | None:
    """Nearly every group has equal rewards: most of the sampling teaches nothing."""
    share, reward = history.last("groups/zero_signal"), history.last("reward/mean")
    if share is None or share < ZERO_SIGNAL_SHARE or (reward is not None and reward >= SOLVED):
        return None
    right, wrong = history.last("groups/all_right") or 0.0, history.last("groups/all_wrong") or 0.0
    return (
        f"{share:.0%} of the groups have equal rewards ({right:.0%} all right, {wrong:.0%} all "
        "wrong)"
    )


def held_out_falls(history: History) -> str | None:
    """The training reward has risen since the best evaluation, and the evaluation has fallen.

    Fallen means that the two intervals do not touch. Of the best one: the reward of the steps
    before it, or of the run's first steps.
    """
    values = history.series("eval/pass@1")
    if len(values) < 2 or any(map(math.isnan, (value for _, value in values))):
        return None
    best = max(range(len(values)), key=lambda i: (values[i][1], -i))
    (then, high), (now, low) = values[best], values[-1]
    lower, upper = history.series("eval/pass@1/low"), history.series("eval/pass@1/high")
    if len(lower) != len(values) or len(upper) != len(values) or lower[best][1] <= upper[-1][1]:
        return None
    rewards = history.series("reward/mean")
    before = _mean(value for step, value in rewards if then - WINDOW < step <= then)
    before = history.first("reward/mean") if before is None else before
    after = history.last("reward/mean")
    if before is None or after is None or after <= before:
        return None
    return (
        f"held-out pass@1 {number(high)} at step {then}, {number(low)} at step {now}; training "
        f"reward {number(before)} then, {number(after)} now"
    )


def length_blow_up(history: History) -> str | None:
    """Completions have doubled in length, and the reward has not risen for it."""
    before, now = history.first("length/mean"), history.last("length/mean")
    then, reward = history.first("reward/mean"), history.last("reward/mean")
    if before is None or now is None or then is None or reward is None:
        return None
    if now >= LENGTH_FACTOR * before and reward <= then:
        return (
            f"mean length {number(now)} tokens, {number(before)} in the first steps; reward "
            f"{number(then)} then, {number(reward)} now"
        )
    return None


def sampler_mismatch(history: History) -> str | None:
    """Sampler and trainer give one token different probabilities."""
    for name in ("sampler_gap/mean", "sampler_gap/after_sync"):
        gap = history.last(name)
        if gap is not None and gap > SAMPLER_GAP:
            return f"their logprobs differ by {number(gap)} nats a token ({name})"
    return None


def truncation(history: History) -> str | None:
    """Many completions are cut at the token limit."""
    share = history.last("length/truncated")
    if share is not None and share >= TRUNCATED_SHARE:
        return f"{share:.0%} of the completions ran into the token limit"
    return None


def verifier_errors(history: History) -> str | None:
    """Verdicts are missing: over the last steps, or most of one step."""
    errors = history.series("verifier_errors")[-WINDOW:]
    totals = history.series("sampling/rollouts")[-WINDOW:]
    if not errors or len(errors) != len(totals):
        return None
    now = errors[-1][1] / max(1.0, totals[-1][1])
    share = sum(value for _, value in errors) / max(1.0, sum(value for _, value in totals))
    if now >= ERROR_SHARE_AT_ONCE:
        return f"{now:.0%} of the rollouts of this step have no verdict"
    if len(errors) == WINDOW and share > ERROR_SHARE:
        return f"{share:.0%} of the rollouts of the last {WINDOW} steps have no verdict"
    return None


def gradient_not_finite(history: History) -> str | None:
    """The gradient's norm is infinite or not a number: that update was skipped."""
    norm = history.now("grad_norm")
    if norm is not None and not math.isfinite(norm):
        return "the gradient's norm is not a finite number; the weights stayed as they were"
    return None


@dataclass(frozen=True, kw_only=True)
class Check:
    """A condition on the history, with what is said when it holds."""

    find: Callable[[History], str | None]
    cause: str
    remedy: str

    @property
    def name(self) -> str:
        """The condition's own name."""
        return self.find.__name__


CHECKS = (
    Check(
        find=gradient_not_finite,
        cause="an overflow: the learning rate is too high, or a probability ratio exploded",
        remedy="lower optimizer.lr, lengthen optimizer.warmup_steps, use dtype=bfloat16 in place "
        "of float16",
    ),
    Check(
        find=verifier_errors,
        cause="the verifier fails or runs into its timeout; what it cannot grade trains nothing",
        remedy="read verdict.reason in rollouts/*.parquet; raise rollout.timeout or "
        "rollout.workers",
    ),
    Check(
        find=sampler_mismatch,
        cause="the sampler runs other weights, another precision, or top_p/top_k below full",
        remedy="look at sampler_gap/after_sync; give the sampler the trainer's dtype; keep "
        "sampling.top_p=1 and top_k=0",
    ),
    Check(
        find=entropy_collapse,
        cause="the policy grew sure before it grew right: too many or too large updates a batch",
        remedy="raise objective.clip_high (0.28), add objective.entropy_coefficient (0.001 to "
        "0.01) or objective.kl_coefficient, lower optimizer.lr",
    ),
    Check(
        find=zero_signal,
        cause="the tasks are too hard, too easy, or the verifier finds no answer in the format "
        "that the policy writes",
        remedy="look at rollouts/*.parquet; choose tasks of middle difficulty, warm start, or "
        "raise rollout.group_size; rollout.dynamic_sampling refills the batch",
    ),
    Check(
        find=held_out_falls,
        cause="the policy learns the training tasks by heart, or exploits the verifier",
        remedy="read rollouts that score well; add tasks, lower objective.epochs, add "
        "objective.kl_coefficient, and take the checkpoint of the best evaluation",
    ),
    Check(
        find=length_blow_up,
        cause="length is rewarded or not paid for: a mean over each sequence's tokens punishes "
        "long wrong answers less",
        remedy="use objective.aggregation=token-mean, set rollout.overlong_buffer, and look at "
        "length/correct beside length/wrong",
    ),
    Check(
        find=truncation,
        cause="sampling.max_new_tokens is too small for what the policy writes, or it does not "
        "end its answers",
        remedy="raise sampling.max_new_tokens, or set rollout.overlong_buffer; with "
        "rollout.mask_truncated they train nothing",
    ),
)


class Alarms:
    """Which alarms a run has raised; each is raised once.

    Args:
        rows: what the run has logged already, where it is resumed, in order.
        raised: the names of the alarms that it has raised already.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = (), raised: Iterable[str] = ()) -> None:
        self._history = History()
        for row in rows:
            self._history.add(row["step"], row)
        self._raised = set(raised)

    def look(self, step: int, metrics: Mapping[str, Any]) -> list[Alarm]:
        """Add what a step logged, and say which alarms hold now that did not before."""
        self._history.add(step, metrics)
        found = []
        for check in CHECKS:
            seen = None if check.name in self._raised else check.find(self._history)
            if seen is not None:
                self._raised.add(check.name)
                alarm = Alarm(
                    name=check.name, step=step, seen=seen, cause=check.cause, remedy=check.remedy
                )
                found.append(alarm)
        return found


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    if len(known) < WINDOW or any(map(math.isnan, known)):
        return None
    return math.fsum(known) / len(known)
