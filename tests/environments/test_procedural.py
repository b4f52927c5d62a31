from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rlvr
from rlvr import registry
from rlvr.environments.procedural import SPLITS, split_of
from rlvr.errors import ConfigError
from rlvr.types import Outcome, Task
from rlvr.verifiers.knights_knaves import consistent

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("arithmetic", {}),
    ("arithmetic", {"digits": 1, "operations": "+-*", "worked": "direct"}),
    ("arithmetic", {"digits": 9, "operations": "*-"}),
    ("countdown", {}),
    ("countdown", {"numbers": 4, "largest": 25, "target": 100, "style": "text"}),
    ("knights_knaves", {}),
    ("knights_knaves", {"people": 3, "depth": 2, "reasoning": False}),
    ("knights_knaves", {"people": 3, "style": "text"}),
    ("program_synthesis", {}),
    ("program_synthesis", {"level": 2, "style": "text"}),
    ("program_synthesis", {"level": 3}),
]
IDS = [f"{name}-{options}" for name, options in VARIANTS]
PROBLEM_OPTIONS = [variant for variant in VARIANTS if variant[1].get("style") != "text"]

every_variant = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)


def tasks_of(name: str, **options: Any) -> Any:
    return rlvr.load_environment(name, **options).tasks


def problem(name: str, task: Task) -> str:
    """The problem without its wording: what must not cross from one split to another."""
    if name == "countdown":
        return f"{sorted(task.answer['numbers'])} {task.answer['target']}"
    if name == "knights_knaves":
        return repr(task.metadata["statements"])
    if name == "program_synthesis":
        return str(task.metadata["solution"])
    return task.prompt_text


@pytest.mark.parametrize(("name", "options"), [v for v in VARIANTS if v[0] != "program_synthesis"])
def test_worked_solutions_score_1(name: str, options: dict[str, Any]) -> None:
    environment = rlvr.load_environment(name, size=25, **options)
    for task in environment.tasks:
        verdict = environment.verifier.verify(task, task.metadata["solution"])
        assert verdict.is_correct, (task, verdict)


@pytest.mark.parametrize("junk", ["", "?", "0", "I do not know.", "A=k A=n", "x" * 3_000, "\0"])
@pytest.mark.parametrize("name", ["arithmetic", "countdown", "knights_knaves"])
def test_junk_scores_0(name: str, junk: str) -> None:
    environment = rlvr.load_environment(name, size=5)
    for task in environment.tasks:
        verdict = environment.verifier.verify(task, junk)
        assert verdict.reward == 0.0
        assert verdict.outcome is not Outcome.CORRECT


@pytest.mark.parametrize("name", ["arithmetic", "countdown", "knights_knaves"])
def test_the_solution_of_another_task_scores_0(name: str) -> None:
    environment = rlvr.load_environment(name, size=40)
    first, *others = environment.tasks
    for other in others:
        if other.answer != first.answer:
            assert environment.verifier.verify(first, other.metadata["solution"]).reward == 0.0


@every_variant
@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(seed=st.integers(0, 10**6), other=st.integers(0, 10**6))
def test_no_problem_is_in_two_splits(
    name: str, options: dict[str, Any], seed: int, other: int
) -> None:
    train = {problem(name, t) for t in tasks_of(name, size=25, seed=seed, **options)}
    for split in ("test", "validation"):
        held_out = tasks_of(name, size=25, seed=other, split=split, **options)
        assert not train & {problem(name, task) for task in held_out}


def test_a_sum_turned_round_stays_in_its_split() -> None:
    splits: dict[frozenset[str], set[str]] = {}
    for split in SPLITS:
        for task in tasks_of("arithmetic", digits=1, size=400, split=split):
            splits.setdefault(frozenset(task.prompt_text[:-1].split("+")), set()).add(split)
    assert all(len(found) == 1 for found in splits.values())
    assert len(splits) == 55  # every sum of two digits came up


def test_renamed_puzzles_stay_in_their_split() -> None:
    def swapped(statement: Any) -> Any:
        head, *parts = statement
        return [head, *(1 - p if isinstance(p, int) else swapped(p) for p in parts)]

    train = {repr(t.metadata["statements"]) for t in tasks_of("knights_knaves", size=1_000)}
    for task in tasks_of("knights_knaves", size=300, split="test"):
        first, second = task.metadata["statements"]
        assert repr([swapped(second), swapped(first)]) not in train


@pytest.mark.parametrize("level", [1, 2])
def test_programs_that_behave_alike_stay_in_their_split(level: int) -> None:
    def behaviour(task: Task) -> Any:
        source = task.metadata["solution"].removeprefix("def f(x):return ")
        return tuple(_safe_value(source, x) for x in range(-60, 200))

    train = {behaviour(t) for t in tasks_of("program_synthesis", level=level, size=150)}
    held_out = tasks_of("program_synthesis", level=level, size=80, split="test")
    assert not train & {behaviour(task) for task in held_out}


def _safe_value(source: str, x: int) -> int:
    """Our own generated source, with nothing but the names that it needs."""
    return int(eval(source, {"__builtins__": {}, "abs": abs, "max": max, "min": min}, {"x": x}))


@given(st.lists(st.text(), min_size=200, max_size=200, unique=True))
@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow])
def test_every_problem_has_one_split(keys: list[str]) -> None:
    assert {split_of(key) for key in keys} <= set(SPLITS)
    assert [split_of(key) for key in keys] == [split_of(key) for key in keys]


def test_the_splits_have_their_shares() -> None:
    counts = Counter(split_of(str(number)) for number in range(20_000))
    for split, share in SPLITS.items():
        assert abs(counts[split] / 200 - share) < 1.5


@every_variant
def test_random_access_equals_iteration(name: str, options: dict[str, Any]) -> None:
    tasks = tasks_of(name, size=12, seed=3, **options)
    forward = list(tasks)
    assert [tasks[i] for i in reversed(range(12))] == forward[::-1]
    assert tasks[3:5] == forward[3:5]
    assert tasks[-1] == forward[11]
    assert len(tasks) == len(forward) == 12


@every_variant
def test_a_larger_size_begins_with_the_smaller_one(name: str, options: dict[str, Any]) -> None:
    assert list(tasks_of(name, size=8, **options)) == tasks_of(name, size=80, **options)[:8]


@every_variant
def test_ids_are_unique_and_seeds_differ(name: str, options: dict[str, Any]) -> None:
    first = list(tasks_of(name, size=30, **options))
    second = list(tasks_of(name, size=30, seed=1, **options))
    assert len({task.id for task in first + second}) == 60
    assert [task.prompt for task in first] != [task.prompt for task in second]


@every_variant
def test_an_environment_can_be_pickled(name: str, options: dict[str, Any]) -> None:
    tasks = tasks_of(name, size=5, **options)
    assert list(pickle.loads(pickle.dumps(tasks))) == list(tasks)


@every_variant
def test_prompts_and_solutions_are_plain_ascii(name: str, options: dict[str, Any]) -> None:
    for task in tasks_of(name, size=50, **options):
        text = task.prompt_text + task.metadata["solution"]
        assert all(c == "\n" or " " <= c <= "~" for c in text)


@every_variant
def test_tasks_survive_json(name: str, options: dict[str, Any]) -> None:
    for task in tasks_of(name, size=10, **options):
        plain = [task.prompt, task.answer, dict(task.metadata)]
        assert json.loads(json.dumps(plain)) == plain


def _digest() -> str:
    digest = hashlib.sha256()
    for name, options in VARIANTS:
        for task in tasks_of(name, size=20, seed=5, **options):
            digest.update(repr((task.id, task.prompt, task.answer, task.metadata)).encode())
    return digest.hexdigest()


@pytest.mark.slow
def test_another_process_with_another_hash_seed_makes_the_same_tasks() -> None:
    code = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
    code += "import test_procedural; print(test_procedural._digest())"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert digests == {_digest()}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("arithmetic", {"split": "tset"}, "no split 'tset'; did you mean 'test'"),
        ("arithmetic", {"size": 0}, "size is 0: expected a whole number from 1"),
        ("arithmetic", {"digits": "2"}, "digits is '2'"),
        ("arithmetic", {"digits": 0}, "digits is 0"),
        ("arithmetic", {"operations": "+/"}, "operations is '+/'"),
        ("arithmetic", {"operations": ""}, "operations is ''"),
        ("arithmetic", {"worked": "backwards"}, "worked is 'backwards': expected reversed or"),
        ("arithmetic", {"digit": 2}, "no option 'digit'; did you mean 'digits'"),
        ("arithmetic", {"verifier": {"nonsense": 1}}, "verifier 'math' has no option 'nonsense'"),
        ("countdown", {"numbers": 1}, "numbers is 1"),
        ("countdown", {"style": "long"}, "style is 'long'"),
        ("countdown", {"numbers": 2, "largest": 1, "target": 1}, "leave too few problems"),
        ("knights_knaves", {"people": 9}, "people is 9"),
        ("knights_knaves", {"depth": 0}, "leave too few problems"),
        ("program_synthesis", {"level": 4}, "level is 4"),
    ],
)
def test_a_wrong_option_is_one_clear_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rlvr.load_environment(name, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["countdown", "knights_knaves", "program_synthesis"])
def test_text_prompts_are_chats(name: str) -> None:
    prompt = tasks_of(name, size=1, style="text")[0].prompt
    assert [message["role"] for message in prompt] == ["user"]


# --- what each family promises -------------------------------------------------------------------


@pytest.mark.parametrize("operations", ["+", "-", "*", "+-*"])
@pytest.mark.parametrize("digits", [1, 2, 5])
def test_arithmetic_has_the_digits_and_the_result_that_it_says(
    operations: str, digits: int
) -> None:
    for task in tasks_of("arithmetic", operations=operations, digits=digits, size=50):
        sign = next(c for c in task.prompt_text if c in "+-*")
        first, second = task.prompt_text.removesuffix("=").split(sign)
        assert sign in operations
        assert len(first) == len(second) == digits
        value = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[sign](
            int(first), int(second)
        )
        assert int(task.answer) == value >= 0


def test_arithmetic_solutions_are_short_and_begin_with_the_units_digit() -> None:
    for task in tasks_of("arithmetic", size=100):
        solution = task.metadata["solution"]
        assert solution == f"{task.answer[::-1]}\nA: {task.answer}"
        assert len(solution) <= 12


@pytest.mark.parametrize("options", [{}, {"numbers": 5, "largest": 50, "target": 500}])
def test_countdown_keeps_to_its_bounds(options: dict[str, int]) -> None:
    for task in tasks_of("countdown", size=50, **options):
        assert len(task.answer["numbers"]) == options.get("numbers", 3)
        assert all(1 <= n <= options.get("largest", 9) for n in task.answer["numbers"])
        assert 1 <= task.answer["target"] <= options.get("target", 99)


@pytest.mark.parametrize("options", [{}, {"people": 3}, {"people": 4, "depth": 2}])
def test_a_puzzle_has_exactly_one_solution(options: dict[str, int]) -> None:
    import itertools

    for task in tasks_of("knights_knaves", size=40, **options):
        worlds = itertools.product([True, False], repeat=options.get("people", 2))
        solutions = [w for w in worlds if consistent(task.metadata["statements"], w)]
        assert solutions == [tuple(role == "knight" for role in task.answer.values())]


def test_no_fixed_answer_solves_many_puzzles() -> None:
    tasks = tasks_of("knights_knaves", size=1_000)
    most = Counter(repr(task.answer) for task in tasks).most_common(1)[0][1]
    assert most < 350


def test_short_worked_solutions_try_assignments_until_one_fits() -> None:
    for task in tasks_of("knights_knaves", size=50):
        trials, answer = task.metadata["solution"].split("\n")
        *failed, last = [trial.split(":") for trial in trials.split(" ")]
        assert all(supposed != implied for supposed, implied in failed)
        assert last[0] == last[1]
        assert answer == f"A={last[0][0]} B={last[0][1]}"
        assert len(task.metadata["solution"]) <= 31


def test_hidden_cases_are_not_among_the_shown_ones() -> None:
    for level in (1, 2, 3):
        for task in tasks_of("program_synthesis", level=level, size=30):
            shown = task.prompt_text.split()
            hidden = [f"f({case['args'][0]})=".replace(" ", "") for case in task.answer["cases"]]
            assert len(set(hidden)) == len(hidden) >= 8
            assert not any(example.startswith(h) for example in shown for h in hidden)


@pytest.mark.sandbox
@pytest.mark.parametrize("level", [1, 2, 3])
def test_generated_programs_do_what_their_callables_did(level: int) -> None:
    environment = rlvr.load_environment("program_synthesis", level=level, size=40)
    pairs = [(task, task.metadata["solution"]) for task in environment.tasks]
    for verdict in rlvr.verify_many(environment.verifier, pairs):
        assert verdict.is_correct, verdict


@pytest.mark.sandbox
def test_programs_that_only_know_the_shown_examples_score_0() -> None:
    environment = rlvr.load_environment("program_synthesis", size=10)
    for task in environment.tasks:
        known = [part[2:].split(")=") for part in task.prompt_text.split()]
        table = ",".join(f"{x}:{y}" for x, y in known)
        lookup = f"def f(x):return {{{table}}}.get(x,0)"
        for junk in ("", "f", "def f(x):return x", "def f(x):pass", lookup):
            assert environment.verifier.verify(task, junk).reward == 0.0


def test_every_shipped_environment_says_what_it_is() -> None:
    for name in registry.environments._builtins:
        assert registry.environments.describe(name)
