"""Small problems whose policy gradient is known exactly, by enumerating every sequence.

A problem is a tree of states with a softmax policy over the actions of each, one logit an action;
a sequence is a path to a leaf and its reward depends on the leaf. A bandit is a tree of one state.
An estimator sees a batch of n sequences. There are (number of leaves)^n batches, and its gradient
is worked out for each of them by the real code; the exact expectation is their mean under the
probabilities of the batches, and drawing batches from that table is drawing samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

Step = tuple[int, int]  # a state and the action taken there


@dataclass(frozen=True)
class Batch:
    """Sequences as packed tokens; `logprobs` carry gradients to the logits of the problem."""

    leaves: tuple[int, ...]
    logprobs: Tensor
    ref_logprobs: Tensor
    sampler_logprobs: Tensor
    sequence_ids: Tensor
    states: Tensor
    rewards: Tensor
    lengths: Tensor


@dataclass(frozen=True)
class Problem:
    """A tree: actions of each state, paths to the leaves, their rewards, and three policies."""

    actions: tuple[int, ...]
    leaves: tuple[tuple[Step, ...], ...]
    rewards: tuple[float, ...]
    logits: tuple[float, ...]
    reference: tuple[float, ...]
    sampler: tuple[float, ...] | None = None

    def of(self, **changes: object) -> Problem:
        return replace(self, **changes)  # type: ignore[arg-type]

    @cached_property
    def theta(self) -> Tensor:
        return torch.tensor(self.logits, dtype=torch.float64, requires_grad=True)

    @cached_property
    def reward(self) -> Tensor:
        return torch.tensor(self.rewards, dtype=torch.float64)

    @cached_property
    def lengths(self) -> Tensor:
        return torch.tensor([len(path) for path in self.leaves], dtype=torch.float64)

    @cached_property
    def tokens(self) -> list[list[int]]:
        """The place in the logits of each token of each leaf."""
        starts = [0, *itertools.accumulate(self.actions)]
        return [[starts[state] + action for state, action in path] for path in self.leaves]

    def log_policy(self, logits: Tensor) -> Tensor:
        """Log-probabilities of all actions in all states, in the order of the logits."""
        return torch.cat([part.log_softmax(0) for part in logits.split(self.actions)])

    def leaf_probs(self, logits: Tensor | None = None) -> Tensor:
        log_policy = self.log_policy(self.theta if logits is None else logits)
        return torch.stack([log_policy[tokens].sum() for tokens in self.tokens]).exp()

    @cached_property
    def sampling_probs(self) -> Tensor:
        """Of the leaves, under the policy that samples."""
        logits = self.logits if self.sampler is None else self.sampler
        return self.leaf_probs(torch.tensor(logits, dtype=torch.float64)).detach()

    @cached_property
    def token_scores(self) -> list[Tensor]:
        """For each leaf `[tokens, logits]`: the gradient of each token's log-probability."""
        jacobian = torch.autograd.functional.jacobian(self.log_policy, self.theta)
        return [jacobian[tokens] for tokens in self.tokens]

    @cached_property
    def scores(self) -> Tensor:
        """`[leaves, logits]`: the gradient of each sequence's log-probability."""
        return torch.stack([scores.sum(0) for scores in self.token_scores])

    def gradient(self, objective: Callable[[Tensor], Tensor]) -> Tensor:
        """The gradient of a function of the logits."""
        (gradient,) = torch.autograd.grad(objective(self.theta), self.theta)
        return gradient

    @cached_property
    def policy_gradient(self) -> Tensor:
        """That of the expected reward."""
        return self.gradient(lambda logits: self.leaf_probs(logits) @ self.reward)

    def batches(self, n: int) -> list[tuple[int, ...]]:
        return list(itertools.product(range(len(self.leaves)), repeat=n))

    def batch_probs(self, n: int) -> Tensor:
        """Of all batches, in the order of `batches`."""
        probs = self.sampling_probs
        result = probs
        for _ in range(n - 1):
            result = (result[:, None] * probs).flatten()
        return result

    def batch(self, leaves: tuple[int, ...]) -> Batch:
        where = torch.tensor([token for leaf in leaves for token in self.tokens[leaf]])
        sampler = self.logits if self.sampler is None else self.sampler
        return Batch(
            leaves=leaves,
            logprobs=self.log_policy(self.theta)[where],
            ref_logprobs=self.log_policy(torch.tensor(self.reference, dtype=torch.float64))[where],
            sampler_logprobs=self.log_policy(torch.tensor(sampler, dtype=torch.float64))[where],
            sequence_ids=torch.tensor(
                [i for i, leaf in enumerate(leaves) for _ in self.tokens[leaf]]
            ),
            states=torch.tensor([s for leaf in leaves for s, _ in self.leaves[leaf]]),
            rewards=self.reward[list(leaves)],
            lengths=self.lengths[list(leaves)].to(torch.int64),
        )

    def table(self, n: int, loss: Callable[[Batch], Tensor]) -> Tensor:
        """`[batches, logits]`: minus the gradient of the loss of each batch."""
        rows = []
        for leaves in self.batches(n):
            (gradient,) = torch.autograd.grad(loss(self.batch(leaves)), self.theta)
            rows.append(-gradient)
        return torch.stack(rows)

    def enumerated(
        self, n: int, weights: Callable[[list[float], list[int]], list[float]]
    ) -> Tensor:
        """The expectation of `sum over i of weight_i * score_i`, the weights of a batch given by
        its rewards and lengths: written out in plain Python, apart from the code under test."""
        total = torch.zeros_like(self.theta)
        for leaves, prob in zip(self.batches(n), self.batch_probs(n), strict=True):
            found = weights(
                [self.rewards[leaf] for leaf in leaves], [len(self.leaves[leaf]) for leaf in leaves]
            )
            total = total + prob * (
                torch.tensor(found, dtype=torch.float64) @ self.scores[list(leaves)]
            )
        return total.detach()


# From the root: a leaf at once, two behind state 1, one behind state 2 and two more behind state 3.
TREE = Problem(
    actions=(3, 2, 2, 2),
    leaves=(
        ((0, 0),),
        ((0, 1), (1, 0)),
        ((0, 1), (1, 1)),
        ((0, 2), (2, 0)),
        ((0, 2), (2, 1), (3, 0)),
        ((0, 2), (2, 1), (3, 1)),
    ),
    rewards=(0.2, 1.0, -0.5, 0.7, 2.0, 0.1),
    logits=(0.3, -0.2, 0.5, 0.4, -0.6, -0.3, 0.7, 0.9, -0.1),
    reference=(0.0, 0.4, 0.1, -0.3, 0.2, 0.5, 0.1, 0.2, 0.3),
)
BINARY_TREE = TREE.of(rewards=(0.0, 1.0, 0.0, 0.0, 1.0, 0.0))
# The sampler has another idea of every state.
STALE_TREE = TREE.of(sampler=(0.0, 0.3, 0.2, 0.9, -0.5, 0.3, 0.2, 0.1, 0.4))
BANDIT = Problem(
    actions=(4,),
    leaves=tuple(((0, arm),) for arm in range(4)),
    rewards=(1.0, 0.2, -0.3, 0.6),
    logits=(0.2, -0.4, 0.6, 0.0),
    reference=(0.0, 0.5, -0.2, 0.3),
)
BINARY_BANDIT = BANDIT.of(rewards=(1.0, 0.0, 0.0, 1.0))
