"""A checkpoint of any number of processes is taken up, bit for bit, by any other number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torchrun import run_program

from rlvr.checkpoints import find_damage, load_checkpoint, newest_whole, save_checkpoint
from rlvr.errors import CheckpointError
from rlvr.policy import Policy, load_policy, make_policy

COMMON = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from rlvr.checkpoints import load_checkpoint, save_checkpoint
from rlvr.distributed import join
from rlvr.policy import make_policy
from rlvr.sharding import is_sharded, shard, whole

def update(policy, optimizer, world, seed):
    ids = torch.randint(2, 15, (4, 6), generator=torch.Generator().manual_seed(seed))
    for row in world.share(ids):
        policy.model(row.unsqueeze(0)).logits.float().pow(2).sum().backward()
    if not world.sharded:
        world.sum_gradients(policy.model.parameters())
    optimizer.step()
    optimizer.zero_grad()

def everything(policy, optimizer):
    found = {name: whole(p.detach()).clone() for name, p in policy.model.named_parameters()}
    for index, slots in optimizer.state_dict()["state"].items():
        for slot, value in slots.items():
            found[f"{index}.{slot}"] = whole(torch.as_tensor(value)).clone()
    return found

def make(world, seed):
    # 17 rows of one matrix over two processes, and a vector of 1: uneven and empty shards.
    policy = make_policy(alphabet="0123456789+=A: ", hidden_size=12, layers=2, heads=2, seed=seed)
    policy.model.extra = torch.nn.Parameter(torch.full((1,), float(seed)))
    shard(policy.model, world)
    assert is_sharded(policy.model) == world.sharded
    return policy, torch.optim.AdamW(policy.model.parameters(), lr=1e-2)
"""
SAVE = (
    COMMON
    + """
mode, folder = sys.argv[1], Path(sys.argv[2])
with join(mode=mode, timeout=60, device="cpu") as world:
    policy, optimizer = make(world, seed=0)
    for step in range(2):
        update(policy, optimizer, world, step)
    torch.manual_seed(100 + world.rank)
    save_checkpoint(folder, 2, policy=policy, optimizer=optimizer, state={"position": 7}, keep=2,
                    world=world)
    found = everything(policy, optimizer)
    if world.is_main:
        save_file(found, folder / "expected.safetensors")
"""
)
LOAD = (
    COMMON
    + """
mode, folder = sys.argv[1], Path(sys.argv[2])
with join(mode=mode, timeout=60, device="cpu") as world:
    policy, optimizer = make(world, seed=1)
    state = load_checkpoint(folder / "step_000002", policy=policy, optimizer=optimizer, world=world)
    assert state == {"position": 7, "step": 2}, state
    if len(sys.argv) > 3:
        assert torch.initial_seed() == 100 + world.rank
    found = everything(policy, optimizer)
    if world.is_main:
        save_file(found, folder / "found.safetensors")
"""
)


def single(seed: int) -> tuple[Policy, torch.optim.Optimizer]:
    policy = make_policy(alphabet="0123456789+=A: ", hidden_size=12, layers=2, heads=2, seed=seed)
    policy.model.extra = torch.nn.Parameter(torch.full((1,), float(seed)))
    return policy, torch.optim.AdamW(policy.model.parameters(), lr=1e-2)


def everything(policy: Policy, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    found = {name: p.detach() for name, p in policy.model.named_parameters()}
    for index, slots in optimizer.state_dict()["state"].items():
        found |= {f"{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    return found


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["data_parallel", "fsdp"])
def test_what_two_processes_saved_one_takes_up_and_the_other_way_round(
    tmp_path: Path, mode: str
) -> None:
    saved = tmp_path / "two"
    saved.mkdir()
    ended = run_program(tmp_path, SAVE, mode, str(saved))
    assert ended.code == 0, ended.output
    path = newest_whole(saved)
    assert path is not None
    files = {file.name for file in path.iterdir()}
    sharded = {"optimizer-00001-of-00002.safetensors", "optimizer-00002-of-00002.safetensors"}
    assert (sharded <= files) == (mode == "fsdp")
    assert ("optimizer.safetensors" in files) == (mode == "data_parallel")
    assert {file.suffix for file in path.iterdir()} <= {".json", ".safetensors", ".txt", ".jinja"}
    assert json.loads((path / "config.json").read_text())["architectures"] == ["Qwen2ForCausalLM"]

    expected = load_file(saved / "expected.safetensors")
    policy, optimizer = single(seed=1)
    load_checkpoint(path, policy=policy, optimizer=optimizer)
    assert_equal(everything(policy, optimizer), expected)
    for name, tensor in load_policy(str(path)).model.named_parameters():
        assert torch.equal(tensor, expected[name]), name

    again = tmp_path / "one"
    rewritten = save_checkpoint(
        again, 2, policy=policy, optimizer=optimizer, state={"position": 7}, keep=1
    )
    weights = "model.safetensors"
    assert (rewritten / weights).read_bytes() == (path / weights).read_bytes()
    other = "data_parallel" if mode == "fsdp" else "fsdp"
    for source, how in ((again, mode), (saved, other)):
        ended = run_program(tmp_path, LOAD, how, str(source), *(["rng"] if source is saved else []))
        assert ended.code == 0, ended.output
        assert_equal(load_file(source / "found.safetensors"), expected)


@pytest.mark.slow
def test_a_missing_or_damaged_shard_is_named(tmp_path: Path) -> None:
    ended = run_program(tmp_path, SAVE, "fsdp", str(tmp_path))
    assert ended.code == 0, ended.output
    path = tmp_path / "step_000002"
    second = path / "optimizer-00002-of-00002.safetensors"
    whole = second.read_bytes()
    second.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert find_damage(path) == f"{second.name} does not match its checksum"
    second.unlink()
    assert find_damage(path) == f"{second.name} is missing"
    policy, optimizer = single(seed=1)
    with pytest.raises(CheckpointError, match="are in no file"):
        load_checkpoint(path, policy=policy, optimizer=optimizer)
