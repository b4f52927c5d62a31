"""bfloat16 products, checkpointed activations and compiled layers do what they say, and no more."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForCausalLM

from rlvr.batch import Batch, Example
from rlvr.compute import (
    backward,
    checkpoint_activations,
    compile_layers,
    compute_dtype,
    compute_in,
    fix_order,
)
from rlvr.errors import ConfigError
from rlvr.forward import score_tokens
from rlvr.policy import Policy, make_policy
from rlvr.samplers.hf import HFSampler
from rlvr.trainers.components import initial_policy
from rlvr.trainers.config import parse_config
from rlvr.types import SamplingParams


def tiny(seed: int = 0) -> Policy:
    policy = make_policy(hidden_size=32, layers=3, heads=4, alphabet="abcdefgh", seed=seed)
    with torch.no_grad():
        policy.model.get_output_embeddings().weight.mul_(10)
    return policy


def batch() -> Batch:
    return Batch.pack(
        [
            Example(prompt_ids=(2, 3, 4), completion_ids=(5, 6, 7, i)[: i - 2], advantage=float(i))
            for i in (5, 6, 8, 9)
        ]
    )


def gradients(model: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    scores = score_tokens(model, batch())
    (scores.logprobs.sum() + scores.entropy.sum()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def saved_elements(model: Any) -> int:
    """What the graph of a forward pass keeps, in elements; weights are not counted."""
    weights = {p.data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 4
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        scores = score_tokens(model, batch())
    assert scores.logprobs.requires_grad
    return sum(seen.values())


def test_checkpointed_activations_keep_less_and_change_no_gradient() -> None:
    plain, spare = tiny().model, tiny().model
    checkpoint_activations(spare)
    expected, found = gradients(plain), gradients(spare)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert not spare.training
    assert saved_elements(spare) < 0.5 * saved_elements(plain)


def test_bfloat16_products_over_float32_weights() -> None:
    policy, plain = tiny(), tiny().model
    compute_in(policy.model, torch.bfloat16)
    assert compute_dtype(policy.model) is torch.bfloat16 and compute_dtype(plain) is torch.float32
    expected, found = gradients(plain), gradients(policy.model)
    products = []
    layer = policy.model.model.layers[0].mlp.up_proj
    layer.register_forward_hook(lambda module, inputs, output: products.append(output.dtype))
    gap = score_tokens(policy.model, batch()).logprobs - score_tokens(plain, batch()).logprobs
    assert products == [torch.bfloat16]
    assert 1e-4 < gap.abs().max() < 0.1
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - value).norm() < 0.05 * value.norm() + 1e-3, name


def test_an_update_too_small_for_bfloat16_is_kept_by_master_weights() -> None:
    """The reason for master weights: 1e-4 of a weight is less than bfloat16 can add to it."""
    master, narrow = tiny().model, tiny().model.bfloat16()
    compute_in(master, torch.bfloat16)
    for model, kept in ((master, True), (narrow, False)):
        weight = model.model.layers[0].self_attn.q_proj.weight
        before = weight.detach().clone()
        with torch.no_grad():
            weight.add_(1e-4 * weight)
        assert (torch.equal(weight, before)) != kept


def test_the_sampler_computes_as_the_trainer_does() -> None:
    """So that the gap between their log-probabilities is noise, and not the dtype."""
    policy = tiny()
    compute_in(policy.model, torch.bfloat16)
    sampler = HFSampler(policy=policy)
    completions = sampler.sample(
        ["abc", "abc", "hh"], SamplingParams(max_new_tokens=6), seeds=range(3)
    )
    examples = [
        Example(
            prompt_ids=c.prompt_token_ids, completion_ids=c.token_ids, sampler_logprobs=c.logprobs
        )
        for c in completions
    ]
    packed = Batch.pack(examples)
    with torch.no_grad():
        found = score_tokens(policy.model, packed).logprobs
    assert (found - packed.sampler_logprobs[packed.loss_mask]).abs().max() < 0.05


@pytest.mark.parametrize("narrow", [False, True])
def test_copies_and_files_are_of_the_same_model(narrow: bool, tmp_path: Path) -> None:
    model = tiny().model
    if narrow:
        compute_in(model, torch.bfloat16)
    checkpoint_activations(model)
    expected = score_tokens(model, batch()).logprobs
    twin = copy.deepcopy(model)
    assert torch.equal(score_tokens(twin, batch()).logprobs, expected)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.zero_()
    assert torch.equal(score_tokens(twin, batch()).logprobs, expected)
    twin.save_pretrained(tmp_path)
    assert '"Qwen2ForCausalLM"' in (tmp_path / "config.json").read_text()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert next(loaded.parameters()).dtype == torch.float32
    assert torch.equal(loaded.lm_head.weight, twin.lm_head.weight)


class Watch(torch.autograd.Function):
    """Notes, while gradients are taken, whether torch would only warn."""

    seen: ClassVar[list[bool]] = []

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        Watch.seen.append(torch.is_deterministic_algorithms_warn_only_enabled())
        return gradient


def test_a_fixed_order_is_asked_for_strictly_while_gradients_are_taken_and_only_then() -> None:
    """Flash attention's backward pass on a GPU listens to the strict mode alone."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    x = torch.ones(2, requires_grad=True)
    try:
        for wanted in (False, True):
            fix_order(wanted)
            backward(Watch.apply(x).sum())
            assert torch.is_deterministic_algorithms_warn_only_enabled()
        with pytest.raises(RuntimeError, match="deliberate"):
            backward(Fails.apply(x).sum())
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        fix_order(False)
    assert Watch.seen == [True, False]
    assert x.grad is not None and x.grad.tolist() == [2.0, 2.0]


class Fails(Watch):
    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("deliberate")


@pytest.mark.slow
def test_compiled_layers_compute_the_same_and_are_compiled_once_for_all_lengths() -> None:
    torch._dynamo.reset()
    plain, fast = (make_policy(hidden_size=16, layers=1, heads=2).model for _ in range(2))
    compile_layers(fast)
    expected, found = gradients(plain), gradients(fast)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for length in (3, 5, 6):
            examples = [
                Example(prompt_ids=tuple(range(2, 2 + length)), completion_ids=(3,) * (length + i))
                for i in range(length)
            ]
            score_tokens(fast, Batch.pack(examples)).logprobs.sum().backward()


def test_a_model_without_known_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="gradient_checkpointing: Linear has no layers"):
        checkpoint_activations(torch.nn.Linear(2, 2))


def test_the_configuration_says_how(tmp_path: Path) -> None:
    mapping = {
        "algorithm": "grpo",
        "output": str(tmp_path),
        "policy": "new",
        "new_policy": {"hidden_size": 16, "layers": 1, "heads": 2},
        "environment": "arithmetic",
        "steps": 1,
        "dtype": "bfloat16",
        "device": "cpu",
        "gradient_checkpointing": True,
    }
    model = initial_policy(parse_config(mapping, "test")).model
    assert model.dtype == torch.float32 and compute_dtype(model) is torch.bfloat16
    assert saved_elements(model) < saved_elements(
        initial_policy(parse_config(mapping | {"gradient_checkpointing": False}, "test")).model
    )
    narrow = initial_policy(parse_config(mapping | {"master_weights": False}, "test")).model
    assert narrow.dtype == torch.bfloat16 and compute_dtype(narrow) is torch.bfloat16
