"""Weights for a sampler that disagrees with the trainer, and what is measured of it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_reference import SETTINGS, seeds

from rlvr.objectives.mismatch import (
    LEVELS,
    MODES,
    importance_weights,
    mismatch_weights,
    on_policy_sequences,
)

# Ratios of three sequences: products 1, 4 and 0.125; geometric means 1, 2 and 0.5.
RATIOS = torch.tensor([0.5, 2.0, 1.0, 4.0, 0.5, 0.5, 0.5], dtype=torch.float64)
IDS = torch.tensor([0, 0, 1, 1, 2, 2, 2])


def weigh(level, mode, low=0.4, high=3.0, ratios=RATIOS, ids=IDS):
    return mismatch_weights(
        ratios.log(), torch.zeros_like(ratios), ids, level=level, mode=mode, low=low, high=high
    )


@pytest.mark.parametrize(
    ("level", "mode", "expected"),
    [
        ("token", "truncate", [0.5, 2, 1, 3, 0.5, 0.5, 0.5]),
        ("token", "mask", [0.5, 2, 1, 0, 0.5, 0.5, 0.5]),
        ("token", "reject", [1, 1, 0, 0, 1, 1, 1]),
        ("sequence-product", "truncate", [1, 1, 3, 3, 0.4, 0.4, 0.4]),
        ("sequence-product", "mask", [1, 1, 0, 0, 0, 0, 0]),
        ("sequence-product", "reject", [1, 1, 0, 0, 0, 0, 0]),
        ("sequence-geometric", "truncate", [1, 1, 2, 2, 0.5, 0.5, 0.5]),
        ("sequence-geometric", "mask", [1, 1, 2, 2, 0.5, 0.5, 0.5]),
        ("sequence-geometric", "reject", [1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_weights_are_the_hand_computed_ones(level, mode, expected):
    weights, _ = weigh(level, mode)
    assert weights.tolist() == pytest.approx(expected)


def test_both_bounds_mask_on_their_side():
    assert weigh("token", "mask", low=0.6)[0].tolist() == pytest.approx([0, 2, 1, 0, 0, 0, 0])
    assert weigh("sequence-geometric", "reject", low=0.6)[0].tolist() == [1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("mode", MODES)
def test_what_is_measured_is_measured_before_truncation(mode):
    _, sums = weigh("token", mode)
    found = sums.metrics()
    squares = [0.25, 4, 1, 16, 0.25, 0.25, 0.25]
    assert found["mean"] == pytest.approx(9 / 7)
    assert found["largest"] == pytest.approx(4)
    assert found["effective"] == pytest.approx(81 / (7 * sum(squares)))
    assert found["chi2"] == pytest.approx(sum(squares) / 7 - 1)
    assert found["beyond"] == pytest.approx(1 / 7)
    assert found["gap"] == pytest.approx((math.log(2) * 5 + math.log(4)) / 7)
    assert found["kl"] == pytest.approx(sum(w - 1 - math.log(w) for w in RATIOS.tolist()) / 7)
    assert found["zeroed"] == pytest.approx({"truncate": 0, "mask": 1 / 7, "reject": 2 / 7}[mode])


def test_sequences_are_the_units_at_their_levels_and_empty_ones_are_none():
    ids = IDS * 2  # sequences 1 and 3 have no trained token
    _, sums = weigh("sequence-product", "mask", ids=ids)
    found = sums.metrics()
    assert float(sums.units) == 3
    assert found["mean"] == pytest.approx(5.125 / 3)
    assert found["beyond"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", MODES)
def test_nothing_changes_where_the_two_agree(level, mode, dtype):
    logprobs = -torch.rand(100, dtype=dtype, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(100) // 7
    weights, sums = mismatch_weights(logprobs, logprobs, ids, level=level, mode=mode, high=1.0)
    assert torch.equal(weights, torch.ones(100, dtype=dtype))
    expected = {"gap": 0, "kl": 0, "mean": 1, "largest": 1, "effective": 1, "chi2": 0}
    assert sums.metrics() == expected | {"beyond": 0, "zeroed": 0}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", MODES)
@given(seed=seeds, cut=st.integers(0, 6))
@settings(**SETTINGS | {"max_examples": 15})
def test_micro_batches_add_up(level, mode, seed, cut):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 6, (30,), generator=generator)
    trainer, sampler = torch.randn(2, 30, generator=generator, dtype=torch.float64)
    options = {"level": level, "mode": mode, "low": 0.5, "high": 2.0}
    weights, whole = mismatch_weights(trainer, sampler, ids, **options)
    first, second = ids < cut, ids >= cut
    parts = [mismatch_weights(trainer[s], sampler[s], ids[s], **options) for s in (first, second)]
    assert torch.allclose(weights[first], parts[0][0], rtol=1e-12)
    assert torch.allclose(weights[second], parts[1][0], rtol=1e-12)
    assert (parts[0][1] + parts[1][1]).metrics() == pytest.approx(whole.metrics(), rel=1e-12)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exploded_ratios_stay_finite(level, mode, dtype):
    trainer = torch.tensor([-1.0, -1.0, -1e4, -1e4], dtype=dtype)
    sampler = torch.tensor([-1e4, -1e4, -1.0, -1.0], dtype=dtype)
    ids = torch.tensor([0, 0, 1, 1])
    for high in (2.0, math.inf):
        weights, sums = mismatch_weights(trainer, sampler, ids, level=level, mode=mode, high=high)
        assert weights.isfinite().all()
        assert all(math.isfinite(value) for value in sums.metrics().values())


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", MODES)
def test_no_tokens_are_no_mismatch(level, mode):
    empty = torch.zeros(0)
    weights, sums = mismatch_weights(
        empty, empty, torch.zeros(0, dtype=torch.int64), level=level, mode=mode, high=2.0
    )
    assert weights.shape == (0,)
    assert sums.metrics()["effective"] == 1.0 and sums.metrics()["beyond"] == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "word"}, "level is 'word': expected one of token, sequence-product"),
        ({"mode": "drop"}, "mode is 'drop'"),
        ({"high": 0.9}, "expected 0 <= low <= 1 <= high"),
        ({"low": 1.1}, "expected 0 <= low <= 1 <= high"),
    ],
)
def test_choices_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        weigh(**{"level": "token", "mode": "mask"} | changes)


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_a_logprob_that_is_not_finite_is_refused(bad):
    trainer, sampler = torch.zeros(2), torch.tensor([0.0, bad])
    with pytest.raises(ValueError, match="1 of 2 log-ratios"):
        mismatch_weights(trainer, sampler, torch.zeros(2, dtype=torch.int64),
                         level="token", mode="mask", high=2.0)  # fmt: skip


@given(seeds)
@settings(**SETTINGS)
def test_token_truncation_is_importance_weights(seed):
    generator = torch.Generator().manual_seed(seed)
    trainer, sampler = torch.randn(2, 20, generator=generator)
    ids = torch.zeros(20, dtype=torch.int64)
    weights, _ = mismatch_weights(trainer, sampler, ids, level="token", mode="truncate", high=2.0)
    assert torch.equal(weights, importance_weights(trainer, sampler, cap=2.0))


def test_stale_sequences_with_a_negative_advantage_are_dropped():
    sampler = torch.zeros(7)
    # Mean gaps of 0.5, 0.5, 0.1 and 9; advantages -1, 1, -1 and 0.
    policy = torch.tensor([-1.0, 0.0, -0.5, -0.5, -0.1, -0.1, -9.0])
    advantages = torch.tensor([-1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 0.0])
    ids = torch.tensor([0, 0, 1, 1, 2, 2, 3])
    keep = on_policy_sequences(policy, sampler, advantages, ids, threshold=0.2)
    assert keep.tolist() == [False, False, True, True, True, True, True]
    with pytest.raises(ValueError, match="threshold is 0"):
        on_policy_sequences(policy, sampler, advantages, ids, threshold=0)
