"""Progress: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

_LINE_EVERY_SECONDS = 15.0

_shown = True
"""Whether this process shows anything: of several that do the same, one does."""


def show_progress(shown: bool) -> None:
    """Show what is counted, or be silent about it."""
    global _shown
    _shown = shown


_live: Any = None
"""The display on the terminal; progress inside progress adds a row to it."""


class Progress:
    """Counts work and shows it on standard error.

    Args:
        description: what is being done.
        total: how many steps there are; `None` where unknown.

    Use as a context manager; call `advance` as work gets done.
    """

    def __init__(self, description: str, total: int | None = None) -> None:
        self._description = description
        self._total = total
        self._done = 0
        self._note = ""
        self._started = time.monotonic()
        self._last_line = self._started
        self._bar: Any = None
        self._task: Any = None
        self._owns_display = False

    def __enter__(self) -> Progress:
        global _live
        if _shown and sys.stderr.isatty() and _live is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as RichProgress

            _live = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
                transient=True,
            )
            _live.start()
            self._owns_display = True
        if _live is not None:
            self._bar = _live
            self._task = _live.add_task(self._description, total=self._total, note="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        global _live
        if self._owns_display:
            self._bar.stop()
            _live = None
        elif self._bar is not None:
            self._bar.remove_task(self._task)
        if kind is None:
            self._line("done")

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count `steps` more as done; `note` is shown beside the bar until the next one."""
        self._done += steps
        self._note = self._note if note is None else note
        if self._bar is not None:
            self._bar.update(self._task, advance=steps, note=self._note)
        elif time.monotonic() - self._last_line >= _LINE_EVERY_SECONDS:
            self._line("")

    def _line(self, suffix: str) -> None:
        if not _shown:
            return
        self._last_line = time.monotonic()
        of_total = f"/{self._total}" if self._total is not None else ""
        parts = [f"{self._description}: {self._done}{of_total}"]
        parts.append(f"{self._last_line - self._started:.0f} s")
        parts.extend(part for part in (self._note, suffix) if part)
        print(", ".join(parts), file=sys.stderr, flush=True)
