"""The family `policy/<name>`: what every member takes, gives and refuses."""

import pytest
import torch

from rlvr.errors import ConfigError, UnknownNameError
from rlvr.objectives.policy import PolicyTokens, clipped_policy_loss, policy_loss
from rlvr.registry import objectives


def tokens_of(n=5, dtype=torch.float64, **changes):
    generator = torch.Generator().manual_seed(n)
    draw = torch.randn(3, n, generator=generator, dtype=dtype)
    given = {
        "logprobs": (draw[0] - 3).requires_grad_(),
        "old_logprobs": draw[0] - 3 + 0.4 * draw[1],
        "advantages": draw[2],
        "sequence_ids": torch.arange(n) % 2,
    }
    return PolicyTokens(**(given | changes))


def test_clip_is_the_clipped_surrogate_behind_the_familys_signature():
    tokens = tokens_of(50)
    loss, sums = policy_loss("clip", tokens, clip_low=0.1, clip_high=0.3, dual_clip=2.0)
    expected, diagnostics = clipped_policy_loss(
        tokens.logprobs,
        tokens.old_logprobs,
        tokens.advantages,
        clip_low=0.1,
        clip_high=0.3,
        dual_clip=2.0,
    )
    assert torch.equal(loss, expected)
    assert {name: float(value) / 50 for name, value in sums.items()} == diagnostics.means()
    assert all(value.dtype == torch.float64 and value.dim() == 0 for value in sums.values())


def test_unknown_names_and_options_are_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="policy/clip"):
        policy_loss("clop", tokens_of())
    with pytest.raises(ConfigError, match=r"policy loss 'clip' has no option 'clip_hi'.*clip_high"):
        policy_loss("clip", tokens_of(), clip_hi=0.28)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"advantages": torch.zeros(4)}, r"advantages has shape \[4\]"),
        ({"sequence_ids": torch.zeros(5)}, "sequence_ids is torch.float32"),
        ({"entropy": torch.zeros(5, dtype=torch.bfloat16)}, "entropy is torch.bfloat16"),
        ({"selected": torch.zeros(5)}, "selected is torch.float32"),
        ({"selected": torch.zeros(5, 1, dtype=torch.bool)}, r"selected is .* \[5, 1\]"),
    ],
)
def test_wrong_shapes_and_dtypes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tokens_of(**changes)


@pytest.mark.parametrize("name", ["clip", "gspo-token", "cispo", "dppo-tv", "importance"])
def test_only_the_logprobs_carry_a_gradient(name):
    logprobs = torch.randn(5, dtype=torch.float64, requires_grad=True)
    tokens = tokens_of(5, logprobs=logprobs, old_logprobs=logprobs, advantages=logprobs * 1.0)
    loss, _ = policy_loss(name, tokens)
    loss.sum().backward()
    assert torch.allclose(logprobs.grad, -logprobs.detach())  # ratio 1: minus the advantage


def test_a_loss_that_reduces_is_refused():
    objectives.register("policy/reduced", lambda tokens: (tokens.logprobs.sum(), {}))
    with pytest.raises(ValueError, match="one value a token"):
        policy_loss("reduced", tokens_of())


def test_a_selection_that_the_loss_would_ignore_is_refused():
    chosen = torch.zeros(5, dtype=torch.bool)
    with pytest.raises(ValueError, match="policy loss 'clip' takes no selection"):
        policy_loss("clip", tokens_of(selected=chosen))
    policy_loss("kl-cov", tokens_of(selected=chosen))


@pytest.mark.parametrize("name", ["clip-cov", "kl-cov"])
def test_a_loss_that_needs_a_selection_says_so(name):
    with pytest.raises(ValueError, match=f"'{name}' needs `selected`.*select_tokens"):
        policy_loss(name, tokens_of())
