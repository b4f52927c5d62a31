"""Policy losses, KL and mismatch weights equal TRL's and verl's, loss and gradient.

What TRL 1.16 and verl 0.9.1 gave is in `golden/policy.json` (`make_golden_policy.py`), in float32
and in float64; each is compared in its own precision.
"""

import json
from pathlib import Path

import pytest
import torch
from padded_reference import pack, sequence_ids

from rlvr.objectives.aggregation import Totals, aggregate
from rlvr.objectives.kl import adapted_kl_coefficient, kl_estimate
from rlvr.objectives.mismatch import mismatch_weights, on_policy_sequences
from rlvr.objectives.policy import PolicyTokens, policy_loss
from rlvr.objectives.token_selection import keep_only, select_tokens

FOLDER = Path(__file__).parent / "golden"
GOLDEN = json.loads((FOLDER / "policy.json").read_text())
ADVANTAGES = json.loads((FOLDER / "advantages.json").read_text())
DTYPES = {"float32": (torch.float32, 1e-6), "float64": (torch.float64, 1e-12)}
# verl adds 1e-8 to the lengths that it divides by in a sequence's mean.
VERL_EPSILON = 1e-8
# verl lifts weights below e^-20 to that, 2e-9.
VERL_SMALLEST_WEIGHT = 2.1e-9

each_dtype = pytest.mark.parametrize("dtype", list(DTYPES))


def load(name, dtype):
    batch = {key: torch.tensor(value) for key, value in GOLDEN["batches"][name].items()}
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in batch.items()}


def of(batch, name):
    return pack(batch["mask"], batch[name])


def our_loss(case, batch):
    """What a case asks of us, and the gradient on the padded logprobs."""
    ours, mask, ids = case["ours"], batch["mask"], sequence_ids(batch["mask"])
    new = batch["new"].requires_grad_()
    whole = {
        "logprobs": pack(mask, new),
        "old_logprobs": of(batch, "old"),
        "advantages": of(batch, "advantages"),
        "sequence_ids": ids,
        "entropy": of(batch, "entropy"),
    }
    selected = None
    if "selection" in ours:
        selected = select_tokens(ours["policy"], PolicyTokens(**whole), seed=0, **ours["selection"])
    tokens = PolicyTokens(**whole, selected=selected)
    per_token, _ = policy_loss(ours["policy"], tokens, **ours["options"])
    if "on_policy" in ours:
        keep = on_policy_sequences(
            tokens.logprobs, of(batch, "sampler"), tokens.advantages, ids,
            threshold=ours["on_policy"],
        )  # fmt: skip
        assert keep.any() and not keep.all()
        per_token = keep_only(per_token, keep)
    if "top_entropy" in ours:
        keep = select_tokens("top-entropy", tokens, seed=0, share=ours["top_entropy"])
        per_token = keep_only(per_token, keep)
    if "weights" in ours:
        weights, _ = mismatch_weights(
            tokens.old_logprobs, of(batch, "sampler"), ids, **ours["weights"]
        )
        per_token = per_token * weights
    if "kl" in ours:
        kl = ours["kl"]
        per_token = per_token + kl["coefficient"] * kl_estimate(
            tokens.logprobs, of(batch, "ref"), kl["kind"], **kl.get("options", {}),
            old_logprobs=tokens.old_logprobs if kl.get("ratio") else None,
            sequence_ids=ids if kl.get("ratio") == "sequence" else None,
        )  # fmt: skip
    rows = mask.sum(1)
    loss = aggregate(
        per_token,
        ids,
        how=ours["aggregation"],
        totals=Totals(
            int(rows.sum()), len(rows) if ours["counts_empty"] else int((rows > 0).sum())
        ),
        normaliser=GOLDEN["max_length"],
    )
    (gradient,) = torch.autograd.grad(loss, new)
    return loss, gradient


def check(theirs, loss, gradient, tolerance):
    expected = torch.tensor(theirs["gradient"], dtype=gradient.dtype)
    assert expected.abs().max() > 0
    assert loss.item() == pytest.approx(theirs["loss"], rel=tolerance, abs=tolerance)
    scale = float(expected.abs().max())
    torch.testing.assert_close(gradient, expected, rtol=tolerance, atol=tolerance * min(scale, 1))


def name_of(case):
    return f"{case['source']}-{case['batch']}".replace(" ", "_")


# Their names for what the cases have under another one; None is what there is no counterpart of.
ALIASES = {
    "verl policy": {"bypass_mode": "vanilla"},  # the same losses, to the sampler's logprobs
    "verl advantage": {
        "grpo": "group",
        "grpo_vectorized": "group",
        "grpo_passk": "max-gap",
        "rloo": "leave-one-out",
        "rloo_vectorized": "leave-one-out",
        "reinforce_plus_plus": "reinforce++",
        "reinforce_plus_plus_baseline": "reinforce++-baseline",
        "optimal_token_baseline": None,
        "tir_optimal_token_baseline": None,
    },
    "verl kl": {"kl": "k1", "mse": "k2", "low_var_kl": "k3", "full": None},
}


@pytest.mark.parametrize("family", GOLDEN["offered"])
def test_what_they_offer_is_compared(family):
    policies = {case["source"] for case in GOLDEN["policy"]}
    library = family.split()[0]
    compared = {
        "policy": {name.removeprefix(f"{library} ") for name in policies if library in name},
        "advantage": {case["name"] for key in ADVANTAGES for case in ADVANTAGES[key]
                      if key in ("verl_outcome", "verl_tokens")},
        "aggregation": {case["options"]["how"] for case in ADVANTAGES["verl_aggregation"]},
        "kl": {case["ours"]["kind"] for case in GOLDEN["kl"]},
    }[family.split()[1]]  # fmt: skip
    aliases = ALIASES.get(family, {})
    names = {aliases.get(name, name) for name in GOLDEN["offered"][family]} - {None}
    assert len(names) > 3 and names <= compared


@each_dtype
@pytest.mark.parametrize("case", GOLDEN["policy"], ids=name_of)
def test_policy_losses_equal_theirs(case, dtype):
    torch_dtype, tolerance = DTYPES[dtype]
    if case["source"].startswith("verl") and case["ours"]["aggregation"] == "seq-mean-token-mean":
        tolerance = max(tolerance, VERL_EPSILON)
    check(case["theirs"][dtype], *our_loss(case, load(case["batch"], torch_dtype)), tolerance)


@each_dtype
@pytest.mark.parametrize("case", GOLDEN["kl"], ids=lambda case: case["ours"]["kind"])
def test_kl_estimates_equal_verls(case, dtype):
    torch_dtype, tolerance = DTYPES[dtype]
    batch = load(case["batch"], torch_dtype)
    new = batch["new"].requires_grad_()
    loss = kl_estimate(
        pack(batch["mask"], new), of(batch, "ref"), case["ours"]["kind"], **case["ours"]["options"]
    ).sum()
    (gradient,) = torch.autograd.grad(loss, new)
    check(case["theirs"][dtype], loss, gradient, tolerance)


def test_the_adaptive_coefficient_equals_verls():
    coefficient = 0.2
    for step in GOLDEN["controller"]:
        coefficient = adapted_kl_coefficient(
            coefficient, step["measured"], target=6.0, horizon=10000, samples=step["samples"]
        )
        assert coefficient == pytest.approx(step["coefficient"], rel=1e-15)


@pytest.mark.parametrize(
    "case", GOLDEN["mismatch"], ids=lambda case: "-".join(str(v) for v in case["ours"].values())
)
def test_mismatch_weights_and_measures_equal_verls(case):
    batch = load(case["batch"], torch.float64)
    mask = batch["mask"]
    weights, sums = mismatch_weights(
        of(batch, "new"), of(batch, "sampler"), sequence_ids(mask), **case["ours"]
    )
    expected = pack(mask, torch.tensor(case["weights"], dtype=torch.float64))
    torch.testing.assert_close(weights, expected, rtol=1e-12, atol=VERL_SMALLEST_WEIGHT)
    found, theirs = sums.metrics(), case["metrics"]
    if case["batch"] == "mild":  # theirs is not bounded
        assert found["kl"] == pytest.approx(theirs["k3_kl"], rel=1e-6)
    if case["ours"]["level"] == "token":
        assert found["chi2"] == pytest.approx(theirs["chi2_token"], rel=1e-6)
    if case["ours"]["level"] == "sequence-product":
        assert found["chi2"] == pytest.approx(theirs["chi2_seq"], rel=1e-6)
