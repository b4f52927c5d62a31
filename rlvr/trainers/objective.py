"""What a configuration's objective names, resolved: functions with their options, checked early.

Keys that several losses or estimators share (`clip_low`, `scale`, ...) stand beside the name. They
are handed to a function that takes them, and refused for one that does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
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
from rlvr.trainers.config import ObjectiveConfig, PolicyGradientConfig
from rlvr.trainers.without_effect import without_effect

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
        # Which tokens the clip cuts anyway depends on the loss's own range.
        takes_range = own == "clip-cov"
        range_of = {k: loss.options.get(k) for k in ("clip_low", "clip_high") if takes_range}
        selection = part_of("token-selection", chosen, range_of, takes=1, given=("seed",))
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
    for problem in without_effect(config, is_per_token=objective.is_per_token):
        raise ConfigError(problem)
    try_out(objective, config)
    return objective


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
    if config.overlong_tokens:
        rewards = rewards + soft_overlong_penalty(
            lengths,
            max_length=config.sampling.max_new_tokens,
            buffer=config.overlong_tokens,
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
