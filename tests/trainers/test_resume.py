"""A run killed with `kill -9`, in any phase, goes on to exactly what one never killed comes to."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from killed_runs import find

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
        "max_steps": 12,
        "batch_size": 8,
        "stop_at": 1.0,
        "check_every": 6,
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

LEARNER = "rlvr.trainers.policy_gradient:PolicyGradientLearner"
SAVE = "rlvr.trainers.loop:save_checkpoint"
POINTS = {
    "warm start: a step": "rlvr.trainers.supervised:SupervisedLearner.step@5",
    "warm start: measuring": "rlvr.trainers.supervised:SupervisedLearner.evaluate@2 > "
    "rlvr.samplers.decoding:draw@3",
    "warm start: saving a checkpoint": f"{SAVE}@3 > rlvr.checkpoints:sync@4",
    "warm start: writing the policy": "rlvr.trainers.loop:_save_final@1 > rlvr.files:sync@1",
    "sampling: between two tokens": "rlvr.trainers.collecting:TimedSampler.sample@5 > "
    "rlvr.samplers.decoding:draw@4",
    "sampling: the first batch": "rlvr.trainers.collecting:TimedSampler.sample@1",
    "handing the weights over": f"{LEARNER}.hand_over@5",
    "verifying: before": "rlvr.trainers.collecting:RolloutSource.verify@4",
    "verifying: between two verdicts": "rlvr.trainers.collecting:RolloutSource.verify@5 > "
    "rlvr.verifiers.pool_batch:Batch._finish@4",
    "updating: scoring": "rlvr.trainers.policy_update:PolicyUpdate.update@3 > "
    "rlvr.trainers.scoring:Scorer.score@2",
    "updating: within a step": "rlvr.trainers.policy_update:PolicyUpdate.update@4 > "
    "rlvr.trainers.policy_update:PolicyUpdate.update_once@3",
    "updating: before the optimiser": "rlvr.trainers.policy_update:PolicyUpdate.update@5 > "
    "torch.optim:AdamW.step@2",
    "saving rollouts: before": f"{LEARNER}.save_rollouts@3",
    "saving rollouts: not yet in place": f"{LEARNER}.save_rollouts@4 > rlvr.files:sync@1",
    "writing the metrics": f"{LEARNER}.step@5 > rlvr.tracking:JsonLines.append@1",
    "evaluating: before training": f"{LEARNER}.evaluate@1 > rlvr.samplers.decoding:draw@3",
    "evaluating: between two tokens": f"{LEARNER}.evaluate@2 > rlvr.samplers.decoding:draw@3",
    "evaluating: writing the rollouts": f"{LEARNER}.evaluate@3 > rlvr.files:sync@1",
    "saving a checkpoint: the first": f"{LEARNER}.step@2 > {SAVE}@1",
    "saving a checkpoint: the optimizer": f"{LEARNER}.step@4 > rlvr.checkpoints:save_optimizer@1",
    "saving a checkpoint: flushing": f"{LEARNER}.step@4 > rlvr.checkpoints:sync@3",
    "saving a checkpoint: not yet in place": f"{LEARNER}.step@6 > rlvr.checkpoints:_put_in_place@1",
    "saving a checkpoint: removing the oldest": f"{LEARNER}.step@6 > rlvr.checkpoints:_remove@2 > "
    "os:unlink@2",
    "saving a checkpoint: the last": f"{LEARNER}.step@7 > {SAVE}@1 > rlvr.checkpoints:sync@2",
    "writing the policy: before": f"{LEARNER}.step@7 > rlvr.trainers.loop:_save_final@1",
    "writing the policy: flushing": f"{LEARNER}.step@7 > rlvr.trainers.loop:_save_final@1 > "
    "rlvr.trainers.loop:sync@3",
    "writing the report": "rlvr.trainers.policy_gradient_run:announce@1 > rlvr.files:sync@1",
}
IN_TURN = (
    "rlvr.trainers.collecting:TimedSampler.sample@5 > rlvr.samplers.decoding:draw@4",
    "rlvr.trainers.policy_update:PolicyUpdate.update@2 > "
    "rlvr.trainers.policy_update:PolicyUpdate.update_once@3",
    "rlvr.checkpoints:_put_in_place@1",
)
"""Kills of one run: while it samples, while it updates, and with a checkpoint not yet in place."""
OVERLAPPED = [name for name in POINTS if not name.startswith(("warm start", "writing the"))]
"""Where there is anything to see that the plain loop has not shown."""


@dataclasses.dataclass
class Job:
    """A run in a folder, killed at a point or after so many seconds, or not at all."""

    folder: Path
    staleness: int
    kill: str | float | None = None
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def given(self) -> dict[str, Any]:
        config = self.folder.with_suffix(".yaml")
        rollout = {**ROLLOUT, "max_staleness": self.staleness}
        own = {"output": str(self.folder), "rollout": rollout}
        config.write_text(yaml.safe_dump(merge(CONFIG, merge(self.changes, own))))
        return {"config": str(config), "kill": self.kill}


def run(jobs: list[Job]) -> list[dict[str, Any]]:
    """Do runs one after the other. The first one is never killed."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed_runs.py"))],
        input=json.dumps([job.given() for job in jobs]),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    for job, result in zip(jobs[1:], results, strict=True):
        expected = {0} if job.kill is None else {-9} if isinstance(job.kill, str) else {0, -9}
        assert result["status"] in expected, (job, result, done.stderr)
    return results


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


@pytest.mark.parametrize("point", [*POINTS.values(), *IN_TURN])
def test_every_point_is_there(point: str) -> None:
    for part in point.split(" > "):
        owner, name = find(part.partition("@")[0])
        assert callable(getattr(owner, name))


def test_a_run_killed_three_times_comes_to_the_same(tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    run([Job(straight, 1), *(Job(killed, 1, kill) for kill in (*IN_TURN, None))])
    check_equal(killed, straight)
    check_prompts(killed)


KEEPS_STATE: dict[str, dict[str, Any]] = {
    "replay, curriculum, moving reference, adaptive KL": {
        "replay": {"groups": 2, "capacity": 6, "max_age": 20},
        "curriculum": {},
        "reference": {"update": "average", "every": 2, "rate": 0.5},
        "objective": {"kl_target": 0.01, "kl_horizon": 100},
    },
    "critic": {"algorithm": "ppo", "critic": {"optimizer": {"lr": 1e-3}}, "objective": {}},
    "LoRA": {"lora": {"rank": 4}},
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", KEEPS_STATE)
def test_whatever_keeps_state_comes_back_after_kills(tmp_path: Path, case: str) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    changes = KEEPS_STATE[case]
    jobs = [Job(straight, 1, None, changes)]
    run([*jobs, *(Job(killed, 1, kill, changes) for kill in (*IN_TURN, None))])
    check_equal(killed, straight)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_kill_in_any_phase_changes_nothing(tmp_path: Path) -> None:
    """Every point once in the plain loop, and again where batches are made ahead."""
    straight = [tmp_path / "straight_0", tmp_path / "straight_1"]
    jobs = [Job(folder, staleness) for staleness, folder in enumerate(straight)]
    kills = [(name, 0) for name in POINTS] + [(name, 1) for name in OVERLAPPED]
    assert len(kills) >= 40
    for number, (name, staleness) in enumerate(kills):
        folder = tmp_path / str(number)
        jobs += [Job(folder, staleness, POINTS[name]), Job(folder, staleness)]
    run(jobs)
    for folder in straight:
        check_prompts(folder)
    for number, (name, staleness) in enumerate(kills):
        check_equal(tmp_path / str(number), straight[staleness], name)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kills_at_random_times_change_nothing(tmp_path: Path) -> None:
    """A run is killed again while it goes on, so that kills pile up."""
    draw = random.Random(os.environ.get("RLVR_TEST_SEED", "kill"))
    straight = [tmp_path / "straight_0", tmp_path / "straight_1"]
    jobs = [Job(folder, staleness) for staleness, folder in enumerate(straight)]
    for number in range(6):
        kills = [*(draw.uniform(0.1, 1.5) for _ in range(3)), None]
        jobs += [Job(tmp_path / str(number), number % 2, kill) for kill in kills]
    results = run(jobs)
    assert sum(result["status"] == -9 for result in results) >= 6
    for number in range(6):
        check_equal(tmp_path / str(number), straight[number % 2])
