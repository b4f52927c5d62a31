"""Equality with TRL 1.16 and verl 0.9.1 on the same numbers (`make_golden_advantages.py`)."""

import json
from pathlib import Path

import pytest
import torch
from padded_reference import pack, sequence_ids

from rlvr.objectives.advantages import RewardGroups, estimate_advantages
from rlvr.objectives.aggregation import Totals, aggregate, sequence_sums
from rlvr.objectives.shaping import soft_overlong_penalty
from rlvr.objectives.values import (
    Moments,
    clipped_value_loss,
    discounted_returns,
    generalized_advantages,
    token_rewards,
    whiten,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "advantages.json").read_text())
# Advantages of rollouts are float32 in any case; what is float64 throughout agrees to its digits.
OUTCOME = 1e-6
PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-6)]


def load(case, dtype=torch.float64):
    whole = ("group_ids", "lengths", "mask")
    return {
        name: torch.tensor(value, dtype=torch.float64).to(torch.int64 if name in whole else dtype)
        for name, value in case["inputs"].items()
    }


def reward_groups(case, dtype):
    batch = load(case, dtype)
    batch.setdefault("rewards", torch.zeros(len(batch["group_ids"]), dtype=dtype))
    return RewardGroups(**batch)


def close(found, expected, tolerance):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    scale = float(expected.abs().max())
    torch.testing.assert_close(
        found.to(torch.float64), expected, rtol=tolerance, atol=tolerance * scale
    )


def label(case):
    return "-".join([case["name"], *(f"{key}={value}" for key, value in case["options"].items())])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", GOLDEN["verl_outcome"] + GOLDEN["trl_grpo"], ids=label)
def test_advantages_of_rollouts_equal_theirs(case, dtype):
    groups = reward_groups(case, dtype)
    found = estimate_advantages(case["name"], groups, **case["options"])
    close(found, case["advantages"], OUTCOME)


def test_every_estimator_of_theirs_is_among_the_cases():
    named = {case["name"] for case in GOLDEN["verl_outcome"] + GOLDEN["trl_grpo"]}
    assert named == {
        "gdpo", "gpg", "group", "leave-one-out", "max-gap", "opo", "reinforce++",
        "reinforce++-baseline", "remax",
    }  # fmt: skip
    raw = [case for case in GOLDEN["verl_outcome"] if case["options"].get("single") == "raw"]
    assert len(raw) >= 6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("case", GOLDEN["trl_rloo"], ids=label)
def test_rloo_with_clipped_rewards_and_kl_in_the_reward_equals_trl(case, dtype):
    batch, options = load(case, dtype), case["options"]
    kl = sequence_sums(
        pack(batch["mask"], batch["kl"]), sequence_ids(batch["mask"]), len(batch["mask"])
    )
    rewards = batch["rewards"].clamp(options["low"], options["high"]) - options["beta"] * kl
    groups = RewardGroups(rewards=rewards, group_ids=batch["group_ids"])
    found = estimate_advantages("leave-one-out", groups)
    if options["normalise"]:  # TRL's normalize_advantages: REINFORCE++ over its own result
        again = RewardGroups(rewards=found.to(torch.float64), group_ids=batch["group_ids"])
        found = estimate_advantages("reinforce++", again, eps=1e-4)
    close(found, case["advantages"], OUTCOME)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", GOLDEN["verl_tokens"], ids=label)
def test_advantages_of_tokens_equal_verl(case, dtype, tolerance):
    batch, options = load(case, dtype), case["options"]
    mask, ids = batch["mask"], sequence_ids(batch["mask"])
    if case["name"] == "kl-in-reward":
        found = token_rewards(batch["rewards"], ids, kl=pack(mask, batch["kl"]), **options)
        close(found, pack(mask, torch.tensor(case["rewards"], dtype=torch.float64)), tolerance)
        return
    rewards = pack(mask, batch["token_rewards"])
    if case["name"] == "gae":
        values = pack(mask, batch["values"])
        found, returns = generalized_advantages(rewards, ids, values=values, **options)
    else:
        found, returns = discounted_returns(rewards, ids, **options)
    close(returns, pack(mask, torch.tensor(case["returns"], dtype=torch.float64)), tolerance)
    expected = pack(mask, torch.tensor(case["advantages"], dtype=torch.float64))
    # verl adds 1e-8 to the number of tokens that its mean and variance divide by.
    tolerance = max(tolerance, 1e-8)
    close(whiten(found), expected, tolerance)
    half = len(found) // 2
    moments = Moments.of(found[:half]) + Moments.of(found[half:])
    close(whiten(found, moments), expected, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", GOLDEN["verl_value_loss"], ids=label)
def test_value_losses_equal_verl(case, dtype, tolerance):
    batch, options = load(case, dtype), case["options"]
    mask = batch["mask"]
    predicted = batch["new_values"].requires_grad_()
    losses, sums = clipped_value_loss(
        pack(mask, predicted),
        pack(mask, batch["values"]),
        pack(mask, batch["token_rewards"]),
        clip=options["clip"],
    )
    totals = Totals(tokens=int(mask.sum()), sequences=len(mask))
    loss = aggregate(losses, sequence_ids(mask), how=options["how"], totals=totals)
    (gradient,) = torch.autograd.grad(loss, predicted)
    # verl adds 1e-8 to the lengths that its sequence means divide by.
    tolerance = max(tolerance, 1e-8) if options["how"] == "seq-mean-token-mean" else tolerance
    close(loss.detach(), case["loss"], tolerance)
    close(gradient, case["gradient"], tolerance)
    assert sums["clipped"].item() / len(losses) == pytest.approx(case["clipped"], rel=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", GOLDEN["verl_aggregation"], ids=label)
def test_aggregations_equal_verl_which_does_not_count_empty_sequences(case, dtype, tolerance):
    batch, options = load(case, dtype), case["options"]
    mask = batch["mask"]
    losses = batch["token_rewards"].requires_grad_()
    totals = Totals(tokens=int(mask.sum()), sequences=int((mask.sum(1) > 0).sum()))
    loss = aggregate(
        pack(mask, losses),
        sequence_ids(mask),
        how=options["how"],
        totals=totals,
        normaliser=options["normaliser"],
    )
    (gradient,) = torch.autograd.grad(loss, losses)
    tolerance = max(tolerance, 1e-8) if options["how"] == "seq-mean-token-mean" else tolerance
    close(loss.detach(), case["loss"], tolerance)
    close(gradient, case["gradient"], tolerance)


@pytest.mark.parametrize("case", GOLDEN["trl_overlong"])
def test_soft_overlong_punishment_equals_trl(case):
    found = soft_overlong_penalty(
        torch.tensor(case["lengths"]), max_length=case["max_length"], buffer=case["buffer"]
    )
    close(found, case["penalties"], 1e-12)
