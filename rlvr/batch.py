"""The batch: rollouts as packed tensors, split into micro-batches that fit a token budget.

Shapes: `T` tokens of all sequences one after the other, prompts included; `S` sequences. Nothing is
padded here; where a model needs padding, the forward pass does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlvr.errors import ConfigError
from rlvr.objectives.aggregation import Totals


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One sequence to learn from.

    Attributes:
        prompt_ids: the context; never trained on.
        completion_ids: what followed it.
        advantage: what each token of the completion is worth to the policy loss.
        sampler_logprobs: of `completion_ids`, or empty where nothing sampled them.
        trained: `False` leaves the sequence out of the loss (an overlong one, say).
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    advantage: float = 0.0
    sampler_logprobs: tuple[float, ...] = ()
    trained: bool = True

    def __post_init__(self) -> None:
        if not self.prompt_ids or not self.completion_ids:
            raise ValueError("an example needs at least one prompt token and one completion token")
        if self.sampler_logprobs and len(self.sampler_logprobs) != len(self.completion_ids):
            raise ValueError(
                f"{len(self.sampler_logprobs)} logprobs for {len(self.completion_ids)} tokens"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Sequences packed one after the other.

    Attributes:
        input_ids: `[T]` int64, prompt and completion of each sequence.
        boundaries: `[S+1]` int64 offsets into `input_ids`; the first is 0, the last `T`.
        loss_mask: `[T]` bool, true on the completion tokens that are trained on.
        advantages: `[T]` float32, 0 outside the loss mask.
        sampler_logprobs: `[T]` float32, 0 outside the completions.
        old_logprobs: `[T]` float32, of the policy before the first update on this batch, 0 outside
            the loss mask; `None` where that is the policy as it is now.
        columns: further `[T]` tensors by name, such as a critic's values.
    """

    input_ids: Tensor
    boundaries: Tensor
    loss_mask: Tensor
    advantages: Tensor
    sampler_logprobs: Tensor
    old_logprobs: Tensor | None = None
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def pack(cls, examples: Sequence[Example]) -> Batch:
        """Pack examples in the order given."""
        if not examples:
            raise ValueError("a batch needs at least one example")
        ids: list[int] = []
        mask: list[bool] = []
        advantages: list[float] = []
        logprobs: list[float] = []
        boundaries = [0]
        for example in examples:
            prompt, completion = len(example.prompt_ids), len(example.completion_ids)
            ids.extend((*example.prompt_ids, *example.completion_ids))
            mask.extend([False] * prompt + [example.trained] * completion)
            value = example.advantage if example.trained else 0.0
            advantages.extend([0.0] * prompt + [value] * completion)
            logprobs.extend([0.0] * prompt)
            logprobs.extend(example.sampler_logprobs or [0.0] * completion)
            boundaries.append(len(ids))
        return cls(
            input_ids=torch.tensor(ids, dtype=torch.int64),
            boundaries=torch.tensor(boundaries, dtype=torch.int64),
            loss_mask=torch.tensor(mask, dtype=torch.bool),
            advantages=torch.tensor(advantages, dtype=torch.float32),
            sampler_logprobs=torch.tensor(logprobs, dtype=torch.float32),
        )

    def __len__(self) -> int:
        return self.boundaries.numel() - 1

    @property
    def lengths(self) -> Tensor:
        """`[S]` int64: tokens of each sequence."""
        return self.boundaries.diff()

    @property
    def totals(self) -> Totals:
        """How many trained tokens there are, and how many sequences have any."""
        trained = self.trained_lengths
        return Totals(tokens=int(trained.sum()), sequences=int((trained > 0).sum()))

    @property
    def trained_lengths(self) -> Tensor:
        """`[S]` int64: trained tokens of each sequence."""
        running = torch.cat([torch.zeros(1, dtype=torch.int64), self.loss_mask.cumsum(0)])
        return running[self.boundaries].diff()

    @property
    def sequence_ids(self) -> Tensor:
        """`[T]` int64: which sequence each token belongs to."""
        return torch.repeat_interleave(torch.arange(len(self)), self.lengths)

    def select(self, sequences: Sequence[int]) -> Batch:
        """The batch of these sequences, in this order."""
        index = self.positions(sequences)
        lengths = self.lengths[torch.tensor(list(sequences))]
        return Batch(
            input_ids=self.input_ids[index],
            boundaries=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
            loss_mask=self.loss_mask[index],
            advantages=self.advantages[index],
            sampler_logprobs=self.sampler_logprobs[index],
            old_logprobs=None if self.old_logprobs is None else self.old_logprobs[index],
            columns={name: column[index] for name, column in self.columns.items()},
        )

    def positions(self, sequences: Sequence[int]) -> Tensor:
        """Where the tokens of these sequences stand in the `[T]` tensors, int64."""
        starts, ends = self.boundaries[:-1].tolist(), self.boundaries[1:].tolist()
        return torch.cat([torch.arange(starts[i], ends[i]) for i in sequences])

    def split(self, parts: int, generator: torch.Generator) -> list[Batch]:
        """Shuffle the sequences into `parts` mini-batches of equal size (give or take one).

        Raises:
            ConfigError: there are fewer sequences than parts.
        """
        if parts > len(self):
            raise ConfigError(f"{len(self)} sequences cannot make {parts} mini-batches")
        if parts == 1:
            return [self]
        order = torch.randperm(len(self), generator=generator)
        return [self.select(chunk.tolist()) for chunk in order.tensor_split(parts)]

    @property
    def prefix_lengths(self) -> Tensor:
        """`[S]` int64: tokens before the one that the first trained token is predicted from."""
        return (self._bounds()[0] - 1).clamp(min=0)

    @property
    def input_lengths(self) -> Tensor:
        """`[S]` int64: tokens that trained ones are predicted from; 0 without a trained one."""
        return self._bounds()[1]

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """`[S]` each: places, in the sequence, of its first and of its last trained token."""
        trained = self.loss_mask.nonzero().squeeze(-1)
        place = trained - self.boundaries[:-1][self.sequence_ids[trained]]
        which = self.sequence_ids[trained]
        first = torch.zeros(len(self), dtype=torch.int64)
        first.scatter_reduce_(0, which, place, "amin", include_self=False)
        last = torch.zeros(len(self), dtype=torch.int64)
        last.scatter_reduce_(0, which, place, "amax", include_self=False)
        return first, last

    def prefixes(self) -> list[bytes]:
        """The tokens that `prefix_lengths` counts, of each sequence, to tell equal ones by."""
        starts = self.boundaries[:-1].tolist()
        return [
            self.input_ids[start : start + length].numpy().tobytes()
            for start, length in zip(starts, self.prefix_lengths.tolist(), strict=True)
        ]

    def families(self) -> list[list[int]]:
        """The sequences that have a trained token, those of one prefix together."""
        families: dict[bytes, list[int]] = {}
        inputs = self.input_lengths.tolist()
        for i, prefix in enumerate(self.prefixes()):
            if inputs[i]:
                families.setdefault(prefix, []).append(i)
        return list(families.values())

    def micro_batches(self, max_tokens: int) -> Iterator[Batch]:
        """The batch in parts of at most `max_tokens` tokens each.

        Sequences without a trained token are left out. The split changes no loss: denominators are
        those of the whole batch.
        """
        for sequences in self.parts(max_tokens):
            yield self.select(sequences)

    def parts(self, max_tokens: int) -> Iterator[list[int]]:
        """The sequences of each micro-batch.

        Those with the same prompt go side by side, in the order of the first of them, since a
        prompt is computed, and counted, once a part. A sequence of more than `max_tokens` tokens
        makes a part of its own.
        """
        prefixes, lengths = self.prefix_lengths.tolist(), self.input_lengths.tolist()
        part: list[int] = []
        used = 0
        for members in self.families():
            known = False
            for i in members:
                cost = lengths[i] - (prefixes[i] if known else 0)
                if part and used + cost > max_tokens:
                    yield part
                    part, used, cost = [], 0, lengths[i]
                part.append(i)
                used += cost
                known = True
        if part:
            yield part
