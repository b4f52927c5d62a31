import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.objectives.values import (
    Moments,
    clipped_value_loss,
    discounted_returns,
    explained_variance,
    generalized_advantages,
    token_rewards,
    whiten,
)

SETTINGS = {"max_examples": 30, "deadline": None}
sequence_lengths = st.lists(st.integers(1, 9), min_size=1, max_size=5)
seeds = st.integers(0, 2**31 - 1)
shares = st.sampled_from([0.0, 0.5, 0.95, 1.0])


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def packed(lengths, seed):
    """Random rewards, values and the ids of sequences, packed."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    rewards, values = torch.randn(2, len(ids), generator=generator, dtype=torch.float64)
    return rewards, values, ids


def gae_by_the_sum(rewards, values, gamma, lam):
    """Schulman et al. 2016, eq. 16, term by term, for one sequence."""
    following = [*values[1:], 0.0]
    errors = [r + gamma * n - v for r, n, v in zip(rewards, following, values, strict=True)]
    return [
        math.fsum((gamma * lam) ** steps * error for steps, error in enumerate(errors[t:]))
        for t in range(len(errors))
    ]


def test_the_reward_of_a_sequence_stands_at_its_last_token():
    ids = torch.tensor([1, 1, 0, 2, 2, 2])
    rewards = f64([5.0, 1.0, -1.0])
    assert token_rewards(rewards, ids).tolist() == [0, 1.0, 5.0, 0, 0, -1.0]
    kl = f64([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    found = token_rewards(rewards, ids, kl=kl, kl_coefficient=0.5)
    assert found.tolist() == [-0.5, 0.0, 3.5, -2.0, -2.5, -4.0]


def test_returns_by_hand():
    ids = torch.tensor([0, 0, 0, 1])
    advantages, returns = discounted_returns(f64([1.0, 2.0, 4.0, 8.0]), ids, gamma=0.5)
    assert returns.tolist() == advantages.tolist() == [3.0, 4.0, 4.0, 8.0]


def test_gae_by_hand():
    ids = torch.tensor([0, 0, 1])
    advantages, returns = generalized_advantages(
        f64([0.0, 1.0, 3.0]), ids, values=f64([0.5, 0.25, 1.0]), gamma=0.5, lam=0.5
    )
    # Errors: 0 + 0.5 * 0.25 - 0.5 = -0.375; 1 - 0.25 = 0.75; 3 - 1 = 2.
    assert advantages.tolist() == [-0.375 + 0.25 * 0.75, 0.75, 2.0]
    assert returns.tolist() == [0.3125, 1.0, 3.0]


@settings(**SETTINGS)
@given(sequence_lengths, seeds, shares, shares)
def test_gae_equals_the_sum_of_discounted_errors(lengths, seed, gamma, lam):
    rewards, values, ids = packed(lengths, seed)
    advantages, returns = generalized_advantages(rewards, ids, values=values, gamma=gamma, lam=lam)
    expected = []
    for s in range(len(lengths)):
        expected += gae_by_the_sum(
            rewards[ids == s].tolist(), values[ids == s].tolist(), gamma, lam
        )
    assert advantages.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    torch.testing.assert_close(returns, advantages + values)


@settings(**SETTINGS)
@given(sequence_lengths, seeds, shares)
def test_gae_with_lambda_one_is_the_return_less_the_value(lengths, seed, gamma):
    rewards, values, ids = packed(lengths, seed)
    advantages, returns = generalized_advantages(rewards, ids, values=values, gamma=gamma, lam=1.0)
    torch.testing.assert_close(returns, discounted_returns(rewards, ids, gamma=gamma)[1])
    torch.testing.assert_close(advantages, returns - values)


@settings(**SETTINGS)
@given(sequence_lengths, seeds)
def test_sequences_do_not_see_each_other(lengths, seed):
    rewards, values, ids = packed(lengths, seed)
    together, _ = generalized_advantages(rewards, ids, values=values)
    for s in range(len(lengths)):
        mine = ids == s
        alone, _ = generalized_advantages(rewards[mine], ids[mine], values=values[mine])
        assert torch.equal(together[mine], alone)


def test_a_long_sequence_keeps_its_digits():
    ids = torch.zeros(20_000, dtype=torch.int64)
    rewards = torch.zeros(20_000)
    rewards[-1] = 1.0
    _, returns = discounted_returns(rewards, ids, gamma=0.9999)
    expected = 0.9999 ** torch.arange(19_999, -1, -1, dtype=torch.float64)
    torch.testing.assert_close(returns.double(), expected, rtol=1e-6, atol=0.0)


def test_empty_batches_pass_through():
    none, ids = f64([]), torch.zeros(0, dtype=torch.int64)
    assert token_rewards(none, ids).shape == (0,)
    assert discounted_returns(none, ids)[0].shape == (0,)
    assert generalized_advantages(none, ids, values=none)[0].shape == (0,)
    assert whiten(none).shape == (0,)


def test_bad_sequences_and_shares_are_refused():
    rewards = f64([0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="stand together"):
        discounted_returns(rewards, torch.tensor([0, 1, 0]))
    ids = torch.tensor([0, 0, 1])
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="gamma is"):
            discounted_returns(rewards, ids, gamma=share)
        with pytest.raises(ValueError, match="lam is"):
            generalized_advantages(rewards, ids, values=rewards, lam=share)
    with pytest.raises(ValueError, match="sequence_ids has 1: expected below 1"):
        token_rewards(f64([1.0]), ids)
    with pytest.raises(ValueError, match="kl has shape"):
        token_rewards(f64([1.0, 0.0]), ids, kl=f64([1.0]))
    with pytest.raises(ValueError, match="values has shape"):
        generalized_advantages(rewards, ids, values=f64([1.0]))


def test_whitened_values_have_mean_zero_and_std_one():
    found = whiten(f64([1.0, 2.0, 4.0, 9.0]), eps=0.0).tolist()
    assert statistics.fmean(found) == pytest.approx(0.0, abs=1e-12)
    assert statistics.stdev(found) == pytest.approx(1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whitening_what_is_equal_up_to_noise_gives_exact_zeros(dtype):
    for values in ([0.1] * 7, [0.3, 0.1 + 0.2], [0.0, 0.0], [5.0]):
        assert whiten(torch.tensor(values, dtype=dtype)).tolist() == [0.0] * len(values)


@settings(**SETTINGS)
@given(st.lists(st.lists(st.floats(-1e3, 1e3), max_size=6), min_size=1, max_size=4))
def test_moments_of_parts_merge_into_those_of_the_whole(parts):
    merged = Moments.of(f64([]))
    for part in parts:
        merged = merged + Moments.of(f64(part))
    whole = Moments.of(f64([value for part in parts for value in part]))
    assert merged.count == whole.count
    assert merged.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-9)
    assert merged.variance == pytest.approx(whole.variance, rel=1e-9, abs=1e-6)


def test_two_processes_whiten_as_one():
    values = f64([3.0, 1.0, 4.0, 1.0, 5.0, 9.0])
    moments = Moments.of(values[:2]) + Moments.of(values[2:])
    apart = torch.cat([whiten(values[:2], moments), whiten(values[2:], moments)])
    torch.testing.assert_close(apart, whiten(values), rtol=1e-12, atol=0.0)


def test_value_loss_by_hand_with_its_gradient():
    values = f64([1.0, 2.0, 0.0]).requires_grad_()
    old, returns = f64([0.0, 1.9, 0.0]), f64([0.0, 1.0, 3.0])
    loss, sums = clipped_value_loss(values, old, returns, clip=0.5)
    # First: V is clipped to 0.5, nearer to the return, so the plain error counts. Third: not moved.
    assert loss.tolist() == [0.5, 0.5, 4.5]
    assert {name: value.item() for name, value in sums.items()} == {
        "clipped": 0.0,
        "squared_error": 11.0,
        "value": 3.0,
        "return": 4.0,
    }
    loss.sum().backward()
    assert values.grad.tolist() == [1.0, 1.0, -3.0]


def test_a_value_that_moved_too_far_towards_its_return_has_no_gradient():
    values = f64([2.0]).requires_grad_()
    loss, sums = clipped_value_loss(values, f64([0.0]), f64([3.0]), clip=0.5)
    assert loss.item() == 0.5 * 2.5**2
    assert sums["clipped"].item() == 1.0
    loss.sum().backward()
    assert values.grad.tolist() == [0.0]
    plain, _ = clipped_value_loss(values, f64([0.0]), f64([3.0]))
    assert plain.item() == 0.5
    with pytest.raises(ValueError, match="clip is 0"):
        clipped_value_loss(values, values, values, clip=0.0)


def test_explained_variance():
    returns = f64([0.0, 1.0, 2.0, 3.0])

    def of(values):
        return explained_variance(Moments.of(returns), Moments.of(returns - values))

    assert of(returns) == 1.0
    assert of(returns + 7.0) == 1.0
    assert of(torch.full_like(returns, 9.0)) == 0.0
    assert of(-returns) == -3.0
    assert math.isnan(explained_variance(Moments.of(f64([1.0, 1.0])), Moments.of(returns)))
