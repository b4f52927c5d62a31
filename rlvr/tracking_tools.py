"""TensorBoard and Weights & Biases: views of a run beside its own files, which stay what counts.

A tracker never stops a run: when one fails, that is said once, and the run goes on without it.
After a kill, rows that were shown already are not shown twice: what a tracker keeps on this disk is
made again from the run's own files, and what a server keeps is gone on with after its last step.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import yaml

from rlvr.errors import MissingExtraError
from rlvr.files import write_json

Row = Mapping[str, Any]

PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}


class Tracker(Protocol):
    """Shows the numbers of a run somewhere."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show the numbers of a step; there may be several calls for one step, in order."""
        ...

    def close(self) -> None:
        """Write out what is held back."""
        ...


class TensorBoard:
    """Event files in the folder `tensorboard` of the run, made anew: `tensorboard --logdir runs`.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        place = folder / "tensorboard"
        shutil.rmtree(place, ignore_errors=True)
        self._writer = SummaryWriter(str(place))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show scalars under their names; `@` is not allowed in them and becomes `_`."""
        for name, value in values.items():
            self._writer.add_scalar(name.replace("@", "_"), value, step)

    def close(self) -> None:
        """Write out what is held back."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases, of project `rlvr` unless `WANDB_PROJECT` says otherwise.

    `WANDB_MODE=offline` keeps it in the folder `wandb` of the run, for `wandb sync`. Its id is kept
    in `wandb.json`, so that a resumed run is the same one.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        import wandb

        kept = folder / "wandb.json"
        if not kept.exists():
            write_json(kept, {"id": uuid.uuid4().hex[:12]})
        identity = json.loads(kept.read_text(encoding="utf-8"))["id"]
        for stale in (folder / "wandb").glob(f"offline-run-*-{identity}"):
            shutil.rmtree(stale)  # everything in it is told again
        config = folder / "config.yaml"
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "rlvr"),
            name=os.environ.get("WANDB_NAME", folder.resolve().name),
            dir=str(folder),
            id=identity,
            resume="allow",
            config=yaml.safe_load(config.read_text(encoding="utf-8")) if config.exists() else None,
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._first = self._run.step  # of a run that a server knows, the step after its last one

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show numbers at a step, unless the server has that step."""
        if step >= self._first:
            self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Send what is held back."""
        self._run.finish()


TRACKERS: dict[str, Callable[[Path], Tracker]] = {"tensorboard": TensorBoard, "wandb": WandB}


class Trackers:
    """The trackers of a run; one that fails is named once and left out from then on.

    Args:
        names: of `TRACKERS`.
        folder: the run's folder.
        rows: (step, numbers) of what the run has logged already.
    """

    def __init__(
        self, names: Sequence[str], folder: Path, rows: Iterable[tuple[int, Row]] = ()
    ) -> None:
        self._open: dict[str, Tracker] = {}
        for name in names:
            self._try(name, partial(self._begin, name, folder))
        if self._open:
            for step, row in rows:
                self.log(step, row)

    def log(self, step: int, values: Row) -> None:
        """Show numbers; those that are not finite have no place in a plot and are left out."""
        shown = {
            name: float(value)
            for name, value in values.items()
            if name != "step" and isinstance(value, int | float) and math.isfinite(value)
        }
        for name, tracker in list(self._open.items()):
            self._try(name, partial(tracker.log, step, shown))

    def close(self) -> None:
        """Write out what is held back. May be called twice."""
        for name, tracker in list(self._open.items()):
            self._try(name, tracker.close)
        self._open.clear()

    def _begin(self, name: str, folder: Path) -> None:
        self._open[name] = TRACKERS[name](folder)

    def _try(self, name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # whatever a foreign package raises
            self._open.pop(name, None)
            reason = (str(error).splitlines() or [""])[0]
            print(
                f"warning: {name} failed ({type(error).__name__}: {reason}); the run goes on "
                "without it, and its own files have everything",
                file=sys.stderr,
                flush=True,
            )


def check_trackers(names: Iterable[str]) -> None:
    """Refuse trackers that are not installed.

    Raises:
        MissingExtraError: the package of one is missing.
    """
    for name in names:
        try:
            importlib.import_module(PACKAGES[name])
        except ModuleNotFoundError as error:
            raise MissingExtraError(PACKAGES[name], "track", f"tracking with {name}") from error
