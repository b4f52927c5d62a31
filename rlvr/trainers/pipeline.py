"""Batches of rollouts made ahead of the step that trains on them, by a schedule and not a clock.

With `ahead` N, the batch of step s is made with the weights after step s-1-N (those that the run
began with, for the first N+1 steps). Which weights sample what is thus a function of the
configuration; how fast anything goes changes only how long somebody waits:

    step s:  take batch s  ->  hand the weights of step s-1 over, to make batch s+N  ->  update

Batches are made in order, one at a time, in one background thread, which alone touches the stream
of tasks and the sampler while it works. With `ahead` 0 there is no thread: this is the plain loop.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Generic, TypeVar

from torch import nn

from rlvr.background import Background, wait_for

T = TypeVar("T")


class Pipeline(Generic[T]):
    """Makes the batches of steps in their order, up to `ahead` of them in advance.

    Args:
        make: `make(step, version)` makes a batch with the weights that were handed over last.
        hand_over: `hand_over(model, version)` gives weights to the sampler.
        model: the policy that is trained.
        version: the count of updates that the policy has behind it.
        ahead: batches that may be made before their step; 0 makes each in its own step.
        last: the run's last step; no batch is made for a later one.
        snapshot: a copy of the policy for the thread; it may be an exchange between processes.
            Where it is given, every batch that is made ahead gets one: whether the sampler is idle
            just now is a matter of time, in which the processes differ.
    """

    def __init__(
        self,
        make: Callable[[int, int], T],
        *,
        hand_over: Callable[[nn.Module, int], None],
        model: nn.Module,
        version: Callable[[], int],
        ahead: int,
        last: int,
        snapshot: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        self._make = make
        self._snapshot = snapshot
        self._hand_over = hand_over
        self._model = model
        self._version = version
        self._ahead = ahead
        self._last = last
        self._ready: dict[int, T] = {}
        self._coming: dict[int, Future[T]] = {}
        self._background = Background("rollouts")

    def take(self, step: int) -> T:
        """The batch of a step, waited for where it is not ready; the next one is begun.

        Raises:
            BaseException: whatever making it, or an earlier one, raised.
        """
        if not self._ahead:
            self._hand_over(self._model, self._version())
            return self._make(step, self._version())
        for near in range(step, step + self._ahead):
            self._begin(near)
        batch = self._finish(step)
        del self._ready[step]
        self._begin(step + self._ahead)
        return batch

    def drain(self) -> Mapping[int, T]:
        """Wait until nothing is being made.

        Returns:
            The batches that are ready, by the step that they are for.
        """
        for step in list(self._coming):
            self._finish(step)
        return dict(self._ready)

    def restore(self, ready: Mapping[int, T]) -> None:
        """Put back what `drain` gave."""
        self._ready = dict(ready)

    def close(self) -> None:
        """Stop what is being made. May be called twice."""
        self._background.close()

    def _begin(self, step: int) -> None:
        if step > self._last or step in self._ready or step in self._coming:
            return
        version = self._version()
        if self._snapshot is not None:
            make = partial(self._make_with, self._snapshot(self._model), step, version)
        elif all(future.done() for future in self._coming.values()):
            self._hand_over(self._model, version)  # nobody samples: the sampler takes its copy
            make = partial(self._make, step, version)
        else:
            make = partial(self._make_with, copy.deepcopy(self._model), step, version)
        self._coming[step] = self._background.submit(make)

    def _make_with(self, weights: nn.Module, step: int, version: int) -> T:
        self._hand_over(weights, version)
        return self._make(step, version)

    def _finish(self, step: int) -> T:
        if step in self._coming:
            self._ready[step] = wait_for(self._coming.pop(step))
        return self._ready[step]
