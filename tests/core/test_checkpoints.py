"""Checkpoints appear whole, come back exactly, and show it when they are damaged."""

from __future__ import annotations

import json
import random
import resource
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


def with_rollouts(folder: Path) -> None:
    """What a learner with batches in flight adds."""
    (folder / "in_flight").mkdir()
    (folder / "in_flight" / "step_000003.json").write_text('{"rounds": 1}')


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in (1, 2):
        policy, optimizer = trained(step)
        save_checkpoint(
            folder,
            step,
            policy=policy,
            optimizer=optimizer,
            state={},
            keep=2,
            write_files=with_rollouts,
        )
    return folder


FILES = (
    "manifest.json",
    "state.json",
    "model.safetensors",
    "optimizer.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "in_flight/step_000003.json",
)


def test_these_are_all_the_files_of_a_checkpoint(two_checkpoints: Path) -> None:
    newest = two_checkpoints / "step_000002"
    found = {str(path.relative_to(newest)) for path in newest.rglob("*") if path.is_file()}
    assert found == set(FILES)


def is_recognised(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether the damaged file is named in one line, and the checkpoint before is taken."""
    used = newest_whole(folder)
    said = capsys.readouterr().err
    named = said.count("\n") == 1 and f"{folder / 'step_000002'} is damaged ({name} " in said
    return used == folder / "step_000001" and named


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_named_and_the_checkpoint_before_is_used(
    two_checkpoints: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = two_checkpoints / "step_000002" / name
    data = file.read_bytes()
    try:
        for size in sorted({0, 1, *range(2, len(data), max(1, len(data) // 15)), len(data) - 1}):
            file.write_bytes(data[:size])
            assert is_recognised(two_checkpoints, name, capsys), f"cut to {size} of {len(data)}"
        file.unlink()
        assert is_recognised(two_checkpoints, name, capsys), "missing"
    finally:
        file.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_named_and_the_checkpoint_before_is_used(
    two_checkpoints: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = two_checkpoints / "step_000002" / name
    data = file.read_bytes()
    every = max(1, len(data) // 20)
    masks = (
        0x01,
        0x20,
        0x2A,
        0x80,
        0xFF,
    )  # 0x20 is another case, 0x2A turns a space into a newline
    try:
        for place in sorted({*range(0, len(data), every), len(data) - 1}):
            damaged = bytearray(data)
            damaged[place] ^= masks[place % len(masks)]
            file.write_bytes(damaged)
            where = f"byte {place} of {len(data)}"
            if name == "manifest.json":  # it may name another file whose digest is now wrong
                assert newest_whole(two_checkpoints) == two_checkpoints / "step_000001", where
            else:
                assert is_recognised(two_checkpoints, name, capsys), where
    finally:
        file.write_bytes(data)


@pytest.mark.parametrize("mask", [0x20, 0x2A])
def test_every_flip_in_a_manifest_is_seen(two_checkpoints: Path, mask: int) -> None:
    newest = two_checkpoints / "step_000002"
    data = (newest / "manifest.json").read_bytes()
    assert find_damage(newest) is None
    try:
        for place in range(len(data)):
            damaged = bytearray(data)
            damaged[place] ^= mask
            (newest / "manifest.json").write_bytes(damaged)
            assert find_damage(newest) is not None, f"byte {place}"
    finally:
        (newest / "manifest.json").write_bytes(data)


def test_a_disk_that_fills_up_is_told_and_the_older_checkpoints_stand(tmp_path: Path) -> None:
    """No file may grow past 8 KiB (the weights of these policies are larger)."""
    save(tmp_path, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"step_000002.*large.*--resume"):
            save(tmp_path, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert newest_whole(tmp_path) == tmp_path / "step_000001"
    assert {path.name for path in tmp_path.iterdir()} == {"step_000001"}, "the rest is cleared away"
    save(tmp_path, 2)
    assert newest_whole(tmp_path) == tmp_path / "step_000002"


def test_what_earlier_kills_left_is_cleared_away(tmp_path: Path) -> None:
    for name in (".writing_step_000009", ".removing_step_000001"):
        (tmp_path / name).mkdir()
    save(tmp_path, 10)
    assert {path.name for path in tmp_path.iterdir()} == {"step_000010"}


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
