"""Learning from preference pairs: what DPO and reward models share.

A step takes a batch of pairs, scores each with a judge (`Judge`: the loss and the rewards of a few
pairs at a time), and updates the weights. The loss of a batch is the mean over its pairs, whatever
the micro-batches. The two completions of a pair are always in one micro-batch, because the loss is
a function of their difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from rlvr.adapters import active_dropout
from rlvr.batch import Example
from rlvr.compute import backward
from rlvr.distributed import ALONE, World
from rlvr.evals.intervals import mean_interval, student_interval
from rlvr.memory import give_back_memory
from rlvr.objectives.preference import PreferenceLoss
from rlvr.policy import Policy
from rlvr.seeds import derive_seed
from rlvr.trainers.config import DPOConfig, RewardConfig
from rlvr.trainers.given_data import load_pairs, split_held_out
from rlvr.trainers.given_run import (
    by_problem,
    encode_example,
    keep_usable,
    length,
    sequence_limit,
    show,
    with_interval,
)
from rlvr.trainers.loop import Clock, Metrics
from rlvr.trainers.optimization import Optimizer
from rlvr.trainers.stream import Stream


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A pair as token ids.

    Attributes:
        id: of its problem.
        chosen: the prompt with the better completion.
        rejected: the prompt with the worse completion.
        reference: log-probabilities, in nats, of the two completions under the reference, where
            there is one.
    """

    id: str
    chosen: Example
    rejected: Example
    reference: tuple[float, float] = (math.nan, math.nan)

    @property
    def length(self) -> int:
        """Tokens of the longer of the two sequences."""
        return max(length(self.chosen), length(self.rejected))


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge makes of P pairs.

    Attributes:
        loss: per-pair losses, with gradients, and rewards.
        metrics: other numbers, `[P]` each, detached, whose means are logged.
    """

    loss: PreferenceLoss
    metrics: Mapping[str, Tensor]


class Judge(Protocol):
    """Losses and rewards of pairs under the model that is trained."""

    def __call__(self, pairs: Sequence[EncodedPair]) -> Judged:
        """Judge pairs that fit in one forward pass; gradients flow unless switched off."""
        ...


class PairLearner:
    """Minimises the mean loss of batches of pairs.

    Args:
        config: the run.
        policy: the model that is trained, in place, with its tokenizer.
        judge: gives the losses.
        train: pairs to learn from.
        held_out: pairs to measure on; may be empty where the run never measures.
        world: the processes, which share the pairs of every step.
    """

    def __init__(
        self,
        config: RewardConfig | DPOConfig,
        *,
        policy: Policy,
        judge: Judge,
        train: Sequence[EncodedPair],
        held_out: Sequence[EncodedPair],
        world: World = ALONE,
    ) -> None:
        self.config = config
        self.world = world
        self.policy = policy
        self.judge = judge
        self.held_out = held_out
        self.clock = Clock()
        self.pairs: Stream[EncodedPair] = Stream(train, derive_seed(config.seed, "pairs"))
        self.optim = Optimizer(policy.model, config.optimizer, config.steps, world)
        self.optimizer = self.optim.inner

    def step(self, step: int) -> Metrics:
        """One optimiser step on the next batch."""
        with self.clock.part("update"):
            pairs = self.pairs.take(self.config.batch_size)
            found: list[Judged] = []
            seed = derive_seed(self.config.seed, "dropout", step)
            with active_dropout(self.policy.model, seed):
                for part, counts in pairs_here(pairs, self.config.micro_batch_tokens, self.world):
                    judged = self.judge(part)
                    weight = counts / len(pairs)
                    backward(weight * judged.loss.losses.sum())
                    if counts:
                        found.append(judged)
                    give_back_memory()
            norm, rate = self.optim.step()
            sums = self.world.add_up(sums_of(found))
        tokens = sum(length(pair.chosen) + length(pair.rejected) for pair in pairs)
        averages = {name: value / len(pairs) for name, value in sums.items()}
        return {**averages, "tokens": tokens, "grad_norm": norm, "lr": rate}

    def evaluate(self, step: int) -> Metrics:
        """Accuracy and margin on the held-out pairs, with 95% intervals over problems."""
        ordered: list[str] = []
        found: list[Judged] = []
        with torch.no_grad():
            for part in parts(self.held_out, self.config.micro_batch_tokens):
                ordered.extend(pair.id for pair in part)
                found.append(self.judge(part))
        margins = torch.cat([judged.loss.margins for judged in found]).tolist()
        metrics = {f"eval/{name}": value for name, value in means(found).items()}
        return metrics | preference_metrics(ordered, margins)

    def state(self) -> Mapping[str, Any]:
        """The data position and the count of updates."""
        return {"position": self.pairs.position, "updates": self.optim.updates}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a data position."""
        self.pairs.seek(state["position"])
        self.optim.updates = state["updates"]

    def headline(self, metrics: Metrics) -> str:
        """Loss and accuracy."""
        shown = f"loss {metrics['loss']:.3f}, accuracy {metrics['accuracy']:.3f}"
        if "eval/accuracy" in metrics:
            shown += f", held-out accuracy {metrics['eval/accuracy']:.3f}"
        return shown


def parts(pairs: Sequence[EncodedPair], max_tokens: int) -> Iterator[list[EncodedPair]]:
    """Pairs for one forward pass each, the longest first, so that little is padded.

    A part has at most `max_tokens` tokens once both completions of every pair are padded; a pair
    that is longer makes a part of its own.
    """
    part: list[EncodedPair] = []
    for pair in sorted(pairs, key=lambda pair: -pair.length):
        if part and 2 * (len(part) + 1) * part[0].length > max_tokens:
            yield part
            part = []
        part.append(pair)
    if part:
        yield part


def pairs_here(
    pairs: Sequence[EncodedPair], max_tokens: int, world: World
) -> Iterator[tuple[list[EncodedPair], bool]]:
    """The parts that this process judges, and whether they count.

    With sharded weights all processes make as many passes: a part that does not count makes up for
    one that there is not.
    """
    every = list(parts(pairs, max_tokens))
    for part in every[world.rank :: world.size]:
        yield part, True
    if world.sharded and world.rank >= len(every) % world.size > 0:
        yield every[-1][-1:], False


def means(found: Sequence[Judged]) -> Metrics:
    """Loss, accuracy, rewards and the judge's own metrics, averaged over all pairs."""
    count = sum(len(judged.loss.losses) for judged in found)
    return {name: value / count for name, value in sums_of(found).items()}


def sums_of(found: Sequence[Judged]) -> Metrics:
    """Loss, accuracy, rewards and the judge's own metrics, added up over all pairs."""
    columns: dict[str, list[Tensor]] = {}
    for judged in found:
        row = {
            "loss": judged.loss.losses.detach(),
            "accuracy": ranked_right(judged.loss.margins),
            "margin": judged.loss.margins,
            "chosen_reward": judged.loss.chosen_rewards,
            "rejected_reward": judged.loss.rejected_rewards,
            **judged.metrics,
        }
        for name, values in row.items():
            columns.setdefault(name, []).append(values)
    return {name: torch.cat(values).double().sum().item() for name, values in columns.items()}


def ranked_right(margins: Tensor) -> Tensor:
    """1 where the chosen completion has the higher reward, 0 where the rejected one has.

    A tie is worth one half: a policy that is still its own reference tells nothing apart, which is
    an accuracy of 0.5, not of 0.
    """
    return 0.5 * (margins.sign() + 1.0)


def preference_metrics(ids: Sequence[str], margins: Sequence[float]) -> Metrics:
    """Accuracy (Wilson) and margin (Student) with 95% intervals over problems.

    Pairs of one problem are averaged first: they are no independent draws.
    """
    right = ranked_right(torch.tensor(margins, dtype=torch.float64)).tolist()
    values = zip(right, margins, [1.0] * len(margins), strict=True)
    problems = by_problem(ids, list(values)).values()
    accuracy = [total / count for total, _, count in problems]
    margin = [total / count for _, total, count in problems]
    return {
        "eval/problems": float(len(accuracy)),
        **with_interval("eval/accuracy", sum(accuracy) / len(accuracy), mean_interval(accuracy)),
        **with_interval("eval/margin", sum(margin) / len(margin), student_interval(margin)),
    }


def prepare_pairs(
    config: RewardConfig | DPOConfig, policy: Policy
) -> tuple[list[EncodedPair], list[EncodedPair]]:
    """Read, split and encode the pairs of a run, and say how many there are.

    Raises:
        UserError: they cannot be read, split or used.
    """
    limit = sequence_limit(config, policy)

    def encode(where: str, rows: Sequence[Any]) -> list[EncodedPair]:
        encoded = (
            EncodedPair(
                pair.id,
                encode_example(policy.tokenizer, pair.prompt, pair.chosen),
                encode_example(policy.tokenizer, pair.prompt, pair.rejected),
            )
            for pair in rows
        )
        return keep_usable(encoded, lambda pair: why_not(pair, limit), where)

    train, held_out = split_held_out(load_pairs(config.data, config.split), config.held_out)
    return (
        encode("to train on", train),
        encode("held out", held_out) if held_out else [],
    )


def why_not(pair: EncodedPair, limit: int) -> str | None:
    """Why a pair cannot be used, or `None`."""
    if pair.length > limit:
        return f"longer than {limit} tokens"
    if pair.chosen == pair.rejected:
        return "chosen and rejected are the same"
    return None


def result(last: Metrics) -> str | None:
    """What the last evaluation found, in a line; `None` where there was none."""
    if "eval/accuracy" not in last:
        return None
    return (
        f"held-out accuracy {show(last, 'eval/accuracy')}, "
        f"margin {show(last, 'eval/margin')} ({last['eval/problems']:.0f} problems)"
    )
