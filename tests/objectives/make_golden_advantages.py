"""Write `golden/advantages.json`: advantages, returns, value losses and aggregations of TRL 1.16
and verl 0.9.1 on random ragged batches.

Not part of the test run; see `make_golden.py` for the environment it needs. Their own code is
called: verl's functions as they are, and TRL's methods with a bare object in place of the trainer.
TRL's advantages are computed in the middle of a method that also generates, so its lines are taken
from the installed source, between two that are named below, and run on given rewards; what TRL's
RLOO does with KL in the reward is among them.
"""

from __future__ import annotations

import inspect
import json
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"


def ragged(seed: int, *, singles: bool = False, binary: bool = False) -> dict[str, Any]:
    """Rewards of groups of unequal size in mixed order, lengths, and per-token numbers, float64."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor([0, 1, 0, 1, 1, 2, 2, 0, 1, 2, 2, 2] + ([3] if singles else []))
    rows, width = len(ids), 7
    rewards = torch.rand(rows, generator=generator, dtype=torch.float64)
    if binary:
        rewards = (rewards > 0.5).to(torch.float64)
        rewards[ids == 1] = 1.0  # a group without a signal
    lengths = torch.randint(1, width + 1, (rows,), generator=generator)
    mask = (torch.arange(width) < lengths[:, None]).to(torch.float64)
    noise = torch.randn(4, rows, width, generator=generator, dtype=torch.float64)
    return {
        "rewards": rewards,
        "group_ids": ids,
        "lengths": lengths,
        "mask": mask,
        "token_rewards": noise[0] * mask,
        "values": noise[1] * mask,
        "kl": 0.1 * noise[2].abs() * mask,
        "new_values": (noise[1] + 0.4 * noise[3]) * mask,
        "baseline": torch.rand(rows, generator=generator, dtype=torch.float64),
        "parts": torch.rand(rows, 3, generator=generator, dtype=torch.float64)
        * torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64),
    }


def at_last_token(batch: dict[str, Any]) -> torch.Tensor:
    scores = torch.zeros_like(batch["mask"])
    scores[torch.arange(len(scores)), batch["lengths"] - 1] = batch["rewards"]
    return scores


# What a case keeps of its batch, by its name; rewards, group ids and lengths where not listed.
KEPT = {
    "remax": ("rewards", "group_ids", "baseline"),
    "gdpo": ("group_ids", "lengths", "parts"),
    "gae": ("mask", "token_rewards", "values"),
    "returns": ("mask", "token_rewards"),
    "kl-in-reward": ("mask", "rewards", "kl"),
    "value": ("mask", "token_rewards", "values", "new_values"),
    "aggregate": ("mask", "token_rewards"),
    "rloo": ("rewards", "group_ids", "mask", "kl"),
}


def record(name: str, batch: dict[str, Any], options: dict[str, Any], **found: Any) -> Any:
    keys = KEPT.get(name, ("rewards", "group_ids", "lengths"))
    return {
        "name": name,
        "options": options,
        "inputs": {key: batch[key].tolist() for key in keys},
        **{key: value.tolist() for key, value in found.items()},
    }


def verl_outcome() -> list[Any]:
    from verl.trainer.ppo import core_algos as verl

    def index(batch: dict[str, Any]) -> np.ndarray[Any, Any]:
        return np.array(batch["group_ids"].tolist())

    runs: list[tuple[str, dict[str, Any], Any]] = []
    for eps in (1e-6, 1e-4):
        runs.append(
            ("group", {"eps": eps}, lambda b, eps=eps: verl.compute_grpo_outcome_advantage(
                at_last_token(b), b["mask"], index(b), epsilon=eps)),
        )  # fmt: skip
    runs += [
        ("group", {"scale": "none"}, lambda b: verl.compute_grpo_outcome_advantage(
            at_last_token(b), b["mask"], index(b), norm_adv_by_std_in_grpo=False)),
        ("leave-one-out", {}, lambda b: verl.compute_rloo_outcome_advantage(
            at_last_token(b), b["mask"], index(b))),
        ("opo", {}, lambda b: verl.compute_opo_outcome_advantage(
            at_last_token(b), b["mask"], index(b))),
        ("gpg", {"count": "nonzero"}, lambda b: verl.compute_gpg_outcome_advantage(
            at_last_token(b), b["mask"], index(b))),
        ("reinforce++-baseline", {"over": "tokens"},
         lambda b: verl.compute_reinforce_plus_plus_baseline_outcome_advantage(
            at_last_token(b), b["mask"], index(b))),
    ]  # fmt: skip
    config = SimpleNamespace(gamma=1.0)
    whole: list[tuple[str, dict[str, Any], Any]] = [
        ("reinforce++", {"over": "tokens"},
         lambda b: verl.compute_reinforce_plus_plus_outcome_advantage(
            at_last_token(b), b["mask"], config=config)),
        ("remax", {}, lambda b: verl.compute_remax_outcome_advantage(
            at_last_token(b), b["baseline"], b["mask"])),
        ("max-gap", {}, lambda b: verl.compute_grpo_passk_outcome_advantage(
            at_last_token(b), b["mask"], index(b), config={})),
        ("max-gap", {"scale": False}, lambda b: verl.compute_grpo_passk_outcome_advantage(
            at_last_token(b), b["mask"], index(b), config={"norm_adv_by_std_in_grpo": False})),
        ("gdpo", {"over": "tokens", "weights": [1.0, 0.5, 2.0]}, verl_gdpo),
        ("rloo_vectorized", {}, lambda b: verl.compute_rloo_vectorized_outcome_advantage(
            at_last_token(b), b["mask"], index(b))),
    ]  # fmt: skip
    cases = []
    for seed, (name, options, function) in enumerate([*runs, *whole]):
        single = (name, options, function) in runs or name == "rloo_vectorized"
        for kind, batch in enumerate(
            [
                ragged(1000 + seed),
                ragged(2000 + seed, singles=single, binary=name != "gdpo"),
            ]
        ):
            with_single = {"single": "raw"} if kind and (name, options, function) in runs else {}
            copy = {key: value.clone() for key, value in batch.items()}
            advantages, _ = function(copy)
            # Every estimator gives a sequence one value; that of its last token.
            rows = torch.arange(len(advantages))
            found = advantages[rows, batch["lengths"] - 1]
            named = "leave-one-out" if name == "rloo_vectorized" else name
            cases.append(record(named, batch, {**options, **with_single}, advantages=found))
    return cases


def verl_gdpo(batch: dict[str, Any]) -> Any:
    from verl.trainer.ppo import core_algos as verl

    names = ["first", "second", "third"]
    prompts = torch.zeros(len(batch["mask"]), 1)
    return verl.compute_gdpo_outcome_advantage(
        at_last_token(batch),
        batch["mask"],
        np.array(batch["group_ids"].tolist()),
        config={"gdpo_reward_keys": names, "gdpo_reward_weights": [1.0, 0.5, 2.0]},
        non_tensor_batch={name: batch["parts"][:, i].numpy() for i, name in enumerate(names)},
        batch={
            "prompts": prompts,
            "attention_mask": torch.cat([torch.ones_like(prompts), batch["mask"]], dim=1).long(),
        },
    )


def verl_tokens() -> list[Any]:
    from verl.trainer.ppo import core_algos as verl

    cases = []
    for seed, (gamma, lam) in enumerate([(1.0, 1.0), (1.0, 0.95), (0.9, 0.5), (0.99, 0.0)]):
        batch = ragged(3000 + seed)
        arguments = (batch["token_rewards"], batch["values"], batch["mask"])
        advantages, returns = verl.compute_gae_advantage_return(*arguments, gamma, lam)
        options = {"gamma": gamma, "lam": lam}
        cases.append(record("gae", batch, options, advantages=advantages, returns=returns))
        advantages, returns = verl.compute_reinforce_plus_plus_outcome_advantage(
            batch["token_rewards"], batch["mask"], config=SimpleNamespace(gamma=gamma)
        )
        options = {"gamma": gamma}
        cases.append(record("returns", batch, options, advantages=advantages, returns=returns))
        rewards = verl.compute_rewards(at_last_token(batch), batch["kl"], 0.0, 0.1 * seed)
        cases.append(
            record("kl-in-reward", batch, {"kl_coefficient": 0.1 * seed},
                   rewards=rewards * batch["mask"])
        )  # fmt: skip
    return cases


def verl_value_loss() -> list[Any]:
    from verl.trainer.ppo import core_algos as verl

    cases = []
    for seed, (how, clip) in enumerate(
        [("token-mean", 0.2), ("seq-mean-token-mean", 0.5), ("seq-mean-token-sum", 1e9)]
    ):
        batch = ragged(4000 + seed)
        predicted = batch["new_values"].clone().requires_grad_()
        loss, clipped = verl.compute_value_loss(
            predicted, batch["token_rewards"], batch["values"], batch["mask"], clip, how
        )
        (gradient,) = torch.autograd.grad(loss, predicted)
        options = {"how": how, "clip": clip}
        cases.append(record("value", batch, options, loss=loss, gradient=gradient, clipped=clipped))
    return cases


def verl_aggregation() -> list[Any]:
    from verl.trainer.ppo import core_algos as verl

    cases = []
    modes = ["token-mean", "token-sum", "seq-mean-token-mean", "seq-mean-token-sum"]
    for seed, how in enumerate([*modes, "seq-mean-token-sum-norm"]):
        for empty in (False, True):
            batch = ragged(5000 + seed)
            if empty:
                batch["mask"][2] = 0.0
            losses = batch["token_rewards"].clone().requires_grad_()
            loss = verl.agg_loss(losses, batch["mask"], how, loss_scale_factor=11)
            (gradient,) = torch.autograd.grad(loss, losses)
            options = {"how": how, "normaliser": 11}
            cases.append(record("aggregate", batch, options, loss=loss, gradient=gradient))
    return cases


def lines_between(method: Any, first: str, last: str) -> str:
    """The source lines of a method from the one that starts with `first` to before `last`."""
    lines = inspect.getsource(method).splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().startswith(first))
    end = next(i for i, line in enumerate(lines) if i > start and line.strip().startswith(last))
    return textwrap.dedent("\n".join(lines[start:end]))


def trl_batch(seed: int) -> dict[str, Any]:
    """TRL's groups are consecutive and of one size."""
    batch = ragged(seed)
    batch["group_ids"] = torch.arange(12) // 4
    return batch


def trl_grpo() -> list[Any]:
    from trl.trainer import grpo_trainer

    code = compile(
        lines_between(
            grpo_trainer.GRPOTrainer._generate_and_score_completions,
            "unscorable_mask =",
            "# Slice to keep only the local part",
        ),
        "grpo_trainer",
        "exec",
    )
    cases = []
    for seed, (aggregation, scale, weights) in enumerate(
        [
            ("sum_then_normalize", "group", None),
            ("sum_then_normalize", "batch", None),
            ("sum_then_normalize", "none", None),
            ("normalize_then_sum", "group", [1.0, 0.5, 2.0]),
        ]
    ):
        batch = trl_batch(6000 + seed)
        several = weights is not None
        names = {
            "self": SimpleNamespace(
                multi_objective_aggregation=aggregation,
                scale_rewards=scale,
                reward_weights=torch.tensor(weights if several else [1.0], dtype=torch.float64),
                reward_funcs=[None] * (3 if several else 1),
            ),
            "rewards_per_func": (batch["parts"] if several else batch["rewards"][:, None]).clone(),
            "num_generations": 4,
            "device": "cpu",
        }
        exec(code, vars(grpo_trainer) | names, names)
        options: dict[str, Any] = {"eps": 1e-4}
        options |= {"weights": weights} if several else {"scale": scale}
        name = "gdpo" if several else "group"
        cases.append(record(name, batch, options, advantages=names["advantages"]))
    return cases


def trl_rloo() -> list[Any]:
    from trl.trainer import rloo_trainer

    code = compile(
        lines_between(
            rloo_trainer.RLOOTrainer._generate_and_score_completions,
            "unscorable_mask =",
            "# Slice to keep only the local part",
        ),
        "rloo_trainer",
        "exec",
    )
    cases = []
    for seed, (beta, normalise) in enumerate([(0.0, False), (0.05, False), (0.05, True)]):
        batch = trl_batch(7000 + seed)
        names = {
            "self": SimpleNamespace(
                reward_weights=torch.ones(1, dtype=torch.float64),
                reward_clip_range=(0.2, 0.8),
                beta=beta,
                normalize_advantages=normalise,
            ),
            "rewards_per_func": batch["rewards"][:, None].clone(),
            "old_per_token_logps": batch["kl"],
            "ref_per_token_logps": torch.zeros_like(batch["kl"]),
            "completion_mask": batch["mask"],
            "gather": lambda value: value,
            "num_generations": 4,
            "device": "cpu",
        }
        exec(code, vars(rloo_trainer) | names, names)
        options = {"beta": beta, "normalise": normalise, "low": 0.2, "high": 0.8}
        cases.append(record("rloo", batch, options, advantages=names["advantages"]))
    return cases


def trl_overlong() -> list[Any]:
    from trl.rewards import get_soft_overlong_punishment

    lengths = [1, 79, 80, 81, 90, 99, 100, 101, 500]
    found = get_soft_overlong_punishment(100, 20)([[0] * length for length in lengths])
    return [{"lengths": lengths, "max_length": 100, "buffer": 20, "penalties": found}]


def main() -> None:
    import trl
    import verl

    cases = {
        "verl_outcome": verl_outcome(),
        "verl_tokens": verl_tokens(),
        "verl_value_loss": verl_value_loss(),
        "verl_aggregation": verl_aggregation(),
        "trl_grpo": trl_grpo(),
        "trl_rloo": trl_rloo(),
        "trl_overlong": trl_overlong(),
    }
    versions = {"trl": trl.__version__, "verl": verl.__version__, "torch": torch.__version__}
    path = GOLDEN / "advantages.json"
    path.write_text(json.dumps({"versions": versions, **cases}) + "\n")
    print(path, versions, {key: len(value) for key, value in cases.items()})


if __name__ == "__main__":
    main()
