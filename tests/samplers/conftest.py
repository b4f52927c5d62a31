"""A tiny policy whose distributions are peaked enough for exact comparisons."""

from __future__ import annotations

import pytest
from sampler_toys import sharpened_policy

from rlvr.policy import Policy


@pytest.fixture
def policy() -> Policy:
    """A fresh one for each test: tests change its weights and modes."""
    return sharpened_policy()


@pytest.fixture
def prompts() -> list[str]:
    """Prompts of different lengths, some of them equal."""
    return ["1+1=", "what is 12+34=", "a", "1+1=", "zebra crossing", "a b c d e", "1+1=", "9"]
