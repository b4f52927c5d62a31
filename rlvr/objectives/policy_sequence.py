"""Policy losses with one ratio for a whole sequence: GSPO, RLOO as TRL has it, GMPO.

Every token of a sequence carries the sequence's loss, so that `seq-mean-token-mean` gives the
mean over sequences that the papers minimise. Advantages are meant to be constant over a sequence
(`gspo-token` alone is for advantages that are not).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rlvr.objectives.aggregation import sequence_sums
from rlvr.objectives.policy import (
    DEFAULT_BOUNDS,
    LogRatioBounds,
    PolicyTokens,
    Sums,
    bound_log_ratio,
    clipped_surrogate,
    ratio_sums,
    sum_over_tokens,
)

RatioLevel = Literal["token", "sequence"]


def gspo(
    tokens: PolicyTokens,
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    dual_clip: float | None = None,
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
) -> tuple[Tensor, Sums]:
    """GSPO: the clipped surrogate of the length-normalised sequence ratio `s`.

    Zheng et al. 2025, arXiv:2507.18071, eq. 5 and 7: `s = exp(mean over tokens of the log-ratio)`,
    the same for each token of a sequence; the gradient flows through the whole mean. With
    `seq-mean-token-mean` it is the paper's loss; with `seq-mean-token-sum`, which weighs a sequence
    by its length, TRL's `luspo` (arXiv:2602.05261). The ranges by default are the paper's
    (section 5.1).

    Args:
        tokens: the micro-batch.
        clip_low: in [0, 1): `s` is clipped below at `1 - clip_low`.
        clip_high: at least 0: `s` is clipped above at `1 + clip_high`.
        dual_clip: bound of `s` where the advantage is negative (TRL's `delta`); None for none.
        log_ratio_bounds: of `log s`. verl's is `(-inf, 10)`, TRL's `(-inf, inf)`.

    Raises:
        ValueError: a bound is out of range.
    """
    log_ratio = _mean_log_ratio(tokens)
    return _clipped(tokens, log_ratio, clip_low, clip_high, dual_clip, log_ratio_bounds)


def gspo_token(
    tokens: PolicyTokens,
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
    dual_clip: float | None = None,
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
) -> tuple[Tensor, Sums]:
    """GSPO-token: the sequence ratio's value with each token's own gradient.

    Zheng et al. 2025, arXiv:2507.18071, eq. 13 and 14: `s_t = sg[s] pi_t / sg[pi_t]`. Value and
    gradient equal `gspo`'s where the advantage is constant over a sequence (and with
    `seq-mean-token-mean`); where it is not, a token is credited with its own. verl's `gspo`.

    Args and errors as for `gspo`.
    """
    own = tokens.logprobs - tokens.logprobs.detach()  # value 0, the token's gradient
    log_ratio = _mean_log_ratio(tokens).detach() + own
    return _clipped(tokens, log_ratio, clip_low, clip_high, dual_clip, log_ratio_bounds)


def rloo(
    tokens: PolicyTokens,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
) -> tuple[Tensor, Sums]:
    """The clipped surrogate of the sequence's product of ratios, as TRL's RLOO trainer has it.

    `r = exp(sum over tokens of the log-ratio)`, a completion as one action (Ahmadian et al. 2024,
    arXiv:2402.14740), clipped as in PPO. With `seq-mean-token-mean` it is TRL's loss.
    Its variance grows with the length; on-policy its gradient is that of `reinforce` with
    `seq-mean-token-sum`.

    Args and errors as for `gspo`, with the product in place of the geometric mean.
    """
    log_ratio = _sum_log_ratio(tokens)
    return _clipped(tokens, log_ratio, clip_low, clip_high, dual_clip, log_ratio_bounds)


def gmpo(
    tokens: PolicyTokens,
    *,
    clip_low: float = 0.4,
    clip_high: float = 0.4,
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
) -> tuple[Tensor, Sums]:
    """GMPO: the geometric mean over a sequence of token-wise clipped ratios.

    Zhao et al. 2025, arXiv:2507.20673: each token's log-ratio is clipped on the side that
    PPO clips (above for A > 0, below for A < 0), and `-A exp(mean of them)` is the sequence's loss.
    With `seq-mean-token-mean` it is the paper's; verl counts sequences without tokens too.

    Args:
        tokens: the micro-batch; a sequence's advantage is the mean of its tokens'.
        clip_low: above 0, of the *log*-ratio: clipped below at `-clip_low`. The paper's is 0.4.
        clip_high: above 0: clipped above at `clip_high`.
        log_ratio_bounds: of the mean of the clipped log-ratios.

    Raises:
        ValueError: a bound is out of range.
    """
    if not (clip_low > 0.0 and clip_high > 0.0):
        raise ValueError(f"clip_low is {clip_low}, clip_high {clip_high}: expected above 0")
    advantages, difference = tokens.advantages, tokens.logprobs - tokens.old_logprobs
    up, down = advantages > 0, advantages < 0
    one_sided = torch.where(up, difference.clamp(max=clip_high), difference.clamp(min=-clip_low))
    one_sided = torch.where(up | down, one_sided, torch.zeros_like(one_sided))
    mean = _over_sequences(tokens, one_sided, normalise=True)
    bounded = bound_log_ratio(mean, log_ratio_bounds)
    loss = -_over_sequences(tokens, advantages, normalise=True) * bounded.exp()
    with torch.no_grad():
        sums = level_ratio_sums(tokens, mean, bounded) | {
            "clipped_low": sum_over_tokens(down & (difference < -clip_low)),
            "clipped_high": sum_over_tokens(up & (difference > clip_high)),
        }
    return loss, sums


def _clipped(
    tokens: PolicyTokens,
    log_ratio: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
    bounds: LogRatioBounds,
) -> tuple[Tensor, Sums]:
    bounded = bound_log_ratio(log_ratio, bounds)
    loss, clipped = clipped_surrogate(
        bounded.exp(),
        tokens.advantages,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
    )
    return loss, clipped | level_ratio_sums(tokens, log_ratio, bounded)


def _mean_log_ratio(tokens: PolicyTokens) -> Tensor:
    return _over_sequences(tokens, tokens.logprobs - tokens.old_logprobs, normalise=True)


def _sum_log_ratio(tokens: PolicyTokens) -> Tensor:
    return _over_sequences(tokens, tokens.logprobs - tokens.old_logprobs, normalise=False)


def _over_sequences(tokens: PolicyTokens, values: Tensor, *, normalise: bool) -> Tensor:
    """`[N]`: for each token the sum (or mean) of `values` over its sequence."""
    ids, count = tokens.sequence_ids, tokens.sequences
    reduced = sequence_sums(values, ids, count)
    if normalise:
        reduced = reduced / torch.bincount(ids, minlength=count).clamp(min=1)
    return reduced[ids]


def level_log_ratio(tokens: PolicyTokens, level: RatioLevel) -> Tensor:
    """`[N]`: each token's log-ratio, or the mean over its sequence.

    Raises:
        ValueError: `level` is unknown.
    """
    if level == "token":
        return tokens.logprobs - tokens.old_logprobs
    if level != "sequence":
        raise ValueError(f"level is {level!r}: expected 'token' or 'sequence'")
    return _mean_log_ratio(tokens)


@torch.no_grad()
def level_ratio_sums(tokens: PolicyTokens, log_ratio: Tensor, bounded: Tensor) -> Sums:
    """A sequence's ratio at each token; the divergence is a token's own, as for other losses."""
    difference = tokens.logprobs - tokens.old_logprobs
    own = ratio_sums(difference, bound_log_ratio(difference, DEFAULT_BOUNDS))
    return ratio_sums(log_ratio, bounded) | {"approx_kl": own["approx_kl"]}
