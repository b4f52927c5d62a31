"""Log-probabilities and entropies of tokens from logits, without a float32 copy of the logits.

Logits `[N, V]` are the largest tensor of a training step. `log_softmax(logits.float())` makes one
or two float32 copies of them and keeps one for the backward pass. Here rows are taken a few at a
time, in both passes; only the logits themselves (in their own dtype) and a few floats a row are
kept. Results are float32 (float64 for float64 logits), whatever the dtype of the logits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Scratch floats at a time: 2 MiB keeps a chunk of rows in a CPU's cache.
_SCRATCH = {"cpu": 1 << 19}
_SCRATCH_ON_ACCELERATOR = 1 << 26


def token_logprobs(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """`log softmax(logits / temperature)` at the target tokens.

    Args:
        logits: `[N, V]` of any float dtype; gradients flow, in that dtype.
        targets: `[N]` int64 token ids.
        temperature: above 0; the sampling temperature, where the result is compared with the
            sampler's log-probabilities.

    Returns:
        `[N]` float32 (float64 for float64 logits), in nats.

    Raises:
        ValueError: a shape or dtype is wrong, or the temperature is not positive.
    """
    _check(logits, targets, temperature)
    logprobs, _ = _statistics(logits, targets, temperature, False)
    return logprobs


def token_logprobs_and_entropy(
    logits: Tensor, targets: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The log-probabilities of `token_logprobs`, and the entropy of each row, in one pass.

    Args:
        logits: `[N, V]` of any float dtype; gradients flow through both results.
        targets: `[N]` int64 token ids.
        temperature: above 0; divides the logits for both results.

    Returns:
        Log-probabilities `[N]` and entropies `[N]` of `softmax(logits / temperature)`, in nats,
        float32 (float64 for float64 logits).

    Raises:
        ValueError: a shape or dtype is wrong, or the temperature is not positive.
    """
    _check(logits, targets, temperature)
    logprobs, entropy = _statistics(logits, targets, temperature, True)
    assert entropy is not None
    return logprobs, entropy


def _statistics(
    logits: Tensor, targets: Tensor, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor | None]:
    apply: Any = _TokenStatistics.apply
    statistics: tuple[Tensor, Tensor | None] = apply(logits, targets, temperature, with_entropy)
    return statistics


class _TokenStatistics(torch.autograd.Function):
    """With p = softmax(z), z = logits / T: d logp_t / dz = onehot_t - p; dH/dz = -p (log p + H)."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, temperature: float, with_entropy: bool
    ) -> tuple[Tensor, Tensor | None]:
        wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
        highest = torch.empty(len(logits), dtype=wide, device=logits.device)
        log_sum, logprobs = torch.empty_like(highest), torch.empty_like(highest)
        entropy = torch.empty_like(highest) if with_entropy else None
        for rows in _chunks(logits):
            scaled = _scaled(logits[rows], wide, temperature)
            highest[rows] = scaled.amax(dim=-1)
            # max and log-sum stay apart: their sum would round away the small log-probabilities
            # of confident tokens (at a logit of 30, float32 has steps of 2e-6).
            shifted = scaled - highest[rows].unsqueeze(-1)
            log_sum[rows] = shifted.exp().sum(dim=-1).log()
            chosen = shifted.gather(-1, targets[rows].unsqueeze(-1)).squeeze(-1)
            logprobs[rows] = chosen - log_sum[rows]
            if entropy is not None:
                log_p = shifted.sub_(log_sum[rows].unsqueeze(-1))
                entropy[rows] = -(log_p.exp() * _finite(log_p)).sum(dim=-1)
        ctx.save_for_backward(logits, targets, highest, log_sum, entropy)
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, None, None, None]:
        logits, targets, highest, log_sum, entropy = ctx.saved_tensors
        for_logprobs, for_entropy = gradients
        if for_logprobs is None and for_entropy is None:
            return None, None, None, None
        result = torch.empty_like(logits)
        for rows in _chunks(logits):
            scaled = _scaled(logits[rows], highest.dtype, ctx.temperature)
            log_p = (scaled - highest[rows].unsqueeze(-1)).sub_(log_sum[rows].unsqueeze(-1))
            gradient = torch.zeros_like(log_p) if for_logprobs is None else log_p.exp()
            if for_logprobs is not None:
                weight = for_logprobs[rows].unsqueeze(-1)
                gradient *= -weight
                gradient.scatter_add_(-1, targets[rows].unsqueeze(-1), weight)
            if for_entropy is not None:
                factor = _finite(log_p) + entropy[rows].unsqueeze(-1)
                gradient -= log_p.exp_() * factor * for_entropy[rows].unsqueeze(-1)
            result[rows] = gradient if ctx.temperature == 1.0 else gradient / ctx.temperature
        return result, None, None, None


def _scaled(logits: Tensor, dtype: torch.dtype, temperature: float) -> Tensor:
    wide = logits.to(dtype)
    return wide if temperature == 1.0 else wide / temperature


def _finite(log_p: Tensor) -> Tensor:
    """Make the terms `p log p` of tokens that cannot occur 0 * finite = 0 instead of NaN."""
    return log_p.clamp(min=torch.finfo(log_p.dtype).min)


def _chunks(logits: Tensor) -> Iterator[slice]:
    scratch = _SCRATCH.get(logits.device.type, _SCRATCH_ON_ACCELERATOR)
    step = max(1, scratch // max(1, logits.shape[-1]))
    for start in range(0, len(logits), step):
        yield slice(start, start + step)


def _check(logits: Tensor, targets: Tensor, temperature: float) -> None:
    if logits.dim() != 2 or not logits.dtype.is_floating_point:
        raise ValueError(
            f"logits is {logits.dtype} of shape {list(logits.shape)}: expected floats, [N, V]"
        )
    if targets.dtype != torch.int64 or targets.shape != logits.shape[:1]:
        raise ValueError(
            f"targets is {targets.dtype} of shape {list(targets.shape)}: "
            f"expected torch.int64 of shape {[len(logits)]}"
        )
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: expected above 0")
