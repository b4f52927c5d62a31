"""The configuration of `rlvr train`: one frozen section a concern, each field with its unit.

`algorithm` picks the section class and lays its presets beneath the file's own values. The sections
stand in `config_run.py` (every run), `config_policy_gradient.py` with `config_objective.py`, and
`config_given.py`; this module is where they are imported from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlvr.config import build, merge
from rlvr.errors import ConfigError, nearest
from rlvr.trainers.config_given import (
    DPOConfig,
    GivenDataConfig,
    HeldOutConfig,
    PreferenceObjectiveConfig,
    RewardConfig,
    RewardObjectiveConfig,
    SupervisedConfig,
)
from rlvr.trainers.config_objective import (
    CriticConfig,
    MismatchConfig,
    ObjectiveConfig,
    ReferenceConfig,
    RewardShapingConfig,
)
from rlvr.trainers.config_policy_gradient import (
    CurriculumConfig,
    PolicyGradientConfig,
    ReplayConfig,
    RolloutConfig,
)
from rlvr.trainers.config_run import (
    NEW,
    CheckpointConfig,
    EvaluationConfig,
    NewPolicyConfig,
    OptimizerConfig,
    RunConfig,
    SamplingConfig,
    WarmStartConfig,
    output_folder,
)
from rlvr.trainers.presets import PRESETS

__all__ = [
    "NEW",
    "PRESETS",
    "SECTIONS",
    "CheckpointConfig",
    "CriticConfig",
    "CurriculumConfig",
    "DPOConfig",
    "EvaluationConfig",
    "GivenDataConfig",
    "HeldOutConfig",
    "MismatchConfig",
    "NewPolicyConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "PolicyGradientConfig",
    "PreferenceObjectiveConfig",
    "ReferenceConfig",
    "ReplayConfig",
    "RewardConfig",
    "RewardObjectiveConfig",
    "RewardShapingConfig",
    "RolloutConfig",
    "RunConfig",
    "SamplingConfig",
    "SupervisedConfig",
    "WarmStartConfig",
    "output_folder",
    "parse_config",
]

DEFAULT_LOSS = ObjectiveConfig().loss.name
CLIP_RANGE = {"clip_low", "clip_high", "dual_clip"}

SECTIONS: dict[str, type[RunConfig]] = {
    **dict.fromkeys(PRESETS, PolicyGradientConfig),
    "sft": SupervisedConfig,
    "reward": RewardConfig,
    "dpo": DPOConfig,
}


def parse_config(mapping: Mapping[str, Any], where: str) -> RunConfig:
    """Check a configuration and lay it on the presets of its algorithm.

    Args:
        mapping: plain values, overrides applied.
        where: what they come from, for messages.

    Raises:
        ConfigError: a key is unknown, missing or wrong; the message is one line.
    """
    algorithm = mapping.get("algorithm")
    if algorithm is None:
        raise ConfigError(f"{where}: missing key 'algorithm'; known: {', '.join(sorted(SECTIONS))}")
    if not isinstance(algorithm, str) or algorithm not in SECTIONS:
        raise ConfigError(
            f"{where}: unknown algorithm {algorithm!r}{nearest(str(algorithm), SECTIONS)}"
        )
    return build(SECTIONS[algorithm], merge(preset_beneath(mapping, algorithm), mapping), where)


def preset_beneath(mapping: Mapping[str, Any], algorithm: str) -> dict[str, Any]:
    """What the algorithm presets, without the clip range of a loss that the file replaces."""
    preset = PRESETS.get(algorithm, {})
    own = mapping.get("objective")
    loss = own.get("loss") if isinstance(own, Mapping) else None
    name = loss.get("name") if isinstance(loss, Mapping) else loss
    before = preset.get("objective", {})
    if name is None or name == before.get("loss", DEFAULT_LOSS):
        return preset
    kept = {key: value for key, value in before.items() if key not in CLIP_RANGE}
    return {**preset, "objective": kept}
