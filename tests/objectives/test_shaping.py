import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_reference import built_in

from rlvr.errors import ConfigError, UnknownNameError
from rlvr.objectives.shaping import (
    ShapedRollouts,
    cosine_length_reward,
    kimi_length_bonus,
    shape_rewards,
    soft_overlong_penalty,
    target_length_penalty,
)

SETTINGS = {"max_examples": 30, "deadline": None}


def rollouts(rewards=(1.0, 0.0, 1.0), lengths=(10, 20, 30), groups=(0, 0, 0), correct=None):
    rewards = torch.tensor(rewards, dtype=torch.float64)
    return ShapedRollouts(
        rewards=rewards,
        lengths=torch.tensor(lengths),
        group_ids=torch.tensor(groups),
        correct=rewards > 0 if correct is None else torch.tensor(correct),
    )


def test_every_registered_part_changes_rewards_as_its_function_says():
    given_ = rollouts()
    expected = {
        "clip": ({"low": 0.25, "high": 0.5}, [0.5, 0.25, 0.5]),
        "scale": ({"factor": 2.0, "shift": -0.5}, [1.0, -1.0, 1.0]),
        "soft-overlong": ({"max_length": 30, "buffer": 20, "penalty": 2.0}, [1.0, -1.0, -1.0]),
        "kimi-length": ({"weight": 2.0}, [2.0, 0.0, 0.0]),
        "cosine-length": (
            {"max_length": 40},
            [1.5 + 0.5 * math.cos(math.pi / 4), -5.0, 1.5 - 0.5 * math.cos(math.pi / 4)],
        ),
        "target-length": ({"target": 15, "alpha": 0.1}, [0.5, -0.5, -0.5]),
    }
    assert set(expected) == built_in("shaping")
    for name, (options, values) in expected.items():
        assert shape_rewards(given_, [(name, options)]).tolist() == pytest.approx(values), name


def test_parts_are_applied_in_turn():
    parts = [("scale", {"factor": 3.0}), ("clip", {"low": 0.0, "high": 2.0})]
    assert shape_rewards(rollouts(), parts).tolist() == [2.0, 0.0, 2.0]
    assert shape_rewards(rollouts(), parts[::-1]).tolist() == [3.0, 0.0, 3.0]
    assert shape_rewards(rollouts(), []).tolist() == [1.0, 0.0, 1.0]


def test_correctness_stays_what_the_verifier_said():
    parts = [("scale", {"shift": -5.0}), ("kimi-length", {})]
    assert shape_rewards(rollouts(), parts).tolist() == [-3.5, -5.0, -4.5]


def test_kimi_bonus_by_hand():
    lengths = torch.tensor([100, 200, 300, 100, 300, 50, 50])
    correct = torch.tensor([True, True, True, False, False, True, False])
    groups = torch.tensor([0, 0, 0, 0, 0, 1, 1])
    found = kimi_length_bonus(lengths, correct, groups)
    assert found.tolist() == [0.5, 0.0, -0.5, 0.0, -0.5, 0.0, 0.0]


@settings(**SETTINGS)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=8))
def test_kimi_bonus_falls_with_length_and_never_rewards_what_is_wrong(batch):
    lengths, correct = (torch.tensor(column) for column in zip(*batch, strict=True))
    found = kimi_length_bonus(lengths, correct, torch.zeros_like(lengths))
    assert float(found.abs().max()) <= 0.5
    assert bool((found[~correct] <= 0).all())
    for value in (True, False):
        order = lengths[correct == value].argsort()
        bonuses = found[correct == value][order]
        assert bool((bonuses.diff() <= 0).all())


def test_cosine_reward_at_its_corners():
    lengths = torch.tensor([0, 500, 999, 1000, 0, 500, 999, 2000])
    correct = torch.tensor([True] * 4 + [False] * 4)
    found = cosine_length_reward(lengths, correct, max_length=1000).tolist()
    assert found == pytest.approx([2.0, 1.5, 1.0, -10.0, -10.0, -5.0, 0.0, -10.0], abs=1e-4)


def test_cosine_reward_pays_for_thinking_where_the_answer_is_wrong():
    lengths = torch.arange(100)
    right = cosine_length_reward(lengths, lengths >= 0, max_length=100)
    wrong = cosine_length_reward(lengths, lengths < 0, max_length=100)
    assert bool((right.diff() < 0).all())
    assert bool((wrong.diff() > 0).all())
    assert float(right.min()) > float(wrong.max())


def test_target_length():
    found = target_length_penalty(torch.tensor([5, 10, 20]), target=10, alpha=0.1)
    assert found.tolist() == pytest.approx([-0.5, 0.0, -1.0])
    with pytest.raises(ValueError, match="alpha is -1"):
        target_length_penalty(torch.tensor([5]), target=10, alpha=-1)


def test_the_penalty_of_dapo_is_importable_from_where_it_was():
    from rlvr.objectives import advantages

    assert advantages.soft_overlong_penalty is soft_overlong_penalty


def test_what_does_not_fit_is_refused_in_one_line():
    with pytest.raises(UnknownNameError, match="shaping/clamp"):
        shape_rewards(rollouts(), [("clamp", {})])
    with pytest.raises(ConfigError, match="shaping 'clip' needs the option 'low'"):
        shape_rewards(rollouts(), [("clip", {"high": 1.0})])
    with pytest.raises(ValueError, match="expected low below high"):
        shape_rewards(rollouts(), [("clip", {"low": 1.0, "high": 1.0})])
    with pytest.raises(ValueError, match=r"correct is torch\.int64"):
        rollouts(correct=[1, 0, 1])
    with pytest.raises(ValueError, match="max_length is 0"):
        shape_rewards(rollouts(), [("cosine-length", {"max_length": 0})])
