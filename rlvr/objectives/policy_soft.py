"""Policy losses that weigh a token instead of cutting it off: CISPO, SAPO, VESPO."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rlvr.objectives.aggregation import sequence_sums
from rlvr.objectives.policy import (
    DEFAULT_BOUNDS,
    LogRatioBounds,
    PolicyTokens,
    Sums,
    bound_log_ratio,
    ratio_sums,
    sum_over_tokens,
)
from rlvr.objectives.policy_sequence import RatioLevel, level_log_ratio, level_ratio_sums

CISPO_CAP = 5.0
# VESPO's sequence log-ratio is kept in this range (log 1e-8 and 20), its tokens' in +-20.
VESPO_BOUNDS = (math.log(1e-8), 20.0)
VESPO_TOKEN_BOUND = 20.0


def cispo(
    tokens: PolicyTokens,
    *,
    clip_low: float = 1.0,
    clip_high: float | None = None,
    cap: float | None = None,
    level: RatioLevel = "token",
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
) -> tuple[Tensor, Sums]:
    """CISPO: `-sg[clip(r)] A log pi`, so that no token's gradient is ever cut.

    MiniMax-M1, arXiv:2506.13585, eq. 4 and 5. The weight's upper bound goes by two conventions
    under one name: `clip_high` bounds it at `1 + clip_high` (the paper, verl), `cap` at `cap`
    itself (TRL's `epsilon_high`; 5 is what it recommends, and the bound where neither is given).

    Args:
        tokens: the micro-batch.
        clip_low: in [0, 1]: the weight's lower bound is `1 - clip_low`; 1 (the default, and TRL's
            only way) is no bound.
        clip_high: at least 0; or None.
        cap: at least 1; or None.
        level: whose ratio it is, a `"token"`'s, or the geometric mean over its `"sequence"`, which
            all its tokens share (TRL's `importance_sampling_level`).
        log_ratio_bounds: of the log-ratio. verl's is `(-20, 20)`.

    Raises:
        ValueError: a bound is out of range, both upper bounds are given, or `level` is unknown.
    """
    if clip_high is not None and cap is not None:
        raise ValueError(
            f"clip_high is {clip_high} and cap {cap}: give one (the bound is 1 + clip_high, or cap)"
        )
    upper = 1.0 + clip_high if clip_high is not None else CISPO_CAP if cap is None else cap
    if not (0.0 <= clip_low <= 1.0 and upper >= 1.0):
        raise ValueError(
            f"CISPO's weight is bounded to [{1 - clip_low}, {upper}]: expected 0 <= clip_low <= 1 "
            "and an upper bound of at least 1"
        )
    difference = level_log_ratio(tokens, level).detach()
    log_ratio = bound_log_ratio(difference, log_ratio_bounds)
    ratio = log_ratio.exp()
    loss = -ratio.clamp(1.0 - clip_low, upper) * tokens.advantages * tokens.logprobs
    return loss, level_ratio_sums(tokens, difference, log_ratio) | {
        "clipped_low": sum_over_tokens(ratio < 1.0 - clip_low),
        "clipped_high": sum_over_tokens(ratio > upper),
    }


def sapo(
    tokens: PolicyTokens,
    *,
    temperature_positive: float = 1.0,
    temperature_negative: float = 1.05,
    level: RatioLevel = "token",
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
) -> tuple[Tensor, Sums]:
    """SAPO: the ratio through a soft gate, `-(4 / tau) sigmoid(tau (r - 1)) A`.

    Gao et al. 2025, arXiv:2511.20347. At r = 1 the gradient is the plain policy
    gradient; it fades on both sides, faster for a larger `tau`. With `seq-mean-token-mean` it is
    the paper's loss, TRL's and verl's.

    Args:
        tokens: the micro-batch.
        temperature_positive: `tau` of tokens with A > 0.
        temperature_negative: `tau` of the others.
        level: as for `cispo`; the gradient of a sequence's ratio flows through the mean.
        log_ratio_bounds: of the log-ratio. verl's is `(-20, 20)`, TRL's `(-inf, inf)`.

    Raises:
        ValueError: a temperature is not positive, or `level` is unknown.
    """
    if not (temperature_positive > 0.0 and temperature_negative > 0.0):
        raise ValueError(
            f"temperature_positive is {temperature_positive}, temperature_negative "
            f"{temperature_negative}: expected above 0"
        )
    difference = level_log_ratio(tokens, level)
    log_ratio = bound_log_ratio(difference, log_ratio_bounds)
    tau = _by_sign(tokens, tokens.advantages > 0, temperature_positive, temperature_negative)
    gate = torch.sigmoid(tau * (log_ratio.exp() - 1.0)) * (4.0 / tau)
    return -gate * tokens.advantages, level_ratio_sums(tokens, difference, log_ratio)


def vespo(
    tokens: PolicyTokens,
    *,
    power_positive: float = 2.0,
    decay_positive: float = 3.0,
    power_negative: float = 3.0,
    decay_negative: float = 2.0,
) -> tuple[Tensor, Sums]:
    """VESPO: `-phi(w) A log pi` with a gamma-shaped weight of the sequence's product of ratios.

    arXiv:2602.10693: `phi(w) = e^lambda w^k e^(-lambda w)`, detached, 1 at `w = 1`, for
    `w = exp(sum of log-ratios)`. With `token-mean` it is TRL's loss. `w` is kept in [1e-8, e^20].

    Args:
        tokens: the micro-batch.
        power_positive: k where A >= 0.
        decay_positive: lambda where A >= 0.
        power_negative: k where A < 0.
        decay_negative: lambda where A < 0.

    Raises:
        ValueError: one is not positive.
    """
    shape = (power_positive, decay_positive, power_negative, decay_negative)
    if not min(shape) > 0.0:
        raise ValueError(f"powers and decays are {shape}: expected above 0")
    difference = (tokens.logprobs - tokens.old_logprobs).detach()
    bounded = difference.clamp(-VESPO_TOKEN_BOUND, VESPO_TOKEN_BOUND)
    total = sequence_sums(bounded, tokens.sequence_ids, tokens.sequences)
    log_weight = total.clamp(*VESPO_BOUNDS)[tokens.sequence_ids]
    power = _by_sign(tokens, tokens.advantages >= 0, power_positive, power_negative)
    decay = _by_sign(tokens, tokens.advantages >= 0, decay_positive, decay_negative)
    phi = (decay + power * log_weight - decay * log_weight.exp()).exp()
    sums = ratio_sums(difference, bound_log_ratio(difference, DEFAULT_BOUNDS))
    return -phi * tokens.advantages * tokens.logprobs, sums | {"weight": sum_over_tokens(phi)}


def _by_sign(tokens: PolicyTokens, positive: Tensor, there: float, elsewhere: float) -> Tensor:
    """`[N]` of the logprobs' dtype, which `torch.where` of two numbers would not be."""
    return torch.full_like(tokens.logprobs.detach(), elsewhere).masked_fill(positive, there)
