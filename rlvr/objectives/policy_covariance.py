"""Clip-Cov and KL-Cov: restraint for the few tokens that make the entropy collapse.

Cui et al. 2025, "The entropy mechanism of reinforcement learning", arXiv:2505.22617. Which tokens
those are depends on the whole optimisation batch: `rlvr.objectives.token_selection` chooses, and
`PolicyTokens.selected` carries the choice here.
"""

from __future__ import annotations

from torch import Tensor

from rlvr.objectives.policy import (
    DEFAULT_BOUNDS,
    LogRatioBounds,
    PolicyTokens,
    Sums,
    clip,
    sum_over_tokens,
)
from rlvr.objectives.policy_plain import importance
from rlvr.objectives.token_selection import keep_only


def clip_cov(
    tokens: PolicyTokens,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
) -> tuple[Tensor, Sums]:
    """Clip-Cov: PPO's clipped surrogate without the selected tokens.

    Args:
        tokens: the micro-batch, with `selected` from `token-selection/clip-cov`.
        clip_low: as for `clip`.
        clip_high: as for `clip`.
        log_ratio_bounds: as for `clip`. verl's is `(-inf, inf)` here.

    Raises:
        ValueError: `selected` is missing, or a bound is out of range.
    """
    selected = _selected(tokens, "clip-cov")
    loss, sums = clip(
        tokens, clip_low=clip_low, clip_high=clip_high, log_ratio_bounds=log_ratio_bounds
    )
    return keep_only(loss, ~selected), sums | {"selected": sum_over_tokens(selected)}


def kl_cov(
    tokens: PolicyTokens,
    *,
    kl_coefficient: float = 1.0,
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
) -> tuple[Tensor, Sums]:
    """KL-Cov: plain importance sampling, with `|log ratio|` as a penalty on the selected.

    Args:
        tokens: the micro-batch, with `selected` from `token-selection/kl-cov`.
        kl_coefficient: of the penalty, at least 0. The paper's and verl's function default is 1,
            the default of verl's configuration 0.1.
        log_ratio_bounds: of the log-ratio. verl's is `(-inf, inf)` here.

    Raises:
        ValueError: `selected` is missing, or the coefficient is negative.
    """
    if not kl_coefficient >= 0.0:
        raise ValueError(f"kl_coefficient is {kl_coefficient}: expected at least 0")
    selected = _selected(tokens, "kl-cov")
    loss, sums = importance(tokens, log_ratio_bounds=log_ratio_bounds)
    penalty = keep_only((tokens.logprobs - tokens.old_logprobs).abs(), selected)
    return loss + kl_coefficient * penalty, sums | {"selected": sum_over_tokens(selected)}


def _selected(tokens: PolicyTokens, name: str) -> Tensor:
    if tokens.selected is None:
        raise ValueError(
            f"policy loss {name!r} needs `selected`: which tokens it restrains is chosen over the "
            f"whole optimisation batch, by select_tokens({name!r}, ...)"
        )
    return tokens.selected
