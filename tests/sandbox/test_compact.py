"""Holes in the zygote's memory are filled, so that what a program makes lies close together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_COMPACT = Path(__file__).resolve().parents[2] / "sandbox" / "guest" / "compact.py"
_PAGES = """
import runpy, sys
made = [bytes(70) for _ in range(20_000)]
del made[::40]  # holes of 112 bytes, on 500 pages
scope = runpy.run_path({path!r})
if {fill}:
    scope["fill_holes"]()
new = [bytes(70) for _ in range(300)]
print(len({{id(item) >> 12 for item in new}}))
"""


def _pages(fill: bool) -> int:
    """Pages that 300 new objects lie on, in an interpreter of its own."""
    source = _PAGES.format(path=str(_COMPACT), fill=fill)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True)
    assert done.stderr == b""
    return int(done.stdout)


def test_new_objects_lie_on_few_pages_once_holes_are_filled() -> None:
    assert _pages(fill=False) > 200
    assert _pages(fill=True) < 20  # 300 of 112 bytes need 9


MERGE = """
import math, os, subprocess, sys
from rlvr.sandbox.guest import compact

def mappings(access):
    with open("/proc/self/maps") as file:
        return [line for line in file if line.split()[1] == access and "/" in line]

before = len(mappings("r--p")), len(mappings("r-xp")), mappings("rw-p")
compact.merge_mappings()
after = len(mappings("r--p")), len(mappings("r-xp")), mappings("rw-p")
assert after[0] <= before[0] - before[1], (before, after)  # one at least for each that runs
assert after[1:] == before[1:], (before, after)  # what is written to cannot be executed
import sqlite3, ssl  # more libraries, and what was there still works
assert math.sqrt(4) == 2 and subprocess.run(["true"]).returncode == 0
compact.merge_mappings()
print("done")
"""


def test_each_library_is_one_mapping_to_read_and_execute() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MERGE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "done\n", done.stderr
