"""Sequences laid out one after the other for a forward pass without padding.

Sequences that begin alike (the completions of one prompt) share that beginning: it is computed
once, and the rest of each attends to it. Everything but attention treats tokens one by one, so that
a row of tokens in any order will do; attention gets the layout, and works on each sequence's own
keys: exact, without a mask of the square of the row. Tokens that no trained token is predicted from
(after the last trained one, and whole sequences without any) are left out.

Attention on a CPU is `torch`'s flash kernel, one sequence at a time; on a GPU in half precision it
is `torch.nn.attention.varlen`, all sequences at once.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.attention import varlen
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rlvr.batch import Batch

PLAIN_LAYERS = {"full_attention", "attention"}
"""Kinds of layers whose mask is causal and nothing else, and that mix tokens by attention alone."""
ATTENTION = "rlvr_packed"
"""The name of the attention in `transformers`: `sdpa` wherever it is not given a layout."""


class NotPackable(Exception):
    """An attention layer wants something that packed attention does not do."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start:stop` of a layout, one after the other in one sequence.

    Attributes:
        start: the first token.
        stop: behind the last one.
        prefix: the span that stands before it in the sequence and is shared with others.
    """

    start: int
    stop: int
    prefix: tuple[int, int] | None = None

    @property
    def keys(self) -> int:
        """How many tokens the last one attends to, itself included."""
        before = 0 if self.prefix is None else self.prefix[1] - self.prefix[0]
        return before + self.stop - self.start


@dataclass(frozen=True)
class Layout:
    """A batch as one row of tokens.

    Attributes:
        input_ids: `[1, T]` int64.
        position_ids: `[1, T]` int64, within each sequence.
        spans: cover the row, in its order.
        outputs: `[N]` int64, where in the row each trained token of the batch is predicted, in the
            batch's own order; no two are the same.
        targets: `[N]` int64, the trained tokens.
    """

    input_ids: Tensor
    position_ids: Tensor
    spans: tuple[Span, ...]
    outputs: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Layout:
        """The same on a device."""
        tensors = (self.input_ids, self.position_ids, self.outputs, self.targets)
        ids, positions, outputs, targets = (tensor.to(device) for tensor in tensors)
        return Layout(ids, positions, self.spans, outputs, targets)

    @cached_property
    def keys(self) -> Tensor:
        """Indices of the keys that each span attends to, span by span, int64."""
        parts = [
            torch.cat([torch.arange(*span.prefix or (0, 0)), torch.arange(span.start, span.stop)])
            for span in self.spans
        ]
        return torch.cat(parts).to(self.input_ids.device)

    @cached_property
    def query_offsets(self) -> Tensor:
        """`[spans + 1]` int32 offsets of the spans in the row."""
        ends = [span.stop for span in self.spans]
        return torch.tensor([0, *ends], dtype=torch.int32, device=self.input_ids.device)

    @cached_property
    def key_offsets(self) -> Tensor:
        """`[spans + 1]` int32 offsets of the spans in `keys`."""
        counts = torch.tensor([0, *(span.keys for span in self.spans)])
        return counts.cumsum(0).to(torch.int32).to(self.input_ids.device)


def lay_out(batch: Batch) -> Layout:
    """Lay a batch out; it has at least one trained token.

    A sequence's prefix ends one token before the one that its first trained token is predicted
    from, so that each prediction is made in a span of the sequence's own.
    """
    starts = batch.boundaries[:-1].tolist()
    prefixes, ends = batch.prefix_lengths.tolist(), batch.input_lengths.tolist()
    spans: list[Span] = []
    source: list[Tensor] = []  # where in the batch each token of the row comes from
    begin = torch.zeros(len(batch), dtype=torch.int64)  # row index of position 0 of a sequence
    row = 0
    for members in batch.families():
        start, length = starts[members[0]], prefixes[members[0]]
        shared = None
        if len(members) > 1 and length:
            shared = (row, row + length)
            spans.append(Span(*shared))
            source.append(torch.arange(start, start + length))
            row += length
        for i in members:
            first = prefixes[i] if shared else 0
            spans.append(Span(row, row + ends[i] - first, shared))
            source.append(torch.arange(starts[i] + first, starts[i] + ends[i]))
            begin[i] = row - first
            row += ends[i] - first
    index = torch.cat(source)
    sequence_ids = batch.sequence_ids
    column = torch.arange(batch.input_ids.numel()) - batch.boundaries[:-1][sequence_ids]
    return Layout(
        input_ids=batch.input_ids[index].unsqueeze(0),
        position_ids=column[index].unsqueeze(0),
        spans=tuple(spans),
        outputs=(begin[sequence_ids] + column - 1)[batch.loss_mask],
        targets=batch.input_ids[batch.loss_mask],
    )


def takes_layouts(model: PreTrainedModel) -> bool:
    """Whether a model's attention is the packed one."""
    return bool(model.config._attn_implementation == ATTENTION)


def set_packed_attention(model: PreTrainedModel, dtype: torch.dtype) -> bool:
    """Let a model's attention take layouts; `False` where it cannot.

    It stays as it was for every call that gives no layout. Layers say at their first call whether
    they want something else besides (see `NotPackable`).

    Args:
        model: a causal model.
        dtype: that attention is computed in.
    """
    if takes_layouts(model):
        return True
    text = model.config.get_text_config()
    for kinds in ("layer_types", "layers_block_type"):
        # Chunks and windows may be in the mask alone, and longer than what a trial shows.
        if not PLAIN_LAYERS.issuperset(getattr(text, kinds, None) or ()):
            return False
    if model.config._attn_implementation != "sdpa" or not model._supports_attention_backend:
        return False
    device = next(model.parameters()).device
    if device.type != "cpu" and not (device.type == "cuda" and _has_varlen(device, dtype)):
        return False
    model.set_attn_implementation(ATTENTION)
    return takes_layouts(model)


def packed_inputs(layout: Layout) -> dict[str, Any]:
    """The arguments of a model's forward pass.

    A mask of four dimensions is taken as it is by `transformers`, which else would make one of the
    square of the row; packed attention does not look at it.
    """
    return {
        "input_ids": layout.input_ids,
        "position_ids": layout.position_ids,
        "attention_mask": torch.zeros(1, 1, 1, 1, device=layout.input_ids.device),
        "packed": layout,
        "use_cache": False,
    }


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: Layout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention as `transformers` calls it: `[1, heads, T, D]` in, `[1, T, heads, D]` out."""
    if packed is None:
        output: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **options
        )
        return output
    unusual = ("sliding_window", "softcap", "s_aux", "position_bias", "cache")
    asked = [name for name in unusual if options.get(name) is not None]
    if asked or dropout or options.get("is_causal") is False:
        raise NotPackable(", ".join(asked) or "dropout or attention to what follows")
    return _attend(query, key, value, packed, scaling), None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attend(
    query: Tensor, key: Tensor, value: Tensor, packed: Layout, scaling: float | None
) -> Tensor:
    """Out of the sight of `torch.compile`, which would compile anew for each layout."""
    device = query.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if device == "cpu":
        apply: Any = _PackedOnCPU.apply
        rows = apply(query[0], key[0], value[0], packed.spans, scaling)
    else:
        rows = _packed_on_gpu(query[0], key[0], value[0], packed, scaling)
    output: Tensor = rows.transpose(0, 1).unsqueeze(0)
    return output


class _PackedOnCPU(torch.autograd.Function):
    """Causal attention of each span; `[heads, T, D]` throughout.

    A span with a prefix is computed as the whole sequence, prefix included, and the prefix's part
    of the output is dropped: that costs no more than a mask would, and needs none.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        spans: tuple[Span, ...],
        scaling: float | None,
    ) -> Tensor:
        # [T, heads, D] in memory: what follows wants the heads of a token side by side.
        output = query.new_empty(query.shape[1], query.shape[0], value.shape[-1]).transpose(0, 1)
        sums = []
        for span in spans:
            whole = _whole(query, key, value, span)
            result, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                *whole, is_causal=True, scale=scaling
            )
            output[:, span.start : span.stop] = result[0, :, span.start - span.stop :]
            sums.append(log_sum)
        ctx.save_for_backward(query, key, value, output, *sums)
        ctx.spans, ctx.scaling = spans, scaling
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, *sums = ctx.saved_tensors
        results = [torch.zeros_like(states) for states in (query, key, value)]
        for span, log_sum in zip(ctx.spans, sums, strict=True):
            whole = _whole(query, key, value, span)
            # What was dropped has no gradient, and with that its output does not matter.
            after = _of_span(gradient, span)
            if span.prefix is not None:
                after = after.clone()
                after[:, :, : span.start - span.stop] = 0
            parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                after, *whole, _of_span(output, span), log_sum, 0.0, True, scale=ctx.scaling
            )
            for total, part in zip(results, parts, strict=True):
                part = part[0].view(total.shape[0], -1, *part.shape[2:]).sum(dim=1)
                total[:, span.start : span.stop] += part[:, span.start - span.stop :]
                if span.prefix is not None:
                    total[:, slice(*span.prefix)] += part[:, : span.start - span.stop]
        return *results, None, None


def _of_span(states: Tensor, span: Span) -> Tensor:
    """`[1, heads, keys, D]`: what a span sees, its prefix included."""
    own = states[:, span.start : span.stop]
    if span.prefix is not None:
        own = torch.cat([states[:, slice(*span.prefix)], own], dim=1)
    return own.unsqueeze(0)


def _whole(query: Tensor, key: Tensor, value: Tensor, span: Span) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a span, all with as many heads (grouped-query attention)."""
    times = query.shape[0] // key.shape[0]
    keys, values = _of_span(key, span), _of_span(value, span)
    if times > 1:
        keys, values = (states.repeat_interleave(times, dim=1) for states in (keys, values))
    return _of_span(query, span), keys, values


def _packed_on_gpu(
    query: Tensor, key: Tensor, value: Tensor, packed: Layout, scaling: float | None
) -> Tensor:
    size = query.shape[-1]
    if size % 8 or size > 256 or value.shape[-1] != size:  # the limits of its kernel
        raise NotPackable(f"heads of {size} (keys) and {value.shape[-1]} (values)")
    shared = any(span.prefix for span in packed.spans)
    keys, values = key.transpose(0, 1), value.transpose(0, 1)
    if shared:
        keys, values = keys[packed.keys], values[packed.keys]
    output = varlen.varlen_attn(
        query.transpose(0, 1).contiguous(),
        keys.contiguous(),
        values.contiguous(),
        packed.query_offsets,
        packed.key_offsets,
        max(span.stop - span.start for span in packed.spans),
        max(span.keys for span in packed.spans),
        scale=scaling,
        window_size=(-1, 0),  # causal; the last query sees the last key
        enable_gqa=query.shape[0] != key.shape[0],
    )
    assert isinstance(output, Tensor)
    return output.transpose(0, 1)


def _has_varlen(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel does it: half precision, on Ampere or newer, grouped queries."""
    known = "enable_gqa" in inspect.signature(varlen.varlen_attn).parameters
    half = dtype in (torch.bfloat16, torch.float16)
    return known and half and torch.cuda.get_device_capability(device) >= (8, 0)


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
