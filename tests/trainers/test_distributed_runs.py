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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from torchrun import torchrun
from warmed import ENVIRONMENT, Warmed

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
    "rollout": {
        "tasks_per_step": 5,
        "group_size": 4,
        "workers": 1,
        "mask_truncated": False,
        "save_every": 1,
    },
    "objective": {"epochs": 2, "mini_batches": 2, "kl_coefficient": 0.01},
    "optimizer": {"lr": 1e-3},
    "micro_batch_tokens": 60,
    "steps": 4,
    "evaluation": {"every": 2, "tasks": 5, "samples": 2, "k": [1, 2]},
    "checkpoint": {"every": 1, "keep": 2},
}
WEIGHTS = "policy/model.safetensors"
SHORT: dict[str, Any] = {
    "warm_start": {**CONFIG["warm_start"], "max_steps": 2},
    "evaluation": None,
    "steps": 3,
}
STEP = "rlvr.trainers.policy_gradient:PolicyGradientLearner.step"
Kills = Sequence[tuple[int, str]]
# Which of the two processes is killed, and where: sampling, updating, and writing a checkpoint that
# both write, or that has no name yet.
KILLS: Kills = (
    (1, "rlvr.trainers.supervised:SupervisedLearner.step#2"),
    (
        1,
        f"{STEP}#1 > rlvr.trainers.collecting:TimedSampler.sample@1 > "
        "rlvr.samplers.decoding:draw@3",
    ),
    (0, f"{STEP}#2 > rlvr.trainers.policy_update:PolicyUpdate.update_once@3"),
    (1, f"{STEP}#3 > rlvr.checkpoints:save_optimizer@1"),
    (0, f"{STEP}#3 > rlvr.checkpoints:_put_in_place@1"),
)


def write(folder: Path, **changes: Any) -> str:
    """A configuration file for a run in `folder`."""
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({**CONFIG, "output": str(folder), **changes}))
    return str(file)


Train = Callable[..., str]


@pytest.fixture
def train(warmed: Warmed) -> Train:
    """`train(processes, config, *overrides)`: to the end of the run; what was printed."""

    def run(processes: int, config: str, *overrides: str) -> str:
        ended = warmed.run("warmed:train", config, *overrides, processes=processes)
        assert ended.codes == [0] * processes, ended.output
        return ended.output

    return run


@pytest.fixture(scope="module")
def one(warmed: Warmed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("one") / "one"
    ended = warmed.run("warmed:train", write(folder))
    assert ended.codes == [0], ended.output
    return folder


def kill_in_turn(warmed: Warmed, config: str, kills: Kills, *overrides: str) -> None:
    """Start two processes again and again, each time killing one at a point; the other ends too."""
    for rank, point in kills:
        ended = warmed.run("warmed:train", config, *overrides, processes=2, kill={rank: point})
        expected = [1, 1]
        expected[rank] = -signal.SIGKILL
        assert ended.codes == expected, (rank, point, ended.output)


def assert_same(found: Path, expected: Path) -> None:
    """All that two runs came to is equal bit for bit."""
    for pattern in ("**/metrics.jsonl", "**/alarms.jsonl", "**/*.safetensors"):
        files = [{p.relative_to(run) for p in run.glob(pattern)} for run in (found, expected)]
        assert files[0] == files[1]
        for file in files[0]:
            assert (found / file).read_bytes() == (expected / file).read_bytes(), file
    assert not [path for path in found.rglob(".*") if path.name != ".lock"]


def assert_close(found: Path, expected: Path) -> None:
    """Metrics of two runs that differ in nothing but the order in which floats were added up."""
    for stage in ("warm_start", "."):
        rows = [read_jsonl(folder / stage / "metrics.jsonl") for folder in (found, expected)]
        assert [row.keys() for row in rows[0]] == [row.keys() for row in rows[1]]
        for mine, theirs in zip(*rows, strict=True):
            for name, value in theirs.items():
                assert mine[name] == pytest.approx(value, rel=1e-4, abs=1e-5), (name, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["data_parallel", "fsdp"])
def test_a_run_of_two_processes_is_that_of_one_and_survives_kills(
    warmed: Warmed, train: Train, tmp_path: Path, one: Path, mode: str
) -> None:
    choice = f"distributed.mode={mode}"
    two, killed = tmp_path / "two", tmp_path / "killed"
    printed = train(2, write(two), choice)
    assert printed.count("pass@1:") == 1, "one process reports"
    assert_close(two, one)
    tables = [folder / "rollouts" / "step_000001.parquet" for folder in (one, two)]
    first, second = (read_rollouts(table) for table in tables)
    assert [r.completion.token_ids for r in first] == [r.completion.token_ids for r in second]

    kill_in_turn(warmed, write(killed), KILLS, choice)
    train(2, write(killed), choice)
    assert_same(killed, two)

    # Further steps, by one process and by two, from the checkpoint that two wrote.
    shutil.copytree(two, tmp_path / "alone")
    longer = "steps=6"
    train(1, write(tmp_path / "alone"), longer)
    other = "data_parallel" if mode == "fsdp" else "fsdp"
    train(2, write(two), longer, f"distributed.mode={other}")
    assert_close(tmp_path / "alone", two)
    ours, theirs = load_file(tmp_path / "alone" / WEIGHTS), load_file(two / WEIGHTS)
    assert all((ours[name] - theirs[name]).abs().max() < 1e-4 for name in ours)


@pytest.mark.slow
def test_torchrun_ends_all_when_one_is_killed_and_goes_on(train: Train, tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    train(2, write(straight, **SHORT))
    kill_one_of_two(write(killed, **SHORT), killed)
    ended = torchrun("-m", "rlvr", "train", write(killed, **SHORT), "--resume")
    assert ended.code == 0, ended.output
    assert_same(killed, straight)


def kill_one_of_two(config: str, folder: Path) -> None:
    """Let torchrun start two processes, kill the second after a step, and see both end."""
    torchrun_two = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    launcher = subprocess.Popen(
        [sys.executable, "-m", *torchrun_two, "-m", "rlvr", "train", config],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **ENVIRONMENT},
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 200
        while not has_step(folder, 1):
            assert launcher.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
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


GIVEN: dict[str, dict[str, Any]] = {
    "sft": {},
    "dpo": {},
    "reward": {},
    "sft with LoRA": {"algorithm": "sft", "lora": {"rank": 3}, "optimizer": {"lr": 1e-2}},
    "dpo with LoRA": {"algorithm": "dpo", "lora": {"rank": 3}, "optimizer": {"lr": 1e-2}},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", GIVEN)
def test_learning_from_given_completions_is_shared_too(
    train: Train, tmp_path: Path, case: str
) -> None:
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
        values |= {"algorithm": case, "data": str(data), "held_out": {"count": 5}}
        values |= {"batch_size": 7, "micro_batch_tokens": 60, **GIVEN[case]}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
    train(1, str(tmp_path / "one.yaml"))
    train(2, str(tmp_path / "two.yaml"), "distributed.mode=fsdp")
    found, expected = (read_jsonl(tmp_path / n / "metrics.jsonl") for n in ("two", "one"))
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    weights = [load_file(tmp_path / name / WEIGHTS) for name in ("one", "two")]
    assert all((weights[0][n] - weights[1][n]).abs().max() < 1e-4 for n in weights[0])
    if "lora" in GIVEN[case]:
        assert (tmp_path / "two" / "policy" / "adapter" / "adapter_model.safetensors").is_file()
        assert any(row["grad_norm"] > 0 for row in found if "grad_norm" in row)


SHARDED: dict[str, dict[str, Any]] = {
    "critic": {"algorithm": "ppo", "critic": {"optimizer": {"lr": 1e-3}}},
    "made ahead": {"rollout": {**CONFIG["rollout"], "max_staleness": 1}},
    "LoRA": {"lora": {"rank": 3, "alpha": 8}, "optimizer": {"lr": 1e-2}},
}
SAVING: dict[str, tuple[int, str]] = {
    "critic": (1, f"{STEP}#3 > rlvr.trainers.critic:save_optimizer@1"),
    "made ahead": (0, f"{STEP}#2 > rlvr.trainers.policy_gradient:save_batches@1"),
    "LoRA": (1, f"{STEP}#3 > rlvr.policy:save_adapter@1"),
}
"""Where a process is killed that writes what only such a run has."""


@pytest.mark.slow
@pytest.mark.parametrize("case", SHARDED)
def test_all_that_a_sharded_run_holds_is_taken_up_again(
    warmed: Warmed, train: Train, tmp_path: Path, case: str
) -> None:
    """After kills by two processes bit for bit; from the checkpoint before the last by one."""
    fsdp = "distributed.mode=fsdp"
    two, killed, alone = (tmp_path / name for name in ("two", "killed", "alone"))
    changes = {**SHORT, **SHARDED[case]}
    train(2, write(two, **changes), fsdp)

    kill_in_turn(warmed, write(killed, **changes), (*KILLS[1:3], SAVING[case]), fsdp)
    train(2, write(killed, **changes), fsdp)
    assert_same(killed, two)

    shutil.copytree(two, alone)
    shutil.rmtree(alone / "policy")
    shutil.rmtree(alone / "checkpoints" / "step_000003")
    train(1, write(alone, **changes))
    assert_close(alone, two)


@pytest.mark.slow
def test_a_mistake_is_said_in_one_line_by_several_processes(tmp_path: Path) -> None:
    config = write(tmp_path / "run", policy="./nowhere")
    ended = torchrun("-m", "rlvr", "train", config, "--set", "distributed.mode=fsdp")
    assert ended.code != 0
    errors = [line for line in ended.output.splitlines() if "rlvr: error:" in line]
    assert len(errors) == 1 and "there is no such folder" in errors[0], ended.output
    assert not (tmp_path / "run").exists(), "nothing was written"


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(400)
def test_each_process_has_an_engine_that_gets_the_gathered_weights(tmp_path: Path) -> None:
    require("vllm", importlib.util.find_spec("vllm") is not None, "vLLM is not installed")
    shape = {**CONFIG["new_policy"], "hidden_size": 64}
    changes = {"sampler": "vllm", "new_policy": shape, "warm_start": None, "evaluation": None}
    config = write(tmp_path / "run", **{**changes, "steps": 3})
    command = ("-m", "rlvr", "train", config, "--set", "distributed.mode=fsdp")
    ended = torchrun(*command, limit=200)
    assert ended.code == 0, ended.output
    rows = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    # Each update moves the weights; an engine that went on with old ones would be 1e-2 off.
    assert all(row["sampler_gap/mean"] < 1e-5 for row in rows)


@pytest.mark.slow
def test_batches_that_are_made_ahead_are_shared_too(train: Train, tmp_path: Path) -> None:
    """In a thread, beside the exchanges of the update."""
    rollout = {**CONFIG["rollout"], "max_staleness": 2, "parts": 2}
    changes = {"rollout": rollout, "warm_start": None, "evaluation": None}
    train(1, write(tmp_path / "one", **changes))
    expected = read_jsonl(tmp_path / "one" / "metrics.jsonl")
    for mode in ("data_parallel", "fsdp"):
        folder = tmp_path / mode
        train(2, write(folder, **changes), f"distributed.mode={mode}")
        for mine, theirs in zip(read_jsonl(folder / "metrics.jsonl"), expected, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-4), mode


@pytest.mark.slow
def test_lora_is_trained_by_two_processes_as_by_one(train: Train, tmp_path: Path) -> None:
    changes = {"lora": {"rank": 4, "alpha": 8}, "warm_start": None, "evaluation": None}
    train(1, write(tmp_path / "one", **changes))
    train(2, write(tmp_path / "two", **changes), "distributed.mode=data_parallel")
    found, expected = (read_jsonl(tmp_path / n / "metrics.jsonl") for n in ("two", "one"))
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-4)
    assert expected[-1]["kl/reference"] > 0
    assert (tmp_path / "two" / "policy" / "adapter" / "adapter_model.safetensors").is_file()
