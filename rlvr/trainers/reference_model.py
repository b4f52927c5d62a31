"""The reference of the KL term: the policy that a run began as, or one that follows it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from rlvr.distributed import ALONE, World
from rlvr.policy import Policy
from rlvr.sharding import load_rows, open_files, whole
from rlvr.trainers.config import ReferenceConfig

FILE = "reference.safetensors"


class Reference:
    """A model that the policy is held near.

    Args:
        policy: the reference as it begins; its weights are moved in place.
        settings: whether and how it follows.
        world: the processes; its weights are sharded where the policy's are.
    """

    def __init__(self, policy: Policy, settings: ReferenceConfig, world: World = ALONE) -> None:
        self.policy = policy
        self.world = world
        self.settings = settings

    @property
    def moves(self) -> bool:
        """Whether it ever changes."""
        return self.settings.update != "fixed"

    @torch.no_grad()
    def follow(self, policy: Policy, step: int) -> bool:
        """Move after a training step, where one is due; whether it did.

        `sync` takes over the policy's weights, `average` goes the share `rate` of the way, both
        every `every` steps.
        """
        if not self.moves or step % self.settings.every:
            return False
        rate = 1.0 if self.settings.update == "sync" else self.settings.rate
        own = self.policy.model.parameters()
        for mine, theirs in zip(own, policy.model.parameters(), strict=True):
            if rate == 1.0:
                mine.copy_(theirs)
            else:
                mine.lerp_(theirs.to(mine.dtype), rate)
        return True

    def save(self, folder: Path) -> None:
        """Write the weights into a checkpoint, where they move."""
        if self.moves:
            weights: dict[str, torch.Tensor] = {}
            for name, value in self.policy.model.named_parameters():
                gathered = whole(value.detach())
                if self.world.is_main:
                    weights[name] = gathered.cpu().contiguous()
            if self.world.is_main:
                save_file(weights, folder / FILE)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """The inverse of `save`."""
        if self.moves:
            load_rows(self.policy.model, dict(open_files([folder / FILE])))
