"""The check that a sampler got the new weights, against samplers that did and that did not."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from rlvr.errors import SamplerError
from rlvr.policy import Policy, make_policy
from rlvr.protocols import TrainableSampler
from rlvr.registry import environments
from rlvr.samplers.hf import HFSampler
from rlvr.trainers.alarms import SAMPLER_GAP
from rlvr.trainers.config import PolicyGradientConfig, parse_config
from rlvr.trainers.policy_gradient import PolicyGradientLearner
from rlvr.trainers.weight_sync import WeightSync

PROMPTS = ["1+2=", "3+4=", "5+5=", "9+0="]


class DeafSampler(HFSampler):
    """Ignores new weights, as verl's LoRA did for two months (verl#7495)."""

    def update_weights(self, model: Any) -> None:
        """Do nothing."""


class HalfDeafSampler(HFSampler):
    """Takes the new weights of all but the embeddings, which are the output head too."""

    def update_weights(self, model: Any) -> None:
        state = model.state_dict()
        kept = {name: value for name, value in state.items() if "embed" not in name}
        kept = {name: value for name, value in kept.items() if "lm_head" not in name}
        self.policy.model.load_state_dict(kept, strict=False)


def new_policy(seed: int = 0) -> Policy:
    shape: dict[str, Any] = {"hidden_size": 16, "layers": 1, "heads": 2}
    return make_policy(alphabet="0123456789+=A: \n", **shape, seed=seed)


def move(policy: Policy, by: float, seed: int) -> None:
    """A random step of every weight."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)


def check(sampler: TrainableSampler) -> WeightSync:
    return WeightSync(sampler, PROMPTS, temperature=1.0, max_new_tokens=8, seed=0)


def test_a_sampler_that_follows_agrees_to_float_precision_whatever_the_step() -> None:
    policy = new_policy()
    for sampler in (HFSampler(policy=policy), HFSampler(policy=new_policy())):
        sync = check(sampler)
        for step, size in enumerate((0.0, 1e-5, 1e-3, 0.1, 1.0)):
            move(policy, size, step)
            assert sync.push(policy.model) < 1e-5


def test_a_sampler_that_ignores_a_large_update_is_found_at_once() -> None:
    policy = new_policy()
    sync = check(DeafSampler(policy=new_policy()))
    assert sync.push(policy.model) < 1e-6
    move(policy, 0.3, 1)
    with pytest.raises(SamplerError, match="'hf' did not take the new weights"):
        sync.push(policy.model)


def test_a_sampler_that_ignores_many_small_updates_is_found_when_they_have_added_up() -> None:
    policy = new_policy()
    sync = check(DeafSampler(policy=new_policy()))
    gaps = []
    with pytest.raises(SamplerError, match="did not take"):
        for _ in range(200):
            gaps.append(sync.push(policy.model))
            move(policy, 0.0005, 1)
    assert len(gaps) > 3
    assert max(gaps) < 0.1


def test_a_sampler_that_stops_following_in_the_middle_of_a_run_is_found() -> None:
    policy = new_policy()
    sampler = HFSampler(policy=new_policy())
    sync = check(sampler)
    for step in range(5):
        move(policy, 0.1, step)
        sync.push(policy.model)
    sampler.update_weights = lambda model: None  # type: ignore[method-assign]
    move(policy, 0.1, 9)
    with pytest.raises(SamplerError, match="did not take"):
        sync.push(policy.model)


def test_a_sampler_that_misses_the_head_is_found_or_logged() -> None:
    policy = new_policy()
    sync = check(HalfDeafSampler(policy=new_policy()))
    sync.push(policy.model)
    move(policy, 0.3, 1)
    with suppress(SamplerError):
        assert sync.push(policy.model) > SAMPLER_GAP


def test_a_sampler_that_was_made_before_the_weights_changed_is_found_at_the_first_hand_over() -> (
    None
):
    policy = new_policy()
    move(policy, 0.5, 1)
    with pytest.raises(SamplerError, match="did not take"):
        check(DeafSampler(policy=new_policy())).push(policy.model)


def test_a_sampler_of_lower_precision_is_no_error() -> None:
    policy = new_policy()
    rounded = new_policy()
    rounded.model.to(torch.bfloat16)  # type: ignore[call-overload]
    sync = check(HFSampler(policy=rounded))
    gaps = []
    for step in range(20):
        gaps.append(sync.push(policy.model))
        move(policy, 0.05, step)
    assert 1e-5 < max(gaps) < 0.1


def test_a_run_ends_when_the_sampler_ignores_its_updates(tmp_path: Path) -> None:
    mapping = {
        "algorithm": "grpo",
        "policy": "new",
        "output": str(tmp_path),
        "environment": {"name": "arithmetic", "digits": 1, "size": 200},
        "sampling": {"max_new_tokens": 8},
        "rollout": {"tasks_per_step": 4, "group_size": 4, "workers": 1, "overlong_buffer": 8},
        "optimizer": {"lr": 1e-2},
        "evaluation": None,
        "steps": 20,
    }
    config = parse_config(mapping, "test")
    assert isinstance(config, PolicyGradientConfig)
    policy = new_policy()
    learner = PolicyGradientLearner(
        config,
        policy=policy,
        reference=None,
        environment=environments.create("arithmetic", config.environment.options),
        held_out=None,
        sampler=DeafSampler(policy=new_policy()),
        folder=tmp_path,
    )
    with pytest.raises(SamplerError, match="did not take the new weights"):
        for step in range(1, 21):
            assert learner.step(step)["sampler_gap/after_sync"] < 0.1
