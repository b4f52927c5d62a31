"""What this process holds of the machine's memory, and giving back what it does not use."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import torch


def give_back_memory() -> None:
    """Let the system have the memory that freed tensors on the CPU leave behind.

    The C library keeps it for the next tensor, and micro-batches of different lengths fill it with
    holes: a run would hold twice what it ever uses at a time. Costs about 1 ms. Does nothing where
    tensors live on a GPU, or where the C library is not glibc.
    """
    if not torch.cuda.is_initialized():
        _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    library = ctypes.CDLL(None)
    return getattr(library, "malloc_trim", lambda _: None)
