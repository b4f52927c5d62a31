import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_reference import SETTINGS

from rlvr.objectives.reward import bradley_terry_loss

rewards = st.floats(-20, 20)


def test_losses_are_the_hand_computed_ones():
    chosen, rejected = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0])
    losses = bradley_terry_loss(chosen, rejected)
    assert losses.tolist() == pytest.approx([math.log1p(math.exp(-1)), math.log(2)])
    margin = bradley_terry_loss(chosen, rejected, torch.tensor([1.0, 0.5]))
    assert margin.tolist() == pytest.approx([math.log(2), math.log1p(math.exp(0.5))])
    centred = bradley_terry_loss(chosen, rejected, centre=0.01)
    assert centred.tolist() == pytest.approx([math.log1p(math.exp(-1)) + 0.09, math.log(2)])


@settings(**SETTINGS)
@given(rewards, rewards, rewards)
def test_without_centring_only_the_difference_counts(chosen, rejected, shift):
    a, b = (torch.tensor([value], dtype=torch.float64) for value in (chosen, rejected))
    torch.testing.assert_close(
        bradley_terry_loss(a, b), bradley_terry_loss(a + shift, b + shift), rtol=1e-9, atol=1e-9
    )


def test_centring_pulls_the_level_to_zero_and_leaves_the_difference_alone():
    chosen = torch.tensor([5.0], dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor([4.0], dtype=torch.float64, requires_grad=True)
    plain = torch.autograd.grad(bradley_terry_loss(chosen, rejected).sum(), (chosen, rejected))
    centred = torch.autograd.grad(
        bradley_terry_loss(chosen, rejected, centre=0.1).sum(), (chosen, rejected)
    )
    pulls = [float(after - before) for before, after in zip(plain, centred, strict=True)]
    assert pulls == pytest.approx([1.8, 1.8])


@pytest.mark.parametrize("lead", [-1e4, 1e4])
def test_extreme_rewards_stay_finite_in_float32(lead):
    chosen = torch.tensor([lead], requires_grad=True)
    losses = bradley_terry_loss(chosen, torch.zeros(1))
    losses.sum().backward()
    assert torch.isfinite(losses).all() and torch.isfinite(chosen.grad).all()


def test_wrong_input_is_refused_by_name():
    with pytest.raises(ValueError, match="rejected has shape"):
        bradley_terry_loss(torch.zeros(2), torch.zeros(1))
    with pytest.raises(ValueError, match="margin has shape"):
        bradley_terry_loss(torch.zeros(2), torch.zeros(2), torch.zeros(1))
    with pytest.raises(ValueError, match="centre is -1"):
        bradley_terry_loss(torch.zeros(2), torch.zeros(2), centre=-1)
