"""A run's folder: who may write into it, what a resume may change, and a disk that fills up."""

from __future__ import annotations

import fcntl
import json
import resource
from pathlib import Path
from typing import Any

import pytest
import yaml

import rlvr
from rlvr.checkpoints import newest_whole
from rlvr.errors import CheckpointError, UserError
from rlvr.tracking import read_jsonl
from rlvr.trainers.config import PolicyGradientConfig, parse_config
from rlvr.trainers.run import MAY_CHANGE, check_folder

TINY: dict[str, Any] = {
    "algorithm": "sft",
    "policy": "new",
    "new_policy": {"hidden_size": 16, "layers": 1, "heads": 2},
    "held_out": {"count": 4, "every": 2},
    "batch_size": 4,
    "steps": 4,
    "checkpoint": {"every": 2, "keep": 2},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run of some seconds."""
    rows = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}"} for i in range(20)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "config.yaml"
    mapping = {**TINY, "data": str(data), "output": str(tmp_path / "run")}
    file.write_text(yaml.safe_dump(mapping))
    return file


def test_two_runs_in_one_folder_are_refused(config: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is running in"):
            rlvr.train(config, resume=True)
    assert not (tmp_path / "run" / "config.yaml").exists()
    rlvr.train(config)
    with pytest.raises(UserError, match="holds a run already"):
        rlvr.train(config)


def test_more_steps_may_follow_and_another_run_may_not(config: Path, tmp_path: Path) -> None:
    rlvr.train(config)
    rlvr.train(config, ["steps=6", "checkpoint.every=3"], resume=True)
    rows = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(UserError, match="another 'batch_size': 4 there, 8 here"):
        rlvr.train(config, ["batch_size=8"], resume=True)


def test_every_key_but_those_named_makes_another_run(tmp_path: Path) -> None:
    """Each key of a policy gradient run is changed in turn in the saved configuration."""
    mapping = {"algorithm": "grpo", "policy": "new", "output": str(tmp_path), "steps": 3}
    config = parse_config({**mapping, "environment": "arithmetic"}, "test")
    assert isinstance(config, PolicyGradientConfig)
    saved = config.model_dump(mode="json")
    assert set(saved) >= MAY_CHANGE
    for key in saved:
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({**saved, key: "another"}))
        if key in MAY_CHANGE:
            check_folder(tmp_path, config, resume=True)
        else:
            with pytest.raises(UserError, match=f"another {key!r}"):
                check_folder(tmp_path, config, resume=True)


def test_a_disk_that_fills_up_ends_the_run_and_the_resume_is_equal(
    config: Path, tmp_path: Path
) -> None:
    """The limit stands for a full disk: the second checkpoint cannot be written."""
    rlvr.train(config, [f"output={tmp_path / 'straight'}"])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    rlvr.train(config, ["steps=2"])
    (tmp_path / "run" / "config.yaml").unlink()  # as if it had been stopped at step 2
    resource.setrlimit(resource.RLIMIT_FSIZE, (16384, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"step_000004.*large.*older ones stand") as told:
            rlvr.train(config, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(told.value)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert newest_whole(checkpoints) == checkpoints / "step_000002"
    rlvr.train(config, resume=True)
    for name in ("metrics.jsonl", "policy/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()


def test_a_log_that_cannot_grow_is_told_in_one_line(config: Path, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot go on writing to .*large.*--resume") as told:
            rlvr.train(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(told.value)
    rlvr.train(config, resume=True)
    assert (tmp_path / "run" / "policy").is_dir()
