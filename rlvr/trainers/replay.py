"""Replay: informative groups that were sampled before, once more in a batch.

Their tokens came from an older policy, so the ratio of the policy loss is taken to the sampler's
own logprobs, which a rollout carries: the importance weight is exact, and clipped as every other.

The buffer holds at most one group a task (the newest), at most `capacity` groups, and none whose
weights lie more than `max_age` optimiser steps back. It is part of the checkpoint, as a table.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from rlvr.rollout_table import read_groups, write_groups
from rlvr.seeds import derive_seed
from rlvr.trainers.config import ReplayConfig
from rlvr.types import RolloutGroup

FILE = "replay.parquet"


class ReplayBuffer:
    """Groups that trained or could have, the oldest first.

    Args:
        settings: bounds, and how many groups join each batch.
        seed: of the draws.
    """

    def __init__(self, settings: ReplayConfig, seed: int) -> None:
        self.settings = settings
        self.seed = seed
        self.groups: list[RolloutGroup] = []

    def draw(self, step: int, version: int, fresh: Sequence[RolloutGroup]) -> list[RolloutGroup]:
        """Groups to train on besides `fresh` ones, drawn evenly; none of a task that is fresh.

        Args:
            step: the training step, which the draw depends on.
            version: optimiser steps behind the policy that is to be trained.
            fresh: the groups of this step.
        """
        oldest = version - self.settings.max_age
        self.groups = [group for group in self.groups if _version(group) >= oldest]
        tasks = {group.task.id for group in fresh}
        others = [group for group in self.groups if group.task.id not in tasks]
        count = min(self.settings.groups, len(others))
        return random.Random(derive_seed(self.seed, step)).sample(others, count)

    def add(self, groups: Sequence[RolloutGroup]) -> None:
        """Keep groups in place of older ones of the same tasks; the oldest make room."""
        new = {group.task.id: group for group in groups}
        kept = [group for group in self.groups if group.task.id not in new]
        self.groups = [*kept, *new.values()][-self.settings.capacity :]

    def save(self, folder: Path) -> None:
        """Write the buffer into a checkpoint."""
        write_groups(folder / FILE, self.groups)

    def load(self, folder: Path) -> None:
        """The inverse of `save`."""
        self.groups = read_groups(folder / FILE)


def _version(group: RolloutGroup) -> int:
    return group.rollouts[0].policy_version
