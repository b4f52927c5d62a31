"""The critic of PPO: a value for the state before each token, learned beside the policy.

It is a copy of the policy as the run begins (LoRA matrices included, which then are what learns),
whose head has one output instead of a vocabulary.
The head begins at 0, so that the first advantages are plain returns. It is sharded where the policy
is.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlvr.batch import Batch
from rlvr.checkpoints_optimizer import load_optimizer, save_optimizer
from rlvr.compute import backward
from rlvr.distributed import ALONE, World
from rlvr.errors import CheckpointError
from rlvr.files import write_json
from rlvr.forward import score_values
from rlvr.objectives.aggregation import Totals
from rlvr.objectives.values import clipped_value_loss
from rlvr.sharding import load_rows, open_files, whole
from rlvr.trainers.config import CriticConfig
from rlvr.trainers.optimization import Optimizer

WEIGHTS = "critic.safetensors"
OPTIMIZER = "critic_optimizer"
STATE = "critic.json"

Sums = dict[str, Tensor]


class Critic:
    """A value model with an optimiser of its own.

    Args:
        model: whose head has one output, such as `value_model` makes; learns in place.
        settings: discount, clipping, optimiser.
        total_updates: optimiser steps of the whole run.
        world: the processes; the weights are sharded where the policy's are.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: CriticConfig,
        total_updates: int,
        world: World = ALONE,
    ) -> None:
        self.settings = settings
        self.world = world
        self.model = model
        self.optim = Optimizer(self.model, settings.optimizer, total_updates, world)

    def values(self, batch: Batch) -> Tensor:
        """`[N]` float32: of the state before each trained token; gradients flow."""
        return score_values(self.model, batch)

    def learn(
        self,
        micro: Batch,
        old_values: Tensor,
        returns: Tensor,
        totals: Totals,
        weight: float = 1.0,
    ) -> Sums:
        """Add a micro-batch's share of the gradient of the mean loss over all tokens.

        Args:
            micro: the micro-batch, with N trained tokens.
            old_values: `[N]`, that the advantages were taken with.
            returns: `[N]`, to fit to.
            totals: of the whole optimisation batch.
            weight: of the gradient; 0 where another process counts the micro-batch.

        Returns:
            Sums over tokens, for the log.
        """
        values = self.values(micro)
        per_token, sums = clipped_value_loss(
            values,
            old_values.to(values.device),
            returns.to(values.device),
            clip=self.settings.value_clip,
        )
        backward(weight * per_token.sum() / max(totals.tokens, 1))
        loss = per_token.detach().sum(dtype=torch.float64)
        return {f"critic/{name}": value for name, value in {**sums, "loss": loss}.items()}

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """What is learned: with LoRA in the policy, matrices and the head alone."""
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def save(self, folder: Path) -> None:
        """Write weights and optimiser into a checkpoint; every process calls."""
        weights: dict[str, Tensor] = {}
        for name, value in self.trained():
            gathered = whole(value.detach())
            if self.world.is_main:
                weights[name] = gathered.cpu().contiguous()
        rest = save_optimizer(self.optim.inner, folder, OPTIMIZER, self.world)
        if self.world.is_main:
            save_file(weights, folder / WEIGHTS)
            write_json(folder / STATE, {"optimizer": rest, "updates": self.optim.updates})

    def load(self, folder: Path) -> None:
        """The inverse of `save`; any number of processes may have written it.

        Raises:
            CheckpointError: it has not the weights that learn here.
        """
        missing = load_rows(self.model, dict(open_files([folder / WEIGHTS])))
        for name in sorted({name for name, _ in self.trained()}.intersection(missing)):
            raise CheckpointError(
                f"{folder / WEIGHTS} belongs to another model: {name!r} is not in it"
            )
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        load_optimizer(self.optim.inner, folder, OPTIMIZER, state["optimizer"])
        self.optim.updates = state["updates"]


def value_model(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of a causal model with a head of one output, at 0."""
    critic = copy.deepcopy(model)
    put_value_head(critic)
    return critic


def put_value_head(model: PreTrainedModel) -> None:
    """Give a causal model, not sharded yet, a head of one output, at 0, in place of its own."""
    old = model.get_output_embeddings()
    weight = old.weight
    head = nn.Linear(weight.shape[1], 1, bias=False, device=weight.device, dtype=weight.dtype)
    nn.init.zeros_(head.weight)
    model.set_output_embeddings(head)
    model.config.tie_word_embeddings = False
