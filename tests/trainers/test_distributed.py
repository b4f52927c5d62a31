"""What processes tell each other, and that none of them waits for one that failed or was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torchrun import ENVIRONMENT, run_program

from rlvr.distributed import ALONE, World, join

EXCHANGES = """
import torch
from rlvr.distributed import join

with join(mode="auto", timeout=60, device="cpu") as world:
    rank = world.rank
    assert (world.size, world.device, world.sharded) == (2, "cpu", False)
    assert world.is_main == (rank == 0)
    assert world.gather({"rank": rank, "text": "\\ud800é"}) == [
        {"rank": 0, "text": "\\ud800é"}, {"rank": 1, "text": "\\ud800é"}]
    assert world.gather_bytes(b"x" * (3 * rank)) == [b"", b"xxx"]
    assert world.broadcast(["of", rank]) == ["of", 0]
    assert world.on_main(lambda: rank) == 0
    own = torch.tensor([1.0, float(rank)])
    assert world.sum(own).tolist() == [2.0, 1.0] and own.tolist() == [1.0, float(rank)]
    assert world.add_up({"both": 1.0, f"only {rank}": 2.0}) == {
        "both": 2.0, "only 0": 2.0, "only 1": 2.0}
    assert world.share([1, 2, 3]) == ([1] if rank == 0 else [2, 3])

    everywhere, one, nowhere, half = (torch.nn.Parameter(torch.zeros(3)) for _ in range(4))
    half.data = half.data.bfloat16()
    everywhere.grad = torch.tensor([1.0, 2.0, rank])
    half.grad = torch.full((3,), 1.0 + rank, dtype=torch.bfloat16)
    if rank:
        one.grad = torch.ones(3)
    world.sum_gradients([everywhere, one, nowhere, half])
    assert everywhere.grad.tolist() == [2.0, 4.0, 1.0]
    assert one.grad.tolist() == [1.0, 1.0, 1.0]
    assert nowhere.grad is None
    assert half.grad.tolist() == [3.0, 3.0, 3.0] and half.grad.dtype is torch.bfloat16
    world.barrier()
    print(f"process {rank} is done", flush=True)
"""

TROUBLE = """
import os, sys, time
from rlvr.distributed import join

trouble = sys.argv[1]
with join(mode="auto", timeout=60, device="cpu") as world:
    world.barrier()
    if world.rank == 1:
        if trouble == "error":
            raise ValueError("the milk is sour")
        if trouble == "kill":
            os.kill(os.getpid(), 9)
        if trouble == "differ":
            world.check_equal("the batch", world.rank)
    if trouble == "differ":
        world.check_equal("the batch", world.rank)
    if sys.argv[2] == "busy":
        time.sleep(300)
    world.barrier()
"""


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
def test_two_processes_tell_each_other_what_they_have(tmp_path: Path) -> None:
    ended = run_program(tmp_path, EXCHANGES)
    assert ended.code == 0, ended.output
    assert "process 0 is done" in ended.output and "process 1 is done" in ended.output


@pytest.mark.slow
@pytest.mark.parametrize("other", ["waiting", "busy"])
@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("error", "ValueError: the milk is sour"),
        ("kill", "SIGKILL"),
        ("differ", "the batch differs"),
    ],
)
def test_trouble_in_one_process_ends_all_with_its_message(
    tmp_path: Path, trouble: str, message: str, other: str
) -> None:
    began = time.monotonic()
    ended = run_program(tmp_path, TROUBLE, trouble, other, limit=60)
    assert ended.code != 0
    assert message in ended.output, ended.output
    assert time.monotonic() - began < 45


@pytest.mark.slow
def test_a_launcher_that_does_not_watch_its_processes_is_not_needed(tmp_path: Path) -> None:
    """Without torchrun's agent: the one that computes learns that another one failed."""
    file = tmp_path / "program.py"
    file.write_text(TROUBLE)
    port = str(20_000 + os.getpid() % 20_000)
    processes = [
        subprocess.Popen(
            [sys.executable, str(file), "error", "busy"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **ENVIRONMENT, "RANK": str(rank), "WORLD_SIZE": "2"}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [1, 1]
    assert "process 0 ends: process 1 failed: ValueError: the milk is sour" in outputs[0]
    assert "ValueError: the milk is sour" in outputs[1]
