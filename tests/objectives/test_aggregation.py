import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_reference import SETTINGS, aggregated, lengths, pack, padded, seeds, sequence_ids

from rlvr.errors import UnknownNameError
from rlvr.objectives.aggregation import Totals, aggregate, sequence_sums
from rlvr.registry import objectives

WAYS = (
    "token-mean",
    "token-sum",
    "seq-mean-token-mean",
    "seq-mean-token-sum",
    "seq-mean-token-sum-norm",
)
LONGEST = 8.0


def totals_of(lengths):
    return Totals(tokens=sum(lengths), sequences=sum(length > 0 for length in lengths))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("token-mean", (1 + 2 + 3 + 10) / 4),
        ("token-sum", 1 + 2 + 3 + 10),
        ("seq-mean-token-mean", (2 + 10) / 2),
        ("seq-mean-token-sum", (6 + 10) / 2),
        ("seq-mean-token-sum-norm", (6 + 10) / 2 / 8),
    ],
)
def test_hand_computed_values(how, expected):
    values, ids = torch.tensor([1.0, 2.0, 3.0, 10.0]), torch.tensor([0, 0, 0, 1])
    found = aggregate(values, ids, how=how, totals=Totals(4, 2), normaliser=8)
    assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize("how", WAYS)
@settings(**SETTINGS)
@given(lengths=lengths, seed=seeds)
def test_packed_value_and_gradient_equal_the_padded_formula(how, lengths, seed):
    batch = padded(lengths, seed)
    mask, values = batch["mask"], batch["new"].clone().requires_grad_()
    expected = aggregated(values, mask, how, LONGEST)
    (gradient,) = torch.autograd.grad(expected, values)
    packed = pack(mask, batch["new"]).requires_grad_()
    found = aggregate(
        packed, sequence_ids(mask), how=how, totals=totals_of(lengths), normaliser=LONGEST
    )
    (packed_gradient,) = torch.autograd.grad(found, packed)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(packed_gradient, gradient[mask], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("how", WAYS)
@settings(**SETTINGS)
@given(lengths=lengths, seed=seeds, assignment=st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_every_split_into_micro_batches_gives_the_loss_and_gradient_of_the_whole(
    how, lengths, seed, assignment
):
    batch = padded(lengths, seed, torch.float32)
    mask, totals = batch["mask"], totals_of(lengths)

    def loss_and_gradient(micro_batches):
        weights = batch["new"].clone().requires_grad_()
        total = 0.0
        for rows in micro_batches:
            part, values = mask[rows], weights[rows].square()
            loss = aggregate(
                pack(part, values),
                sequence_ids(part),
                how=how,
                totals=totals,
                normaliser=LONGEST,
            )
            loss.backward()
            total += loss.item()
        return total, weights.grad

    rows = range(len(lengths))
    parts = [[row for row in rows if assignment[row] == part] for part in range(4)]
    whole, whole_gradient = loss_and_gradient([list(rows)])
    split, split_gradient = loss_and_gradient(parts)
    assert split == pytest.approx(whole, rel=1e-6, abs=1e-6)
    # A token's gradient sees nothing of the split, so it is equal to the last bit.
    assert torch.equal(split_gradient, whole_gradient)


@pytest.mark.parametrize("how", WAYS)
@settings(**SETTINGS)
@given(lengths=lengths, seed=seeds)
def test_the_order_of_tokens_and_the_ids_of_sequences_do_not_matter(how, lengths, seed):
    batch = padded(lengths, seed)
    values, ids = pack(batch["mask"], batch["new"]), sequence_ids(batch["mask"])
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(values), generator=generator)
    renamed = torch.randperm(len(lengths), generator=generator)[ids]
    options = {"how": how, "totals": totals_of(lengths), "normaliser": LONGEST}
    torch.testing.assert_close(
        aggregate(values[order], renamed[order], **options),
        aggregate(values, ids, **options),
        rtol=1e-12,
        atol=1e-12,
    )


def test_counting_empty_sequences_is_the_callers_choice():
    values, ids = torch.tensor([2.0, 4.0]), torch.tensor([0, 2])
    for how in ("seq-mean-token-mean", "seq-mean-token-sum"):
        assert float(aggregate(values, ids, how=how, totals=Totals(2, 2))) == 3.0
        assert float(aggregate(values, ids, how=how, totals=Totals(2, 3))) == 2.0


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("totals", [Totals(0, 0), Totals(5, 2)])
def test_a_micro_batch_without_tokens_has_loss_zero_and_can_be_differentiated(how, totals):
    weights = torch.ones(3, requires_grad=True)
    loss = aggregate(
        weights[:0], torch.zeros(0, dtype=torch.int64), how=how, totals=totals, normaliser=4
    )
    loss.backward()
    assert loss.item() == 0.0
    assert weights.grad.tolist() == [0.0, 0.0, 0.0]


def test_totals_of_a_micro_batch_instead_of_the_batch_are_refused_where_it_shows():
    values, ids = torch.zeros(3), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="counted over the whole optimisation batch"):
        aggregate(values, ids, how="token-mean", totals=Totals(2, 1))


@pytest.mark.parametrize("normaliser", [None, 0.0, -1.0])
def test_the_constant_normaliser_must_be_given(normaliser):
    with pytest.raises(ValueError, match="normaliser is"):
        aggregate(
            torch.zeros(1),
            torch.zeros(1, dtype=torch.int64),
            how="seq-mean-token-sum-norm",
            totals=Totals(1, 1),
            normaliser=normaliser,
        )


def test_wrong_shapes_and_names_are_refused():
    values, ids = torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    totals = Totals(2, 1)
    with pytest.raises(ValueError, match=r"per_token is .* of shape \[1, 2\]"):
        aggregate(values[None], ids, how="token-mean", totals=totals)
    with pytest.raises(ValueError, match=r"sequence_ids is torch\.int32"):
        aggregate(values, ids.int(), how="token-mean", totals=totals)
    with pytest.raises(UnknownNameError, match="did you mean 'aggregation/token-mean'"):
        aggregate(values, ids, how="token-means", totals=totals)
    with pytest.raises(ValueError, match="at least 0"):
        Totals(-1, 1)


def test_a_new_aggregation_takes_one_function():
    def token_sum(per_token, sequence_ids, totals, normaliser):
        """Sum over all tokens."""
        return per_token.sum()

    objectives.register("aggregation/test-token-sum", token_sum)
    values, ids = torch.tensor([1.0, 2.0]), torch.tensor([0, 1])
    found = aggregate(values, ids, how="test-token-sum", totals=Totals(9, 9))
    assert float(found) == 3.0


def test_sequence_sums_keep_empty_sequences_and_gradients():
    values = torch.tensor([1.0, 2.0, 4.0], requires_grad=True)
    sums = sequence_sums(values, torch.tensor([2, 0, 2]), 4)
    assert sums.tolist() == [2.0, 0.0, 5.0, 0.0]
    sums[2].backward()
    assert values.grad.tolist() == [1.0, 0.0, 1.0]


def test_every_objective_that_is_listed_can_be_loaded_and_describes_itself():
    for name in (n for n in objectives.names() if ".py:" not in n):  # other tests register files
        assert callable(objectives.get(name))
        assert len(objectives.describe(name)) > 10
