"""Shaping: named parts that change rewards before advantages are taken."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_overlong_penalty(
    lengths: Tensor, *, max_length: int, buffer: int, penalty: float = 1.0
) -> Tensor:
    """Soft overlong punishment: a term to add to the reward of long completions.

    Yu et al. 2025 (DAPO), arXiv:2503.14476, eq. 13: 0 up to `max_length - buffer`, then linear
    down to `-penalty` at `max_length`, and `-penalty` beyond.

    Args:
        lengths: `[G]` completion lengths in tokens.
        max_length: in tokens.
        buffer: width of the linear part, in tokens: `1 <= buffer <= max_length`.
        penalty: in units of reward, at least 0.

    Returns:
        `[G]` float64, in `[-penalty, 0]`.

    Raises:
        ValueError: `buffer` or `penalty` is out of range.
    """
    if not 1 <= buffer <= max_length:
        raise ValueError(f"buffer is {buffer}: expected 1 to max_length ({max_length}) tokens")
    if penalty < 0:
        raise ValueError(f"penalty is {penalty}: expected at least 0 (it is subtracted)")
    excess = lengths.to(torch.float64) - (max_length - buffer)
    return -penalty * (excess / buffer).clamp(0.0, 1.0)
