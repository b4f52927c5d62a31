"""What a configuration's objective names, resolved: functions with their options, checked early.

Keys that several losses or estimators share (`clip_low`, `scale`, ...) stand beside the name. They
are handed to a function that takes them, and refused for one that does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rlvr.config import Component
from rlvr.errors import ConfigError, UserError
from rlvr.registry import check_options, objectives
from rlvr.trainers.config import ObjectiveConfig, PolicyGradientConfig

GAE = "gae"
"""The advantage that needs a critic: estimated for each token, not for a rollout."""
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
        advantage: of the family `advantage/`; `gae` is none of it.
        selection: of the family `token-selection/`; `None` where every token counts.
        selects_for_loss: whether the loss itself reads the selection; else it keeps only what is
            selected.
    """

    loss: Part
    advantage: Part
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
    if settings.advantage.name == GAE:
        if settings.scale is not None:
            raise ConfigError("objective.scale is set, which advantage 'gae' has not")
        advantage = Part(GAE, settings.advantage.options)
    else:
        advantage = part_of("advantage", settings.advantage, {"scale": settings.scale}, takes=1)
    chosen = settings.token_selection
    own = OWN_SELECTION.get(loss.name)
    if own is not None:
        if chosen is not None and chosen.name != own:
            raise ConfigError(
                f"objective.token_selection is {chosen.name!r}: loss {loss.name!r} brings its own "
                f"({own!r}), whose options may stand there"
            )
        chosen = chosen or Component(name=own)
    selection = None if chosen is None else part_of("token-selection", chosen, {}, takes=2)
    _known("kl", settings.kl_estimator)
    _known("aggregation", settings.aggregation)
    return Objective(loss, advantage, selection, own is not None)


def part_of(family: str, component: Component, shared: Mapping[str, Any], *, takes: int) -> Part:
    """A component's function, and its options with the shared keys that were set.

    Args:
        family: such as `policy`.
        component: a name in the family, or `file.py:function`, with options.
        shared: keys that stand beside the component; `None` is not set.
        takes: how many leading parameters are not options.

    Raises:
        UserError: nothing has that name, an option is unknown, or a shared key does not apply.
    """
    name = OLD_NAMES.get(component.name, component.name)
    function = _known(family, name)
    parameters = list(inspect.signature(function).parameters)[takes:]
    options = dict(component.options)
    for key, value in shared.items():
        if value is None or key in options:
            continue
        if key not in parameters:
            raise ConfigError(
                f"objective.{key} is {value!r}, which {family} {name!r} has not: set it to null"
            )
        options[key] = value
    given = dict.fromkeys(list(inspect.signature(function).parameters)[:takes])
    check_options(function, {**given, **options}, f"{family} {name!r}")
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
    objective = resolve(config.objective)
    needs_critic = objective.advantage.name == GAE
    if needs_critic and config.critic is None:
        raise ConfigError("objective.advantage is 'gae': set critic={} (a value model) as well")
    if config.critic is not None and not needs_critic:
        raise ConfigError(
            f"critic is set, but objective.advantage {objective.advantage.name!r} does not use "
            "one: set objective.advantage=gae, or critic=null"
        )
    if config.objective.kl_coefficient == 0 and config.reference.update != "fixed":
        raise ConfigError(
            "reference.update is set, but objective.kl_coefficient is 0: no reference"
        )
    for shaping in config.reward.shaping:
        part_of("shaping", shaping, {}, takes=1)
    if objective.advantage.name == "gdpo" and not config.reward.weights:
        raise ConfigError(
            "advantage 'gdpo' normalises several rewards: name them in reward.weights"
        )
    return objective


__all__ = ["GAE", "Objective", "Part", "UserError", "check", "part_of", "resolve"]
