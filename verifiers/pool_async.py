"""Grading from asyncio: `await verify_many_async(...)` never blocks the event loop.

The batch runs in a thread of its own, as `verify_many` may; the workers are the same warm ones. A
task that is cancelled leaves its batch to end by itself, which the deadline per item bounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from rlvr import protocols
from rlvr.types import Verdict
from rlvr.verifiers.pool import Pair, verify_many


async def verify_many_async(
    verifier: protocols.Verifier,
    pairs: Iterable[Pair],
    workers: int = 8,
    timeout: float = 10.0,
) -> list[Verdict]:
    """`rlvr.verify_many` for coroutines: the same arguments, verdicts and errors.

    Raises:
        UserError, VerifierError: as `verify_many`.
    """
    return await asyncio.to_thread(verify_many, verifier, list(pairs), workers, timeout)
