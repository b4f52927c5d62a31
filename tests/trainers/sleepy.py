"""A run whose verdicts take 100 seconds each, for the test of Ctrl-C."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import rlvr


def train(config: str, began: str) -> None:
    """Train; the file `began` appears with the first verdict that is asked for."""

    @rlvr.verifier("sleepy")
    def sleepy(completion: str, answer: str) -> float:
        Path(began).touch()
        time.sleep(100)
        return 1.0

    # A test run in the background of a shell ignores the signal, and passes that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rlvr.train(config)
