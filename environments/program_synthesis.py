"""Seeded programming by example: write `f` so that it fits the examples; hidden ones decide.

Each program is built twice at once, as source and as a Python callable, so that no generated text
is ever run here; the sandbox proves in the tests that the two agree. Examples cannot always tell a
program from all others: at level 1 they do among the functions of that level, above it the hidden
cases may ask for more than the shown ones settle.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from rlvr import registry
from rlvr.environments.base import Environment, environment, user_message
from rlvr.environments.procedural import check_choice, check_range, generated
from rlvr.types import Task

STYLES = ("short", "text")

_TEXT = (
    "Write a Python function f of one argument that fits these examples:\n\n{examples}\n\n"
    "It will be tested on other inputs. Answer with the function in a ```python block."
)
_PROBES = {
    "number": [*range(-20, 41), 97, 143],
    "list": [
        [], [0], [7], [-3, 4], [5, 5, 2], [9, -8, 1, 0], [12, 3, 3, -7, 6], [2, 4, 6, 8, 10, 11],
    ],
}  # fmt: skip


@dataclass(frozen=True)
class _Piece:
    """A function of one argument: its source with `{0}` for the argument, and itself."""

    source: str
    call: Callable[[Any], Any]

    def of(self, inner: _Piece) -> _Piece:
        """The composition: `inner` first."""
        return _Piece(self.source.format(f"({inner.source})"), lambda x: self.call(inner.call(x)))


@dataclass(frozen=True)
class _Program:
    """A piece, the kind of its argument, and the inputs that are shown and hidden."""

    piece: _Piece
    kind: str
    shown: list[Any]
    hidden: list[Any]


@environment("program_synthesis")
def program_synthesis(
    *,
    level: int = 1,
    style: str = "short",
    size: int = 1_000,
    seed: int = 0,
    split: str = "train",
    verifier: Mapping[str, Any] | None = None,
) -> Environment:
    """Write the function that fits examples: `f(0)=2 f(1)=5 f(2)=8`.

    Args:
        level: 1 is `a*x+b` or `b-a*x`; 2 composes two functions of a number or branches between
            them; 3 filters, maps and reduces a list.
        style: `short` (the examples alone, for tiny policies) or `text` (a chat message).
        size: number of tasks.
        seed: of the draws.
        split: `train`, `validation` or `test`; programs that behave alike are one problem.
        verifier: options of the `python_code` verifier.
    """
    check_range("level", level, 1, 3)
    check_choice("style", style, STYLES)
    tasks = generated(
        "program_synthesis",
        draw={1: _draw_affine, 2: _draw_composed, 3: _draw_list}[level],
        key=_behaviour,
        make=functools.partial(_task, style),
        size=size,
        seed=seed,
        split=split,
    )
    return Environment(tasks=tasks, verifier=registry.verifiers.create("python_code", verifier))


def _draw_affine(rng: Random) -> _Program:
    hidden = rng.sample([*range(-20, 0), *range(3, 100)], 8)
    # From 18 on, what is shown of `b-a*x` is not negative either: one thing less to learn. Offsets
    # of three digits make 17,000 problems, too many for a small policy to learn by heart.
    return _Program(_affine(rng, 18, 999), "number", [0, 1, 2], hidden)


def _draw_composed(rng: Random) -> _Program | None:
    first, second = _number_piece(rng), _number_piece(rng)
    piece = second.of(first) if rng.random() < 0.5 else _branch(rng, first, second)
    inputs = rng.sample(range(-9, 31), 16)
    return _usable(_Program(piece, "number", sorted(inputs[:6]), inputs[6:]))


def _draw_list(rng: Random) -> _Program | None:
    limit, modulus = rng.randint(-3, 6), rng.randint(2, 3)
    kept = rng.choice(
        [
            _Piece(f"{{0}}>{limit}", lambda y: y > limit),
            _Piece(f"{{0}}<{limit}", lambda y: y < limit),
            _Piece(f"{{0}}%{modulus}==0", lambda y: y % modulus == 0),
        ]
    )
    change = _affine(rng, 0, 9)
    mapped = _Piece(
        f"[{change.source.format('y')} for y in {{0}} if {kept.source.format('y')}]",
        lambda x: [change.call(y) for y in x if kept.call(y)],
    )
    piece = rng.choice(_REDUCTIONS).of(mapped)
    inputs = [[rng.randint(-9, 20) for _ in range(rng.randint(2, 6))] for _ in range(14)]
    return _usable(_Program(piece, "list", inputs[:5], inputs[5:]))


def _affine(rng: Random, low: int, high: int) -> _Piece:
    slope, offset = rng.randint(1, 9), rng.randint(low, high)
    if rng.random() < 0.5:
        return _Piece(f"{slope}*{{0}}+{offset}", lambda x: slope * x + offset)
    return _Piece(f"{offset}-{slope}*{{0}}", lambda x: offset - slope * x)


def _number_piece(rng: Random) -> _Piece:
    n = rng.randint(2, 9)
    return rng.choice(
        [
            _affine(rng, 0, 9),
            _Piece("{0}*{0}", lambda x: x * x),
            _Piece(f"{{0}}//{n}", lambda x: x // n),
            _Piece(f"{{0}}%{n}", lambda x: x % n),
            _Piece(f"abs({{0}}-{n})", lambda x: abs(x - n)),
            _Piece(f"max({{0}},{n})", lambda x: max(x, n)),
            _Piece(f"min({{0}},{n})", lambda x: min(x, n)),
        ]
    )


def _branch(rng: Random, first: _Piece, second: _Piece) -> _Piece:
    limit = rng.randint(0, 15)
    test = rng.choice(
        [_Piece("{0}%2==0", lambda x: x % 2 == 0), _Piece(f"{{0}}>{limit}", lambda x: x > limit)]
    )
    return _Piece(
        f"{first.source} if {test.source} else {second.source}",
        lambda x: first.call(x) if test.call(x) else second.call(x),
    )


# What goes in for {0} stands in parentheses already.
_REDUCTIONS = [
    _Piece("{0}", lambda values: values),
    _Piece("sum{0}", sum),
    _Piece("len{0}", len),
    _Piece("sorted{0}", sorted),
    _Piece("{0}[::-1]", lambda values: values[::-1]),
    _Piece("max({0},default=0)", lambda values: max(values, default=0)),
]


def _usable(program: _Program) -> _Program | None:
    """Refuse a program where inputs repeat, or where the outputs hardly vary."""
    inputs = [repr(x) for x in program.shown + program.hidden]
    shown = {repr(program.piece.call(x)) for x in program.shown}
    hidden = {repr(program.piece.call(x)) for x in program.hidden}
    few = min(len(shown), len(hidden)) < 3
    return None if few or len(set(inputs)) < len(inputs) else program


def _behaviour(program: _Program) -> str:
    """What the program does to fixed inputs: two sources of one function have one key."""
    return repr([program.piece.call(probe) for probe in _PROBES[program.kind]])


def _task(style: str, task_id: str, program: _Program) -> Task:
    call = program.piece.call
    examples = [f"f({x})={call(x)}".replace(" ", "") for x in program.shown]
    source = f"def f(x):return {program.piece.source.format('x')}"
    prompt: Any = " ".join(examples) + "\n"
    if style == "text":
        prompt = user_message(_TEXT.format(examples="\n".join(examples)))
        source = f"```python\n{source}\n```"
    return Task(
        id=task_id,
        prompt=prompt,
        answer={
            "style": "calls",
            "entry_point": "f",
            "cases": [{"args": [x], "expected": call(x)} for x in program.hidden],
        },
        metadata={"solution": source},
    )
