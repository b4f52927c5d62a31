"""Log-probabilities and entropies straight from hidden states: the output projection is fused in.

The logits `[N, V]` of a batch are far larger than everything else in a step (16,384 tokens over
152k words are 9.3 GiB in float32) and never exist here: rows are projected, reduced and forgotten a
chunk at a time, and projected again for the gradient. What is kept between the passes is two
numbers a token. The price is one projection more (4 instead of 3); `docs/training.md` has what both
ways cost. Where the projection itself is not trained (LoRA), the gradient for the hidden states is
made on the way forward, each token's being one number times a vector that is known by then: that
takes 2 projections.

Sums that run over chunks are float32 (float64 for float64 input), whatever the dtype of the input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EntropyMode = Literal["none", "value", "gradient"]

# Each chunk reads the whole weight, so that the wider the head, the more rows it takes to pay for
# that; a narrow head is best off with logits that stay in the cache. Measured at 64 and at 512.
_ROWS = (64, 256)
_CHUNK = {"cpu": 1 << 23}  # logits of a chunk, at the most: 32 MiB in float32
_CHUNK_ON_ACCELERATOR = 1 << 27
_SCRATCH = {"cpu": 1 << 19}  # logits that are worked on at a time: 2 MiB stay in a CPU's cache


@dataclass(frozen=True, kw_only=True, slots=True)
class Projection:
    """What a model does to `hidden @ weight.T + bias` to make logits of it.

    Attributes:
        scale: the logits are multiplied by it (Cohere's `logit_scale`, 1 / Granite's
            `logits_scaling`).
        softcap: then squashed to `softcap * tanh(logits / softcap)` (Gemma 2 and 3).
        temperature: then divided by it.
    """

    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0


def head_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    projection: Projection | None = None,
    entropy: EntropyMode = "value",
) -> tuple[Tensor, Tensor | None]:
    """`log softmax` of the projected hidden states at the target tokens, and the entropies.

    Args:
        hidden: `[N, H]` of any float dtype; the products are computed in that dtype.
        weight: `[V, H]` of the output projection.
        targets: `[N]` int64 token ids.
        bias: `[V]`, where the projection has one.
        projection: what lies between the product and the softmax; nothing where not given.
        entropy: `none`, `value` (computed, without gradient), or `gradient`.

    Returns:
        Log-probabilities `[N]` and entropies `[N]` (`None` where not asked for), in nats, float32
        (float64 for float64 input). Gradients flow to `hidden`, `weight` and `bias`.

    Raises:
        ValueError: a shape or dtype is wrong, or the temperature is not positive.
    """
    projection = projection or Projection()
    _check(hidden, weight, targets, bias, projection)
    apply: Any = _HeadLogprobs.apply
    with torch.autocast(hidden.device.type, enabled=False):
        results: tuple[Tensor, Tensor | None] = apply(
            hidden, weight, bias, targets, projection, entropy
        )
    return results


class _HeadLogprobs(torch.autograd.Function):
    """With p = softmax(z): d logp_t / dz = onehot_t - p; dH / dz = -p (log p + H)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        projection: Projection,
        mode: EntropyMode,
    ) -> tuple[Tensor, Tensor | None]:
        head = _Head(weight, bias, hidden.dtype, projection)
        highest = torch.empty(len(hidden), dtype=head.wide, device=hidden.device)
        log_sum, logprobs = torch.empty_like(highest), torch.empty_like(highest)
        entropy = None if mode == "none" else torch.empty_like(highest)
        # Both flags are false without gradients, so that nothing is made for nothing.
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        ahead = for_hidden and not for_weight and not for_bias and mode != "gradient"
        direction = torch.empty_like(hidden) if ahead else None
        for rows in head.chunks(len(hidden)):
            product = head.product(hidden[rows])
            for part in head.parts(len(product)):
                at = slice(rows.start + part.start, rows.start + part.stop)
                # max and log-sum stay apart: their sum would round away the small log-probabilities
                # of confident tokens (at a logit of 30, float32 has steps of 2e-6).
                shifted, slope = head.logits(product[part], slope=ahead)
                highest[at] = shifted.amax(dim=-1)
                shifted.sub_(highest[at].unsqueeze(-1))
                chosen = shifted.gather(-1, targets[at].unsqueeze(-1)).squeeze(-1)
                powers = shifted.exp() if entropy is not None else shifted.exp_()
                total = powers.sum(dim=-1)
                log_sum[at] = total.log()
                logprobs[at] = chosen - log_sum[at]
                if entropy is not None:
                    entropy[at] = log_sum[at] - torch.linalg.vecdot(powers, shifted) / total
                if direction is not None:
                    gradient = powers.div_(-total.unsqueeze(-1))
                    gradient.scatter_add_(-1, targets[at].unsqueeze(-1), _ones(targets[at], powers))
                    product[part] = head.before(gradient, slope)
            if direction is not None:
                direction[rows] = product @ head.weight
        ctx.ahead = ahead
        if ahead:
            ctx.save_for_backward(direction)
        else:
            ctx.save_for_backward(hidden, weight, bias, targets, highest, log_sum, entropy)
        ctx.projection = projection
        ctx.set_materialize_grads(False)
        if entropy is not None and mode == "value":
            ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        for_logprobs, for_entropy = gradients
        nothing = (None, None, None)
        if for_logprobs is None and for_entropy is None:
            return None, None, None, *nothing
        if ctx.ahead:
            assert for_logprobs is not None
            (direction,) = ctx.saved_tensors
            return (
                (direction * for_logprobs.unsqueeze(-1)).to(direction.dtype),
                None,
                None,
                *nothing,
            )
        hidden, weight, bias, targets, highest, log_sum, entropy = ctx.saved_tensors
        with torch.autocast(hidden.device.type, enabled=False):
            head = _Head(weight, bias, hidden.dtype, ctx.projection)
            needs = ctx.needs_input_grad
            for_hidden = torch.empty_like(hidden) if needs[0] else None
            for_weight = weight.new_zeros(weight.shape, dtype=head.wide) if needs[1] else None
            for_bias = weight.new_zeros(len(weight), dtype=head.wide) if needs[2] else None
            for rows in head.chunks(len(hidden)):
                product = head.product(hidden[rows])
                for part in head.parts(len(product)):
                    at = slice(rows.start + part.start, rows.start + part.stop)
                    log_p, slope = head.logits(product[part], slope=True)
                    log_p.sub_(highest[at].unsqueeze(-1)).sub_(log_sum[at].unsqueeze(-1))
                    gradient = torch.exp(log_p, out=None if for_entropy is not None else log_p)
                    each = torch.zeros_like(highest) if for_logprobs is None else for_logprobs
                    each = each[at].unsqueeze(-1)
                    if for_entropy is None:
                        gradient *= -each
                    else:
                        log_p += entropy[at].unsqueeze(-1)
                        log_p *= for_entropy[at].unsqueeze(-1)
                        gradient *= log_p.add_(each).neg_()
                    gradient.scatter_add_(-1, targets[at].unsqueeze(-1), each)
                    gradient = head.before(gradient, slope)
                    if for_bias is not None:
                        for_bias += gradient.sum(dim=0)
                    if gradient.data_ptr() != product[part].data_ptr():
                        product[part] = gradient
                if for_hidden is not None:
                    torch.mm(product, head.weight, out=for_hidden[rows])
                if for_weight is not None:
                    _add_product(for_weight, product.T, hidden[rows])
        return for_hidden, for_weight, for_bias, *nothing


class _Head:
    """The projection in the dtype of the hidden states, a chunk of rows at a time."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, projection: Projection
    ) -> None:
        self.weight = weight.to(dtype)
        self.bias = None if bias is None else bias.to(dtype)
        self.projection = projection
        self.wide = torch.float64 if dtype == torch.float64 else torch.float32
        device, (vocabulary, width) = weight.device.type, weight.shape
        low, high = _ROWS
        fitting = _CHUNK.get(device, _CHUNK_ON_ACCELERATOR) // vocabulary
        wanted = min(high, max(low, width // 2)) if device == "cpu" else fitting
        self.rows = max(1, min(fitting, wanted))
        self.part = max(1, _SCRATCH.get(device, self.rows * vocabulary) // vocabulary)

    def chunks(self, count: int) -> Iterator[slice]:
        """Rows that are projected at a time."""
        for start in range(0, count, self.rows):
            yield slice(start, min(start + self.rows, count))

    def parts(self, count: int) -> Iterator[slice]:
        """Rows of a chunk that are worked on at a time."""
        for start in range(0, count, self.part):
            yield slice(start, min(start + self.part, count))

    def product(self, hidden: Tensor) -> Tensor:
        """`[R, V]` in the dtype of the hidden states."""
        if self.bias is None:
            return hidden @ self.weight.T
        return torch.addmm(self.bias, hidden, self.weight.T)

    def logits(self, product: Tensor, *, slope: bool) -> tuple[Tensor, Tensor | None]:
        """Tempered logits, which may be written to, and d softcap where it is asked for."""
        scale, cap = self.projection.scale, self.projection.softcap
        # A copy where the dtype changes; else the very memory of the product.
        logits = product.to(self.wide)
        if scale != 1.0:
            logits *= scale
        derivative = None
        if cap is not None:
            bent = torch.tanh(logits.div_(cap), out=logits)
            derivative = 1.0 - bent.square() if slope else None
            logits *= cap
        if self.projection.temperature != 1.0:
            logits /= self.projection.temperature
        return logits, derivative

    def before(self, gradient: Tensor, slope: Tensor | None) -> Tensor:
        """The gradient for the product from the gradient for the logits, in place."""
        factor = self.projection.scale / self.projection.temperature
        if slope is not None:
            gradient *= slope
        return gradient if factor == 1.0 else gradient.mul_(factor)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """`total += left @ right`, the sum in the total's dtype also where the factors are narrower."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    elif total.device.type == "cuda":
        torch.addmm(total, left, right, out_dtype=total.dtype, out=total)
    else:
        total.addmm_(left.to(total.dtype), right.to(total.dtype))


def _ones(index: Tensor, like: Tensor) -> Tensor:
    return torch.ones(len(index), 1, dtype=like.dtype, device=like.device)


def _check(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None, projection: Projection
) -> None:
    if hidden.dim() != 2 or not hidden.dtype.is_floating_point:
        raise ValueError(
            f"hidden is {hidden.dtype} of shape {list(hidden.shape)}: expected floats, [N, H]"
        )
    if weight.dim() != 2 or weight.shape[1] != hidden.shape[1]:
        raise ValueError(
            f"weight has shape {list(weight.shape)}: expected [V, {hidden.shape[1]}], as wide as "
            "the hidden states"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias has shape {list(bias.shape)}: expected {[len(weight)]}")
    if targets.dtype != torch.int64 or targets.shape != hidden.shape[:1]:
        raise ValueError(
            f"targets is {targets.dtype} of shape {list(targets.shape)}: "
            f"expected torch.int64 of shape {[len(hidden)]}"
        )
    if not projection.temperature > 0:
        raise ValueError(f"temperature is {projection.temperature}: expected above 0")
