"""The shapes that parts of rlvr see of one another. Standard library only.

Upper layers depend on these and never on a concrete environment, verifier, sampler or sandbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from rlvr.types import Completion, Prompt, SamplingParams, Task, Verdict


@runtime_checkable
class Verifier(Protocol):
    """Decides what a completion is worth for a task. Deterministic, and picklable."""

    @property
    def name(self) -> str:
        """What it is called in messages and reports."""
        ...

    def verify(self, task: Task, completion: str | Completion) -> Verdict:
        """Grade one completion. Never raises for what the policy wrote."""
        ...


@runtime_checkable
class Environment(Protocol):
    """Tasks, their prompts, and the verifier that grades them."""

    name: str
    verifier: Verifier

    @property
    def tasks(self) -> Iterable[Task]:
        """The tasks: a `Sequence`, or, where streamed, an iterable that can be restarted."""
        ...


@runtime_checkable
class Sampler(Protocol):
    """Generates completions."""

    name: str

    def sample(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seeds: Sequence[int]
    ) -> list[Completion]:
        """One completion for each prompt, in order.

        Args:
            prompts: `n` prompts; several samples of one task are the same prompt several times.
            params: how to sample.
            seeds: `n` seeds; with equal prompts, seeds and weights, an in-process sampler gives
                equal completions on the same machine.

        Raises:
            SamplerError: the engine or its server failed.
        """
        ...

    def close(self) -> None:
        """Give back what is held (processes, memory, connections). May be called twice."""
        ...


@runtime_checkable
class TrainableSampler(Sampler, Protocol):
    """A sampler whose weights follow the policy in training."""

    def update_weights(self, model: Any) -> None:
        """Take over the weights of `model` (a `torch.nn.Module` of the same architecture)."""
        ...
