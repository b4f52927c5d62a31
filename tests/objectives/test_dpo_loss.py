import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_reference import SETTINGS

from rlvr.errors import UnknownNameError
from rlvr.objectives.preference import dpo_loss

logps = st.floats(-50, -0.1)


def single(chosen, rejected, ref_chosen, ref_rejected, **options):
    values = [
        torch.tensor([value], dtype=torch.float64, requires_grad=True)
        for value in (chosen, rejected, ref_chosen, ref_rejected)
    ]
    result = dpo_loss(*values, **options)
    return result, torch.autograd.grad(result.losses.sum(), values, allow_unused=True)


def test_policy_equal_to_reference_has_loss_log_two_and_margin_zero():
    result, (chosen, rejected, *_) = single(-3.0, -4.0, -3.0, -4.0, beta=0.1)
    assert result.losses.item() == pytest.approx(math.log(2))
    assert float(result.margins) == 0.0
    assert float(chosen) == pytest.approx(-0.05) and float(rejected) == pytest.approx(0.05)


def test_sigmoid_loss_rewards_and_gradient_are_the_hand_computed_ones():
    # log-ratios +2 and -1, so the score is 0.5 * 3
    result, (chosen, rejected, ref_chosen, ref_rejected) = single(-3.0, -6.0, -5.0, -5.0, beta=0.5)
    assert result.losses.item() == pytest.approx(math.log1p(math.exp(-1.5)))
    assert float(result.chosen_rewards) == 1.0
    assert float(result.rejected_rewards) == -0.5
    assert float(result.margins) == 1.5
    slope = 0.5 / (1 + math.exp(1.5))  # eq. 7 of the paper: beta * sigma(-score)
    assert float(chosen) == pytest.approx(-slope) and float(rejected) == pytest.approx(slope)
    assert ref_chosen is None and ref_rejected is None


def test_label_smoothing_mixes_in_the_flipped_pair():
    result, _ = single(-3.0, -6.0, -5.0, -5.0, beta=0.5, label_smoothing=0.2)
    right, flipped = math.log1p(math.exp(-1.5)), math.log1p(math.exp(1.5))
    assert result.losses.item() == pytest.approx(0.8 * right + 0.2 * flipped)


def test_hinge_and_ipo_are_the_hand_computed_ones():
    hinge, _ = single(-3.0, -6.0, -5.0, -5.0, beta=0.25, kind="hinge")
    assert hinge.losses.item() == pytest.approx(1 - 0.75)
    satisfied, _ = single(-3.0, -6.0, -5.0, -5.0, beta=0.5, kind="hinge")
    assert satisfied.losses.item() == 0.0
    ipo, _ = single(-3.0, -6.0, -5.0, -5.0, beta=0.25, kind="ipo")
    assert ipo.losses.item() == pytest.approx((3 - 2) ** 2)


@settings(**SETTINGS)
@given(logps, logps, logps, logps, st.floats(0.01, 1))
def test_swapping_the_pair_flips_the_margin_and_the_losses_differ_by_it(a, b, ref_a, ref_b, beta):
    forward, _ = single(a, b, ref_a, ref_b, beta=beta)
    backward, _ = single(b, a, ref_b, ref_a, beta=beta)
    margin = float(forward.margins)
    assert float(backward.margins) == -margin
    assert (backward.losses - forward.losses).item() == pytest.approx(margin, abs=1e-9)
    assert forward.losses.item() > 0


@pytest.mark.parametrize("chosen", [-1e4, 1e4])
def test_extreme_log_ratios_stay_finite_in_float32(chosen):
    policy = torch.tensor([chosen], requires_grad=True)
    zero = torch.zeros(1)
    losses = dpo_loss(policy, zero, zero, zero, beta=1.0, label_smoothing=0.1).losses
    losses.sum().backward()
    assert torch.isfinite(losses).all() and torch.isfinite(policy.grad).all()


def test_implicit_rewards_are_detached():
    result, _ = single(-3.0, -6.0, -5.0, -5.0, beta=0.5)
    assert result.losses.requires_grad
    assert not result.margins.requires_grad


def test_wrong_options_are_refused_by_name():
    zero = torch.zeros(1)
    with pytest.raises(ValueError, match="beta is 0"):
        dpo_loss(zero, zero, zero, zero, beta=0.0)
    with pytest.raises(ValueError, match=r"label_smoothing is 0\.5"):
        dpo_loss(zero, zero, zero, zero, beta=0.1, label_smoothing=0.5)
    for kind in ("hinge", "ipo"):
        with pytest.raises(ValueError, match=f"dpo/{kind} has no label_smoothing"):
            dpo_loss(zero, zero, zero, zero, beta=0.1, kind=kind, label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"ref_chosen has shape \[2\]"):
        dpo_loss(zero, zero, torch.zeros(2), zero, beta=0.1)
    with pytest.raises(UnknownNameError, match="did you mean 'dpo/sigmoid'"):
        dpo_loss(zero, zero, zero, zero, beta=0.1, kind="sigmoyd")
