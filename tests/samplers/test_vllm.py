"""The vllm sampler against the hf sampler, fresh forward passes, and the process around it."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sampler_toys import LETTERS, rescored, sharpened_policy

from rlvr.adapters import add_lora
from rlvr.compute import compute_in
from rlvr.errors import ConfigError, DataError, MissingExtraError, SamplerError, UserError
from rlvr.policy import Policy, save_policy
from rlvr.protocols import TrainableSampler
from rlvr.registry import samplers
from rlvr.samplers.drawing import truncate
from rlvr.samplers.hf import HFSampler
from rlvr.samplers.vllm import VLLMSampler, engine_dtype
from rlvr.trainers.weight_sync import WeightSync
from rlvr.types import FinishReason, SamplingParams

installed = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"
)


def many_prompts(count: int) -> list[str]:
    """Random texts of 1 to 40 characters."""
    chooser = random.Random(0)
    return [
        "".join(chooser.choice(LETTERS) for _ in range(chooser.randint(1, 40)))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def live_policy() -> Policy:
    """The policy that the module's sampler answers for."""
    return sharpened_policy()


@pytest.fixture(scope="module")
def engine(live_policy: Policy) -> Iterator[VLLMSampler]:
    """One engine for the module; tests that renew its weights put the old ones back."""
    sampler = VLLMSampler(policy=live_policy, cpu_cache_gib=0.25)
    yield sampler
    sampler.close()


@pytest.mark.vllm
@installed
def test_it_is_a_trainable_sampler(engine: VLLMSampler) -> None:
    assert isinstance(engine, TrainableSampler)
    assert samplers.get("vllm") is VLLMSampler


@pytest.mark.vllm
@installed
def test_greedy_answers_are_those_of_hf(engine: VLLMSampler, live_policy: Policy) -> None:
    prompts, params = many_prompts(100), SamplingParams(max_new_tokens=24, temperature=0.0)
    ours = engine.sample(prompts, params, seeds=[0] * 100)
    theirs = HFSampler(policy=live_policy).sample(prompts, params, seeds=[0] * 100)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.token_ids, a.text, a.finish_reason) == (b.token_ids, b.text, b.finish_reason)
        assert a.prompt_token_ids == b.prompt_token_ids
        assert np.allclose(a.logprobs, b.logprobs, atol=1e-4)


@pytest.mark.vllm
@installed
@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_logprobs_are_those_of_a_fresh_forward_pass(
    engine: VLLMSampler, live_policy: Policy, temperature: float
) -> None:
    params = SamplingParams(max_new_tokens=20, temperature=temperature)
    for completion in engine.sample(many_prompts(40), params, seeds=range(40)):
        expected = rescored(live_policy, completion, temperature)
        assert np.allclose(completion.logprobs, expected, atol=1e-4)


@pytest.mark.vllm
@installed
def test_logprobs_are_those_of_the_truncated_distribution(
    engine: VLLMSampler, live_policy: Policy
) -> None:
    params = SamplingParams(max_new_tokens=1, temperature=0.8, top_k=5, top_p=0.9)
    for completion in engine.sample(many_prompts(40), params, seeds=range(40)):
        with torch.no_grad():
            ids = torch.tensor([completion.prompt_token_ids])
            logits = live_policy.model(input_ids=ids).logits[:, -1]
        kept = truncate(logits / 0.8, top_k=5, top_p=0.9).log_softmax(-1)[0]
        assert abs(completion.logprobs[0] - kept[completion.token_ids[0]].item()) < 1e-4


@pytest.mark.vllm
@installed
def test_first_tokens_follow_the_policy(engine: VLLMSampler, live_policy: Policy) -> None:
    from scipy import stats

    count = 4_000
    drawn = engine.sample(
        ["what is "] * count, SamplingParams(max_new_tokens=1), seeds=range(count)
    )
    with torch.no_grad():
        ids = torch.tensor([drawn[0].prompt_token_ids])
        probabilities = live_policy.model(input_ids=ids).logits[0, -1].double().softmax(-1).numpy()
    observed = np.bincount([c.token_ids[0] for c in drawn], minlength=len(probabilities))
    assert stats.chisquare(observed, probabilities * count).pvalue > 1e-3


@pytest.mark.vllm
@installed
def test_equal_seeds_give_equal_completions(engine: VLLMSampler) -> None:
    prompts, params = ["what is 12+34="] * 8, SamplingParams(max_new_tokens=16)
    seeds = [-1, 2**63 - 1, 2**63, 3, 4, 5, 6, 7]
    first = engine.sample(prompts, params, seeds=seeds)
    torch.manual_seed(99)
    assert engine.sample(prompts, params, seeds=seeds) == first
    assert len({c.token_ids for c in first}) > 6


@pytest.mark.vllm
@installed
def test_what_was_sampled_before_changes_no_bit(engine: VLLMSampler) -> None:
    """The prefix cache of an earlier call must not change how a prompt is computed."""
    params, prompts = SamplingParams(max_new_tokens=8), many_prompts(30)
    first = engine.sample(prompts, params, seeds=range(30))
    engine.sample([prompt + " and more" for prompt in prompts], params, seeds=range(30))
    assert engine.sample(prompts, params, seeds=range(30)) == first


@pytest.mark.vllm
@installed
def test_renewed_weights_are_the_ones_that_answer(engine: VLLMSampler, live_policy: Policy) -> None:
    prompts, params = many_prompts(40), SamplingParams(max_new_tokens=16)
    engine.sample(prompts, params, seeds=range(40))  # what a stale cache would be made of
    new = sharpened_policy(seed=5)
    engine.update_weights(new.model)
    try:
        completions = engine.sample(prompts, params, seeds=range(40))
        for completion in completions:
            assert np.allclose(completion.logprobs, rescored(new, completion), atol=1e-4)
        gaps = [np.abs(c.logprobs - rescored(live_policy, c).numpy()).max() for c in completions]
        assert np.median(gaps) > 0.1
        greedy = SamplingParams(max_new_tokens=16, temperature=0.0)
        answers = engine.sample(prompts, greedy, seeds=range(40))
        expected = HFSampler(policy=new).sample(prompts, greedy, seeds=range(40))
        assert [c.token_ids for c in answers] == [c.token_ids for c in expected]
    finally:
        engine.update_weights(live_policy.model)


@pytest.mark.vllm
@installed
def test_a_small_update_shows_too(engine: VLLMSampler) -> None:
    """A change of one optimiser step's size moves the logprobs as it moves the trainer's."""
    new, generator = sharpened_policy(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in new.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 1e-3)
    engine.update_weights(new.model)
    try:
        params = SamplingParams(max_new_tokens=16)
        for completion in engine.sample(many_prompts(10), params, seeds=range(10)):
            assert np.allclose(completion.logprobs, rescored(new, completion), atol=1e-4)
            gap = np.abs(completion.logprobs - rescored(sharpened_policy(), completion).numpy())
            assert gap.max() > 1e-3
    finally:
        engine.update_weights(sharpened_policy().model)


@pytest.mark.vllm
@installed
def test_lora_matrices_reach_it_merged(engine: VLLMSampler) -> None:
    pytest.importorskip("peft")
    new = sharpened_policy()
    add_lora(new.model, rank=4, alpha=8.0)
    with torch.no_grad():
        for name, parameter in new.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.1, generator=torch.Generator().manual_seed(0))
    before = WeightSync(engine, ["1+1=", "abc"], temperature=1.0, max_new_tokens=16, seed=0)
    try:
        assert before.push(sharpened_policy().model) < 1e-4
        assert before.push(new.model) < 1e-4
        params = SamplingParams(max_new_tokens=20)
        for completion in engine.sample(many_prompts(20), params, seeds=range(20)):
            assert np.allclose(completion.logprobs, rescored(new, completion, 1.0), atol=1e-4)
    finally:
        engine.update_weights(sharpened_policy().model)


@pytest.mark.vllm
@installed
def test_an_untied_head_is_renewed_as_well() -> None:
    def untied(seed: int) -> Policy:
        policy = sharpened_policy(seed)
        policy.model.config.tie_word_embeddings = False
        head = torch.nn.Linear(32, policy.model.config.vocab_size, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * 0.2)
        policy.model.lm_head = head
        return policy

    new = untied(7)
    sampler = VLLMSampler(policy=untied(6), cpu_cache_gib=0.25)
    try:
        sampler.update_weights(new.model)
        params = SamplingParams(max_new_tokens=16)
        for completion in sampler.sample(many_prompts(10), params, seeds=range(10)):
            assert np.allclose(completion.logprobs, rescored(new, completion), atol=1e-4)
    finally:
        sampler.close()


@pytest.mark.vllm
@installed
def test_stop_texts_ends_and_limits_are_those_of_hf(
    engine: VLLMSampler, live_policy: Policy
) -> None:
    prompts = many_prompts(40)
    free = SamplingParams(max_new_tokens=30, temperature=0.0)
    hf = HFSampler(policy=live_policy)
    text = next(c.text for c in hf.sample(prompts, free, seeds=[0] * 40) if len(c.text) > 20)
    params = SamplingParams(max_new_tokens=30, temperature=0.0, stop=(text[9:12], text[3:4]))
    ours = engine.sample(prompts, params, seeds=[0] * 40)
    theirs = hf.sample(prompts, params, seeds=[0] * 40)
    assert [(c.text, c.token_ids, c.finish_reason) for c in ours] == [
        (c.text, c.token_ids, c.finish_reason) for c in theirs
    ]
    assert {c.finish_reason for c in ours} == {FinishReason.STOP, FinishReason.LENGTH}


@pytest.mark.vllm
@installed
def test_end_of_sequence_is_kept_in_the_ids_and_not_in_the_text(
    engine: VLLMSampler, live_policy: Policy
) -> None:
    end = live_policy.tokenizer.eos_token_id
    params = SamplingParams(max_new_tokens=60, temperature=2.0)
    completions = engine.sample(["a"] * 64, params, seeds=range(64))
    ended = [c for c in completions if c.finish_reason is FinishReason.STOP]
    assert ended
    for completion in ended:
        assert completion.token_ids[-1] == end
        assert len(completion.logprobs) == len(completion.token_ids)
        assert "<eos>" not in completion.text


@pytest.mark.vllm
@installed
def test_a_temperature_that_vllm_does_not_take_is_refused(engine: VLLMSampler) -> None:
    with pytest.raises(ConfigError, match="vLLM takes at most 2"):
        engine.sample(["a"], SamplingParams(temperature=3.0), seeds=[0])


@pytest.mark.vllm
@installed
def test_completions_end_where_the_context_ends(engine: VLLMSampler) -> None:
    params = SamplingParams(max_new_tokens=500, temperature=0.0)
    (completion,) = engine.sample(["a" * 60], params, seeds=[1])
    assert (len(completion.token_ids), completion.finish_reason) == (4, FinishReason.LENGTH)
    with pytest.raises(DataError, match="has 64 tokens"):
        engine.sample(["a" * 64], params, seeds=[1])


@pytest.mark.vllm
@installed
def test_engines_side_by_side_answer_for_themselves_and_leave_no_trace(
    engine: VLLMSampler, live_policy: Policy
) -> None:
    environment, threads = dict(os.environ), torch.get_num_threads()
    set_num_threads = torch.set_num_threads
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    memory = set(os.listdir("/dev/shm"))

    other = sharpened_policy(seed=5)
    second = VLLMSampler(policy=other, cpu_cache_gib=0.25)
    params = SamplingParams(max_new_tokens=8)
    (theirs,) = second.sample(["what is "], params, seeds=[0])
    assert np.allclose(theirs.logprobs, rescored(other, theirs), atol=1e-4)
    second.close()
    second.close()
    with pytest.raises(SamplerError, match="closed"):
        second.sample(["a"], params, seeds=[0])
    with pytest.raises(SamplerError, match="closed"):
        second.update_weights(other.model)
    (ours,) = engine.sample(["what is "], params, seeds=[0])
    assert np.allclose(ours.logprobs, rescored(live_policy, ours), atol=1e-4)
    engine.update_weights(live_policy.model)

    assert dict(os.environ) == environment
    assert torch.set_num_threads is set_num_threads
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]
    assert random.getstate() == states[2]
    assert {name for name in os.listdir("/dev/shm") if name.startswith("rlvr-")} <= memory


@pytest.mark.vllm
@installed
def test_a_closed_engine_gives_its_weights_back(engine: VLLMSampler) -> None:
    import weakref

    second = VLLMSampler(policy=sharpened_policy(seed=5), cpu_cache_gib=0.25)
    (model,) = second._engine.apply_model(weakref.ref)
    assert model() is not None
    second.close()
    assert model() is None


@pytest.mark.vllm
@installed
def test_a_saved_policy_is_loaded(live_policy: Policy, engine: VLLMSampler, tmp_path: Path) -> None:
    save_policy(live_policy, tmp_path)
    sampler = VLLMSampler(model=str(tmp_path), max_model_len=32, cpu_cache_gib=0.25)
    try:
        params = SamplingParams(max_new_tokens=8)
        expected = engine.sample(["1+1="], params, seeds=[3])
        assert sampler.sample(["1+1="], params, seeds=[3])[0].token_ids == expected[0].token_ids
        (short,) = sampler.sample(["a" * 30], SamplingParams(temperature=0.0), seeds=[0])
        assert len(short.token_ids) <= 2
    finally:
        sampler.close()


@pytest.mark.vllm
@installed
def test_weights_of_another_shape_are_refused_with_a_reason(engine: VLLMSampler) -> None:
    from rlvr.policy import make_policy

    wider = make_policy(alphabet=LETTERS, hidden_size=64, layers=2, heads=2, max_length=64)
    with pytest.raises(SamplerError, match="did not take the new weights"):
        engine.update_weights(wider.model)


@pytest.mark.vllm
@installed
def test_an_engine_that_failed_is_stopped() -> None:
    from rlvr.policy import make_policy

    # vLLM has no attention kernel for heads of 16 on a CPU, which it finds out while it answers.
    narrow = make_policy(alphabet=LETTERS, hidden_size=32, layers=1, heads=2, max_length=64)
    sampler = VLLMSampler(policy=narrow, cpu_cache_gib=0.25)
    with pytest.raises(SamplerError, match="failed and was stopped: RuntimeError"):
        sampler.sample(["a"], SamplingParams(max_new_tokens=2), seeds=[0])
    with pytest.raises(SamplerError, match="closed"):
        sampler.sample(["a"], SamplingParams(max_new_tokens=2), seeds=[0])


@pytest.mark.vllm
@installed
def test_no_prompts_give_no_completions(engine: VLLMSampler) -> None:
    assert engine.sample([], SamplingParams(), seeds=[]) == []


def test_a_missing_extra_names_the_install_command(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rlvr\[vllm\]'"):
        VLLMSampler(policy=policy)


def test_the_engine_computes_in_what_the_policy_computes_in(policy: Policy) -> None:
    """Master weights are float32, which would cost an engine twice the memory and the time."""
    assert engine_dtype(policy, policy.model.config) == "float32"
    narrow = policy.copy()
    compute_in(narrow.model, torch.bfloat16)
    assert engine_dtype(narrow, narrow.model.config) == "bfloat16"
    loaded = policy.copy().model.to(torch.bfloat16)
    loaded.config.dtype = torch.bfloat16
    assert engine_dtype(None, loaded.config) == "bfloat16"


def test_wrong_options_are_refused_before_anything_is_started(policy: Policy) -> None:
    with pytest.raises(ConfigError, match="exactly one"):
        VLLMSampler()
    with pytest.raises(ConfigError, match="dtype is fixed"):
        VLLMSampler(policy=policy, dtype="bfloat16")
    with pytest.raises(ConfigError, match="gpu_memory_utilization is 40"):
        VLLMSampler(policy=policy, gpu_memory_utilization=40)
    with pytest.raises(ConfigError, match="cpu_cache_gib is 0"):
        VLLMSampler(policy=policy, cpu_cache_gib=0)
    with pytest.raises(UserError, match="cannot load the policy"):
        VLLMSampler(model="./no/such/folder")
