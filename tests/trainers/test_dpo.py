"""DPO: its loss is the formula's, however the batch is split; an easy preference is learned."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from preferences import config, rows, settings, write

from rlvr.errors import UserError
from rlvr.policy import Policy, make_policy
from rlvr.trainers.config import DPOConfig, PreferenceObjectiveConfig, parse_config
from rlvr.trainers.dpo import completion_logps, make_judge, prepare_dpo, with_reference
from rlvr.trainers.given_run import encode_example
from rlvr.trainers.pairs import (
    EncodedPair,
    PairLearner,
    means,
    parts,
    preference_metrics,
    ranked_right,
)


def policy(seed: int = 0) -> Policy:
    return make_policy(hidden_size=16, layers=2, heads=2, max_length=64, seed=seed)


def encoded(policy: Policy, count: int) -> list[EncodedPair]:
    return [
        EncodedPair(
            row["id"],
            encode_example(policy.tokenizer, row["prompt"], row["chosen"]),
            encode_example(policy.tokenizer, row["prompt"], row["rejected"]),
        )
        for row in rows(count, seed=3)
    ]


def directly(policy: Policy, prompt: Sequence[int], completion: Sequence[int]) -> float:
    """The log-probability of a completion, one token after the other, without padding."""
    total = 0.0
    ids = list(prompt)
    with torch.no_grad():
        for token in completion:
            logits = policy.model(torch.tensor([ids])).logits[0, -1].double()
            total += torch.log_softmax(logits, -1)[token].item()
            ids.append(token)
    return total


def test_a_completions_logprob_counts_its_own_tokens_and_the_end_of_sequence() -> None:
    model = policy()
    [pair, other] = encoded(model, 2)
    examples = [pair.chosen, other.rejected]
    assert examples[0].completion_ids[-1] == model.tokenizer.eos_token_id
    expected = [directly(model, e.prompt_ids, e.completion_ids) for e in examples]
    with torch.no_grad():
        assert completion_logps(model.model, examples).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_the_formulas() -> None:
    reference, trained = policy(0), policy(1)
    beta = 0.3
    made = with_reference(reference.model, encoded(reference, 4), 10_000)
    judged = make_judge(trained.model, PreferenceObjectiveConfig(beta=beta))(made)
    for index, pair in enumerate(made):
        ratios = [
            directly(trained, e.prompt_ids, e.completion_ids)
            - directly(reference, e.prompt_ids, e.completion_ids)
            for e in (pair.chosen, pair.rejected)
        ]
        loss = math.log1p(math.exp(-beta * (ratios[0] - ratios[1])))
        assert judged.loss.losses[index].item() == pytest.approx(loss, rel=1e-4)
        assert judged.loss.chosen_rewards[index].item() == pytest.approx(beta * ratios[0], abs=1e-4)


def test_log_probabilities_may_be_means_over_tokens() -> None:
    """IPO as TRL has it: OpenRLHF, and the formula as printed, take sums."""
    model = policy()
    made = with_reference(policy(1).model, encoded(model, 6), 10_000)
    lengths = [[len(e.completion_ids) for e in (p.chosen, p.rejected)] for p in made]
    assert len({tuple(pair) for pair in lengths}) > 1
    settings = PreferenceObjectiveConfig(kind="ipo", beta=0.2)
    sums = make_judge(model.model, settings)(made)
    means = make_judge(model.model, settings.model_copy(update={"per_token": True}))(made)
    assert torch.equal(sums.metrics["chosen_logp"], means.metrics["chosen_logp"])
    for i, (chosen, rejected) in enumerate(lengths):
        rewards = sums.loss.chosen_rewards[i] / chosen, sums.loss.rejected_rewards[i] / rejected
        assert means.loss.chosen_rewards[i].item() == pytest.approx(rewards[0].item(), abs=1e-6)
        expected = ((rewards[0] - rewards[1]) / 0.2 - 2.5) ** 2
        assert means.loss.losses[i].item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_step_does_not_depend_on_the_micro_batches(tmp_path: Path) -> None:
    found = []
    for budget in (10_000, 70, 1):
        model = policy()
        made = with_reference(policy(1).model, encoded(model, 12), 10_000)
        run = config("dpo", "", tmp_path, batch_size=12, micro_batch_tokens=budget)
        assert isinstance(run, DPOConfig)
        judge = make_judge(model.model, run.objective)
        learner = PairLearner(run, policy=model, judge=judge, train=made, held_out=made)
        found.append((learner.step(1), learner.evaluate(1)))
    assert len(list(parts(made, 1))) == 12
    for one in found[1:]:
        assert one[0] == pytest.approx(found[0][0], rel=1e-4, abs=1e-4)
        assert one[1] == pytest.approx(found[0][1], rel=1e-3, abs=1e-3)


def test_parts_keep_pairs_whole_and_within_the_budget() -> None:
    made = encoded(policy(), 30)
    split = list(parts(made, 200))
    assert sorted(p.id for part in split for p in part) == sorted(p.id for p in made)
    assert all(2 * len(part) * max(p.length for p in part) <= 200 for part in split)
    assert len(split) > 1


def test_a_policy_that_is_its_own_reference_is_at_chance_and_at_log_2() -> None:
    model = policy()
    made = with_reference(model.model, encoded(model, 10), 100)
    judge = make_judge(model.model, PreferenceObjectiveConfig())
    with torch.no_grad():
        found = means([judge(part) for part in parts(made, 100)])
    assert found["loss"] == pytest.approx(math.log(2.0), abs=1e-7)
    assert (found["accuracy"], found["margin"]) == (0.5, 0.0)


def test_a_tie_is_worth_one_half() -> None:
    assert ranked_right(torch.tensor([1.5, 0.0, -0.1])).tolist() == [1.0, 0.5, 0.0]


def test_pairs_of_one_problem_count_as_one() -> None:
    found = preference_metrics(["a", "a", "b"], [1.0, -2.0, 3.0])
    assert found["eval/problems"] == 2.0
    assert found["eval/accuracy"] == pytest.approx((0.5 + 1.0) / 2)
    assert found["eval/margin"] == pytest.approx((-0.5 + 3.0) / 2)
    assert found["eval/margin/low"] < 0 < found["eval/margin/high"]


def test_an_easy_preference_is_learned_and_holds_on_pairs_never_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "rows.jsonl", rows(120))
    run = config("dpo", data, tmp_path / "run", steps=40, held_out={"count": 40, "every": 40})
    assert isinstance(run, DPOConfig)
    (tmp_path / "run").mkdir()
    prepare_dpo(run)(tmp_path / "run", False)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    assert (first["eval/accuracy"], first["eval/margin"]) == (0.5, 0.0)
    assert last["eval/accuracy"] == 1.0
    assert last["eval/margin/low"] > 0.5
    assert "held-out accuracy 1.000 [" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"kind": "sigmoyd"}, "dpo/sigmoid"),
        ({"kind": "hinge", "label_smoothing": 0.1}, "dpo/hinge has no label_smoothing"),
        ({"beta": 0.0}, "objective.beta"),
    ],
)
def test_an_objective_that_cannot_be_is_refused(
    tmp_path: Path, objective: dict[str, object], message: str
) -> None:
    data = write(tmp_path / "rows.jsonl", rows(40))
    with pytest.raises(UserError, match=message):
        values = settings("dpo", data, tmp_path / "run", objective=objective)
        prepare_dpo(parse_config(values, "test"))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["hinge", "ipo"])
def test_the_other_losses_of_the_family_train_too(kind: str, tmp_path: Path) -> None:
    model = policy()
    data = write(tmp_path / "rows.jsonl", rows(40))
    run = config("dpo", data, tmp_path / "run", objective={"kind": kind, "beta": 0.5})
    assert isinstance(run, DPOConfig)
    made = with_reference(model.model, encoded(model, 32), 10_000)
    judge = make_judge(model.model, run.objective)
    learner = PairLearner(run, policy=model, judge=judge, train=made, held_out=made)
    for step in range(1, 16):
        learner.step(step)
    assert learner.evaluate(15)["eval/accuracy"] > 0.9
