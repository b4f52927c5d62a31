"""The registered advantages: hand-computed values, and what must hold for every one of them."""

import itertools
import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_reference import built_in

from rlvr.errors import ConfigError, UnknownNameError
from rlvr.objectives.advantages import RewardGroups, estimate_advantages

SETTINGS = {"max_examples": 10, "deadline": None}

# Rewards on a grid: either exactly equal, or further apart than any tolerance.
grid_rewards = st.integers(0, 8).map(lambda value: value / 4)
lengths = st.integers(1, 9)
rollouts = st.tuples(grid_rewards, st.integers(0, 3), lengths)
batches = st.lists(rollouts, min_size=1, max_size=16)

# Every estimator that compares within a group, in each of its forms that needs no exception.
GROUP_ESTIMATORS = [
    ("group", {}),
    ("group", {"scale": "batch"}),
    ("group", {"scale": "none"}),
    ("leave-one-out", {}),
    ("reinforce++-baseline", {}),
    ("opo", {}),
    ("gpg", {}),
    ("gpg", {"count": "nonzero"}),
    ("maxrl", {}),
    ("max-gap", {}),
    ("max-gap", {"scale": False}),
    ("pass-at-k", {"k": 1}),
    ("gdpo", {}),
    ("gdpo", {"over": "none"}),
]
# Those whose advantages of one group do not depend on the other groups.
LOCAL = [
    (name, options)
    for name, options in GROUP_ESTIMATORS
    if name in ("leave-one-out", "opo", "maxrl", "max-gap", "pass-at-k")
    or options == {"over": "none"}
    or (name == "group" and options.get("scale") != "batch")
]


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def make(rewards, ids, *, lengths=None, **fields):
    rewards = rewards if isinstance(rewards, torch.Tensor) else f64(rewards)
    ids = torch.as_tensor(ids)
    lengths = torch.ones_like(ids) if lengths is None else torch.as_tensor(lengths)
    fields.setdefault("baseline", torch.zeros_like(rewards))
    fields.setdefault("parts", torch.stack([rewards, 1.0 - rewards.square()], dim=1))
    return RewardGroups(rewards=rewards, group_ids=ids, lengths=lengths, **fields)


def from_batch(batch, change=lambda reward: reward, order=None, name=lambda group: group):
    batch = batch if order is None else [batch[i] for i in order]
    rewards, ids, lengths = zip(*batch, strict=True)
    return make([change(r) for r in rewards], [name(i) for i in ids], lengths=lengths)


def found(name, groups, **options):
    return estimate_advantages(name, groups, **options).tolist()


def test_every_registered_advantage_is_tested_here():
    tested = {name for name, _ in GROUP_ESTIMATORS}
    tested |= {"reinforce", "reinforce++", "remax", "pass-at-k-group"}
    assert built_in("advantage") == tested


def test_reinforce_is_the_reward():
    assert found("reinforce", make([0.25, 1.0], [0, 1])) == [0.25, 1.0]


def test_reinforce_plus_plus_normalises_over_sequences_or_over_tokens():
    groups = make([1.0, 0.0, 0.0], [0, 0, 1], lengths=[1, 2, 5])
    std = statistics.stdev([1, 0, 0])
    assert found("reinforce++", groups, eps=0.5) == pytest.approx(
        [(r - 1 / 3) / (std + 0.5) for r in (1, 0, 0)]
    )
    tokens = [1.0] + [0.0] * 7
    std = statistics.stdev(tokens)
    assert found("reinforce++", groups, over="tokens") == pytest.approx(
        [(r - 1 / 8) / std for r in (1, 0, 0)]
    )


def test_reinforce_plus_plus_baseline_subtracts_the_group_mean_first():
    groups = make([1.0, 0.0, 4.0, 2.0], [0, 0, 1, 1], lengths=[1, 3, 1, 1])
    std = statistics.stdev([0.5, -0.5, 1.0, -1.0])
    assert found("reinforce++-baseline", groups, eps=0.0) == pytest.approx(
        [0.5 / std, -0.5 / std, 1 / std, -1 / std]
    )
    tokens = [0.5, -0.5, -0.5, -0.5, 1.0, -1.0]
    mean, std = statistics.fmean(tokens), statistics.stdev(tokens)
    assert found("reinforce++-baseline", groups, over="tokens") == pytest.approx(
        [(value - mean) / std for value in (0.5, -0.5, 1.0, -1.0)], rel=1e-6
    )


def test_remax_subtracts_the_greedy_reward():
    groups = make([1.0, 0.0, 0.1 + 0.2], [0, 0, 1], baseline=f64([0.25, 0.25, 0.3]))
    assert found("remax", groups) == [0.75, -0.25, 0.0]


def test_opo_weighs_the_baseline_by_length():
    groups = make([1.0, 0.0], [0, 0], lengths=[3, 1])
    assert found("opo", groups) == [0.25, -0.75]


def test_gpg_scales_by_the_share_of_rollouts_with_a_signal():
    groups = make([1.0, 0.0, 1.0, 1.0, 0.0, 0.0], [0, 0, 1, 1, 2, 2])
    assert found("gpg", groups) == [1.5, -1.5, 0, 0, 0, 0]
    assert found("gpg", groups, count="nonzero") == [1.0, -1.0, 0, 0, 0, 0]


def test_maxrl_divides_by_the_mean_reward():
    groups = make([1.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0, 0, 0, 0, 1, 1])
    assert found("maxrl", groups) == [3.0, -1.0, -1.0, -1.0, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"found -1\.0"):
        found("maxrl", make([1.0, -1.0], [0, 0]))


def test_max_gap_gives_the_best_its_lead():
    groups = make([0.5, 3.0, 2.0, 1.0, 1.0], [0, 0, 0, 1, 1])
    assert found("max-gap", groups, scale=False) == [0, 1.0, 0, 0, 0]
    std = statistics.stdev([0.5, 3.0, 2.0])
    assert found("max-gap", groups, eps=0.0) == pytest.approx([0, 1 / std, 0, 0, 0])


def test_gdpo_normalises_each_part_then_the_sum():
    parts = f64([[1.0, 0.0], [0.0, 10.0], [0.0, 20.0], [0.0, 0.0], [4.0, 4.0], [4.0, 4.0]])
    groups = make([0.0] * 6, [0, 0, 0, 0, 1, 1], parts=parts)
    first, second = ([row[i] for row in parts.tolist()[:4]] for i in (0, 1))

    def normal(values):
        return [(v - statistics.fmean(values)) / statistics.stdev(values) for v in values]

    total = [2 * a + b for a, b in zip(normal(first), normal(second), strict=True)] + [0.0, 0.0]
    assert found("gdpo", groups, weights=[2, 1], over="none", eps=0.0) == pytest.approx(total)
    given_once = make([0.0] * 6, [0, 0, 0, 0, 1, 1], parts=parts, part_weights=f64([2.0, 1.0]))
    assert found("gdpo", given_once, over="none", eps=0.0) == pytest.approx(total)
    std = statistics.stdev(total)
    advantages = found("gdpo", groups, weights=[2, 1], eps=0.0)
    assert advantages == pytest.approx([value / std for value in total])
    assert advantages[4:] == [0.0, 0.0]


def test_pass_at_k_of_three_rollouts_by_hand():
    # Subsets of 2 of (3, 1, 0): the 3 leads by 2 and by 3, the 1 by 1; times n / C(3, 2) = 1.
    assert found("pass-at-k", make([3.0, 1.0, 0.0], [0, 0, 0]), k=2) == [5.0, 1.0, 0.0]


@settings(**SETTINGS)
@given(st.lists(grid_rewards, min_size=1, max_size=6), st.integers(2, 6))
def test_pass_at_k_equals_the_sum_over_subsets(rewards, k):
    n = len(rewards)
    if k > max(n, 1):
        k = max(n, 1)
    advantages = found("pass-at-k", make(rewards, [0] * n), k=k)
    if len(set(rewards)) == 1:
        assert advantages == [0.0] * n
        return
    for i, advantage in enumerate(advantages):
        others = [j for j in range(n) if j != i]
        gains = [
            max(rewards[i] - max((rewards[j] for j in rest), default=math.nan), 0.0)
            for rest in itertools.combinations(others, k - 1)
        ]
        assert advantage == pytest.approx(sum(gains) * n / math.comb(n, k), rel=1e-6, abs=1e-9)


@settings(**SETTINGS)
@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=7), st.integers(1, 7))
def test_pass_at_k_group_equals_the_mean_over_bootstrapped_groups(rewards, k):
    n, k = len(rewards), min(k, len(rewards))
    subsets = list(itertools.combinations(range(n), k))
    values = [max(rewards[i] for i in subset) for subset in subsets]
    mean = statistics.fmean(values)
    advantages = found("pass-at-k-group", make(rewards, [3] * n), k=k)
    unscaled = found("pass-at-k-group", make(rewards, [3] * n), k=k, scale=False)
    if mean in (0.0, 1.0):
        assert advantages == unscaled == [0.0] * n
        return
    for i in range(n):
        mine = [v for subset, v in zip(subsets, values, strict=True) if i in subset]
        expected = statistics.fmean(mine) - mean
        assert unscaled[i] == pytest.approx(expected, rel=1e-6, abs=1e-7)
        assert advantages[i] == pytest.approx(
            expected / statistics.pstdev(values), rel=1e-6, abs=1e-7
        )


@pytest.mark.parametrize("name", ["pass-at-k", "pass-at-k-group"])
def test_k_beyond_a_group_is_refused(name):
    groups = make([1.0, 0.0, 1.0, 0.0, 0.0], [0, 0, 1, 1, 1])
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"k is {k}: .*the smallest has 2"):
            found(name, groups, k=k)


def test_pass_at_k_group_refuses_partial_credit():
    with pytest.raises(ValueError, match="rewards of 0 and 1"):
        found("pass-at-k-group", make([0.5, 0.0], [0, 0]), k=1)


@pytest.mark.parametrize(("name", "options"), GROUP_ESTIMATORS)
@pytest.mark.parametrize(
    "noisy",
    [
        [0.3, 0.1 + 0.2, 0.3],
        [0.0, abs(0.1 + 0.2 - 0.3), 0.0],
        [1e6 / 3, 1e6 / 3 * (1 + 1e-15), 1e6 / 3],
        [0.1] * 3,
        [0.0] * 3,
    ],
)
def test_equal_rewards_have_advantage_exactly_zero_beside_a_group_with_a_signal(
    name, options, noisy
):
    rewards = f64([*noisy, 1.0, 0.0, 0.0])
    groups = make(
        rewards,
        [0, 0, 0, 1, 1, 1],
        lengths=[1, 5, 9, 2, 3, 1],
        parts=torch.stack([rewards, 3.0 * rewards], dim=1),
    )
    advantages = found(name, groups, **options)
    assert advantages[:3] == [0.0, 0.0, 0.0]
    assert max(advantages[3:]) > 0.0


@pytest.mark.parametrize(("name", "options"), GROUP_ESTIMATORS)
def test_a_group_of_one_has_advantage_zero(name, options):
    assert found(name, make([1.0, 0.0], [5, 9]), **options) == [0.0, 0.0]


@pytest.mark.parametrize("name", ["leave-one-out", "opo", "gpg"])
def test_a_group_of_one_keeps_its_reward_where_asked(name):
    groups = make([2.0, 1.0, 0.0], [5, 9, 9])
    assert found(name, groups, single="raw")[0] == (2.0 if name != "gpg" else 3.0)
    assert found("group", groups, single="raw", eps=0.0)[0] == 2.0


@pytest.mark.parametrize(("name", "options"), GROUP_ESTIMATORS)
def test_no_rollouts_give_no_advantages(name, options):
    assert found(name, make([], torch.zeros(0, dtype=torch.int64)), **options) == []


@pytest.mark.parametrize(("name", "options"), [*GROUP_ESTIMATORS, ("reinforce++", {})])
@settings(**SETTINGS)
@given(batch=batches, shift=st.sampled_from([1.0, 64.0]))
def test_a_shift_of_all_rewards_changes_nothing(name, options, batch, shift):
    if name == "maxrl" or options.get("count") == "nonzero":
        return  # these read the rewards themselves, as documented
    before, after = from_batch(batch), from_batch(batch, change=lambda r: r + shift)
    after = make(after.rewards, after.group_ids, lengths=after.lengths, parts=before.parts + shift)
    assert found(name, before, **options) == pytest.approx(
        found(name, after, **options), rel=1e-6, abs=1e-6
    )


@pytest.mark.parametrize(
    ("name", "options", "degree"),
    [
        ("group", {"eps": 0.0}, 0),
        ("group", {"eps": 0.0, "scale": "batch"}, 0),
        ("group", {"scale": "none"}, 1),
        ("leave-one-out", {}, 1),
        ("reinforce", {}, 1),
        ("reinforce++", {"eps": 0.0}, 0),
        ("reinforce++-baseline", {"eps": 0.0}, 0),
        ("opo", {}, 1),
        ("gpg", {}, 1),
        ("maxrl", {}, 0),
        ("max-gap", {"eps": 0.0}, 0),
        ("max-gap", {"scale": False}, 1),
        ("pass-at-k", {"k": 1}, 1),
    ],
)
@settings(**SETTINGS)
@given(batch=batches, unit=st.sampled_from([0.25, 3.0, 1000.0]))
def test_the_unit_of_reward_scales_or_does_not_matter(name, options, degree, batch, unit):
    before = found(name, from_batch(batch), **options)
    after = found(name, from_batch(batch, change=lambda r: unit * r), **options)
    expected = [value * unit**degree for value in before]
    assert after == pytest.approx(expected, rel=1e-6, abs=1e-6 * unit)


@pytest.mark.parametrize(
    ("name", "options"),
    [*GROUP_ESTIMATORS, ("reinforce++", {}), ("reinforce++", {"over": "tokens"})],
)
@settings(**SETTINGS)
@given(batch=batches, random=st.randoms(use_true_random=False))
def test_the_order_of_rollouts_and_the_names_of_groups_do_not_matter(name, options, batch, random):
    order = list(range(len(batch)))
    random.shuffle(order)
    before = found(name, from_batch(batch), **options)
    after = found(
        name, from_batch(batch, order=order, name=lambda group: 1_000_003 * group - 17), **options
    )
    if name == "max-gap":  # of two equal best ones it is all the same which is called first
        before, order, after = sorted(before), list(range(len(batch))), sorted(after)
    assert [before[i] for i in order] == pytest.approx(after, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("name", "options"), LOCAL)
@settings(**SETTINGS)
@given(batch=batches)
def test_groups_dealt_to_two_processes_get_the_same_advantages(name, options, batch):
    together = found(name, from_batch(batch), **options)
    apart = [None] * len(batch)
    for rank in (0, 1):
        mine = [i for i, (_, group, _) in enumerate(batch) if group % 2 == rank]
        if mine:
            share = found(name, from_batch(batch, order=mine), **options)
            for i, advantage in zip(mine, share, strict=True):
                apart[i] = advantage
    assert together == apart


def test_options_names_and_missing_fields_are_refused_in_one_line():
    groups = RewardGroups(rewards=f64([1.0, 0.0]), group_ids=torch.tensor([0, 0]))
    with pytest.raises(UnknownNameError, match="no objective is named 'advantage/groups'"):
        estimate_advantages("groups", groups)
    with pytest.raises(ConfigError, match="advantage 'group' has no option 'epsilon'"):
        estimate_advantages("group", groups, epsilon=1.0)
    for name, field, options in [
        ("remax", "baseline", {}),
        ("opo", "lengths", {}),
        ("gdpo", "parts", {}),
        ("reinforce++", "lengths", {"over": "tokens"}),
    ]:
        with pytest.raises(ValueError, match=rf"needs RewardGroups\.{field}"):
            estimate_advantages(name, groups, **options)
    for name, options in [
        ("group", {"single": "one"}),
        ("gpg", {"count": "all"}),
        ("reinforce++", {"over": "groups"}),
    ]:
        with pytest.raises(ValueError, match="expected '"):
            estimate_advantages(name, groups, **options)
    parts = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="weights has 1 values: expected 2"):
        estimate_advantages("gdpo", make([0.0, 0.0], [0, 0], parts=parts), weights=[1.0])


def test_reward_groups_refuse_what_does_not_fit():
    rewards, ids = f64([1.0, 0.0]), torch.tensor([0, 0])
    with pytest.raises(ValueError, match=r"parts\[1, 0\] is nan"):
        make(rewards, ids, parts=torch.tensor([[0.0], [math.nan]]))
    with pytest.raises(ValueError, match="part_weights has 3 values"):
        make(rewards, ids, part_weights=f64([1.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="baseline has 1 rows: expected 2"):
        make(rewards, ids, baseline=f64([1.0]))
    with pytest.raises(ValueError, match=r"lengths is torch\.float32"):
        make(rewards, ids, lengths=torch.ones(2))
    with pytest.raises(ValueError, match="lengths has -1"):
        make(rewards, ids, lengths=[1, -1])
