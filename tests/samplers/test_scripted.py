"""Scripted answers are matched by prompt text, and a bad script names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlvr.errors import ConfigError, DataError
from rlvr.protocols import Sampler
from rlvr.registry import samplers
from rlvr.samplers.scripted import ScriptedSampler
from rlvr.types import Prompt, SamplingParams


def texts(sampler: Sampler, prompts: list[Prompt]) -> list[str]:
    completions = sampler.sample(prompts, SamplingParams(), seeds=range(len(prompts)))
    return [completion.text for completion in completions]


def test_a_mapping_answers_by_prompt_and_takes_turns() -> None:
    sampler = samplers.create("scripted", {"answers": {"a": "1", "b": ["2", "3"]}})
    assert isinstance(sampler, Sampler)
    assert texts(sampler, ["b", "a", "b", "b", "a"]) == ["2", "1", "3", "2", "1"]
    assert texts(sampler, ["b"]) == ["2"], "a call does not depend on the calls before it"


def test_a_function_answers_and_sees_messages_as_text() -> None:
    sampler = ScriptedSampler(answers=str.upper)
    messages = [{"role": "system", "content": "be"}, {"role": "user", "content": "brief"}]
    assert texts(sampler, ["x", messages]) == ["X", "BE\n\nBRIEF"]


def test_a_file_answers(tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(
        '{"prompt": "p", "completion": "one"}\n\n{"prompt": "p", "completion": "zwei ü"}\n',
        encoding="utf-8",
    )
    assert texts(ScriptedSampler(file=str(file)), ["p", "p"]) == ["one", "zwei ü"]


def test_an_unknown_prompt_is_an_error_and_not_an_empty_answer() -> None:
    with pytest.raises(DataError, match="no answer to the prompt 'c'"):
        texts(ScriptedSampler(answers={"a": "1"}), ["c"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "p", "completion": "c"}\n{oops\n', "line 2: not JSON"),
        ('{"id": "1", "completion": "c"}\n', "line 1: expected an object.*--completions"),
        ("[1]\n", "line 1: expected an object"),
        ("", "has no rows"),
    ],
)
def test_a_bad_file_names_its_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        ScriptedSampler(file=str(file))


def test_a_missing_file_and_missing_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        ScriptedSampler(file=str(tmp_path / "none.jsonl"))
    with pytest.raises(ConfigError, match="exactly one"):
        ScriptedSampler()
    with pytest.raises(ConfigError, match="exactly one"):
        ScriptedSampler(answers={}, file="x")
