"""What each of two processes does in the tests of checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from rlvr.checkpoints import load_checkpoint, save_checkpoint
from rlvr.distributed import World, join
from rlvr.policy import Policy, make_policy
from rlvr.sharding import is_sharded, shard, whole

Tensors = dict[str, torch.Tensor]


def make(world: World, seed: int) -> tuple[Policy, torch.optim.Optimizer]:
    """17 rows of a matrix over two processes, and a vector of 1: uneven and empty shards."""
    policy = make_policy(alphabet="0123456789+=A: ", hidden_size=12, layers=2, heads=2, seed=seed)
    policy.model.extra = torch.nn.Parameter(torch.full((1,), float(seed)))
    shard(policy.model, world)
    assert is_sharded(policy.model) == world.sharded
    return policy, torch.optim.AdamW(policy.model.parameters(), lr=1e-2)


def update(policy: Policy, optimizer: torch.optim.Optimizer, world: World, seed: int) -> None:
    ids = torch.randint(2, 15, (4, 6), generator=torch.Generator().manual_seed(seed))
    for row in world.share(ids):
        policy.model(row.unsqueeze(0)).logits.float().pow(2).sum().backward()
    if not world.sharded:
        world.sum_gradients(policy.model.parameters())
    optimizer.step()
    optimizer.zero_grad()


def everything(policy: Policy, optimizer: torch.optim.Optimizer) -> Tensors:
    """All weights and all of the optimizer's state, whole."""
    found = {name: whole(p.detach()).clone() for name, p in policy.model.named_parameters()}
    for index, slots in optimizer.state_dict()["state"].items():
        for slot, value in slots.items():
            found[f"{index}.{slot}"] = whole(torch.as_tensor(value)).clone()
    return found


def save(mode: str, folder: str) -> None:
    """Two updates and a checkpoint; what it holds also goes to `expected.safetensors`."""
    with join(mode=mode, timeout=60, device="cpu") as world:
        policy, optimizer = make(world, seed=0)
        for step in range(2):
            update(policy, optimizer, world, step)
        torch.manual_seed(100 + world.rank)
        state = {"position": 7}
        save_checkpoint(
            Path(folder), 2, policy=policy, optimizer=optimizer, state=state, keep=2, world=world
        )
        found = everything(policy, optimizer)
        if world.is_main:
            save_file(found, Path(folder) / "expected.safetensors")


def load(mode: str, folder: str, random_states: bool) -> None:
    """Take the checkpoint up; what was found goes to `found.safetensors`."""
    with join(mode=mode, timeout=60, device="cpu") as world:
        policy, optimizer = make(world, seed=1)
        state = load_checkpoint(
            Path(folder) / "step_000002", policy=policy, optimizer=optimizer, world=world
        )
        assert state == {"position": 7, "step": 2}
        if random_states:
            assert torch.initial_seed() == 100 + world.rank
        found = everything(policy, optimizer)
        if world.is_main:
            save_file(found, Path(folder) / "found.safetensors")
