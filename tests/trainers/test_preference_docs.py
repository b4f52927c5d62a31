"""The page on preferences and the examples say what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlvr.config import load_mapping
from rlvr.trainers.config import GivenDataConfig, parse_config
from rlvr.trainers.keys import keys_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "preferences.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["sft", "reward", "dpo"])
def test_the_examples_are_whole(name: str) -> None:
    path = ROOT / "examples" / f"{name}.yaml"
    config = parse_config(load_mapping(path), str(path))
    assert isinstance(config, GivenDataConfig)
    assert config.algorithm == name
    assert config.held_out is not None
    assert config.held_out.count == 100


@pytest.mark.parametrize(
    "key",
    ["completion_column", "max_length", "held_out.every", "objective.centre", "objective.kind"],
)
def test_the_keys_that_the_page_names_exist(key: str) -> None:
    assert f"`{key}`" in PAGE
    known = {key for name in ("sft", "reward", "dpo") for key in known_keys(name)}
    assert key in known


def known_keys(algorithm: str) -> list[str]:
    return [item.name for item in keys_of(algorithm)]
