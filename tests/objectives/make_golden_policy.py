"""Write `golden/policy.json`: policy losses, KL and mismatch weights of TRL 1.16 and verl 0.9.1.

Not part of the test run; see `make_golden.py` for the environment it needs. Their own code is
called, in float32 and in float64, on random ragged batches whose numbers both can hold: TRL's
`_compute_loss` methods with a bare object in place of the trainer and a model that returns given
logprobs, and verl's functions as they are. TRL's correction for vLLM stands in the middle of a
method that also generates, so its lines are taken from the installed source.

A case says how *we* are called (`ours`) and holds what *they* gave; how they are called is here.
"""

from __future__ import annotations

import inspect
import json
import math
import re
import textwrap
from collections import defaultdict
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any

import torch

GOLDEN = Path(__file__).parent / "golden"
MAX_LENGTH = 12
INFINITE = [-math.inf, math.inf]
VERL_BOUNDS = [-20.0, 20.0]
DTYPES = {"float32": torch.float32, "float64": torch.float64}
Batch = dict[str, torch.Tensor]


def batch(seed: int, lengths: list[int], sigma: float = 0.4, leap: float = 0.0) -> Batch:
    """Float32 numbers: logprobs of four policies, entropies, advantages (one is 0), a mask.

    `leap` moves one token in five that far, up or down.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, width = len(lengths), max(lengths)
    old = -3.0 * torch.rand(rows, width, generator=generator) - 0.05
    noise = torch.randn(3, rows, width, generator=generator)
    sign = torch.where(torch.rand(rows, width, generator=generator) < 0.5, -1.0, 1.0)
    leaps = leap * sign * (torch.rand(rows, width, generator=generator) < 0.2)
    leaps[0] = leap  # the first row: all of it, upwards
    advantages = torch.randn(rows, generator=generator)
    advantages[-1] = 0.0
    old = old - leaps.clamp(min=0)
    return {
        "old": old,
        "new": old + sigma * noise[0] + leaps,
        "ref": old + 0.3 * noise[1] + leaps.flip(0),
        "sampler": old + 0.4 * noise[2],
        "entropy": torch.rand(rows, width, generator=generator),
        "advantages": advantages,
        "mask": (torch.arange(width) < torch.tensor(lengths)[:, None]).to(torch.int64),
    }


BATCHES = {
    "mild": batch(1, [5, 9, 1, 7, 3, 6]),
    "empty row": batch(2, [4, 8, 0, 7, 3, 1]),
    "leaps": batch(3, [1, 9, 2, 7, 3, 6], leap=23.0),
}
BATCHES["on-policy"] = BATCHES["mild"] | {"new": BATCHES["mild"]["old"].clone()}


def case(source: str, name: str, theirs: Any, **ours: Any) -> dict[str, Any]:
    """What `theirs(batch)` gives on the named batch, and its gradient, in both precisions."""
    found = {}
    for key, dtype in DTYPES.items():
        copy = {
            k: v.to(dtype) if v.is_floating_point() else v.clone() for k, v in BATCHES[name].items()
        }
        copy["new"].requires_grad_()
        loss = theirs(copy)
        (gradient,) = torch.autograd.grad(loss, copy["new"])
        rows = [round_trip(row, key) for row in gradient.tolist()]
        found[key] = {"loss": loss.item(), "gradient": rows}
    return {"source": source, "batch": name, "ours": ours, "theirs": found}


def round_trip(values: list[float], dtype: str) -> list[float]:
    """Nine digits say all of a float32."""
    return [float(f"{v:.9g}") for v in values] if dtype == "float32" else values


# TRL


def trl_accelerator() -> SimpleNamespace:
    def same(value: Any, *_: Any, **__: Any) -> Any:
        return value

    return SimpleNamespace(
        gather=same, gather_for_metrics=same, reduce=same, pad_across_processes=same,
        num_processes=1, device="cpu",
    )  # fmt: skip


def trl_grpo(**options: Any) -> Any:
    from trl.trainer.grpo_trainer import GRPOTrainer

    def theirs(data: Batch) -> torch.Tensor:
        arguments = {
            "delta": None, "use_bias_correction_kl": False, "steps_per_generation": 1,
            "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05, "vespo_k_pos": 2.0,
            "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0, "vespo_lambda_neg": 2.0,
        }  # fmt: skip
        settings = {
            "loss_type": "grpo", "beta": 0.0, "epsilon_low": 0.2, "epsilon_high": 0.2,
            "max_completion_length": MAX_LENGTH, "importance_sampling_level": "token",
            "current_gradient_accumulation_steps": 1, "top_entropy_quantile": 1.0,
            "off_policy_mask_threshold": None, "use_vllm": False, "aux_loss_enabled": False,
            "vllm_importance_sampling_correction": True, "_entropy_bonus_enabled": False,
        }  # fmt: skip
        is_mode, is_min, is_max = options.get("vllm", (None, None, None))
        given = {k: v for k, v in options.items() if k != "vllm"}
        assert set(given) <= {*arguments, *settings}, given
        trainer = SimpleNamespace(
            **settings | {k: v for k, v in given.items() if k in settings},
            args=SimpleNamespace(
                **arguments | {k: v for k, v in given.items() if k in arguments}
            ),
            _get_per_token_logps_and_entropies=lambda *_, **__: (
                data["new"], data["entropy"], None,
            ),
            accelerator=trl_accelerator(),
            model=SimpleNamespace(training=True),
            _metrics={"train": defaultdict(list)},
            get_off_policy_mask=GRPOTrainer.get_off_policy_mask,
            get_gamma_weights=GRPOTrainer.get_gamma_weights,
        )  # fmt: skip
        trainer.get_high_entropy_mask = MethodType(GRPOTrainer.get_high_entropy_mask, trainer)
        inputs = trl_inputs(data) | {
            "old_per_token_logps": data["old"],
            "ref_per_token_logps": data["ref"],
            "num_items_in_batch": data["mask"].sum(),
        }
        if trainer.off_policy_mask_threshold is not None:
            inputs["sampling_per_token_logps"] = data["sampler"]
        if is_mode:
            trainer.use_vllm = True
            inputs["importance_sampling_ratio"] = trl_vllm_ratio(data, is_mode, is_min, is_max)
        return GRPOTrainer._compute_loss(trainer, None, inputs)

    return theirs


def trl_inputs(data: Batch) -> dict[str, torch.Tensor]:
    rows = len(data["mask"])
    return {
        "prompt_ids": torch.ones(rows, 1, dtype=torch.long),
        "prompt_mask": torch.ones(rows, 1, dtype=torch.long),
        "completion_ids": torch.ones_like(data["mask"]),
        "completion_mask": data["mask"],
        "advantages": data["advantages"],
    }


def trl_vllm_ratio(data: Batch, mode: str, low: float | None, high: float | None) -> torch.Tensor:
    """The lines of TRL's `_generate_and_score_completions` that weigh for the sampler."""
    from trl.trainer import grpo_trainer

    source = inspect.getsource(grpo_trainer.GRPOTrainer._generate_and_score_completions)
    lines = source.splitlines()
    first = next(i for i, line in enumerate(lines) if "per_token_logps_diff = (old_per" in line)
    last = next(i for i, line in enumerate(lines) if "Unknown vLLM importance sampling" in line)
    block = textwrap.dedent("\n".join(lines[first : last + 2]))
    names = {
        "torch": torch,
        "math": math,
        "mask": data["mask"],
        "old_per_token_logps": data["old"],
        "sampling_per_token_logps": data["sampler"],
        "self": SimpleNamespace(
            vllm_importance_sampling_mode=mode,
            vllm_importance_sampling_clip_min=low,
            vllm_importance_sampling_clip_max=high,
        ),
    }
    exec(compile(block, "trl", "exec"), names)
    ratio: torch.Tensor = names["vllm_importance_sampling_ratio"]
    return ratio


def trl_rloo(low: float, high: float) -> Any:
    from trl.trainer.rloo_trainer import RLOOTrainer

    def theirs(data: Batch) -> torch.Tensor:
        trainer = SimpleNamespace(
            _get_per_token_logps_and_entropies=lambda *_, **__: (
                data["new"], data["entropy"], None,
            ),
            epsilon_low=low,
            epsilon_high=high,
            aux_loss_enabled=False,
            accelerator=trl_accelerator(),
            model=SimpleNamespace(training=True),
            _metrics={"train": defaultdict(list)},
        )  # fmt: skip
        old = (data["old"] * data["mask"]).sum(1)
        return RLOOTrainer._compute_loss(trainer, None, trl_inputs(data) | {"old_logps": old})

    return theirs


# TRL's loss names, and the aggregation that each fixes; it counts rows without tokens.
TRL_AGGREGATION = {
    "grpo": "seq-mean-token-mean",
    "sapo": "seq-mean-token-mean",
    "bnpo": "token-mean",
    "dapo": "token-mean",
    "cispo": "token-mean",
    "vespo": "token-mean",
    "dr_grpo": "seq-mean-token-sum-norm",
    "luspo": "seq-mean-token-sum",
}


def trl_cases() -> list[Any]:
    def one(name: str, policy: str, options: dict[str, Any], **theirs: Any) -> Any:
        ours = {key: theirs.pop(key) for key in ("extra",) if key in theirs}
        loss_type = theirs.get("loss_type", "grpo")
        return case(
            f"trl {loss_type}", name, trl_grpo(**theirs), policy=policy, options=options,
            aggregation=TRL_AGGREGATION[loss_type], counts_empty=True, **ours.get("extra", {}),
        )  # fmt: skip

    free = {"log_ratio_bounds": INFINITE}
    wide = {"clip_low": 0.2, "clip_high": 0.28}
    eps = {"epsilon_low": 0.2, "epsilon_high": 0.28}
    cases = []
    for kind in ("grpo", "bnpo", "dapo", "dr_grpo"):
        cases.append(one("on-policy", "clip", wide, loss_type=kind, **eps))
        cases.append(one("empty row", "clip", wide | {"dual_clip": 1.5}, loss_type=kind, delta=1.5,
                         **eps))  # fmt: skip
        cases.append(one("mild", "gspo", {"clip_low": 0.1, "clip_high": 0.15}, loss_type=kind,
                         epsilon_low=0.1, epsilon_high=0.15,
                         importance_sampling_level="sequence"))  # fmt: skip
    for name in ("mild", "empty row"):
        for kind, ours in (
            ("cispo", {"cap": 1.05}),
            ("sapo", {"temperature_positive": 2.0, "temperature_negative": 3.0}),
        ):
            cases.append(one(name, kind, ours | {"level": "sequence"}, loss_type=kind,
                             epsilon_high=1.05, sapo_temperature_pos=2.0, sapo_temperature_neg=3.0,
                             importance_sampling_level="sequence"))  # fmt: skip
    for name in ("empty row", "leaps"):
        cases.append(one(name, "clip", wide | free, loss_type="luspo", **eps))
        cases.append(one(name, "gspo", wide | free, loss_type="luspo",
                         importance_sampling_level="sequence", **eps))  # fmt: skip
        cases.append(one(name, "gspo", wide | free | {"dual_clip": 1.5}, delta=1.5,
                         importance_sampling_level="sequence", **eps))  # fmt: skip
        cases.append(one(name, "cispo", {"cap": 1.3} | free, loss_type="cispo", epsilon_high=1.3))
        cases.append(one(name, "vespo", {}, loss_type="vespo"))
    cases.append(one("leaps", "clip", wide | free, **eps))
    cases.append(one("mild", "importance", {}, epsilon_low=1.0, epsilon_high=1e9))
    cases.append(one("empty row", "sapo", {}, loss_type="sapo"))
    cases.append(one("mild", "sapo", {"temperature_positive": 2.0, "temperature_negative": 3.0},
                     loss_type="sapo", sapo_temperature_pos=2.0,
                     sapo_temperature_neg=3.0))  # fmt: skip
    for name in ("mild", "empty row", "leaps"):
        for ratio in (None, "token", "sequence"):
            if name == "leaps" and ratio:
                continue  # terms of 1e16 cancel to less than they are rounded by
            kl = {"kind": "k3", "coefficient": 0.1, "ratio": ratio,
                  "options": free | ({"ratio_bounds": INFINITE} if ratio else {})}  # fmt: skip
            level = "sequence" if ratio == "sequence" else "token"
            cases.append(one(name, "gspo" if ratio == "sequence" else "clip", wide | free,
                             beta=0.1, use_bias_correction_kl=bool(ratio),
                             importance_sampling_level=level, extra={"kl": kl},
                             **eps))  # fmt: skip
    for name in ("mild", "empty row"):
        cases.append(one(name, "clip", wide, loss_type="dapo", top_entropy_quantile=0.3, beta=0.1,
                         extra={"top_entropy": 0.3, "kl": {"kind": "k3", "coefficient": 0.1}},
                         **eps))  # fmt: skip
        for level in ("token", "sequence"):
            for mode in ("truncate", "mask"):
                weights = {
                    "level": "sequence-product" if level == "sequence" else "token",
                    "mode": mode, "low": 0.7, "high": 1.5,
                }  # fmt: skip
                cases.append(one(name, "clip", wide, loss_type="dapo",
                                 vllm=(f"{level}_{mode}", 0.7, 1.5),
                                 extra={"weights": weights}, **eps))  # fmt: skip
    for name in ("on-policy", "leaps"):
        cases.append(one(name, "clip", wide | free, off_policy_mask_threshold=0.1,
                         extra={"on_policy": 0.1}, **eps))  # fmt: skip
    for name in ("mild", "on-policy"):
        cases.append(
            case("trl rloo", name, trl_rloo(0.3, 0.5), policy="rloo",
                 options={"clip_low": 0.3, "clip_high": 0.5},
                 aggregation="seq-mean-token-mean", counts_empty=True)
        )  # fmt: skip
    return cases


# verl


def verl_policy(function: str, how: str, weighted: bool = False, **options: Any) -> Any:
    from verl.trainer.ppo import core_algos
    from verl.workers.config import ActorConfig

    class Config(ActorConfig):
        """Some of verl's losses insist on the class; its checks concern the rest of a run."""

        def __init__(self) -> None:
            values = {"clip_ratio": 0.2, "clip_ratio_low": 0.2, "clip_ratio_high": 0.2} | {
                key: value for key, value in options.items() if key not in POLICY_LOSS
            }
            info = {"loss_scale_factor": MAX_LENGTH} if how.endswith("norm") else {}
            coefficients = dict.fromkeys(POLICY_LOSS) | {
                key: value for key, value in options.items() if key in POLICY_LOSS
            }
            values |= {"global_batch_info": info, "policy_loss": SimpleNamespace(**coefficients)}
            for key, value in values.items():
                object.__setattr__(self, key, value)

        def get(self, name: str, default: Any = None) -> Any:
            return getattr(self, name, default)

    def theirs(data: Batch) -> torch.Tensor:
        weights = None
        if weighted:
            gap = data["old"] - data["sampler"]
            weights = rollout_weights(gap, data["mask"], "token", 1.5)
        loss, _ = getattr(core_algos, function)(
            data["old"],
            data["new"],
            data["advantages"][:, None].expand_as(data["old"]).clone(),
            data["mask"],
            how,
            Config(),
            weights,
        )
        return loss

    return theirs


POLICY_LOSS = (
    "dro_beta",
    "clip_cov_ratio",
    "clip_cov_lb",
    "clip_cov_ub",
    "kl_cov_ratio",
    "ppo_kl_coef",
)


def rollout_weights(gap: torch.Tensor, mask: torch.Tensor, level: str, threshold: Any) -> Any:
    from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_weights

    return compute_rollout_correction_weights(gap, mask, level, threshold)[0]


def verl_cases() -> list[Any]:
    def one(
        name: str, function: str, how: str, policy: str, options: dict[str, Any], **theirs: Any
    ) -> Any:
        extra = theirs.pop("extra", {})
        return case(
            f"verl {function.removeprefix('compute_policy_loss_')}", name,
            verl_policy(function, how, **theirs), policy=policy, options=options, aggregation=how,
            counts_empty=function.endswith("geo_mean"), **extra,
        )  # fmt: skip

    bounded, free = {"log_ratio_bounds": VERL_BOUNDS}, {"log_ratio_bounds": INFINITE}
    ranges = {"clip_low": 0.2, "clip_high": 0.28}
    theirs = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28}
    mean, flat = "seq-mean-token-mean", "token-mean"
    cases = []
    for name in BATCHES:
        prefix = "compute_policy_loss_"
        cases += [
            one(name, prefix + "vanilla", flat, "clip", ranges | bounded | {"dual_clip": 3.0},
                clip_ratio_c=3.0, **theirs),
            one(name, prefix + "gspo", mean, "gspo-token",
                ranges | {"log_ratio_bounds": [-math.inf, 10.0]}, **theirs),
            one(name, prefix + "sapo", mean, "sapo",
                bounded | {"temperature_positive": 1.5, "temperature_negative": 2.0},
                tau_pos=1.5, tau_neg=2.0),
            one(name, prefix + "geo_mean", mean, "gmpo", ranges | free, **theirs),
            one(name, prefix + "cispo", flat, "cispo", ranges | bounded, **theirs),
            one(name, prefix + "dppo_tv", flat, "dppo-tv",
                {"clip_low": 0.05, "clip_high": 0.1, "cap": 1.5} | bounded,
                clip_ratio_low=0.05, clip_ratio_high=0.1, clip_ratio_c=1.5),
            one(name, prefix + "dppo_kl", flat, "dppo-kl",
                {"clip_low": 0.01, "clip_high": 0.02, "cap": 1.5} | bounded,
                clip_ratio_low=0.01, clip_ratio_high=0.02, clip_ratio_c=1.5),
            one(name, prefix + "clip_cov", flat, "clip-cov", ranges | free,
                clip_cov_ratio=1.0, clip_cov_lb=0.05, clip_cov_ub=1.0, **theirs,
                extra={"selection": {"share": 1.0, "low": 0.05, "high": 1.0, **ranges}}),
            one(name, prefix + "kl_cov", flat, "kl-cov", free | {"kl_coefficient": 0.7},
                kl_cov_ratio=0.2, ppo_kl_coef=0.7, extra={"selection": {"share": 0.2}}),
            one(name, prefix + "dro", flat, "dro", {"beta": 0.3}, dro_beta=0.3),
        ]  # fmt: skip
    for how in ("seq-mean-token-sum", "seq-mean-token-sum-norm"):
        cases.append(one("empty row", "compute_policy_loss_gpg", how, "reinforce", {}))
        cases.append(one("empty row", "compute_policy_loss_reinforce", how, "reinforce", {}))
    weights = {"level": "token", "mode": "truncate", "high": 1.5}
    cases.append(one("mild", "compute_policy_loss_vanilla", flat, "clip",
                     ranges | bounded | {"dual_clip": 3.0}, clip_ratio_c=3.0, weighted=True,
                     extra={"weights": weights}, **theirs))  # fmt: skip
    return cases


def kl_cases() -> list[Any]:
    from verl.trainer.ppo import core_algos

    bounds = {"log_ratio_bounds": VERL_BOUNDS, "value_bound": 10.0}
    cases = []
    for name in ("mild", "leaps"):
        for kind in ("k1", "abs", "k2", "k3", "k1+", "abs+", "k3+"):
            cases.append(
                case(
                    "verl kl", name,
                    lambda data, kind=kind: (
                        core_algos.kl_penalty(data["new"], data["ref"], kind) * data["mask"]
                    ).sum(),
                    kind=kind, options=bounds if kind.startswith("k3") else {},
                )
            )  # fmt: skip
    return cases


def controller_cases() -> list[Any]:
    from verl.trainer.ppo.core_algos import AdaptiveKLController

    controller = AdaptiveKLController(0.2, 6.0, 10000)
    path = []
    for measured, samples in [(3.0, 512), (6.5, 512), (100.0, 1000), (6.0, 10), (0.0, 9000)]:
        controller.update(measured, samples)
        path.append({"measured": measured, "samples": samples, "coefficient": controller.value})
    return path


def mismatch_cases() -> list[Any]:
    from verl.trainer.ppo import rollout_corr_helper as helper

    cases = []
    for name in ("mild", "leaps"):
        data = {k: v.double() if v.is_floating_point() else v for k, v in BATCHES[name].items()}
        # The policy being trained in the place of the trainer's: on "leaps", far from the sampler.
        gap, mask = data["new"] - data["sampler"], data["mask"]
        metrics = helper.compute_offpolicy_metrics(data["new"], data["sampler"], mask)
        for level, ours in (("token", "token"), ("sequence", "sequence-product")):
            for mode, threshold, low in (("truncate", 1.5, 0.0), ("mask", "0.6_1.5", 0.6)):
                cases.append({
                    "batch": name,
                    "ours": {"level": ours, "mode": mode, "low": low, "high": 1.5},
                    "weights": rollout_weights(gap, mask, level, threshold).tolist(),
                    "metrics": metrics,
                })  # fmt: skip
        for option, ours in (
            ("seq_sum_k1", "sequence-product"), ("seq_mean_k1", "sequence-geometric"),
        ):  # fmt: skip
            # Their bounds are those of sampler / trainer.
            keep, _ = helper.compute_rollout_rejection_mask(gap, mask, option, "0.625_1.6")
            cases.append({
                "batch": name,
                "ours": {"level": ours, "mode": "reject", "low": 0.625, "high": 1.6},
                "weights": keep.double().tolist(),
                "metrics": metrics,
            })  # fmt: skip
    return cases


def offered() -> dict[str, list[str]]:
    """The names that each library itself knows, so that a test can see what is not compared."""
    from trl.trainer.grpo_trainer import GRPOTrainer
    from verl.trainer.ppo import core_algos

    loss_lines = [
        line
        for line in inspect.getsource(GRPOTrainer._compute_loss).splitlines()
        if "self.loss_type" in line
    ]
    estimators = core_algos.ADV_ESTIMATOR_REGISTRY
    return {
        "trl policy": sorted(set(re.findall(r'"(\w+)"', "\n".join(loss_lines)))),
        "verl policy": sorted(core_algos.POLICY_LOSS_REGISTRY),
        "verl advantage": sorted(str(getattr(name, "value", name)) for name in estimators),
        "verl aggregation": sorted(
            set(re.findall(r'"((?:seq|token)-[\w-]+)"', inspect.getsource(core_algos.agg_loss)))
        ),
        "verl kl": sorted(
            set(re.findall(r'"(\w+)"', inspect.getsource(core_algos.kl_penalty_forward)))
        ),
    }


def main() -> None:
    import trl
    import verl

    content = {
        "versions": {"trl": trl.__version__, "verl": verl.__version__, "torch": torch.__version__},
        "max_length": MAX_LENGTH,
        "offered": offered(),
        "batches": {
            name: {
                key: [round_trip(row, "float32") for row in value.tolist()]
                if value.dim() == 2 and value.is_floating_point()
                else value.tolist()
                for key, value in data.items()
            }
            for name, data in BATCHES.items()
        },
        "policy": [*trl_cases(), *verl_cases()],
        "kl": kl_cases(),
        "controller": controller_cases(),
        "mismatch": mismatch_cases(),
    }
    path = GOLDEN / "policy.json"
    path.write_text(json.dumps(content) + "\n")
    counts = {key: len(value) for key, value in content.items() if isinstance(value, list)}
    print(path, path.stat().st_size, counts)


if __name__ == "__main__":
    main()
