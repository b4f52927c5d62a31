"""Which tokens of the whole optimisation batch are special: `token-selection/<name>`.

A selection ranks tokens against each other, so it is made once, over all micro-batches and
processes, and never inside a loss: a threshold taken per micro-batch (as TRL's and verl's are)
changes with the split. Each is one function

    (tokens: PolicyTokens, *, seed: int, **options) -> bool [N]

over the tokens of the whole batch, in the batch's own order. What it means is the user's: the loss
`policy/clip-cov` drops what `token-selection/clip-cov` chose, `policy/kl-cov` punishes it, and
`top-entropy` is what `keep_only` keeps.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rlvr.objectives.policy import PolicyTokens
from rlvr.registry import check_options, objectives


@torch.no_grad()
def select_tokens(name: str, tokens: PolicyTokens, *, seed: int, **options: Any) -> Tensor:
    """The selection registered as `token-selection/<name>`, over the whole optimisation batch.

    Args:
        name: `clip-cov`, `kl-cov`, `top-entropy`.
        tokens: of the whole batch, in an order that does not depend on its split.
        seed: of what is drawn at random.
        options: the selection's own.

    Returns:
        `[N]` bool on the tokens' device.

    Raises:
        UnknownNameError: no selection has that name.
        ConfigError: an option is unknown.
        ValueError: an option is out of range, or what it needs (entropy) is missing.
    """
    function: Any = objectives.get(f"token-selection/{name}")
    check_options(partial(function, tokens, seed=seed), options, f"token selection {name!r}")
    chosen: Tensor = function(tokens, seed=seed, **options)
    if chosen.shape != tokens.logprobs.shape or chosen.dtype != torch.bool:
        raise ValueError(
            f"token selection {name!r} gave {chosen.dtype} of shape {list(chosen.shape)}: "
            f"expected torch.bool of shape {list(tokens.logprobs.shape)}"
        )
    return chosen


def keep_only(per_token: Tensor, keep: Tensor) -> Tensor:
    """The loss of the tokens in `keep`, 0 (and gradient 0) of the others.

    The denominators of the aggregation are still those of all tokens, as in TRL.
    """
    return torch.where(keep, per_token, torch.zeros_like(per_token))


def covariances(tokens: PolicyTokens) -> Tensor:
    """`[N]` float64: each token's share in the covariance of advantage and log-probability.

    `(A - mean A) (log pi - mean log pi)`, means over all tokens: Cui et al. 2025, arXiv:2505.22617.
    Entropy falls where it is large: likely tokens that are rewarded.
    """
    advantages, logprobs = tokens.advantages.double(), tokens.logprobs.detach().double()
    return (advantages - advantages.mean()) * (logprobs - logprobs.mean())


def clip_cov(
    tokens: PolicyTokens,
    *,
    seed: int,
    share: float = 2e-4,
    low: float = 1.0,
    high: float = 5.0,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Tensor:
    """A random `share` of the batch, drawn from the tokens with a covariance in (low, high).

    Cui et al. 2025, arXiv:2505.22617. Tokens whose gradient PPO's clip cuts anyway
    are not drawn (as in verl).

    Args:
        tokens: of the whole batch.
        seed: of the draw.
        share: in (0, 1], of all tokens; at least one token is drawn where any qualifies.
        low: the covariance's lower bound, excluded.
        high: its upper bound, excluded.
        clip_low: of the loss that this is for.
        clip_high: of the loss that this is for.

    Raises:
        ValueError: `share` is out of range, or `low` is not below `high`.
    """
    _require_share(share)
    if not low < high:
        raise ValueError(f"low is {low}, high {high}: expected low < high")
    if not len(tokens):
        return torch.zeros_like(tokens.advantages, dtype=torch.bool)
    found, advantages = covariances(tokens), tokens.advantages
    ratio = (tokens.logprobs.detach() - tokens.old_logprobs).exp()
    cut = ((advantages < 0) & (ratio < 1 - clip_low)) | ((advantages > 0) & (ratio > 1 + clip_high))
    eligible = ((found > low) & (found < high) & ~cut).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same draw on every device
    drawn = torch.randperm(len(eligible), generator=generator)[: _count(share, len(tokens))]
    return _mark(tokens, eligible[drawn.to(eligible.device)])


def kl_cov(tokens: PolicyTokens, *, seed: int, share: float = 2e-4) -> Tensor:
    """The `share` of the batch with the largest covariances: Cui et al. 2025.

    Args:
        tokens: of the whole batch.
        seed: not used: ties go to the earlier token.
        share: in (0, 1], of all tokens; at least one.

    Raises:
        ValueError: `share` is out of range.
    """
    _require_share(share)
    if not len(tokens):
        return torch.zeros_like(tokens.advantages, dtype=torch.bool)
    ranked = covariances(tokens).argsort(descending=True, stable=True)
    return _mark(tokens, ranked[: _count(share, len(tokens))])


def top_entropy(tokens: PolicyTokens, *, seed: int, share: float = 0.2) -> Tensor:
    """The `share` of the batch where the policy was least certain, to train on alone.

    Wang et al. 2025, "Beyond the 80/20 rule", arXiv:2506.01939: entropy at or above its
    `1 - share` quantile (interpolated linearly); TRL's `top_entropy_quantile`. Ties are all kept.

    Args:
        tokens: of the whole batch, with `entropy`.
        seed: not used.
        share: in (0, 1]; 1 keeps all.

    Raises:
        ValueError: `share` is out of range, or `entropy` is missing.
    """
    _require_share(share)
    if tokens.entropy is None:
        raise ValueError("token selection 'top-entropy' needs the tokens' entropy: it is None")
    if not len(tokens):
        return torch.zeros_like(tokens.advantages, dtype=torch.bool)
    # Not torch.quantile: it refuses more than 2^24 values.
    ascending = tokens.entropy.sort().values
    position = (1.0 - share) * (len(ascending) - 1)
    below, above = ascending[math.floor(position)], ascending[math.ceil(position)]
    return tokens.entropy >= torch.lerp(below, above, position - math.floor(position))


def _count(share: float, tokens: int) -> int:
    return max(int(share * tokens), 1)


def _mark(tokens: PolicyTokens, positions: Tensor) -> Tensor:
    chosen = torch.zeros_like(tokens.advantages, dtype=torch.bool)
    chosen[positions] = True
    return chosen


def _require_share(share: float) -> None:
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share is {share}: expected 0 < share <= 1")
