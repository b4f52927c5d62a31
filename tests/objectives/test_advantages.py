import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_reference import SETTINGS

from rlvr.objectives.advantages import (
    group_advantages,
    leave_one_out_advantages,
    soft_overlong_penalty,
)

# Rewards on a grid: either exactly equal, or further apart than any tolerance.
grid_rewards = st.integers(-8, 8).map(lambda value: value / 4)
batches = st.lists(st.tuples(grid_rewards, st.integers(0, 3)), min_size=1, max_size=16)


def tensors(batch, dtype=torch.float64):
    rewards, ids = zip(*batch, strict=True)
    return torch.tensor(rewards, dtype=dtype), torch.tensor(ids)


def every_estimator(rewards, ids):
    for scale in ("group", "batch", "none"):
        yield group_advantages(rewards, ids, scale=scale)
    yield leave_one_out_advantages(rewards, ids)


def test_group_scale_gives_hand_computed_values():
    rewards = torch.tensor([1.0, 0.0, 0.0, 1.0, 3.0, 1.0], dtype=torch.float64)
    ids = torch.tensor([7, 7, 7, 7, 2, 2])
    std_first, std_second = math.sqrt(1 / 3), math.sqrt(2)
    expected = [0.5 / std_first, -0.5 / std_first, -0.5 / std_first, 0.5 / std_first]
    expected += [1 / std_second, -1 / std_second]
    assert group_advantages(rewards, ids, eps=0.0).tolist() == pytest.approx(expected, rel=1e-6)


def test_eps_is_added_to_the_std():
    rewards = torch.tensor([1.0, 3.0], dtype=torch.float64)
    found = group_advantages(rewards, torch.tensor([0, 0]), eps=1.0)
    assert found.tolist() == pytest.approx([-1 / (math.sqrt(2) + 1), 1 / (math.sqrt(2) + 1)])


def test_batch_scale_divides_group_centred_rewards_by_the_std_of_all_rewards():
    rewards = torch.tensor([1.0, 0.0, 4.0, 2.0], dtype=torch.float64)
    std = statistics.stdev([1.0, 0.0, 4.0, 2.0])
    found = group_advantages(rewards, torch.tensor([0, 0, 1, 1]), scale="batch", eps=0.0)
    assert found.tolist() == pytest.approx([0.5 / std, -0.5 / std, 1 / std, -1 / std])


def test_no_scale_only_subtracts_the_group_mean():
    rewards = torch.tensor([1.0, 0.0, 4.0, 2.0])
    found = group_advantages(rewards, torch.tensor([0, 0, 1, 1]), scale="none")
    assert found.tolist() == [0.5, -0.5, 1.0, -1.0]


def test_leave_one_out_subtracts_the_mean_of_the_others():
    rewards = torch.tensor([1.0, 0.0, 0.0, 5.0, 2.0], dtype=torch.float64)
    found = leave_one_out_advantages(rewards, torch.tensor([0, 0, 0, 1, 1]))
    assert found.tolist() == pytest.approx([1.0, -0.5, -0.5, 3.0, -3.0])


@settings(**SETTINGS)
@given(batches)
def test_every_estimator_equals_a_plain_loop_over_groups(batch):
    rewards, ids = tensors(batch)
    everything = [reward for reward, _ in batch]
    found = [list(map(float, estimate)) for estimate in every_estimator(rewards, ids)]
    for i, (reward, group) in enumerate(batch):
        peers = [r for r, g in batch if g == group]
        if len(set(peers)) == 1:
            assert [estimate[i] for estimate in found] == [0.0] * 4
            continue
        centred = reward - statistics.fmean(peers)
        others = (math.fsum(peers) - reward) / (len(peers) - 1)
        expected = [
            centred / (statistics.stdev(peers) + 1e-6),
            centred / (statistics.stdev(everything) + 1e-6),
            centred,
            reward - others,
        ]
        assert [estimate[i] for estimate in found] == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(
    "rewards",
    [
        [0.3, 0.1 + 0.2, 0.3],  # the same sum in another order
        [0.0, 0.1 + 0.2 - 0.3],  # noise around zero has no small relative difference
        [1e6 / 3, 1e6 / 3 * (1 + 1e-15)],
        [0.1] * 7,  # their mean is not exactly 0.1
        [0.0, 0.0],
        [-5.0, -5.0],
    ],
)
def test_rewards_equal_up_to_float_noise_have_advantage_exactly_zero(rewards):
    values = torch.tensor(rewards, dtype=torch.float64)
    ids = torch.zeros(len(rewards), dtype=torch.int64)
    for advantages in every_estimator(values, ids):
        assert advantages.tolist() == [0.0] * len(rewards)


def test_float32_noise_is_recognised_as_such():
    third = torch.tensor(0.3, dtype=torch.float32)
    rewards = torch.stack([third, torch.nextafter(third, torch.tensor(1.0))])
    for advantages in every_estimator(rewards, torch.zeros(2, dtype=torch.int64)):
        assert advantages.tolist() == [0.0, 0.0]


def test_an_equal_group_beside_a_mixed_one_stays_exactly_zero():
    rewards = torch.tensor([0.1, 0.1, 0.1, 0.0, 1.0], dtype=torch.float64)
    for advantages in every_estimator(rewards, torch.tensor([0, 0, 0, 1, 1])):
        assert advantages[:3].tolist() == [0.0, 0.0, 0.0]
        assert advantages[4] > 0 > advantages[3]


@pytest.mark.parametrize(("dtype", "gap"), [(torch.float64, 1e-7), (torch.float32, 1e-5)])
def test_a_small_but_real_difference_is_a_signal(dtype, gap):
    rewards = torch.tensor([1.0, 1.0 + gap], dtype=dtype)
    for advantages in every_estimator(rewards, torch.zeros(2, dtype=torch.int64)):
        assert advantages[1] > 0 > advantages[0]


def test_a_group_of_one_has_advantage_zero():
    for advantages in every_estimator(torch.tensor([1.0, 0.0]), torch.tensor([5, 9])):
        assert advantages.tolist() == [0.0, 0.0]


def test_a_batch_of_one_has_advantage_zero():
    for advantages in every_estimator(torch.tensor([1.0]), torch.tensor([3])):
        assert advantages.tolist() == [0.0]


@settings(**SETTINGS)
@given(batches, st.integers(-100, 100))
def test_a_shift_of_all_rewards_changes_nothing(batch, shift):
    rewards, ids = tensors(batch)
    for before, after in zip(
        every_estimator(rewards, ids), every_estimator(rewards + shift, ids), strict=True
    ):
        torch.testing.assert_close(before, after, rtol=1e-6, atol=1e-7)


@settings(**SETTINGS)
@given(batches, st.sampled_from([0.25, 3.0, 1000.0]))
def test_group_and_batch_scale_are_blind_to_the_unit_of_reward(batch, unit):
    rewards, ids = tensors(batch)
    for scale in ("group", "batch"):
        before = group_advantages(rewards, ids, scale=scale, eps=0.0)
        after = group_advantages(rewards * unit, ids, scale=scale, eps=0.0)
        torch.testing.assert_close(before, after, rtol=1e-6, atol=1e-7)


@settings(**SETTINGS)
@given(batches, st.randoms(use_true_random=False))
def test_the_order_of_rollouts_and_the_names_of_groups_do_not_matter(batch, random):
    order = list(range(len(batch)))
    random.shuffle(order)
    rewards, ids = tensors(batch)
    renamed = 1_000_003 * ids - 17
    for before, after in zip(
        every_estimator(rewards, ids), every_estimator(rewards[order], renamed[order]), strict=True
    ):
        torch.testing.assert_close(before[order], after, rtol=1e-6, atol=1e-7)


@settings(**SETTINGS)
@given(batches)
def test_advantages_of_each_group_sum_to_zero(batch):
    rewards, ids = tensors(batch)
    for advantages in every_estimator(rewards, ids):
        for group in ids.unique():
            assert float(advantages[ids == group].sum()) == pytest.approx(0.0, abs=1e-5)


def test_integer_rewards_and_float32_results():
    advantages = group_advantages(torch.tensor([1, 0]), torch.tensor([0, 0]), scale="none")
    assert advantages.dtype == torch.float32
    assert advantages.tolist() == [0.5, -0.5]


def test_no_rollouts_give_no_advantages():
    empty = torch.zeros(0, dtype=torch.float64)
    for advantages in every_estimator(empty, torch.zeros(0, dtype=torch.int64)):
        assert advantages.shape == (0,)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_is_refused_by_position(bad):
    with pytest.raises(ValueError, match=r"rewards\[1\] is (nan|inf)"):
        group_advantages(torch.tensor([0.0, bad]), torch.tensor([0, 0]))


def test_wrong_shapes_dtypes_and_scales_are_refused():
    rewards, ids = torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"rewards is torch\.bfloat16"):
        group_advantages(rewards.bfloat16(), ids)
    with pytest.raises(ValueError, match=r"rewards is .* of shape \[2, 1\]"):
        group_advantages(rewards[:, None], ids)
    with pytest.raises(ValueError, match=r"group_ids is torch\.float32"):
        group_advantages(rewards, rewards)
    with pytest.raises(ValueError, match=r"group_ids is .* of shape \[1\]"):
        group_advantages(rewards, ids[:1])
    with pytest.raises(ValueError, match="scale is 'std'"):
        group_advantages(rewards, ids, scale="std")


def test_soft_overlong_penalty_is_the_piecewise_line_of_dapo():
    lengths = torch.tensor([1, 80, 81, 90, 99, 100, 101, 5000])
    found = soft_overlong_penalty(lengths, max_length=100, buffer=20, penalty=2.0)
    assert found.tolist() == pytest.approx([0.0, 0.0, -0.1, -1.0, -1.9, -2.0, -2.0, -2.0])
    assert found[0] == 0.0 and found[-1] == -2.0


def test_soft_overlong_penalty_refuses_impossible_buffers():
    for buffer in (0, 101):
        with pytest.raises(ValueError, match="buffer"):
            soft_overlong_penalty(torch.tensor([1]), max_length=100, buffer=buffer)
    with pytest.raises(ValueError, match="penalty"):
        soft_overlong_penalty(torch.tensor([1]), max_length=100, buffer=10, penalty=-1.0)
