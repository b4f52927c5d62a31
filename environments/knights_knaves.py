"""Knights and knaves: knights tell the truth, knaves lie; say who is who.

Puzzles come from the Logic-RL rows (`data=`), or are drawn here with exactly one solution, which is
made sure of by trying every assignment.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from rlvr import registry
from rlvr.environments import knights_knaves_text as wording
from rlvr.environments.base import Environment, environment, user_message
from rlvr.environments.data import Published, check_column, load_rows
from rlvr.environments.procedural import check_choice, check_range, generated
from rlvr.errors import DataError, VerifierError
from rlvr.types import Task
from rlvr.verifiers.knights_knaves import consistent, holds, read_statements, role_name

STYLES = ("short", "text")


@dataclass(frozen=True)
class _Puzzle:
    """What each person says, and who is a knight."""

    statements: tuple[Any, ...]
    knights: tuple[bool, ...]


@environment("knights_knaves")
def knights_knaves(
    *,
    people: int = 2,
    depth: int = 1,
    style: str = "short",
    reasoning: bool = True,
    size: int = 1_000,
    seed: int = 0,
    split: str = "train",
    data: str | None = None,
    streaming: bool | None = None,
    verifier: Mapping[str, Any] | None = None,
) -> Environment:
    """Who is a knight and who is a knave: `A:Bn B:Bk&Ak`.

    Args:
        people: how many, 2 to 8; with `data=FOLDER` it picks `kk_{people}ppl_{split}.parquet`.
        depth: how deep statements nest: 0 is `B is a knave`, 1 joins two of them (or denies that),
            and so on.
        style: `short` (for tiny policies) or `text` (a chat message in words).
        reasoning: worked solutions try the assignments one by one, or give just the answer.
        size: number of tasks.
        seed: of the draws.
        split: `train`, `validation` or `test`; puzzles that differ in their names are one problem.
        data: file, folder or Hub name of Logic-RL rows; `None` draws puzzles, as the options above
            say. Rows have `names`, `solution`, `statements`, and `prompt` or `quiz`.
        streaming: hold no rows in memory; by default only for files above 64 MiB.
        verifier: options of the `knights_knaves` verifier.
    """
    check_range("people", people, 2, 8)
    check_range("depth", depth, 0, 3)
    check_choice("style", style, STYLES)
    tasks: Any
    if data is None:
        tasks = generated(
            "knights_knaves",
            draw=functools.partial(_draw, people, depth),
            key=_key,
            make=functools.partial(_task, style, reasoning),
            size=size,
            seed=seed,
            split=split,
        )
    else:
        published = Published(file=f"kk_{people}ppl_{{split}}.parquet")
        columns = {"names": list, "solution": list, "statements": str}
        rows = load_rows(data, split, published, columns, streaming=streaming)
        tasks = rows.tasks(functools.partial(_row_task, split, reasoning))
    return Environment(tasks=tasks, verifier=registry.verifiers.create("knights_knaves", verifier))


def _draw(people: int, depth: int, rng: Random) -> _Puzzle | None:
    """Choose the solution first, so that all are equally frequent, then statements that fit it."""
    knights = tuple(rng.random() < 0.5 for _ in range(people))
    statements = tuple(_said_by(speaker, knights, depth, rng) for speaker in range(people))
    solutions = sum(
        consistent(statements, other) for other in itertools.product([True, False], repeat=people)
    )
    return _Puzzle(statements, knights) if solutions == 1 else None


def _said_by(speaker: int, knights: Sequence[bool], depth: int, rng: Random) -> Any:
    """A claim that is true exactly if the speaker is a knight."""
    while True:
        claim = _claim(speaker, len(knights), depth, rng)
        if holds(claim, knights) == knights[speaker]:
            return claim


def _claim(speaker: int, people: int, depth: int, rng: Random) -> Any:
    """Anything that can be said. A claim that joins nothing is about somebody else."""
    if depth == 0 or rng.random() < 0.2:
        person = rng.choice([other for other in range(people) if other != speaker])
        return _literal(person, rng)
    left, right = rng.sample(range(people), 2)
    joined = [
        rng.choice(["and", "or", "->", "<=>"]),
        _part(left, people, depth - 1, rng),
        _part(right, people, depth - 1, rng),
    ]
    return ["not", joined] if rng.random() < 0.25 else joined


def _part(person: int, people: int, depth: int, rng: Random) -> Any:
    """A side of a joined claim: about `person`, or joined itself."""
    if depth == 0 or rng.random() < 0.5:
        return _literal(person, rng)
    return _claim(rng.randrange(people), people, depth, rng)


def _literal(person: int, rng: Random) -> Any:
    return [rng.choice(["telling-truth", "lying"]), person]


def _key(puzzle: _Puzzle) -> str:
    """The statements with the people in the first order of all (as they stand, for over four)."""
    people = range(len(puzzle.statements))
    orders = itertools.permutations(people) if len(people) <= 4 else [tuple(people)]
    return min(_reordered(puzzle.statements, order) for order in orders)


def _reordered(statements: Sequence[Any], order: Sequence[int]) -> str:
    place = {person: new for new, person in enumerate(order)}

    def rename(statement: Any) -> Any:
        head, *parts = statement
        return [head, *(place[p] if isinstance(p, int) else rename(p) for p in parts)]

    return repr([rename(statements[person]) for person in order])


def _task(style: str, reasoning: bool, task_id: str, puzzle: _Puzzle) -> Task:
    people = len(puzzle.statements)
    prompt: Any
    if style == "short":
        names = wording.LETTERS[:people]
        prompt = wording.short_prompt(names, puzzle.statements)
        solution = wording.short_solution(names, puzzle.statements, puzzle.knights, reasoning)
    else:
        names = Random(task_id).sample(wording.NAMES, people)
        prompt = user_message(wording.text_prompt(names, puzzle.statements))
        solution = wording.text_solution(names, puzzle.statements, puzzle.knights, reasoning)
    return _make(task_id, prompt, names, puzzle.statements, puzzle.knights, solution)


def _row_task(split: str, reasoning: bool, index: int, row: dict[str, Any]) -> Task:
    names, solution = row["names"], row["solution"]
    people = len(names)
    if not all(isinstance(name, str) for name in names) or len(set(names)) != people:
        raise DataError(f"column 'names' holds {names!r:.60}: expected names, all different")
    if len(solution) != people or not all(isinstance(knight, bool) for knight in solution):
        raise DataError(f"column 'solution' holds {solution!r:.60}: expected {people} booleans")
    try:
        statements = read_statements(row["statements"])
        if not statements or len(statements) != people or not consistent(statements, solution):
            raise DataError("the solution does not fit the statements")
    except VerifierError as error:
        raise DataError(f"column 'statements': {error}") from error
    number = row["index"] if isinstance(row.get("index"), int) else index
    return _make(
        f"knights_knaves/{people}ppl/{split}/{number}",
        _row_prompt(row),
        names,
        statements,
        solution,
        _row_solution(row, reasoning),
    )


def _row_solution(row: Mapping[str, Any], reasoning: bool) -> str:
    """The row's own chain of reasoning as thinking, where it has one, and the answer."""
    answer = wording.tagged_roles(row["names"], row["solution"])
    steps = row.get("cot_repeat_steps")
    if not reasoning or not steps:
        return answer
    work = "\n".join(
        str(step) for step in (row.get("cot_head"), *steps, row.get("cot_foot")) if step
    )
    return f"<think>\n{work}\n</think>\n{answer}"


def _row_prompt(row: Mapping[str, Any]) -> Any:
    """The row's chat, taken out of the ChatML text that Logic-RL wrote it in."""
    messages = row.get("prompt")
    if messages is None:
        check_column(row, "quiz", str)
        return user_message(f"{row['quiz']}\n\n{wording.INSTRUCTION}")
    try:
        chat = [{"role": m["role"], "content": m["content"]} for m in messages]
    except (TypeError, KeyError) as error:
        raise DataError("column 'prompt' is no list of messages with role and content") from error
    if len(chat) == 1 and chat[0]["content"].startswith("<|im_start|>"):
        return wording.read_chatml(chat[0]["content"])
    return chat


def _make(
    task_id: str,
    prompt: Any,
    names: Sequence[str],
    statements: Sequence[Any],
    knights: Sequence[bool],
    solution: str,
) -> Task:
    return Task(
        id=task_id,
        prompt=prompt,
        answer={name: role_name(k) for name, k in zip(names, knights, strict=True)},
        metadata={"names": list(names), "statements": list(statements), "solution": solution},
    )
