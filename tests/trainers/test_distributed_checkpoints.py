"""A checkpoint of any number of processes is taken up, bit for bit, by any other number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoint_programs import everything, make
from safetensors.torch import load_file
from warmed import Warmed

from rlvr.checkpoints import find_damage, load_checkpoint, newest_whole, save_checkpoint
from rlvr.distributed import ALONE
from rlvr.errors import CheckpointError
from rlvr.policy import load_policy


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["data_parallel", "fsdp"])
def test_what_two_processes_saved_one_takes_up_and_the_other_way_round(
    warmed: Warmed, tmp_path: Path, mode: str
) -> None:
    saved = tmp_path / "two"
    saved.mkdir()
    ended = warmed.run("checkpoint_programs:save", mode, str(saved), processes=2)
    assert ended.codes == [0, 0], ended.output
    path = newest_whole(saved)
    assert path is not None
    files = {file.name for file in path.iterdir()}
    sharded = {"optimizer-00001-of-00002.safetensors", "optimizer-00002-of-00002.safetensors"}
    assert (sharded <= files) == (mode == "fsdp")
    assert ("optimizer.safetensors" in files) == (mode == "data_parallel")
    assert {file.suffix for file in path.iterdir()} <= {".json", ".safetensors", ".txt", ".jinja"}
    assert json.loads((path / "config.json").read_text())["architectures"] == ["Qwen2ForCausalLM"]

    expected = load_file(saved / "expected.safetensors")
    policy, optimizer = make(ALONE, seed=1)
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
        given = (how, str(source), source is saved)
        ended = warmed.run("checkpoint_programs:load", *given, processes=2)
        assert ended.codes == [0, 0], ended.output
        assert_equal(load_file(source / "found.safetensors"), expected)


@pytest.mark.slow
def test_a_missing_or_damaged_shard_is_named(warmed: Warmed, tmp_path: Path) -> None:
    ended = warmed.run("checkpoint_programs:save", "fsdp", str(tmp_path), processes=2)
    assert ended.codes == [0, 0], ended.output
    path = tmp_path / "step_000002"
    second = path / "optimizer-00002-of-00002.safetensors"
    whole = second.read_bytes()
    second.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert find_damage(path) == f"{second.name} does not match its checksum"
    second.unlink()
    assert find_damage(path) == f"{second.name} is missing"
    policy, optimizer = make(ALONE, seed=1)
    with pytest.raises(CheckpointError, match="are in no file"):
        load_checkpoint(path, policy=policy, optimizer=optimizer)
