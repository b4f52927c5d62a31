"""Checkpoints appear whole, come back exactly, and show it when they are damaged."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from rlvr.checkpoints import (
    checkpoints,
    find_damage,
    load_checkpoint,
    newest_whole,
    save_checkpoint,
)
from rlvr.errors import CheckpointError
from rlvr.policy import Policy, load_policy, make_policy


def trained(seed: int) -> tuple[Policy, torch.optim.Optimizer]:
    """A tiny policy with an optimizer that has taken two steps."""
    policy = make_policy(hidden_size=16, layers=1, heads=2, alphabet="ab", seed=seed)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=0.01)
    for _ in range(2):
        policy.model(torch.tensor([[1, 2, 3]])).logits.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return policy, optimizer


def save(folder: Path, step: int, seed: int = 0, keep: int = 10) -> Path:
    policy, optimizer = trained(seed)
    state = {"position": 7}
    return save_checkpoint(folder, step, policy=policy, optimizer=optimizer, state=state, keep=keep)


def test_weights_optimizer_and_state_come_back_exactly(tmp_path: Path) -> None:
    path = save(tmp_path, 3)
    expected, expected_optimizer = trained(0)
    policy, optimizer = trained(1)
    assert load_checkpoint(path, policy=policy, optimizer=optimizer) == {"position": 7, "step": 3}
    for name, value in expected.model.state_dict().items():
        assert torch.equal(value, policy.model.state_dict()[name]), name
    for index, slots in expected_optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            assert torch.equal(value, optimizer.state_dict()["state"][index][name])


def test_random_states_come_back_exactly(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    drawn = (random.random(), np.random.random(), torch.rand(3).tolist())
    policy, optimizer = trained(0)
    load_checkpoint(path, policy=policy, optimizer=optimizer)
    assert (random.random(), np.random.random(), torch.rand(3).tolist()) == drawn


def test_transformers_loads_a_checkpoint_as_it_is(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    loaded = load_policy(str(path))
    expected, _ = trained(0)
    ids = torch.tensor([[2, 3]])
    assert torch.equal(loaded.model(ids).logits, expected.model(ids).logits)


def test_only_the_newest_stay(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_000002", "step_000003"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_flipped_byte_is_named_and_the_one_before_is_used(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 1)
    broken = save(tmp_path, 2) / name
    data = bytearray(broken.read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(bytes(data))
    assert newest_whole(tmp_path) == tmp_path / "step_000001"
    assert name in capsys.readouterr().err


def test_a_missing_file_and_a_missing_manifest_are_damage(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    assert find_damage(path) is None
    (path / "state.json").unlink()
    assert find_damage(path) == "state.json is missing"
    (path / "manifest.json").unlink()
    assert find_damage(path) is not None
    assert newest_whole(tmp_path) is None


def test_what_was_being_written_is_not_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / ".writing_step_000009").mkdir()
    assert checkpoints(tmp_path) == []


def test_another_model_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    other = make_policy(hidden_size=16, layers=2, heads=2, alphabet="ab")
    optimizer = torch.optim.AdamW(other.model.parameters())
    with pytest.raises(CheckpointError, match="another model"):
        load_checkpoint(path, policy=other, optimizer=optimizer)


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    suffixes = {file.suffix for file in path.rglob("*") if file.is_file()}
    assert suffixes <= {".json", ".safetensors", ".txt", ".jinja"}
    assert json.loads((path / "state.json").read_text())["step"] == 1


def test_files_of_the_learner_are_covered_by_the_manifest(tmp_path: Path) -> None:
    policy, optimizer = trained(0)

    def write(folder: Path) -> None:
        (folder / "critic").mkdir()
        (folder / "critic" / "value.bin").write_bytes(b"123")

    path = save_checkpoint(
        tmp_path, 1, policy=policy, optimizer=optimizer, state={}, keep=1, write_files=write
    )
    assert find_damage(path) is None
    (path / "critic" / "value.bin").write_bytes(b"124")
    assert find_damage(path) == "critic/value.bin does not match its checksum"
