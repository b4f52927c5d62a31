"""What a run writes as it goes: metrics, times, alarms, and what trackers show of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlvr.tracking import JsonLines, read_jsonl
from rlvr.tracking_tools import Trackers
from rlvr.trainers.alarms import Alarms


class RunLog:
    """The files `metrics.jsonl`, `timing.jsonl` and `alarms.jsonl` of a run's folder.

    Args:
        folder: the run's folder.
        writes: whether this process is the one that writes; the others do nothing here.
        tracking: the trackers that show the same, by name.
    """

    def __init__(self, folder: Path, *, writes: bool = True, tracking: Sequence[str] = ()) -> None:
        self._writes = writes
        self._folder = folder
        self._tracking = tracking
        self._trackers = Trackers((), folder)
        self._metrics = JsonLines(folder / "metrics.jsonl")
        self._timing = JsonLines(folder / "timing.jsonl")
        self._alarms = JsonLines(folder / "alarms.jsonl")
        self._watch = Alarms()

    @property
    def exists(self) -> bool:
        """Whether the folder holds metrics of a run."""
        return self._metrics.path.exists()

    def rewind(self, step: int) -> None:
        """Forget every row after `step`, and a last row that was cut short."""
        if not self._writes:
            return
        for file in (self._metrics, self._timing, self._alarms):
            file.rewind(step)
        raised = [row["name"] for row in read_jsonl(self._alarms.path)]
        rows = read_jsonl(self._metrics.path)
        self._watch = Alarms(rows, raised)
        if self._tracking:
            shown = [(row["step"], row) for row in rows]
            shown += [(row["step"], _timing(row)) for row in read_jsonl(self._timing.path)]
            shown.sort(key=lambda item: item[0])
            self._trackers = Trackers(self._tracking, self._folder, shown)

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log what a step, or the evaluation after it, came to; say what is alarming in it."""
        if not self._writes:
            return
        self._metrics.append(step, metrics)
        self._trackers.log(step, metrics)
        for alarm in self._watch.look(step, metrics):
            self._alarms.append(step, alarm.row())
            print(alarm.text(), file=sys.stderr, flush=True)

    def timing(self, step: int, seconds: Mapping[str, float]) -> None:
        """Log the seconds of the parts of a step, and tokens a second."""
        if not self._writes:
            return
        self._timing.append(step, seconds)
        self._trackers.log(step, _timing(seconds))

    def close(self) -> None:
        """Let trackers write out what they hold back."""
        self._trackers.close()


def _timing(row: Mapping[str, float]) -> dict[str, float]:
    return {f"timing/{name}": value for name, value in row.items() if name != "step"}
