"""What each of two processes does in the tests of exchanges."""

from __future__ import annotations

import os
import signal
import sys
import time

import torch

from rlvr.distributed import World, join


def exchange() -> None:
    """Every way for two processes to tell each other something."""
    with join(mode="auto", timeout=60, device="cpu") as world:
        rank = world.rank
        assert (world.size, world.device, world.sharded) == (2, "cpu", False)
        assert world.is_main == (rank == 0)
        both = [{"rank": rank, "text": "\ud800é"} for rank in range(2)]
        assert world.gather(both[rank]) == both
        assert world.gather_bytes(b"x" * (3 * rank)) == [b"", b"xxx"]
        assert world.broadcast(["of", rank]) == ["of", 0]
        assert world.on_main(lambda: rank) == 0
        own = torch.tensor([1.0, float(rank)])
        assert world.sum(own).tolist() == [2.0, 1.0]
        assert own.tolist() == [1.0, float(rank)]
        added = world.add_up({"both": 1.0, f"only {rank}": 2.0})
        assert added == {"both": 2.0, "only 0": 2.0, "only 1": 2.0}
        assert world.share([1, 2, 3]) == ([1] if rank == 0 else [2, 3])
        sum_gradients(world)
        world.barrier()
        print(f"process {rank} is done", flush=True)


def sum_gradients(world: World) -> None:
    """Of parameters that have one in both processes, in one, or in none."""
    everywhere, one, nowhere, half = (torch.nn.Parameter(torch.zeros(3)) for _ in range(4))
    half.data = half.data.bfloat16()
    everywhere.grad = torch.tensor([1.0, 2.0, world.rank])
    half.grad = torch.full((3,), 1.0 + world.rank, dtype=torch.bfloat16)
    if world.rank:
        one.grad = torch.ones(3)
    world.sum_gradients([everywhere, one, nowhere, half])
    assert everywhere.grad.tolist() == [2.0, 4.0, 1.0]
    assert one.grad is not None
    assert one.grad.tolist() == [1.0, 1.0, 1.0]
    assert nowhere.grad is None
    assert half.grad.tolist() == [3.0, 3.0, 3.0]
    assert half.grad.dtype is torch.bfloat16


def fail(trouble: str, other: str) -> None:
    """The second process fails while the first one waits for it, or computes."""
    with join(mode="auto", timeout=60, device="cpu") as world:
        world.barrier()
        if world.rank == 1:
            if trouble == "error":
                raise ValueError("the milk is sour")
            if trouble == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        if trouble == "differ":
            world.check_equal("the batch", world.rank)
        if other == "busy":
            time.sleep(300)
        world.barrier()


if __name__ == "__main__":
    fail(*sys.argv[1:])
