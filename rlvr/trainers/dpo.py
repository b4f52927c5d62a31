"""`rlvr train` with `algorithm: dpo`: the policy itself learns which completion is preferred.

The reference is the policy that the run begins with. Its log-probabilities are computed once,
before the first step, so that no second model is held; a resumed run computes them again, from the
same weights in the same order, and gets the same numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlvr.batch import Batch, Example
from rlvr.distributed import ALONE, World
from rlvr.errors import ConfigError
from rlvr.forward import score_tokens
from rlvr.objectives.aggregation import sequence_sums
from rlvr.objectives.preference import dpo_loss
from rlvr.progress import Progress
from rlvr.sharding import shard
from rlvr.trainers.components import adapt, initial_policy
from rlvr.trainers.config import DPOConfig, PreferenceObjectiveConfig
from rlvr.trainers.given_run import announce, make_plan
from rlvr.trainers.loop import fit
from rlvr.trainers.pairs import (
    EncodedPair,
    Judge,
    Judged,
    PairLearner,
    parts,
    prepare_pairs,
    result,
)


def prepare_dpo(config: DPOConfig, world: World = ALONE) -> Callable[[Path, bool], None]:
    """Load everything that the run needs.

    Raises:
        UserError: something that it names cannot be loaded or used.
    """
    check_objective(config.objective)
    policy = initial_policy(config, world=world)
    train, held_out = prepare_pairs(config, policy)

    adapt(policy, config)

    shard(policy.model, world)

    def job(folder: Path, resume: bool) -> None:
        learner = PairLearner(
            config,
            policy=policy,
            judge=make_judge(policy.model, config.objective),
            train=with_reference(policy.model, train, config.micro_batch_tokens),
            held_out=with_reference(policy.model, held_out, config.micro_batch_tokens),
            world=world,
        )
        last = fit(learner, make_plan(config, folder), resume=resume, world=world)
        if world.is_main:
            announce("policy", folder, result(last))

    return job


def check_objective(settings: PreferenceObjectiveConfig) -> None:
    """Try the loss on one pair.

    Raises:
        UserError: there is no such loss, or it does not take these settings.
    """
    one = torch.zeros(1)
    try:
        dpo_loss(one, one, one, one, **options_of(settings))
    except ValueError as error:
        raise ConfigError(f"objective: {error}") from error


def options_of(settings: PreferenceObjectiveConfig) -> dict[str, Any]:
    """What the loss takes of the settings."""
    return settings.model_dump(exclude={"per_token"})


def make_judge(model: PreTrainedModel, settings: PreferenceObjectiveConfig) -> Judge:
    """The judge that compares a policy with the reference that the pairs carry."""

    def judge(pairs: Sequence[EncodedPair]) -> Judged:
        examples = [p.chosen for p in pairs] + [p.rejected for p in pairs]
        logps = completion_logps(model, examples)
        chosen, rejected = logps.view(2, len(pairs))
        reference = torch.tensor([p.reference for p in pairs]).T.to(logps)
        own = torch.stack([chosen, rejected])
        if settings.per_token:
            lengths = torch.tensor([len(e.completion_ids) for e in examples]).view(2, -1).to(logps)
            own, reference = own / lengths, reference / lengths
        loss = dpo_loss(*own, *reference, **options_of(settings))
        return Judged(loss, {"chosen_logp": chosen.detach(), "rejected_logp": rejected.detach()})

    return judge


def completion_logps(model: PreTrainedModel, examples: Sequence[Example]) -> Tensor:
    """`[S]` float32: the log-probability of each completion, end of sequence included, in nats."""
    batch = Batch.pack(examples)
    scores = score_tokens(model, batch, entropy="none")
    return sequence_sums(scores.logprobs, scores.sequence_ids, len(batch))


def with_reference(
    model: PreTrainedModel, pairs: Sequence[EncodedPair], max_tokens: int
) -> list[EncodedPair]:
    """The pairs with their log-probabilities under `model` as it is now, the longest first."""
    scored: list[EncodedPair] = []
    with torch.no_grad(), Progress("reference", len(pairs)) as progress:
        for part in parts(pairs, max_tokens):
            logps = completion_logps(model, [p.chosen for p in part] + [p.rejected for p in part])
            both = logps.view(2, len(part)).T.tolist()
            scored.extend(
                dataclasses.replace(pair, reference=(chosen, rejected))
                for pair, (chosen, rejected) in zip(part, both, strict=True)
            )
            progress.advance(len(part))
    return scored
