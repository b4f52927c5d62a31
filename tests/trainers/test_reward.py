"""Reward models: the loss is the formula's, however split, and transformers loads the result."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from preferences import config, rows, write
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rlvr.errors import ConfigError
from rlvr.policy import Policy, make_policy, save_policy
from rlvr.trainers.config import RewardConfig, RewardObjectiveConfig
from rlvr.trainers.given_run import encode_example
from rlvr.trainers.pairs import EncodedPair, PairLearner
from rlvr.trainers.reward import initial_policy, make_judge, prepare_reward, with_scalar_head
from rlvr.verifiers.reward_model import score_sequences


def scorer(seed: int = 0) -> Policy:
    return with_scalar_head(
        make_policy(hidden_size=16, layers=2, heads=2, max_length=64, seed=seed), seed
    )


def encoded(policy: Policy, count: int) -> list[EncodedPair]:
    return [
        EncodedPair(
            row["id"],
            encode_example(policy.tokenizer, row["prompt"], row["chosen"]),
            encode_example(policy.tokenizer, row["prompt"], row["rejected"]),
        )
        for row in rows(count, seed=3)
    ]


def score_alone(policy: Policy, text: str) -> float:
    """What transformers says of one text, followed by the end of sequence."""
    ids = [*policy.tokenizer(text)["input_ids"], policy.tokenizer.eos_token_id]
    with torch.no_grad():
        return float(policy.model(torch.tensor([ids])).logits.item())


def test_the_backbone_is_the_policys_and_the_head_depends_on_the_seed_alone() -> None:
    policy = make_policy(hidden_size=16, layers=2, heads=2)
    first, again, other = (with_scalar_head(policy, seed) for seed in (0, 0, 1))
    for name, value in policy.model.base_model.state_dict().items():
        assert torch.equal(value, first.model.base_model.state_dict()[name])
    assert torch.equal(first.model.score.weight, again.model.score.weight)
    assert not torch.equal(first.model.score.weight, other.model.score.weight)
    assert first.model.config.num_labels == 1
    assert policy.model.config.num_labels != 1  # the policy's own configuration is left alone


def test_the_loss_is_the_formulas() -> None:
    model = scorer()
    made = encoded(model, 5)
    judged = make_judge(model.model, RewardObjectiveConfig(centre=0.1))(made)
    for index, row in enumerate(rows(5, seed=3)):
        chosen = score_alone(model, row["prompt"] + row["chosen"])
        rejected = score_alone(model, row["prompt"] + row["rejected"])
        expected = math.log1p(math.exp(rejected - chosen)) + 0.1 * (chosen + rejected) ** 2
        assert judged.loss.losses[index].item() == pytest.approx(expected, abs=1e-6)
        assert judged.loss.chosen_rewards[index].item() == pytest.approx(chosen, abs=1e-6)


def test_a_step_does_not_depend_on_the_micro_batches(tmp_path: Path) -> None:
    found = []
    for budget in (10_000, 70, 1):
        model = scorer()
        made = encoded(model, 12)
        run = config("reward", "", tmp_path, batch_size=12, micro_batch_tokens=budget)
        assert isinstance(run, RewardConfig)
        judge = make_judge(model.model, RewardObjectiveConfig(centre=0.01))
        learner = PairLearner(run, policy=model, judge=judge, train=made, held_out=made)
        found.append((learner.step(1), learner.evaluate(1)))
    for one in found[1:]:
        assert one[0] == pytest.approx(found[0][0], rel=1e-4, abs=1e-5)
        assert one[1] == pytest.approx(found[0][1], rel=1e-3, abs=1e-4)


def test_padding_changes_no_score() -> None:
    model = scorer()
    sequences = [[5, 6, 7, 1], [5, 6, 7, 8, 9, 10, 11, 12, 1], [9, 1]]
    with torch.no_grad():
        together = score_sequences(model.model, sequences)
        alone = torch.cat([score_sequences(model.model, [ids]) for ids in sequences])
    assert torch.allclose(together, alone, atol=1e-6)


def test_an_easy_preference_is_learned_and_holds_on_pairs_never_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "rows.jsonl", rows(120))
    run = config("reward", data, tmp_path / "run", steps=40, held_out={"count": 40, "every": 40})
    assert isinstance(run, RewardConfig)
    (tmp_path / "run").mkdir()
    prepare_reward(run)(tmp_path / "run", False)
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["eval/accuracy"] == 1.0
    assert last["eval/margin/low"] > 0.5
    assert "held-out accuracy 1.000 [" in capsys.readouterr().out
    assert transformers_prefers_good(tmp_path / "run" / "policy")


def transformers_prefers_good(folder: Path) -> bool:
    """Load the folder with nothing of this project, and score a padded batch of two."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    texts = [f"7 1?{text}{tokenizer.eos_token}" for text in ("12345678 good", "1 evil")]
    with torch.no_grad():
        scores = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits[:, 0]
    return bool(scores[0] > scores[1])


def test_a_run_may_begin_from_a_saved_policy_but_not_from_a_reward_model(tmp_path: Path) -> None:
    policy = make_policy(hidden_size=16, layers=1, heads=2, max_length=64, seed=5)
    save_policy(policy, tmp_path / "policy")
    save_policy(with_scalar_head(policy, 0), tmp_path / "reward")
    data = write(tmp_path / "rows.jsonl", rows(40))
    run = config("reward", data, tmp_path / "run", policy=str(tmp_path / "policy"))
    assert torch.equal(
        with_scalar_head(initial_policy(run), 0).model.base_model.embed_tokens.weight,
        policy.model.base_model.embed_tokens.weight,
    )
    run = config("reward", data, tmp_path / "run", policy=str(tmp_path / "reward"))
    with pytest.raises(ConfigError, match="a reward model already"):
        prepare_reward(run)  # type: ignore[arg-type]
