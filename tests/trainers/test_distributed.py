"""What processes tell each other, and that none of them waits for one that failed or was killed."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import torch
from torchrun import torchrun
from warmed import Warmed

from rlvr.distributed import ALONE, World, join

PROGRAM = str(Path(__file__).with_name("exchange_programs.py"))


def test_one_process_is_a_world_that_does_nothing() -> None:
    with join(mode="fsdp", timeout=1, device="cpu") as world:
        assert world is ALONE and world.is_main
    assert ALONE.gather(1) == [1] and ALONE.broadcast(2) == 2 and ALONE.share([1, 2]) == [1, 2]
    assert ALONE.gather_bytes(b"1") == [b"1"] and ALONE.add_up({"a": 1.0}) == {"a": 1.0}
    ALONE.barrier()
    ALONE.check_equal("anything", 1)
    parameter = torch.nn.Parameter(torch.zeros(1))
    ALONE.sum_gradients([parameter])
    assert parameter.grad is None


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_shares_are_even_and_make_up_the_whole(size: int, count: int) -> None:
    items = list(range(count))
    shares = [World(rank=rank, size=size).share(items) for rank in range(size)]
    assert [item for share in shares for item in share] == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.slow
def test_two_processes_tell_each_other_what_they_have(warmed: Warmed) -> None:
    ended = warmed.run("exchange_programs:exchange", processes=2)
    assert ended.codes == [0, 0], ended.output
    assert "process 0 is done" in ended.output and "process 1 is done" in ended.output


@pytest.mark.slow
@pytest.mark.parametrize("other", ["waiting", "busy"])
@pytest.mark.parametrize("trouble", ["error", "differ"])
def test_trouble_in_one_process_ends_all_with_its_message(
    warmed: Warmed, trouble: str, other: str
) -> None:
    """Though nobody watches them: the one that computes learns that another one failed."""
    ended = warmed.run("exchange_programs:fail", trouble, other, processes=2, limit=45)
    assert ended.codes == [1, 1]
    if trouble == "differ":  # both find out, and one of them is the first to say so
        assert "the batch differs between process 0 (0) and process 1 (1)" in ended.output
        return
    assert "ValueError: the milk is sour" in ended.output, ended.output
    if other == "busy":
        assert "process 0 ends: process 1 failed: ValueError: the milk is sour" in ended.output


@pytest.mark.slow
def test_a_process_that_waits_for_one_that_was_killed_ends(warmed: Warmed) -> None:
    ended = warmed.run("exchange_programs:fail", "kill", "waiting", processes=2, limit=45)
    assert ended.codes == [1, -signal.SIGKILL]
    assert "another process was lost" in ended.output, ended.output


@pytest.mark.slow
def test_the_launcher_ends_a_process_that_computes_when_another_is_killed() -> None:
    began = time.monotonic()
    ended = torchrun(PROGRAM, "kill", "busy", limit=60)
    assert ended.code != 0
    assert "SIGKILL" in ended.output, ended.output
    assert time.monotonic() - began < 45
