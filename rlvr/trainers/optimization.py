"""The optimiser of every trainer: AdamW, a schedule, and one clipped step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from rlvr.distributed import ALONE, World
from rlvr.memory import give_back_memory
from rlvr.sharding import whole
from rlvr.trainers.config import OptimizerConfig


class Optimizer:
    """AdamW whose learning rate is a function of the step count alone.

    Args:
        model: whose parameters are trained; vectors (norms, biases) are not decayed.
        settings: rates and bounds.
        total_steps: optimiser steps of the whole run, for schedules that decay.
        world: the processes whose gradients add up.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: OptimizerConfig,
        total_steps: int,
        world: World = ALONE,
    ) -> None:
        trained = [p for p in model.parameters() if p.requires_grad]
        if world.sharded and not all(isinstance(p, DTensor) for p in trained):
            raise RuntimeError("an optimizer of sharded weights was made while some were gathered")
        matrices = [p for p in trained if p.ndim > 1]
        vectors = [p for p in trained if p.ndim <= 1]
        self.settings = settings
        self.world = world
        self.total_steps = total_steps
        self.updates = 0
        self.parameters = trained
        self.inner: torch.optim.Optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            fused=True,
        )

    def step(self) -> tuple[float, float]:
        """Sum the gradients over processes, clip them, update the weights, clear the gradients.

        A gradient that is not finite leaves the weights as they are.

        Returns:
            The gradient's norm before clipping, and the learning rate that was used.
        """
        rate = learning_rate(self.settings, self.updates, self.total_steps)
        if not self.world.sharded:  # sharded gradients were summed as they came
            self.world.sum_gradients(self.parameters)
        clipped = nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
        norm = whole(clipped).item()
        if math.isfinite(norm):
            for group in self.inner.param_groups:
                group["lr"] = rate
            self.inner.step()
        self.inner.zero_grad(set_to_none=True)
        give_back_memory()
        self.updates += 1
        return norm, rate


def learning_rate(settings: OptimizerConfig, update: int, total: int) -> float:
    """The rate of update number `update` (the first is 0): linear warm-up, then the schedule."""
    if update < settings.warmup_steps:
        return settings.lr * (update + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.lr
    span = max(1, total - settings.warmup_steps)
    progress = min(1.0, (update - settings.warmup_steps) / span)
    shape = 1.0 - progress
    if settings.schedule == "cosine":
        shape = 0.5 * (1.0 + math.cos(math.pi * progress))
    floor = settings.final_lr_fraction
    return settings.lr * (floor + (1.0 - floor) * shape)


def mean(values: Iterable[float]) -> float:
    """The mean, or NaN of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else math.nan
