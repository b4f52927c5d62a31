"""Two real processes, started by `torchrun`, that talk over gloo on a CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

from warmed import ENVIRONMENT


@dataclass(frozen=True)
class Ended:
    """How it ended: the launcher's exit code, and what all processes printed."""

    code: int
    output: str


def torchrun(*arguments: str, processes: int = 2, limit: float = 120) -> Ended:
    """Run `torchrun ARGUMENTS`, at most `limit` seconds.

    Raises:
        AssertionError: it did not end in time: something hangs.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    process = subprocess.Popen(
        [*command, "--nproc-per-node", str(processes), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **ENVIRONMENT},
        start_new_session=True,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"not done after {limit} s; it had printed:\n{output}") from None
    return Ended(process.returncode, output)
