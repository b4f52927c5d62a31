"""Policy losses on packed tokens: the clipped surrogate, and weights for sampler mismatch.

Per-token tensors are `[N]` over completion tokens. A loss comes back per token, negated (to be
minimised), without any reduction: `rlvr.objectives.aggregation.aggregate` does that.

The log-ratio `log pi(a) - log pi_old(a)` is bounded above by 20 before it is exponentiated. A ratio
of e^20 = 4.9e8 is far outside every clip range, so the bound changes a loss only on the branch
that PPO does not clip (negative advantage, ratio exploded), which overflows float32 a little later
and would turn the update into NaN. There the gradient becomes 0, and the tokens are counted
(`bounded`). verl bounds at +-20, TRL not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from rlvr.objectives.checks import require_aligned

LOG_RATIO_BOUND = 20.0


@dataclass(frozen=True, kw_only=True)
class PolicyDiagnostics:
    """Sums over the tokens of one loss call: 0-D float64 tensors, detached, on the loss's device.

    Add those of all micro-batches (and, across processes, the tensors), then take `means`.

    Attributes:
        tokens: how many tokens.
        clipped_low: tokens with A < 0 and ratio below `1 - clip_low`: their gradient is cut.
        clipped_high: tokens with A > 0 and ratio above `1 + clip_high`: their gradient is cut.
        dual_clipped: tokens with A < 0 and ratio above `dual_clip`: their gradient is cut.
        bounded: tokens whose log-ratio lay above 20.
        approx_kl: sum of k3 estimates of KL(old || new), `ratio - 1 - log ratio`.
        ratio: sum of the probability ratios.
    """

    tokens: Tensor
    clipped_low: Tensor
    clipped_high: Tensor
    dual_clipped: Tensor
    bounded: Tensor
    approx_kl: Tensor
    ratio: Tensor

    def __add__(self, other: PolicyDiagnostics) -> PolicyDiagnostics:
        return PolicyDiagnostics(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )

    def means(self) -> dict[str, float]:
        """Token means of everything but `tokens`, by name; 0 where there were no tokens."""
        count = max(float(self.tokens), 1.0)
        return {
            f.name: float(getattr(self, f.name)) / count for f in fields(self) if f.name != "tokens"
        }


def clipped_policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> tuple[Tensor, PolicyDiagnostics]:
    """PPO's clipped surrogate with separate bounds: `-min(r A, clip(r, 1-low, 1+high) A)`.

    Schulman et al. 2017 (PPO), arXiv:1707.06347, eq. 7 where `clip_low == clip_high`; Yu et al.
    2025 (DAPO), arXiv:2503.14476, eq. 10 (clip-higher) where not. `dual_clip` bounds the loss of
    tokens with a negative advantage at `-c A` (Ye et al. 2020, arXiv:1912.09729, dual-clip PPO);
    verl does so by default with c = 3, TRL does not; here it is off unless asked for.

    Args:
        logprobs: `[N]` float32 or float64, under the policy being trained; gradients flow here.
        old_logprobs: `[N]`, under the policy at the start of this optimisation phase. Detached
            here, so that `old_logprobs=logprobs` is the on-policy case with its right gradient.
        advantages: `[N]`, each token's; detached here.
        clip_low: in [0, 1): the ratio's lower bound is `1 - clip_low`.
        clip_high: at least 0: the ratio's upper bound is `1 + clip_high`.
        dual_clip: c, above `1 + clip_high`; None switches it off.

    Returns:
        The loss of each token, `[N]`, not reduced; and sums for the log.

    Raises:
        ValueError: shapes or dtypes differ, or a bound is out of range.
    """
    require_aligned(logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages)
    _require_bounds(clip_low, clip_high, dual_clip)
    advantages = advantages.detach()
    difference = logprobs - old_logprobs.detach()
    log_ratio = difference.clamp(max=LOG_RATIO_BOUND)
    ratio = log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    # Not torch.maximum: where both are equal it gives each half of the gradient.
    loss = torch.where(clipped > unclipped, clipped, unclipped)
    negative = advantages < 0
    dual = torch.zeros_like(negative)
    if dual_clip is not None:
        dual = negative & (ratio > dual_clip)
        loss = torch.where(dual, -advantages * dual_clip, loss)
    with torch.no_grad():
        diagnostics = PolicyDiagnostics(
            tokens=torch.tensor(float(len(loss)), dtype=torch.float64, device=loss.device),
            clipped_low=_sum(negative & (ratio < 1.0 - clip_low)),
            clipped_high=_sum((advantages > 0) & (ratio > 1.0 + clip_high)),
            dual_clipped=_sum(dual),
            bounded=_sum(difference > LOG_RATIO_BOUND),
            approx_kl=_sum(log_ratio.expm1() - log_ratio),
            ratio=_sum(ratio),
        )
    return loss, diagnostics


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


def _require_bounds(clip_low: float, clip_high: float, dual_clip: float | None) -> None:
    if not 0.0 <= clip_low < 1.0:
        raise ValueError(f"clip_low is {clip_low}: expected 0 <= clip_low < 1")
    if not clip_high >= 0.0:
        raise ValueError(f"clip_high is {clip_high}: expected at least 0")
    if dual_clip is not None and not dual_clip > 1.0 + clip_high:
        raise ValueError(
            f"dual_clip is {dual_clip}: expected above 1 + clip_high ({1 + clip_high})"
        )


def _sum(values: Tensor) -> Tensor:
    return values.sum(dtype=torch.float64)
