"""Checks on what objectives take: a wrong shape must not broadcast into a wrong loss."""

from __future__ import annotations

import torch
from torch import Tensor

PRECISE = (torch.float32, torch.float64)


def require_aligned(**tensors: Tensor) -> None:
    """Refuse tensors that are not all 1-D, of one length, and float32 or float64.

    Args:
        tensors: by the name that a message should give them.

    Raises:
        ValueError: one differs; the message names it.
    """
    (first_name, first), *_ = tensors.items()
    for name, tensor in tensors.items():
        if tensor.dim() != 1 or tensor.shape != first.shape:
            raise ValueError(
                f"{name} has shape {list(tensor.shape)}, {first_name} {list(first.shape)}: "
                "expected 1-D tensors of one length"
            )
        if tensor.dtype not in PRECISE:
            raise ValueError(
                f"{name} is {tensor.dtype}: expected float32 or float64 (in half precision a "
                "probability ratio near 1 has two or three correct digits)"
            )


def require_ids(name: str, ids: Tensor, like: Tensor) -> None:
    """Refuse ids that are not int64 of the same 1-D shape as `like`.

    Raises:
        ValueError: shape or dtype is wrong.
    """
    if ids.shape != like.shape or ids.dtype != torch.int64:
        raise ValueError(
            f"{name} is {ids.dtype} of shape {list(ids.shape)}: "
            f"expected torch.int64 of shape {list(like.shape)}"
        )
