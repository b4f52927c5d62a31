"""pass@k and its relatives: hand-computed values, and all subsets counted one by one."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.evals.metrics import average_at_k, best_at_k, majority_at_k, pass_at_k, pass_hat_k


@pytest.mark.parametrize(
    ("n", "c", "k", "value"),
    [
        (1, 0, 1, 0.0),
        (1, 1, 1, 1.0),
        (2, 1, 1, 0.5),
        (2, 1, 2, 1.0),
        (4, 1, 2, 0.5),  # 1 - C(3,2)/C(4,2) = 1 - 3/6
        (5, 2, 3, 0.9),  # 1 - C(3,3)/C(5,3) = 1 - 1/10
        (8, 0, 8, 0.0),
        (8, 1, 4, 0.5),  # 1 - 35/70
        (200, 3, 100, 1 - (100 * 99 * 98) / (200 * 199 * 198)),
    ],
)
def test_pass_at_k_by_hand(n: int, c: int, k: int, value: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize(
    ("n", "c", "k", "value"),
    [(2, 1, 1, 0.5), (2, 1, 2, 0.0), (4, 3, 2, 0.5), (5, 4, 3, 0.4), (3, 3, 3, 1.0)],
)
def test_pass_hat_k_by_hand(n: int, c: int, k: int, value: float) -> None:
    assert pass_hat_k(n, c, k) == pytest.approx(value, abs=1e-15)


@pytest.mark.parametrize("c", [0, 1, 3])
def test_fewer_samples_than_k_is_nan_even_where_all_are_correct(c: int) -> None:
    assert math.isnan(pass_at_k(3, c, 4))
    assert math.isnan(pass_hat_k(3, c, 4))
    assert math.isnan(average_at_k([1.0] * 3, 4))
    assert math.isnan(best_at_k([1.0] * 3, 4))
    assert math.isnan(majority_at_k(["x"] * 3, [True] * 3, 4))
    assert math.isnan(pass_at_k(0, 0, 1))


def test_more_correct_than_samples_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="expected 0 <= c <= n"):
        pass_at_k(2, 3, 1)
    with pytest.raises(ValueError, match="k >= 1"):
        pass_at_k(2, 1, 0)


def test_majority_by_hand() -> None:
    # Of the three pairs from a, a, b: aa is won by a, the two ab are ties.
    assert majority_at_k(["a", "a", "b"], [True, True, False], 2) == pytest.approx(2 / 3)
    # Of all three, a wins.
    assert majority_at_k(["a", "a", "b"], [True, True, False], 3) == 1.0
    assert majority_at_k(["a", "a", "b"], [False, False, True], 3) == 0.0
    # A sample without an answer has no vote: b beats silence.
    assert majority_at_k([None, None, "b"], [False, False, True], 3) == pytest.approx(1.0)
    assert majority_at_k([None, None], [False, False], 2) == 0.0


def test_majority_is_nan_where_a_correct_sample_names_no_answer() -> None:
    assert math.isnan(majority_at_k([None, "a"], [True, True], 2))


def test_majority_of_one_is_pass_at_1() -> None:
    answers: list[str | None] = ["a", "b", "a", "c", None]
    assert majority_at_k(answers, [True, False, True, False, False], 1) == pytest.approx(0.4)


@st.composite
def samples(draw: st.DrawFn) -> tuple[list[str | None], list[bool], int]:
    n = draw(st.integers(1, 9))
    answers = draw(st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=n, max_size=n))
    right = draw(st.sets(st.sampled_from(["a", "b", "c", "d"])))
    flips = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    correct = [
        a is not None and (a in right) != (f and a == "d")  # "d" is judged now so, now so
        for a, f in zip(answers, flips, strict=True)
    ]
    return answers, correct, draw(st.integers(1, n))


@given(samples())
@settings(deadline=None, max_examples=150)
def test_every_metric_equals_the_mean_over_all_subsets(
    case: tuple[list[str | None], list[bool], int],
) -> None:
    answers, correct, k = case
    n, c = len(answers), sum(correct)
    subsets = list(combinations(range(n), k))

    def mean(score: object) -> float:
        return float(sum(score(s) for s in subsets) / Fraction(len(subsets)))  # type: ignore[operator]

    def vote(subset: tuple[int, ...]) -> Fraction:
        votes = Counter(answers[i] for i in subset if answers[i] is not None)
        if not votes:
            return Fraction(0)
        leaders = [a for a, count in votes.items() if count == max(votes.values())]
        scores = []
        for leader in leaders:
            judged = [correct[i] for i in range(n) if answers[i] == leader]
            scores.append(Fraction(sum(judged), len(judged)))
        return sum(scores, Fraction(0)) / len(leaders)

    rewards = [i / 7 + correct[i] for i in range(n)]
    assert pass_at_k(n, c, k) == pytest.approx(
        mean(lambda s: Fraction(any(correct[i] for i in s))), abs=1e-12
    )
    assert pass_hat_k(n, c, k) == pytest.approx(
        mean(lambda s: Fraction(all(correct[i] for i in s))), abs=1e-12
    )
    assert majority_at_k(answers, correct, k) == pytest.approx(mean(vote), abs=1e-12)
    assert best_at_k(rewards, k) == pytest.approx(
        mean(lambda s: Fraction(max(rewards[i] for i in s))), abs=1e-12
    )
    assert average_at_k(rewards, k) == pytest.approx(
        mean(lambda s: sum(Fraction(rewards[i]) for i in s) / k), abs=1e-12
    )


def test_majority_stays_exact_and_quick_with_many_samples() -> None:
    # 600 of 1000 say a: of 999 drawn, a always leads.
    answers: list[str | None] = ["a"] * 600 + ["b"] * 400
    correct = [True] * 600 + [False] * 400
    assert majority_at_k(answers, correct, 101) == pytest.approx(
        sum(
            math.comb(600, votes) * math.comb(400, 101 - votes) / math.comb(1000, 101)
            for votes in range(51, 102)
        ),
        abs=1e-9,
    )
