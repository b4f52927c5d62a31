"""DPPO: tokens that have moved too far *in probability* get no gradient.

arXiv:2602.04879. A ratio bounds nothing of what matters: for a token of probability 1e-6 a ratio of
5 is no change, for one of 0.9 a ratio of 1.1 is all that is left. DPPO measures the divergence of
the two-outcome distributions (this token, or any other), and masks a token that lies beyond the
threshold *and* is about to move further away. What passes is weighed by the truncated ratio,
detached: `-A sg[min(r, cap)] log pi`.

The paper anchors the mask on the policy that sampled: pass the sampler's logprobs as
`old_logprobs` for that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rlvr.objectives.policy import (
    DEFAULT_BOUNDS,
    LogRatioBounds,
    PolicyTokens,
    Sums,
    bound_log_ratio,
    ratio_sums,
    sum_over_tokens,
)

# Keeps log(1 - p) finite where p rounds to 1; verl's.
EPSILON = 1e-8


def dppo_tv(
    tokens: PolicyTokens,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    cap: float = 20.0,
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
) -> tuple[Tensor, Sums]:
    """DPPO with the total variation of the two-outcome distributions, `|p - p_old|`.

    Args:
        tokens: the micro-batch.
        clip_low: above 0, a difference of probabilities: tokens with A <= 0 train while
            `p - p_old >= -clip_low`.
        clip_high: above 0: tokens with A > 0 train while `p - p_old <= clip_high`.
        cap: above 0, of the ratio that weighs a token. verl's configuration sets 3, and says
            that a large one, such as 20, is better.
        log_ratio_bounds: of the log-ratio. verl's is `(-20, 20)`.

    Raises:
        ValueError: a threshold is not positive.
    """
    moved = (tokens.logprobs.exp() - tokens.old_logprobs.exp()).detach()
    return _masked(tokens, moved <= clip_high, moved >= -clip_low, clip_low, clip_high, cap,
                   log_ratio_bounds)  # fmt: skip


def dppo_kl(
    tokens: PolicyTokens,
    *,
    clip_low: float = 0.05,
    clip_high: float = 0.05,
    cap: float = 20.0,
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
) -> tuple[Tensor, Sums]:
    """DPPO with the KL divergence of the two-outcome distributions, `KL(p_old || p)`.

    Args:
        tokens: the micro-batch.
        clip_low: above 0, in nats: tokens with A <= 0 train while the divergence is at most this or
            `p >= p_old`.
        clip_high: above 0, in nats: tokens with A > 0 train while it is at most this or
            `p <= p_old`.
        cap: above 0, of the ratio that weighs a token.
        log_ratio_bounds: of the log-ratio. verl's is `(-20, 20)`.

    Raises:
        ValueError: a threshold is not positive.
    """
    new, old = tokens.logprobs.detach(), tokens.old_logprobs
    divergence = old.exp() * (old - new) - old.expm1() * (_log_of_rest(old) - _log_of_rest(new))
    return _masked(
        tokens,
        (divergence <= clip_high) | (new <= old),
        (divergence <= clip_low) | (new >= old),
        clip_low,
        clip_high,
        cap,
        log_ratio_bounds,
    )


def _masked(
    tokens: PolicyTokens,
    may_rise: Tensor,
    may_fall: Tensor,
    clip_low: float,
    clip_high: float,
    cap: float,
    log_ratio_bounds: LogRatioBounds,
) -> tuple[Tensor, Sums]:
    if not min(clip_low, clip_high, cap) > 0.0:
        raise ValueError(
            f"clip_low is {clip_low}, clip_high {clip_high}, cap {cap}: expected above 0"
        )
    difference = (tokens.logprobs - tokens.old_logprobs).detach()
    log_ratio = bound_log_ratio(difference, log_ratio_bounds)
    ratio = log_ratio.exp()
    rising = tokens.advantages > 0
    trains = torch.where(rising, may_rise, may_fall)
    loss = -tokens.advantages * ratio.clamp(max=cap) * tokens.logprobs
    return torch.where(trains, loss, torch.zeros_like(loss)), ratio_sums(difference, log_ratio) | {
        "clipped_low": sum_over_tokens(~trains & ~rising),
        "clipped_high": sum_over_tokens(~trains & rising),
        "capped": sum_over_tokens(trains & (ratio > cap)),
    }


def _log_of_rest(logprobs: Tensor) -> Tensor:
    """`log(1 - p)` from `log p`, with the digits that `1 - p` loses where p is nearly 1."""
    return (EPSILON - logprobs.expm1().clamp(max=0)).log()
