"""What a configuration's objective names, resolved: functions with their options, checked early.

Keys that several losses or estimators share (`clip_low`, `scale`, ...) stand beside the name. They
are handed to a function that takes them, and refused for one that does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlvr.config import Component
from rlvr.errors import ConfigError
from rlvr.objectives.advantages import estimate_advantages
from rlvr.objectives.groups import RewardGroups
from rlvr.objectives.kl import kl_estimate
from rlvr.objectives.policy import PolicyTokens, policy_loss
from rlvr.objectives.shaping import ShapedRollouts, shape_rewards, soft_overlong_penalty
from rlvr.objectives.token_selection import select_tokens
from rlvr.registry import check_options, objectives
from rlvr.trainers.config import ObjectiveConfig, PolicyGradientConfig, ReferenceConfig

GAE = "gae"
"""The advantage that needs a critic."""
COMPARES = {
    "gdpo",
    "gpg",
    "group",
    "leave-one-out",
    "max-gap",
    "maxrl",
    "opo",
    "pass-at-k",
    "pass-at-k-group",
    "reinforce++-baseline",
}
"""Advantages that compare the rollouts of one task."""
FIXED_AGGREGATIONS = {"token-mean", "token-sum", "seq-mean-token-mean", "seq-mean-token-sum"}
"""Those that read no normaliser."""
RATIO_LOSSES = {
    "cispo",
    "dppo-kl",
    "dppo-tv",
    "gmpo",
    "gspo",
    "gspo-token",
    "kl-cov",
    "rloo",
    "sapo",
    "vespo",
}
"""Losses that are the plain policy gradient where the policy is still the one that sampled."""
OLD_NAMES = {"leave_one_out": "leave-one-out"}
OWN_SELECTION = {"clip-cov": "clip-cov", "kl-cov": "kl-cov"}
"""Losses that treat tokens apart which a selection over the whole batch has marked."""


@dataclass(frozen=True)
class Part:
    """A registered function of one family, by its name there, with the options to call it with."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Objective:
    """The parts of an objective.

    Attributes:
        loss: of the family `policy/`.
        advantage: of the family `advantage/`, or of `token-advantage/`.
        is_per_token: which of the two.
        selection: of the family `token-selection/`; `None` where every token counts.
        selects_for_loss: whether the loss itself reads the selection; else it keeps only what is
            selected.
    """

    loss: Part
    advantage: Part
    is_per_token: bool
    selection: Part | None
    selects_for_loss: bool


def resolve(settings: ObjectiveConfig) -> Objective:
    """Look everything up that an objective names.

    Raises:
        UserError: a name is unknown, an option is, or a key is set that the function has not.
    """
    clips = {
        "clip_low": settings.clip_low,
        "clip_high": settings.clip_high,
        "dual_clip": settings.dual_clip,
    }
    loss = part_of("policy", settings.loss, clips, takes=1)
    per_token = f"token-advantage/{settings.advantage.name}" in objectives.names()
    family, takes = ("token-advantage", 2) if per_token else ("advantage", 1)
    advantage = part_of(
        family, settings.advantage, {"scale": settings.scale}, takes=takes, given=("values",)
    )
    own = OWN_SELECTION.get(loss.name)
    chosen = settings.token_selection
    if own is not None:
        if chosen is not None and chosen.name != own:
            raise ConfigError(
                f"objective.token_selection is {chosen.name!r}: loss {loss.name!r} brings its own "
                f"({own!r}), whose options may stand there"
            )
        chosen = chosen or Component(name=own)
    selection = None
    if chosen is not None:
        selection = part_of("token-selection", chosen, {}, takes=1, given=("seed",))
    part_of("kl", settings.kl_estimator, {}, takes=2)
    _known("aggregation", settings.aggregation)
    return Objective(loss, advantage, per_token, selection, own is not None)


def part_of(
    family: str,
    component: Component,
    shared: Mapping[str, Any],
    *,
    takes: int,
    given: Sequence[str] = (),
) -> Part:
    """A component's function, and its options with the shared keys that were set.

    Args:
        family: such as `policy`.
        component: a name in the family, or `file.py:function`, with options.
        shared: keys that stand beside the component; `None` is not set.
        takes: how many leading parameters are not options.
        given: further parameters that are not.

    Raises:
        UserError: nothing has that name, an option is unknown, or a shared key does not apply.
    """
    name = OLD_NAMES.get(component.name, component.name)
    function = _known(family, name)
    parameters = list(inspect.signature(function).parameters)
    inputs = [*parameters[:takes], *(key for key in given if key in parameters)]
    options = dict(component.options)
    for key, value in shared.items():
        if value is None or key in options:
            continue
        if key not in parameters:
            raise ConfigError(
                f"objective.{key} is {value!r}, which {family} {name!r} has not: set it to null"
            )
        options[key] = value
    for key in options:
        if key in inputs:
            raise ConfigError(f"{family} {name!r} has no option {key!r}: the trainer gives it that")
    check_options(function, {**dict.fromkeys(inputs), **options}, f"{family} {name!r}")
    return Part(name, options)


def _known(family: str, name: str) -> Callable[..., Any]:
    """The function of a name; one from a file is registered under that name."""
    if ".py:" in name:
        function: Callable[..., Any] = objectives.get(name)
        objectives.register(f"{family}/{name}", function)
        return function
    found: Callable[..., Any] = objectives.get(f"{family}/{name}")
    return found


def check(config: PolicyGradientConfig) -> Objective:
    """Refuse what cannot work together, before anything is loaded.

    Raises:
        UserError: one line that names the key and the fix.
    """
    settings, name = config.objective, config.objective.advantage.name
    objective = resolve(settings)
    if name == GAE and config.critic is None:
        raise ConfigError("objective.advantage is 'gae': it needs a value model, set critic={}")
    if name != GAE and config.critic is not None:
        raise ConfigError(
            f"critic is set, but objective.advantage {name!r} uses none: set "
            "objective.advantage=gae, or critic=null"
        )
    if name == "gdpo" and not config.reward.weights:
        raise ConfigError("advantage 'gdpo' normalises several rewards: name them, reward.weights")
    if objective.advantage.name in COMPARES and config.rollout.group_size < 2:
        raise ConfigError(
            f"rollout.group_size is 1: advantage {name!r} compares the rollouts of a task, "
            "so that it would be 0 for all: expected 2 or more"
        )
    k = objective.advantage.options.get("k")
    if isinstance(k, int) and k >= config.rollout.group_size:
        raise ConfigError(
            f"advantage {name!r} has k={k}: expected below rollout.group_size "
            f"({config.rollout.group_size}), or all rollouts of a task are worth the same"
        )
    for shaping in config.reward.shaping:
        part_of("shaping", shaping, {}, takes=1)
    check_reference(config)
    for problem in without_effect(config, objective):
        raise ConfigError(problem)
    try_out(objective, config)
    return objective


def without_effect(config: PolicyGradientConfig, objective: Objective) -> Iterator[str]:
    """What is set and would silently do nothing, a line each."""
    settings, rollout, name = config.objective, config.rollout, objective.advantage.name
    if settings.normaliser is not None and settings.aggregation in FIXED_AGGREGATIONS:
        yield (
            f"objective.normaliser is {settings.normaliser}, which aggregation "
            f"{settings.aggregation!r} does not read: set it to null"
        )
    if settings.kl_ratio and (settings.kl_coefficient == 0 or settings.kl_in == "reward"):
        yield "objective.kl_ratio is of a KL term in the loss, and there is none: set it to false"
    in_loss = settings.kl_coefficient > 0 and settings.kl_in == "loss"
    if in_loss and settings.kl_estimator.name == "k1" and not settings.kl_ratio:
        yield (
            "objective.kl_estimator is 'k1' in the loss, where its expected gradient is 0: use k2, "
            "k3 or k1+, set objective.kl_ratio=true, or objective.kl_in=reward"
        )
    if not settings.whiten and not objective.is_per_token:
        yield f"objective.whiten is false, which advantage {name!r} has not: set it to true"
    if name == "gdpo" and (config.reward.shaping or rollout.overlong_buffer):
        key = "reward.shaping" if config.reward.shaping else "rollout.overlong_buffer"
        yield f"{key} is set, but advantage 'gdpo' reads reward.weights alone: leave it out"
    reference, plain = config.reference, ReferenceConfig()
    if reference.update == "fixed" and reference != plain:
        yield "reference.every or reference.rate is set, but reference.update is 'fixed'"
    if reference.update == "sync" and reference.rate != plain.rate:
        yield "reference.rate is set, but reference.update is 'sync', which goes all the way"
    if config.critic is not None and config.critic.warmup_steps >= config.steps:
        yield (
            f"critic.warmup_steps is {config.critic.warmup_steps}: expected less than steps "
            f"({config.steps}), or the policy never trains"
        )
    rollouts = rollout.tasks_per_step * rollout.group_size
    if settings.mini_batches > rollouts:
        yield (
            f"objective.mini_batches is {settings.mini_batches}: expected at most the rollouts of "
            f"a step ({rollouts})"
        )
    if config.replay is None:
        return
    if rollout.group_size == 1 and name != "remax":
        yield "replay keeps groups whose rewards differ, and rollout.group_size is 1: set it higher"
    youngest = (1 + rollout.max_staleness) * settings.epochs * settings.mini_batches
    if config.replay.max_age < youngest:
        yield (
            f"replay.max_age is {config.replay.max_age} optimiser steps: expected at least "
            f"{youngest}, the age of a group when it can be replayed first"
        )


def doubts(config: PolicyGradientConfig) -> list[str]:
    """What is allowed and probably not meant, a line each."""
    found = []
    sampling, settings = config.sampling, config.objective
    if (sampling.top_p < 1 or sampling.top_k > 0) and settings.mismatch.level == "off":
        found.append(
            f"sampling.top_p is {sampling.top_p} and top_k {sampling.top_k}: tokens are drawn from "
            "another distribution than the one that is trained, which biases the gradient; train "
            "with top_p=1 and top_k=0, or set objective.mismatch.level=token"
        )
    several = settings.epochs * settings.mini_batches > 1 or config.replay is not None
    stale = config.rollout.max_staleness > 0 and settings.mismatch.level == "off"
    if settings.loss.name == "reinforce" and (several or stale):
        found.append(
            "objective.loss is 'reinforce', which has no probability ratio: rollouts of an older "
            "policy (epochs, mini_batches, replay, max_staleness) are taken for the policy's own; "
            "use loss=importance or clip"
        )
    restrained = settings.loss.name in RATIO_LOSSES or any(
        bound is not None for bound in (settings.clip_low, settings.clip_high, settings.dual_clip)
    )
    if restrained and not several and config.rollout.max_staleness == 0:
        found.append(
            f"objective.loss {settings.loss.name!r} acts on the probability ratio, which is 1 in "
            "the only update that a batch gets, so that its bounds do nothing: set "
            "objective.mini_batches (DAPO takes 16), epochs, replay or rollout.max_staleness"
        )
    if config.dtype == "float16":
        found.append(
            "dtype is 'float16': gradients are not scaled, and small ones are rounded to 0; use "
            "bfloat16"
        )
    if sampling.temperature == 0:
        found.append(
            "sampling.temperature is 0: all completions of a task are equal, and teach nothing"
        )
    return found


def check_reference(config: PolicyGradientConfig) -> None:
    """Refuse settings of a reference model that there is none of, or that cannot be followed.

    Raises:
        ConfigError: one line that names the key and the fix.
    """
    settings = config.objective
    if settings.kl_coefficient == 0:
        for key, is_set in (
            ("reference.update", config.reference.update != "fixed"),
            ("objective.kl_target", settings.kl_target is not None),
        ):
            if is_set:
                raise ConfigError(f"{key} is set, but objective.kl_coefficient is 0: no reference")
    if settings.kl_in == "reward" and settings.advantage.name == "gdpo":
        raise ConfigError("objective.kl_in is 'reward': gdpo reads reward.weights alone; use loss")
    rollouts = config.rollout.tasks_per_step * config.rollout.group_size
    if settings.kl_target is not None and rollouts >= 5 * settings.kl_horizon:
        raise ConfigError(
            f"objective.kl_horizon is {settings.kl_horizon}: expected more than a fifth of the "
            f"rollouts of a step ({rollouts})"
        )


def try_out(objective: Objective, config: PolicyGradientConfig) -> None:
    """Call each part of an objective once on next to nothing, so that a wrong bound is seen early.

    Raises:
        ConfigError: an option is out of its range.
    """
    estimator = config.objective.kl_estimator
    zeros = torch.zeros(2)
    tokens = PolicyTokens(
        logprobs=zeros,
        old_logprobs=zeros,
        advantages=zeros,
        sequence_ids=torch.zeros(2, dtype=torch.int64),
        entropy=zeros,
        sampler_logprobs=zeros,
        selected=torch.zeros(2, dtype=torch.bool) if objective.selects_for_loss else None,
    )
    try:
        policy_loss(objective.loss.name, tokens, **objective.loss.options)
        if objective.selection is not None:
            select_tokens(objective.selection.name, tokens, seed=0, **objective.selection.options)
        kl_estimate(zeros, zeros, estimator.name, **estimator.options)
        try_out_rewards(objective, config)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"objective: {error}") from error


def try_out_rewards(objective: Objective, config: PolicyGradientConfig) -> None:
    """Shape the rewards of one task, every other 1 and the rest too long, and take advantages.

    Raises:
        ValueError: an option is out of its range.
    """
    rewards = torch.arange(config.rollout.group_size, dtype=torch.float64) % 2
    numbers = torch.arange(len(rewards))
    task, lengths = torch.zeros_like(numbers), torch.ones_like(numbers)
    lengths[rewards == 0] = config.sampling.max_new_tokens
    shaping = [(part.name, part.options) for part in config.reward.shaping]
    about = ShapedRollouts(rewards=rewards, lengths=lengths, group_ids=task, correct=rewards > 0)
    rewards = shape_rewards(about, shaping)
    if config.rollout.overlong_buffer:
        rewards = rewards + soft_overlong_penalty(
            lengths,
            max_length=config.sampling.max_new_tokens,
            buffer=config.rollout.overlong_buffer,
            penalty=config.rollout.overlong_penalty,
        )
    name, options = objective.advantage.name, dict(objective.advantage.options)
    if objective.is_per_token:
        if config.critic is not None:
            options["values"] = torch.zeros_like(rewards)
        objectives.get(f"token-advantage/{name}")(rewards, numbers, **options)
        return
    parts = config.reward.weights
    groups = RewardGroups(
        rewards=rewards,
        group_ids=task,
        lengths=lengths,
        baseline=torch.zeros_like(rewards),
        parts=rewards.unsqueeze(-1).expand(-1, len(parts)) if parts else None,
        part_weights=torch.tensor(list(parts.values()), dtype=torch.float64) if parts else None,
    )
    estimate_advantages(name, groups, **options)
