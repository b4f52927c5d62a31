"""What in-process engines share: checked requests, prompts to ids, and ids to text.

Both engines encode, stop and decode through here, so that they differ in speed and not in meaning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from rlvr.errors import ConfigError, DataError
from rlvr.policy import Policy, encode_prompt
from rlvr.types import Completion, FinishReason, Prompt, SamplingParams

Ids = tuple[int, ...]


def check_source(sampler: str, policy: Policy | None, model: str | None, **fixed: Any) -> None:
    """Refuse both or neither of a live policy and a path, and options that a live policy settles.

    Args:
        sampler: its name, for messages.
        policy: a live one.
        model: a folder or a Hub name.
        **fixed: options that only make sense with `model`; `None` where not given.

    Raises:
        ConfigError: as said.
    """
    if (policy is None) == (model is None):
        raise ConfigError(
            f"sampler {sampler!r} needs exactly one of the options 'model' (a path or a Hub name) "
            "and 'policy' (a live one)"
        )
    for option, value in fixed.items():
        if policy is not None and value is not None:
            raise ConfigError(
                f"sampler {sampler!r} follows the live policy, whose {option} is fixed: "
                f"set {option!r} of the policy, not of the sampler"
            )


def check_request(prompts: Sequence[Prompt], params: SamplingParams, seeds: Sequence[int]) -> None:
    """Refuse what no engine can do.

    Raises:
        ConfigError: a sampling parameter is out of its range.
        ValueError: there are not as many seeds as prompts.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"{len(prompts)} prompts with {len(seeds)} seeds: expected one for each")
    wrong = None
    if params.max_new_tokens < 1:
        wrong = f"max_new_tokens is {params.max_new_tokens}: expected 1 or more"
    elif not (math.isfinite(params.temperature) and params.temperature >= 0):
        wrong = f"temperature is {params.temperature}: expected 0 (greedy) or more"
    elif not 0 < params.top_p <= 1:
        wrong = f"top_p is {params.top_p}: expected above 0 and at most 1"
    elif params.top_k < 0:
        wrong = f"top_k is {params.top_k}: expected 0 (all tokens) or more"
    elif "" in params.stop:
        wrong = "a stop text is empty, which every completion contains"
    if wrong:
        raise ConfigError(f"sampling: {wrong}")


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], context: int | None
) -> list[Ids]:
    """Token ids of each prompt; one that occurs several times is encoded once.

    Args:
        tokenizer: the policy's.
        prompts: text or chat messages.
        context: the longest sequence that the model takes, in tokens; `None` where unbounded.

    Raises:
        DataError: a prompt has no token, or leaves no room for an answer.
    """
    known: dict[Any, Ids] = {}
    encoded: list[Ids] = []
    for index, prompt in enumerate(prompts):
        key = (
            prompt if isinstance(prompt, str) else tuple((m["role"], m["content"]) for m in prompt)
        )
        if key not in known:
            ids = tuple(encode_prompt(tokenizer, prompt))
            if not ids:
                raise DataError(
                    f"prompt {index} ({str(prompt)[:60]!r}) has no token: expected text that the "
                    "policy's tokenizer knows"
                )
            if context is not None and len(ids) >= context:
                raise DataError(
                    f"prompt {index} ({str(prompt)[:60]!r}) has {len(ids)} tokens, and the policy "
                    f"takes {context} with the answer: shorten it, or take a longer context"
                )
            known[key] = ids
        encoded.append(known[key])
    return encoded


def end_token_ids(
    tokenizer: PreTrainedTokenizerBase,
    config: PreTrainedConfig,
    generation_config: GenerationConfig | None,
) -> frozenset[int]:
    """The ids that end a completion: the tokenizer's, the model's, and its generation defaults'."""
    found: set[int] = set()
    for ids in (
        tokenizer.eos_token_id,
        getattr(config, "eos_token_id", None),
        getattr(generation_config, "eos_token_id", None),
    ):
        found.update(ids if isinstance(ids, list | tuple) else () if ids is None else (ids,))
    return frozenset(found)


def context_length(config: PreTrainedConfig) -> int | None:
    """The longest sequence that a model takes, in tokens; `None` where it has no bound."""
    text_config = config.get_text_config(decoder=True)
    length = getattr(text_config, "max_position_embeddings", None)
    return int(length) if length else None


def decode_text(
    tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int], end_ids: frozenset[int]
) -> str:
    """The text of a completion without its end token and other special tokens."""
    ids = list(token_ids)
    if ids and ids[-1] in end_ids:
        ids.pop()
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return str(text)


def cut_at_stop(text: str, stop: Iterable[str]) -> str:
    """The text up to where the first stop text begins."""
    begins = [text.find(item) for item in stop]
    return text[: min((begin for begin in begins if begin >= 0), default=len(text))]


def make_completion(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Ids,
    token_ids: Ids,
    logprobs: tuple[float, ...],
    finish_reason: FinishReason,
    *,
    stop: Sequence[str],
    end_ids: frozenset[int],
) -> Completion:
    """A completion with its text, cut at the first stop text."""
    return Completion(
        text=cut_at_stop(decode_text(tokenizer, token_ids, end_ids), stop),
        token_ids=token_ids,
        logprobs=logprobs,
        prompt_token_ids=prompt,
        finish_reason=finish_reason,
    )
