"""How a process ends that is one of several: with its own exit code, and before the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = r"""
import atexit, runpy, sys
from os import write
import rlvr.distributed
from rlvr.cli import main as command

class Kept:
    def __del__(self, write=write):
        write(1, b"taken down\n")

def main(whole=command.main):
    atexit.register(print, "at exit", flush=True)
    return whole()

sys.kept = Kept()
command.main = main
sys.argv[0] = "rlvr"
runpy.run_module("rlvr", run_name="__main__")
"""
LAUNCHED = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.mark.slow
def test_gloo_sees_no_interpreter_going_down() -> None:
    """gloo's threads may need the interpreter when they free what they hold: they have it."""
    for environment, ends in (({}, "at exit\ntaken down\n"), (LAUNCHED, "at exit\n")):
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, "train", "nowhere.yaml"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
        )
        assert ended.returncode == 2, ended.stderr
        assert ended.stdout.endswith(ends), (environment, ended.stdout)
