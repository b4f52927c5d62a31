import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_reference import SETTINGS, clipped_surrogate, lengths, pack, padded, seeds

from rlvr.objectives.policy import clipped_policy_loss, importance_weights


def from_ratio(ratio, advantage, **options):
    """Loss and gradient for single tokens of given probability ratios."""
    ratio = torch.as_tensor(ratio, dtype=torch.float64)
    old = torch.full_like(ratio, -1.0)
    new = (old + ratio.log()).requires_grad_()
    advantages = torch.as_tensor(advantage, dtype=torch.float64)
    loss, diagnostics = clipped_policy_loss(new, old, advantages, **options)
    (gradient,) = torch.autograd.grad(loss.sum(), new)
    return loss.detach(), gradient, diagnostics


def test_losses_of_single_tokens_are_the_hand_computed_ones():
    ratios = [1.0, 1.5, 0.5, 1.5, 0.5, 1.25]
    advantages = [2.0, 1.0, 1.0, -1.0, -1.0, 1.0]
    loss, _, _ = from_ratio(ratios, advantages, clip_low=0.2, clip_high=0.28)
    assert loss.tolist() == pytest.approx([-2.0, -1.28, -0.5, 1.5, 0.8, -1.25])


def test_clip_higher_moves_only_the_upper_bound():
    ratios, advantages = [1.25, 0.7], [1.0, -1.0]
    symmetric, *_ = from_ratio(ratios, advantages, clip_low=0.2, clip_high=0.2)
    higher, *_ = from_ratio(ratios, advantages, clip_low=0.2, clip_high=0.28)
    assert symmetric.tolist() == pytest.approx([-1.2, 0.8])
    assert higher.tolist() == pytest.approx([-1.25, 0.8])


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_the_clip_cuts_gradients_only_on_the_side_that_goes_too_far(advantage):
    ratios = torch.tensor([0.1, 0.79, 0.81, 1.0, 1.27, 1.29, 9.0])
    _, gradient, _ = from_ratio(ratios, torch.full((7,), advantage), clip_low=0.2, clip_high=0.28)
    alive = ratios < 1.28 if advantage > 0 else ratios > 0.8
    assert gradient[~alive].tolist() == [0.0] * int((~alive).sum())
    expected = -advantage * ratios[alive].double()
    assert gradient[alive].tolist() == pytest.approx(expected.tolist())


def test_dual_clip_bounds_the_loss_of_bad_tokens_and_cuts_their_gradient():
    ratios, advantages = [2.9, 3.1, 3.1], [-2.0, -2.0, 2.0]
    loss, gradient, diagnostics = from_ratio(
        ratios, advantages, clip_low=0.2, clip_high=0.2, dual_clip=3.0
    )
    assert loss.tolist() == pytest.approx([5.8, 6.0, -2.4])
    assert gradient.tolist() == pytest.approx([5.8, 0.0, 0.0])
    assert float(diagnostics.dual_clipped) == 1.0


@settings(**SETTINGS)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.floats(0, 0.9), st.floats(0, 2))
def test_at_ratio_one_the_gradient_is_that_of_reinforce(advantages, low, high):
    weights = torch.tensor(advantages, dtype=torch.float64)
    new = torch.linspace(-3, -0.1, len(advantages), dtype=torch.float64).requires_grad_()
    loss, _ = clipped_policy_loss(new, new.detach(), weights, clip_low=low, clip_high=high)
    (gradient,) = torch.autograd.grad(loss.sum(), new)
    assert torch.equal(gradient, -weights)


def test_old_logprobs_and_advantages_are_constants():
    new = torch.tensor([-1.0, -2.0], requires_grad=True)
    advantages = torch.tensor([1.0, -1.0], requires_grad=True)
    loss, _ = clipped_policy_loss(new, new, advantages, clip_low=0.2, clip_high=0.2)
    loss.sum().backward()
    assert new.grad.tolist() == [-1.0, 1.0]  # 0 if the old ones were differentiated too
    assert advantages.grad is None


@settings(**SETTINGS)
@given(lengths, seeds, st.floats(0, 0.9), st.floats(0, 2))
def test_packed_loss_and_gradient_equal_the_padded_formula(lengths, seed, low, high):
    batch = padded(lengths, seed)
    mask = batch["mask"]
    new = batch["new"].clone().requires_grad_()
    reference = clipped_surrogate(new, batch["old"], batch["advantages"], low, high)[mask]
    (expected,) = torch.autograd.grad(reference.sum(), new)
    packed = pack(mask, batch["new"]).requires_grad_()
    loss, _ = clipped_policy_loss(
        packed,
        pack(mask, batch["old"]),
        pack(mask, batch["advantages"]),
        clip_low=low,
        clip_high=high,
    )
    (found,) = torch.autograd.grad(loss.sum(), packed)
    torch.testing.assert_close(loss, reference, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, expected[mask], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("difference", [30.0, 1000.0, -1000.0])
@pytest.mark.parametrize("advantage", [1.0, -1.0, 0.0])
def test_no_log_ratio_overflows_float32(difference, advantage):
    new = torch.tensor([-1.0 + difference], requires_grad=True)
    loss, diagnostics = clipped_policy_loss(
        new, torch.tensor([-1.0]), torch.tensor([advantage]), clip_low=0.2, clip_high=0.2
    )
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(new.grad).all()
    assert float(diagnostics.bounded) == (1.0 if difference > 20 else 0.0)
    assert all(map(math.isfinite, diagnostics.means().values()))


def test_the_bound_leaves_log_ratios_up_to_twenty_alone():
    new = torch.tensor([19.5], dtype=torch.float64, requires_grad=True)
    zero, bad = torch.zeros(1, dtype=torch.float64), -torch.ones(1, dtype=torch.float64)
    loss, _ = clipped_policy_loss(new, zero, bad, clip_low=0.2, clip_high=0.2)
    loss.sum().backward()
    assert loss.item() == pytest.approx(math.exp(19.5))
    assert float(new.grad) == pytest.approx(math.exp(19.5))


def test_nan_is_not_hidden():
    nan = torch.tensor([math.nan])
    loss, _ = clipped_policy_loss(
        nan, torch.tensor([-1.0]), torch.tensor([1.0]), clip_low=0.2, clip_high=0.2
    )
    assert torch.isnan(loss).all()


def test_diagnostics_count_what_the_clip_cut():
    ratios = [0.5, 0.5, 0.5, 1.5, 1.5, 1.5]
    advantages = [-1.0, 1.0, 0.0, -1.0, 1.0, 0.0]
    _, _, found = from_ratio(ratios, advantages, clip_low=0.2, clip_high=0.28)
    assert float(found.tokens) == 6
    assert float(found.clipped_low) == 1
    assert float(found.clipped_high) == 1
    assert float(found.ratio) == pytest.approx(6.0)
    k3 = sum(ratio - 1 - math.log(ratio) for ratio in ratios)
    assert float(found.approx_kl) == pytest.approx(k3)
    assert found.means()["clipped_low"] == pytest.approx(1 / 6)
    assert not found.approx_kl.requires_grad


@settings(**SETTINGS)
@given(lengths, seeds, st.integers(0, 20))
def test_diagnostics_of_two_parts_add_up_to_those_of_the_whole(lengths, seed, cut):
    batch = padded(lengths, seed)
    columns = [pack(batch["mask"], batch[name]) for name in ("new", "old", "advantages")]
    options = {"clip_low": 0.2, "clip_high": 0.28}
    _, whole = clipped_policy_loss(*columns, **options)
    _, first = clipped_policy_loss(*(column[:cut] for column in columns), **options)
    _, second = clipped_policy_loss(*(column[cut:] for column in columns), **options)
    assert (first + second).means() == pytest.approx(whole.means())
    assert float((first + second).tokens) == float(whole.tokens) == sum(lengths)


def test_wrong_shapes_and_dtypes_are_refused_by_name():
    values = torch.zeros(3)
    options = {"clip_low": 0.2, "clip_high": 0.2}
    with pytest.raises(ValueError, match=r"advantages has shape \[1\], logprobs \[3\]"):
        clipped_policy_loss(values, values, values[:1], **options)
    with pytest.raises(ValueError, match=r"old_logprobs is torch\.bfloat16"):
        clipped_policy_loss(values, values.bfloat16(), values, **options)
    with pytest.raises(ValueError, match=r"logprobs has shape \[1, 3\]"):
        clipped_policy_loss(values[None], values[None], values[None], **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"clip_low": -0.1, "clip_high": 0.2}, "clip_low"),
        ({"clip_low": 1.0, "clip_high": 0.2}, "clip_low"),
        ({"clip_low": 0.2, "clip_high": -0.2}, "clip_high"),
        ({"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 1.2}, "dual_clip"),
        ({"clip_low": 0.2, "clip_high": math.nan}, "clip_high"),
    ],
)
def test_bounds_out_of_range_are_refused_by_name(options, named):
    values = torch.zeros(1)
    with pytest.raises(ValueError, match=f"{named} is"):
        clipped_policy_loss(values, values, values, **options)


def test_importance_weights_are_truncated_ratios():
    trainer = torch.tensor([-1.0, -1.0, -1.0, -1.0, 100.0], requires_grad=True)
    ratios = torch.tensor([1.0, 0.5, 1.9, 2.1])
    sampler = torch.cat([-1.0 - ratios.log(), torch.tensor([-100.0])])
    weights = importance_weights(trainer, sampler, cap=2.0)
    assert weights.tolist() == pytest.approx([1.0, 0.5, 1.9, 2.0, 2.0])
    assert not weights.requires_grad


def test_importance_weights_are_exactly_one_where_sampler_and_trainer_agree():
    logprobs = -10 * torch.rand(100)
    assert torch.equal(importance_weights(logprobs, logprobs, cap=2.0), torch.ones(100))


def test_a_cap_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="cap is 0"):
        importance_weights(torch.zeros(1), torch.zeros(1), cap=0)
