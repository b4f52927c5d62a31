"""Tokens a second of the in-process samplers on a tiny policy, beside `model.generate`.

    python benchmarks/samplers.py [--threads 1] [--batch 512] [--new-tokens 12] [--repeats 5]

The policy is a random Qwen2 (4 layers, hidden 128, one token a character, 1.1M weights); prompts
are 64 sums, each asked `batch / 64` times, as a group is, and then `batch` different ones. The best
of the repeats counts: other work on the machine can only make a run slower. Processor time, over
all threads, stands beside the wall time because a busy machine changes it less.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import string
import time
from collections.abc import Callable
from typing import Any

import torch

from rlvr.policy import Policy, encode_prompt, make_policy
from rlvr.samplers.hf import HFSampler
from rlvr.types import SamplingParams


def sums(count: int) -> list[str]:
    """Prompts of 11 to 14 characters."""
    chooser = random.Random(0)
    return [
        "".join(chooser.choice("0123456789+") for _ in range(chooser.randint(11, 14)))
        for _ in range(count)
    ]


def generate(policy: Policy, prompts: list[str], new_tokens: int) -> int:
    """The same work by `transformers`; returns the tokens that it made."""
    ids = [encode_prompt(policy.tokenizer, prompt) for prompt in prompts]
    width = max(map(len, ids))
    inputs = torch.tensor([[0] * (width - len(row)) + row for row in ids])
    output = policy.model.generate(
        input_ids=inputs,
        attention_mask=(inputs != 0).long(),
        max_new_tokens=new_tokens,
        do_sample=True,
        top_k=0,
        pad_token_id=policy.tokenizer.pad_token_id,
    )
    return int((output[:, width:] != policy.tokenizer.pad_token_id).sum())


def best(name: str, repeats: int, work: Callable[[], int]) -> None:
    """Print the best rates of several runs, the first of which warms up."""
    walls, processors = [], []
    for _ in range(repeats + 1):
        wall, processor = time.perf_counter(), time.process_time()
        tokens = work()
        walls.append(tokens / (time.perf_counter() - wall))
        processors.append(tokens / (time.process_time() - processor))
    print(
        f"{name:26} {max(walls[1:]):8.0f} tokens/s, "
        f"{max(processors[1:]):8.0f} a second of processor time",
        flush=True,
    )


def sampled(sampler: Any, prompts: list[str], new_tokens: int) -> int:
    """Sample once; returns the tokens that were made."""
    params = SamplingParams(max_new_tokens=new_tokens)
    completions = sampler.sample(prompts, params, seeds=range(len(prompts)))
    return sum(len(completion.token_ids) for completion in completions)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description="Tokens a second of the in-process samplers.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    policy = make_policy(alphabet=string.printable[:95])
    groups = [prompt for prompt in sums(64) for _ in range(options.batch // 64)]
    inputs = {"groups": groups, "distinct": sums(options.batch)}

    hf = HFSampler(policy=policy)
    for kind, prompts in inputs.items():
        best(
            f"model.generate, {kind}",
            options.repeats,
            lambda prompts=prompts: generate(policy, prompts, options.new_tokens),
        )
        best(
            f"hf, {kind}",
            options.repeats,
            lambda prompts=prompts: sampled(hf, prompts, options.new_tokens),
        )
    if importlib.util.find_spec("vllm") is None:
        print("vllm is not installed")
        return
    from rlvr.samplers.vllm import VLLMSampler

    begin = time.perf_counter()
    vllm = VLLMSampler(policy=policy)
    print(f"{'vllm, start':26} {time.perf_counter() - begin:8.1f} s")
    for kind, prompts in inputs.items():
        best(
            f"vllm, {kind}",
            options.repeats,
            lambda prompts=prompts: sampled(vllm, prompts, options.new_tokens),
        )
    begin = time.perf_counter()
    vllm.update_weights(policy.model)
    print(f"{'vllm, new weights':26} {(time.perf_counter() - begin) * 1000:8.0f} ms")
    vllm.close()


if __name__ == "__main__":
    main()
