"""Strict configuration: unknown keys, overrides, presets, and one-line errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlvr.config import apply_override, load_mapping, merge
from rlvr.errors import ConfigError
from rlvr.trainers.config import PolicyGradientConfig, parse_config

MINIMAL = {
    "algorithm": "dapo",
    "output": "runs/x",
    "policy": "new",
    "steps": 3,
    "environment": "arithmetic",
}


def test_presets_lie_beneath_the_files_own_values() -> None:
    config = parse_config({**MINIMAL, "objective": {"clip_high": 0.5}}, "test")
    assert isinstance(config, PolicyGradientConfig)
    assert config.objective.clip_high == 0.5
    assert config.objective.aggregation == "token-mean"
    assert config.rollout.dynamic_sampling


def test_grpo_is_not_dapo() -> None:
    config = parse_config({**MINIMAL, "algorithm": "grpo"}, "test")
    assert isinstance(config, PolicyGradientConfig)
    assert config.objective.clip_high is None  # the loss's own, which is 0.2
    assert config.objective.aggregation == "seq-mean-token-mean"
    assert not config.rollout.dynamic_sampling


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimiser": {}}, "unknown key 'optimiser'; did you mean 'optimizer'"),
        ({"optimizer": {"learning": 1}}, "unknown key 'optimizer.learning'"),
        ({"rollout": {"group_sise": 4}}, "did you mean 'group_size'"),
        ({"algorithm": "grp"}, "unknown algorithm 'grp'; did you mean 'grpo'"),
        ({"steps": 0}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"evaluation": {"k": [16], "samples": 8}}, "k=16 needs at least that many samples"),
        ({"rollout": {"overlong_buffer": 1000}}, "overlong_buffer"),
    ],
)
def test_a_wrong_key_is_one_clear_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({**MINIMAL, **change}, "file.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="missing key 'environment'"):
        parse_config({key: MINIMAL[key] for key in MINIMAL if key != "environment"}, "file.yaml")


def test_a_bare_name_is_a_component_and_takes_options_by_override() -> None:
    mapping = apply_override(MINIMAL, "environment.digits=3")
    config = parse_config(mapping, "test")
    assert isinstance(config, PolicyGradientConfig)
    assert config.environment.name == "arithmetic"
    assert config.environment.options == {"digits": 3}
    replaced = parse_config(apply_override(mapping, "environment=countdown"), "test")
    assert isinstance(replaced, PolicyGradientConfig)
    assert replaced.environment.options == {}


def test_override_values_are_yaml() -> None:
    assert apply_override({}, "a.b=[1, 2]") == {"a": {"b": [1, 2]}}
    assert apply_override({}, "a=null") == {"a": None}
    assert apply_override({}, "a=") == {"a": ""}


@pytest.mark.parametrize("override", ["novalue", "=3", "steps.more=1"])
def test_a_bad_override_is_refused(override: str) -> None:
    with pytest.raises(ConfigError):
        apply_override({"steps": 3}, override)


def test_scientific_notation_without_a_dot_is_a_number() -> None:
    config = parse_config(apply_override(MINIMAL, "optimizer.lr=1e-4"), "test")
    assert config.optimizer.lr == 1e-4


def test_a_missing_file_and_broken_yaml_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.yaml: No such file"):
        load_mapping(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1\nb: 2\n")
    with pytest.raises(ConfigError, match="line"):
        load_mapping(broken)
    listing = tmp_path / "list.yaml"
    listing.write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected keys and values"):
        load_mapping(listing)


def test_merge_replaces_a_component_of_another_name() -> None:
    base = {"loss": {"name": "cispo", "cap": 3}, "advantage": "group"}
    assert merge(base, {"loss": {"cap": 4}}) == {**base, "loss": {"name": "cispo", "cap": 4}}
    assert merge(base, {"loss": {"name": "gspo"}})["loss"] == {"name": "gspo"}
    assert merge(base, {"loss": "gspo"})["loss"] == "gspo"
    assert merge(base, {"advantage": {"eps": 1}})["advantage"] == {"name": "group", "eps": 1}


def test_merge_goes_section_by_section() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2]}) == {
        "a": {"b": 3, "c": 2},
        "d": [2],
    }
