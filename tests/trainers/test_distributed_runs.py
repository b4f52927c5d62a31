"""Whole runs of `rlvr train` under torchrun: as one process does them, killed, taken up again."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torchrun import ENVIRONMENT, torchrun

from rlvr.rollout_table import read_rollouts
from rlvr.tracking import read_jsonl
from tests.conftest import require

EVEN = Path(__file__).with_name("even_verifier.py")
CONFIG: dict[str, Any] = {
    "algorithm": "dapo",
    "policy": "new",
    "new_policy": {
        "alphabet": "0123456789+=A: \n",
        "hidden_size": 16,
        "layers": 2,
        "heads": 2,
        "max_length": 32,
    },
    "environment": {"name": "arithmetic", "digits": 1, "size": 300},
    "verifier": f"{EVEN}:even",
    "warm_start": {
        "max_steps": 4,
        "batch_size": 7,
        "stop_at": 1.0,
        "check_every": 2,
        "check_tasks": 9,
    },
    "sampling": {"max_new_tokens": 8},
    "rollout": {"tasks_per_step": 5, "group_size": 4, "workers": 1, "mask_truncated": False},
    "objective": {"epochs": 2, "mini_batches": 2, "kl_coefficient": 0.01},
    "optimizer": {"lr": 1e-3},
    "micro_batch_tokens": 60,
    "steps": 4,
    "evaluation": {"every": 2, "tasks": 5, "samples": 2, "k": [1, 2]},
    "checkpoint": {"every": 1, "keep": 2},
}
WEIGHTS = "policy/model.safetensors"


def write(folder: Path, **changes: Any) -> str:
    """A configuration file for a run in `folder`."""
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({**CONFIG, "output": str(folder), **changes}))
    return str(file)


def train(processes: int, config: str, *arguments: str, fails: bool = False) -> str:
    """Train in so many processes, resuming; what was printed."""
    command = ["train", config, "--resume", *arguments]
    if processes > 1:
        ended = torchrun("-m", "rlvr", *command, processes=processes, limit=200)
        code, output = ended.code, ended.output
    else:
        ran = subprocess.run(
            [sys.executable, "-m", "rlvr", *command],
            capture_output=True,
            text=True,
            timeout=200,
            env={**os.environ, **ENVIRONMENT},
        )
        code, output = ran.returncode, ran.stdout + ran.stderr
    assert (code != 0) == fails, output
    return output


def assert_close(found: Path, expected: Path) -> None:
    """Metrics of two runs that differ in nothing but the order in which floats were added up."""
    for stage in ("warm_start", "."):
        rows = [read_jsonl(folder / stage / "metrics.jsonl") for folder in (found, expected)]
        assert [row.keys() for row in rows[0]] == [row.keys() for row in rows[1]]
        for mine, theirs in zip(*rows, strict=True):
            for name, value in theirs.items():
                assert mine[name] == pytest.approx(value, rel=1e-4, abs=1e-5), (name, theirs)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", ["data_parallel", "fsdp"])
def test_a_run_of_two_processes_is_that_of_one_and_survives_a_kill(
    tmp_path: Path, mode: str
) -> None:
    choice = ("--set", f"distributed.mode={mode}")
    one, two, killed = (tmp_path / name for name in ("one", "two", "killed"))
    train(1, write(one))
    printed = train(2, write(two), *choice)
    assert printed.count("pass@1:") == 1, "one process reports"
    assert_close(two, one)
    assert not list(two.rglob(".writing_*"))
    tables = [folder / "rollouts" / "step_000001.parquet" for folder in (one, two)]
    if tables[0].exists():
        first, second = (read_rollouts(table) for table in tables)
        assert [r.completion.token_ids for r in first] == [r.completion.token_ids for r in second]

    kill_one_of_two(write(killed), killed, *choice)
    train(2, str(killed.with_suffix(".yaml")), *choice)
    for name in ("metrics.jsonl", "warm_start/metrics.jsonl", WEIGHTS):
        assert (killed / name).read_bytes() == (two / name).read_bytes(), name

    # Further steps, by one process and by two, from the checkpoint that two wrote.
    shutil.copytree(two, tmp_path / "alone")
    longer = ("--set", "steps=6")
    train(1, write(tmp_path / "alone"), *longer)
    other = "data_parallel" if mode == "fsdp" else "fsdp"
    train(2, str(two.with_suffix(".yaml")), *longer, "--set", f"distributed.mode={other}")
    assert_close(tmp_path / "alone", two)
    ours, theirs = load_file(tmp_path / "alone" / WEIGHTS), load_file(two / WEIGHTS)
    assert all((ours[name] - theirs[name]).abs().max() < 1e-4 for name in ours)


def kill_one_of_two(config: str, folder: Path, *arguments: str) -> None:
    """Start two processes, kill the second after the second step, and see both end."""
    torchrun_two = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    launcher = subprocess.Popen(
        [sys.executable, "-m", *torchrun_two, "-m", "rlvr", "train", config, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **ENVIRONMENT},
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 200
        while not has_step(folder, 2):
            assert launcher.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        workers = children(launcher.pid)
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
        output, _ = launcher.communicate(timeout=60)
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)
    assert launcher.returncode != 0
    assert b"SIGKILL" in output, output.decode()
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def has_step(folder: Path, step: int) -> bool:
    """Whether the run in a folder has logged a step."""
    file = folder / "metrics.jsonl"
    return file.exists() and any(row["step"] >= step for row in read_jsonl(file))


def children(pid: int) -> list[int]:
    """The processes that a process started, in that order."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("algorithm", ["sft", "dpo", "reward"])
def test_learning_from_given_completions_is_shared_too(tmp_path: Path, algorithm: str) -> None:
    """An uneven number of micro-batches: one process judges a part that does not count."""
    data = tmp_path / "data.jsonl"
    rows = [
        {"prompt": f"{i}+1=", "completion": f"A: {i + 1}", "chosen": f"A: {i + 1}", "rejected": "A"}
        for i in range(40)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept = ("policy", "new_policy", "optimizer", "steps")
    for name in ("one", "two"):
        values = {key: CONFIG[key] for key in kept} | {"output": str(tmp_path / name)}
        values |= {"algorithm": algorithm, "data": str(data), "held_out": {"count": 5}}
        values |= {"batch_size": 7, "micro_batch_tokens": 60}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
    train(1, str(tmp_path / "one.yaml"))
    train(2, str(tmp_path / "two.yaml"), "--set", "distributed.mode=fsdp")
    found, expected = (read_jsonl(tmp_path / n / "metrics.jsonl") for n in ("two", "one"))
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)


SHORT = {"warm_start": {**CONFIG["warm_start"], "max_steps": 2}, "evaluation": None, "steps": 3}
SHARDED: dict[str, dict[str, Any]] = {
    "critic": {"algorithm": "ppo", "critic": {"optimizer": {"lr": 1e-3}}},
    "made ahead": {"rollout": {**CONFIG["rollout"], "max_staleness": 1}},
    "LoRA": {"lora": {"rank": 3, "alpha": 8}, "optimizer": {"lr": 1e-2}},
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", SHARDED)
def test_all_that_a_sharded_run_holds_is_taken_up_again(tmp_path: Path, case: str) -> None:
    """From the checkpoint before the last: by two processes bit for bit, and by one."""
    fsdp = ("--set", "distributed.mode=fsdp")
    two, again, alone = (tmp_path / name for name in ("two", "again", "alone"))
    changes = {**SHORT, **SHARDED[case]}
    train(2, write(two, **changes), *fsdp)
    for folder in (again, alone):
        shutil.copytree(two, folder)
        shutil.rmtree(folder / "policy")
        shutil.rmtree(folder / "checkpoints" / "step_000003")
    train(2, write(again, **changes), *fsdp)
    train(1, write(alone, **changes))
    assert (again / "metrics.jsonl").read_bytes() == (two / "metrics.jsonl").read_bytes()
    for path in two.rglob("*.safetensors"):
        found, expected = load_file(again / path.relative_to(two)), load_file(path)
        assert found.keys() == expected.keys(), path
        assert all(torch.equal(found[name], expected[name]) for name in found), path
    assert_close(alone, two)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_mistake_is_said_in_one_line_by_several_processes(tmp_path: Path) -> None:
    config = write(tmp_path / "run", policy="./nowhere")
    output = train(2, config, "--set", "distributed.mode=fsdp", fails=True)
    errors = [line for line in output.splitlines() if "rlvr: error:" in line]
    assert len(errors) == 1 and "there is no such folder" in errors[0], output
    assert not (tmp_path / "run").exists(), "nothing was written"


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(400)
def test_each_process_has_an_engine_that_gets_the_gathered_weights(tmp_path: Path) -> None:
    require("vllm", importlib.util.find_spec("vllm") is not None, "vLLM is not installed")
    shape = {**CONFIG["new_policy"], "hidden_size": 64}
    changes = {"sampler": "vllm", "new_policy": shape, "warm_start": None, "evaluation": None}
    config = write(tmp_path / "run", **{**changes, "steps": 3})
    train(2, config, "--set", "distributed.mode=fsdp")
    rows = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    # Each update moves the weights; an engine that went on with old ones would be 1e-2 off.
    assert all(row["sampler_gap/mean"] < 1e-5 for row in rows)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_batches_that_are_made_ahead_are_shared_too(tmp_path: Path) -> None:
    """In a thread, beside the exchanges of the update."""
    rollout = {**CONFIG["rollout"], "max_staleness": 2, "parts": 2}
    changes = {"rollout": rollout, "warm_start": None, "evaluation": None}
    train(1, write(tmp_path / "one", **changes))
    expected = read_jsonl(tmp_path / "one" / "metrics.jsonl")
    for mode in ("data_parallel", "fsdp"):
        folder = tmp_path / mode
        train(2, write(folder, **changes), "--set", f"distributed.mode={mode}")
        for mine, theirs in zip(read_jsonl(folder / "metrics.jsonl"), expected, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-4), mode


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_lora_is_trained_by_two_processes_as_by_one(tmp_path: Path) -> None:
    changes = {"lora": {"rank": 4, "alpha": 8}, "warm_start": None, "evaluation": None}
    train(1, write(tmp_path / "one", **changes))
    train(2, write(tmp_path / "two", **changes), "--set", "distributed.mode=data_parallel")
    found, expected = (read_jsonl(tmp_path / n / "metrics.jsonl") for n in ("two", "one"))
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    assert expected[-1]["kl/reference"] > 0
    assert (tmp_path / "two" / "policy" / "adapter" / "adapter_model.safetensors").is_file()
