"""Weights for a sampler whose probabilities differ from the trainer's for the same weights."""

from __future__ import annotations

from torch import Tensor

from rlvr.objectives.checks import require_aligned


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
