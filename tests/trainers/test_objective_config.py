"""What a file can say of the objective: names, options, and errors of one line before the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from learners import configured, learner

from rlvr.errors import UserError
from rlvr.registry import import_file
from rlvr.trainers.objective import resolve


def objective(folder: Path, **keys: Any) -> Any:
    return resolve(configured(folder, objective=keys).objective)


def test_the_old_keys_mean_what_they_did(tmp_path: Path) -> None:
    found = objective(tmp_path, clip_low=0.1, clip_high=0.3, dual_clip=4, advantage="leave_one_out")
    assert found.loss.name == "clip"
    assert found.loss.options == {"clip_low": 0.1, "clip_high": 0.3, "dual_clip": 4.0}
    assert found.advantage.name == "leave-one-out"
    assert objective(tmp_path, scale="batch").advantage.options == {"scale": "batch"}


def test_a_loss_keeps_its_own_clip_range_unless_told(tmp_path: Path) -> None:
    assert objective(tmp_path, loss="gspo").loss.options == {}
    assert objective(tmp_path, loss="gspo", clip_high=1e-3).loss.options == {"clip_high": 1e-3}
    own = {"name": "clip", "clip_high": 0.3}
    found = resolve(
        configured(tmp_path, algorithm="top_entropy", objective={"loss": own}).objective
    )
    assert found.loss.options == {"clip_high": 0.3}, "not the preset's"
    found = resolve(configured(tmp_path, algorithm="dapo", objective={"loss": "gspo"}).objective)
    assert found.loss.options == {}, "the preset's range is of another loss"


def test_clip_covs_selection_knows_the_clip_range_of_the_loss(tmp_path: Path) -> None:
    """Tokens that the clip cuts anyway are not drawn: by the range that cuts them."""
    one = objective(tmp_path, loss="clip-cov", clip_high=0.28)
    assert one.selection.options == {"clip_high": 0.28} == one.loss.options
    other = {"name": "clip-cov", "share": 0.1, "clip_high": 0.5}
    own = objective(tmp_path, loss="clip-cov", clip_high=0.28, token_selection=other)
    assert own.selection.options == {"share": 0.1, "clip_high": 0.5}
    assert objective(tmp_path, loss="kl-cov").selection.options == {}


def test_a_bare_off_in_yaml_is_off(tmp_path: Path) -> None:
    """YAML reads it as false."""
    text = "{kl_coefficient: 0.1, kl_ratio: off, mismatch: {level: off}}"
    found = configured(tmp_path, objective=yaml.safe_load(text)).objective
    assert (found.kl_ratio, found.mismatch.level) == ("off", "off")
    found = configured(tmp_path, objective={"kl_coefficient": 0.1, "kl_ratio": True}).objective
    assert found.kl_ratio == "token"


def test_functions_of_a_local_file_train(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "calls = []\n"
        "def plain(tokens, *, factor=1.0):\n"
        '    """A loss of my own."""\n'
        "    calls.append(factor)\n"
        "    return -factor * tokens.advantages * tokens.logprobs, {}\n"
        "def raw(groups):\n"
        "    return groups.rewards.float() + 1\n"
        "def doubled(rollouts, *, times=2.0):\n"
        "    return times * rollouts.rewards\n"
        "def sums(per_token, sequence_ids, totals, normaliser):\n"
        "    return per_token.sum()\n"
    )
    one = learner(
        tmp_path,
        objective={
            "loss": {"name": f"{file}:plain", "factor": 3.0},
            "advantage": f"{file}:raw",
            "aggregation": f"{file}:sums",
        },
        reward={"shaping": [{"name": f"{file}:doubled", "times": 4.0}]},
    )
    metrics = one.step(1)
    assert metrics["grad_norm"] > 0
    assert metrics["advantage/max"] == 5.0 and metrics["advantage/min"] == 1.0
    calls = import_file(str(file)).calls
    assert set(calls) == {3.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": {"loss": "clipp"}}, "'policy/clipp'; did you mean 'policy/clip'"),
        ({"objective": {"loss": {"name": "clip", "cap": 3}}}, "policy 'clip' has no option 'cap'"),
        ({"objective": {"loss": "reinforce", "clip_high": 0.3}}, "policy 'reinforce' has not"),
        ({"objective": {"clip_low": 1.5}}, "clip_low is 1.5: expected 0 <= clip_low < 1"),
        ({"objective": {"dual_clip": 1.1}}, "dual_clip is 1.1: expected above 1 + clip_high"),
        ({"objective": {"advantage": "grpo"}}, "no objective is named 'advantage/grpo'"),
        ({"objective": {"advantage": "opo", "scale": "none"}}, "objective.scale is 'none'"),
        ({"objective": {"advantage": "gae"}}, "needs a value model, set critic={}"),
        ({"critic": {}}, "critic is set, but objective.advantage 'group' uses none"),
        ({"objective": {"advantage": "gdpo"}}, "name them, reward.weights"),
        ({"objective": {"aggregation": "mean"}}, "'aggregation/mean'"),
        ({"objective": {"kl_estimator": "k4"}}, "'kl/k4'"),
        (
            {
                "objective": {
                    "kl_coefficient": 0.1,
                    "kl_estimator": {"name": "k3", "value_bound": -1},
                }
            },
            "value_bound is -1",
        ),
        ({"objective": {"kl_target": 6.0}}, "kl_target is set, but objective.kl_coefficient is 0"),
        ({"reference": {"update": "sync"}}, "reference.update is set, but"),
        (
            {"objective": {"kl_coefficient": 0.1, "kl_target": 6.0, "kl_horizon": 3}},
            "kl_horizon is 3: expected more than a fifth",
        ),
        ({"objective": {"token_selection": {"name": "top-entropy", "share": 2}}}, "share is 2"),
        (
            {"objective": {"loss": "kl-cov", "token_selection": "top-entropy"}},
            "loss 'kl-cov' brings its own",
        ),
        ({"objective": {"token_selection": {"name": "kl-cov", "seed": 1}}}, "no option 'seed'"),
        ({"objective": {"mismatch": {"level": "tokens"}}}, "objective.mismatch.level"),
        ({"objective": {"mismatch": {"high": 0.5}}}, "objective.mismatch.high"),
        ({"rollout": {"group_size": 1}}, "rollout.group_size is 1: advantage 'group' compares"),
        (
            {"rollout": {"group_size": 1, "dynamic_sampling": True}},
            "dynamic_sampling compares the rewards of a group",
        ),
        ({"objective": {"advantage": {"name": "pass-at-k", "k": 4}}}, "k=4: expected below"),
        ({"rollout": {"at_bound": "wait"}}, "rollout.at_bound"),
        ({"rollout": {"oversampling": 0.5}}, "rollout.oversampling"),
        ({"reward": {"shaping": ["clip"]}}, "shaping 'clip' needs the option"),
        ({"reward": {"shaping": [{"name": "cosine"}]}}, "'shaping/cosine'"),
        ({"curriculum": {"uniform": 0}}, "curriculum.uniform"),
        ({"replay": {"capacity": 0}}, "replay.capacity"),
        ({"reward": {"shaping": [{"name": "clip", "low": 2, "high": 1}]}}, "low is 2, high 1"),
        ({"reward": {"weights": {"reward": float("nan")}}}, "reward.weights.reward"),
        ({"objective": {"advantage": {"name": "pass-at-k", "k": 0}}}, "k is 0: expected 1"),
        (
            {"algorithm": "ppo", "objective": {"advantage": {"name": "gae", "gamma": 2.0}}},
            "gamma is 2.0: expected 0 to 1",
        ),
        (
            {
                "algorithm": "pass_at_k",
                "objective": {"advantage": {"name": "pass-at-k-group", "k": 2}},
                "rollout": {"overlong_buffer": 2},
            },
            "expected rewards of 0 and 1",
        ),
        (
            {"objective": {"advantage": "maxrl"}, "rollout": {"overlong_buffer": 2}},
            "maxrl divides by the mean reward",
        ),
        ({"reward": {"weights": {"reward": 0.0}}}, "weights are all 0"),
        (
            {"deterministic": True, "rollout": {"max_staleness": 1}},
            "deterministic is true and rollout.max_staleness 1: expected 0",
        ),
        ({"rollout": {"overlong_buffer": 2.5}}, "overlong_buffer is 2.5: expected whole tokens"),
        ({"optimizer": {"betas": [1.2, 0.9]}}, "optimizer.betas.0"),
    ],
)
def test_an_error_is_one_line_and_comes_before_the_run(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        configured(tmp_path, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
