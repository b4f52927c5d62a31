"""SFT: the held-out loss is what a direct computation gives, and a pattern is learned."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from preferences import config, rows, settings, write

from rlvr.errors import UserError
from rlvr.policy import load_policy, make_policy
from rlvr.trainers.config import SupervisedConfig, parse_config
from rlvr.trainers.given_run import encode_example
from rlvr.trainers.sft_run import load_sides, measure, prepare_sft


def test_the_held_out_loss_is_the_mean_over_tokens_and_its_interval_holds_it() -> None:
    policy = make_policy(hidden_size=16, layers=1, heads=2, max_length=64)
    examples = [
        encode_example(policy.tokenizer, prompt, completion)
        for prompt, completion in [("a?", "b"), ("cc?", "long answer"), ("d", "")]
    ]
    total, count = 0.0, 0
    for example in examples:
        ids = torch.tensor([[*example.prompt_ids, *example.completion_ids]])
        with torch.no_grad():
            logprobs = torch.log_softmax(policy.model(ids).logits[0].double(), -1)
        for offset, token in enumerate(example.completion_ids):
            total -= logprobs[len(example.prompt_ids) - 1 + offset, token].item()
            count += 1
    found = measure(policy, ["1", "2", "3"], examples, 20)
    assert count == 2 + 12 + 1
    assert found["eval/tokens"] == count
    assert found["eval/loss"] == pytest.approx(total / count, rel=1e-5)
    assert found["eval/perplexity"] == pytest.approx(math.exp(total / count), rel=1e-5)
    assert found["eval/loss/low"] < found["eval/loss"] < found["eval/loss/high"]


def test_micro_batches_change_no_measurement() -> None:
    policy = make_policy(hidden_size=16, layers=1, heads=2, max_length=64)
    examples = [encode_example(policy.tokenizer, "a?", "b" * n) for n in range(9)]
    ids = [str(n) for n in range(9)]
    whole, split = (measure(policy, ids, examples, budget) for budget in (10_000, 1))
    assert split == pytest.approx(whole, rel=1e-5)


def test_a_pattern_is_learned_and_the_policy_can_be_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "rows.jsonl", rows(100))
    run = config("sft", data, tmp_path / "run", steps=40, held_out={"count": 20, "every": 40})
    assert isinstance(run, SupervisedConfig)
    (tmp_path / "run").mkdir()
    prepare_sft(run)(tmp_path / "run", False)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    assert last["eval/loss/high"] < 0.5 * first["eval/loss/low"]
    assert "held-out loss" in capsys.readouterr().out
    load_policy(str(tmp_path / "run" / "policy"))


def environment(tmp_path: Path, **changes: object) -> SupervisedConfig:
    values = settings("sft", "", tmp_path / "run", **changes)
    values.pop("data")
    values.pop("completion_column")  # it is of data
    values.setdefault("environment", {"name": "arithmetic", "split": "train", "size": 30})
    made = parse_config(values, "test")
    assert isinstance(made, SupervisedConfig)
    return made


def test_an_environments_solutions_are_trained_on_and_those_of_its_test_split_held_out(
    tmp_path: Path,
) -> None:
    train, held_out = load_sides(environment(tmp_path, held_out={"count": 7}))
    assert (len(train), len(held_out)) == (30, 7)
    assert all("/train/" in row.id for row in train)
    assert all("/test/" in row.id for row in held_out)
    assert all(row.completion for row in train + held_out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held_out": {"fraction": 0.1}}, "give held_out.count"),
        ({"environment": {"name": "arithmetic", "size": 30}}, "environment.split"),
        ({"environment": None}, "either data or environment"),
        ({"environment": {"name": "arithmetik", "split": "train"}}, "did you mean 'arithmetic'"),
    ],
)
def test_an_environment_that_cannot_be_split_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_sides(environment(tmp_path, **change))
