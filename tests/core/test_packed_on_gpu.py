"""What packed attention asks of the GPU kernel, as far as that shows without a GPU.

The kernel's stand-in is attention written out; the kernel's own declaration (its shapes and types,
forward and backward) is asked with tensors that have no data.
"""

from __future__ import annotations

import copy
import inspect
import random
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn.attention import varlen

from rlvr import packing
from rlvr.batch import Batch, Example
from rlvr.compute import compute_in
from rlvr.forward import ability_of, score_tokens
from rlvr.packing import Layout, lay_out

HEADS, KEY_HEADS, SIZE = 4, 2, 16


def make_batch() -> Batch:
    """Completions that share a prompt, one that has its own, and one whose prompt is one token."""
    chooser = random.Random(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(chooser.randrange(3, 61) for _ in range(count))

    shared = tokens(6)
    prompts = [shared, shared, tokens(4), shared, tokens(1)]
    return Batch.pack([Example(prompt_ids=p, completion_ids=tokens(3 + len(p))) for p in prompts])


def make_states(layout: Layout, **options: Any) -> list[Tensor]:
    torch.manual_seed(0)
    length = layout.input_ids.numel()
    return [
        torch.randn(heads, length, SIZE, requires_grad=True, **options)
        for heads in (HEADS, KEY_HEADS, KEY_HEADS)
    ]


def written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """`varlen_attn`: each sequence's last query sees its last key."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert len(query) == cu_seq_q[-1]
    assert len(key) == len(value) == cu_seq_k[-1]
    assert (cu_seq_q.diff().max(), cu_seq_k.diff().max()) == (max_q, max_k)
    assert window_size == (-1, 0)
    outputs = []
    for i in range(len(cu_seq_q) - 1):
        q = query[cu_seq_q[i] : cu_seq_q[i + 1]]
        k, v = (states[cu_seq_k[i] : cu_seq_k[i + 1]] for states in (key, value))
        seen = torch.ones(len(q), len(k), dtype=torch.bool).tril(len(k) - len(q))
        q, k, v = (states.transpose(0, 1).unsqueeze(0) for states in (q, k, v))
        found = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=seen, scale=scale, enable_gqa=enable_gqa
        )
        outputs.append(found[0].transpose(0, 1))
    return torch.cat(outputs)


def test_what_the_gpu_kernel_is_asked_for_is_what_the_cpu_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", written_out)
    layout = lay_out(make_batch())
    assert any(span.prefix for span in layout.spans)
    results = []
    for on_gpu in (True, False):
        states = make_states(layout)
        if on_gpu:
            output = packing._packed_on_gpu(*states, layout, 0.3)
        else:
            output = packing._PackedOnCPU.apply(*states, layout.spans, 0.3)
        weights = torch.arange(output.numel()).view(output.shape).sin()
        results.append([output, *torch.autograd.grad((output * weights).sum(), states)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_gpu_kernel_takes_what_it_is_given() -> None:
    layout = lay_out(make_batch()).to(torch.device("meta"))
    states = make_states(layout, device="meta", dtype=torch.bfloat16)
    output = packing._packed_on_gpu(*states, layout, 0.3)
    assert output.shape == states[0].shape
    gradients = torch.autograd.grad(output.sum(), states)
    assert [g.shape for g in gradients] == [s.shape for s in states]
    asked = inspect.signature(written_out).parameters.keys()
    assert asked <= inspect.signature(varlen.varlen_attn).parameters.keys()


@pytest.mark.parametrize(("keys", "values"), [(12, 12), (264, 264), (64, 32)])
def test_heads_that_the_gpu_kernel_cannot_do_are_padded(keys: int, values: int) -> None:
    layout = lay_out(make_batch())
    length = layout.input_ids.numel()
    states = [torch.zeros(2, length, size) for size in (keys, keys, values)]
    with pytest.raises(packing.NotPackable, match=f"heads of {keys} "):
        packing._packed_on_gpu(*states, layout, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_gives_what_the_cpu_gives() -> None:
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=61,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        head_dim=SIZE,
    )
    plain = transformers.Qwen3ForCausalLM(config).eval()
    results = []
    for device in ("cuda", "cpu"):
        model = copy.deepcopy(plain).to(device)
        compute_in(model, torch.bfloat16)
        scores = score_tokens(model, make_batch(), entropy="gradient")
        assert ability_of(model).packed
        (scores.logprobs.sum() + scores.entropy.sum()).backward()
        gradients = torch.cat([p.grad.flatten().cpu() for p in model.parameters()])
        results.append((scores.logprobs.detach().cpu(), scores.entropy.detach().cpu(), gradients))
    for found, expected in zip(*results, strict=True):
        assert (found - expected).norm() <= 0.02 * expected.norm()
