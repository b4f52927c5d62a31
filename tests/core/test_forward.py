"""Scores of real architectures, packed and fused or not, beside the model's plain logits."""

from __future__ import annotations

import copy
import random
import warnings
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import rlvr.forward as module
from rlvr import packing
from rlvr.batch import Batch, Example
from rlvr.forward import Ability, ability_of, score_tokens, score_values
from rlvr.objectives.head import Projection
from rlvr.packing import lay_out
from rlvr.trainers.critic import value_model

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {"vocab_size": 61, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64}
GEMMA = SMALL | {"head_dim": 8, "query_pre_attn_scalar": 8}
MAMBA = {k: SMALL[k] for k in ("vocab_size", "hidden_size", "num_hidden_layers")} | {
    "state_size": 4
}
CHUNKED = SMALL | {
    "attention_chunk_size": 16,
    "num_local_experts": 2,
    "intermediate_size_mlp": 32,
    "head_dim": 4,
    "no_rope_layers": [1, 1],
}
HYBRID = SMALL | {
    "layer_types": ["mamba", "attention"],
    "mamba_n_heads": 4,
    "mamba_d_head": 8,
    "mamba_d_state": 4,
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "shared_intermediate_size": 16,
}
SCALED = Projection(scale=0.25)
# What each is found to be able to do: packed, and what follows its head.
MODELS: dict[str, tuple[str, dict[str, Any], bool, Projection | None]] = {
    "qwen2": ("Qwen2", SMALL, True, Projection()),
    "qwen2, tied": ("Qwen2", SMALL | {"tie_word_embeddings": True}, True, Projection()),
    "qwen3": ("Qwen3", SMALL | {"head_dim": 8}, True, Projection()),
    "llama": ("Llama", SMALL, True, Projection()),
    "mistral with a window": ("Mistral", SMALL | {"sliding_window": 4}, False, Projection()),
    "gemma 2": ("Gemma2", GEMMA | {"final_logit_softcapping": 0.5}, False, Projection(softcap=0.5)),
    "granite": ("Granite", SMALL | {"logits_scaling": 4.0}, True, SCALED),
    "cohere": ("Cohere", SMALL | {"logit_scale": 0.25}, True, SCALED),
    "phi, whose head has a bias": ("Phi", SMALL | {"num_key_value_heads": 4}, True, Projection()),
    "gpt2": ("GPT2", GPT2, True, Projection()),
    "llama 4, whose chunks are longer than a trial": ("Llama4Text", CHUNKED, False, Projection()),
    "mamba, which has no attention": ("Mamba", MAMBA, False, Projection()),
}


def make_model(name: str, dtype: torch.dtype = torch.float32) -> transformers.PreTrainedModel:
    kind, options, *_ = MODELS[name]
    config = getattr(transformers, f"{kind}Config")(**options)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():  # what starts at 0 or 1 would hide mistakes
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model.to(dtype)


def make_batch(groups: int = 3, size: int = 3, seed: int = 0) -> Batch:
    """Groups with one prompt each, ragged, some sequences untrained, and a lone prompt twice."""
    chooser = random.Random(seed)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(chooser.randrange(3, 61) for _ in range(chooser.randint(low, high)))

    examples = []
    for group in range(groups):
        prompt = tokens(1, 9)
        examples += [
            Example(prompt_ids=prompt, completion_ids=tokens(1, 12), trained=(group, i) != (1, 1))
            for i in range(size)
        ]
    examples.append(Example(prompt_ids=(5,), completion_ids=tokens(3, 3)))
    examples.append(Example(prompt_ids=(5,), completion_ids=tokens(4, 4)))
    chooser.shuffle(examples)
    return Batch.pack(examples)


def plain(model: torch.nn.Module, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:
    """Each sequence alone, with its logits."""
    logprobs, entropies = [], []
    for i in range(len(batch)):
        one = batch.select([i])
        if not one.loss_mask.any():
            continue
        logits = model(input_ids=one.input_ids[None], use_cache=False).logits[0].float()
        logp = (logits / temperature).log_softmax(-1)
        where = one.loss_mask.nonzero().squeeze(-1)
        logprobs.append(logp[where - 1, one.input_ids[where]])
        entropies.append(-(logp.exp() * logp).sum(-1)[where - 1])
    return torch.cat(logprobs), torch.cat(entropies)


def gradients(model: torch.nn.Module, logprobs: Tensor, entropy: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    weights = torch.linspace(-1, 1.5, len(logprobs))
    (logprobs @ weights + entropy @ weights.flip(0)).backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:.*rows are padded")
def test_scores_and_gradients_are_those_of_each_sequence_alone(name: str) -> None:
    model, batch = make_model(name), make_batch()
    expected = plain(copy.deepcopy(model), batch, 0.7)
    reference = gradients(twin := copy.deepcopy(model), *plain(twin, batch, 0.7))
    scores = score_tokens(model, batch, temperature=0.7)
    _, _, packed, projection = MODELS[name]
    assert ability_of(model) == Ability(packed, projection)
    torch.testing.assert_close(scores.logprobs, expected[0], rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(scores.entropy, expected[1], rtol=1e-4, atol=2e-5)
    found = gradients(model, scores.logprobs, scores.entropy)
    assert found.keys() == reference.keys()
    for key, value in reference.items():
        assert (found[key] - value).norm() <= 2e-5 * max(1.0, value.norm().item()), key


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("projection", [Projection(), None])
def test_each_way_of_computing_gives_the_same(packed: bool, projection: Projection | None) -> None:
    model, batch = make_model("qwen2, tied"), make_batch()
    expected = score_tokens(model, batch)
    reference = gradients(model, expected.logprobs, expected.entropy)
    model.set_attn_implementation("rlvr_packed" if packed else "sdpa")
    module._known[model] = Ability(packed, projection)
    found = score_tokens(model, batch)
    torch.testing.assert_close(found.logprobs, expected.logprobs, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(found.entropy, expected.entropy, rtol=1e-6, atol=1e-5)
    assert torch.equal(found.sequence_ids, expected.sequence_ids)
    for key, value in gradients(model, found.logprobs, found.entropy).items():
        assert (value - reference[key]).norm() <= 1e-5 * reference[key].norm(), key


def test_a_prompt_is_computed_once_and_what_follows_the_last_trained_token_never() -> None:
    prompt = (3, 4, 5, 6)
    batch = Batch.pack(
        [Example(prompt_ids=prompt, completion_ids=(7, 8, i)) for i in (9, 10, 11)]
        + [Example(prompt_ids=(3,), completion_ids=(12, 13), trained=False)]
    )
    layout = lay_out(batch)
    # The prompt but its last token, then for each: that token and what is predicted from.
    assert layout.input_ids.tolist() == [[3, 4, 5] + [6, 7, 8] * 3]
    assert layout.position_ids.tolist() == [[0, 1, 2] + [3, 4, 5] * 3]
    assert layout.outputs.tolist() == list(range(3, 12))
    assert layout.targets.tolist() == [7, 8, 9, 7, 8, 10, 7, 8, 11]


def test_only_completion_positions_reach_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make_model("qwen2"), make_batch()
    seen = []
    plain_head = module.head_logprobs

    def watched(hidden: Tensor, *arguments: Any, **options: Any) -> Any:
        seen.append(len(hidden))
        return plain_head(hidden, *arguments, **options)

    ability_of(model)
    monkeypatch.setattr(module, "head_logprobs", watched)
    score_tokens(model, batch)
    assert seen == [batch.totals.tokens]


@pytest.mark.filterwarnings("error")
def test_the_plain_forward_pass_stays_as_it_was() -> None:
    model = make_model("llama")
    ids, mask = torch.tensor([[3, 4, 5, 6], [0, 0, 7, 8]]), torch.tensor([[1] * 4, [0, 0, 1, 1]])
    before = model(input_ids=ids, attention_mask=mask).logits
    score_tokens(model, make_batch())
    assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, before)
    assert "forward" not in vars(model.get_output_embeddings())
    assert "rlvr" not in str(model.config.to_dict())


def test_what_a_model_cannot_do_is_said_once() -> None:
    model, batch = make_model("mistral with a window"), make_batch()
    with pytest.warns(UserWarning, match="MistralForCausalLM: rows are padded"):
        score_tokens(model, batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score_tokens(model, batch)


@pytest.mark.filterwarnings("ignore:.*rows are padded", "ignore:The fast path")
def test_a_critic_is_tried_out_though_its_head_begins_at_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Layers of Mamba would carry one sequence's state into the next."""
    # As in models that do not say what their layers are.
    monkeypatch.setattr(packing, "PLAIN_LAYERS", {"linear_attention", "full_attention"})
    torch.manual_seed(0)
    config = transformers.GraniteMoeHybridConfig(**HYBRID)
    critic = value_model(transformers.GraniteMoeHybridForCausalLM(config).eval())
    batch = make_batch()
    assert score_values(critic, batch).abs().max() == 0
    critic.get_output_embeddings().weight.data.normal_()
    together = score_values(critic, batch)
    trained = [i for i in range(len(batch)) if batch.trained_lengths[i]]
    alone = torch.cat([score_values(critic, batch.select([i])) for i in trained])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=2e-5)


def test_another_attention_set_later_is_noticed() -> None:
    """Without a look, packed sequences would attend to one another."""
    model, batch = make_model("llama"), make_batch()
    expected = score_tokens(model, batch).logprobs
    model.set_attn_implementation("eager")
    with pytest.warns(UserWarning, match="rows are padded"):
        found = score_tokens(model, batch).logprobs
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


def test_an_unknown_thing_done_to_the_logits_is_noticed() -> None:
    class Odd(transformers.LlamaForCausalLM):  # type: ignore[misc]
        def forward(self, *arguments: Any, **options: Any) -> Any:
            output = super().forward(*arguments, **options)
            output.logits = output.logits * 1.01
            return output

    model = Odd(transformers.LlamaConfig(**SMALL)).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    with pytest.warns(UserWarning, match="Odd: the logits are made"):
        assert ability_of(model) == Ability(True, None)
    batch = make_batch()
    torch.testing.assert_close(
        score_tokens(model, batch).logprobs, plain(model, batch, 1.0)[0], rtol=1e-4, atol=2e-5
    )


def test_bfloat16_weights_are_scored_in_bfloat16_and_reduced_in_float32() -> None:
    model, batch = make_model("qwen2", torch.bfloat16), make_batch()
    assert ability_of(model) == Ability(True, Projection())
    scores = score_tokens(model, batch)
    assert scores.logprobs.dtype == scores.entropy.dtype == torch.float32
    expected, _ = plain(model, batch, 1.0)
    assert (scores.logprobs - expected).abs().max() < 0.2
    scores.logprobs.sum().backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.bfloat16}


def test_entropy_is_left_out_where_it_is_not_asked_for() -> None:
    model, batch = make_model("qwen2"), make_batch()
    assert score_tokens(model, batch, entropy="none").entropy.numel() == 0
    assert not score_tokens(model, batch, entropy="value").entropy.requires_grad
    assert score_tokens(model, batch).entropy.requires_grad
