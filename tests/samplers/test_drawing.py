"""Draws follow the distribution that they say they follow, from their own seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from rlvr.samplers import drawing
from rlvr.samplers.drawing import draw, seed_array, truncate, uniforms
from rlvr.types import SamplingParams

LAST_BELOW_ONE = 1 - 2.0**-52


def random_logits(rows: int, vocabulary: int, seed: int = 0, scale: float = 2.0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * scale


@pytest.mark.parametrize("step", [0, 1, 1000])
def test_numbers_of_neighbouring_seeds_are_uniform_and_uncorrelated(step: int) -> None:
    numbers = uniforms(seed_array(range(20_000)), step)
    assert numbers.min() >= 0 and numbers.max() < 1
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03


def test_numbers_of_one_seed_are_uniform_and_uncorrelated() -> None:
    seeds = seed_array([7])
    numbers = np.array([uniforms(seeds, step)[0] for step in range(5_000)])
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.05


def test_a_seed_one_increment_on_is_not_the_same_stream_shifted() -> None:
    gamma = int(drawing._GAMMA)
    shifted = [uniforms(seed_array([gamma]), step)[0] for step in range(3)]
    plain = [uniforms(seed_array([0]), step + 1)[0] for step in range(3)]
    assert not set(shifted) & set(plain)


def test_seeds_of_any_size_and_sign_are_taken() -> None:
    numbers = uniforms(seed_array([-1, 2**64 - 1, 2**63, 2**70 + 5, 5]), 0)
    assert numbers[0] == numbers[1]
    assert numbers[3] == numbers[4]
    assert len(set(numbers)) == 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_with_their_probability(temperature: float) -> None:
    logits = random_logits(1, 8)
    count = 40_000
    numbers = uniforms(seed_array(range(count)), 3)
    tokens, _ = draw(logits.expand(count, -1), SamplingParams(temperature=temperature), numbers)
    expected = (logits[0].double() / temperature).softmax(-1).numpy() * count
    observed = torch.bincount(tokens, minlength=8).numpy()
    assert stats.chisquare(observed, expected).pvalue > 1e-3


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 1000),
    top_k=st.integers(1, 12),
    top_p=st.floats(0.05, 1.0),
    temperature=st.floats(0.3, 3.0),
)
def test_truncation_is_that_of_transformers(
    seed: int, top_k: int, top_p: float, temperature: float
) -> None:
    scores = random_logits(4, 10, seed) / temperature
    expected = TopKLogitsWarper(top_k)(None, scores)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    assert torch.equal(truncate(scores, top_k=top_k, top_p=top_p), expected)


def test_the_likeliest_token_always_stays() -> None:
    kept = truncate(random_logits(16, 10), top_k=0, top_p=1e-9).isfinite().sum(-1)
    assert kept.tolist() == [1] * 16


def test_logprobs_are_those_of_the_truncated_distribution() -> None:
    logits = random_logits(64, 12)
    params = SamplingParams(temperature=0.7, top_k=4, top_p=0.9)
    tokens, logprobs = draw(logits, params, uniforms(seed_array(range(64)), 0))
    kept = truncate(logits.double() / 0.7, top_k=4, top_p=0.9).log_softmax(-1)
    expected = kept.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(logprobs.double(), expected, atol=1e-6)


@pytest.mark.parametrize("number", [0.0, LAST_BELOW_ONE])
def test_a_token_of_no_probability_is_never_drawn(number: float) -> None:
    logits = torch.full((3, 6), -torch.inf)
    logits[0, 2], logits[1, 0], logits[2, 5] = 1.0, -40.0, 30.0
    tokens, logprobs = draw(logits, SamplingParams(), np.full(3, number))
    assert tokens.tolist() == [2, 0, 5]
    assert logprobs.tolist() == [0.0, 0.0, 0.0]


def test_temperature_zero_is_greedy_with_untempered_logprobs() -> None:
    logits = random_logits(5, 9)
    params = SamplingParams(temperature=0.0, top_k=1, top_p=0.1)
    tokens, logprobs = draw(logits, params, np.zeros(5))
    assert torch.equal(tokens, logits.argmax(-1))
    assert torch.allclose(logprobs, logits.log_softmax(-1).amax(-1))


def test_working_on_a_few_rows_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, numbers = random_logits(33, 7), uniforms(seed_array(range(33)), 1)
    params = SamplingParams(temperature=0.8, top_p=0.9)
    whole = draw(logits, params, numbers)
    monkeypatch.setattr(drawing, "_SCRATCH", 20)
    parts = draw(logits, params, numbers)
    assert torch.equal(whole[0], parts[0]) and torch.equal(whole[1], parts[1])


def test_a_nan_shows_in_the_logprob() -> None:
    logits = random_logits(2, 5)
    logits[1, 3] = torch.nan
    _, logprobs = draw(logits, SamplingParams(), np.full(2, 0.5))
    assert logprobs.isnan().tolist() == [False, True]
