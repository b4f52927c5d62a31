"""Supervised fine-tuning: cross-entropy on worked completions; other runs warm-start with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rlvr.adapters import active_dropout
from rlvr.batch import Batch
from rlvr.compute import backward
from rlvr.distributed import ALONE, World
from rlvr.errors import DataError
from rlvr.forward import score_tokens
from rlvr.memory import give_back_memory
from rlvr.objectives.aggregation import aggregate
from rlvr.objectives.supervised import cross_entropy
from rlvr.policy import Policy
from rlvr.seeds import derive_seed
from rlvr.sharing import parts_here
from rlvr.trainers.config import OptimizerConfig
from rlvr.trainers.given_run import encode_example
from rlvr.trainers.loop import Clock, Metrics
from rlvr.trainers.optimization import Optimizer
from rlvr.trainers.stream import Stream
from rlvr.types import Prompt, Task


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and a completion worth imitating; rows of one problem share an id."""

    prompt: Prompt
    completion: str
    id: str = ""


class SupervisedLearner:
    """Minimises the mean cross-entropy over the tokens of a batch of demonstrations.

    Args:
        policy: the model that is trained, in place.
        demonstrations: a sequence, or an iterable that can be restarted.
        batch_size: demonstrations a step.
        optimizer: its settings.
        steps: of the whole run.
        micro_batch_tokens: tokens in one forward pass.
        seed: of the order, and of LoRA's dropout.
        measure: `measure(step)` gives the metrics of an evaluation.
        world: the processes, which share the demonstrations of every step.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        demonstrations: Iterable[Demonstration],
        batch_size: int,
        optimizer: OptimizerConfig,
        steps: int,
        micro_batch_tokens: int,
        seed: int,
        measure: Callable[[int], Metrics],
        world: World = ALONE,
    ) -> None:
        self.world = world
        self.policy = policy
        self.stream: Stream[Demonstration] = Stream(demonstrations, derive_seed(seed, "sft"))
        self.batch_size = batch_size
        self.optim = Optimizer(policy.model, optimizer, steps, world)
        self.optimizer = self.optim.inner
        self.micro_batch_tokens = micro_batch_tokens
        self.seed = seed
        self.measure = measure
        self.clock = Clock()

    def step(self, step: int) -> Metrics:
        """One optimiser step on the next batch."""
        tokenizer = self.policy.tokenizer
        with self.clock.part("update"):
            demonstrations = self.stream.take(self.batch_size)
            batch = Batch.pack(
                [encode_example(tokenizer, item.prompt, item.completion) for item in demonstrations]
            )
            totals = batch.totals
            here = 0.0
            with active_dropout(self.policy.model, derive_seed(self.seed, "dropout", step)):
                for sequences, counts in parts_here(batch, self.micro_batch_tokens, self.world):
                    micro = batch.select(sequences)
                    scores = score_tokens(self.policy.model, micro, entropy="none")
                    share = aggregate(
                        cross_entropy(scores.logprobs),
                        scores.sequence_ids,
                        how="token-mean",
                        totals=totals,
                    )
                    backward(share if counts else 0.0 * share)
                    here += share.item() if counts else 0.0
                    give_back_memory()
            norm, rate = self.optim.step()
            loss = self.world.add_up({"loss": here})["loss"]
        return {"loss": loss, "tokens": totals.tokens, "grad_norm": norm, "lr": rate}

    def evaluate(self, step: int) -> Metrics:
        """Whatever the caller measures."""
        return self.measure(step)

    def state(self) -> Mapping[str, Any]:
        """The data position and the count of updates."""
        return {"position": self.stream.position, "updates": self.optim.updates}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a data position."""
        self.stream.seek(state["position"])
        self.optim.updates = state["updates"]

    def headline(self, metrics: Metrics) -> str:
        """The loss, and pass@1 or the held-out loss where they were measured."""
        shown = f"loss {metrics.get('loss', math.nan):.3f}"
        if "eval/loss" in metrics:
            shown += f", held-out loss {metrics['eval/loss']:.3f}"
        if "eval/pass@1" in metrics:
            shown += f", pass@1 {metrics['eval/pass@1']:.3f}"
        return shown


def worked_solution(task: Task) -> Demonstration:
    """The demonstration that a task carries.

    Raises:
        DataError: it carries none.
    """
    solution = task.metadata.get("solution")
    if not isinstance(solution, str):
        raise DataError(
            f"task {task.id!r} has no worked solution (metadata 'solution'): "
            "a warm start needs an environment that writes them"
        )
    return Demonstration(task.prompt, solution, task.id)
