"""The Python of docs/objectives.md runs, and its tables name the built-in objectives."""

import re
from pathlib import Path

import pytest
import torch

from rlvr.objectives.policy import policy_loss
from rlvr.registry import objectives

PAGE = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_run():
    draw = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    names = {
        "logprobs": draw[0].requires_grad_(),
        "old_logprobs": draw[1],
        "ref_logprobs": draw[2],
        "advantages": draw[3],
        "sequence_ids": torch.tensor([0, 0, 0, 1, 1, 2]),
        "batch_tokens": 6,
        "batch_sequences": 3,
    }
    assert BLOCKS
    for block in BLOCKS:
        exec(compile(block, "docs/objectives.md", "exec"), names)
    assert names["logprobs"].grad.abs().sum() > 0
    loss, _ = policy_loss("square-root", names["tokens"])
    assert loss.shape == (6,)


@pytest.mark.parametrize("family", ["policy", "token-selection", "kl"])
def test_the_page_names_every_objective(family):
    names = [n.removeprefix(f"{family}/") for n in objectives._builtins if n.startswith(family)]
    assert names
    missing = [
        name for name in names if f"`{name}`" not in PAGE and f"`{family}/{name}`" not in PAGE
    ]
    assert not missing


def test_every_objective_says_what_it_is():
    for name in objectives._builtins:
        assert objectives.describe(name), name
