"""Confidence intervals over tasks: the task is the sampling unit, its samples are not.

`mean_interval` is a Wilson score interval whose effective sample size follows from the spread of
the tasks' values. It keeps its coverage near 0 and 1, where Student's t, the bootstrap and the
normal approximation do not, and it never has width 0. `docs/evaluation.md` has the measured
coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

_RESAMPLES = 10_000


def mean_interval(
    values: Sequence[float] | np.ndarray, *, confidence: float = 0.95
) -> tuple[float, float]:
    """An interval for the mean over all tasks that might have been drawn, of values in [0, 1].

    With `m` values of mean `p`, and `S` the sum of squares about it, the dispersion

        phi = min(1, (S m/(m-1) + 1) / (m p (1-p) + 1))

    compares the spread of the values with that of zeros and ones of the same mean. The two added
    ones pull it to 1 where the values say little, so that few or equal values do not pass for
    certainty. Wilson's interval (1927, JASA 22, p. 209) is taken with `m / phi` as sample size.

    Args:
        values: one for each task; finite. Where one is outside [0, 1], there is no such bound to
            work with, and Student's t interval is given instead.
        confidence: nominal coverage.

    Returns:
        (low end, high end); NaN for no values.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) and (array.min() < 0.0 or array.max() > 1.0):
        return student_interval(array, confidence=confidence)
    return _score_interval(array, 1.0, confidence)


def difference_interval(
    values: Sequence[float] | np.ndarray, *, confidence: float = 0.95
) -> tuple[float, float]:
    """The same for paired differences of two values in [0, 1], which lie in [-1, 1].

    They are scaled to [0, 1]; what is added to the dispersion is 1/2 in place of 1, because
    differences spread less on that scale.

    Args:
        values: one for each task; finite. Outside [-1, 1]: Student's t, as in `mean_interval`.
        confidence: nominal coverage.

    Returns:
        (low end, high end); NaN for no values.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) and np.abs(array).max() > 1.0:
        return student_interval(array, confidence=confidence)
    low, high = _score_interval((array + 1.0) / 2.0, 0.5, confidence)
    return 2.0 * low - 1.0, 2.0 * high - 1.0


def bootstrap_interval(
    values: Sequence[float], *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap for the mean over tasks, with fixed seed.

    Args:
        values: one for each task; finite.
        confidence: nominal coverage.
        seed: of the resamples.

    Returns:
        (low end, high end); NaN for no values. Equal values give an interval of width 0: read it
        beside `mean_interval`.
    """
    if len(values) == 0:
        return math.nan, math.nan
    different, counts = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(
        len(values), counts / len(values), size=_RESAMPLES
    )
    tail = (1.0 - confidence) / 2.0
    left, right = np.quantile(drawn @ different / len(values), [tail, 1.0 - tail])
    return float(left), float(right)


def student_interval(
    values: Sequence[float] | np.ndarray, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Student's t interval for the mean of values that nothing bounds, such as reward margins.

    Args:
        values: one for each task; finite.
        confidence: nominal coverage.

    Returns:
        (low end, high end); NaN for no values, infinite for a single one.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0:
        return math.nan, math.nan
    if len(array) == 1:
        return -math.inf, math.inf
    mean = float(array.mean())
    error = float(array.std(ddof=1)) / math.sqrt(len(array))
    half = float(stats.t.ppf(0.5 + confidence / 2.0, len(array) - 1)) * error
    return mean - half, mean + half


def _score_interval(array: np.ndarray, added: float, confidence: float) -> tuple[float, float]:
    count = len(array)
    if count == 0:
        return math.nan, math.nan
    mean = float(array.mean())
    squares = float(((array - mean) ** 2).sum())
    spread = squares * count / (count - 1) if count > 1 else 1.0
    phi = min(1.0, (spread + added) / (count * mean * (1.0 - mean) + added))
    return _wilson(mean, count / phi, confidence)


def _wilson(mean: float, size: float, confidence: float) -> tuple[float, float]:
    z = float(stats.norm.ppf(0.5 + confidence / 2.0))
    scale = 1.0 + z * z / size
    centre = (mean + z * z / (2.0 * size)) / scale
    half = z / scale * math.sqrt(max(0.0, mean * (1.0 - mean) / size + (z / (2.0 * size)) ** 2))
    # At 0 and 1 the ends are exactly those; rounding must not push the mean outside.
    return max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half))
