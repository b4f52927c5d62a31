"""A curriculum over tasks: those are drawn more often that are neither solved nor hopeless.

The gradient of a group of 0/1 rewards is proportional to their spread, whose expectation is
p (1 - p) for a task with pass rate p. A task is therefore drawn in proportion to 4 p (1 - p), with
p a running mean of what was seen of it (Foster and Foerster 2025, arXiv:2502.12272, who draw from
the tasks of the highest p (1 - p)), and not below a floor; a task not yet seen has weight 1.

A fixed share of every draw comes from the plain stream instead, which gives out every task once an
epoch: no task starves, whatever was measured of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rlvr.errors import ConfigError
from rlvr.seeds import derive_seed
from rlvr.trainers.config import CurriculumConfig
from rlvr.trainers.stream import Stream
from rlvr.types import RolloutGroup, Task

UNSEEN = 1.0


class Curriculum:
    """Draws tasks by what is to be learned from them; its state is a pass rate for each task seen.

    Args:
        tasks: the tasks; not streamed ones.
        settings: how pass rates are averaged, and how much is left to the plain stream.
        seed: of the draws.

    Raises:
        ConfigError: the tasks are streamed.
    """

    def __init__(self, tasks: Iterable[Task], settings: CurriculumConfig, seed: int) -> None:
        if not isinstance(tasks, Sequence):
            raise ConfigError(
                "curriculum draws from all tasks at once: the environment streams its tasks; "
                "set curriculum=null, or use an environment that holds them"
            )
        self.tasks = tasks
        self.settings = settings
        self.seed = seed
        self.draws = 0
        self.rates: dict[str, float] = {}
        self._plain: Stream[int] = Stream(range(len(tasks)), derive_seed(seed, "plain"))
        self._index: dict[str, int] = {}
        self._weights = np.full(len(tasks), UNSEEN)

    def take(self, count: int) -> list[Task]:
        """The next `count` tasks, no two the same where there are enough."""
        chosen = self._plain.take(min(count, math.ceil(count * self.settings.uniform)))
        generator = np.random.default_rng(derive_seed(self.seed, self.draws))
        self.draws += 1
        # The least of exponentials with rates w_i: a weighted draw without replacement.
        keys = generator.standard_exponential(len(self.tasks)) / self._weights
        keys[chosen] = np.inf
        order = np.argsort(keys, kind="stable")[: len(self.tasks) - len(set(chosen))]
        chosen += [int(index) for index in order[: count - len(chosen)]]
        chosen += self._plain.take(count - len(chosen))
        tasks = [self.tasks[index] for index in chosen]
        self._index.update((task.id, i) for task, i in zip(tasks, chosen, strict=True))
        return tasks

    def observe(self, groups: Iterable[RolloutGroup]) -> None:
        """Take in what became of tasks: the share of graded rollouts that solved each."""
        for group in groups:
            if not group.graded:
                continue
            rate = sum(r.verdict.is_correct for r in group.graded) / len(group.graded)
            before = self.rates.get(group.task.id)
            if before is not None:
                rate = before + self.settings.rate * (rate - before)
            self.rates[group.task.id] = rate
            self._weigh(group.task.id)

    def metrics(self) -> Mapping[str, float]:
        """The spread of what is known: tasks seen, and how many of them are near 0, 1, between."""
        seen = np.array(list(self.rates.values()))
        if not len(seen):
            return {}
        return {
            "curriculum/seen": float(len(seen)),
            "curriculum/hopeless": float((seen <= 0.05).mean()),
            "curriculum/solved": float((seen >= 0.95).mean()),
            "curriculum/pass_rate": float(seen.mean()),
        }

    def state(self) -> Mapping[str, Any]:
        """Plain JSON values."""
        return {
            "draws": self.draws,
            "position": self._plain.position,
            "tasks": {name: [self._index[name], rate] for name, rate in self.rates.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.draws = state["draws"]
        self._plain.seek(state["position"])
        self._index = {name: index for name, (index, _) in state["tasks"].items()}
        self.rates = {name: rate for name, (_, rate) in state["tasks"].items()}
        self._weights[:] = UNSEEN
        for name in self.rates:
            self._weigh(name)

    def _weigh(self, name: str) -> None:
        rate = self.rates[name]
        self._weights[self._index[name]] = max(self.settings.floor, 4.0 * rate * (1.0 - rate))
