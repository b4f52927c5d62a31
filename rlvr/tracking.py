"""Rows of a run as JSON lines: what was computed in one file, how long it took in another.

Wall-clock times stand apart (`timing.jsonl`), so that two equal runs have equal `metrics.jsonl`
files, bit for bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlvr.files import write_text


class JsonLines:
    """An append-only JSONL file whose rows belong to steps.

    Args:
        path: the file; made on the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rewind(self, step: int) -> None:
        """Forget every row after `step`, and a last row that was cut short."""
        if not self.path.exists():
            return
        rows = [line for line in read_jsonl(self.path) if line["step"] <= step]
        write_text(self.path, "".join(_line(row) for row in rows))

    def append(self, step: int, values: Mapping[str, Any]) -> None:
        """Add a row of a step. NaN and infinities are written as `null`."""
        row = {"step": step, **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a file; a last line that was cut short is left out. None: no rows."""
    rows: list[dict[str, Any]] = []
    if not path.exists():
        return rows
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def _line(row: Mapping[str, Any]) -> str:
    finite = {key: _finite(value) for key, value in row.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
