"""Sampler and trainer that disagree: importance weights, masks, rejection, and how far apart.

The sampler's probabilities differ from the trainer's for the same weights (another kernel, another
precision) or for older ones (staleness). With `w = pi_trainer / pi_sampler`, trainer's logprobs
recomputed before the first update, the loss of a token is multiplied by a weight at one of three
levels:

    token                w of the token
    sequence-product     product of w over the sequence: unbiased, its variance grows with length
    sequence-geometric   geometric mean of w over the sequence: biased, stays near 1

and `w` outside the bounds is treated in one of three modes:

    truncate   clamped to the bounds (V-trace, arXiv:1802.01561; TIS)
    mask       weight 0; inside, `w` (IcePop; TRL's `*_mask`)
    reject     weight 0 for the whole sequence if its w, or that of any of its tokens, lies
               outside; exactly 1 for all other tokens

Where the two agree every weight is exactly 1. Weights are detached and change no denominator: a
token of weight 0 still counts (TRL). To divide by what is left (verl's rejection), leave the tokens
of weight 0 out of the batch before its totals are taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from rlvr.objectives.checks import require_aligned, require_ids

Level = Literal["token", "sequence-product", "sequence-geometric"]
Mode = Literal["truncate", "mask", "reject"]
LEVELS: tuple[str, ...] = ("token", "sequence-product", "sequence-geometric")
MODES: tuple[str, ...] = ("truncate", "mask", "reject")

# Log-weights are measured within +-20, so that squares of exploded ones stay finite (verl's bound).
LOG_WEIGHT_BOUND = 20.0


@dataclass(frozen=True, kw_only=True)
class MismatchSums:
    """How far sampler and trainer are apart, before any truncation: 0-D float64 tensors.

    Add those of all micro-batches (`+`); across processes, sum all but `largest`, take the maximum
    of that; then `metrics`. A unit is a token, or a sequence at the sequence levels.

    Attributes:
        tokens: how many tokens.
        gap: sum over tokens of `abs(log pi_trainer - log pi_sampler)`.
        kl: sum over tokens of k3 estimates of KL(sampler || trainer), `w - 1 - log w`.
        units: how many weights.
        weight: their sum.
        weight_squared: the sum of their squares.
        beyond: how many lie outside the bounds.
        zeroed: sum over tokens of `final weight == 0`.
        largest: the largest weight; 0 where there are none.
    """

    tokens: Tensor
    gap: Tensor
    kl: Tensor
    units: Tensor
    weight: Tensor
    weight_squared: Tensor
    beyond: Tensor
    zeroed: Tensor
    largest: Tensor

    def __add__(self, other: MismatchSums) -> MismatchSums:
        added = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return MismatchSums(**added | {"largest": torch.maximum(self.largest, other.largest)})

    def metrics(self) -> dict[str, float]:
        """By name; all 0 but `mean`, `largest` and `effective` (1) where the two agree.

        `gap` and `kl` are token means in nats; `mean` and `largest` of the weights; `effective`,
        the share of the sample that is left of it (Kish: `(sum w)^2 / (n sum w^2)`); `chi2`, the
        mean of `w^2` less 1; `beyond` and `zeroed`, shares.
        """
        tokens, units = max(float(self.tokens), 1.0), max(float(self.units), 1.0)
        weight, squared = float(self.weight), float(self.weight_squared)
        return {
            "gap": float(self.gap) / tokens,
            "kl": float(self.kl) / tokens,
            "mean": weight / units,
            "largest": float(self.largest),
            "effective": weight**2 / (units * squared) if squared else 1.0,
            "chi2": squared / units - 1.0 if squared else 0.0,
            "beyond": float(self.beyond) / units,
            "zeroed": float(self.zeroed) / tokens,
        }


@torch.no_grad()
def mismatch_weights(
    trainer_old_logprobs: Tensor,
    sampler_logprobs: Tensor,
    sequence_ids: Tensor,
    *,
    level: Level | str,
    mode: Mode | str,
    low: float = 0.0,
    high: float,
) -> tuple[Tensor, MismatchSums]:
    """The weight of each token's loss, and how far apart sampler and trainer are.

    Args:
        trainer_old_logprobs: `[N]`, recomputed by the trainer with the weights that sampled.
        sampler_logprobs: `[N]`, as the sampler reported them.
        sequence_ids: `[N]` int64 from 0; all trained tokens of a sequence are here.
        level: a `Level`.
        mode: a `Mode`.
        low: in [0, 1], the lower bound of `w`; 0 is none.
        high: at least 1, the upper bound; infinity is none. 2 is usual for tokens.

    Returns:
        `[N]` weights of the logprobs' dtype, detached, to be multiplied with the per-token policy
        loss; and the sums of what was measured before truncation.

    Raises:
        ValueError: shapes or dtypes differ, a logprob is not finite, `level` or `mode` is unknown,
            or the bounds exclude 1, where the two agree.
    """
    require_aligned(trainer_old_logprobs=trainer_old_logprobs, sampler_logprobs=sampler_logprobs)
    require_ids("sequence_ids", sequence_ids, sampler_logprobs)
    _require_choices(level, mode, low, high)
    log_ratio = trainer_old_logprobs - sampler_logprobs
    if not bool(log_ratio.isfinite().all()):
        raise ValueError(
            f"{int((~log_ratio.isfinite()).sum())} of {len(log_ratio)} log-ratios of trainer to "
            "sampler are not finite: a token that was sampled has a finite logprob in both"
        )
    sequences = int(sequence_ids.max()) + 1 if len(sequence_ids) else 0
    lengths = torch.bincount(sequence_ids, minlength=sequences)
    log_weights = log_ratio
    if level != "token":
        log_weights = log_ratio.new_zeros(sequences).index_add(0, sequence_ids, log_ratio)
        if level == "sequence-geometric":
            log_weights = log_weights / lengths.clamp(min=1)
    ratio = log_weights.exp()
    outside = (ratio < low) | (ratio > high)
    ratio = ratio.clamp(max=math.exp(LOG_WEIGHT_BOUND))  # infinity times a loss of 0 is NaN
    if mode == "truncate":
        weights = ratio.clamp(low, high)
    elif mode == "mask":
        weights = torch.where(outside, torch.zeros_like(ratio), ratio)
    else:
        weights = 1.0 - _rejected(outside, sequence_ids, sequences, level).to(ratio.dtype)
    present = torch.ones_like(ratio, dtype=torch.bool) if level == "token" else lengths > 0
    per_token = weights if level == "token" else weights[sequence_ids]
    return per_token, _measure(log_ratio, log_weights[present], outside[present], per_token)


def importance_weights(
    trainer_old_logprobs: Tensor, sampler_logprobs: Tensor, *, cap: float
) -> Tensor:
    """Truncated token-level importance weights: `min(pi_trainer(a) / pi_sampler(a), cap)`.

    They correct for a sampler whose probabilities differ from the trainer's for the same weights
    (another kernel, another precision); a loss per token is multiplied by them before
    aggregation. Truncation as in V-trace's rho (Espeholt et al. 2018, arXiv:1802.01561, eq. 1):
    less variance for a bias that grows with the mass beyond the cap.

    Args:
        trainer_old_logprobs: `[N]`, recomputed by the trainer with the weights that sampled.
        sampler_logprobs: `[N]`, as the sampler reported them.
        cap: above 0; 2 is usual.

    Returns:
        `[N]` in [0, cap], detached; exactly 1 where the two agree (and cap >= 1).

    Raises:
        ValueError: shapes or dtypes differ, or `cap` is not positive.
    """
    require_aligned(trainer_old_logprobs=trainer_old_logprobs, sampler_logprobs=sampler_logprobs)
    if not cap > 0:
        raise ValueError(f"cap is {cap}: expected above 0")
    return (trainer_old_logprobs - sampler_logprobs).detach().exp().clamp(max=cap)


@torch.no_grad()
def on_policy_sequences(
    logprobs: Tensor,
    sampler_logprobs: Tensor,
    advantages: Tensor,
    sequence_ids: Tensor,
    *,
    threshold: float,
) -> Tensor:
    """Which tokens to keep so that a sequence that went stale is not pushed further down.

    A sequence with a negative advantage is dropped where its mean `log pi_sampler - log pi` exceeds
    the threshold: DeepSeek-V3.2, arXiv:2512.02556; TRL's `off_policy_mask_threshold`. It depends on
    the policy as it is now, so it is asked again at each update (`keep_only` applies it).

    Args:
        logprobs: `[N]`, under the policy being trained.
        sampler_logprobs: `[N]`, under the policy that sampled.
        advantages: `[N]`.
        sequence_ids: `[N]` int64 from 0; all trained tokens of a sequence are here.
        threshold: above 0, in nats a token.

    Returns:
        `[N]` bool, True where a token is kept.

    Raises:
        ValueError: shapes or dtypes differ, or the threshold is not positive.
    """
    require_aligned(logprobs=logprobs, sampler_logprobs=sampler_logprobs, advantages=advantages)
    require_ids("sequence_ids", sequence_ids, logprobs)
    if not threshold > 0:
        raise ValueError(f"threshold is {threshold}: expected above 0")
    sequences = int(sequence_ids.max()) + 1 if len(sequence_ids) else 0
    gap = sampler_logprobs - logprobs
    lengths = torch.bincount(sequence_ids, minlength=sequences).clamp(min=1)
    mean = gap.new_zeros(sequences).index_add(0, sequence_ids, gap) / lengths
    return (advantages >= 0) | (mean <= threshold)[sequence_ids]


def _rejected(outside: Tensor, sequence_ids: Tensor, sequences: int, level: str) -> Tensor:
    """Whether a unit's sequence has anything outside the bounds: `[N]` or `[sequences]` bool."""
    if level != "token":
        return outside
    count = torch.zeros(sequences, dtype=torch.int64, device=outside.device)
    return count.index_add(0, sequence_ids, outside.long())[sequence_ids] > 0


def _measure(
    log_ratio: Tensor, log_weights: Tensor, outside: Tensor, per_token: Tensor
) -> MismatchSums:
    bounded = log_ratio.double().clamp(-LOG_WEIGHT_BOUND, LOG_WEIGHT_BOUND)
    weights = log_weights.double().clamp(-LOG_WEIGHT_BOUND, LOG_WEIGHT_BOUND).exp()
    zero = weights.new_zeros(())
    return MismatchSums(
        tokens=zero + len(log_ratio),
        gap=log_ratio.double().abs().sum(),
        kl=(bounded.expm1() - bounded).sum(),
        units=zero + len(weights),
        weight=weights.sum(),
        weight_squared=weights.square().sum(),
        beyond=outside.sum(dtype=torch.float64),
        zeroed=(per_token == 0).sum(dtype=torch.float64),
        largest=weights.max() if len(weights) else zero,
    )


def _require_choices(level: str, mode: str, low: float, high: float) -> None:
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}: expected one of {', '.join(LEVELS)}")
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}: expected one of {', '.join(MODES)}")
    if not 0.0 <= low <= 1.0 <= high:
        raise ValueError(
            f"low is {low}, high {high}: expected 0 <= low <= 1 <= high, so that a sampler that "
            "agrees with the trainer changes nothing"
        )
