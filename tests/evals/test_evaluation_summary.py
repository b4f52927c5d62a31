"""Which metrics a summary has, and what it says about those that lack samples."""

from __future__ import annotations

import math

import pytest

from rlvr.errors import ConfigError
from rlvr.evals.summary import Summary, split_name, summarise
from rlvr.types import Completion, FinishReason, Outcome, Rollout, Task, Verdict


def rollouts(**tasks: list[Verdict]) -> list[Rollout]:
    return [
        Rollout(task=Task(id=name, prompt=""), completion=Completion(text="x"), verdict=verdict)
        for name, verdicts in tasks.items()
        for verdict in verdicts
    ]


RIGHT = Verdict.correct(extracted="1")
WRONG = Verdict.wrong(extracted="2")
BROKEN = Verdict.error("the verifier broke")


def test_metrics_are_means_over_tasks_and_not_over_samples() -> None:
    summary = summarise(rollouts(a=[RIGHT], b=[WRONG, WRONG, WRONG]), (1,))
    assert summary.metrics["pass@1"].value == 0.5


def test_a_task_with_errors_counts_with_its_graded_samples() -> None:
    summary = summarise(rollouts(a=[RIGHT, BROKEN], b=[WRONG, WRONG]), (1, 2))
    assert summary.metrics["pass@1"].value == 0.5
    assert summary.metrics["pass@2"].value == 0.0  # of b alone: a has one graded sample
    assert summary.metrics["pass@2"].tasks == 1
    assert summary.verifier_errors == 1
    assert any("1 of 4 completions (1 tasks)" in note for note in summary.notes)
    assert any("k=2 are over 1 of 2 tasks" in note for note in summary.notes)


def test_a_metric_without_a_task_is_nan() -> None:
    summary = summarise(rollouts(a=[BROKEN]), (1,))
    estimate = summary.metrics["pass@1"]
    assert math.isnan(estimate.value) and math.isnan(estimate.low) and estimate.tasks == 0


def test_majority_needs_extracted_answers_and_best_needs_partial_rewards() -> None:
    plain = summarise(rollouts(a=[Verdict.correct(), Verdict.wrong()]), (1, 2))
    assert set(plain.metrics) == {"pass@1", "pass@2", "pass^2", "avg@2"}
    partial = Verdict(reward=0.25, outcome=Outcome.PARTIAL, extracted="2")
    graded = summarise(rollouts(a=[RIGHT, partial]), (1, 2))
    assert graded.metrics["avg@2"].value == 0.625
    assert graded.metrics["best@2"].value == 1.0
    assert graded.metrics["maj@2"].value == 0.5
    assert graded.metrics["pass@1"].value == 0.5  # partial credit solves nothing


def test_tasks_where_no_vote_is_possible_are_noted() -> None:
    summary = summarise(rollouts(a=[RIGHT, WRONG], b=[Verdict.correct(), WRONG]), (2,))
    assert summary.metrics["maj@2"].tasks == 1
    assert any(note.startswith("maj@2 is over 1 of 2 tasks") for note in summary.notes)


def test_lengths_are_in_tokens_only_where_tokens_are_known() -> None:
    known = Completion(text="ab", token_ids=(1, 2, 3), finish_reason=FinishReason.LENGTH)
    task = Task(id="a", prompt="")
    with_tokens = [Rollout(task=task, completion=known, verdict=WRONG)]
    assert summarise(with_tokens).lengths == {"truncated": 1.0, "mean_tokens": 3.0, "max_tokens": 3}
    unknown = [Rollout(task=task, completion=Completion(text="ab"), verdict=WRONG)]
    assert summarise(with_tokens + unknown).lengths == {"truncated": 0.5}


def test_a_summary_survives_its_dictionary() -> None:
    summary = summarise(rollouts(a=[RIGHT, BROKEN], b=[WRONG, WRONG]), (1, 2), environment="e")
    assert Summary.from_dict(summary.to_dict()) == summary


@pytest.mark.parametrize("name", ["pass@", "pass@0", "pass@-1", "win@3", "pass@1.5", ""])
def test_unknown_metrics_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown metric"):
        split_name(name)
