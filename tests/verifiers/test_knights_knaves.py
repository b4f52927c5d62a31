from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rlvr
from rlvr.errors import VerifierError
from rlvr.types import Completion, FinishReason, Outcome, Task, Verdict
from rlvr.verifiers.knights_knaves import consistent, holds, read_statements

ANSWER = {"A": "knight", "B": "knave"}
STATEMENTS = [["lying", 1], ["and", ["telling-truth", 0], ["telling-truth", 1]]]
PUZZLE = {"names": ["A", "B"], "statements": STATEMENTS}


def grade(
    completion: str | Completion, answer: Any = ANSWER, metadata: dict[str, Any] | None = None
) -> Verdict:
    task = Task(id="t", prompt="p", answer=answer, metadata=metadata or {})
    return rlvr.load_verifier("knights_knaves").verify(task, completion)


@pytest.mark.parametrize(
    "completion",
    [
        "A=k B=n",
        "A=k, B=n",
        "B=n A=k",
        "kk:nk kn:kn\nA=k B=n",
        "A is a knight, B is a knave",
        "A is a knight and B is a knave.",
        "Therefore, A is a knight and B is a knave.",
        "The final answer is: A is a knight, B is a knave.",
        "(1) A is a knight\n(2) B is a knave",
        "1. A is a Knight\n2. B is a Knave\n",
        "- A: knight\n- B: knave",
        "**A** is a **knight**, and **B** is a **knave**.",
        "<answer>(1) A is a knight (2) B is a knave</answer>",
        "Say A is a knave. No.\n<answer>\n(1) A is a knight\n(2) B is a knave\n</answer>\n",
        "<think>A is a knave, B is a knight</think><answer>A is a knight, B is a knave</answer>",
        "First I thought A=n B=k.\nBut no:\nA=k B=n",
    ],
)
def test_the_right_assignment_is_paid(completion: str) -> None:
    assert grade(completion, metadata=PUZZLE).is_correct


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        ("", Outcome.NO_ANSWER),
        ("A=n B=k", Outcome.INCORRECT),
        ("A=k B=k", Outcome.INCORRECT),
        ("knight knave", Outcome.WRONG_FORMAT),
        ("A=k", Outcome.WRONG_FORMAT),
        ("A=k B", Outcome.WRONG_FORMAT),
        ("A=k B=n C=k", Outcome.WRONG_FORMAT),
        ("A=k B=n A=k", Outcome.WRONG_FORMAT),
        ("A=k A=n B=n", Outcome.WRONG_FORMAT),
        ("A=n B=k\nA=k B=n", Outcome.WRONG_FORMAT),
        ("A=n B=k\n\n\nA=k B=n", Outcome.WRONG_FORMAT),
        ("A=k B=n or A=n B=k", Outcome.WRONG_FORMAT),
        ("A=k B=n?", Outcome.WRONG_FORMAT),
        ("A is a knight or a knave, B is a knave", Outcome.WRONG_FORMAT),
        ("A is a knight and a knave, B is a knave", Outcome.WRONG_FORMAT),
        ("Maybe A is a knight, B is a knave", Outcome.WRONG_FORMAT),
        ("A is not a knight, B is not a knave", Outcome.WRONG_FORMAT),
        ("It is false that A is a knight, B is a knave", Outcome.WRONG_FORMAT),
        ("A is a knight, B is a knave\nor the other way round", Outcome.WRONG_FORMAT),
        ("<answer>A=k B=n</answer> or not", Outcome.WRONG_FORMAT),
        ("<answer>A=k B=n</answer><answer>A=n B=k</answer>", Outcome.WRONG_FORMAT),
        ("<answer>A=k B=n", Outcome.WRONG_FORMAT),
        ("A=k B=n <answer></answer>", Outcome.WRONG_FORMAT),
        ("<answer>A=n B=n</answer>", Outcome.INCORRECT),
        ("A=knightly B=n", Outcome.WRONG_FORMAT),
        ("AA=k B=n", Outcome.WRONG_FORMAT),
        ("a=k b=n", Outcome.WRONG_FORMAT),
        ("<think>A=k B=n", Outcome.WRONG_FORMAT),
        ("A=k " * 5_000, Outcome.WRONG_FORMAT),
    ],
)
def test_anything_else_is_worth_nothing(completion: str, outcome: Outcome) -> None:
    verdict = grade(completion, metadata=PUZZLE)
    assert (verdict.reward, verdict.outcome) == (0.0, outcome)


def test_an_answer_cut_off_at_the_limit_is_truncated() -> None:
    cut = Completion(text="kk:nk kn:kn\nA=k B", finish_reason=FinishReason.LENGTH)
    assert grade(cut, metadata=PUZZLE).outcome is Outcome.TRUNCATED


def test_the_share_of_people_told_right_is_a_metric_and_no_reward() -> None:
    verdict = grade("A=k B=k")
    assert verdict.reward == 0.0
    assert verdict.metrics == {"people_right": 0.5}


def test_the_ground_truth_may_be_text_in_the_form_of_the_data() -> None:
    text = "(1) Michael is a knight\n(2) Zoey is a knave"
    assert grade("Zoey is a knave, Michael is a knight", text).is_correct
    assert grade("Zoey is a knight, Michael is a knight", text).reward == 0.0


@pytest.mark.parametrize(
    ("answer", "metadata"),
    [
        (None, {}),
        ({}, {}),
        ({"A": "king"}, {}),
        ({"A": ["knight"]}, {}),
        ("nobody knows", {}),
        (ANSWER, {"names": ["A", "B"], "statements": [["lying", 1]]}),
        (ANSWER, {"names": ["A", "C"], "statements": STATEMENTS}),
        (ANSWER, {"names": ["A", "B"], "statements": [["lying", 1], ["says", 0]]}),
        (ANSWER, {"names": ["A", "B"], "statements": [["lying", 2], ["lying", 0]]}),
        (ANSWER, {"names": ["A", "B"], "statements": "((("}),
        ({"A": "knave", "B": "knight"}, PUZZLE),
    ],
)
def test_a_malformed_puzzle_is_no_zero(answer: Any, metadata: dict[str, Any]) -> None:
    assert grade("A=k B=n", answer, metadata).outcome is Outcome.VERIFIER_ERROR


def test_a_second_solution_is_the_puzzles_fault() -> None:
    loose = {"names": ["A", "B"], "statements": [["lying", 1], ["lying", 0]]}
    assert grade("A=k B=n", metadata=loose).is_correct
    assert grade("A=n B=k", metadata=loose).outcome is Outcome.VERIFIER_ERROR
    assert grade("A=k B=k", metadata=loose).outcome is Outcome.INCORRECT


@pytest.mark.parametrize(
    ("statement", "true_for"),
    [
        (["telling-truth", 0], {"kk", "kn"}),
        (["lying", 1], {"kn", "nn"}),
        (["not", ["lying", 1]], {"kk", "nk"}),
        (["and", ["telling-truth", 0], ["telling-truth", 1]], {"kk"}),
        (["or", ["telling-truth", 0], ["telling-truth", 1]], {"kk", "kn", "nk"}),
        (["->", ["telling-truth", 0], ["telling-truth", 1]], {"kk", "nk", "nn"}),
        (["<=>", ["telling-truth", 0], ["telling-truth", 1]], {"kk", "nn"}),
    ],
)
def test_connectives_have_their_truth_tables(statement: Any, true_for: set[str]) -> None:
    worlds = {"".join(w): [c == "k" for c in w] for w in itertools.product("kn", repeat=2)}
    assert {name for name, knights in worlds.items() if holds(statement, knights)} == true_for


def test_knights_speak_the_truth_and_knaves_do_not() -> None:
    assert consistent(STATEMENTS, [True, False])
    assert not consistent(STATEMENTS, [True, True])
    assert not consistent(STATEMENTS, [False, False])


def test_statements_are_read_as_literals_and_never_run() -> None:
    text = "(('<=>', ('lying', 0), ('telling-truth', 1)), ('lying', 0))"
    assert read_statements(text) == [("<=>", ("lying", 0), ("telling-truth", 1)), ("lying", 0)]
    with pytest.raises(VerifierError, match="cannot read the statements"):
        read_statements("__import__('os').getcwd()")


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    assert grade(text, metadata=PUZZLE).reward == 0.0


@given(
    st.lists(st.sampled_from(["A", "B", "=", "k", "n", " ", "\n", ",", "and", "or"]), max_size=16)
)
def test_only_one_complete_assignment_at_the_end_is_paid(parts: list[str]) -> None:
    text = "".join(parts)
    if grade(text, metadata=PUZZLE).is_correct:
        said = re.findall(r"([AB])\s*=\s*([kn])", text)
        assert sorted(said[-2:]) == [("A", "k"), ("B", "n")]
        assert "or" not in text.rstrip().splitlines()[-1]


@given(st.permutations(["Ann", "An", "Bo Lee", "C-3"]), st.lists(st.booleans(), min_size=4))
def test_any_order_of_any_names_is_read(names: list[str], roles: list[bool]) -> None:
    said = dict(zip(names, roles, strict=False))
    answer = {n: "knight" if said[n] else "knave" for n in sorted(said)}
    text = "\n".join(f"({i}) {n} is a {r}" for i, (n, r) in enumerate(said.items()))
    text = text.replace("True", "knight").replace("False", "knave")
    assert grade(text, answer).is_correct
