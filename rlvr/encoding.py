"""From text to token ids: the one place where prompts and given completions are tokenised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlvr.types import Prompt


def encode_prompt(tokenizer: Any, prompt: Prompt) -> list[int]:
    """The token ids that a prompt becomes.

    Text is encoded as it stands (with the tokenizer's own special tokens at its beginning); chat
    messages go through the chat template with its generation prompt, or, where the tokenizer has
    none, are joined by blank lines.

    Args:
        tokenizer: a `transformers` tokenizer.
        prompt: text or chat messages.
    """
    if isinstance(prompt, str):
        return _ids(tokenizer, prompt)
    if tokenizer.chat_template:
        messages: Sequence[Any] = [dict(message) for message in prompt]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return _ids(tokenizer, text, add_special_tokens=False)
    return _ids(tokenizer, "\n\n".join(m["content"] for m in prompt) + "\n\n")


def encode_completion(tokenizer: Any, text: str) -> list[int]:
    """The token ids of a completion that was given as text; the end of sequence is the last one.

    Args:
        tokenizer: a `transformers` tokenizer.
        text: the whole completion.
    """
    return [*_ids(tokenizer, text, add_special_tokens=False), tokenizer.eos_token_id]


def _ids(tokenizer: Any, text: str, **options: Any) -> list[int]:
    # Not verbose: what is too long is for the caller to judge, and no warning stops it.
    return list(tokenizer(text, verbose=False, **options)["input_ids"])
