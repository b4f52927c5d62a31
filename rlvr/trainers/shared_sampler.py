"""One evaluation, the sampling of which all processes share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from rlvr.distributed import World
from rlvr.protocols import Sampler
from rlvr.types import Completion, FinishReason, Prompt, SamplingParams


def sample_together(world: World, sampler: Sampler, action: Callable[[Sampler], Any]) -> Any:
    """Let the main process do something with a sampler that all processes sample for.

    Args:
        world: the processes; each calls.
        sampler: the process's own; all have the same weights.
        action: what is done on the main process, as often sampling as it likes.

    Returns:
        The plain JSON value that `action` returned, on every process.
    """
    if world.size == 1:
        return action(sampler)
    shared = SharedSampler(world, sampler)
    result = None
    if world.is_main:
        result = action(shared)
        shared.finish()
    else:
        shared.serve()
    return world.broadcast(result)


class SharedSampler:
    """Has every process sample its share of the prompts.

    Args:
        world: the processes.
        sampler: the process's own.
    """

    def __init__(self, world: World, sampler: Sampler) -> None:
        self.name = sampler.name
        self._world = world
        self._sampler = sampler

    def sample(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seeds: Sequence[int]
    ) -> list[Completion]:
        """One completion for each prompt, in order. For the main process."""
        request = {
            "prompts": [p if isinstance(p, str) else list(p) for p in prompts],
            "params": dataclasses.asdict(params),
            "seeds": list(seeds),
        }
        return self._answer(self._world.broadcast(request))

    def finish(self) -> None:
        """Let the other processes go. For the main process."""
        self._world.broadcast(None)

    def serve(self) -> None:
        """Sample what the main process wants until it is finished. For the others."""
        while (request := self._world.broadcast(None)) is not None:
            self._answer(request)

    def close(self) -> None:
        """The sampler belongs to the caller."""

    def _answer(self, request: dict[str, Any]) -> list[Completion]:
        prompts = self._world.share(request["prompts"])
        seeds = self._world.share(request["seeds"])
        settings = {**request["params"], "stop": tuple(request["params"]["stop"])}
        own = self._sampler.sample(prompts, SamplingParams(**settings), seeds=seeds)
        rows = self._world.gather([dataclasses.asdict(completion) for completion in own])
        return [_completion(row) for part in rows for row in part]


def _completion(row: dict[str, Any]) -> Completion:
    lists = ("token_ids", "logprobs", "prompt_token_ids")
    row |= {name: tuple(row[name]) for name in lists}
    return Completion(**{**row, "finish_reason": FinishReason(row["finish_reason"])})
