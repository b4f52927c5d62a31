"""The policy gradient learner: real runs of a tiny policy, and the exactness of its update."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from learners import TINY, blur, learner, ragged, weights

import rlvr
from rlvr.config import merge
from rlvr.objectives.advantages import estimate_advantages
from rlvr.rollout_table import read_rollouts
from rlvr.tracking import read_jsonl
from rlvr.trainers.experience import pack

ROOT = Path(__file__).parents[2]
OWN_VERIFIER: dict[str, Any] = {"verifier": None, "sampling": {"max_new_tokens": 8}}
"""An untrained policy solves nothing by the environment's own verifier."""


@pytest.mark.parametrize("algorithm", ["dapo", "grpo", "dr_grpo", "rloo"])
def test_an_update_is_the_same_for_every_split_into_micro_batches(
    tmp_path: Path, algorithm: str
) -> None:
    """TRL's known failure (uneven lengths over several steps) is what this batch is made of."""
    after = []
    # A large eps makes Adam's step smooth in the gradient; the step is far above the tolerance.
    optimizer = {"lr": 1e-2, "eps": 1e-2}
    for budget in (1, 12, 25, 10_000):
        one = learner(
            tmp_path,
            algorithm=algorithm,
            objective={"mini_batches": 1},
            micro_batch_tokens=budget,
            optimizer=optimizer,
        )
        before = weights(one)
        metrics = one.updating.update(ragged(), step=1)
        after.append(weights(one))
        assert metrics["grad_norm"] > 0
        assert (after[-1] - before).abs().max() > 1e-3
    for other in after[1:]:
        assert torch.allclose(after[0], other, atol=1e-6)


def test_on_policy_ratios_are_one_and_then_they_move(tmp_path: Path) -> None:
    first = learner(tmp_path).updating.update(ragged(), step=1)
    assert first["policy/ratio"] == pytest.approx(1.0, abs=1e-6)
    changes = {"objective": {"epochs": 3}, "optimizer": {"lr": 1e-2}}
    later = learner(tmp_path, **changes).updating.update(ragged(), step=1)
    assert later["policy/approx_kl"] > 1e-5


def test_an_entropy_bonus_alone_makes_the_policy_less_sure(tmp_path: Path) -> None:
    batch = ragged()
    batch = dataclasses.replace(batch, advantages=torch.zeros_like(batch.advantages))
    objective = {"entropy_coefficient": 0.5, "aggregation": "token-mean"}
    changes = {"objective": objective, "optimizer": {"lr": 1e-2}}
    one = learner(tmp_path, **changes)
    blur(one)
    rows = [one.updating.update(batch, step=1) for _ in range(5)]
    entropies = [row["entropy"] for row in rows]
    assert entropies == sorted(entropies) and entropies[-1] > entropies[0] + 0.1
    # The aggregation is the entropy's own, so that the loss is the bonus itself.
    assert rows[0]["loss"] == pytest.approx(-0.5 * entropies[0], rel=1e-5)


def test_the_sampler_and_the_trainer_agree_on_logprobs(tmp_path: Path) -> None:
    metrics = learner(tmp_path).step(1)
    assert metrics["sampler_gap/mean"] < 1e-5


def test_dynamic_sampling_stops_at_its_bound_and_says_so(tmp_path: Path) -> None:
    """An untrained policy solves nothing: no group is informative, and nothing is learned."""
    rollout = {"dynamic_sampling": True, "max_rounds": 3}
    one = learner(tmp_path, **OWN_VERIFIER, rollout=rollout)
    before = [p.detach().clone() for p in one.policy.model.parameters()]
    metrics = one.step(1)
    assert metrics["sampling/rounds"] == 3
    assert metrics["sampling/groups"] == 0
    assert all(
        torch.equal(a, b) for a, b in zip(before, one.policy.model.parameters(), strict=True)
    )


def test_a_step_keeps_every_rollout_with_its_verdict(tmp_path: Path) -> None:
    one = learner(tmp_path, rollout={"save_every": 1})
    one.step(1)
    rollouts = read_rollouts(tmp_path / "rollouts" / "step_000001.parquet")
    assert len(rollouts) == 16
    for rollout in rollouts:
        assert len(rollout.completion.logprobs) == len(rollout.completion.token_ids) > 0
        assert rollout.verdict.outcome


def test_a_verifier_that_fails_trains_nothing_and_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text(
        "import rlvr\n"
        "@rlvr.verifier('broken')\n"
        "def broken(completion: str) -> float:\n"
        "    raise OSError('the judge is out')\n"
    )
    rollout = {"max_rounds": 2}
    metrics = learner(tmp_path, verifier=f"{file}:broken", rollout=rollout).step(1)
    assert metrics["verifier_errors"] == metrics["sampling/rollouts"] == 32
    assert metrics["sampling/groups"] == 0


def test_gdpo_weighs_the_parts_of_a_reward_as_configured(tmp_path: Path) -> None:
    file = tmp_path / "parts.py"
    file.write_text(
        "import rlvr\n"
        "@rlvr.verifier('parts')\n"
        "def parts(completion: str) -> rlvr.Verdict:\n"
        "    metrics = {'short': 1.0 / (1 + len(completion)), 'even': float(len(completion) % 2)}\n"
        "    return rlvr.Verdict(reward=0.0, outcome='partial', metrics=metrics)\n"
    )
    weights = {"short": 1.0, "even": 0.25}
    one = learner(
        tmp_path,
        verifier=f"{file}:parts",
        reward={"weights": weights},
        objective={"advantage": "gdpo"},
    )
    rewards = pack(one.source.collect(1, policy_version=0).groups, one.config).rewards
    assert rewards.parts is not None
    expected = rewards.parts @ torch.tensor([1.0, 0.25], dtype=torch.float64)
    torch.testing.assert_close(rewards.rewards, expected)
    found = estimate_advantages("gdpo", rewards)
    assert float(found.abs().max()) > 0
    assert torch.equal(found, estimate_advantages("gdpo", rewards, weights=[1.0, 0.25]))
    assert not torch.equal(found, estimate_advantages("gdpo", rewards, weights=[1.0, 1.0]))


def test_overlong_completions_are_punished_softly_and_masked(tmp_path: Path) -> None:
    rollout = {"mask_truncated": True, "overlong_buffer": 4}
    one = learner(tmp_path, **OWN_VERIFIER, rollout=rollout)
    collected = one.source.collect(1, policy_version=0)
    compared = one.updating.compare(pack(collected.groups, one.config))
    batch, metrics = compared.batch, compared.metrics
    lengths = [len(r.completion.token_ids) for g in collected.groups for r in g.rollouts]
    expected = [-max(0.0, (length - 4) / 4) for length in lengths]
    rewards = [r.reward or 0.0 for g in collected.groups for r in g.rollouts]
    shaped = [reward + penalty for reward, penalty in zip(rewards, expected, strict=True)]
    assert metrics["reward/shaped_mean"] == pytest.approx(sum(shaped) / len(shaped))
    cut = [r.completion.finish_reason == "length" for g in collected.groups for r in g.rollouts]
    assert any(cut)
    assert [bool(n == 0) for n in batch.trained_lengths] == cut


def test_rlvr_train_runs_from_a_file_and_leaves_the_promised_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    evaluation = {"every": 1, "tasks": 4, "samples": 2, "k": [1, 2]}
    config = merge(TINY, {"output": str(output), "evaluation": evaluation})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    assert rlvr.train(file, ["algorithm=grpo"]) == output
    printed = capsys.readouterr().out
    assert "pass@1" in printed and "report.html" in printed
    rows = read_jsonl(output / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 1, 2, 2]
    for name in ("policy/model.safetensors", "report.html", "timing.jsonl", "config.yaml"):
        assert (output / name).is_file(), name
    assert rows[0]["eval/pass@1/low"] <= rows[0]["eval/pass@1"] <= rows[0]["eval/pass@1/high"]
    summary = json.loads((output / "evals/step_000002/summary.json").read_text())
    assert summary["samples"] == 8
    with pytest.raises(rlvr.UserError, match="holds a run already"):
        rlvr.train(file, ["algorithm=grpo"])
    with pytest.raises(rlvr.UserError, match="another 'seed'"):
        rlvr.train(file, ["algorithm=grpo", "seed=5"], resume=True)


@pytest.mark.data
def test_gsm8k_trains_on_the_real_rows_with_a_local_model(
    data_folder: Path, tiny_policy_folder: Path, tmp_path: Path
) -> None:
    overrides = [
        f"policy={tiny_policy_folder}",
        f"environment.data={data_folder / 'gsm8k_train.jsonl'}",
        f"evaluation.environment={{name: gsm8k, data: {data_folder / 'gsm8k_test.jsonl'}}}",
        f"output={tmp_path / 'run'}",
        "steps=2",
        "sampling.max_new_tokens=12",
        "rollout.tasks_per_step=2",
        "rollout.group_size=2",
        "evaluation.tasks=2",
        "evaluation.samples=2",
        "evaluation.k=[1, 2]",
    ]
    folder = rlvr.train(ROOT / "examples" / "gsm8k.yaml", overrides)
    rows = [row for row in read_jsonl(folder / "metrics.jsonl") if "sampling/rollouts" in row]
    assert [row["sampling/rollouts"] for row in rows] == [4.0, 4.0]
    assert all(row["verifier_errors"] == 0 for row in rows)
