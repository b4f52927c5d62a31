"""Every algorithm that has a name runs, learns something, and logs numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from learners import learner

from rlvr.config import merge
from rlvr.trainers.config import PRESETS, PolicyGradientConfig, parse_config
from rlvr.trainers.keys import keys_of
from rlvr.trainers.without_effect import without_effect

NEEDED: dict[str, dict[str, Any]] = {
    "gdpo": {"reward": {"weights": {"right": 1.0, "length": 0.5}}},
    "pass_at_k": {"objective": {"advantage": {"k": 2}}},
}


@pytest.mark.slow
@pytest.mark.parametrize("with_reference", [False, True], ids=["plain", "reference"])
@pytest.mark.parametrize("algorithm", sorted(PRESETS))
def test_a_preset_runs_two_steps(tmp_path: Path, algorithm: str, with_reference: bool) -> None:
    changes: dict[str, Any] = {
        "algorithm": algorithm,
        "optimizer": {"lr": 1e-2},
        **NEEDED.get(algorithm, {}),
    }
    if with_reference:
        changes = merge(changes, {"objective": {"kl_coefficient": 0.05, "mini_batches": 2}})
    one = learner(tmp_path, **changes)
    before = [p.detach().clone() for p in one.policy.model.parameters()]
    for step in (1, 2):
        metrics = one.step(step)
        for name, value in metrics.items():
            assert math.isfinite(value) or name == "critic/explained_variance", (step, name)
        assert metrics["loss"] is not None and metrics["entropy"] > 0
        assert ("kl/reference" in metrics) == with_reference
    assert metrics["grad_norm"] > 0
    after = list(one.policy.model.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    if with_reference:
        assert metrics["kl/reference"] != 0


def run_of(algorithm: str, **changes: Any) -> PolicyGradientConfig:
    file = {
        "algorithm": algorithm,
        "policy": "new",
        "output": "run",
        "steps": 1,
        "environment": "arithmetic",
    }
    config = parse_config({**file, **changes}, "test")
    assert isinstance(config, PolicyGradientConfig)
    return config


def test_dapo_is_the_recipe_of_its_authors() -> None:
    config = run_of("dapo", sampling={"max_new_tokens": 20_480})
    settings, rollout = config.objective, config.rollout
    assert (settings.loss.name, settings.clip_low, settings.clip_high) == ("clip", None, 0.28)
    assert settings.aggregation == "token-mean"
    assert settings.kl_coefficient == settings.entropy_coefficient == 0
    assert rollout.group_size == settings.mini_batches == 16
    assert rollout.dynamic_sampling and rollout.max_rounds == 10
    assert config.overlong_tokens == 4096 and rollout.overlong_penalty == 1
    assert not rollout.mask_truncated
    assert run_of("dapo").overlong_tokens == 51, "a fifth of 256"
    assert run_of("dapo", rollout={"overlong_buffer": 7}).overlong_tokens == 7
    assert run_of("grpo").overlong_tokens == 0


def test_a_smaller_batch_than_that_of_dapos_authors_is_split_as_far_as_it_goes() -> None:
    small = run_of("dapo", rollout={"tasks_per_step": 2, "group_size": 4})
    assert not list(without_effect(small, is_per_token=False))
    asked = run_of(
        "grpo", rollout={"tasks_per_step": 2, "group_size": 4}, objective={"mini_batches": 9}
    )
    assert list(without_effect(asked, is_per_token=False))


@pytest.mark.parametrize("algorithm", sorted(PRESETS))
def test_a_preset_shows_its_keys_and_takes_a_file(algorithm: str) -> None:
    keys = {key.name: key for key in keys_of(algorithm)}
    for section in ("objective", "reward", "reference", "critic", "replay", "curriculum"):
        own = [key for key in keys.values() if key.name.startswith(section + ".")]
        assert own and all(key.meaning for key in own if ".optimizer." not in key.name)
    assert keys["critic"].default == ("on" if algorithm == "ppo" else "null")
    assert keys["critic.optimizer.lr"].default == "1e-05"
    loss = PRESETS[algorithm].get("objective", {}).get("loss")
    assert loss is None or loss in keys["objective.loss"].default
    assert run_of(algorithm).algorithm == algorithm
