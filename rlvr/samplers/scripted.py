"""The `scripted` sampler: known answers, for tests and for trying a verifier without a model.

A prompt is matched by its text. Saved completions that are keyed by task id are graded by
`rlvr eval --completions` instead, because a sampler never sees ids.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rlvr.errors import ConfigError, DataError
from rlvr.types import Completion, Prompt, SamplingParams

Answers = Mapping[str, str | Sequence[str]] | Callable[[str], str]


class ScriptedSampler:
    """Answers from a mapping, a function, or a JSONL file; no model.

    Args:
        answers: prompt text -> its answer, or its answers (the k-th occurrence of a prompt in a
            call gets the k-th, from the first again when they run out); or a function of the text.
        file: JSONL rows `{"prompt", "completion"}`; several rows of a prompt are several answers.

    Raises:
        ConfigError: both or neither were given.
        DataError: the file cannot be read, or a row is malformed; the message names the line.
    """

    name = "scripted"

    def __init__(self, *, answers: Answers | None = None, file: str | None = None) -> None:
        if (answers is None) == (file is None):
            raise ConfigError(
                "sampler 'scripted' needs exactly one of the options 'answers' and 'file'"
            )
        self._answers: Answers = _read(file) if file is not None else answers or {}

    def sample(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seeds: Sequence[int]
    ) -> list[Completion]:
        """The scripted answer of each prompt; `params` and `seeds` change nothing.

        Raises:
            DataError: a prompt has no answer.
        """
        if len(prompts) != len(seeds):
            raise ValueError(
                f"{len(prompts)} prompts with {len(seeds)} seeds: expected equally many"
            )
        occurrences: Counter[str] = Counter()
        completions = []
        for prompt in prompts:
            text = prompt if isinstance(prompt, str) else "\n\n".join(m["content"] for m in prompt)
            completions.append(Completion(text=self._answer(text, occurrences[text])))
            occurrences[text] += 1
        return completions

    def _answer(self, prompt: str, occurrence: int) -> str:
        if callable(self._answers):
            return self._answers(prompt)
        answers = self._answers.get(prompt, ())
        if isinstance(answers, str):
            return answers
        if not answers:
            raise DataError(f"the script has no answer to the prompt {prompt[:80]!r}")
        return answers[occurrence % len(answers)]

    def close(self) -> None:
        """Nothing is held."""


def _read(file: str) -> dict[str, list[str]]:
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(f"cannot read the answers {file}: {reason}") from error
    answers: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{file}, line {number}: not JSON: {error.msg}") from error
        if not isinstance(row, dict) or not all(
            isinstance(row.get(key), str) for key in ("prompt", "completion")
        ):
            raise DataError(
                f"{file}, line {number}: expected an object with the texts 'prompt' and "
                "'completion' (rows keyed by id are graded by rlvr eval --completions)"
            )
        answers.setdefault(row["prompt"], []).append(row["completion"])
    if not answers:
        raise DataError(f"{file} has no rows")
    return answers
