"""The metrics of a step, against rollouts whose numbers are known."""

from __future__ import annotations

import math
import time

import pytest

from rlvr.rollouts import Collected
from rlvr.trainers.loop import Clock
from rlvr.trainers.rollout_metrics import quantile, rollout_metrics
from rlvr.types import Completion, FinishReason, Outcome, Rollout, RolloutGroup, Task, Verdict

RIGHT, WRONG, BROKEN = Verdict.correct(), Verdict.wrong(), Verdict.error("down")
HALF = Verdict(reward=0.5, outcome=Outcome.INCORRECT, metrics={"format": 1.0})


def group(*items: tuple[Verdict, int]) -> RolloutGroup:
    """One rollout for each verdict and length; those of eight tokens ran into the limit."""
    task = Task(id="t", prompt="p", answer="a")
    rollouts = []
    for verdict, length in items:
        reason = FinishReason.LENGTH if length == 8 else FinishReason.STOP
        completion = Completion(text="x", token_ids=(1,) * length, finish_reason=reason)
        rollouts.append(Rollout(task=task, completion=completion, verdict=verdict))
    return RolloutGroup(task=task, rollouts=tuple(rollouts))


def test_the_numbers_of_a_step() -> None:
    groups = [
        group((RIGHT, 2), (WRONG, 8)),
        group((RIGHT, 3), (RIGHT, 3)),
        group((WRONG, 8), (WRONG, 6)),
        group((HALF, 5), (BROKEN, 1)),
    ]
    metrics = rollout_metrics(Collected(groups=groups[:1], sampled=groups, rounds=2, wanted=4))
    rewards = [1, 0, 1, 1, 0, 0, 0.5]
    centre = sum(rewards) / 7
    assert metrics["reward/mean"] == pytest.approx(centre)
    assert metrics["reward/std"] == pytest.approx(
        math.sqrt(sum((r - centre) ** 2 for r in rewards) / 7)
    )
    assert metrics["groups/zero_signal"] == 0.75
    assert metrics["groups/all_right"] == 0.25
    assert metrics["groups/all_wrong"] == 0.5
    assert metrics["sampling/informative"] == 0.25
    assert metrics["sampling/tokens"] == 36
    assert metrics["sampling/groups"] == 1
    assert metrics["length/mean"] == 36 / 8
    assert metrics["length/max"] == 8
    assert metrics["length/p50"] == 3
    assert metrics["length/p90"] == 8
    assert metrics["length/correct"] == pytest.approx(8 / 3)
    assert metrics["length/wrong"] == (8 + 8 + 6 + 5) / 4
    assert metrics["length/truncated"] == 0.25
    assert metrics["verifier_errors"] == 1
    assert metrics["verifier/format"] == 1


def test_a_step_without_any_verdict_has_numbers_still() -> None:
    groups = [group((BROKEN, 2), (BROKEN, 3))]
    metrics = rollout_metrics(Collected(groups=[], sampled=groups, rounds=1, wanted=4))
    assert math.isnan(metrics["reward/mean"])
    assert math.isnan(metrics["reward/std"])
    assert metrics["groups/zero_signal"] == 1
    assert metrics["groups/all_right"] == metrics["groups/all_wrong"] == 0
    assert "length/correct" not in metrics


def test_rollouts_that_are_alone_have_no_share_without_signal() -> None:
    alone = [group((RIGHT, 2)), group((WRONG, 3))]
    metrics = rollout_metrics(Collected(groups=alone, sampled=alone, rounds=1, wanted=2))
    assert metrics["reward/mean"] == 0.5
    assert not [name for name in metrics if name.startswith("groups/")]
    assert "sampling/informative" not in metrics


@pytest.mark.parametrize(("percent", "expected"), [(1, 1), (50, 5), (90, 9), (91, 10), (100, 10)])
def test_quantiles_are_values_of_the_sample(percent: int, expected: int) -> None:
    assert quantile(range(1, 11), percent) == expected
    assert quantile([7], percent) == 7


def test_a_clock_gives_seconds_and_tokens_a_second_of_each_part() -> None:
    clock = Clock()
    for _ in range(2):
        with clock.part("outer"), clock.part("inner"):
            time.sleep(0.01)
        clock.count("inner", 50)
    counted = clock.drain()
    assert set(counted) == {"outer", "inner", "inner/tokens_per_second"}
    assert counted["outer"] >= counted["inner"] >= 0.02
    assert counted["inner/tokens_per_second"] == 100 / counted["inner"]
    assert clock.drain() == {}
