"""Given completions: rows of demonstrations and of preference pairs, read, checked and split.

    sft           {"prompt", "completion", "id"?}
    reward, dpo   {"prompt", "chosen", "rejected", "id"?}

A prompt is text or chat messages; a completion is text, the assistant's message, or the whole chat
that ends with it. A row's id says which problem it belongs to; the prompt does where there is none.
All rows are held in memory and checked before anything else happens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from rlvr.environments.data import Published, check_column, load_rows
from rlvr.environments.readers import Row
from rlvr.errors import ConfigError, DataError
from rlvr.seeds import derive_seed
from rlvr.trainers.config import HeldOutConfig
from rlvr.trainers.supervised import Demonstration
from rlvr.types import Message, Prompt


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with a better and a worse completion; pairs of one problem share an id."""

    prompt: Prompt
    chosen: str
    rejected: str
    id: str = ""


class Given(Protocol):
    """What `split_held_out` looks at."""

    @property
    def id(self) -> str:
        """Of the problem."""
        ...

    @property
    def prompt(self) -> Prompt:
        """Of the problem, too."""
        ...


G = TypeVar("G", bound=Given)
T = TypeVar("T")


def load_pairs(data: str, split: str) -> list[Pair]:
    """Read preference pairs from a file, a folder or the Hub.

    Raises:
        DataError: there is no such data, it is empty, or a row is malformed; the message names it.
    """
    return _load(data, split, _pair)


def load_demonstrations(data: str, split: str, completion_column: str) -> list[Demonstration]:
    """Read demonstrations from a file, a folder or the Hub.

    Raises:
        DataError: there is no such data, it is empty, or a row is malformed; the message names it.
    """

    def make(row: Row) -> Demonstration:
        prompt, completion = _completion(row, completion_column, _prompt(row))
        return Demonstration(prompt, completion, _id(row, prompt))

    return _load(data, split, make)


def split_held_out(rows: Sequence[G], settings: HeldOutConfig | None) -> tuple[list[G], list[G]]:
    """Split rows into those to train on and those held out, both in their order.

    Rows that share an id or a prompt stay together, so that no problem is on both sides. Which side
    a problem is on is decided by a hash of its id: not by the run's seed, nor by the order of the
    rows. With `count`, problems are held out in the order of their hashes until there are that many
    rows; with `fraction`, those whose hash is below it, so that rows added later move no other.

    Raises:
        ConfigError: nothing would be left on one of the sides.
    """
    if settings is None:
        return list(rows), []
    hashes = _problem_hashes(rows)
    if settings.count is not None:
        border = _border(sorted(hashes), settings.count)
    else:
        assert settings.fraction is not None
        border = settings.fraction * _HASH_SPAN
    train = [row for row, value in zip(rows, hashes, strict=True) if value >= border]
    held_out = [row for row, value in zip(rows, hashes, strict=True) if value < border]
    if not train or not held_out:
        wanted = settings.count or settings.fraction
        raise ConfigError(
            f"held_out of {wanted} leaves {len(train)} of {len(rows)} rows to train on and "
            f"{len(held_out)} held out: expected some of both (held_out: null measures nothing)"
        )
    return train, held_out


_HASH_SPAN = 2.0**63


def _problem_hashes(rows: Sequence[Given]) -> list[int]:
    """A hash for each row, equal for rows that share an id or a prompt, however far apart."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for row in rows:
        by_id, by_prompt = root(f"id {row.id}"), root(f"prompt {json.dumps(row.prompt)}")
        parent[by_prompt] = by_id
    least: dict[str, int] = {}
    for row in rows:
        key, value = root(f"id {row.id}"), derive_seed("held out", row.id)
        least[key] = min(value, least.get(key, value))
    return [least[root(f"id {row.id}")] for row in rows]


def _border(hashes: list[int], count: int) -> float:
    """The hash at which at least `count` rows are below it, and no problem is cut in two."""
    if count >= len(hashes):
        return _HASH_SPAN
    last = hashes[count - 1]
    return last + 1


def _load(data: str, split: str, make: Callable[[Row], T]) -> list[T]:
    published = Published(file="{split}.jsonl")
    rows = load_rows(data, split, published, {}, streaming=False)
    made: list[T] = []
    for where, row in rows:
        try:
            made.append(make(row))
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
    if not made:
        raise DataError(f"{rows.source} holds no rows: there is nothing to train on")
    return made


def _pair(row: Row) -> Pair:
    prompt = _prompt(row)
    chosen_prompt, chosen = _completion(row, "chosen", prompt)
    rejected_prompt, rejected = _completion(row, "rejected", prompt)
    if chosen_prompt != rejected_prompt:
        raise DataError("columns 'chosen' and 'rejected' begin with different messages")
    return Pair(chosen_prompt, chosen, rejected, _id(row, chosen_prompt))


def _prompt(row: Row) -> Prompt:
    value = row.get("prompt")
    prompt: Prompt = _messages(value, "prompt") if isinstance(value, list) else _text(row, "prompt")
    if not prompt:
        raise DataError("column 'prompt' is empty")
    return prompt


def _completion(row: Row, column: str, prompt: Prompt) -> tuple[Prompt, str]:
    """The prompt as this completion's chat has it, and the completion's text."""
    value = row.get(column)
    if not isinstance(value, list):
        return prompt, _text(row, column)
    messages = _messages(value, column)
    if not messages or messages[-1]["role"] != "assistant":
        raise DataError(f"column {column!r} does not end with a message of role 'assistant'")
    before, text = messages[:-1], messages[-1]["content"]
    if not before:
        return prompt, text
    if before != prompt and before[-1]["content"] != prompt:
        raise DataError(f"column {column!r} begins with other messages than the prompt's")
    return before, text


def _messages(value: Iterable[Any], column: str) -> list[Message]:
    messages: list[Message] = []
    for item in value:
        role, content = (
            (item.get("role"), item.get("content")) if isinstance(item, dict) else (0, 0)
        )
        if not isinstance(role, str) or not isinstance(content, str):
            raise DataError(
                f"column {column!r} holds {item!r:.40} among its messages: expected "
                '{"role": text, "content": text}'
            )
        messages.append({"role": role, "content": content})
    return messages


def _text(row: Row, column: str) -> str:
    check_column(row, column, str)
    text: str = row[column]
    return text


def _id(row: Row, prompt: Prompt) -> str:
    value = row.get("id")
    if value is None or value == "":
        return prompt if isinstance(prompt, str) else json.dumps(prompt)
    if not isinstance(value, str | int):
        raise DataError(f"column 'id' holds {value!r:.40}: expected text or a whole number")
    return str(value)
