import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import rlvr.objectives.logprobs as module
from rlvr.objectives.logprobs import token_logprobs, token_logprobs_and_entropy
from rlvr.objectives.supervised import cross_entropy

N, V = 13, 11


@pytest.fixture(params=[1, 3 * V, 1 << 20], ids=["row by row", "three rows", "all at once"])
def scratch(request, monkeypatch):
    monkeypatch.setitem(module._SCRATCH, "cpu", request.param)


def logits_and_targets(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(N, V, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.randint(0, V, (N,), generator=generator)


def plain(logits, targets, temperature):
    wide = logits if logits.dtype == torch.float64 else logits.float()
    logp = torch.log_softmax(wide / temperature, -1)
    return logp[torch.arange(len(targets)), targets], -(logp.exp() * logp).sum(-1)


def test_uniform_logits_have_log_v_and_entropy_log_v():
    logprobs, entropy = token_logprobs_and_entropy(torch.full((2, 8), 5.0), torch.tensor([0, 7]))
    assert logprobs.tolist() == pytest.approx([-math.log(8)] * 2)
    assert entropy.tolist() == pytest.approx([math.log(8)] * 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_values_and_gradients_equal_log_softmax_of_the_whole(scratch, dtype, temperature):
    logits, targets = logits_and_targets(dtype)
    weights = torch.linspace(-1, 2, 2 * N).to(
        torch.float64 if dtype.itemsize == 8 else torch.float32
    )
    outcomes = []
    for function in (plain, token_logprobs_and_entropy):
        leaf = logits.clone().requires_grad_()
        logprobs, entropy = function(leaf, targets, temperature)
        (gradient,) = torch.autograd.grad(torch.cat([logprobs, entropy]) @ weights, leaf)
        outcomes.append((logprobs, entropy, gradient))
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    for expected, found in zip(outcomes[0][:2], outcomes[1][:2], strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert outcomes[1][2].dtype == dtype
    tolerance = 1e-2 if dtype == torch.bfloat16 else tolerance
    torch.testing.assert_close(outcomes[1][2], outcomes[0][2], rtol=tolerance, atol=tolerance)


def test_gradients_agree_with_finite_differences(scratch):
    logits, targets = logits_and_targets()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: token_logprobs(z, targets, 0.8), logits)
    assert torch.autograd.gradcheck(lambda z: token_logprobs_and_entropy(z, targets, 0.8), logits)
    assert torch.autograd.gradcheck(
        lambda z: token_logprobs_and_entropy(z, targets, 0.8)[1], logits
    )


def test_confident_tokens_keep_the_digits_of_their_small_logprobs():
    logits = torch.tensor([[37.3, 27.1, 26.4]])
    exact, exact_entropy = plain(logits.double(), torch.tensor([0]), 1.0)
    logprobs, entropy = token_logprobs_and_entropy(logits, torch.tensor([0]))
    assert logprobs.item() == pytest.approx(float(exact), rel=2e-3)  # about -5.6e-5
    assert entropy.item() == pytest.approx(float(exact_entropy), rel=2e-3)


def test_the_chunk_size_changes_no_bit(monkeypatch):
    logits, targets = logits_and_targets(torch.float32)
    results = []
    for size in (1, 5 * V, 1 << 20):
        monkeypatch.setitem(module._SCRATCH, "cpu", size)
        leaf = logits.clone().requires_grad_()
        logprobs, entropy = token_logprobs_and_entropy(leaf, targets)
        (gradient,) = torch.autograd.grad(logprobs.sum() + entropy.sum(), leaf)
        results.append((logprobs, entropy, gradient))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_both_functions_give_the_same_logprobs():
    logits, targets = logits_and_targets(torch.float32)
    alone = token_logprobs(logits, targets, 0.9)
    assert torch.equal(alone, token_logprobs_and_entropy(logits, targets, 0.9)[0])


def test_tokens_that_cannot_occur_leave_entropy_and_gradients_finite():
    logits = torch.tensor([[0.0, 0.0, -math.inf, -math.inf]], requires_grad=True)
    logprobs, entropy = token_logprobs_and_entropy(logits, torch.tensor([1]))
    (logprobs + entropy).sum().backward()
    assert logprobs.item() == pytest.approx(-math.log(2))
    assert entropy.item() == pytest.approx(math.log(2))
    assert logits.grad[0].tolist() == pytest.approx([-0.5, 0.5, 0.0, 0.0])


class LargestFloat32(TorchDispatchMode):
    """Remembers how many elements the largest float32 tensor had that any operation made."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32:
                self.elements = max(self.elements, tensor.numel())
        return result


def test_no_float32_tensor_of_the_logits_size_is_made_in_either_pass(monkeypatch):
    monkeypatch.setitem(module._SCRATCH, "cpu", 2 * V)
    logits, targets = logits_and_targets(torch.bfloat16)
    logits.requires_grad_()
    with LargestFloat32() as largest:
        logprobs, entropy = token_logprobs_and_entropy(logits, targets, 0.7)
        (logprobs.sum() + entropy.sum()).backward()
    assert largest.elements == 2 * V
    with LargestFloat32() as largest:
        plain(logits, targets, 0.7)
    assert largest.elements == N * V  # the measure sees what it should


def test_no_tokens_give_no_logprobs_and_a_zero_gradient():
    logits = torch.zeros(0, V, requires_grad=True)
    logprobs = token_logprobs(logits, torch.zeros(0, dtype=torch.int64))
    logprobs.sum().backward()
    assert logprobs.shape == (0,) and logits.grad.shape == (0, V)


def test_wrong_input_is_refused_by_name():
    logits, targets = logits_and_targets()
    with pytest.raises(ValueError, match="logits is"):
        token_logprobs(logits[0], targets)
    with pytest.raises(ValueError, match=r"targets is .* of shape \[12\]"):
        token_logprobs(logits, targets[1:])
    with pytest.raises(ValueError, match="temperature is 0"):
        token_logprobs(logits, targets, 0.0)


def test_cross_entropy_is_the_usual_supervised_loss():
    logits, targets = logits_and_targets()
    losses = cross_entropy(token_logprobs(logits, targets))
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(losses, expected)
