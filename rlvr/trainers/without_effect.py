"""What a policy gradient run's file says that would do nothing, or probably not what is meant.

A setting that nothing reads is refused, since who sets it believes in an effect. Set means other
than the algorithm's preset has it. What is allowed but doubtful is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from rlvr.config import Component, build, merge
from rlvr.trainers.config import PRESETS, ObjectiveConfig, PolicyGradientConfig

NORMALISED = "seq-mean-token-sum-norm"
OVER_TOKENS = {"token-mean", "token-sum"}
"""Aggregations that do not count sequences."""
OVER_SEQUENCES = {"seq-mean-token-mean", "seq-mean-token-sum"}
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


class Rule(NamedTuple):
    """A key, whether anything reads it in this run, and why not, or what to do."""

    key: str
    is_read: bool
    why: str


def without_effect(config: PolicyGradientConfig, *, is_per_token: bool) -> Iterator[str]:
    """What is set and would silently do nothing, a line each.

    Args:
        config: the run.
        is_per_token: whether its advantage is one of each token.
    """
    plain = as_preset(config.algorithm)
    for rule in (*objective_rules(config, is_per_token), *other_rules(config)):
        value = value_of(config, rule.key)
        if not rule.is_read and value != value_of(plain, rule.key):
            yield f"{rule.key} is {shown(value)}, {rule.why}"
    yield from twice(config.objective, plain.objective)
    yield from never(config, plain)


def as_preset(algorithm: str) -> PolicyGradientConfig:
    """A run whose file says nothing of its own."""
    needed = {"algorithm": algorithm, "output": "", "policy": "", "environment": "", "steps": 1}
    return build(PolicyGradientConfig, merge(PRESETS.get(algorithm, {}), needed), algorithm)


def value_of(config: PolicyGradientConfig, key: str) -> Any:
    """What a dotted key holds; `None` too where its section is off."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part, None)
    return value


def shown(value: Any) -> str:
    """A value, as a message has it."""
    return repr(value.name) if isinstance(value, Component) else repr(value)


def objective_rules(config: PolicyGradientConfig, is_per_token: bool) -> list[Rule]:
    """Who reads the keys of the objective."""
    settings, how = config.objective, config.objective.aggregation
    has_kl = settings.kl_coefficient > 0
    no_kl = "but objective.kl_coefficient is 0, so that there is no KL term"
    corrects = settings.mismatch.level != "off"
    not_corrected = "but objective.mismatch.level is 'off': set it to token, sequence or geometric"
    return [
        Rule(
            "objective.normaliser",
            how not in OVER_TOKENS | OVER_SEQUENCES,
            f"which aggregation {how!r} does not read: set it to null",
        ),
        Rule(
            "objective.count_masked",
            how not in OVER_TOKENS,
            f"but aggregation {how!r} counts no sequences: set it to false",
        ),
        Rule(
            "objective.count_masked",
            config.rollout.mask_truncated,
            "but no sequence is left out of the loss: set rollout.mask_truncated, or set it to "
            "false",
        ),
        Rule("objective.kl_estimator", has_kl, no_kl),
        Rule("objective.kl_in", has_kl, no_kl),
        Rule(
            "objective.kl_ratio",
            has_kl and settings.kl_in == "loss",
            "which is of a KL term in the loss, and there is none: set it to off",
        ),
        Rule(
            "objective.kl_horizon",
            settings.kl_target is not None,
            "but objective.kl_target is not set, so that the coefficient does not adapt",
        ),
        Rule("objective.mismatch.mode", corrects, not_corrected),
        Rule("objective.mismatch.low", corrects, not_corrected),
        Rule("objective.mismatch.high", corrects, not_corrected),
        Rule(
            "objective.whiten",
            is_per_token,
            f"which advantage {settings.advantage.name!r} has not: set it to true",
        ),
    ]


def other_rules(config: PolicyGradientConfig) -> list[Rule]:
    """Who reads the keys of rollouts and of the reference."""
    rollout, update = config.rollout, config.reference.update
    return [
        Rule(
            "rollout.overlong_buffer",
            rollout.overlong_penalty > 0,
            "but rollout.overlong_penalty is 0: set the buffer to 0, or a penalty",
        ),
        Rule(
            "rollout.overlong_penalty",
            rollout.overlong_buffer > 0,
            "but rollout.overlong_buffer is 0: say over how many tokens it grows",
        ),
        Rule(
            "rollout.oversampling",
            rollout.dynamic_sampling,
            "but rollout.dynamic_sampling is off: what is sampled beyond the batch is thrown away",
        ),
        Rule("reference.every", update != "fixed", "but reference.update is 'fixed'"),
        Rule("reference.rate", update != "fixed", "but reference.update is 'fixed'"),
        Rule(
            "reference.rate",
            update != "sync",
            "but reference.update is 'sync', which goes all the way",
        ),
    ]


def twice(settings: ObjectiveConfig, plain: ObjectiveConfig) -> Iterator[str]:
    """Keys that are set beside a name and, otherwise, among its own options, which win."""
    for name, keys in (("loss", ("clip_low", "clip_high", "dual_clip")), ("advantage", ("scale",))):
        own = getattr(settings, name).options
        for key in keys:
            value = getattr(settings, key)
            if key in own and value not in (None, own[key], getattr(plain, key)):
                yield (
                    f"objective.{key} is {value!r}, but objective.{name} has its own ({own[key]!r})"
                    ": leave one out"
                )


def never(config: PolicyGradientConfig, plain: PolicyGradientConfig) -> Iterator[str]:
    """What is read, and can change nothing."""
    settings, rollout = config.objective, config.rollout
    in_loss = settings.kl_coefficient > 0 and settings.kl_in == "loss"
    if in_loss and settings.kl_estimator.name == "k1" and settings.kl_ratio == "off":
        yield (
            "objective.kl_estimator is 'k1' in the loss, where its expected gradient is 0: use k2, "
            "k3 or k1+, set objective.kl_ratio=token, or objective.kl_in=reward"
        )
    if settings.advantage.name == "gdpo":
        reads = "but advantage 'gdpo' reads reward.weights alone"
        if config.reward.shaping:
            yield f"reward.shaping is set, {reads}: leave it out"
        if rollout.overlong_buffer:
            yield f"rollout.overlong_buffer is set, {reads}: set it to 0"
    if config.critic is not None and config.critic.warmup_steps >= config.steps:
        yield (
            f"critic.warmup_steps is {config.critic.warmup_steps}: expected less than steps "
            f"({config.steps}), or the policy never trains"
        )
    rollouts = rollout.tasks_per_step * rollout.group_size
    # A preset's number holds for its authors' batches; a smaller one is split as far as it goes.
    if settings.mini_batches > rollouts and settings.mini_batches != plain.objective.mini_batches:
        yield (
            f"objective.mini_batches is {settings.mini_batches}: expected at most the rollouts of "
            f"a step ({rollouts})"
        )
    if config.replay is None:
        return
    if rollout.group_size == 1 and settings.advantage.name != "remax":
        yield "replay keeps groups whose rewards differ, and rollout.group_size is 1: set it higher"
    if config.replay.groups > config.replay.capacity:
        yield (
            f"replay.groups is {config.replay.groups}: expected at most replay.capacity "
            f"({config.replay.capacity}), the groups that there are"
        )
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
    fresh = not several and config.rollout.max_staleness == 0
    restrained = settings.loss.name in RATIO_LOSSES or any(
        bound is not None for bound in (settings.clip_low, settings.clip_high, settings.dual_clip)
    )
    if restrained and fresh:
        found.append(
            f"objective.loss {settings.loss.name!r} acts on the probability ratio, which is 1 in "
            "the only update that a batch gets, so that its bounds do nothing: set "
            "objective.mini_batches (DAPO takes 16), epochs, replay or rollout.max_staleness"
        )
    if settings.off_policy_threshold is not None and fresh:
        found.append(
            "objective.off_policy_threshold compares the policy with the one that sampled, which "
            "are the same in the only update that a batch gets: set objective.mini_batches, epochs "
            "or rollout.max_staleness"
        )
    if config.reference.update != "fixed" and config.reference.every > config.steps:
        found.append(
            f"reference.every is {config.reference.every}, and steps {config.steps}: the reference "
            "never changes"
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
