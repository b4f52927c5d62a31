"""Memory that is no longer used is given back."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

from rlvr.memory import give_back_memory


def resident() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_what_freed_tensors_leave_between_others_is_given_back() -> None:
    tensors = [torch.ones(20_000) for _ in range(2_000)]  # 160 MB, in pieces that go to the heap
    kept = tensors[::50]
    full = resident()
    del tensors
    give_back_memory()
    assert resident() < full - 100e6
    assert all(int(tensor.sum()) == 20_000 for tensor in kept)
