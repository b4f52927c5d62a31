"""Estimators of KL(policy || reference) from the log-probabilities of sampled tokens.

John Schulman, "Approximating KL divergence" (2020), http://joschu.net/blog/kl-approx.html. With
`d = log pi(a) - log ref(a)` for a token `a` drawn from the policy:

    kind   value               expected value    expected gradient, where it is a loss term
    k1     d                   KL, unbiased      0: as a loss it does nothing
    abs    |d|                 biased            that of the total variation, doubled
    k2     d^2 / 2             biased            that of KL(policy || reference), unbiased
    k3     exp(-d) - 1 + d     KL, unbiased      that of KL(reference || policy): biased
    k1+    d                   KL, unbiased      that of KL(policy || reference), unbiased
    abs+   |d|                 biased            that of KL(policy || reference), unbiased
    k3+    exp(-d) - 1 + d     KL, unbiased      that of KL(policy || reference), unbiased

The gradients are those of differentiating the estimate at the sampled tokens, as every trainer with
KL "in the loss" does. k1 belongs into the reward, where its value alone matters. k3 is GRPO's
choice (Shao et al. 2024, arXiv:2402.03300, eq. 4): never negative and of low variance. A `+` keeps
the value and takes k2's gradient ("straight-through", as in verl).

All are per token, `[N]` in, `[N]` out, not reduced. In k3, `-d` is bounded above by 20, which keeps
float32 finite (`log_ratio_bounds`; verl's are `(-20, 20)`, TRL's `(-inf, inf)`). verl bounds k3's
value at 10 as well, which stops its gradient just where the policy has moved furthest from the
reference (-d > 2.6, d > 11): only where `value_bound` asks for it.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from rlvr.objectives.aggregation import sequence_sums
from rlvr.objectives.checks import require_aligned
from rlvr.objectives.policy import DEFAULT_BOUNDS, LogRatioBounds, bound_log_ratio
from rlvr.registry import check_options, objectives

KLKind = Literal["k1", "abs", "k2", "k3", "k1+", "abs+", "k3+"]

# Ziegler et al. 2019: one update moves the coefficient by at most this share of samples / horizon.
LARGEST_ERROR = 0.2


def kl_estimate(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    kind: KLKind | str,
    *,
    old_logprobs: Tensor | None = None,
    sequence_ids: Tensor | None = None,
    ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
    **options: Any,
) -> Tensor:
    """The per-token estimate of KL(policy || reference) that is registered as `kl/<kind>`.

    Args:
        logprobs: `[N]` float32 or float64, under the policy; gradients flow here.
        ref_logprobs: `[N]`, under the reference; detached here.
        kind: a `KLKind`, or another registered name; the table above says which gradient each has.
        old_logprobs: `[N]`, under the policy that sampled. Where given, the estimate is multiplied
            by the ratio `pi / pi_old`, through which gradients flow too: with k3, value and
            gradient of KL(policy || reference) are then both unbiased (DeepSeek-V3.2,
            arXiv:2512.02556; TRL's `use_bias_correction_kl`).
        sequence_ids: `[N]` int64 from 0, with `old_logprobs`: multiply by the geometric mean of the
            ratios over a sequence in place of each token's own (TRL's with a sequence-level ratio;
            not unbiased).
        ratio_bounds: of that log-ratio. TRL's is `(-inf, inf)`.
        options: the estimator's own, such as k3's `value_bound`.

    Returns:
        `[N]`, in nats, not reduced.

    Raises:
        ValueError: shapes or dtypes differ, or an option is out of range.
        UnknownNameError: no estimator has that name.
        ConfigError: the estimator has no such option.
    """
    require_aligned(logprobs=logprobs, ref_logprobs=ref_logprobs)
    estimator: Any = objectives.get(f"kl/{kind}")
    bound = partial(estimator, logprobs, ref_logprobs.detach())
    check_options(bound, options, f"KL estimator {kind!r}")
    estimate: Tensor = bound(**options)
    if old_logprobs is None:
        return estimate
    require_aligned(logprobs=logprobs, old_logprobs=old_logprobs)
    log_ratio = logprobs - old_logprobs.detach()
    if sequence_ids is not None:
        sequences = int(sequence_ids.max()) + 1 if len(sequence_ids) else 0
        lengths = torch.bincount(sequence_ids, minlength=sequences).clamp(min=1)
        log_ratio = (sequence_sums(log_ratio, sequence_ids, sequences) / lengths)[sequence_ids]
    return estimate * bound_log_ratio(log_ratio, ratio_bounds).exp()


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """The log-ratio: unbiased value of any sign; as a loss its expected gradient is 0."""
    return logprobs - ref_logprobs


def absolute(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """The absolute log-ratio: never negative, biased."""
    return (logprobs - ref_logprobs).abs()


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Half the squared log-ratio: biased value, unbiased gradient of KL(policy || reference)."""
    return 0.5 * (logprobs - ref_logprobs).square()


def k3(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    *,
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
    value_bound: float | None = None,
) -> Tensor:
    """`exp(-d) - 1 + d`: unbiased value, never negative; gradient of KL(reference || policy).

    Args:
        logprobs: `[N]`, under the policy.
        ref_logprobs: `[N]`, under the reference.
        log_ratio_bounds: what `-d` is clamped to.
        value_bound: above 0, what the value is clamped to (10 in verl); None for none.

    Raises:
        ValueError: a bound is out of range.
    """
    bounded = bound_log_ratio(ref_logprobs - logprobs, log_ratio_bounds)
    # expm1 keeps the digits that exp(x) - 1 loses near x = 0, where a policy starts out.
    value = bounded.expm1() - bounded
    if value_bound is None:
        return value
    if not value_bound > 0:
        raise ValueError(f"value_bound is {value_bound}: expected above 0")
    return value.clamp(max=value_bound)


def k1_plus(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """k1's value with k2's gradient: both unbiased."""
    return _straight_through(k1(logprobs, ref_logprobs), logprobs, ref_logprobs)


def absolute_plus(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """The absolute log-ratio with k2's gradient."""
    return _straight_through(absolute(logprobs, ref_logprobs), logprobs, ref_logprobs)


def k3_plus(
    logprobs: Tensor,
    ref_logprobs: Tensor,
    *,
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
    value_bound: float | None = None,
) -> Tensor:
    """k3's value with k2's gradient: both unbiased. Options as for `k3`, of the value alone."""
    value = k3(logprobs, ref_logprobs, log_ratio_bounds=log_ratio_bounds, value_bound=value_bound)
    return _straight_through(value, logprobs, ref_logprobs)


def adapted_kl_coefficient(
    coefficient: float, measured_kl: float, *, target: float, horizon: float, samples: float
) -> float:
    """The next coefficient of a KL penalty that is steered towards a target divergence.

    Ziegler et al. 2019, arXiv:1909.08593, section 2.2: `b (1 + e samples / horizon)` with
    `e = clip(kl / target - 1, -0.2, 0.2)`. The coefficient is its own state: a plain number.

    Args:
        coefficient: the one that was in force, at least 0.
        measured_kl: what it led to, in the unit of `target`.
        target: above 0 (6 nats a completion, usually).
        horizon: above 0, in samples (10000, usually): how slowly it adapts.
        samples: completions since the last call, below `5 * horizon`, or the factor could reach 0.

    Raises:
        ValueError: an argument is out of range, or the measured divergence is not a number.
    """
    if not (target > 0 and horizon > 0 and coefficient >= 0 and 0 <= samples < 5 * horizon):
        raise ValueError(
            f"coefficient is {coefficient}, target {target}, horizon {horizon}, samples {samples}: "
            "expected coefficient >= 0, target > 0, horizon > 0 and 0 <= samples < 5 * horizon"
        )
    if math.isnan(measured_kl):
        raise ValueError("measured_kl is NaN: the coefficient cannot follow it")
    error = min(max(measured_kl / target - 1.0, -LARGEST_ERROR), LARGEST_ERROR)
    return coefficient * (1.0 + error * samples / horizon)


def _straight_through(value: Tensor, logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    gradient = k2(logprobs, ref_logprobs)
    return value.detach() + (gradient - gradient.detach())
