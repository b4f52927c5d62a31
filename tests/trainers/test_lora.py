"""LoRA: what is trained, what is merged, what is saved, and that a resumed run is the same."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

import rlvr
from rlvr.adapters import (
    active_dropout,
    add_lora,
    has_lora,
    load_adapter,
    plain_state_dict,
    without_lora,
)
from rlvr.batch import Batch, Example
from rlvr.errors import CheckpointError, ConfigError, MissingExtraError
from rlvr.forward import score_tokens
from rlvr.policy import Policy, load_policy, make_policy, save_policy
from rlvr.samplers.hf import HFSampler
from rlvr.tracking import read_jsonl

pytest.importorskip("peft")

CONFIG: dict[str, Any] = {
    "algorithm": "dapo",
    "policy": "new",
    "new_policy": {"hidden_size": 16, "layers": 2, "heads": 2, "alphabet": "0123456789+=A: \n"},
    "environment": {"name": "arithmetic", "digits": 1, "size": 200},
    "sampling": {"max_new_tokens": 8},
    "rollout": {
        "tasks_per_step": 4,
        "group_size": 4,
        "workers": 1,
        "overlong_buffer": 8,
        "dynamic_sampling": False,
        "mask_truncated": False,
    },
    "optimizer": {"lr": 3e-2},
    "objective": {"kl_coefficient": 0.01, "mini_batches": 2},
    "evaluation": None,
    "lora": {"rank": 4, "alpha": 8},
    "steps": 4,
}


def policy(seed: int = 0, dtype: str = "float32") -> Policy:
    return make_policy(**CONFIG["new_policy"], seed=seed, dtype=dtype)


def adapted(seed: int = 0, **options: Any) -> Policy:
    """A policy whose LoRA matrices are not zero."""
    made = policy()
    add_lora(made.model, **{"rank": 4, "alpha": 8.0, "seed": seed, **options})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in made.model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def batch() -> Batch:
    generator = torch.Generator().manual_seed(3)
    examples = []
    for length in (1, 7, 3, 5):
        ids = torch.randint(2, 16, (length + 3,), generator=generator).tolist()
        examples.append(Example(prompt_ids=tuple(ids[:3]), completion_ids=tuple(ids[3:])))
    return Batch.pack(examples)


def scores(model: Any) -> torch.Tensor:
    return score_tokens(model, batch()).logprobs.detach()


def test_a_new_adapter_changes_nothing_and_is_all_that_is_trained() -> None:
    plain, made = policy(), policy()
    add_lora(made.model, rank=4, alpha=8.0)
    assert torch.equal(scores(plain.model), scores(made.model))
    trained = {name for name, p in made.model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name in trained}
    assert layers == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    }  # fmt: skip
    assert type(made.model) is type(plain.model)


def test_only_the_named_layers_get_matrices() -> None:
    made = policy()
    add_lora(made.model, rank=2, alpha=2.0, targets=("q_proj",))
    trained = {name for name, p in made.model.named_parameters() if p.requires_grad}
    assert len(trained) == 4
    assert all(".q_proj." in name for name in trained)


def test_a_layer_that_does_not_exist_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"lora.targets.*'query'"):
        add_lora(policy().model, rank=2, alpha=2.0, targets=("query",))
    with pytest.raises(ConfigError, match="did you mean 'q_proj'"):
        add_lora(policy().model, rank=2, alpha=2.0, targets=("qproj",))


def test_merged_weights_compute_what_the_adapters_compute(tmp_path: Path) -> None:
    made = adapted()
    save_policy(made, tmp_path / "policy")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    assert not has_lora(merged)
    torch.testing.assert_close(scores(merged), scores(made.model), rtol=0, atol=2e-6)
    assert not torch.allclose(scores(merged), scores(policy().model), atol=1e-3)


def test_the_saved_adapter_is_one_that_peft_loads(tmp_path: Path) -> None:
    import peft

    made, plain = adapted(), policy()
    save_policy(made, tmp_path)
    loaded = peft.PeftModel.from_pretrained(plain.model, str(tmp_path / "adapter"))
    assert torch.equal(scores(loaded.base_model.model), scores(made.model))


def test_without_its_matrices_the_policy_is_what_it_was() -> None:
    made = adapted()
    trained = [p.requires_grad for p in made.model.parameters()]
    with without_lora(made.model):
        assert torch.equal(scores(made.model), scores(policy().model))
    assert not torch.equal(scores(made.model), scores(policy().model))
    assert [p.requires_grad for p in made.model.parameters()] == trained


def test_a_sampler_with_weights_of_its_own_gets_merged_ones() -> None:
    made = adapted()
    sampler = HFSampler(policy=policy(seed=5))
    sampler.update_weights(made.model)
    torch.testing.assert_close(scores(sampler.policy.model), scores(made.model), rtol=0, atol=2e-6)


def test_in_bfloat16_the_matrices_stay_float32_and_merge_into_bfloat16(tmp_path: Path) -> None:
    made = policy(dtype="bfloat16")
    add_lora(made.model, rank=4, alpha=8.0)
    dtypes = {p.dtype for p in made.model.parameters() if p.requires_grad}
    assert dtypes == {torch.float32}
    assert {v.dtype for v in plain_state_dict(made.model).values()} == {torch.bfloat16}
    save_policy(made, tmp_path)
    again = load_policy(str(tmp_path), dtype="bfloat16")
    assert torch.equal(scores(again.model), scores(policy(dtype="bfloat16").model))


def test_an_adapter_of_another_shape_is_refused(tmp_path: Path) -> None:
    save_policy(adapted(), tmp_path)
    other = policy()
    add_lora(other.model, rank=2, alpha=8.0)
    with pytest.raises(CheckpointError, match="belongs to another model"):
        load_adapter(other.model, tmp_path / "adapter")


def test_dropout_is_drawn_from_its_seed_and_ends_with_its_block() -> None:
    made = adapted(dropout=0.5)
    usual = scores(made.model)
    state = torch.get_rng_state()
    drawn = []
    for seed in (1, 1, 2):
        with active_dropout(made.model, seed):
            drawn.append(scores(made.model))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], usual)
    assert torch.equal(scores(made.model), usual)
    assert torch.equal(torch.get_rng_state(), state)


def train(folder: Path, resume: bool = False, **changes: Any) -> Path:
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({**CONFIG, "output": str(folder), **changes}))
    return rlvr.train(file, resume=resume)


@pytest.mark.slow
def test_a_run_trains_the_matrices_alone_and_a_resumed_one_is_equal_bit_for_bit(
    tmp_path: Path,
) -> None:
    checkpoint = {"every": 2, "keep": 5}
    straight = train(tmp_path / "straight", checkpoint=checkpoint)
    stopped = train(tmp_path / "stopped", checkpoint=checkpoint, steps=2)
    train(stopped, resume=True, checkpoint=checkpoint)
    assert (straight / "metrics.jsonl").read_bytes() == (stopped / "metrics.jsonl").read_bytes()
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        first, second = ((folder / "policy" / name).read_bytes() for folder in (straight, stopped))
        assert first == second
    rows = read_jsonl(straight / "metrics.jsonl")
    assert rows[0]["kl/reference"] == pytest.approx(0, abs=1e-2)
    assert rows[-1]["kl/reference"] > 1e-5
    assert all(row["sampler_gap/after_sync"] < 1e-5 for row in rows)

    final = load_policy(str(straight / "policy"))
    before = policy().model.state_dict()
    changed = {
        name for name, value in final.model.state_dict().items() if not value.equal(before[name])
    }
    assert changed
    assert all(name.endswith("_proj.weight") for name in changed)
    checkpointed = AutoModelForCausalLM.from_pretrained(straight / "checkpoints" / "step_000004")
    assert torch.equal(scores(checkpointed), scores(final.model))


@pytest.mark.slow
def test_a_run_is_not_resumed_on_another_base(tmp_path: Path) -> None:
    for seed, name in ((0, "a"), (1, "b")):
        save_policy(policy(seed), tmp_path / name)
    run = train(tmp_path / "run", policy=str(tmp_path / "a"), checkpoint={"every": 2})
    for file in (tmp_path / "b").iterdir():
        (tmp_path / "a" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match="the policy that the run began with"):
        train(run, resume=True, policy=str(tmp_path / "a"), steps=6, checkpoint={"every": 2})


def test_a_copy_of_a_policy_with_lora_is_its_own() -> None:
    made = adapted()
    twin = copy.deepcopy(made.model)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.zero_()
    assert torch.equal(scores(twin), scores(adapted().model))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": {"targets": ["query"]}}, "lora.targets: no linear layer is called 'query'"),
        ({"lora": {"dropout": 0.1}}, "lora.dropout is 0.1: expected 0"),
        ({"reference": {"update": "sync"}}, "reference.update is 'sync': expected 'fixed'"),
        ({"lora": {"rang": 4}}, "did you mean 'rank'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_without_peft_the_error_is_one_line_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rlvr\[lora\]'"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["sft", "dpo"])
def test_sft_and_dpo_train_adapters_with_dropout_and_repeat_themselves(
    tmp_path: Path, algorithm: str
) -> None:
    file = tmp_path / "data.jsonl"
    rows = [
        {"id": str(i), "prompt": f"{i}+1=", "chosen": f"{i + 1}", "rejected": f"{i + 2}"}
        | {"completion": f"{i + 1}"}
        for i in range(40)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        **{key: CONFIG[key] for key in ("policy", "new_policy", "optimizer", "steps")},
        "algorithm": algorithm,
        "data": str(file),
        "batch_size": 8,
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.3},
    }
    results = []
    for name, dropout in (("a", 0.3), ("b", 0.3), ("c", 0.0)):
        config["lora"]["dropout"] = dropout
        config["output"] = str(tmp_path / name)
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
        folder = rlvr.train(tmp_path / "run.yaml")
        results.append((folder / "metrics.jsonl").read_bytes())
        assert (folder / "policy" / "adapter" / "adapter_model.safetensors").is_file()
    assert results[0] == results[1]
    assert results[0] != results[2]
