"""A verifier that finds about half of all completions right, for tests."""

from __future__ import annotations

import rlvr


@rlvr.verifier("even")
def even(completion: str, task: rlvr.Task) -> rlvr.Verdict:
    """Half of all completions are right, even of a policy that knows nothing."""
    right = (len(completion.strip()) + len(task.id)) % 2 == 0
    parts = {"length": len(completion) / 8, "right": float(right)}
    return rlvr.Verdict(
        reward=float(right), outcome="correct" if right else "incorrect", metrics=parts
    )
