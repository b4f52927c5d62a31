"""Equality with what TRL 1.16 and verl 0.9.1 computed on the same numbers (`make_golden.py`)."""

import json
from pathlib import Path

import pytest
import torch
from padded_reference import pack, sequence_ids

from rlvr.objectives.advantages import group_advantages, leave_one_out_advantages
from rlvr.objectives.aggregation import Totals, aggregate, sequence_sums
from rlvr.objectives.kl import kl_estimate
from rlvr.objectives.policy import clipped_policy_loss
from rlvr.objectives.preference import dpo_loss
from rlvr.objectives.reward import bradley_terry_loss

GOLDEN = Path(__file__).parent / "golden"
TRL = json.loads((GOLDEN / "trl.json").read_text())
VERL = json.loads((GOLDEN / "verl.json").read_text())

# TRL's loss names in our words; its grpo and dr_grpo count fully masked rows as sequences.
TRL_AGGREGATION = {
    "grpo": "seq-mean-token-mean",
    "bnpo": "token-mean",
    "dapo": "token-mean",
    "dr_grpo": "seq-mean-token-sum-norm",
}
PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 1e-6)]


def load(case, dtype):
    batch = {name: torch.tensor(value) for name, value in case["inputs"].items()}
    for name in ("old", "new", "ref", "advantages"):
        batch[name] = torch.tensor(case["inputs"][name], dtype=dtype)
    return batch


def policy_loss(batch, how, options, totals, dual_clip=None):
    """Our loss of a golden batch, the gradient on its padded shape, and the diagnostics."""
    mask = batch["mask"]
    new = batch["new"].requires_grad_()
    losses, diagnostics = clipped_policy_loss(
        pack(mask, new),
        pack(mask, batch["old"]),
        pack(mask, batch["advantages"]),
        clip_low=options["clip_low"],
        clip_high=options["clip_high"],
        dual_clip=dual_clip,
    )
    if options.get("beta"):
        estimates = kl_estimate(pack(mask, new), pack(mask, batch["ref"]), "k3")
        losses = losses + options["beta"] * estimates
    loss = aggregate(
        losses, sequence_ids(mask), how=how, totals=totals, normaliser=options["max_length"]
    )
    (gradient,) = torch.autograd.grad(loss, new)
    return loss, gradient, diagnostics


def check(case, loss, gradient, tolerance):
    expected = torch.tensor(case["gradient"], dtype=gradient.dtype)
    scale = float(expected.abs().max())
    assert loss.item() == pytest.approx(case["loss"], rel=tolerance, abs=tolerance)
    torch.testing.assert_close(gradient, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", TRL["grpo"], ids=lambda case: case["options"]["loss_type"])
def test_policy_losses_equal_trl(case, dtype, tolerance):
    batch, options = load(case, dtype), case["options"]
    totals = Totals(tokens=int(batch["mask"].sum()), sequences=len(batch["mask"]))
    loss, gradient, diagnostics = policy_loss(
        batch, TRL_AGGREGATION[options["loss_type"]], options, totals
    )
    check(case, loss, gradient, tolerance)
    means = diagnostics.means()
    assert means["clipped_low"] == pytest.approx(options["clipped_low"])
    assert means["clipped_high"] == pytest.approx(options["clipped_high"])


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", VERL["policy"], ids=lambda case: case["options"]["how"])
def test_policy_losses_with_dual_clip_equal_verl(case, dtype, tolerance):
    batch, options = load(case, dtype), case["options"]
    nonempty = int((batch["mask"].sum(1) > 0).sum())  # verl leaves fully masked rows out
    totals = Totals(tokens=int(batch["mask"].sum()), sequences=nonempty)
    loss, gradient, diagnostics = policy_loss(
        batch, options["how"], options, totals, options["dual_clip"]
    )
    # verl adds 1e-8 to the length that it divides by.
    check(
        case,
        loss,
        gradient,
        max(tolerance, 1e-8) if options["how"] == "seq-mean-token-mean" else tolerance,
    )
    assert diagnostics.means()["dual_clipped"] == pytest.approx(options["dual_clipped"])


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", VERL["kl"], ids=lambda case: case["options"]["kind"])
def test_kl_estimates_equal_verl(case, dtype, tolerance):
    batch = load(case, dtype)
    new = batch["new"].requires_grad_()
    loss = kl_estimate(new.flatten(), batch["ref"].flatten(), case["options"]["kind"]).sum()
    (gradient,) = torch.autograd.grad(loss, new)
    check(case, loss, gradient, tolerance)


@pytest.mark.parametrize("case", VERL["advantages"], ids=lambda case: case["scale"])
def test_advantages_equal_verl(case):
    rewards = torch.tensor(case["rewards"], dtype=torch.float64)
    ids = torch.tensor(case["group_ids"])
    if case["scale"] == "leave-one-out":
        found = leave_one_out_advantages(rewards, ids)
    else:
        found = group_advantages(rewards, ids, scale=case["scale"], eps=case["eps"])
    assert found.tolist() == pytest.approx(case["advantages"], rel=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", TRL["dpo"], ids=lambda case: case["options"]["kind"])
def test_preference_losses_equal_trl(case, dtype, tolerance):
    batch, options = load(case, dtype), case["options"]
    mask, new = batch["mask"], batch["new"].requires_grad_()
    ids, rows = sequence_ids(mask), len(mask)
    policy = sequence_sums(pack(mask, new), ids, rows)
    reference = sequence_sums(pack(mask, batch["ref"]), ids, rows)
    if options["kind"] == "ipo":  # TRL's is the form normalised by length
        policy, reference = policy / mask.sum(1), reference / mask.sum(1)
    half = rows // 2
    result = dpo_loss(
        policy[:half],
        policy[half:],
        reference[:half],
        reference[half:],
        beta=options["beta"],
        kind=options["kind"],
    )
    loss = result.losses.sum() / half
    (gradient,) = torch.autograd.grad(loss, new)
    check(case, loss, gradient, tolerance)
    if options["kind"] != "ipo":
        assert float(result.margins.mean()) == pytest.approx(options["margin"], rel=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("case", TRL["reward"])
def test_reward_model_losses_equal_trl(case, dtype, tolerance):
    rewards = torch.tensor(case["inputs"]["rewards"], dtype=dtype, requires_grad=True)
    margin = case["inputs"].get("margin")
    losses = bradley_terry_loss(
        rewards[:4],
        rewards[4:],
        None if margin is None else torch.tensor(margin, dtype=dtype),
        case["options"]["centre"],
    )
    loss = losses.sum() / len(losses)
    (gradient,) = torch.autograd.grad(loss, rewards)
    check(case, loss, gradient, tolerance)
