"""The batch: packing, splitting, and logprobs that do not depend on either."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.batch import Batch, Example
from rlvr.errors import ConfigError
from rlvr.forward import score_tokens
from rlvr.packing import lay_out
from rlvr.policy import make_policy

tokens = st.lists(st.integers(2, 9), min_size=1, max_size=6).map(tuple)
examples = st.lists(
    st.builds(
        lambda prompt, completion, advantage, trained: Example(
            prompt_ids=prompt,
            completion_ids=completion,
            advantage=advantage,
            sampler_logprobs=tuple(-0.1 * (i + 1) for i in range(len(completion))),
            trained=trained,
        ),
        tokens,
        tokens,
        st.floats(-2, 2, width=32),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


def test_packing_by_hand() -> None:
    batch = Batch.pack(
        [
            Example(
                prompt_ids=(5,), completion_ids=(6, 7), advantage=1.5, sampler_logprobs=(-1, -2)
            ),
            Example(prompt_ids=(8, 9), completion_ids=(4,), advantage=2.0, trained=False),
        ]
    )
    assert batch.input_ids.tolist() == [5, 6, 7, 8, 9, 4]
    assert batch.boundaries.tolist() == [0, 3, 6]
    assert batch.loss_mask.tolist() == [False, True, True, False, False, False]
    assert batch.advantages.tolist() == [0, 1.5, 1.5, 0, 0, 0]
    assert batch.sampler_logprobs.tolist() == [0, -1, -2, 0, 0, 0]
    assert (batch.totals.tokens, batch.totals.sequences) == (2, 1)


@given(examples, st.integers(1, 40))
def test_micro_batches_hold_every_trained_token_once(items: list[Example], budget: int) -> None:
    batch = Batch.pack(items)
    micro = list(batch.micro_batches(budget))
    assert sum(part.totals.tokens for part in micro) == batch.totals.tokens
    assert sum(part.totals.sequences for part in micro) == batch.totals.sequences
    for part in micro:
        assert lay_out(part).input_ids.numel() <= budget or len(part) == 1
    trained = sorted(batch.input_ids[batch.loss_mask].tolist())
    assert sorted(t for p in micro for t in p.input_ids[p.loss_mask].tolist()) == trained


@given(examples)
def test_selecting_everything_in_order_is_the_batch(items: list[Example]) -> None:
    batch = Batch.pack(items)
    same = batch.select(range(len(batch)))
    for name in ("input_ids", "boundaries", "loss_mask", "advantages", "sampler_logprobs"):
        assert torch.equal(getattr(batch, name), getattr(same, name)), name


def test_mini_batches_share_out_the_sequences() -> None:
    items = [Example(prompt_ids=(2,), completion_ids=(i,)) for i in range(3, 10)]
    generator = torch.Generator().manual_seed(0)
    parts = Batch.pack(items).split(3, generator)
    assert [len(part) for part in parts] == [3, 2, 2]
    assert sorted(int(i) for part in parts for i in part.input_ids[1::2]) == list(range(3, 10))
    with pytest.raises(ConfigError, match="cannot make 8 mini-batches"):
        Batch.pack(items).split(8, generator)


@given(examples, st.integers(1, 60))
@settings(deadline=None, max_examples=25)
def test_logprobs_are_those_of_each_sequence_alone(items: list[Example], budget: int) -> None:
    """Packing, padding and the split into micro-batches change nothing but float noise."""
    model = make_policy(hidden_size=16, layers=1, heads=2, alphabet="abcdefgh").model
    batch = Batch.pack(items)
    with torch.no_grad():
        for sequences in batch.parts(budget):
            scores = score_tokens(model, batch.select(sequences), temperature=0.7)
            alone = []
            for i in sequences:
                ids = torch.tensor([*items[i].prompt_ids, *items[i].completion_ids])
                logprobs = (model(ids[None]).logits[0] / 0.7).log_softmax(-1)
                start = len(items[i].prompt_ids)
                alone += [logprobs[t - 1, ids[t]].item() for t in range(start, len(ids))]
            assert torch.allclose(scores.logprobs, torch.tensor(alone), atol=1e-5)
