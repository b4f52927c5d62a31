"""The reward model as a verifier: it says what the trainer says, in this process and in workers."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import pytest
import torch

import rlvr
from rlvr import Completion, FinishReason, Outcome, Task
from rlvr.errors import ConfigError, UserError
from rlvr.policy import Policy, make_policy, save_policy
from rlvr.trainers.config import RewardObjectiveConfig
from rlvr.trainers.given_run import encode_example
from rlvr.trainers.pairs import EncodedPair
from rlvr.trainers.reward import make_judge, with_scalar_head
from rlvr.verifiers.reward_model import load_reward_model

TASK = Task(id="1", prompt="2+2?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("reward")
    policy = make_policy(hidden_size=16, layers=2, heads=2, max_length=64)
    model = with_scalar_head(policy, 0)
    with torch.no_grad():
        model.model.score.weight *= 100.0  # scores that are worth telling apart
    save_policy(model, path)
    return str(path)


@pytest.mark.parametrize("prompt", ["2+2?", [{"role": "user", "content": "2+2?"}]])
def test_it_scores_what_the_trainer_scores(folder: str, prompt: rlvr.types.Prompt) -> None:
    model, tokenizer = load_reward_model(folder)
    texts = ("4", "certainly not 5")
    chosen, rejected = (encode_example(tokenizer, prompt, text) for text in texts)
    pair = EncodedPair("1", chosen, rejected)
    with torch.no_grad():
        judged = make_judge(model, RewardObjectiveConfig())([pair])
    verifier = rlvr.load_verifier("reward_model", model=folder, squash="none")
    rewards = [verifier.verify(Task(id="1", prompt=prompt), text).reward for text in texts]
    trained = [judged.loss.chosen_rewards.item(), judged.loss.rejected_rewards.item()]
    assert rewards == pytest.approx(trained, abs=1e-5)
    assert abs(trained[0] - trained[1]) > 0.01


def test_a_sigmoid_keeps_rewards_between_0_and_1_and_the_score_beside_it(folder: str) -> None:
    verifier = rlvr.load_verifier("reward_model", model=folder)
    verdict = verifier.verify(TASK, "4")
    assert verdict.reward is not None
    assert verdict.reward == pytest.approx(1 / (1 + math.exp(-verdict.metrics["score"])))


def test_the_threshold_decides_what_is_correct(folder: str) -> None:
    outcomes = {
        threshold: rlvr.load_verifier("reward_model", model=folder, threshold=threshold)
        .verify(TASK, "4")
        .outcome
        for threshold in (0.0, 1.0)
    }
    assert outcomes == {0.0: Outcome.CORRECT, 1.0: Outcome.PARTIAL}
    raw = rlvr.load_verifier("reward_model", model=folder, squash="none", threshold=1e9)
    verdict = raw.verify(TASK, "4")
    assert verdict.reward is not None
    below = Outcome.PARTIAL if verdict.reward > 0 else Outcome.INCORRECT
    assert verdict.outcome is below


@pytest.mark.slow
def test_workers_say_what_this_process_says(folder: str) -> None:
    verifier = rlvr.load_verifier("reward_model", model=folder)
    texts = ["4", "5", "", "four" * 10]
    here = [verifier.verify(TASK, text).reward for text in texts]
    verdicts = rlvr.verify_many(verifier, [(TASK, text) for text in texts], workers=2, timeout=60.0)
    assert [verdict.reward for verdict in verdicts] == here


def test_it_is_picklable_without_its_model(folder: str) -> None:
    verifier = rlvr.load_verifier("reward_model", model=folder)
    verifier.verify(TASK, "4")
    data = pickle.dumps(verifier)
    assert len(data) < 1000
    assert pickle.loads(data) == verifier


def test_thinking_is_not_scored(folder: str) -> None:
    verifier = rlvr.load_verifier("reward_model", model=folder)
    plain, thought = (verifier.verify(TASK, text) for text in ("4", "<think>hm</think>4"))
    assert plain.reward == thought.reward
    cut = Completion(text="<think>hm", finish_reason=FinishReason.LENGTH)
    assert verifier.verify(TASK, cut).outcome is Outcome.TRUNCATED


def test_a_completion_that_is_too_long_for_the_model_has_no_reward(folder: str) -> None:
    verdict = rlvr.load_verifier("reward_model", model=folder).verify(TASK, "x" * 100)
    assert verdict.reward is None
    assert "reads 64 at the most" in verdict.reason


def test_a_score_that_is_not_finite_is_an_error_of_the_verifier(tmp_path: Path) -> None:
    model = with_scalar_head(make_policy(hidden_size=16, layers=1, heads=2), 0)
    with torch.no_grad():
        model.model.score.weight.fill_(math.nan)
    save_policy(model, tmp_path)
    verdict = rlvr.load_verifier("reward_model", model=str(tmp_path)).verify(TASK, "4")
    assert verdict.outcome is Outcome.VERIFIER_ERROR
    assert "score is nan" in verdict.reason


def test_a_policy_is_no_reward_model(tmp_path: Path) -> None:
    save_policy(make_policy(hidden_size=16, layers=1, heads=2), tmp_path)
    with pytest.raises(UserError, match="is no reward model: it holds a Qwen2ForCausalLM"):
        rlvr.load_verifier("reward_model", model=str(tmp_path))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("two labels in the configuration", "cannot load the reward model"),
        ("a head of two", "it has 2 labels"),
        ("no head", "it has no weights for score.weight"),
        ("cut weights", "cannot load the reward model"),
    ],
)
def test_what_is_no_reward_model_is_refused_in_one_line(
    tmp_path: Path, damage: str, message: str
) -> None:
    policy = make_policy(hidden_size=16, layers=1, heads=2)
    model = with_scalar_head(policy, 0)
    if damage == "a head of two":
        model.model.config.num_labels = 2
        model = Policy(type(model.model)(model.model.config), model.tokenizer)
    save_policy(model, tmp_path)
    weights = tmp_path / "model.safetensors"
    if damage == "two labels in the configuration":
        config = json.loads((tmp_path / "config.json").read_text())
        config["id2label"] = {"0": "a", "1": "b"}
        (tmp_path / "config.json").write_text(json.dumps(config))
    if damage == "no head":
        save_policy(policy, tmp_path / "causal")
        weights.write_bytes((tmp_path / "causal" / "model.safetensors").read_bytes())
    if damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    verifier = rlvr.load_verifier("reward_model", model=str(tmp_path))
    with pytest.raises(UserError, match=message) as caught:
        verifier.verify(TASK, "4")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "./absent"}, "there is no such folder"),
        ({"model": "absent"}, "there is no such folder"),
        ({"squash": "tanh"}, "sigmoid or none"),
        ({"threshold": math.nan}, "expected a finite number"),
    ],
)
def test_wrong_options_are_refused_at_once(
    folder: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises((ConfigError, UserError), match=message):
        rlvr.load_verifier("reward_model", **{"model": folder, **options})
