from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rlvr
from rlvr.types import Outcome, Task, Verdict

PUZZLE = {"numbers": [3, 5, 7], "target": 22}


def grade(completion: str, answer: Any = PUZZLE, **options: Any) -> Verdict:
    task = Task(id="t", prompt="p", answer=answer)
    return rlvr.load_verifier("countdown", **options).verify(task, completion)


@pytest.mark.parametrize(
    "completion",
    [
        "3*5+7",
        "7+5*3",
        "  ( 7 ) + ( 3 * 5 ) ",
        "3*5+7=22",
        "3 * 5 + 7 = 22",
        "I try 7*3=21.\n3*5+7",
        "work\n<answer>3*5+7</answer>",
        "<answer>\n3 × 5 + 7\n</answer>\n",
        r"so \boxed{3 \times 5 + 7}",
        r"$\boxed{7+3\cdot5 = 22}$",
        "<think>3+5+7</think>3*5+7",
    ],
)
def test_a_right_expression_is_paid(completion: str) -> None:
    assert grade(completion).is_correct


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        ("", Outcome.NO_ANSWER),
        (" \n ", Outcome.NO_ANSWER),
        ("22", Outcome.INCORRECT),
        ("3*7+1", Outcome.INCORRECT),
        ("3*5+7+0", Outcome.INCORRECT),
        ("3*7+5/5", Outcome.INCORRECT),
        ("3*5+7=23", Outcome.INCORRECT),
        ("3+5+7=22", Outcome.INCORRECT),
        ("3+5+7", Outcome.INCORRECT),
        ("7*3", Outcome.INCORRECT),
        ("5/(7-7)+3", Outcome.INCORRECT),
        ("3*5+7 or 3+5+7", Outcome.WRONG_FORMAT),
        ("3*5+7=22=22", Outcome.WRONG_FORMAT),
        ("22=3*5+7", Outcome.WRONG_FORMAT),
        ("3*5+7=x", Outcome.WRONG_FORMAT),
        ("-(-3)*5+7", Outcome.WRONG_FORMAT),
        ("3**5+7", Outcome.WRONG_FORMAT),
        ("3*5+7)", Outcome.WRONG_FORMAT),
        ("(3*5+7", Outcome.WRONG_FORMAT),
        ("()3*5+7", Outcome.WRONG_FORMAT),
        ("3 5+7", Outcome.WRONG_FORMAT),
        ("3.0*5+7", Outcome.WRONG_FORMAT),
        ("3*5+7 # 22", Outcome.WRONG_FORMAT),
        ("٣*5+7", Outcome.WRONG_FORMAT),
        ("__import__('os').system('true')", Outcome.WRONG_FORMAT),
        ("int('22')", Outcome.WRONG_FORMAT),
        ("<answer>3*5+7</answer> or not", Outcome.WRONG_FORMAT),
        ("<answer>3*5+7</answer><answer>3+5+7</answer>", Outcome.WRONG_FORMAT),
        ("<answer>3*5+7", Outcome.WRONG_FORMAT),
        ("</answer>3*5+7<answer>", Outcome.WRONG_FORMAT),
        (r"\boxed{3+5+7} \boxed{3*5+7}", Outcome.WRONG_FORMAT),
        (r"\boxed{3*5+7", Outcome.WRONG_FORMAT),
        (r"\boxed{}", Outcome.WRONG_FORMAT),
        ("3*5+7\nno, that is wrong", Outcome.WRONG_FORMAT),
        ("<think>3*5+7", Outcome.WRONG_FORMAT),
        ("(" * 400 + "3" + ")" * 400, Outcome.WRONG_FORMAT),
        ("(" * 100_000, Outcome.WRONG_FORMAT),
        ("9" * 500, Outcome.WRONG_FORMAT),
        ("3+" * 400 + "3", Outcome.INCORRECT),
    ],
)
def test_anything_else_is_worth_nothing(completion: str, outcome: Outcome) -> None:
    verdict = grade(completion)
    assert (verdict.reward, verdict.outcome) == (0.0, outcome)


def test_each_number_may_be_used_as_often_as_it_is_given() -> None:
    twice = {"numbers": [5, 5], "target": 10}
    assert grade("5+5", twice).is_correct
    assert grade("5+5", {"numbers": [5, 7], "target": 10}).reward == 0.0


def test_numbers_may_stay_unused_only_where_the_option_says_so() -> None:
    spare = {"numbers": [3, 5, 7], "target": 8}
    assert grade("3+5", spare).reward == 0.0
    assert grade("3+5", spare, use_all=False).is_correct
    assert grade("3+5+5", {**spare, "target": 13}, use_all=False).reward == 0.0


def test_fractions_on_the_way_are_exact() -> None:
    assert grade("8/(3-8/3)", {"numbers": [8, 3, 8, 3], "target": 24}).is_correct
    close = {"numbers": [1, 3, 10**17, 10**17], "target": 0}
    assert grade(f"1/3-{10**17}/{10**17}", close).reward == 0.0


@pytest.mark.parametrize(
    "answer",
    [None, 22, {"numbers": [3]}, {"numbers": [], "target": 1}, {"numbers": ["3"], "target": 3}],
)
def test_a_malformed_ground_truth_is_no_zero(answer: Any) -> None:
    assert grade("3", answer).outcome is Outcome.VERIFIER_ERROR


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    assert grade(text).reward == 0.0


@given(st.text(alphabet="357+-*/()= \n", max_size=30))
def test_text_of_the_right_signs_is_paid_only_for_the_target(text: str) -> None:
    verdict = grade(text)
    assert verdict.reward in (0.0, 1.0)
    if verdict.is_correct:
        assert sorted(c for c in (verdict.extracted or "") if c.isdigit()) == ["3", "5", "7"]


TREES = st.recursive(
    st.integers(0, 50),
    lambda inner: st.tuples(st.sampled_from("+-*/"), inner, inner),
    max_leaves=8,
)


def _written(tree: Any) -> str:
    return (
        str(tree) if isinstance(tree, int) else f"({_written(tree[1])}{tree[0]}{_written(tree[2])})"
    )


def _computed(tree: Any) -> Fraction:
    if isinstance(tree, int):
        return Fraction(tree)
    left, right = _computed(tree[1]), _computed(tree[2])
    return {"+": left.__add__, "-": left.__sub__, "*": left.__mul__, "/": left.__truediv__}[
        tree[0]
    ](right)


def _leaves(tree: Any) -> list[int]:
    return [tree] if isinstance(tree, int) else _leaves(tree[1]) + _leaves(tree[2])


@given(TREES)
def test_its_arithmetic_agrees_with_an_independent_one(tree: Any) -> None:
    try:
        value = _computed(tree)
    except ZeroDivisionError:
        assert grade(_written(tree), {"numbers": _leaves(tree), "target": 0}).reward == 0.0
        return
    nearest = round(value)
    verdict = grade(_written(tree), {"numbers": _leaves(tree), "target": nearest})
    assert verdict.is_correct == (value == nearest)


@pytest.mark.parametrize(
    ("expression", "value"), [("9-5-3", 1), ("8/4/2", 1), ("2+3*4", 14), ("9-(5-3)", 7)]
)
def test_signs_bind_as_in_arithmetic(expression: str, value: int) -> None:
    numbers = [int(c) for c in expression if c.isdigit()]
    assert grade(expression, {"numbers": numbers, "target": value}).is_correct
