"""The supervised loss: cross-entropy of given completions, per token."""

from __future__ import annotations

from torch import Tensor

from rlvr.objectives.checks import require_aligned


def cross_entropy(logprobs: Tensor) -> Tensor:
    """Negative log-likelihood of each target token: `-log pi(token)`.

    With `aggregate(..., how="token-mean")` this is the usual loss of supervised fine-tuning, with
    the mean over the whole optimisation batch rather than over each micro-batch.

    Args:
        logprobs: `[N]` float32 or float64, of the target tokens (`token_logprobs`).

    Returns:
        `[N]`, in nats, not reduced.

    Raises:
        ValueError: shape or dtype is wrong.
    """
    require_aligned(logprobs=logprobs)
    return -logprobs
