"""Write `golden/trl.json` and `golden/verl.json`: what TRL 1.16 and verl 0.9.1 themselves compute.

Not part of the test run. It needs an environment of its own with `requirements-golden.txt` (TRL,
verl and what they import; torch and transformers as in `constraints.txt`); then

    python tests/objectives/make_golden.py

Their own code is called: the `_compute_loss`/`compute_loss` methods of TRL's trainers with a bare
object in place of the trainer and a model that returns given numbers, and verl's functions as they
are. Everything is float64 on small random ragged batches; inputs are stored beside outputs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"
MAX_LENGTH = 12


def ragged_batch(seed: int, *, empty_row: bool) -> dict[str, torch.Tensor]:
    """Log-probabilities with ratios well beyond the clip range on both sides, and a ragged mask."""
    generator = torch.Generator().manual_seed(seed)
    rows, width = 6, 9
    old = -3.0 * torch.rand(rows, width, generator=generator, dtype=torch.float64) - 0.05
    noise = torch.randn(rows, width, 2, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, width + 1, (rows,), generator=generator)
    if empty_row:
        lengths[2] = 0
    return {
        "old": old,
        "new": old + 0.4 * noise[..., 0],
        "ref": old + 0.3 * noise[..., 1],
        "advantages": torch.randn(rows, generator=generator, dtype=torch.float64),
        "mask": (torch.arange(width) < lengths[:, None]).to(torch.int64),
    }


def case(batch: dict[str, torch.Tensor], loss: torch.Tensor, wrt: str, **options: Any) -> Any:
    (gradient,) = torch.autograd.grad(loss, batch[wrt])
    return {
        "inputs": {name: value.detach().tolist() for name, value in batch.items()},
        "options": options,
        "loss": loss.item(),
        "gradient": gradient.tolist(),
    }


def fake_accelerator() -> SimpleNamespace:
    def same(value: Any, **_: Any) -> Any:
        return value

    return SimpleNamespace(
        gather=same, gather_for_metrics=same, reduce=same, num_processes=1, device="cpu"
    )


def trl_grpo() -> list[Any]:
    from trl.trainer.grpo_trainer import GRPOTrainer

    cases = []
    for seed, loss_type in enumerate(["grpo", "bnpo", "dapo", "dr_grpo"]):
        for beta, low, high, empty_row in [
            (0.0, 0.2, 0.2, False),
            (0.0, 0.2, 0.28, True),
            (0.04, 0.2, 0.28, False),
        ]:
            batch = ragged_batch(seed, empty_row=empty_row)
            batch["new"].requires_grad_()
            trainer = SimpleNamespace(
                _get_per_token_logps_and_entropies=lambda *_, batch=batch, **__: (
                    batch["new"],
                    torch.zeros_like(batch["old"]),
                    None,
                ),
                accelerator=fake_accelerator(),
                args=SimpleNamespace(
                    delta=None, use_bias_correction_kl=False, steps_per_generation=1
                ),
                model=SimpleNamespace(training=True),
                loss_type=loss_type,
                beta=beta,
                epsilon_low=low,
                epsilon_high=high,
                max_completion_length=MAX_LENGTH,
                importance_sampling_level="token",
                current_gradient_accumulation_steps=1,
                top_entropy_quantile=1.0,
                off_policy_mask_threshold=None,
                use_vllm=False,
                aux_loss_enabled=False,
                _entropy_bonus_enabled=False,
                _metrics={"train": defaultdict(list)},
            )
            rows = len(batch["mask"])
            inputs = {
                "prompt_ids": torch.ones(rows, 1, dtype=torch.long),
                "prompt_mask": torch.ones(rows, 1, dtype=torch.long),
                "completion_ids": torch.ones_like(batch["mask"]),
                "completion_mask": batch["mask"],
                "advantages": batch["advantages"],
                "old_per_token_logps": batch["old"],
                "ref_per_token_logps": batch["ref"],
                "num_items_in_batch": batch["mask"].sum(),
            }
            loss = GRPOTrainer._compute_loss(trainer, None, inputs)
            low_mean, high_mean = (
                trainer._metrics["train"][f"clip_ratio/{side}_mean"][0] for side in ("low", "high")
            )
            cases.append(
                case(
                    batch, loss, "new", loss_type=loss_type, beta=beta, clip_low=low,
                    clip_high=high, max_length=MAX_LENGTH, clipped_low=low_mean,
                    clipped_high=high_mean,
                )
            )  # fmt: skip
    return cases


def trl_dpo() -> list[Any]:
    from trl.trainer.dpo_trainer import DPOTrainer

    cases = []
    for seed, (kind, beta) in enumerate(
        [("sigmoid", 0.1), ("sigmoid", 0.5), ("hinge", 0.3), ("ipo", 0.1)]
    ):
        batch = ragged_batch(100 + seed, empty_row=False)
        batch["new"].requires_grad_()
        mask = torch.cat([torch.zeros_like(batch["mask"][:, :1]), batch["mask"]], dim=1)

        def model(batch: Any = batch, **_: Any) -> SimpleNamespace:
            return SimpleNamespace(
                log_probs=batch["new"] * batch["mask"],
                entropy=torch.zeros_like(batch["old"]),
                mean_logits=torch.zeros_like(batch["old"]),
                is_top1=torch.zeros_like(batch["mask"], dtype=torch.bool),
            )

        reference = (batch["ref"] * batch["mask"]).sum(1)
        trainer = SimpleNamespace(
            accelerator=fake_accelerator(),
            model=SimpleNamespace(training=True),
            aux_loss_enabled=False,
            ld_alpha=None,
            precompute_ref_logps=True,
            f_divergence_type="reverse_kl",
            loss_types=[kind],
            loss_weights=[1.0],
            use_weighting=False,
            label_smoothing=0.0,
            beta=beta,
            _total_train_tokens=0,
            _tp_size=1,
            _metrics={"train": defaultdict(list)},
        )
        inputs = {
            "input_ids": torch.ones_like(mask),
            "attention_mask": torch.ones_like(mask),
            "completion_mask": mask,
            "ref_chosen_logps": reference[:3],
            "ref_rejected_logps": reference[3:],
        }
        loss = DPOTrainer._compute_loss(trainer, model, inputs, False)
        margin = trainer._metrics["train"]["rewards/margins"][0]
        cases.append(case(batch, loss, "new", kind=kind, beta=beta, margin=margin))
    return cases


def trl_reward() -> list[Any]:
    from trl.trainer.reward_trainer import RewardTrainer

    cases = []
    for seed, (with_margin, centre) in enumerate([(False, None), (True, None), (False, 0.01)]):
        generator = torch.Generator().manual_seed(200 + seed)
        batch = {"rewards": 2.0 * torch.randn(8, generator=generator, dtype=torch.float64)}
        batch["rewards"].requires_grad_()
        inputs: dict[str, Any] = {"attention_mask": torch.ones(8, 1)}
        if with_margin:
            inputs["margin"] = batch["margin"] = torch.rand(
                4, generator=generator, dtype=torch.float64
            )
        trainer = SimpleNamespace(
            accelerator=fake_accelerator(),
            model=SimpleNamespace(training=True),
            args=SimpleNamespace(center_rewards_coefficient=centre),
            _total_train_tokens=0,
            _tp_size=1,
            _metrics={"train": defaultdict(list)},
        )
        loss = RewardTrainer.compute_loss(
            trainer,
            lambda batch=batch, **_: SimpleNamespace(logits=batch["rewards"][:, None]),
            inputs,
        )
        cases.append(case(batch, loss, "rewards", centre=centre or 0.0))
    return cases


def verl_policy() -> list[Any]:
    from verl.trainer.ppo import core_algos

    class Config(SimpleNamespace):
        def get(self, name: str, default: Any) -> Any:
            return getattr(self, name, default)

    cases = []
    modes = ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]
    for seed, how in enumerate(modes):
        for low, high, dual, empty_row in [(0.2, 0.2, 3.0, False), (0.2, 0.28, 1.5, True)]:
            batch = ragged_batch(300 + seed, empty_row=empty_row)
            batch["new"].requires_grad_()
            info = {"loss_scale_factor": MAX_LENGTH} if how.endswith("norm") else {}
            config = Config(
                clip_ratio=low, clip_ratio_low=low, clip_ratio_high=high, clip_ratio_c=dual,
                global_batch_info=info,
            )  # fmt: skip
            loss, metrics = core_algos.compute_policy_loss_vanilla(
                batch["old"],
                batch["new"],
                batch["advantages"][:, None].expand_as(batch["old"]),
                batch["mask"],
                how,
                config,
            )
            cases.append(
                case(
                    batch, loss, "new", how=how, clip_low=low, clip_high=high, dual_clip=dual,
                    max_length=MAX_LENGTH, dual_clipped=metrics["actor/pg_clipfrac_lower"],
                )
            )  # fmt: skip
    return cases


def verl_kl() -> list[Any]:
    from verl.trainer.ppo import core_algos

    cases = []
    for kind in ("k1", "k2", "k3"):
        batch = ragged_batch(400, empty_row=False)
        batch["new"].requires_grad_()
        loss = core_algos.kl_penalty(batch["new"], batch["ref"], kind).sum()
        cases.append(case(batch, loss, "new", kind=kind))
    return cases


def verl_advantages() -> list[Any]:
    from verl.trainer.ppo import core_algos

    generator = torch.Generator().manual_seed(500)
    rewards = torch.rand(12, generator=generator, dtype=torch.float64)
    ids = [0, 1, 0, 1, 1, 2, 2, 0, 1, 2, 2, 2]
    cases = []
    for name, options in [
        ("group", {"norm_adv_by_std_in_grpo": True, "epsilon": 1e-6}),
        ("group", {"norm_adv_by_std_in_grpo": True, "epsilon": 1e-4}),
        ("none", {"norm_adv_by_std_in_grpo": False}),
        ("leave-one-out", {}),
    ]:
        function = (
            core_algos.compute_rloo_outcome_advantage
            if name == "leave-one-out"
            else core_algos.compute_grpo_outcome_advantage
        )
        # In a copy: verl writes the advantages over the scores it is given.
        scores = rewards.clone()[:, None]
        found, _ = function(scores, torch.ones_like(scores), np.array(ids), **options)
        cases.append(
            {
                "rewards": rewards.tolist(),
                "group_ids": ids,
                "scale": name,
                "eps": options.get("epsilon", 1e-6),
                "advantages": found[:, 0].tolist(),
            }
        )
    return cases


def main() -> None:
    torch.manual_seed(0)
    import trl
    import verl

    write("trl", trl.__version__, grpo=trl_grpo(), dpo=trl_dpo(), reward=trl_reward())
    write(
        "verl", verl.__version__, policy=verl_policy(), kl=verl_kl(), advantages=verl_advantages()
    )


def write(name: str, version: str, **cases: list[Any]) -> None:
    GOLDEN.mkdir(exist_ok=True)
    content = {"library": name, "version": version, "torch": torch.__version__, **cases}
    (GOLDEN / f"{name}.json").write_text(json.dumps(content) + "\n")
    print(name, version, {key: len(value) for key, value in cases.items()})


if __name__ == "__main__":
    main()
