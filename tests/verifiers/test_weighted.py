"""The weighted composition: its parts stay visible, and a broken part breaks the whole."""

from __future__ import annotations

from typing import Any

import pytest

import rlvr
from rlvr.errors import UserError
from rlvr.types import Outcome, Task
from rlvr.verifiers.pool import verify_many, without_seconds

TASK = Task(id="t", prompt="", answer="72")
GOOD = r"<think>a</think><answer>\boxed{72}</answer>"
PARTS = {"math": 0.9, "format": 0.1}
DECIDED = {"math/undecided": 0.0}


@pytest.mark.parametrize(
    ("completion", "reward", "outcome", "metrics"),
    [
        (GOOD, 1.0, Outcome.CORRECT, {"math": 1.0, "format": 1.0, **DECIDED}),
        (r"\boxed{72}", 0.9, Outcome.PARTIAL, {"math": 1.0, "format": 0.0, **DECIDED}),
        (GOOD.replace("72", "7"), 0.1, Outcome.PARTIAL, {"math": 0.0, "format": 1.0, **DECIDED}),
        (r"\boxed{7}", 0.0, Outcome.INCORRECT, {"math": 0.0, "format": 0.0, **DECIDED}),
        ("", 0.0, Outcome.NO_ANSWER, {"math": 0.0, "format": 0.0}),
    ],
)
def test_the_reward_is_the_sum_and_each_part_a_metric(
    completion: str, reward: float, outcome: Outcome, metrics: dict[str, float]
) -> None:
    verdict = rlvr.load_verifier("weighted", parts=PARTS).verify(TASK, completion)
    assert verdict.reward == pytest.approx(reward)
    assert verdict.outcome is outcome
    assert verdict.metrics == metrics


def test_weights_are_not_normalised_and_may_be_penalties() -> None:
    parts = [
        {"name": "math", "weight": 2.0, "options": {"timeout": 1.0}},
        {"name": "format", "weight": -0.5, "options": {"style": "boxed"}},
    ]
    verdict = rlvr.load_verifier("weighted", parts=parts).verify(TASK, r"\boxed{72}")
    assert verdict.reward == 1.5
    assert verdict.is_correct


def test_a_part_that_fails_makes_the_whole_a_verifier_error() -> None:
    verifier = rlvr.load_verifier("weighted", parts=PARTS)
    verdict = verifier.verify(Task(id="t", prompt="", answer=None), GOOD)
    assert verdict.is_error
    assert "ground truth" in verdict.reason


def test_it_is_the_same_in_worker_processes() -> None:
    verifier = rlvr.load_verifier("weighted", parts={"math": 1.0, "exact": 0.5})
    task = Task(id="t", prompt="", answer=r"2\sqrt{3}")
    pairs: list[Any] = [(task, text) for text in (r"\boxed{\sqrt{12}}", r"2\sqrt{3}", "2", "")]
    verdicts = [without_seconds(verdict) for verdict in verify_many(verifier, pairs)]
    assert [verdict.reward for verdict in verdicts] == [1.0, 1.5, 0.0, 0.0]
    assert verdicts == [without_seconds(verifier.verify(*pair)) for pair in pairs]


def test_hostile_maths_in_a_part_is_wrong_and_no_verifier_error() -> None:
    parts = [{"name": "math", "options": {"timeout": 0.3}}, {"name": "format"}]
    verifier = rlvr.load_verifier("weighted", parts=parts)
    [verdict] = verify_many(verifier, [(TASK, r"\boxed{\binom{9999999}{4999999}}")])
    assert verdict.reward == 0.0


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "expected {name: weight}"),
        ("math", "expected {name: weight}"),
        (5, "expected {name: weight}"),
        ([5], "is no part"),
        ({"maths": 1}, "did you mean 'math'"),
        ({"math": 0}, "not 0"),
        ({"math": "a"}, "not 0"),
        ({"math": float("nan")}, "not 0"),
        ({"math": -1}, "positive weight"),
        ([{"name": "math", "wieght": 1}], "did you mean 'weight'"),
        ([{"name": "math", "options": {"timout": 1}}], "did you mean 'timeout'"),
        ([{"name": "math"}, {"name": "math"}], "the same part twice"),
    ],
)
def test_parts_that_make_no_sense_are_refused(parts: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        rlvr.load_verifier("weighted", parts=parts)
