"""Verifier functions that are coroutines, called where a loop runs already (as in a notebook)."""

from __future__ import annotations

import asyncio

import rlvr
from rlvr.types import Task


@rlvr.verifier("async_echo")
async def async_echo(completion: str, answer: str) -> float:
    await asyncio.sleep(0)
    return float(completion == answer)


def test_an_async_verifier_is_awaited() -> None:
    verifier = rlvr.load_verifier("async_echo")
    assert verifier.verify(Task(id="t", prompt="", answer="a"), "a").reward == 1.0


def test_an_async_verifier_works_inside_a_running_loop() -> None:
    async def grade() -> float | None:
        verifier = rlvr.load_verifier("async_echo")
        return verifier.verify(Task(id="t", prompt="", answer="a"), "a").reward

    assert asyncio.run(grade()) == 1.0
