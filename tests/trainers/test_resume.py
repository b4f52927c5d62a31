"""A run killed with `kill -9`, in any phase, goes on to exactly what one never killed comes to."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
import shutil
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import killing
import pytest
import yaml
from warmed import Warmed

from rlvr.config import merge
from rlvr.rollout_table import read_rollouts

STEPS = 7
TASKS = 24
CONFIG: dict[str, Any] = {
    "algorithm": "dapo",
    "policy": "new",
    "new_policy": {
        "alphabet": "0123456789+=A: \n",
        "hidden_size": 16,
        "layers": 1,
        "heads": 2,
        "max_length": 32,
    },
    "environment": {"name": "arithmetic", "digits": 1, "size": TASKS},
    "verifier": {"name": "regex", "pattern": ".*[0-4].{1,7}"},  # half of random answers are right
    "warm_start": {
        "max_steps": 8,
        "batch_size": 8,
        "stop_at": 1.0,
        "check_every": 4,
        "check_tasks": 10,
    },
    "sampling": {"max_new_tokens": 8},
    "optimizer": {"lr": 1e-2},
    "objective": {"epochs": 2, "mini_batches": 2, "kl_coefficient": 0.01},
    "steps": STEPS,
    "evaluation": {"every": 3, "tasks": 5, "samples": 2, "k": [1, 2]},
    "checkpoint": {"every": 2, "keep": 2},
}
ROLLOUT = {"tasks_per_step": 4, "group_size": 4, "workers": 1, "save_every": 1}

STEP = "rlvr.trainers.policy_gradient:PolicyGradientLearner.step"
EVALUATE = "rlvr.trainers.policy_gradient:PolicyGradientLearner.evaluate"
LEARNER = "rlvr.trainers.policy_gradient:PolicyGradientLearner"
WARM_START = "rlvr.trainers.supervised:SupervisedLearner"
UPDATE = "rlvr.trainers.policy_update:PolicyUpdate"
SAMPLE = "rlvr.trainers.collecting:TimedSampler.sample"
VERIFY = "rlvr.trainers.collecting:RolloutSource.verify"
DRAW = "rlvr.samplers.decoding:draw"
LOOP = "rlvr.trainers.loop"
FILES = "rlvr.checkpoints"
# What lies between two checkpoints: a run killed once in each keeps what it did after each kill.
POINTS: list[dict[str, str]] = [
    {"warm start: a step": f"{WARM_START}.step#2"},
    {"warm start: measuring": f"{WARM_START}.evaluate#4 > {DRAW}@3"},
    {"warm start: saving a checkpoint": f"{WARM_START}.step#6 > {FILES}:sync@4"},
    {"warm start: writing the policy": f"{LOOP}:_save_final@1 > {LOOP}:sync@2"},
    {
        "evaluating: before training": f"{EVALUATE}#0 > {DRAW}@3",
        "sampling: the first batch": f"{SAMPLE}@1",
        "verifying: before": f"{STEP}#2 > {VERIFY}@1",
        "updating: scoring": f"{STEP}#1 > rlvr.trainers.scoring:Scorer.score@2",
        "saving rollouts: before": f"{STEP}#2 > {LEARNER}.save_rollouts@1",
        "saving a checkpoint: the first": f"{STEP}#2 > {LOOP}:save_checkpoint@1",
    },
    {
        "sampling: between two tokens": f"{STEP}#3 > {SAMPLE}@1 > {DRAW}@4",
        "evaluating: between two tokens": f"{EVALUATE}#3 > {DRAW}@3",
        "updating: within a step": f"{STEP}#4 > {UPDATE}.update_once@3",
        "saving rollouts: not yet in place": f"{STEP}#4 > {LEARNER}.save_rollouts@1 > "
        "rlvr.files:sync@1",
        "saving a checkpoint: the optimizer": f"{STEP}#4 > {FILES}:save_optimizer@1",
        "saving a checkpoint: flushing": f"{STEP}#4 > {FILES}:sync@3",
    },
    {
        "handing the weights over": f"{STEP}#5 > {LEARNER}.hand_over@1",
        "verifying: between two verdicts": f"{STEP}#5 > {VERIFY}@1 > "
        "rlvr.verifiers.pool_batch:Batch._finish@4",
        "updating: before the optimiser": f"{STEP}#5 > {UPDATE}.update@1 > "
        "torch.optim:AdamW.step@2",
        "writing the metrics": f"{STEP}#5 > rlvr.tracking:JsonLines.append@1",
        "evaluating: writing the rollouts": f"{EVALUATE}#6 > rlvr.files:sync@1",
        "saving a checkpoint: not yet in place": f"{STEP}#6 > {FILES}:_put_in_place@1",
        "saving a checkpoint: removing the oldest": f"{STEP}#6 > {FILES}:_remove@2 > os:unlink@2",
    },
    {
        "saving a checkpoint: the last": f"{STEP}#7 > {LOOP}:save_checkpoint@1 > {FILES}:sync@2",
        "writing the policy: before": f"{STEP}#7 > {LOOP}:_save_final@1",
        "writing the policy: flushing": f"{STEP}#7 > {LOOP}:_save_final@1 > {LOOP}:sync@3",
        "writing the report": "rlvr.trainers.policy_gradient_run:announce@1 > rlvr.files:sync@1",
    },
]
IN_TURN = (
    f"{STEP}#2 > {SAMPLE}@1 > {DRAW}@4",
    f"{STEP}#4 > {UPDATE}.update_once@3",
    f"{STEP}#6 > {FILES}:_put_in_place@1",
)
"""Kills of one run: while it samples, while it updates, and with a checkpoint not yet in place."""


def chains(skip: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """Every point once, in runs that are killed at most once between two checkpoints."""
    rows = [[p for p in row.items() if not p[0].startswith(skip)] for row in POINTS]
    columns = itertools.zip_longest(*rows)
    return [dict(point for point in column if point is not None) for column in columns]


def write(folder: Path, staleness: int, changes: Mapping[str, Any]) -> str:
    """The configuration of a run in `folder`."""
    file = folder.with_suffix(".yaml")
    own = {"output": str(folder), "rollout": {**ROLLOUT, "max_staleness": staleness}}
    file.write_text(yaml.safe_dump(merge(CONFIG, merge(changes, own))))
    return str(file)


def run(
    warmed: Warmed,
    folder: Path,
    staleness: int,
    kills: Iterable[str] = (),
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """A run that is killed at each of these points, in turn, and then comes to its end."""
    config = write(folder, staleness, changes)
    for kill in kills:
        ended = warmed.run("warmed:train", config, kill={0: kill})
        assert ended.codes == [-signal.SIGKILL], (kill, ended.output)
    ended = warmed.run("warmed:train", config)
    assert ended.codes == [0], ended.output
    return folder


@pytest.fixture(scope="module")
def straight(warmed: Warmed, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs that were never stopped, by their staleness."""
    folder = tmp_path_factory.mktemp("straight")
    return [run(warmed, folder / str(staleness), staleness) for staleness in (0, 1)]


def contents(folder: Path) -> dict[str, Any]:
    """What a run came to: everything but wall-clock times."""
    found: dict[str, Any] = {}
    for pattern in ("**/metrics.jsonl", "**/alarms.jsonl", "**/policy/**/*"):
        for path in filter(Path.is_file, folder.glob(pattern)):
            found[str(path.relative_to(folder))] = path.read_bytes()
    for path in folder.glob("**/*.parquet"):
        rows = read_rollouts(path)
        for i, row in enumerate(rows):
            verdict = dataclasses.replace(row.verdict, seconds=0.0)
            rows[i] = dataclasses.replace(row, verdict=verdict)
        found[str(path.relative_to(folder))] = rows
    return found


def check_equal(folder: Path, straight: Path, where: str = "") -> None:
    """Equal bit for bit, and nothing half made lies about."""
    ours, theirs = contents(folder), contents(straight)
    assert set(ours) == set(theirs), where
    for name in theirs:
        assert ours[name] == theirs[name], (name, where)
    leftovers = [path for path in folder.rglob(".*") if path.name != ".lock"]
    assert not leftovers, where


def check_prompts(folder: Path) -> None:
    """No prompt is skipped or seen twice in an epoch, and no two samples share a seed."""
    ids, seeds = [], []
    for step in range(1, STEPS + 1):
        rollouts = read_rollouts(folder / "rollouts" / f"step_{step:06d}.parquet")
        ids += [rollout.task.id for rollout in rollouts[::4]]
        seeds += [rollout.seed for rollout in rollouts]
    assert len(ids) > TASKS, "the run goes through more than one epoch"
    for start in range(0, len(ids), TASKS):
        epoch = ids[start : start + TASKS]
        assert len(set(epoch)) == len(epoch)
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize("point", [p for row in POINTS for p in row.values()])
def test_every_point_is_there(point: str) -> None:
    for target in killing.targets(point):
        owner, name = killing.find(target)
        assert callable(getattr(owner, name))


KEEPS_STATE: dict[str, dict[str, Any]] = {
    "replay, curriculum, moving reference, adaptive KL": {
        "replay": {"groups": 2, "capacity": 6, "max_age": 20},
        "curriculum": {},
        "reference": {"update": "average", "every": 2, "rate": 0.5},
        "objective": {"kl_target": 0.01, "kl_horizon": 100},
    },
    "critic": {"algorithm": "ppo", "critic": {"optimizer": {"lr": 1e-3}}, "objective": {}},
    "LoRA": {"lora": {"rank": 4}},
    "LoRA in bfloat16": {"lora": {"rank": 4}, "dtype": "bfloat16"},
    "LoRA on weights in bfloat16": {
        "lora": {"rank": 4},
        "dtype": "bfloat16",
        "master_weights": False,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("case", KEEPS_STATE)
def test_whatever_keeps_state_comes_back_after_kills(
    warmed: Warmed, tmp_path: Path, case: str
) -> None:
    """With batches made ahead, which are in the checkpoints too."""
    changes = KEEPS_STATE[case]
    straight = run(warmed, tmp_path / "straight", 1, changes=changes)
    check_equal(run(warmed, tmp_path / "killed", 1, IN_TURN, changes), straight)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("staleness", [0, 1])
def test_a_kill_in_any_phase_changes_nothing(
    warmed: Warmed, tmp_path: Path, straight: list[Path], staleness: int
) -> None:
    """Every point in the plain loop; where batches are made ahead, those that it may change."""
    check_prompts(straight[staleness])
    every = chains(("warm start", "writing the") if staleness else ())
    assert sum(map(len, every)) == (19 if staleness else 27)
    for number, points in enumerate(every):
        folder = tmp_path / str(number)
        if not any(name.startswith("warm start") for name in points):
            shutil.copytree(straight[staleness] / "warm_start", folder / "warm_start")
        run(warmed, folder, staleness, points.values())
        check_equal(folder, straight[staleness], " > ".join(points))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("staleness", [0, 1])
def test_kills_at_random_times_change_nothing(
    warmed: Warmed, tmp_path: Path, straight: list[Path], staleness: int
) -> None:
    """Ten of one run: from its beginning (0) or that of a step on, after up to 0.4 s."""
    draw = random.Random(os.environ.get("RLVR_TEST_SEED", "kill") + str(staleness))
    config = write(tmp_path / "run", staleness, {})
    codes = []
    for step in sorted(draw.choices(range(STEPS + 1), k=10)):
        moment = f"+{draw.uniform(0.0, 0.4):.3f}"
        kill = f"{STEP}#{step} > {moment}" if step else moment
        codes += warmed.run("warmed:train", config, kill={0: kill}).codes
    assert set(codes) <= {0, -signal.SIGKILL}
    assert codes.count(-signal.SIGKILL) >= 5
    check_equal(run(warmed, tmp_path / "run", staleness), straight[staleness])
