"""What holds for every policy loss: at ratio 1, under permutation, split and extreme inputs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_reference import lengths, pack, padded, seeds, sequence_ids

from rlvr.objectives.aggregation import Totals, aggregate
from rlvr.objectives.policy import PolicyTokens, policy_loss

SETTINGS = {"max_examples": 15, "deadline": None}
SEQUENCE_LEVEL = ["gspo", "gspo-token", "rloo", "gmpo", "vespo"]
SELECTING = ["clip-cov", "kl-cov"]
ALL = [
    *("clip", "cispo", "sapo", "dppo-tv", "dppo-kl", "reinforce", "importance", "dro"),
    *SEQUENCE_LEVEL,
    *SELECTING,
]
# Losses whose gradient at ratio 1 is A grad log pi for each token, under any aggregation; gspo and
# gmpo average it over a sequence, and rloo's is that of the sum.
BY_TOKEN = [name for name in ALL if name not in ("gspo", "gmpo", "rloo")]


def tokens_of(batch, **changes):
    mask = batch["mask"]
    given = {
        "logprobs": pack(mask, batch["new"]),
        "old_logprobs": pack(mask, batch["old"]),
        "advantages": pack(mask, batch["advantages"]),
        "sequence_ids": sequence_ids(mask),
    }
    return PolicyTokens(**(given | changes))


def with_selection(name, tokens, pattern=3):
    """Every third token selected, for the losses that take a selection."""
    if name not in SELECTING:
        return tokens
    return replaced(tokens, selected=torch.arange(len(tokens)) % pattern == 0)


def replaced(tokens, **changes):
    fields = ("logprobs", "old_logprobs", "advantages", "sequence_ids", "selected")
    return PolicyTokens(**({name: getattr(tokens, name) for name in fields} | changes))


def loss_and_gradient(name, tokens, how="token-mean", totals=None, **options):
    leaf = tokens.logprobs.detach().clone().requires_grad_()
    options = ({"beta": 0.3} if name == "dro" else {}) | options
    per_token, sums = policy_loss(name, replaced(tokens, logprobs=leaf), **options)
    totals = totals or Totals(tokens=len(leaf), sequences=tokens.sequences)
    loss = aggregate(per_token, tokens.sequence_ids, how=how, totals=totals, normaliser=10.0)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient, sums


@pytest.mark.parametrize("name", BY_TOKEN)
@given(lengths=lengths, seed=seeds)
@settings(**SETTINGS)
def test_on_policy_every_loss_is_the_plain_policy_gradient(name, lengths, seed):
    batch = padded(lengths, seed)
    tokens = tokens_of(batch, old_logprobs=pack(batch["mask"], batch["new"]))
    if name in SELECTING:  # nothing selected: nothing restrained
        tokens = replaced(tokens, selected=torch.zeros(len(tokens), dtype=torch.bool))
    _, gradient, sums = loss_and_gradient(name, tokens)
    expected = -tokens.advantages / max(len(tokens), 1)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-15)
    assert float(sums["ratio"]) == len(tokens)
    assert float(sums["approx_kl"]) == 0.0


@pytest.mark.parametrize(("name", "how"), [("gspo", "mean"), ("gmpo", "mean"), ("rloo", "sum")])
@given(lengths=lengths, seed=seeds)
@settings(**SETTINGS)
def test_on_policy_sequence_losses_are_policy_gradients_of_sequences(name, how, lengths, seed):
    batch = padded(lengths, seed)
    tokens = tokens_of(batch, old_logprobs=pack(batch["mask"], batch["new"]))
    _, found, _ = loss_and_gradient(name, tokens, "seq-mean-token-mean")
    _, expected, _ = loss_and_gradient("reinforce", tokens, f"seq-mean-token-{how}")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ALL)
@given(lengths=lengths, seed=seeds)
@settings(**SETTINGS)
def test_the_order_of_tokens_changes_nothing(name, lengths, seed):
    tokens = with_selection(name, tokens_of(padded(lengths, seed)))
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))
    shuffled = replaced(
        tokens,
        **{
            field: getattr(tokens, field)[order]
            for field in ("logprobs", "old_logprobs", "advantages", "sequence_ids", "selected")
            if getattr(tokens, field) is not None
        },
    )
    loss, gradient, sums = loss_and_gradient(name, tokens, "seq-mean-token-mean")
    loss_2, gradient_2, sums_2 = loss_and_gradient(
        name, shuffled, "seq-mean-token-mean", Totals(len(tokens), tokens.sequences)
    )
    torch.testing.assert_close(loss_2, loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient_2, gradient[order], rtol=1e-11, atol=1e-14)
    for key, value in sums.items():
        torch.testing.assert_close(sums_2[key], value, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("how", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum-norm"])
@pytest.mark.parametrize("name", ALL)
@given(lengths=lengths, seed=seeds, data=st.data())
@settings(**SETTINGS)
def test_micro_batches_sum_to_the_whole(name, how, lengths, seed, data):
    tokens = with_selection(name, tokens_of(padded(lengths, seed)))
    cut = data.draw(st.integers(0, len(lengths)))
    totals = Totals(tokens=len(tokens), sequences=len(lengths))
    loss, gradient, sums = loss_and_gradient(name, tokens, how, totals)
    parts = []
    for side in (tokens.sequence_ids < cut, tokens.sequence_ids >= cut):
        ids = tokens.sequence_ids[side]
        part = replaced(
            tokens,
            logprobs=tokens.logprobs[side],
            old_logprobs=tokens.old_logprobs[side],
            advantages=tokens.advantages[side],
            sequence_ids=ids - ids.min() if len(ids) else ids,
            selected=None if tokens.selected is None else tokens.selected[side],
        )
        parts.append(loss_and_gradient(name, part, how, totals))
    torch.testing.assert_close(parts[0][0] + parts[1][0], loss, rtol=1e-12, atol=1e-14)
    joined = torch.cat([parts[0][1], parts[1][1]])
    torch.testing.assert_close(joined, gradient, rtol=1e-12, atol=1e-14)
    for key, value in sums.items():
        torch.testing.assert_close(parts[0][2][key] + parts[1][2][key], value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_extreme_log_ratios_stay_finite(name, dtype):
    """Log-ratios up to 1e4 either way, both signs of the advantage, in sequences of 1 and 2."""
    gaps = torch.tensor([0.0, 1e-8, 1.0, 19.0, 21.0, 88.0, 90.0, 700.0, 1e4], dtype=dtype)
    gap = torch.cat([gaps, -gaps])
    old, new = -0.01 - gap.clamp(min=0), -0.01 + gap.clamp(max=0)
    old, new = (torch.cat([side, side]) for side in (old, new))
    count = len(old)
    for advantage in (2.0, -2.0, 0.0):
        for ids in (torch.arange(count), torch.arange(count) // 2):
            tokens = PolicyTokens(
                logprobs=new,
                old_logprobs=old,
                advantages=torch.full_like(new, advantage),
                sequence_ids=ids,
            )
            loss, gradient, sums = loss_and_gradient(name, with_selection(name, tokens))
            assert loss.isfinite() and gradient.isfinite().all(), (advantage, loss, gradient)
            assert all(value.isfinite() for value in sums.values()), sums


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_an_empty_micro_batch_gives_zero(name, dtype):
    empty = torch.zeros(0, dtype=dtype)
    tokens = PolicyTokens(
        logprobs=empty,
        old_logprobs=empty,
        advantages=empty,
        sequence_ids=torch.zeros(0, dtype=torch.int64),
    )
    loss, gradient, sums = loss_and_gradient(name, with_selection(name, tokens))
    assert loss == 0 and gradient.shape == (0,) and loss.dtype == dtype
    assert all(value == 0 and value.dtype == torch.float64 for value in sums.values())


@pytest.mark.parametrize("name", ALL)
@given(lengths=lengths, seed=seeds)
@settings(**SETTINGS)
def test_float32_agrees_with_float64(name, lengths, seed):
    batch = padded(lengths, seed)
    batch = {
        key: value.float().double() if value.is_floating_point() else value
        for key, value in batch.items()
    }
    tokens = with_selection(name, tokens_of(batch))
    single = replaced(
        tokens,
        **{k: getattr(tokens, k).float() for k in ("logprobs", "old_logprobs", "advantages")},
    )
    _, gradient, _ = loss_and_gradient(name, tokens, "seq-mean-token-mean")
    _, gradient_32, _ = loss_and_gradient(name, single, "seq-mean-token-mean")
    assert gradient_32.dtype == torch.float32
    # Inputs drawn at random do not sit within rounding of a bound, where the two may differ.
    scale = float(gradient.abs().max()) if len(gradient) else 0.0
    torch.testing.assert_close(gradient_32.double(), gradient, rtol=2e-5, atol=2e-5 * scale)
