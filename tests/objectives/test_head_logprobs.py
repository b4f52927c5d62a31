"""The fused output projection: equal to logits and log_softmax, without ever holding the logits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import rlvr.objectives.head as module
from rlvr.objectives.head import Projection, head_logprobs

N, H, V = 13, 5, 11
PROJECTIONS = {
    "plain": Projection(),
    "temperature": Projection(temperature=0.7),
    "scale": Projection(scale=0.25),
    "softcap": Projection(softcap=3.0, temperature=1.3, scale=1.5),
}


@pytest.fixture(params=[1, 3, 100], ids=["row by row", "three rows", "all at once"])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setitem(module._CHUNK, "cpu", request.param * V)
    return int(request.param)


def inputs(dtype: torch.dtype = torch.float64, bias: bool = True) -> dict[str, Tensor | None]:
    generator = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return {"hidden": numbers(N, H), "weight": numbers(V, H), "bias": numbers(V) if bias else None}


def targets() -> Tensor:
    return torch.randint(0, V, (N,), generator=torch.Generator().manual_seed(1))


def plain(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, projection: Projection
) -> tuple[Tensor, Tensor]:
    logits = hidden @ weight.T + (0 if bias is None else bias)
    logits = (logits if logits.dtype == torch.float64 else logits.float()) * projection.scale
    if projection.softcap is not None:
        logits = projection.softcap * torch.tanh(logits / projection.softcap)
    logp = torch.log_softmax(logits / projection.temperature, -1)
    return logp[torch.arange(N), targets()], -(logp.exp() * logp).sum(-1)


def fused(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, projection: Projection
) -> tuple[Tensor, Tensor]:
    logprobs, entropy = head_logprobs(
        hidden, weight, targets(), bias=bias, projection=projection, entropy="gradient"
    )
    assert entropy is not None
    return logprobs, entropy


def outcome(
    function: Callable[..., tuple[Tensor, Tensor]],
    given: dict[str, Tensor | None],
    projection: Projection,
    trained: tuple[str, ...] = ("hidden", "weight", "bias"),
) -> list[Tensor]:
    """Logprobs, entropies and the gradients of a weighted sum of both."""
    leaves = {
        name: None if value is None else value.clone().requires_grad_(name in trained)
        for name, value in given.items()
    }
    logprobs, entropy = function(**leaves, projection=projection)
    weights = torch.linspace(-1, 2, 2 * N, dtype=logprobs.dtype)
    wanted = [leaf for leaf in leaves.values() if leaf is not None and leaf.requires_grad]
    gradients = torch.autograd.grad(torch.cat([logprobs, entropy]) @ weights, wanted)
    return [logprobs.detach(), entropy.detach(), *gradients]


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_those_of_the_logits(rows: int, name: str, bias: bool) -> None:
    given, projection = inputs(bias=bias), PROJECTIONS[name]
    expected, found = (outcome(f, given, projection) for f in (plain, fused))
    assert len(found) == (5 if bias else 4)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("trained", [("hidden",), ("weight",), ("hidden", "weight")])
def test_only_what_is_trained_has_a_gradient(rows: int, trained: tuple[str, ...]) -> None:
    given, projection = inputs(), PROJECTIONS["softcap"]
    expected, found = (outcome(f, given, projection, trained) for f in (plain, fused))
    assert len(found) == 2 + len(trained)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PROJECTIONS)
@pytest.mark.parametrize("mode", ["none", "value"])
def test_a_frozen_head_has_the_gradient_made_on_the_way_forward(
    rows: int, name: str, mode: module.EntropyMode
) -> None:
    given, projection = inputs(), PROJECTIONS[name]
    hidden = given["hidden"].clone().requires_grad_()
    logprobs, entropy = head_logprobs(
        hidden, given["weight"], targets(), bias=given["bias"], projection=projection, entropy=mode
    )
    assert "Head" in type(logprobs.grad_fn).__name__
    assert len(logprobs.grad_fn.saved_tensors) == 1
    assert (entropy is None) == (mode == "none")
    weights = torch.linspace(-1, 2, N, dtype=torch.float64)
    (found,) = torch.autograd.grad(logprobs @ weights, hidden)
    leaf = given["hidden"].clone().requires_grad_()
    (expected,) = torch.autograd.grad(
        plain(leaf, given["weight"], given["bias"], projection)[0] @ weights, leaf
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_entropy_without_gradient_does_not_carry_one() -> None:
    given = inputs()
    hidden = given["hidden"].requires_grad_()
    logprobs, entropy = head_logprobs(hidden, given["weight"].requires_grad_(), targets())
    assert entropy is not None and not entropy.requires_grad and logprobs.requires_grad
    assert head_logprobs(hidden, given["weight"], targets(), entropy="none")[1] is None


def test_gradients_agree_with_finite_differences(rows: int) -> None:
    given = {name: value.requires_grad_() for name, value in inputs().items()}
    for projection in PROJECTIONS.values():
        assert torch.autograd.gradcheck(
            lambda h, w, b, p=projection: fused(h, w, b, p), tuple(given.values())
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_inputs_give_float32_results(dtype: torch.dtype) -> None:
    given = inputs(dtype, bias=False)
    expected, found = (outcome(f, given, PROJECTIONS["temperature"]) for f in (plain, fused))
    tolerance = 2e-2 if dtype == torch.bfloat16 else 2e-6
    assert [t.dtype for t in found] == [torch.float32] * 2 + [dtype] * 2
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one, rtol=tolerance, atol=tolerance)


def test_a_float32_weight_under_bfloat16_hidden_states_sums_its_gradient_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sum of many chunks in bfloat16 would lose the small ones."""
    monkeypatch.setitem(module._CHUNK, "cpu", V)
    given = inputs(torch.float32, bias=False)
    weight = given["weight"].clone().requires_grad_()
    hidden = given["hidden"].bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        logprobs, _ = head_logprobs(hidden, weight, targets())
    (found,) = torch.autograd.grad(logprobs.sum(), weight)
    assert found.dtype == torch.float32
    leaf = given["weight"].bfloat16().double().requires_grad_()
    logp = torch.log_softmax(hidden.double() @ leaf.T, -1)[torch.arange(N), targets()]
    (expected,) = torch.autograd.grad(logp.sum(), leaf)
    assert (found - expected).norm() / expected.norm() < 5e-3


def test_the_chunk_size_changes_nothing_but_float_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(torch.float32)
    results = []
    for size in (1, 5 * V, 1 << 20):
        monkeypatch.setitem(module._CHUNK, "cpu", size)
        results.append(outcome(fused, given, PROJECTIONS["temperature"]))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            torch.testing.assert_close(two, one, rtol=1e-6, atol=1e-6)


def test_confident_tokens_keep_the_digits_of_their_small_logprobs() -> None:
    hidden, weight = torch.ones(1, 1), torch.tensor([[37.3], [27.1], [26.4]])
    exact = torch.log_softmax((hidden @ weight.T).double(), -1)[0, 0]
    logprobs, _ = head_logprobs(hidden, weight, torch.tensor([0]))
    assert logprobs.item() == pytest.approx(float(exact), rel=2e-3)  # about -5.6e-5


class Largest(TorchDispatchMode):
    """Remembers how many elements the largest tensor had that any operation made."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("trained", [("hidden",), ("hidden", "weight")])
def test_no_tensor_of_the_logits_size_is_made_in_either_pass(
    monkeypatch: pytest.MonkeyPatch, trained: tuple[str, ...]
) -> None:
    monkeypatch.setitem(module._CHUNK, "cpu", 2 * V)
    given = inputs(torch.float32, bias=False)
    with Largest() as largest:
        outcome(fused, given, PROJECTIONS["softcap"], trained)
    assert largest.elements <= max(N * H, V * H)
    with Largest() as largest:
        outcome(plain, given, PROJECTIONS["softcap"], trained)
    assert largest.elements == N * V  # the measure sees what it should


def test_no_tokens_give_no_logprobs_and_a_zero_gradient() -> None:
    given = inputs()
    weight = given["weight"].requires_grad_()
    logprobs, entropy = head_logprobs(given["hidden"][:0], weight, targets()[:0])
    logprobs.sum().backward()
    assert logprobs.shape == entropy.shape == (0,)
    assert torch.equal(weight.grad, torch.zeros_like(weight))


def test_wrong_input_is_refused_by_name() -> None:
    hidden, weight, bias = inputs().values()
    with pytest.raises(ValueError, match="hidden is"):
        head_logprobs(hidden[0], weight, targets())
    with pytest.raises(ValueError, match=r"weight has shape \[11, 4\]"):
        head_logprobs(hidden, weight[:, 1:], targets())
    with pytest.raises(ValueError, match="bias has shape"):
        head_logprobs(hidden, weight, targets(), bias=bias[1:])
    with pytest.raises(ValueError, match=r"targets is .* of shape \[12\]"):
        head_logprobs(hidden, weight, targets()[1:])
    with pytest.raises(ValueError, match="temperature is 0"):
        head_logprobs(hidden, weight, targets(), projection=Projection(temperature=0.0))
