"""The `hf` sampler: any `transformers` causal model, in this process, on its own weights.

In training it shares the trainer's live module, so that there is nothing to synchronise. Equal
prompts, seeds and weights give equal completions, whatever the global random state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from rlvr.adapters import copy_weights, plain_state_dict
from rlvr.errors import ConfigError
from rlvr.policy import Policy, load_policy
from rlvr.samplers.decoding import Decoded, Ending, decode_batch, inference
from rlvr.samplers.requests import (
    Ids,
    check_request,
    check_source,
    context_length,
    encode_prompts,
    end_token_ids,
    make_completion,
)
from rlvr.sharding import is_sharded
from rlvr.types import Completion, Prompt, SamplingParams


class HFSampler:
    """Hugging Face transformers, in this process, sharing the trainer's weights.

    Args:
        policy: a live policy, whose module is shared; or
        model: a folder or a Hub name to load.
        dtype: of a loaded model: float32 (where not given), bfloat16 or float16.
        device: of a loaded model; the first GPU where not given, else the CPU.
        max_batch_tokens: prompts and completions of one batch together, padding included: bounds
            the memory of the cache.

    Raises:
        ConfigError: both or neither of `policy` and `model`, or another option is wrong.
        UserError: the model cannot be loaded.
    """

    name = "hf"

    def __init__(
        self,
        *,
        policy: Policy | None = None,
        model: str | None = None,
        dtype: str | None = None,
        device: str | None = None,
        max_batch_tokens: int = 65_536,
    ) -> None:
        if max_batch_tokens < 1:
            raise ConfigError(f"max_batch_tokens is {max_batch_tokens}: expected 1 or more")
        check_source(self.name, policy, model, dtype=dtype, device=device)
        if policy is None:
            assert model is not None
            device = device or ("cuda" if torch.cuda.is_available() else "cpu")
            policy = load_policy(model, dtype=dtype or "float32", device=device)
        self.policy = policy
        self._max_batch_tokens = max_batch_tokens

    def sample(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seeds: Sequence[int]
    ) -> list[Completion]:
        """One completion for each prompt, in order.

        Raises:
            ConfigError: a sampling parameter is out of its range.
            DataError: a prompt is empty or leaves no room for an answer.
            SamplerError: the model's logits are not numbers.
        """
        check_request(prompts, params, seeds)
        model, tokenizer = self.policy.model, self.policy.tokenizer
        context = context_length(model.config)
        end_ids = end_token_ids(tokenizer, model.config, model.generation_config)
        ending = Ending(end_ids, params.stop, context, tokenizer)
        encoded = encode_prompts(tokenizer, prompts, context)
        results: list[Decoded | None] = [None] * len(prompts)
        with inference(model):
            for batch in self._batches(encoded, params.max_new_tokens):
                decoded = decode_batch(
                    model, [encoded[i] for i in batch], params, [seeds[i] for i in batch], ending
                )
                for i, result in zip(batch, decoded, strict=True):
                    results[i] = result
        return [
            make_completion(
                tokenizer,
                prompt,
                result.token_ids,
                result.logprobs,
                result.finish_reason,
                stop=params.stop,
                end_ids=end_ids,
            )
            for prompt, result in zip(encoded, results, strict=True)
            if result is not None
        ]

    def _batches(self, encoded: Sequence[Ids], max_new_tokens: int) -> Iterator[list[int]]:
        """Indices of prompts of like length, equal ones side by side; at least one a batch."""
        batch: list[int] = []
        for i in sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), encoded[i])):
            width = len(encoded[i]) + max_new_tokens
            if batch and (len(batch) + 1) * width > self._max_batch_tokens:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def update_weights(self, model: Any) -> None:
        """Take over the weights of `model`; nothing is to be done where it is the shared module."""
        if is_sharded(model):
            copy_weights(model, self.policy.model)
        elif model is not self.policy.model:
            self.policy.model.load_state_dict(plain_state_dict(model))

    def close(self) -> None:
        """Nothing is held but the model, which belongs to the caller."""
