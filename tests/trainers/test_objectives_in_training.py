"""The parts of an objective, wired: each does in a run what its function does by itself."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from learners import blur, configured, group, learner, ragged, weights

from rlvr.errors import ConfigError
from rlvr.objectives.kl import kl_estimate
from rlvr.trainers.config import ReferenceConfig
from rlvr.trainers.experience import Experience, pack, shaped_rewards
from rlvr.trainers.policy_gradient import PolicyGradientLearner
from rlvr.trainers.reference_model import Reference
from rlvr.trainers.scoring import REFERENCE, RETURNS, VALUES
from rlvr.trainers.without_effect import doubts
from rlvr.types import Verdict

HIGH = {"optimizer": {"lr": 1e-2}}


@pytest.mark.parametrize(
    "objective",
    [
        {"loss": "gspo"},
        {"loss": "gmpo"},
        {"loss": "cispo", "aggregation": "token-mean"},
        {"loss": "clip-cov", "token_selection": {"name": "clip-cov", "share": 0.2, "low": 0.0}},
        {"loss": "kl-cov", "token_selection": {"name": "kl-cov", "share": 0.2}, "epochs": 2},
        {"token_selection": {"name": "top-entropy", "share": 0.4}, "aggregation": "token-mean"},
        {"mismatch": {"level": "sequence", "mode": "truncate", "high": 4.0}},
        {"mismatch": {"level": "token", "mode": "mask", "high": 1.5}},
        {"kl_coefficient": 0.5, "kl_ratio": True, "epochs": 2, "aggregation": "token-sum"},
        {"count_masked": True, "entropy_coefficient": 0.1},
    ],
    ids=lambda objective: "-".join(map(str, objective)),
)
def test_an_objective_is_the_same_for_every_split(
    tmp_path: Path, objective: dict[str, Any]
) -> None:
    found, logged = [], []
    for budget in (1, 12, 10_000):
        one = learner(
            tmp_path,
            objective=objective,
            rollout={"mask_truncated": True},
            micro_batch_tokens=budget,
        )
        blur(one)
        before = weights(one)
        logged.append(one.updating.update(ragged(), step=1))
        found.append(weights(one) - before)
    assert found[0].abs().max() > 0
    for other, metrics in zip(found[1:], logged[1:], strict=True):
        assert torch.allclose(found[0], other, atol=1e-6)
        for name, value in metrics.items():
            assert value == pytest.approx(logged[0][name], rel=1e-4, abs=1e-6), name


def test_a_selection_trains_its_tokens_alone(tmp_path: Path) -> None:
    one = learner(tmp_path, objective={"token_selection": {"name": "top-entropy", "share": 0.4}})
    blur(one)
    batch = ragged()
    selected = one.updating.select(batch, seed=0)
    assert selected is not None
    entropy = one.updating.scorer.column(batch, one.updating.logprobs_and_entropy, (2,))[:, 1]
    mask = batch.loss_mask
    assert 0 < int(selected.sum()) < int(mask.sum())
    assert float(entropy[selected].min()) >= float(entropy[mask & ~selected].max())


def test_a_sampler_that_disagrees_is_measured_and_corrected(tmp_path: Path) -> None:
    """The sampler says e^-1 for each token; the policy, nearly uniform over 20 tokens, less."""
    updates = {}
    for level in ("off", "token", "sequence", "geometric"):
        one = learner(tmp_path, objective={"mismatch": {"level": level, "high": 2.0}})
        before = weights(one)
        metrics = one.updating.update(ragged(), step=1)
        updates[level] = weights(one) - before
        assert metrics["sampler_gap/mean"] > 1.0
        assert metrics["mismatch/mean"] < 0.5
    assert not torch.allclose(updates["off"], updates["token"], atol=1e-9)
    agreeing = {}
    for level in ("off", "token", "sequence"):
        one = learner(tmp_path, objective={"mismatch": {"level": level}})
        batch = ragged()
        own = one.updating.scorer.logprobs(one.policy, batch)
        before = weights(one)
        batch = dataclasses.replace(batch, sampler_logprobs=own)
        metrics = one.updating.update(batch, step=1)
        agreeing[level] = weights(one) - before
        assert metrics["sampler_gap/mean"] < 1e-6
        assert metrics["mismatch/effective"] == pytest.approx(1.0, abs=1e-6)
    assert torch.allclose(agreeing["off"], agreeing["sequence"], atol=1e-9)


def test_rejection_leaves_disagreeing_sequences_out(tmp_path: Path) -> None:
    one = learner(
        tmp_path, objective={"mismatch": {"level": "token", "mode": "reject", "low": 0.5}}
    )
    before = weights(one)
    metrics = one.updating.update(ragged(), step=1)
    assert metrics["mismatch/zeroed"] == 1.0
    assert torch.equal(before, weights(one))


def test_stale_sequences_are_not_unlearnt(tmp_path: Path) -> None:
    """The sampler's e^-1 a token is far above the policy's: half the advantages are negative."""
    one = learner(tmp_path, objective={"off_policy_threshold": 0.5})
    metrics = one.updating.update(ragged(), step=1)
    # Sequences 1, 3 and 5 have negative advantages and 7, 5 and 6 tokens; 3 does not train.
    assert metrics["mismatch/stale"] == pytest.approx((7 + 6) / (1 + 7 + 3 + 2 + 6))


@pytest.mark.parametrize("level", ["off", "token"])
def test_a_truncated_distribution_is_doubted_and_can_be_corrected(
    tmp_path: Path, level: str
) -> None:
    """Sampling by top-p biases the gradient (trl#6789); the weights know by how much."""
    changes = {"sampling": {"top_p": 0.3}, "objective": {"mismatch": {"level": level}}}
    one = learner(tmp_path, **changes)
    metrics = one.step(1)
    assert metrics["sampler_gap/mean"] > 0.5
    assert metrics["mismatch/mean"] < 0.6
    said = doubts(one.config)
    assert len(said) == (1 if level == "off" else 0)
    assert all("top_p is 0.3" in line and "\n" not in line for line in said)


def experience(one: PolicyGradientLearner) -> Experience:
    groups = [group("a", [1.0, 0.0, 1.0, 0.0]), group("b", [0.0, 0.0, 0.0, 1.0])]
    made = pack(groups, one.config)
    batch = one.updating.scorer.complete(made.batch, made.replayed)
    return dataclasses.replace(made, batch=batch)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"algorithm": "kl_cov"}, "acts on the probability ratio"),
        ({"algorithm": "dapo"}, None),
        ({"algorithm": "dapo", "objective": {"mini_batches": 1}}, "acts on the probability ratio"),
        ({"objective": {"off_policy_threshold": 0.5}}, "compares the policy with the one that"),
        ({"objective": {"off_policy_threshold": 0.5, "epochs": 2}}, None),
        ({"algorithm": "gspo", "rollout": {"max_staleness": 1}}, None),
        ({"algorithm": "grpo", "objective": {"epochs": 2}}, None),
        ({"algorithm": "remax"}, None),
        ({"algorithm": "remax", "objective": {"epochs": 2}}, "has no probability ratio"),
        ({"algorithm": "opo", "replay": {}}, "has no probability ratio"),
        (
            {"objective": {"kl_coefficient": 0.1}, "reference": {"update": "sync", "every": 3}},
            "the reference never changes",
        ),
        ({"dtype": "float16"}, "gradients are not scaled"),
        ({"dtype": "bfloat16"}, None),
    ],
)
def test_what_does_nothing_or_harm_is_doubted(
    tmp_path: Path, changes: dict[str, Any], word: str | None
) -> None:
    said = doubts(configured(tmp_path, **changes))
    assert len(said) == (word is not None)
    assert word is None or word in said[0]


def test_kl_cov_with_one_update_a_batch_is_the_plain_policy_gradient(tmp_path: Path) -> None:
    """Which is why it is doubted."""
    found = []
    for loss in ("kl-cov", "importance"):
        one = learner(tmp_path / loss, algorithm="kl_cov", objective={"loss": loss}, **HIGH)
        one.step(1)
        found.append(weights(one))
    assert torch.equal(*found)


def test_the_divergence_is_taken_off_the_reward(tmp_path: Path) -> None:
    settings = {"kl_coefficient": 0.3, "kl_in": "reward", "kl_estimator": "k1", "scale": "none"}
    one = learner(tmp_path, objective=settings)
    blur(one)
    made = experience(one)
    batch, mask = made.batch, made.batch.loss_mask
    assert batch.old_logprobs is not None
    apart = kl_estimate(batch.old_logprobs[mask], batch.columns[REFERENCE][mask], "k1")
    sums = torch.zeros(8).index_add(0, batch.sequence_ids[mask], apart)
    rewards = torch.tensor([1.0, 0, 1, 0, 0, 0, 0, 1]) - 0.3 * sums
    expected = torch.cat([part - part.mean() for part in rewards.split(4)])
    found = one.updating.compare(made)
    assert torch.allclose(
        found.batch.advantages[mask], expected[batch.sequence_ids[mask]], atol=1e-5
    )
    assert found.metrics["kl/reference"] == pytest.approx(apart.mean().item(), rel=1e-4)
    # It is no term of the loss then, which has the plain policy gradient's scale.
    assert "kl/reference" not in one.updating.update(found.batch, 1)


def test_returns_give_each_token_the_penalties_that_follow_it(tmp_path: Path) -> None:
    settings = {
        "advantage": "returns",
        "kl_coefficient": 0.3,
        "kl_in": "reward",
        "kl_estimator": "k1",
        "whiten": False,
    }
    one = learner(tmp_path, objective=settings)
    blur(one)
    made = experience(one)
    batch, mask = made.batch, made.batch.loss_mask
    assert batch.old_logprobs is not None
    apart = (batch.old_logprobs - batch.columns[REFERENCE])[mask].double()
    ids = batch.sequence_ids[mask]
    expected = []
    for i in range(len(ids)):
        later = [j for j in range(i, len(ids)) if ids[j] == ids[i]]
        reward = made.rewards.rewards[ids[i]].item()
        expected.append(reward - 0.3 * sum(apart[j].item() for j in later))
    found = one.updating.compare(made).batch.advantages[mask]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-5)


def test_the_coefficient_follows_the_divergence(tmp_path: Path) -> None:
    changes = {"kl_coefficient": 0.1, "kl_target": 1e-9, "kl_horizon": 100}
    one = learner(tmp_path, objective=changes, **HIGH)
    for step in (1, 2, 3):
        one.step(step)
    # Two steps beyond the target, by the largest change of 0.2 * 16 / 100 each; the first has 0.
    assert one.updating.kl_coefficient == pytest.approx(0.1 * 0.968 * 1.032**2, rel=1e-6)
    saved = one.updating.state()
    one.updating.kl_coefficient = 0.0
    one.updating.restore(saved)
    assert one.updating.kl_coefficient == saved["kl_coefficient"]


def test_the_coefficient_follows_the_divergence_that_is_in_the_reward(tmp_path: Path) -> None:
    changes = {"kl_coefficient": 0.1, "kl_target": 1e-9, "kl_horizon": 100}
    one = learner(
        tmp_path,
        algorithm="ppo",
        objective=changes,
        critic={"optimizer": {"lr": 1e-3}, "warmup_steps": 1},
        steps=3,
        **HIGH,
    )
    found = [one.step(step) for step in (1, 2, 3)]
    # The policy has not moved yet in the first two steps, in the first one because it may not.
    assert [row["kl/reference"] for row in found[:2]] == [0.0, 0.0]
    assert found[1]["kl/coefficient"] == pytest.approx(0.1 * 0.968)
    assert found[2]["kl/reference"] != 0.0
    change = 1.032 if found[2]["kl/reference"] > 0 else 0.968
    expected = found[2]["kl/coefficient"] * change
    assert one.updating.kl_coefficient == pytest.approx(expected, rel=1e-6)


def test_the_coefficient_stays_where_nothing_is_measured(tmp_path: Path) -> None:
    changes = {"kl_coefficient": 0.1, "kl_target": 1.0, "kl_in": "loss", "kl_estimator": "k3"}
    one = learner(tmp_path, algorithm="ppo", objective=changes, critic={"warmup_steps": 1}, steps=2)
    metrics = one.step(1)
    assert "kl/reference" not in metrics
    assert metrics["kl/coefficient"] == one.updating.kl_coefficient == 0.1


@pytest.mark.parametrize("algorithm", ["grpo", "ppo", "reinforce_pp", "remax"])
def test_a_step_whose_completions_were_all_cut_short_is_skipped(
    tmp_path: Path, algorithm: str
) -> None:
    one = learner(
        tmp_path,
        algorithm=algorithm,
        sampling={"max_new_tokens": 1},
        rollout={"mask_truncated": True},
        objective={"kl_coefficient": 0.1},
        reference={"update": "sync", "every": 2},
        steps=2,
        **HIGH,
    )
    assert one.reference is not None
    with torch.no_grad():  # as if earlier steps had trained it
        next(one.policy.model.parameters()).add_(1.0)
    before = weights(one)
    for step in (1, 2):
        metrics = one.step(step)
        assert metrics["update/skipped"] == 1
        assert not [key for key, value in metrics.items() if math.isnan(value)]
        own = torch.cat([p.flatten() for p in one.reference.policy.model.parameters()])
        assert torch.equal(own, before) is (step == 2), "the reference follows all the same"
    assert torch.equal(weights(one), before)
    assert one.optim.updates == 0


@pytest.mark.parametrize(("update", "share"), [("sync", 1.0), ("average", 0.25)])
def test_a_reference_follows_and_comes_back_from_a_checkpoint(
    tmp_path: Path, update: str, share: float
) -> None:
    rate = {"rate": 0.25} if update == "average" else {}
    changes: dict[str, Any] = {"reference": {"update": update, "every": 2, **rate}, **HIGH}
    one = learner(tmp_path, objective={"kl_coefficient": 0.1}, steps=4, **changes)
    assert one.reference is not None
    start = weights(one)
    for step in (1, 2, 3):
        one.step(step)
        if step == 1:
            own = torch.cat([p.flatten() for p in one.reference.policy.model.parameters()])
            assert torch.equal(own, start)
        if step == 2:
            moved = weights(one)
    own = torch.cat([p.flatten() for p in one.reference.policy.model.parameters()])
    assert torch.allclose(own, start + share * (moved - start), atol=1e-7)
    one.reference.save(tmp_path)
    other = learner(tmp_path, objective={"kl_coefficient": 0.1}, **changes).reference
    assert other is not None
    other.load(tmp_path)
    loaded = torch.cat([p.flatten() for p in other.policy.model.parameters()])
    assert torch.equal(own, loaded)


def test_a_fixed_reference_writes_nothing(tmp_path: Path) -> None:
    one = learner(tmp_path / "run", objective={"kl_coefficient": 0.1})
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    assert one.reference is not None
    Reference(one.reference.policy, ReferenceConfig()).save(folder)
    assert list(folder.iterdir()) == []


def test_rewards_are_weighted_shaped_and_punished_in_that_order(tmp_path: Path) -> None:
    one = learner(
        tmp_path,
        reward={
            "weights": {"right": 2.0, "style": -0.5, "reward": 1.0},
            "shaping": [{"name": "scale", "factor": 0.5}, {"name": "clip", "low": -1, "high": 1}],
        },
        rollout={"overlong_buffer": 4},
    )
    plain = group("a", [1.0, 0.0, 0.5, 1.0])
    parts = [{"right": 1.0, "style": 1.0}, {"right": 0.0, "style": 0.0}, {"right": 0, "style": 3}]
    rollouts = [
        dataclasses.replace(
            rollout,
            verdict=Verdict(reward=rollout.reward, outcome=rollout.verdict.outcome, metrics=some),
        )
        for rollout, some in zip(
            plain.rollouts, [*parts, {"right": 1.0, "style": 0.0}], strict=True
        )
    ]
    found = shaped_rewards(rollouts, torch.zeros(4, dtype=torch.int64), one.config)
    lengths = [len(rollout.completion.token_ids) for rollout in rollouts]
    weighted = [min(1.0, 0.5 * value) for value in (2.0 - 0.5 + 1.0, 0.0, -1.5 + 0.5, 2.0 + 1.0)]
    expected = [w - max(0.0, (n - 2) / 4) for w, n in zip(weighted, lengths, strict=True)]
    assert found.tolist() == pytest.approx(expected)
    with pytest.raises(ConfigError, match=r"reward.weights names 'right', .* task 'a'"):
        shaped_rewards(plain.rollouts, torch.zeros(4, dtype=torch.int64), one.config)


def test_the_trainer_sees_the_sampled_ids_whatever_the_text_says(tmp_path: Path) -> None:
    """Text that is tokenised again gives other ids (trl#5224): it is never looked at."""
    one = learner(tmp_path)
    plain = group("a", [1.0, 0.0, 1.0, 0.0])
    rollouts = tuple(
        dataclasses.replace(
            rollout, completion=dataclasses.replace(rollout.completion, text="something else")
        )
        for rollout in plain.rollouts
    )
    batch = pack([dataclasses.replace(plain, rollouts=rollouts)], one.config).batch
    for i, rollout in enumerate(plain.rollouts):
        completion = rollout.completion
        part = batch.select([i])
        assert tuple(part.input_ids.tolist()) == (
            *completion.prompt_token_ids,
            *completion.token_ids,
        )
        assert part.loss_mask.tolist() == [False] * 3 + [True] * len(completion.token_ids)
        sampled = part.sampler_logprobs[part.loss_mask]
        assert torch.equal(sampled, torch.tensor(completion.logprobs))


PPO = {"algorithm": "ppo", "critic": {"optimizer": {"lr": 2e-2}}, **HIGH}


def test_a_critic_begins_at_zero_and_learns_the_returns(tmp_path: Path) -> None:
    one = learner(tmp_path, **PPO)
    critic = one.updating.critic
    assert critic is not None
    batch = ragged()
    assert torch.equal(critic.values(batch), torch.zeros(int(batch.loss_mask.sum())))
    returns = torch.zeros_like(batch.advantages)
    returns[batch.loss_mask] = (batch.input_ids[batch.loss_mask] % 2).float()
    for _ in range(25):
        values = one.updating.scorer.column(batch, critic.values)
        columns = {VALUES: values, RETURNS: returns}
        metrics = one.updating.update(dataclasses.replace(batch, columns=columns), step=1)
    assert metrics["critic/squared_error"] < 0.1
    assert metrics["critic/grad_norm"] >= 0 and metrics["critic/lr"] == 2e-2


def test_values_are_of_the_state_before_each_token(tmp_path: Path) -> None:
    one = learner(tmp_path, **PPO)
    critic = one.updating.critic
    assert critic is not None
    head = critic.model.get_output_embeddings()
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(1))  # type: ignore[union-attr, arg-type]
    batch = ragged()
    values = critic.values(batch)
    position = 0
    for i in range(len(batch)):
        part = batch.select([i])
        if not int(part.loss_mask.sum()):
            continue
        plain = critic.model(part.input_ids[None]).logits[0, :, 0]
        expected = plain[torch.nonzero(part.loss_mask)[:, 0] - 1]
        found = values[position : position + len(expected)]
        assert torch.allclose(found, expected, atol=1e-5)
        position += len(expected)
    assert position == len(values)


def test_ppo_logs_how_well_its_critic_foresees(tmp_path: Path) -> None:
    one = learner(tmp_path, **PPO)
    one.step(1)
    metrics = one.step(2)
    assert metrics["critic/explained_variance"] <= 1.0 or math.isnan(
        metrics["critic/explained_variance"]
    )
    for name in ("critic/loss", "critic/value", "critic/return", "critic/clipped"):
        assert math.isfinite(metrics[name])


def test_a_critic_can_learn_before_the_policy_does(tmp_path: Path) -> None:
    one = learner(tmp_path, **{**PPO, "critic": {"warmup_steps": 1}})
    before = weights(one)
    metrics = one.step(1)
    assert torch.equal(before, weights(one)) and "critic/loss" in metrics
    one.step(2)
    assert not torch.equal(before, weights(one))
