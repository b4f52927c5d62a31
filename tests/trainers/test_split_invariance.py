"""One update is the same however its batch is split, packed, chunked or recomputed.

The several steps of uneven length on one generation are where TRL 1.16 divides by the generation's
average: there a step weighs 1.667 or 0.333 times what it should.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

import rlvr.forward
import rlvr.objectives.head
from rlvr.batch import Batch, Example
from rlvr.compute import checkpoint_activations
from rlvr.forward import Ability, ability_of
from rlvr.objectives.head import Projection
from rlvr.policy import Policy, make_policy
from rlvr.trainers.config import PolicyGradientConfig, parse_config
from rlvr.trainers.policy_update import PolicyUpdate

AGGREGATIONS = (
    "token-mean",
    "token-sum",
    "seq-mean-token-mean",
    "seq-mean-token-sum",
    "seq-mean-token-sum-norm",
)
LENGTHS = (1, 19, 2, 3, 23, 1, 2, 17, 5, 1, 4, 2)


def tiny(dtype: str = "float64") -> PreTrainedModel:
    torch.manual_seed(0)
    model = make_policy(hidden_size=16, layers=2, heads=4, alphabet="abcdefghijklmn").model
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model.to(getattr(torch, dtype))


def batch() -> Batch:
    """Groups of three with one prompt each, of very uneven lengths; one sequence is not trained."""
    generator = torch.Generator().manual_seed(3)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(2, 16, (count,), generator=generator).tolist())

    prompts = [tokens(count) for count in (1, 6, 3, 9)]
    return Batch.pack(
        [
            Example(
                prompt_ids=prompts[i // 3],
                completion_ids=tokens(length),
                sampler_logprobs=(-1.5,) * length,
                advantage=(-1.0) ** i * (i + 1) / 3,
                trained=i != 3,
            )
            for i, length in enumerate(LENGTHS)
        ]
    )


def config(**objective: Any) -> PolicyGradientConfig:
    parsed = parse_config(
        {
            "algorithm": "grpo",
            "output": "unused",
            "policy": "new",
            "environment": "arithmetic",
            "evaluation": None,
            "steps": 1,
            "sampling": {"max_new_tokens": 25, "temperature": 0.8},
            "optimizer": {"lr": 1e-2, "max_grad_norm": 0.5},
            "objective": {"entropy_coefficient": 0.03, **objective},
        },
        "test",
    )
    assert isinstance(parsed, PolicyGradientConfig)
    return parsed


def update(
    model: PreTrainedModel, settings: PolicyGradientConfig
) -> tuple[list[dict[str, Tensor]], dict[str, Tensor], dict[str, float]]:
    """The gradients of each optimiser step, the weights at the end, and the metrics."""
    learner = PolicyUpdate(
        settings,
        policy=Policy(model, tokenizer=None),
        reference=None,  # type: ignore[arg-type]
    )
    steps: list[dict[str, Tensor]] = []
    plain_step = learner.optim.step

    def step() -> tuple[float, float]:
        steps.append({n: p.grad.clone() for n, p in model.named_parameters()})  # type: ignore[union-attr]
        return plain_step()

    learner.optim.step = step  # type: ignore[method-assign]
    given = batch()
    wide = given.sampler_logprobs.to(model.dtype)
    metrics = learner.update(dataclasses.replace(given, sampler_logprobs=wide), 1)
    return steps, {n: p.detach().clone() for n, p in model.named_parameters()}, metrics


def assert_same(found: Any, expected: Any, tolerance: float) -> None:
    assert len(found[0]) == len(expected[0])
    for one, other in zip([*found[0], found[1]], [*expected[0], expected[1]], strict=True):
        for name, value in other.items():
            assert (one[name] - value).norm() <= tolerance * value.norm(), name
    assert found[2].keys() == expected[2].keys()
    for name, value in expected[2].items():
        assert found[2][name] == pytest.approx(value, rel=tolerance, abs=tolerance), name


def of_sequences(count: int) -> Callable[[Batch, int], Iterator[list[int]]]:
    """Micro-batches of so many sequences, in place of a token budget."""

    def parts(self: Batch, max_tokens: int) -> Iterator[list[int]]:
        trained = [i for i, length in enumerate(self.input_lengths.tolist()) if length]
        for start in range(0, len(trained), count):
            yield trained[start : start + count]

    return parts


VARIATIONS = (
    *(f"{count} sequences" for count in (1, 2, 4)),
    *(f"{tokens} tokens" for tokens in (1, 30, 60)),
    "padded",
    "padded, with logits",
    "packed, with logits",
    "checkpointed",
    "one row a chunk",
    "three rows a chunk",
    "everything",
)


def varied(
    name: str, settings: PolicyGradientConfig, monkeypatch: pytest.MonkeyPatch, model: Any
) -> PolicyGradientConfig:
    count, _, unit = name.partition(" ")
    if unit == "sequences":
        monkeypatch.setattr(Batch, "parts", of_sequences(int(count)))
    if unit == "tokens":
        settings = settings.model_copy(update={"micro_batch_tokens": int(count)})
    if name.startswith(("padded", "packed")):
        assert ability_of(model) == Ability(True, Projection())
        projection = None if name.endswith("logits") else Projection()
        model.set_attn_implementation("rlvr_packed" if name.startswith("packed") else "sdpa")
        rlvr.forward._known[model] = Ability(name.startswith("packed"), projection)
    if name in ("checkpointed", "everything"):
        checkpoint_activations(model)
    rows = {"one row a chunk": 1, "three rows a chunk": 3, "everything": 2}.get(name)
    if rows:
        monkeypatch.setitem(rlvr.objectives.head._CHUNK, "cpu", rows * model.config.vocab_size)
    if name == "everything":
        monkeypatch.setattr(Batch, "parts", of_sequences(2))
    return settings


@pytest.mark.slow
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("variation", VARIATIONS)
def test_several_steps_on_one_generation_are_the_same(
    variation: str, aggregation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two passes of three optimiser steps, in float64 but for the norm layers."""
    settings = config(aggregation=aggregation, epochs=2, mini_batches=3)
    expected = update(tiny(), settings)
    assert len(expected[0]) == 6
    model = tiny()
    found = update(model, varied(variation, settings, monkeypatch, model))
    assert_same(found, expected, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("variation", VARIATIONS)
def test_one_step_is_the_same_to_1e_6_in_float32(
    variation: str, aggregation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(aggregation=aggregation)
    expected = update(tiny("float32"), settings)
    model = tiny("float32")
    found = update(model, varied(variation, settings, monkeypatch, model))
    whole = torch.cat([value.flatten() for value in expected[0][0].values()])
    gap = torch.cat([value.flatten() for value in found[0][0].values()]) - whole
    assert gap.norm() <= 1e-6 * whole.norm()
    assert found[2]["loss"] == pytest.approx(expected[2]["loss"], rel=1e-6, abs=1e-6)


def by_hand(model: PreTrainedModel, part: Batch, how: str, old: Tensor) -> Tensor:
    """The loss of one optimiser step from its formula, a sequence at a time with plain logits."""
    objectives, sequences, counts = [], 0, 0
    for i in range(len(part)):
        one = part.select([i])
        where = one.loss_mask.nonzero().squeeze(-1)
        if not len(where):
            continue
        logits = model(input_ids=one.input_ids[None], use_cache=False).logits[0] / 0.8
        logp = logits.log_softmax(-1)[where - 1]
        chosen = logp.gather(-1, one.input_ids[where, None]).squeeze(-1)
        ratio = (chosen - old[part.positions([i])][where]).exp()
        advantage = one.advantages[where]
        gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        value = -gain + 0.03 * (logp.exp() * logp).sum(-1)
        objectives.append(value.mean() if how == "seq-mean-token-mean" else value.sum())
        sequences += 1
        counts += len(where)
    divisor = {
        "token-mean": counts,
        "token-sum": 1,
        "seq-mean-token-mean": sequences,
        "seq-mean-token-sum": sequences,
        "seq-mean-token-sum-norm": 25 * sequences,
    }
    return torch.stack(objectives).sum() / divisor[how]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_each_of_several_steps_divides_by_its_own_tokens(
    aggregation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL's known failure: its second step of three would divide by the mean of all three."""
    settings = config(aggregation=aggregation, mini_batches=3).model_copy(
        update={"micro_batch_tokens": 20}
    )
    model = tiny()
    seen: list[Batch] = []
    plain_split = Batch.split

    def split(self: Batch, parts: int, generator: torch.Generator) -> list[Batch]:
        seen.extend(plain_split(self, parts, generator))
        return seen

    monkeypatch.setattr(Batch, "split", split)
    reference = copy.deepcopy(model)
    found = update(model, settings)
    assert len({part.totals.tokens for part in seen}) == 3  # uneven, or this shows nothing
    optimizer = PolicyUpdate(
        settings,
        policy=Policy(reference, tokenizer=None),
        reference=None,  # type: ignore[arg-type]
    ).optim
    for part, gradient in zip(seen, found[0], strict=True):
        assert part.old_logprobs is not None
        by_hand(reference, part, aggregation, part.old_logprobs).backward()
        for name, parameter in reference.named_parameters():
            assert parameter.grad is not None
            gap = (gradient[name] - parameter.grad).norm()
            assert gap <= 1e-6 * parameter.grad.norm(), name
        optimizer.step()
