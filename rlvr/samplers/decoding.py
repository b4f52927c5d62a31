"""Generating a batch of completions from a causal model with our own loop.

Why not `model.generate`: equal prompts (the group of a task) are read once instead of once a
completion, rows that are done leave the batch, the cache grows in place, each row draws from its
own seed, and the log-probabilities cost no list of all scores. `docs/samplers.md` has the measured
difference. Models that keep their state in something other than `past_key_values` (Mamba, RWKV)
are run without a cache: right, but slow.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlvr.compute import computing
from rlvr.errors import SamplerError
from rlvr.samplers.cache import make_cache, select_rows
from rlvr.samplers.drawing import draw, seed_array, uniforms
from rlvr.samplers.requests import Ids, decode_text
from rlvr.types import FinishReason, SamplingParams

_COMPACT_BELOW = 0.75  # rows leave the batch when less than this part of it still runs


@dataclass(frozen=True, slots=True)
class Decoded:
    """The sampled ids (the end token included), their log-probabilities, and why they ended."""

    token_ids: Ids
    logprobs: tuple[float, ...]
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Ending:
    """When a completion ends.

    Attributes:
        end_ids: tokens that end it.
        stop: texts that end it.
        context: the longest prompt and completion together, in tokens; `None` where unbounded.
        tokenizer: to look for stop texts.
    """

    end_ids: frozenset[int]
    stop: tuple[str, ...]
    context: int | None
    tokenizer: PreTrainedTokenizerBase

    def limit(self, prompt: Ids, params: SamplingParams) -> int:
        """How many tokens may follow this prompt."""
        if self.context is None:
            return params.max_new_tokens
        return min(params.max_new_tokens, self.context - len(prompt))

    def has_stop(self, token_ids: Sequence[int]) -> bool:
        """Whether a completion that did not end with its last token but one ends by a stop text.

        A token that is not special is at least one byte, so that a stop text which the last token
        completes lies in the last few tokens: only where it does is the whole text looked at.
        """
        window = max(len(item.encode()) for item in self.stop) + 8
        tail = decode_text(self.tokenizer, token_ids[-window:], self.end_ids)
        if not any(item in tail for item in self.stop):
            return False
        text = decode_text(self.tokenizer, token_ids, self.end_ids)
        return any(item in text for item in self.stop)


@contextmanager
def inference(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients; each module's training mode is put back afterwards.

    Weights that are narrowed for the products (`rlvr.compute`) are narrowed once.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad(), computing(model):
            yield
    finally:
        for module in training:
            module.training = True


def decode_batch(
    model: PreTrainedModel,
    prompts: Sequence[Ids],
    params: SamplingParams,
    seeds: Sequence[int],
    ending: Ending,
) -> list[Decoded]:
    """Complete `n` prompts in one batch.

    Args:
        model: in evaluation mode, with gradients off (see `inference`).
        prompts: `n` lists of ids; equal ones are read once.
        params: how to sample.
        seeds: `n`; a row's draws depend on its own seed only.
        ending: when a completion ends.

    Raises:
        SamplerError: the model's logits are not numbers.
    """
    unique = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    state = _State(model, list(unique), ending.context)
    device = state.mask.device
    limits = torch.tensor([ending.limit(prompt, params) for prompt in prompts], device=device)
    longest = int(limits.max())
    tokens = torch.zeros(len(prompts), longest, dtype=torch.int64, device=device)
    logprobs = torch.zeros(len(prompts), longest, dtype=torch.float32, device=device)
    lengths = limits.clone()
    stopped = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    end_ids = torch.tensor(sorted(ending.end_ids), dtype=torch.int64, device=device)
    keys = seed_array(seeds)

    logits = state.read()
    rows = torch.arange(len(prompts), device=device)  # which completion each row of the batch is
    source = torch.tensor([unique[prompt] for prompt in prompts], device=device)
    if len(unique) < len(prompts):
        logits = logits[source]
        state.select(source)
    done = torch.zeros_like(stopped)
    for step in range(longest):
        drawn, scores = draw(logits, params, uniforms(keys[rows.cpu().numpy()], step))
        tokens[rows, step], logprobs[rows, step] = drawn, scores
        ended = torch.isin(drawn, end_ids)
        if ending.stop:
            ended |= _stops(tokens, rows, done | ended, step, ending)
        newly = ended & ~done
        lengths[rows[newly]] = step + 1
        stopped[rows[newly]] = True
        done = done | ended | (limits[rows] <= step + 1)
        running = len(rows) - int(done.sum())
        if running == 0:
            break
        if running <= _COMPACT_BELOW * len(rows):
            kept = (~done).nonzero().squeeze(-1)
            rows, drawn, done = rows[kept], drawn[kept], done[kept]
            state.select(kept)
        logits = state.advance(drawn)
    return _collect(tokens, logprobs, lengths, stopped)


def _stops(tokens: Tensor, rows: Tensor, settled: Tensor, step: int, ending: Ending) -> Tensor:
    found = [
        not is_settled and ending.has_stop(ids)
        for ids, is_settled in zip(tokens[rows, : step + 1].tolist(), settled.tolist(), strict=True)
    ]
    return torch.tensor(found, device=tokens.device)


def _collect(tokens: Tensor, logprobs: Tensor, lengths: Tensor, stopped: Tensor) -> list[Decoded]:
    decoded = []
    rows = zip(tokens.tolist(), logprobs.tolist(), lengths.tolist(), stopped.tolist(), strict=True)
    for ids, scores, length, has_stopped in rows:
        kept = tuple(scores[:length])
        if any(score != score for score in kept):
            raise SamplerError(
                "the policy's logits are NaN: its weights have diverged (lower the learning rate, "
                "or go back to an earlier checkpoint)"
            )
        reason = FinishReason.STOP if has_stopped else FinishReason.LENGTH
        decoded.append(Decoded(tuple(ids[:length]), kept, reason))
    return decoded


class _State:
    """A model in the midst of a batch: its cache, the attention mask, and where each row stands.

    Args:
        model: a causal model.
        prompts: padded on the left to one length.
        context: positions stay below it, also those of rows that are done and wait to leave.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Ids], context: int | None) -> None:
        device = next(model.parameters()).device
        width = max(map(len, prompts))
        self._ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
        starts = torch.tensor([width - len(p) for p in prompts], device=device).unsqueeze(-1)
        columns = torch.arange(width, device=device)
        self.mask = (columns >= starts).to(torch.int64)
        self._positions = (columns - starts).clamp(min=0)
        self._last_position = (context or torch.iinfo(torch.int64).max) - 1
        self._model = model
        self._accepted = inspect.signature(model.forward).parameters
        cached = "past_key_values" in self._accepted
        self._cache = make_cache(model.config) if cached else None

    def read(self) -> Tensor:
        """Logits `[B, V]` after the prompts."""
        return self._forward()

    def advance(self, tokens: Tensor) -> Tensor:
        """Append one token a row; logits `[B, V]` after it."""
        ids = tokens.unsqueeze(-1)
        following = (self._positions[:, -1:] + 1).clamp(max=self._last_position)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        if self._cache is not None:
            self._ids, self._positions = ids, following
        else:
            self._ids = torch.cat([self._ids, ids], dim=1)
            self._positions = torch.cat([self._positions, following], dim=1)
        return self._forward()

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may be taken several times."""
        self.mask, self._positions = self.mask[rows], self._positions[rows]
        self._ids = self._ids[rows]
        if self._cache is not None:
            select_rows(self._cache, rows)

    def _forward(self) -> Tensor:
        inputs: dict[str, Any] = {"input_ids": self._ids, "attention_mask": self.mask}
        options = {
            "position_ids": self._positions,
            "past_key_values": self._cache,
            "logits_to_keep": 1,
        }
        inputs |= {name: value for name, value in options.items() if name in self._accepted}
        logits: Tensor = self._model(**inputs, use_cache=self._cache is not None).logits
        return logits[:, -1]
