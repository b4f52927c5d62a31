"""Selections over the whole batch, against the papers' definitions written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_reference import SETTINGS, seeds

from rlvr.errors import ConfigError, UnknownNameError
from rlvr.objectives.policy import PolicyTokens
from rlvr.objectives.token_selection import covariances, keep_only, select_tokens
from rlvr.registry import objectives


def tokens_of(n, seed, **changes):
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(3, n, generator=generator, dtype=torch.float64)
    given = {
        "logprobs": draw[0] - 3,
        "old_logprobs": draw[0] - 3 + 0.3 * draw[1],
        "advantages": draw[2],
        "sequence_ids": torch.zeros(n, dtype=torch.int64),
        "entropy": torch.rand(n, generator=generator, dtype=torch.float64),
    }
    return PolicyTokens(**(given | changes))


def test_covariances_are_the_hand_computed_ones_and_sum_to_the_covariance():
    tokens = tokens_of(
        3,
        0,
        logprobs=torch.tensor([-1.0, -2.0, -6.0]),
        old_logprobs=torch.zeros(3),
        advantages=torch.tensor([1.0, 0.0, -1.0]),
        entropy=torch.zeros(3),
    )
    assert covariances(tokens).tolist() == [2.0, 0.0, 3.0]
    tokens = tokens_of(50, 1)
    expected = np.cov(tokens.advantages, tokens.logprobs, bias=True)[0, 1]
    assert float(covariances(tokens).mean()) == pytest.approx(expected)


@given(st.integers(1, 60), st.floats(0.01, 1), seeds)
@settings(**SETTINGS)
def test_kl_cov_takes_the_largest_covariances(n, share, seed):
    tokens = tokens_of(n, seed)
    chosen = select_tokens("kl-cov", tokens, seed=0, share=share)
    assert int(chosen.sum()) == max(int(share * n), 1)
    found = covariances(tokens)
    if not chosen.all():
        assert found[chosen].min() >= found[~chosen].max()


@given(st.integers(1, 200), st.floats(0.001, 1), seeds)
@settings(**SETTINGS)
def test_clip_cov_draws_its_share_from_those_within_the_bounds(n, share, seed):
    tokens = tokens_of(n, seed)
    options = {"share": share, "low": 0.2, "high": 1.5}
    chosen = select_tokens("clip-cov", tokens, seed=seed, **options)
    found = covariances(tokens)
    ratio = (tokens.logprobs - tokens.old_logprobs).exp()
    unclipped = torch.where(tokens.advantages > 0, ratio <= 1.2, ratio >= 0.8)
    eligible = (found > 0.2) & (found < 1.5) & unclipped
    assert not (chosen & ~eligible).any()
    assert int(chosen.sum()) == min(max(int(share * n), 1), int(eligible.sum()))
    assert torch.equal(chosen, select_tokens("clip-cov", tokens, seed=seed, **options))


def test_clip_covs_draw_depends_on_the_seed_and_on_nothing_global():
    tokens = tokens_of(2000, 0)
    options = {"share": 0.01, "low": 0.1, "high": 5.0}
    torch.manual_seed(1)
    first = select_tokens("clip-cov", tokens, seed=1, **options)
    torch.manual_seed(2)
    assert torch.equal(first, select_tokens("clip-cov", tokens, seed=1, **options))
    assert not torch.equal(first, select_tokens("clip-cov", tokens, seed=2, **options))


@given(st.integers(1, 60), st.floats(0.01, 1), seeds)
@settings(**SETTINGS)
def test_top_entropy_keeps_what_is_at_or_above_the_quantile(n, share, seed):
    tokens = tokens_of(n, seed)
    keep = select_tokens("top-entropy", tokens, seed=0, share=share)
    threshold = np.quantile(tokens.entropy.numpy(), 1 - share)
    clear = (tokens.entropy - threshold).abs() > 1e-12
    assert torch.equal(keep[clear], (tokens.entropy >= threshold)[clear])
    assert keep[tokens.entropy.argmax()]


def test_all_ties_are_kept_and_share_one_keeps_everything():
    same = tokens_of(10, 0, entropy=torch.full((10,), 0.3, dtype=torch.float64))
    assert select_tokens("top-entropy", same, seed=0, share=0.2).all()
    assert select_tokens("top-entropy", tokens_of(10, 0), seed=0, share=1.0).all()


def test_keep_only_cuts_value_and_gradient_even_of_what_is_not_finite():
    values = torch.tensor([1.0, float("inf"), 3.0], requires_grad=True)
    kept = keep_only(values, torch.tensor([True, False, False]))
    kept.sum().backward()
    assert kept.tolist() == [1, 0, 0] and values.grad.tolist() == [1, 0, 0]


@pytest.mark.parametrize("name", ["clip-cov", "kl-cov", "top-entropy"])
def test_an_empty_batch_selects_nothing(name):
    empty = torch.zeros(0)
    tokens = tokens_of(0, 0, logprobs=empty, old_logprobs=empty, advantages=empty, entropy=empty)
    assert select_tokens(name, tokens, seed=0).shape == (0,)


@pytest.mark.parametrize("name", ["clip-cov", "kl-cov", "top-entropy"])
@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(name, share):
    with pytest.raises(ValueError, match="share is"):
        select_tokens(name, tokens_of(3, 0), seed=0, share=share)


def test_what_is_missing_or_unknown_is_named():
    with pytest.raises(ValueError, match="needs the tokens' entropy"):
        select_tokens("top-entropy", tokens_of(3, 0, entropy=None), seed=0)
    with pytest.raises(ConfigError, match="no option 'ratio'"):
        select_tokens("kl-cov", tokens_of(3, 0), seed=0, ratio=0.1)
    with pytest.raises(UnknownNameError, match="token-selection/kl-cov"):
        select_tokens("kl-cow", tokens_of(3, 0), seed=0)
    objectives.register("token-selection/numbers", lambda tokens, seed: tokens.advantages)
    with pytest.raises(ValueError, match=r"expected torch.bool of shape \[3\]"):
        select_tokens("numbers", tokens_of(3, 0), seed=0)
