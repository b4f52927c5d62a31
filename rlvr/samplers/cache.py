"""A key/value cache that grows in place.

`transformers` grows its dynamic cache by `torch.cat`, which copies everything for each new token:
with a small model on a CPU that is a third of the time. Layers that keep all positions are given
some room in advance here; any other kind of layer (sliding window, recurrent) stays as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

_ROOM = 32  # positions that are allocated ahead


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """A layer of `[B, heads, length, head_dim]` keys and values, views of larger buffers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append new positions; returns all keys and values."""
        length = self.get_seq_length()
        if length == 0:  # the prompt: selecting rows comes next, so room would be wasted on it
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        end = length + key_states.shape[-2]
        if self._buffers is None or end > self._buffers[0].shape[-2]:
            self._buffers = _enlarged(self.keys, end), _enlarged(self.values, end)
        keys, values = self._buffers
        keys[..., length:end, :] = key_states
        values[..., length:end, :] = value_states
        self.keys, self.values = keys[..., :end, :], values[..., :end, :]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take these rows: some left out, or some repeated."""
        super().reorder_cache(beam_idx)
        self._buffers = None


def _enlarged(states: Tensor, needed: int) -> Tensor:
    *outer, length, width = states.shape
    buffer = states.new_empty(*outer, needed + max(_ROOM, length // 4), width)
    buffer[..., :length, :] = states
    return buffer


def make_cache(config: PreTrainedConfig) -> DynamicCache:
    """An empty cache for a model of that configuration."""
    cache = DynamicCache(config=config)
    cache.layers = [
        RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


def select_rows(cache: DynamicCache, rows: Tensor) -> None:
    """Make row `i` of the cache what row `rows[i]` was.

    `reorder_cache` is the one way of doing so that every kind of layer has.
    """
    with torch.no_grad():
        cache.reorder_cache(rows)
