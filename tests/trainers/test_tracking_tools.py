"""TensorBoard and Weights & Biases beside real runs, read back: killed, missing, broken."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import rlvr
from rlvr.errors import ConfigError, MissingExtraError
from rlvr.tracking import read_jsonl
from rlvr.tracking_tools import TRACKERS, Trackers

CONFIG: dict[str, Any] = {
    "algorithm": "grpo",
    "policy": "new",
    "new_policy": {"hidden_size": 16, "layers": 1, "heads": 2, "alphabet": "0123456789+=A: \n"},
    "environment": {"name": "arithmetic", "digits": 1, "size": 200},
    "sampling": {"max_new_tokens": 8},
    "rollout": {"tasks_per_step": 4, "group_size": 4, "workers": 1},
    "evaluation": {"every": 2, "tasks": 4, "samples": 2, "k": [1, 2]},
    "checkpoint": {"every": 2},
    "steps": 4,
}


def write(folder: Path, **changes: Any) -> Path:
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({**CONFIG, "output": str(folder), **changes}))
    return file


def tensorboard_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads from the event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    read.Reload()
    return {
        tag: [(event.step, event.value) for event in read.Scalars(tag)]
        for tag in read.Tags()["scalars"]
    }


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of a transaction log: LevelDB's log format (blocks of 32 KiB) after 7 bytes."""
    place, record = 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield record
            record = b""


def wandb_rows(folder: Path) -> list[dict[str, Any]]:
    """The history of the offline run; there is one such run."""
    from wandb.proto import wandb_internal_pb2

    (file,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    rows = []
    for data in wandb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
    return rows


def expected(folder: Path, name: str) -> list[tuple[int, float]]:
    rows = read_jsonl(folder / "metrics.jsonl")
    return [(row["step"], row[name]) for row in rows if row.get(name) is not None]


@pytest.mark.slow
def test_tensorboard_shows_what_the_run_logged_and_a_resumed_run_shows_it_once(
    tmp_path: Path,
) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    rlvr.train(write(run, tracking=["tensorboard"], steps=3))
    rlvr.train(write(run, tracking=["tensorboard"]), resume=True)
    scalars = tensorboard_scalars(run)
    for name in ("reward/mean", "entropy", "length/max", "grad_norm", "eval/pass@1"):
        shown = scalars[name.replace("@", "_")]
        wanted = expected(run, name)
        assert [step for step, _ in shown] == [step for step, _ in wanted]
        assert [value for _, value in shown] == pytest.approx([value for _, value in wanted])
    assert [step for step, _ in scalars["timing/generate/tokens_per_second"]] == [1, 2, 3, 4]


@pytest.mark.slow
def test_wandb_offline_has_every_step_once_though_the_run_was_killed(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    run = tmp_path / "run"
    file = write(run, tracking=["wandb"], steps=30, evaluation=None, checkpoint={"every": 5})
    program = f"import rlvr; rlvr.train({str(file)!r}, resume=True)"
    environment = {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    first = start()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (run / "checkpoints" / "step_000010").exists():
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    second = start()
    _, errors = second.communicate(timeout=240)
    assert second.returncode == 0, errors.decode()
    assert b"warning: wandb" not in errors
    rows = wandb_rows(run)
    counts = Counter(row["_step"] for row in rows)
    assert counts == Counter(range(31))
    shown = [(row["_step"], row["reward/mean"]) for row in rows if "reward/mean" in row]
    assert shown == expected(run, "reward/mean")


class Broken:
    """A tracker that cannot be reached."""

    calls = 0

    def __init__(self, folder: Path) -> None:
        pass

    def log(self, step: int, values: Any) -> None:
        Broken.calls += 1
        raise ConnectionError("no route\nto host")

    def close(self) -> None:
        raise AssertionError("closed after it failed")


@pytest.mark.slow
def test_a_tracker_that_fails_is_named_once_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(TRACKERS, "wandb", Broken)
    monkeypatch.setattr(Broken, "calls", 0)
    rlvr.train(write(tmp_path / "run", tracking=["wandb"]))
    errors = capsys.readouterr().err
    assert errors.count("warning: wandb failed (ConnectionError: no route)") == 1
    assert Broken.calls == 1
    assert len(read_jsonl(tmp_path / "run" / "metrics.jsonl")) == 7


def test_a_tracker_that_does_not_begin_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(folder: Path) -> Any:
        raise OSError("disk is full")

    monkeypatch.setitem(TRACKERS, "wandb", refuse)
    trackers = Trackers(["wandb"], tmp_path, [(0, {"a": 1.0})])
    trackers.log(1, {"a": 2.0})
    trackers.close()
    assert capsys.readouterr().err.count("warning: wandb failed (OSError: disk is full)") == 1


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_one_line_with_the_command_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"{name}.*pip install 'rlvr\[track\]'"):
        rlvr.train(write(tmp_path / "run", tracking=[name]))
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tracking"):
        rlvr.train(write(tmp_path / "run", tracking=["mlflow"]))
