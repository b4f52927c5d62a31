"""A setting that nothing would read is refused, and taken once there is something to read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from learners import configured

from rlvr.config import merge
from rlvr.errors import ConfigError
from rlvr.trainers.config import PRESETS, parse_config


class Idle(NamedTuple):
    """Keys that do nothing, what the error says, and keys with which they do something."""

    keys: dict[str, Any]
    message: str
    cure: dict[str, Any]


def of_objective(**keys: Any) -> dict[str, Any]:
    return {"objective": keys}


KL = of_objective(kl_coefficient=0.1)
DYNAMIC = {"rollout": {"dynamic_sampling": True}}
MASKED = {"rollout": {"mask_truncated": True}}

IDLE = [
    Idle(
        of_objective(normaliser=9.0),
        "objective.normaliser is 9.0, which aggregation 'seq-mean-token-mean' does not read",
        of_objective(aggregation="seq-mean-token-sum-norm"),
    ),
    Idle(
        of_objective(count_masked=True),
        "objective.count_masked is True, but no sequence is left out of the loss",
        MASKED,
    ),
    Idle(
        merge(MASKED, of_objective(count_masked=True, aggregation="token-mean")),
        "objective.count_masked is True, but aggregation 'token-mean' counts no sequences",
        of_objective(aggregation="seq-mean-token-sum"),
    ),
    Idle(of_objective(kl_estimator="k2"), "objective.kl_estimator is 'k2', but", KL),
    Idle(of_objective(kl_in="reward"), "objective.kl_in is 'reward', but", KL),
    Idle(of_objective(kl_ratio=True), "objective.kl_ratio is 'token', which is of a KL term", KL),
    Idle(
        merge(KL, of_objective(kl_ratio=True, kl_in="reward")),
        "objective.kl_ratio is 'token', which is of a KL term in the loss",
        of_objective(kl_in="loss"),
    ),
    Idle(
        merge(KL, of_objective(kl_horizon=5000)),
        "objective.kl_horizon is 5000, but objective.kl_target is not set",
        of_objective(kl_target=6.0),
    ),
    Idle(of_objective(kl_target=6.0), "objective.kl_target is set, but objective.kl_coef", KL),
    Idle(
        merge(KL, of_objective(kl_estimator="k1")),
        "objective.kl_estimator is 'k1' in the loss, where its expected gradient is 0",
        of_objective(kl_ratio=True),
    ),
    *[
        Idle(
            of_objective(mismatch=mismatch),
            f"objective.mismatch.{next(iter(mismatch))} is {next(iter(mismatch.values()))!r}, but",
            of_objective(mismatch={"level": "token"}),
        )
        for mismatch in ({"mode": "mask"}, {"low": 0.5}, {"high": 3.0})
    ],
    Idle(
        of_objective(whiten=False),
        "objective.whiten is False, which advantage 'group' has not",
        of_objective(advantage="returns"),
    ),
    Idle(
        of_objective(loss={"name": "gspo", "clip_high": 2e-3}, clip_high=1e-3),
        "objective.clip_high is 0.001, but objective.loss has its own (0.002): leave one out",
        of_objective(clip_high=2e-3),
    ),
    Idle(
        of_objective(advantage={"name": "group", "scale": "none"}, scale="batch"),
        "objective.scale is 'batch', but objective.advantage has its own ('none')",
        of_objective(scale=None),
    ),
    Idle(
        of_objective(mini_batches=17),
        "objective.mini_batches is 17: expected at most the rollouts of a step (16)",
        {"rollout": {"tasks_per_step": 5}},
    ),
    Idle(
        {"rollout": {"overlong_penalty": 0.5}},
        "rollout.overlong_penalty is 0.5, but rollout.overlong_buffer is 0",
        {"rollout": {"overlong_buffer": 2}},
    ),
    Idle(
        {"rollout": {"overlong_buffer": 2, "overlong_penalty": 0.0}},
        "rollout.overlong_buffer is 2.0, but rollout.overlong_penalty is 0",
        {"rollout": {"overlong_penalty": 1.0}},
    ),
    Idle(
        {"rollout": {"oversampling": 2.0}},
        "rollout.oversampling is 2.0, but rollout.dynamic_sampling is off",
        DYNAMIC,
    ),
    Idle(
        {
            "algorithm": "gdpo",
            "reward": {"weights": {"reward": 1.0}},
            "rollout": {"overlong_buffer": 2},
        },
        "rollout.overlong_buffer is set, but advantage 'gdpo' reads reward.weights alone",
        {"rollout": {"overlong_buffer": 0}},
    ),
    Idle(
        {
            "algorithm": "gdpo",
            "reward": {"weights": {"reward": 1.0}, "shaping": [{"name": "scale", "factor": 2.0}]},
        },
        "reward.shaping is set, but advantage 'gdpo' reads reward.weights alone",
        {"reward": {"shaping": []}},
    ),
    Idle(
        merge(KL, {"reference": {"every": 2}}),
        "reference.every is 2, but reference.update is 'fixed'",
        {"reference": {"update": "sync"}},
    ),
    Idle(
        merge(KL, {"reference": {"update": "sync", "every": 2, "rate": 0.1}}),
        "reference.rate is 0.1, but reference.update is 'sync', which goes all the way",
        {"reference": {"update": "average"}},
    ),
    Idle({"reference": {"update": "sync", "every": 2}}, "reference.update is set, but", KL),
    Idle(
        {"algorithm": "ppo", "critic": {"warmup_steps": 2}},
        "critic.warmup_steps is 2: expected less than steps (2)",
        {"critic": {"warmup_steps": 1}},
    ),
    Idle(
        {"algorithm": "ppo", "rollout": {"group_size": 1}, "replay": {}},
        "replay keeps groups whose rewards differ, and rollout.group_size is 1",
        {"rollout": {"group_size": 2}},
    ),
    Idle(
        {"replay": {"groups": 5, "capacity": 4}},
        "replay.groups is 5: expected at most replay.capacity (4)",
        {"replay": {"capacity": 5}},
    ),
    Idle(
        {"rollout": {"max_staleness": 2}, "objective": {"epochs": 2}, "replay": {"max_age": 5}},
        "replay.max_age is 5 optimiser steps: expected at least 6",
        {"replay": {"max_age": 6}},
    ),
    Idle(
        {"optimizer": {"final_lr_fraction": 0.1}},
        "final_lr_fraction is 0.1, but schedule is 'constant'",
        {"optimizer": {"schedule": "cosine"}},
    ),
    Idle({"master_weights": False}, "master_weights is false, but dtype is", {"dtype": "bfloat16"}),
]


@pytest.mark.parametrize("idle", IDLE, ids=lambda idle: idle.message[:40])
def test_what_would_do_nothing_is_refused_and_what_does_something_is_not(
    tmp_path: Path, idle: Idle
) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, **idle.keys)
    assert idle.message in str(caught.value)
    assert "\n" not in str(caught.value)
    configured(tmp_path, **merge(idle.keys, idle.cure))


NEEDED: dict[str, dict[str, Any]] = {"gdpo": {"reward": {"weights": {"reward": 1.0}}}}


@pytest.mark.parametrize("algorithm", sorted(PRESETS))
def test_a_preset_sets_nothing_that_is_refused(tmp_path: Path, algorithm: str) -> None:
    """Neither by itself nor with the keys of a preset said once more."""
    needed = {"algorithm": algorithm, "rollout": {"group_size": 5}, **NEEDED.get(algorithm, {})}
    configured(tmp_path, **needed)
    again = merge(PRESETS[algorithm], needed)
    assert configured(tmp_path, **again) == configured(tmp_path, **needed)


@pytest.mark.parametrize(("key", "value"), [("split", "test"), ("completion_column", "chosen")])
def test_keys_of_rows_are_refused_where_an_environment_is_imitated(key: str, value: str) -> None:
    file = {"algorithm": "sft", "policy": "new", "output": "run", "steps": 1, key: value}
    with pytest.raises(ConfigError, match=f"{key} is '{value}', which is of data"):
        parse_config({**file, "environment": "arithmetic"}, "test")
    parse_config({**file, "data": "rows.jsonl"}, "test")
