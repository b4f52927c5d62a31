"""Intervals over tasks: never of width 0, never outside the bounds, and they cover."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr.evals.intervals import (
    bootstrap_interval,
    difference_interval,
    mean_interval,
    student_interval,
)
from rlvr.evals.metrics import pass_at_k


def test_with_zeros_and_ones_it_is_wilsons_interval() -> None:
    # Wilson for 81 of 263: (0.2553, 0.3662) (Newcombe 1998, Statistics in Medicine 17, table I).
    low, high = mean_interval([1.0] * 81 + [0.0] * 182)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_equal_values_are_no_certainty(value: float) -> None:
    low, high = mean_interval([value] * 100)
    assert low <= value <= high
    assert high - low > 0.01


def test_all_ones_of_100_tasks_leaves_room_for_what_100_tasks_cannot_show() -> None:
    low, high = mean_interval([1.0] * 100)
    assert high == 1.0
    assert low == pytest.approx(100 / (100 + 1.959964**2), abs=1e-6)  # Wilson for 100 of 100


def test_samples_of_one_task_do_not_count_as_tasks() -> None:
    # 50 tasks of 8 equal samples each say as much as 50 tasks of one sample.
    assert mean_interval([1.0] * 25 + [0.0] * 25) == mean_interval([0.0] * 25 + [1.0] * 25)
    low, high = mean_interval([1.0] * 25 + [0.0] * 25)
    assert high - low > 0.25


def test_values_that_spread_less_than_coin_tosses_have_a_narrower_interval() -> None:
    tosses = mean_interval([0.0, 1.0] * 100)
    even = mean_interval([0.45, 0.55] * 100)
    assert even[1] - even[0] < 0.2 * (tosses[1] - tosses[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_mean_lies_inside_and_the_interval_inside_the_bounds(values: list[float]) -> None:
    low, high = mean_interval(values)
    assert 0.0 <= low <= float(np.mean(values)) + 1e-12
    assert float(np.mean(values)) - 1e-12 <= high <= 1.0
    assert high > low


def test_differences_scale_and_turn_around() -> None:
    values = [0.5, 0.0, -0.25, 1.0]
    low, high = difference_interval(values)
    assert difference_interval([-value for value in values]) == pytest.approx((-high, -low))
    assert difference_interval([3.0, 1.0]) == student_interval([3.0, 1.0])


@pytest.mark.parametrize("tasks", [50, 200, 1000])
def test_equal_results_leave_room_for_the_tasks_that_were_not_seen(tasks: int) -> None:
    # The rule of three: what is not seen in m tasks may happen in 3 of m (one-sided 95%).
    low, high = difference_interval([0.0] * tasks)
    assert 2.5 / tasks < high < 4 / tasks
    assert low == pytest.approx(-high)


def test_rewards_outside_the_bounds_get_students_interval() -> None:
    low, high = mean_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    assert mean_interval([2.0]) == (-math.inf, math.inf)


def test_no_values_is_nan() -> None:
    assert all(math.isnan(end) for end in (*bootstrap_interval([]), *student_interval([])))
    assert all(math.isnan(end) for end in (*mean_interval([]), *difference_interval([])))


def test_the_bootstrap_is_repeatable_and_near_the_normal_interval() -> None:
    values = [float(value) for value in np.random.default_rng(1).normal(size=400)]
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    half = 1.96 * float(np.std(values)) / 20
    assert (high - low) / 2 == pytest.approx(half, rel=0.05)


Population = Callable[[np.random.Generator, int], np.ndarray]
POPULATIONS: dict[str, Population] = {
    "even": lambda rng, m: rng.beta(2, 2, m),
    "easy or hard": lambda rng, m: rng.beta(0.2, 0.2, m),
    "mostly hard": lambda rng, m: rng.beta(0.3, 3, m),
    "nearly hopeless": lambda rng, m: rng.beta(0.05, 5, m),
    "nearly solved": lambda rng, m: rng.beta(20, 0.2, m),
    "all alike at 0.5": lambda rng, m: np.full(m, 0.5),
    "all alike at 0.98": lambda rng, m: np.full(m, 0.98),
    "3% hopeless, the rest solved": lambda rng, m: (rng.random(m) >= 0.03).astype(float),
    "1% at a half, the rest solved": lambda rng, m: np.where(rng.random(m) < 0.01, 0.5, 1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize("k", [1, 8])
def test_intervals_cover_the_truth_in_nearly_95_of_100_evaluations(name: str, k: int) -> None:
    """The table of docs/evaluation.md: 8 samples a task, 50 to 1000 tasks."""
    rng = np.random.default_rng(1)
    value = np.array([pass_at_k(8, c, k) for c in range(9)])
    truth = value[rng.binomial(8, POPULATIONS[name](rng, 2_000_000))].mean()
    row = []
    for tasks, repeats in ((50, 2000), (200, 2000), (1000, 2000)):
        covered = 0
        for _ in range(repeats):
            low, high = mean_interval(value[rng.binomial(8, POPULATIONS[name](rng, tasks))])
            covered += low - 1e-9 <= truth <= high + 1e-9
        row.append(covered / repeats)
    print(f"| {name} | pass@{k} | {truth:.4f} | " + " | ".join(f"{c:.3f}" for c in row) + " |")
    # The worst true coverage here is Wilson's own: 0.935, where 3.9 failures in 1000 are expected.
    # Three standard errors of the simulation below that:
    assert min(row) > 0.918
