import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_reference import SETTINGS, seeds

from rlvr.errors import ConfigError, UnknownNameError
from rlvr.objectives.kl import adapted_kl_coefficient, kl_estimate

KINDS = ("k1", "abs", "k2", "k3", "k1+", "abs+", "k3+")


def test_estimates_are_the_hand_computed_ones():
    policy, reference = torch.tensor([0.5, 0.25]).log(), torch.tensor([0.25, 0.5]).log()
    ln2 = math.log(2)
    assert kl_estimate(policy, reference, "k1").tolist() == pytest.approx([ln2, -ln2])
    assert kl_estimate(policy, reference, "k2").tolist() == pytest.approx([ln2**2 / 2] * 2)
    assert kl_estimate(policy, reference, "k3").tolist() == pytest.approx([ln2 - 0.5, 1 - ln2])
    assert kl_estimate(policy, reference, "abs").tolist() == pytest.approx([ln2, ln2])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.floats(-30, 0, width=32), min_size=1, max_size=40),
    st.floats(-8, 1),
    st.sampled_from([torch.float32, torch.float64]),
    seeds,
)
def test_k3_is_never_negative_and_zero_where_the_two_agree(values, log_size, dtype, seed):
    policy = torch.tensor(values, dtype=dtype)
    noise = torch.randn(len(values), generator=torch.Generator().manual_seed(seed), dtype=dtype)
    assert (kl_estimate(policy, policy + 10**log_size * noise, "k3") >= 0).all()
    assert torch.equal(kl_estimate(policy, policy, "k3"), torch.zeros_like(policy))


def test_k3_keeps_its_digits_near_zero_in_float32():
    difference = 1e-3
    policy = torch.tensor([difference])
    exact = math.expm1(-difference) + difference
    found = float(kl_estimate(policy, torch.zeros(1), "k3"))
    assert found == pytest.approx(exact, rel=3e-4)  # exp(x) - x - 1 is off by 7% here


def exact_kl(p, q):
    return (p * (p.log() - q.log())).sum()


def expectation(kind, seed, weighted=False):
    """Value and gradient of an estimate, averaged exactly over the policy's whole vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()
    reference = torch.randn(6, generator=generator, dtype=torch.float64).log_softmax(0)
    policy = logits.log_softmax(0)
    old = policy.detach() if weighted else None
    mean = (policy.detach().exp() * kl_estimate(policy, reference, kind, old_logprobs=old)).sum()
    (gradient,) = torch.autograd.grad(mean, logits)
    probabilities = logits.softmax(0)
    kl = exact_kl(probabilities, reference.exp())
    (reverse,) = torch.autograd.grad(kl, logits, retain_graph=True)
    (forward,) = torch.autograd.grad(exact_kl(reference.exp(), probabilities), logits)
    return mean.detach(), gradient, kl.detach(), reverse, forward


@settings(**SETTINGS)
@given(seeds)
def test_expected_values_of_k1_and_k3_are_the_kl(seed):
    for kind in ("k1", "k3"):
        mean, _, kl, _, _ = expectation(kind, seed)
        assert float(mean) == pytest.approx(float(kl), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", ["k1", "abs", "k3"])
@settings(**SETTINGS)
@given(seeds)
def test_straight_through_keeps_the_value_and_has_the_unbiased_gradient(kind, seed):
    plain, _, _, _, _ = expectation(kind, seed)
    mean, gradient, _, reverse, _ = expectation(f"{kind}+", seed)
    assert float(mean) == pytest.approx(float(plain), rel=1e-12)
    torch.testing.assert_close(gradient, reverse, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["k1", "k3"])
@settings(**SETTINGS)
@given(seeds)
def test_multiplied_by_the_ratio_value_and_gradient_are_unbiased(kind, seed):
    mean, gradient, kl, reverse, _ = expectation(kind, seed, weighted=True)
    assert float(mean) == pytest.approx(float(kl), rel=1e-9, abs=1e-12)
    torch.testing.assert_close(gradient, reverse, rtol=1e-9, atol=1e-12)


@settings(**SETTINGS)
@given(seeds)
def test_the_expected_gradient_of_abs_is_twice_that_of_the_total_variation(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, generator=generator, dtype=torch.float64).requires_grad_()
    reference = torch.randn(6, generator=generator, dtype=torch.float64).softmax(0)
    (expected,) = torch.autograd.grad((logits.softmax(0) - reference).abs().sum(), logits)
    _, gradient, _, _, _ = expectation("abs", seed)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


@settings(**SETTINGS)
@given(seeds)
def test_the_expected_gradient_of_k1_is_zero(seed):
    _, gradient, _, _, _ = expectation("k1", seed)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


@settings(**SETTINGS)
@given(seeds)
def test_the_expected_gradient_of_k2_is_that_of_kl_policy_reference(seed):
    _, gradient, _, reverse, _ = expectation("k2", seed)
    torch.testing.assert_close(gradient, reverse, rtol=1e-9, atol=1e-12)


@settings(**SETTINGS)
@given(seeds)
def test_the_expected_gradient_of_k3_is_that_of_kl_reference_policy(seed):
    _, gradient, _, _, forward = expectation("k3", seed)
    torch.testing.assert_close(gradient, forward, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("distance", [1000.0, -1000.0])
def test_no_distance_overflows_float32(kind, distance):
    policy = torch.tensor([-1.0], requires_grad=True)
    estimate = kl_estimate(policy, torch.tensor([-1.0 + distance]), kind)
    estimate.sum().backward()
    assert torch.isfinite(estimate).all() and torch.isfinite(policy.grad).all()


def test_k3_still_pulls_back_a_policy_that_is_far_above_the_reference():
    policy = torch.tensor([-0.1], requires_grad=True)
    kl_estimate(policy, torch.tensor([-60.0]), "k3").sum().backward()
    assert float(policy.grad) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_gets_no_gradient(kind):
    policy = torch.tensor([-1.0], requires_grad=True)
    reference = torch.tensor([-2.0], requires_grad=True)
    kl_estimate(policy, reference, kind).sum().backward()
    assert reference.grad is None and policy.grad is not None


def test_an_unknown_estimator_is_named_with_the_nearest_known_ones():
    with pytest.raises(UnknownNameError, match=r"'kl/k4'.*did you mean 'kl/k"):
        kl_estimate(torch.zeros(1), torch.zeros(1), "k4")


def test_tensors_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="ref_logprobs"):
        kl_estimate(torch.zeros(2), torch.zeros(1), "k1")


def test_the_ratio_of_kl_is_the_hand_computed_one_and_carries_a_gradient():
    policy = torch.tensor([0.5], dtype=torch.float64).log().requires_grad_()
    reference, old = torch.tensor([[0.25], [0.4]], dtype=torch.float64).log()
    estimate = kl_estimate(policy, reference, "k3", old_logprobs=old)
    plain = math.log(2) - 0.5
    assert estimate.item() == pytest.approx(1.25 * plain)
    estimate.sum().backward()
    assert policy.grad.item() == pytest.approx(1.25 * (plain + 0.5))  # k3' = 1 - exp(-d)


def test_k3s_bounds_are_chosen():
    policy = torch.tensor([-40.0, -12.0, -1.0], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-1.0, -1.0, -40.0], dtype=torch.float64)
    unbounded = kl_estimate(policy, reference, "k3", log_ratio_bounds=(-math.inf, math.inf))
    assert unbounded.tolist() == pytest.approx([math.exp(39) - 40, math.exp(11) - 12, 38])
    ours = kl_estimate(policy, reference, "k3")
    assert ours.tolist() == pytest.approx([math.exp(20) - 21, math.exp(11) - 12, 38])
    verl = kl_estimate(policy, reference, "k3", log_ratio_bounds=(-20, 20), value_bound=10)
    assert verl.tolist() == [10, 10, 10]
    (gradient,) = torch.autograd.grad(verl.sum(), policy)
    assert gradient.tolist() == [0, 0, 0]  # why it is not the default


@pytest.mark.parametrize("options", [{"log_ratio_bounds": (1, 2)}, {"value_bound": 0}])
def test_bounds_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match="bound"):
        kl_estimate(torch.zeros(1), torch.zeros(1), "k3", **options)


def test_an_option_of_another_estimator_is_refused():
    with pytest.raises(ConfigError, match="KL estimator 'k1' has no option 'value_bound'"):
        kl_estimate(torch.zeros(1), torch.zeros(1), "k1", value_bound=10.0)


def test_the_adaptive_coefficient_follows_ziegler():
    step = {"target": 6.0, "horizon": 10000.0, "samples": 500}
    assert adapted_kl_coefficient(0.2, 6.6, **step) == pytest.approx(0.2 * (1 + 0.1 * 0.05))
    assert adapted_kl_coefficient(0.2, 600.0, **step) == pytest.approx(0.2 * (1 + 0.2 * 0.05))
    assert adapted_kl_coefficient(0.2, 0.0, **step) == pytest.approx(0.2 * (1 - 0.2 * 0.05))
    assert adapted_kl_coefficient(0.2, 6.0, **step) == 0.2


@given(st.floats(1e-6, 100), st.floats(0, math.inf), st.floats(0.01, 100), st.floats(0, 4.99))
def test_the_adaptive_coefficient_stays_positive_and_moves_towards_the_target(b, kl, target, n):
    found = adapted_kl_coefficient(b, kl, target=target, horizon=1.0, samples=n)
    assert found > 0
    assert found >= b if kl > target else found <= b


def test_an_adaptive_coefficient_that_cannot_be_is_refused():
    step = {"target": 6.0, "horizon": 100.0, "samples": 10}
    with pytest.raises(ValueError, match="NaN"):
        adapted_kl_coefficient(0.2, math.nan, **step)
    with pytest.raises(ValueError, match="samples < 5"):
        adapted_kl_coefficient(0.2, 6.0, target=6.0, horizon=100.0, samples=500)


def test_the_ratio_on_the_estimate_is_of_a_token_or_of_its_sequence_and_bounded_by_choice():
    """TRL bounds it nowhere, and takes the sequence's where its policy loss does."""
    old = torch.tensor([-1.0, -2.0, -3.0, -31.0], dtype=torch.float64)
    new = torch.tensor([-0.5, -1.0, -1.0, -1.0], dtype=torch.float64)
    ref, ids = new - 0.1, torch.tensor([0, 0, 0, 1])
    plain = kl_estimate(new, ref, "k1")
    of_tokens = kl_estimate(new, ref, "k1", old_logprobs=old) / plain
    expected = [math.exp(0.5), math.exp(1.0), math.exp(2.0), math.exp(20.0)]
    assert of_tokens.tolist() == pytest.approx(expected)
    free = kl_estimate(new, ref, "k1", old_logprobs=old, ratio_bounds=(-math.inf, math.inf))
    assert (free / plain)[3].item() == pytest.approx(math.exp(30.0))
    found = kl_estimate(new, ref, "k1", old_logprobs=old, sequence_ids=ids) / plain
    assert found.tolist() == pytest.approx([math.exp(3.5 / 3)] * 3 + [math.exp(20.0)])
