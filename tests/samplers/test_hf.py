"""The hf sampler against `model.generate`, a fresh forward pass, and itself."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from sampler_toys import LETTERS, rescored, sharpened_policy
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen3NextConfig,
)

from rlvr.errors import ConfigError, DataError, SamplerError, UserError
from rlvr.policy import Policy, encode_prompt, save_policy
from rlvr.protocols import TrainableSampler
from rlvr.registry import samplers
from rlvr.samplers.hf import HFSampler
from rlvr.types import FinishReason, SamplingParams


def generated(policy: Policy, prompt: str, max_new_tokens: int) -> list[int]:
    """What `model.generate` answers, greedily."""
    ids = torch.tensor([encode_prompt(policy.tokenizer, prompt)])
    output = policy.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=policy.tokenizer.pad_token_id,
        eos_token_id=policy.tokenizer.eos_token_id,
    )
    return list(output[0, ids.shape[1] :].tolist())


def end_soon(policy: Policy) -> None:
    """Make the end of sequence likely."""
    policy.model.config.tie_word_embeddings = False
    head = torch.nn.Linear(32, policy.model.config.vocab_size, bias=True)
    with torch.no_grad():
        head.weight.copy_(policy.model.lm_head.weight)
        head.bias.zero_()
        head.bias[policy.tokenizer.eos_token_id] = 1.5
    policy.model.lm_head = head


def test_it_is_a_trainable_sampler(policy: Policy) -> None:
    assert isinstance(samplers.create("hf", {"policy": policy}), TrainableSampler)


def test_greedy_answers_are_those_of_generate(policy: Policy, prompts: list[str]) -> None:
    end_soon(policy)
    params = SamplingParams(max_new_tokens=20, temperature=0.0)
    completions = HFSampler(policy=policy).sample(prompts, params, seeds=[0] * len(prompts))
    expected = [generated(policy, prompt, 20) for prompt in prompts]
    assert [list(c.token_ids) for c in completions] == expected
    assert len({len(ids) for ids in expected}) > 2, "rows should end at different steps"


@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_logprobs_are_those_of_a_fresh_forward_pass(
    policy: Policy, prompts: list[str], temperature: float
) -> None:
    end_soon(policy)
    params = SamplingParams(max_new_tokens=20, temperature=temperature)
    for completion in HFSampler(policy=policy).sample(prompts, params, seeds=range(len(prompts))):
        expected = rescored(policy, completion, temperature)
        assert np.allclose(completion.logprobs, expected, atol=1e-4)


def test_equal_calls_give_bit_equal_completions(policy: Policy, prompts: list[str]) -> None:
    sampler, params = HFSampler(policy=policy), SamplingParams(max_new_tokens=16)
    first = sampler.sample(prompts, params, seeds=range(len(prompts)))
    torch.manual_seed(99)
    assert sampler.sample(prompts, params, seeds=range(len(prompts))) == first


def test_a_completion_depends_on_its_own_seed_and_not_on_its_neighbours(
    policy: Policy, prompts: list[str]
) -> None:
    end_soon(policy)
    params = SamplingParams(max_new_tokens=16, top_p=0.95)
    seeds = [derived * 7919 for derived in range(len(prompts))]
    together = HFSampler(policy=policy).sample(prompts, params, seeds=seeds)
    one_by_one = HFSampler(policy=policy, max_batch_tokens=1).sample(prompts, params, seeds=seeds)
    for a, b in zip(together, one_by_one, strict=True):
        assert (a.token_ids, a.text, a.finish_reason) == (b.token_ids, b.text, b.finish_reason)
        assert np.allclose(a.logprobs, b.logprobs, atol=1e-5)


def test_seeds_tell_completions_of_one_prompt_apart(policy: Policy) -> None:
    params = SamplingParams(max_new_tokens=16, temperature=2.0)
    completions = HFSampler(policy=policy).sample(["1+1="] * 8, params, seeds=range(8))
    assert len({c.token_ids for c in completions}) == 8


def test_first_tokens_follow_the_policy(policy: Policy) -> None:
    """Over many seeds, the drawn tokens have the frequencies that the policy gives them."""
    from scipy import stats

    count = 8_000
    params = SamplingParams(max_new_tokens=1)
    drawn = HFSampler(policy=policy).sample(["what is "] * count, params, seeds=range(count))
    ids = torch.tensor([drawn[0].prompt_token_ids])
    with torch.no_grad():
        probabilities = policy.model(input_ids=ids).logits[0, -1].double().softmax(-1).numpy()
    observed = np.bincount([c.token_ids[0] for c in drawn], minlength=len(probabilities))
    assert probabilities.min() * count > 5
    assert stats.chisquare(observed, probabilities * count).pvalue > 1e-3


def test_end_of_sequence_is_kept_in_the_ids_and_not_in_the_text(policy: Policy) -> None:
    end_soon(policy)
    end = policy.tokenizer.eos_token_id
    params = SamplingParams(max_new_tokens=40)
    completions = HFSampler(policy=policy).sample(["a"] * 32, params, seeds=range(32))
    assert {c.finish_reason for c in completions} >= {FinishReason.STOP}
    for completion in completions:
        stopped = completion.finish_reason is FinishReason.STOP
        assert (completion.token_ids[-1] == end) == stopped
        assert end not in completion.token_ids[:-1]
        assert len(completion.logprobs) == len(completion.token_ids)
        assert "<eos>" not in completion.text
        assert len(completion.text) == len(completion.token_ids) - stopped - sum(
            i == policy.tokenizer.pad_token_id for i in completion.token_ids
        )


def test_the_token_limit_is_told_apart_from_an_end(policy: Policy) -> None:
    params = SamplingParams(max_new_tokens=3, temperature=0.0)
    (completion,) = HFSampler(policy=policy).sample(["what is 12"], params, seeds=[0])
    assert (len(completion.token_ids), completion.finish_reason) == (3, FinishReason.LENGTH)


def test_a_stop_text_ends_a_completion_and_is_cut_from_it(policy: Policy) -> None:
    sampler, params = HFSampler(policy=policy), SamplingParams(max_new_tokens=30)
    free = sampler.sample(["a"] * 4, params, seeds=range(4))
    stop = free[1].text[5:8]
    params = SamplingParams(max_new_tokens=30, stop=(stop, "never this"))
    for before, after in zip(free, sampler.sample(["a"] * 4, params, seeds=range(4)), strict=True):
        begin = before.text.find(stop)
        if begin < 0:
            assert after == before
        else:
            assert after.text == before.text[:begin]
            assert after.finish_reason is FinishReason.STOP
            assert policy.tokenizer.decode(after.token_ids).endswith(stop)
            assert after.token_ids == before.token_ids[: len(after.token_ids)]


def test_completions_end_where_the_context_ends(policy: Policy) -> None:
    params = SamplingParams(max_new_tokens=500, temperature=2.0)
    (completion,) = HFSampler(policy=policy).sample(["a" * 60], params, seeds=[1])
    assert (len(completion.token_ids), completion.finish_reason) == (4, FinishReason.LENGTH)


def test_nothing_global_is_touched(policy: Policy, prompts: list[str]) -> None:
    policy.model.train()
    policy.model.model.layers[0].eval()
    modes = [module.training for module in policy.model.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    HFSampler(policy=policy).sample(
        prompts, SamplingParams(max_new_tokens=4), seeds=range(len(prompts))
    )
    assert [module.training for module in policy.model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]
    assert random.getstate() == states[2]
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in policy.model.parameters())


def test_dropout_is_off_while_sampling(policy: Policy) -> None:
    for layer in policy.model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    sampler, params = HFSampler(policy=policy), SamplingParams(max_new_tokens=8)
    quiet = sampler.sample(["1+1="], params, seeds=[0])
    policy.model.train()
    assert sampler.sample(["1+1="], params, seeds=[0]) == quiet


def test_a_shared_module_answers_with_its_new_weights_at_once(policy: Policy) -> None:
    sampler, params = HFSampler(policy=policy), SamplingParams(max_new_tokens=12)
    (before,) = sampler.sample(["1+1="], params, seeds=[0])
    policy.model.load_state_dict(sharpened_policy(seed=5).model.state_dict())
    sampler.update_weights(policy.model)
    (after,) = sampler.sample(["1+1="], params, seeds=[0])
    assert after.token_ids != before.token_ids
    assert np.allclose(after.logprobs, rescored(policy, after), atol=1e-4)


def test_another_module_s_weights_are_taken_over(policy: Policy) -> None:
    other = sharpened_policy(seed=5)
    sampler, params = HFSampler(policy=policy), SamplingParams(max_new_tokens=12)
    sampler.update_weights(other.model)
    (completion,) = sampler.sample(["1+1="], params, seeds=[0])
    assert np.allclose(completion.logprobs, rescored(other, completion), atol=1e-4)


def test_a_saved_policy_answers_like_the_live_one(
    policy: Policy, prompts: list[str], tmp_path: Path
) -> None:
    save_policy(policy, tmp_path)
    params, seeds = SamplingParams(max_new_tokens=8), range(len(prompts))
    loaded = HFSampler(model=str(tmp_path), device="cpu").sample(prompts, params, seeds=seeds)
    assert loaded == HFSampler(policy=policy).sample(prompts, params, seeds=seeds)


def test_chat_messages_go_through_the_template(policy: Policy) -> None:
    policy.tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}= "
    )
    params = SamplingParams(max_new_tokens=2)
    messages = [{"role": "user", "content": "1+1"}]
    (completion,) = HFSampler(policy=policy).sample([messages], params, seeds=[0])
    assert policy.tokenizer.decode(completion.prompt_token_ids) == "user 1+1 = "


ARCHITECTURES: dict[str, PreTrainedConfig] = {
    "absolute positions": GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64),
    "alibi": BloomConfig(hidden_size=32, n_layer=2, n_head=2),
    "sliding window": MistralConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=6,
        max_position_embeddings=64,
    ),
    "window and full by turns": Gemma3TextConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention"],
        max_position_embeddings=64,
    ),
    "linear attention": Qwen3NextConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        num_experts=2,
        num_experts_per_tok=1,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
        layer_types=["linear_attention", "full_attention"],
        max_position_embeddings=64,
    ),
    "state without past_key_values": MambaConfig(
        hidden_size=32, num_hidden_layers=2, state_size=4, use_mambapy=False
    ),
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_any_causal_architecture_answers_as_generate_does(
    kind: str, policy: Policy, prompts: list[str]
) -> None:
    config = ARCHITECTURES[kind]
    config.vocab_size = policy.model.config.vocab_size
    config.bos_token_id = None
    config.eos_token_id = policy.tokenizer.eos_token_id
    config.pad_token_id = policy.tokenizer.pad_token_id
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.mul_(3)
    other = Policy(model, policy.tokenizer)
    params = SamplingParams(max_new_tokens=12, temperature=0.0)
    completions = HFSampler(policy=other).sample(prompts, params, seeds=[0] * len(prompts))
    expected = [generated(other, prompt, 12) for prompt in prompts]
    assert [list(c.token_ids) for c in completions] == expected
    sampled = HFSampler(policy=other).sample(
        prompts, SamplingParams(max_new_tokens=12), seeds=range(len(prompts))
    )
    for completion in sampled:
        assert np.allclose(completion.logprobs, rescored(other, completion), atol=1e-3)


def test_an_empty_prompt_is_refused(policy: Policy) -> None:
    with pytest.raises(DataError, match=r"prompt 1 \('ÄÖ'\) has no token"):
        HFSampler(policy=policy).sample(["a", "ÄÖ"], SamplingParams(), seeds=[0, 1])


def test_a_prompt_that_fills_the_context_is_refused(policy: Policy) -> None:
    with pytest.raises(DataError, match="has 64 tokens, and the policy takes 64"):
        HFSampler(policy=policy).sample(["a" * 64], SamplingParams(), seeds=[0])


def test_diverged_weights_are_an_error_and_not_a_text(policy: Policy) -> None:
    with torch.no_grad():
        policy.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(SamplerError, match="NaN"):
        HFSampler(policy=policy).sample(["a"], SamplingParams(max_new_tokens=2), seeds=[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_k": -1}, "top_k is -1"),
        ({"stop": ("",)}, "a stop text is empty"),
    ],
)
def test_impossible_parameters_are_refused(
    policy: Policy, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        HFSampler(policy=policy).sample(["a"], SamplingParams(**change), seeds=[0])  # type: ignore[arg-type]


def test_construction_needs_exactly_one_source(policy: Policy) -> None:
    with pytest.raises(ConfigError, match="exactly one"):
        HFSampler()
    with pytest.raises(ConfigError, match="exactly one"):
        HFSampler(policy=policy, model="somewhere")
    with pytest.raises(ConfigError, match="dtype is fixed"):
        HFSampler(policy=policy, dtype="bfloat16")
    with pytest.raises(UserError, match="no such folder"):
        HFSampler(model="./no/such/folder")


def test_no_prompts_give_no_completions(policy: Policy) -> None:
    assert HFSampler(policy=policy).sample([], SamplingParams(), seeds=[]) == []


def test_the_alphabet_covers_the_prompts(prompts: list[str]) -> None:
    assert set("".join(prompts)) <= set(LETTERS)
