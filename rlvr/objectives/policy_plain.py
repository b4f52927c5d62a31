"""Policy losses without a clip: REINFORCE, plain importance sampling, DRO."""

from __future__ import annotations

from torch import Tensor

from rlvr.objectives.policy import (
    DEFAULT_BOUNDS,
    LogRatioBounds,
    PolicyTokens,
    Sums,
    bound_log_ratio,
    ratio_sums,
)


def reinforce(tokens: PolicyTokens) -> tuple[Tensor, Sums]:
    """REINFORCE: `-A log pi`, without a ratio (Williams 1992; verl's `gpg`).

    Right for tokens that the policy itself sampled just now. With `seq-mean-token-sum` it is the
    policy gradient of whole completions (Ahmadian et al. 2024, arXiv:2402.14740).
    """
    difference = (tokens.logprobs - tokens.old_logprobs).detach()
    bounded = bound_log_ratio(difference, DEFAULT_BOUNDS)
    return -tokens.advantages * tokens.logprobs, ratio_sums(difference, bounded)


def importance(
    tokens: PolicyTokens, *, log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS
) -> tuple[Tensor, Sums]:
    """Plain importance sampling: `-r A`, the surrogate before any clipping (PPO eq. 6; TRPO).

    Its variance is not bounded: for one update off-policy, or as the yardstick of the others.

    Args:
        tokens: the micro-batch.
        log_ratio_bounds: of the log-ratio; beyond it the gradient is 0.
    """
    difference = tokens.logprobs - tokens.old_logprobs
    log_ratio = bound_log_ratio(difference, log_ratio_bounds)
    return -tokens.advantages * log_ratio.exp(), ratio_sums(difference, log_ratio)


def dro(tokens: PolicyTokens, *, beta: float) -> tuple[Tensor, Sums]:
    """DRO: `-A log pi + beta / 2 (log ratio)^2`, a quadratic pull back instead of a clip.

    verl's `dro`: the policy's half of Direct Reward Optimisation (Richemond et al. 2024,
    arXiv:2405.19107) token by token, with the advantage in place of reward less value.

    Args:
        tokens: the micro-batch.
        beta: above 0, of the penalty, per squared nat.

    Raises:
        ValueError: `beta` is not positive.
    """
    if not beta > 0.0:
        raise ValueError(f"beta is {beta}: expected above 0")
    difference = tokens.logprobs - tokens.old_logprobs
    bounded = bound_log_ratio(difference.detach(), DEFAULT_BOUNDS)
    penalty = 0.5 * beta * difference.square()
    sums = ratio_sums(difference.detach(), bounded)
    return -tokens.advantages * tokens.logprobs + penalty, sums
