"""Logprobs of a packed batch under a causal model: the forward pass that every trainer shares.

Tokens are packed without padding (`rlvr.packing`) and the output projection is fused with what is
wanted of it (`rlvr.objectives.head`). Not every model can do either. The first time that a model is
seen, both are tried on a few tokens beside the model's plain answer, and what does not agree is not
used: then rows are padded, a few of like length at a time, or the logits are made, and a warning
says which.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from rlvr.batch import Batch, Example
from rlvr.compute import compute_dtype
from rlvr.objectives.head import EntropyMode, Projection, head_logprobs
from rlvr.objectives.logprobs import token_logprobs, token_logprobs_and_entropy
from rlvr.packing import (
    NotPackable,
    lay_out,
    packed_inputs,
    set_packed_attention,
    takes_layouts,
)
from rlvr.sharding import most_of_all

_PADDING = 1.25  # padded tokens for each real one, at the most, where rows must be padded


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What a model says of the trained tokens of a batch, in packed order.

    Attributes:
        logprobs: `[N]` float32, natural log, at the given temperature.
        entropy: `[N]` float32, in nats, of the distribution of each token; `[0]` where not asked
            for.
        sequence_ids: `[N]` int64, which sequence of the batch each token belongs to.
    """

    logprobs: Tensor
    entropy: Tensor
    sequence_ids: Tensor


@dataclass(frozen=True, slots=True)
class Ability:
    """What was found that a model can do.

    Attributes:
        packed: its attention takes layouts.
        projection: what it does to the output of its head; `None` where that is not known, so that
            its logits are made.
    """

    packed: bool
    projection: Projection | None


def score_tokens(
    model: PreTrainedModel,
    batch: Batch,
    *,
    temperature: float = 1.0,
    entropy: EntropyMode = "gradient",
) -> TokenScores:
    """Score the trained tokens (`batch.loss_mask`) of a batch.

    Args:
        model: a causal model; gradients flow unless the caller switched them off.
        batch: `S` sequences, `N` trained tokens, at least one.
        temperature: the one that the completions were sampled at; 0 (greedy) is scored as 1.
        entropy: `gradient` costs nothing more than `value` unless the head is frozen (LoRA), or
            a gradient does flow through it; `none` leaves it out.
    """
    device = next(model.parameters()).device
    ability = ability_of(model)
    run = _run_packed if ability.packed else _run_padded
    logprobs, entropies = run(model, batch, ability.projection, temperature or 1.0, entropy)
    if entropies is None:
        entropies = logprobs.new_empty(0)
    return TokenScores(logprobs, entropies, batch.sequence_ids[batch.loss_mask].to(device))


def score_values(model: PreTrainedModel, batch: Batch) -> Tensor:
    """What a critic says of the state before each trained token, `[N]` float32 in packed order.

    Args:
        model: a causal model whose head has one output; gradients flow unless switched off.
        batch: `S` sequences, `N` trained tokens, at least one.
    """
    run = _run_packed if ability_of(model).packed else _run_padded
    return run(model, batch, None, 1.0, "none")[0]


Scored = tuple[Tensor, Tensor | None]


def _run_packed(
    model: PreTrainedModel,
    batch: Batch,
    projection: Projection | None,
    temperature: float,
    entropy: EntropyMode,
) -> Scored:
    layout = lay_out(batch).to(next(model.parameters()).device)
    inputs = packed_inputs(layout)
    where = torch.zeros_like(layout.outputs), layout.outputs
    return _run(model, inputs, where, layout.targets, projection, temperature, entropy)


def _run_padded(
    model: PreTrainedModel,
    batch: Batch,
    projection: Projection | None,
    temperature: float,
    entropy: EntropyMode,
) -> Scored:
    """Pad on the right, a few rows of like length at a time, so that little is padding.

    Processes that share the weights make as many passes: those that are left over go unused.
    """
    device = next(model.parameters()).device
    results: list[Scored] = []
    order: list[Tensor] = []
    passes = list(_of_like_length(batch.input_lengths.tolist()))
    used = len(passes)
    passes += [passes[-1][-1:]] * (most_of_all(model, used) - used)
    for rows in passes:
        part = batch.select(rows)
        sequence_ids, lengths = part.sequence_ids, part.input_lengths
        column = torch.arange(part.input_ids.numel()) - part.boundaries[:-1][sequence_ids]
        needed = column < lengths[sequence_ids]
        ids = torch.zeros(len(part), int(lengths.max()), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        ids[sequence_ids[needed], column[needed]] = part.input_ids[needed]
        mask[sequence_ids[needed], column[needed]] = 1
        inputs = {
            "input_ids": ids.to(device),
            "attention_mask": mask.to(device),
            "use_cache": False,
        }
        where = sequence_ids[part.loss_mask], column[part.loss_mask] - 1
        where = where[0].to(device), where[1].to(device)
        targets = part.input_ids[part.loss_mask].to(device)
        results.append(_run(model, inputs, where, targets, projection, temperature, entropy))
        order.append(batch.positions(rows)[part.loss_mask])
    back = torch.cat(order[:used]).argsort().to(device)
    logprobs = torch.cat([logprobs for logprobs, _ in results[:used]])[back]
    entropies = [entropies for _, entropies in results[:used] if entropies is not None]
    logprobs = _through(logprobs, *(unused for unused, _ in results[used:]))
    return logprobs, torch.cat(entropies)[back] if entropies else None


def _of_like_length(lengths: list[int]) -> Iterator[list[int]]:
    rows: list[int] = []
    real = 0
    for i in sorted((i for i in range(len(lengths)) if lengths[i]), key=lambda i: -lengths[i]):
        padded = lengths[rows[0]] * (len(rows) + 1) if rows else 0
        if padded > _PADDING * (real + lengths[i]):
            yield rows
            rows, real = [], 0
        rows.append(i)
        real += lengths[i]
    yield rows


def _run(
    model: PreTrainedModel,
    inputs: dict[str, Any],
    where: tuple[Tensor, Tensor],
    targets: Tensor,
    projection: Projection | None,
    temperature: float,
    entropy: EntropyMode,
) -> Scored:
    if projection is None:
        logits = model(**inputs).logits[where]
        if logits.shape[-1] == 1:  # of a critic: a value
            return logits.squeeze(-1).float(), None
        if entropy == "none":
            return token_logprobs(logits, targets, temperature), None
        return token_logprobs_and_entropy(logits, targets, temperature)
    projection = replace(projection, temperature=temperature)
    found: list[Scored] = []

    def score(head: nn.Linear, hidden: Tensor) -> Tensor:
        hidden = hidden[where]
        if torch.is_autocast_enabled(hidden.device.type):
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        logprobs, entropies = head_logprobs(
            hidden,
            head.weight,
            targets,
            bias=head.bias,
            projection=projection,
            entropy=entropy,
        )
        found.append((logprobs, entropies))
        return logprobs.reshape(1, -1, 1).clone()  # FSDP overlooks an output that is a view

    with _head_replaced(_head_of(model), score):
        output = model(**inputs).logits
    logprobs, entropies = found[0]
    return _through(logprobs, output), entropies


class _Through(torch.autograd.Function):
    """Leaves values as they are; other tensors get a gradient of zeros when these get theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, *others: Tensor) -> Tensor:
        ctx.save_for_backward(*others)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return gradient, *map(torch.zeros_like, ctx.saved_tensors)


def _through(values: Tensor, *others: Tensor) -> Tensor:
    """The values; their gradient passes by other outputs of a model on its way.

    When the gradient reaches an output of a sharded model, FSDP gathers the weights again. The
    values were made inside the model, and what it made of them (scaled, capped) is not wanted.
    """
    apply: Any = _Through.apply
    through: Tensor = apply(values, *others)
    return through


@contextlib.contextmanager
def _head_replaced(
    head: nn.Linear, function: Callable[[nn.Linear, Tensor], Tensor]
) -> Iterator[None]:
    """Let the head of a model do something else, in this thread.

    The model's own forward pass calls it, so that whatever wraps the model (FSDP, LoRA) is at work,
    and has the weight at hand.
    """
    thread, plain = threading.get_ident(), head.forward

    def forward(hidden: Tensor) -> Tensor:
        if threading.get_ident() != thread:
            return plain(hidden)
        return function(head, hidden)

    vars(head)["forward"] = forward
    try:
        yield
    finally:
        del vars(head)["forward"]


def _unwrapped(model: nn.Module) -> PreTrainedModel:
    """The model that data parallelism wraps; FSDP2 and peft answer for theirs."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    return cast(PreTrainedModel, inner)


def _head_of(model: PreTrainedModel) -> nn.Linear:
    head = _unwrapped(model).get_output_embeddings()
    assert isinstance(head, nn.Linear)
    return head


_known: WeakKeyDictionary[nn.Module, Ability] = WeakKeyDictionary()


def ability_of(model: PreTrainedModel) -> Ability:
    """What a model can do, tried out the first time that it is asked for."""
    known = _known.get(model)
    # Whoever has set another attention since has made a different model of it.
    if known is None or known.packed != takes_layouts(_unwrapped(model)):
        _known[model] = _try_out(model, compute_dtype(_unwrapped(model)))
    return _known[model]


def _try_out(model: PreTrainedModel, dtype: torch.dtype) -> Ability:
    """Compare with the model's plain answer on two short sequences that begin alike."""
    inner = _unwrapped(model)
    vocabulary = inner.config.get_text_config().vocab_size
    ids = [(7 * i + 3) % vocabulary for i in range(14)]
    batch = Batch.pack(
        [
            Example(prompt_ids=tuple(ids[:5]), completion_ids=tuple(ids[5:9])),
            Example(prompt_ids=tuple(ids[:5]), completion_ids=tuple(ids[9:14])),
        ]
    )

    def agrees(packed: bool, projection: Projection | None) -> bool:
        run = _run_packed if packed else _run_padded
        logprobs, _ = run(model, batch, projection, 1.0, "none")
        return bool((logprobs - expected).abs().max() <= tolerance)

    with torch.no_grad(), _with_an_answer(inner):
        expected, _ = _run_padded(model, batch, None, 1.0, "none")
        # Wrong context or a forgotten scale changes far more; so do many layers of bfloat16.
        precision = {torch.float64: 1e-9, torch.float32: 1e-4}.get(dtype, 5e-2)
        tolerance = precision * max(1.0, expected.std().item())
        projection = _known_projection(inner)
        if projection is not None and not agrees(False, projection):
            projection = None
        packed = False
        if set_packed_attention(inner, dtype):
            with contextlib.suppress(NotPackable):
                packed = agrees(True, projection)
            if not packed:
                inner.set_attn_implementation("sdpa")
    name = type(inner).__name__
    if projection is None and not _is_critic(inner):
        warnings.warn(
            f"{name}: the logits are made, since its head is not understood", stacklevel=4
        )
    if not packed:
        warnings.warn(
            f"{name}: rows are padded, since its attention cannot be packed", stacklevel=4
        )
    return Ability(packed, projection)


@contextlib.contextmanager
def _with_an_answer(model: PreTrainedModel) -> Iterator[None]:
    """Let a critic, whose head begins at 0, say something that depends on its hidden states."""
    if not _is_critic(model):
        yield
        return

    def answer(head: nn.Linear, hidden: Tensor) -> Tensor:
        places = torch.arange(hidden.shape[-1], device=hidden.device)
        return (hidden.float() * places.cos()).sum(-1, keepdim=True)

    with _head_replaced(_head_of(model), answer):
        yield


def _known_projection(model: PreTrainedModel) -> Projection | None:
    """What the configuration says is done to the output of the head; `_try_out` checks it."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or _is_critic(model):
        return None
    config = model.config.get_text_config()
    scale = 1.0
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        value = getattr(config, name, None)
        if isinstance(value, float | int):
            scale = float(value)
    scaling = getattr(config, "logits_scaling", None)
    if isinstance(scaling, float | int):
        scale = 1.0 / float(scaling)
    return Projection(scale=scale, softcap=getattr(config, "final_logit_softcapping", None))


def _is_critic(model: PreTrainedModel) -> bool:
    """Whether the head has one output, which is then a value and not a logit."""
    return getattr(model.get_output_embeddings(), "out_features", None) == 1
