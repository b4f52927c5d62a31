"""Results of comparing parts, put together: all of them, and the usual two."""

from __future__ import annotations

from collections.abc import Iterable

from rlvr.verifiers.equivalence.result import STRUCTURE, Result

SAME = Result(True, STRUCTURE)


def different(reason: str = "") -> Result:
    """Settled: not equal."""
    return Result(False, STRUCTURE, reason)


def all_of(results: Iterable[Result]) -> Result:
    """Equal if all are; stops at the first that is not."""
    tier, bound = STRUCTURE, 0.0
    waiting: Result | None = None
    count = 0
    for result in results:
        count += 1
        if result.equal is False:
            return result
        if result.equal is None:
            waiting = result
        tier, bound = result.tier, min(1.0, bound + result.error_bound)
    if waiting is not None:
        return waiting
    return Result(True, tier if count == 1 else STRUCTURE, "", bound)
