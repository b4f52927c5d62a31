"""`rlvr train` with `algorithm: reward`: a scalar that ranks completions, learned from pairs.

The model is the policy's backbone with a scalar head (`AutoModelForSequenceClassification` with one
label), saved as `transformers` loads it. What is scored, and where, is fixed in
`rlvr.verifiers.reward_model`, which uses the model as a verifier.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from rlvr.distributed import ALONE, World
from rlvr.errors import ConfigError
from rlvr.objectives.preference import PreferenceLoss
from rlvr.objectives.reward import bradley_terry_loss
from rlvr.policy import Policy
from rlvr.seeds import derive_seed
from rlvr.sharding import shard
from rlvr.trainers.components import initial_policy
from rlvr.trainers.config import RewardConfig, RewardObjectiveConfig
from rlvr.trainers.given_run import announce, make_plan
from rlvr.trainers.loop import fit
from rlvr.trainers.pairs import EncodedPair, Judge, Judged, PairLearner, prepare_pairs, result
from rlvr.verifiers.reward_model import score_sequences


def prepare_reward(config: RewardConfig, world: World = ALONE) -> Callable[[Path, bool], None]:
    """Load everything that the run needs.

    Raises:
        UserError: something that it names cannot be loaded or used.
    """
    policy = with_scalar_head(initial_policy(config, world=world), config.seed)
    train, held_out = prepare_pairs(config, policy)

    shard(policy.model, world)

    def job(folder: Path, resume: bool) -> None:
        judge = make_judge(policy.model, config.objective)
        learner = PairLearner(
            config, policy=policy, judge=judge, train=train, held_out=held_out, world=world
        )
        last = fit(learner, make_plan(config, folder), resume=resume, world=world)
        if world.is_main:
            announce("reward model", folder, result(last))

    return job


def with_scalar_head(policy: Policy, seed: int) -> Policy:
    """A reward model that begins as a policy: its backbone, and a new head with one output.

    Raises:
        ConfigError: the policy's architecture has no sequence classification model, or the policy
            is a reward model already, whose head would be lost.
    """
    name = " ".join(getattr(policy.model.config, "architectures", None) or [])
    if "SequenceClassification" in name:
        raise ConfigError("policy is a reward model already: expected a causal language model")
    config = copy.deepcopy(policy.model.config)
    config.num_labels = 1
    config.pad_token_id = policy.tokenizer.pad_token_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "scalar head"))
        try:
            made = AutoModelForSequenceClassification.from_config(config)
        except ValueError as error:
            kind = type(policy.model).__name__
            raise ConfigError(f"transformers has no reward model that fits a {kind}") from error
    model = cast(PreTrainedModel, made).to(device=policy.device, dtype=policy.model.dtype)
    model.base_model.load_state_dict(policy.model.base_model.state_dict())
    return Policy(model.eval(), policy.tokenizer)


def make_judge(model: PreTrainedModel, settings: RewardObjectiveConfig) -> Judge:
    """The judge that scores both completions of each pair."""

    def judge(pairs: Sequence[EncodedPair]) -> Judged:
        examples = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
        sequences = [[*example.prompt_ids, *example.completion_ids] for example in examples]
        scores = score_sequences(model, sequences)
        chosen, rejected = scores[: len(pairs)], scores[len(pairs) :]
        losses = bradley_terry_loss(chosen, rejected, centre=settings.centre)
        return Judged(PreferenceLoss(losses, chosen.detach(), rejected.detach()), {})

    return judge
