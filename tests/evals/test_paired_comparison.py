"""Paired comparison: what is paired, what is left out, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rlvr.errors import DataError
from rlvr.evals.compare import compare, conclude, difference, format_comparison, mcnemar
from rlvr.evals.intervals import difference_interval, mean_interval
from rlvr.evals.store import EvaluationFolder
from rlvr.evals.summary import TaskScores, summarise
from rlvr.types import Completion, Rollout, Task, Verdict


def save(folder: Path, correct: dict[str, list[bool]], answer: str = "a") -> Path:
    """An evaluation with these verdicts, task by task."""
    rollouts = [
        Rollout(
            task=Task(id=name, prompt=f"{name}?", answer=answer),
            completion=Completion(text="x"),
            verdict=Verdict.correct(extracted="1") if right else Verdict.wrong(extracted="2"),
        )
        for name, judged in correct.items()
        for right in judged
    ]
    with EvaluationFolder(folder, {"environment": "e"}, 1) as store:
        store.write_part(0, rollouts)
        store.merge()
        store.write_summary(summarise(store.rollouts(), (1,), environment="e"))
    return folder


def scores(*judged: bool) -> TaskScores:
    return TaskScores(
        task_id="t",
        rewards=[float(right) for right in judged],
        correct=list(judged),
        answers=[None] * len(judged),
    )


def test_only_common_tasks_are_compared_and_the_others_are_counted(tmp_path: Path) -> None:
    a = save(tmp_path / "a", {"x": [True], "y": [False], "only a": [True]})
    b = save(tmp_path / "b", {"x": [True], "y": [True], "only b": [False], "too": [False]})
    result = compare(a, b)
    assert (result.common, result.only_a, result.only_b, result.changed) == (2, 1, 2, 0)
    assert result.differences[0].metric == "pass@1"
    assert result.differences[0].difference == 0.5
    text = format_comparison(result)
    assert "2 tasks in common; left out: 1 only in A and 2 only in B" in text


def test_equal_ids_of_other_tasks_are_not_paired(tmp_path: Path) -> None:
    a = save(tmp_path / "a", {"x": [True]})
    b = save(tmp_path / "b", {"x": [True]}, answer="another")
    with pytest.raises(DataError, match="the same ids have other prompts or answers"):
        compare(a, b)


def test_evaluations_without_a_common_task_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no task id is in both"):
        compare(save(tmp_path / "a", {"x": [True]}), save(tmp_path / "b", {"y": [True]}))


def test_a_folder_without_an_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no finished evaluation"):
        compare(tmp_path, tmp_path)


def test_mcnemar_by_hand() -> None:
    # Nine tasks solved by B alone, one by A alone: p = 2 (C(10,0) + C(10,1)) / 2^10 = 22/1024.
    pairs = [(scores(False), scores(True))] * 9 + [(scores(True), scores(False))]
    pairs += [(scores(True), scores(True))] * 5 + [(scores(False), scores(False))] * 3
    found = mcnemar(pairs)
    assert found is not None
    assert (found.both, found.only_a, found.only_b, found.neither) == (5, 1, 9, 3)
    assert found.p_value == pytest.approx(22 / 1024)


def test_mcnemar_of_equal_results_is_one_and_of_ungraded_ones_nothing() -> None:
    same = mcnemar([(scores(True), scores(True))])
    assert same is not None and same.p_value == 1.0
    assert mcnemar([(scores(), scores(True))]) is None


def test_solved_means_more_than_half() -> None:
    found = mcnemar([(scores(True, False), scores(True, True, False))])
    assert found is not None and (found.only_a, found.only_b) == (0, 1)


def test_pairing_shows_what_unpaired_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for hardness in rng.random(150):
        draws = rng.random((2, 8))
        a, b = draws[0] < hardness, draws[1] < min(1.0, hardness + 0.08)
        pairs.append((scores(*a.tolist()), scores(*b.tolist())))
    item = difference("pass@1", pairs)
    assert item.low > 0 and item.bootstrap_low > 0
    alone = [mean_interval([t[i].metric("pass@1") for t in pairs]) for i in (0, 1)]
    assert alone[0][1] > alone[1][0]  # they overlap
    assert "B is better" in conclude(item)
    assert "A is better" in conclude(difference("pass@1", [(b, a) for a, b in pairs]))


def test_no_difference_is_said_with_what_is_not_ruled_out() -> None:
    item = difference("pass@1", [(scores(True), scores(True))] * 20)
    assert item.difference == 0.0
    assert item.low < 0.0 < item.high  # 20 equal tasks are no proof of equality
    assert "no difference is shown" in conclude(item)


def test_tasks_without_enough_samples_in_both_do_not_count() -> None:
    item = difference("pass@2", [(scores(True), scores(True, True))])
    assert item.tasks == 0
    assert "no common task" in conclude(item)


Differences = Callable[[np.random.Generator, int], np.ndarray]


def of_eight_samples(alpha: float, beta: float, shift: float) -> Differences:
    """Tasks as hard as a beta distribution says, B better by `shift` where there is room."""

    def draw(rng: np.random.Generator, tasks: int) -> np.ndarray:
        p = rng.beta(alpha, beta, tasks)
        a = rng.binomial(8, p) / 8
        return rng.binomial(8, np.minimum(1, p + shift)) / 8 - a

    return draw


def of_one_sample(only_b: float, only_a: float) -> Differences:
    """One sample a task; so many tasks are solved by one alone."""

    def draw(rng: np.random.Generator, tasks: int) -> np.ndarray:
        u = rng.random(tasks)
        return (u < only_b) * 1.0 - (u >= 1 - only_a) * 1.0

    return draw


PAIRED: dict[str, Differences] = {
    "8 samples, easy or hard, no difference": of_eight_samples(0.3, 0.3, 0.0),
    "8 samples, easy or hard, B + 0.1": of_eight_samples(0.3, 0.3, 0.1),
    "8 samples, nearly solved, B + 0.2": of_eight_samples(20, 0.2, 0.2),
    "8 samples, nearly hopeless, B + 0.1": of_eight_samples(0.05, 5, 0.1),
    "1 sample, 3% only B": of_one_sample(0.03, 0.0),
    "1 sample, 2% only B, 2% only A": of_one_sample(0.02, 0.02),
    "1 sample, 40% only B, 30% only A": of_one_sample(0.4, 0.3),
    "1 sample, 98% only B": of_one_sample(0.98, 0.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRED)
def test_paired_intervals_cover_the_true_difference(name: str) -> None:
    """The second table of docs/evaluation.md."""
    rng = np.random.default_rng(0)
    truth = float(np.mean(PAIRED[name](rng, 2_000_000)))
    row = []
    for tasks in (50, 200, 1000):
        covered = 0
        for _ in range(2000):
            low, high = difference_interval(PAIRED[name](rng, tasks))
            covered += low - 1e-9 <= truth <= high + 1e-9
        row.append(covered / 2000)
    print(f"| {name} | {truth:+.3f} | " + " | ".join(f"{rate:.3f}" for rate in row) + " |")
    assert min(row) > 0.925
