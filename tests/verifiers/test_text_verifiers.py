"""The verifiers `exact`, `regex`, `choice` and `format`."""

from __future__ import annotations

import time
from typing import Any

import pytest

import rlvr
from rlvr.errors import ConfigError
from rlvr.types import Completion, FinishReason, Outcome, Task
from rlvr.verifiers.pool import verify_many


def grade(
    name: str, answer: Any, completion: str | Completion, prompt: str = "", **options: Any
) -> Any:
    task = Task(id="t", prompt=prompt, answer=answer)
    return rlvr.load_verifier(name, **options).verify(task, completion)


@pytest.mark.parametrize(
    ("completion", "options", "outcome"),
    [
        ("Paris", {}, Outcome.CORRECT),
        ("  Paris\n", {}, Outcome.CORRECT),
        ("  Paris\n", {"strip": False}, Outcome.INCORRECT),
        ("paris", {}, Outcome.INCORRECT),
        ("paris", {"ignore_case": True}, Outcome.CORRECT),
        ("Paris!", {}, Outcome.INCORRECT),
        ("", {}, Outcome.NO_ANSWER),
        ("<think>Paris</think>London", {}, Outcome.INCORRECT),
        ("<think>London</think>Paris", {}, Outcome.CORRECT),
    ],
)
def test_exact(completion: str, options: dict[str, Any], outcome: Outcome) -> None:
    assert grade("exact", "Paris", completion, **options).outcome is outcome


def test_exact_reads_numbers_as_they_are_written() -> None:
    assert grade("exact", 5, "5").is_correct
    assert not grade("exact", 5, "5.0").is_correct


@pytest.mark.parametrize("name", ["exact", "regex", "choice"])
@pytest.mark.parametrize("answer", [None, "", [1], True])
def test_a_ground_truth_that_is_no_text_is_a_verifier_error(name: str, answer: Any) -> None:
    assert grade(name, answer, "A").is_error


@pytest.mark.parametrize(
    ("answer", "completion", "options", "reward"),
    [
        (r"\d{4}", " 1969 ", {}, 1.0),
        (r"\d{4}", "in 1969", {}, 0.0),
        (r"(?s).*\b1969\b.*", "in\n1969!", {}, 1.0),
        ("ignored", "abc", {"pattern": "[a-c]+"}, 1.0),
        (None, "abc", {"pattern": "[a-c]+"}, 1.0),
    ],
)
def test_regex_matches_the_whole_completion(
    answer: Any, completion: str, options: dict[str, Any], reward: float
) -> None:
    assert grade("regex", answer, completion, **options).reward == reward


def test_a_pattern_that_is_none_is_the_tables_fault_or_the_callers() -> None:
    assert grade("regex", "(", "x").is_error
    with pytest.raises(ConfigError, match="no regular expression"):
        grade("regex", None, "x", pattern="(")


def test_a_pattern_that_explodes_is_stopped() -> None:
    verifier = rlvr.load_verifier("regex", pattern="(a+)+b")
    started = time.monotonic()
    [verdict] = verify_many(verifier, [(Task(id="t", prompt=""), "a" * 40)], timeout=0.5)
    assert time.monotonic() - started < 5
    assert verdict.is_error


CHOSEN = [
    "B", "(B)", "b", "(b)", "B.", "B) Paris", "B: Paris", "Option B", "The answer is B.",
    "The correct answer is (B).", r"\boxed{B}", r"So \boxed{\text{(B)}} it is", "Answer: B",
    "**Answer: B**", "(B) cats and dogs", "B. Vitamins, minerals",
    "Final answer: option B", "I pick (B) here", "<think>A</think>B",
]  # fmt: skip
NOT_CHOSEN = [
    "", "A or B", "A, B", "(A) x (B) y", "A. One but maybe B", "(A) (B)",
    "The answer is A or B", "The answer is not B", r"\boxed{A, B}",
    r"\boxed{B} \boxed{A}", r"\boxed{}", "Answer: A\nAnswer: B", "I pick (A) or (B)", "Because B",
    "The answer is Because", "The answer is B, not A", "It is either (B) or (C)", "maybe (B)",
    "The answer is both A and B", "ABCD", r"\boxed{B} Wait, that is wrong.",
]  # fmt: skip


@pytest.mark.parametrize("completion", CHOSEN)
def test_choice_finds_the_letter(completion: str) -> None:
    assert grade("choice", "B", completion).is_correct
    assert grade("choice", "(b)", completion).is_correct
    assert grade("choice", "C", completion).outcome is Outcome.INCORRECT


@pytest.mark.parametrize("completion", NOT_CHOSEN)
@pytest.mark.parametrize("answer", "ABC")
def test_choice_pays_no_hedge(answer: str, completion: str) -> None:
    assert grade("choice", answer, completion).reward == 0.0


WHOLE = "<think>a</think>\n<answer>b</answer>"


@pytest.mark.parametrize(
    ("completion", "prompt", "good"),
    [
        (WHOLE, "", True),
        (WHOLE + "\n", "", True),
        ("a</think><answer>b</answer>", "Think.<think>\n", True),
        (WHOLE, "Think.<think>", False),
        (WHOLE + WHOLE, "", False),
        (WHOLE + " more", "", False),
        ("so: " + WHOLE, "", False),
        ("<answer>b</answer><think>a</think>", "", False),
        ("<think></think><answer>b</answer>", "", False),
        ("<think>a</think><answer> </answer>", "", False),
        ("<think>a", "", False),
        ("42", "", False),
    ],
)
def test_format_of_think_and_answer(completion: str, prompt: str, good: bool) -> None:
    verdict = grade("format", None, completion, prompt)
    assert verdict.outcome is (Outcome.CORRECT if good else Outcome.WRONG_FORMAT)


@pytest.mark.parametrize(
    ("completion", "good"),
    [
        (r"It is \boxed{4}.", True),
        (r"<think>\boxed{3}</think>\boxed{4}", True),
        (r"\boxed{3} \boxed{4}", False),
        (r"\boxed{4} \boxed{", False),
        (r"\boxed{ }", False),
        (r"<think>\boxed{3}</think>4", False),
        (r"<think>\boxed{3}", False),
        ("4", False),
    ],
)
def test_format_of_one_box(completion: str, good: bool) -> None:
    assert grade("format", None, completion, style="boxed").is_correct is good


def test_a_format_that_was_cut_off_is_truncated() -> None:
    cut = Completion(text="<think>a", finish_reason=FinishReason.LENGTH)
    assert grade("format", None, cut).outcome is Outcome.TRUNCATED


def test_an_unknown_style_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'boxed'"):
        grade("format", None, "x", style="box")
