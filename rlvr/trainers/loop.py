"""The loop that every trainer shares: step, log, evaluate, checkpoint; and how it goes on again.

A run's folder:

    config.yaml  metrics.jsonl  timing.jsonl  alarms.jsonl  checkpoints/step_NNNNNN/
    evals/step_NNNNNN/  rollouts/step_NNNNNN.parquet  policy/

Everything after the newest whole checkpoint is computed again on `--resume`, from the same seeds,
so that the metrics equal those of a run that was never stopped.
"""

from __future__ import annotations

import math
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from rlvr.checkpoints import checkpoints, load_checkpoint, newest_whole, save_checkpoint
from rlvr.distributed import ALONE, World
from rlvr.errors import UserError
from rlvr.files import sync
from rlvr.policy import Policy, save_policy
from rlvr.progress import Progress
from rlvr.trainers.run_log import RunLog

Metrics = dict[str, float]


class Clock:
    """Adds up the seconds spent, and the tokens handled, in each named part of a step.

    Parts may lie within one another, and run in several threads at once.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._tokens: dict[str, int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the block under `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            with self._lock:
                self._seconds[name] = self._seconds.get(name, 0.0) + elapsed

    def count(self, name: str, tokens: int) -> None:
        """Count tokens that were handled in the part `name`."""
        with self._lock:
            self._tokens[name] = self._tokens.get(name, 0) + tokens

    def drain(self) -> dict[str, float]:
        """Seconds of each part since the last call, and its `NAME/tokens_per_second`."""
        with self._lock:
            seconds, self._seconds = self._seconds, {}
            tokens, self._tokens = self._tokens, {}
        rates = {
            f"{name}/tokens_per_second": count / seconds[name]
            for name, count in tokens.items()
            if seconds.get(name)
        }
        return seconds | rates


class Learner(Protocol):
    """What the loop drives."""

    policy: Policy
    optimizer: torch.optim.Optimizer
    clock: Clock

    def step(self, step: int) -> Metrics:
        """Do the training step of that number (the first is 1)."""
        ...

    def evaluate(self, step: int) -> Metrics:
        """Measure on held-out data; what it writes goes to `evals/step_NNNNNN` of the run."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What a checkpoint needs besides weights and optimizer, as plain JSON values."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        ...

    def headline(self, metrics: Metrics) -> str:
        """The few numbers to show beside the progress bar."""
        ...


@runtime_checkable
class KeepsFiles(Protocol):
    """A learner with state that is too large for JSON: rollouts, a critic, a moving reference."""

    def save_files(self, folder: Path) -> None:
        """Write it into a checkpoint that is being made."""
        ...

    def load_files(self, folder: Path) -> None:
        """Read it from a checkpoint, before `restore` is called."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """When the loop does what.

    Attributes:
        name: what the progress bar calls it.
        folder: the run's folder.
        steps: how many steps.
        evaluate_every: steps between evaluations (the first and the last step always have one);
            `None` for no evaluation at all.
        checkpoint_every: steps between checkpoints; the last step always has one.
        keep: checkpoints that stay.
        stop: ends the loop early, given the metrics of an evaluation.
        tracking: the trackers that show the metrics, by name.
    """

    name: str
    folder: Path
    steps: int
    evaluate_every: int | None
    checkpoint_every: int
    keep: int
    stop: Callable[[Metrics], bool] = lambda metrics: False
    tracking: Sequence[str] = ()


def fit(learner: Learner, plan: Plan, *, resume: bool, world: World = ALONE) -> Metrics:
    """Train, from the start or from the newest whole checkpoint, and save the final policy.

    Every process calls; the main one writes what is written once.

    Returns:
        The metrics of the last evaluation (empty where the plan has none).

    Raises:
        UserError: the folder holds a run already and `resume` is false.
    """
    log = RunLog(plan.folder, writes=world.is_main, tracking=plan.tracking)
    if not resume and world.on_main(lambda: log.exists):
        raise UserError(
            f"{plan.folder} holds a run already: go on with it (--resume) "
            "or choose another folder (--set output=...)"
        )
    plan.folder.mkdir(parents=True, exist_ok=True)
    try:
        last = _train(learner, plan, log, world)
    finally:
        log.close()
    _save_final(learner.policy, plan.folder / "policy", world)
    return last


def _train(learner: Learner, plan: Plan, log: RunLog, world: World) -> Metrics:
    """Every step that is missing; the metrics of the last evaluation."""
    done, last = _restore(learner, plan.folder, world)
    world.on_main(lambda: _forget_later(plan.folder, done))
    log.rewind(done)
    if done < 0:
        done = 0
        last = _evaluate(learner, plan, 0, log)
        log.timing(0, learner.clock.drain())

    with Progress(plan.name, plan.steps) as progress:
        progress.advance(done)
        for step in range(done + 1, plan.steps + 1):
            if plan.stop(last):
                break
            metrics = learner.step(step)
            log.metrics(step, metrics)
            if _due(step, plan.evaluate_every, plan.steps):
                last = _evaluate(learner, plan, step, log)
            if _due(step, plan.checkpoint_every, plan.steps) or plan.stop(last):
                with learner.clock.part("checkpoint"):
                    _checkpoint(learner, plan, step, last, world)
            log.timing(step, learner.clock.drain())
            progress.advance(note=learner.headline({**metrics, **last}))
    return last


def _due(step: int, every: int | None, last_step: int) -> bool:
    return every is not None and (step % every == 0 or step == last_step)


def _restore(learner: Learner, folder: Path, world: World) -> tuple[int, Metrics]:
    """The step that the newest whole checkpoint was made after (-1: there is none)."""
    found = world.on_main(lambda: _name_of(newest_whole(folder / "checkpoints")))
    if found is None:
        if checkpoints(folder / "checkpoints") and world.is_main:
            print(f"warning: no checkpoint in {folder} is whole: it begins anew", file=sys.stderr)
        return -1, {}
    newest = folder / "checkpoints" / found
    saved = load_checkpoint(newest, policy=learner.policy, optimizer=learner.optimizer, world=world)
    if isinstance(learner, KeepsFiles):
        learner.load_files(newest)
    learner.restore(saved["learner"])
    evaluation = saved["evaluation"]  # JSON has no NaN
    return saved["step"], {k: math.nan if v is None else v for k, v in evaluation.items()}


def _name_of(path: Path | None) -> str | None:
    return None if path is None else path.name


def _forget_later(folder: Path, step: int) -> None:
    """Remove what comes after a step and is about to be made again, and files half written."""
    for path in folder.glob("evals/step_*"):
        if int(path.name.removeprefix("step_")) > step:
            shutil.rmtree(path)
    for path in folder.glob("rollouts/step_*.parquet"):
        if int(path.stem.removeprefix("step_")) > step:
            path.unlink()
    for path in [*folder.glob(".*.tmp"), *folder.glob("rollouts/.*.tmp")]:
        path.unlink()


def _evaluate(learner: Learner, plan: Plan, step: int, log: RunLog) -> Metrics:
    if plan.evaluate_every is None:
        return {}
    with learner.clock.part("evaluate"):
        metrics = learner.evaluate(step)
    log.metrics(step, metrics)
    return metrics


def _checkpoint(learner: Learner, plan: Plan, step: int, last: Metrics, world: World) -> None:
    save_checkpoint(
        plan.folder / "checkpoints",
        step,
        policy=learner.policy,
        optimizer=learner.optimizer,
        state={"learner": learner.state(), "evaluation": last},
        keep=plan.keep,
        write_files=learner.save_files if isinstance(learner, KeepsFiles) else None,
        world=world,
    )


def _save_final(policy: Policy, folder: Path, world: World) -> None:
    """Put the trained policy in place, whole."""
    temporary = folder.with_name(f".writing_{folder.name}")
    if world.is_main:
        shutil.rmtree(temporary, ignore_errors=True)
    save_policy(policy, temporary, world)
    world.on_main(lambda: _rename(temporary, folder))


def _rename(temporary: Path, folder: Path) -> None:
    for path in temporary.rglob("*"):
        sync(path)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    sync(folder.parent)
