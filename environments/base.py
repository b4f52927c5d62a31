"""What an environment is: tasks with their prompts, and the verifier that grades them.

`task.metadata["solution"]`, where an environment can write one, is a worked response as an expert
would give it: warm starts imitate it, and `rlvr check` proves that it scores 1.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rlvr import registry
from rlvr.errors import DataError
from rlvr.protocols import Verifier
from rlvr.types import Message, Task


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A single-turn environment.

    Attributes:
        tasks: a `Sequence` (random access, counted), or an iterable that can be restarted where
            the data is streamed.
        verifier: grades the completions; a name is loaded with its default options.
        name: filled in with the registered name.
    """

    tasks: Iterable[Task]
    verifier: Verifier
    name: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.verifier, str):
            object.__setattr__(self, "verifier", registry.verifiers.create(self.verifier))

    def first(self, limit: int | None = None) -> list[Task]:
        """The first `limit` tasks, or all of them.

        Raises:
            DataError: there are none.
        """
        tasks: list[Task] = []
        for task in self.tasks:
            if limit is not None and len(tasks) >= limit:
                break
            tasks.append(task)
        if not tasks:
            raise DataError(f"environment {self.name!r} has no tasks: its data is empty")
        return tasks


@dataclass(frozen=True)
class GeneratedTasks(Sequence[Task]):
    """Tasks made on demand: task `i` depends on `(seed, i)` alone, so any part can be had alone.

    Attributes:
        make: `make(index) -> Task`, pure.
        size: how many there are.
    """

    make: Callable[[int], Task]
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.make(i) for i in range(*index.indices(self.size))]
        if not -self.size <= index < self.size:
            raise IndexError(index)
        return self.make(index % self.size)


def user_message(text: str) -> list[Message]:
    """A chat of one message, from the user."""
    return [{"role": "user", "content": text}]


def environment(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function that makes an environment; its parameters are the environment's options.

    Raises:
        ConfigError: the name is taken.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def factory(**options: Any) -> Any:
            made = function(**options)
            return made if made.name else dataclasses.replace(made, name=name)

        factory.option_signature = inspect.signature(function)  # type: ignore[attr-defined]
        registry.environments.register(name, factory)
        return function

    return register
