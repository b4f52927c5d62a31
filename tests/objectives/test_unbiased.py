"""What each estimator estimates: exactly, over all batches of small problems, and over samples."""

from functools import cache
from pathlib import Path

import pytest
import torch
from padded_reference import built_in
from tree_mdp import BANDIT, BINARY_TREE, STALE_TREE, TREE
from unbiased_cases import Measured, cases, markdown

from rlvr.objectives.mismatch import LEVELS, MODES

DOCS = Path(__file__).parents[2] / "docs" / "objectives.md"
CASES = cases()
IDS = [f"{case.section.split()[0]}-{case.name}" for case in CASES]
SAMPLES = 100_000
# Advantages of rollouts come back in float32.
EXACT = 2e-6


@cache
def measured(index):
    return Measured.of(CASES[index])


@pytest.mark.parametrize("problem", [TREE, BINARY_TREE, STALE_TREE, BANDIT])
def test_the_problems_are_what_they_claim(problem):
    probs = problem.leaf_probs().detach()
    assert float(probs.sum()) == pytest.approx(1.0, abs=1e-12)
    # Scores have mean 0, and the policy gradient is the mean of reward times score.
    torch.testing.assert_close(probs @ problem.scores, torch.zeros_like(problem.theta))
    torch.testing.assert_close(
        (probs * problem.reward) @ problem.scores, problem.policy_gradient, rtol=1e-12, atol=1e-12
    )
    assert float(problem.batch_probs(3).sum()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(CASES)), ids=IDS)
def test_the_expectation_over_all_batches_is_the_closed_form(index):
    found = measured(index)
    size = max(float(found.truth.norm()), float(found.wanted.norm()))
    assert float((found.mean - found.truth).norm()) < EXACT * size


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(CASES)), ids=IDS)
def test_the_mean_over_1e5_samples_agrees_within_its_standard_error(index):
    """Batches are drawn sequence by sequence; the known bias shows as beyond the standard error."""
    case, found = CASES[index], measured(index)
    generator = torch.Generator().manual_seed(1234 + index)
    leaves = torch.multinomial(
        case.problem.sampling_probs, SAMPLES * case.n, replacement=True, generator=generator
    ).view(SAMPLES, case.n)
    places = len(case.problem.leaves) ** torch.arange(case.n - 1, -1, -1)
    estimates = found.table[leaves @ places]
    error = estimates.std(0) / SAMPLES**0.5 + 1e-6 * float(found.wanted.norm())
    assert float(((estimates.mean(0) - found.truth).abs() / error).max()) < 4.0
    beyond = float(((estimates.mean(0) - found.wanted).abs() / error).max())
    if found.bias < 1e-6:
        assert beyond < 4.0
    else:
        assert beyond > 6.0


def test_every_advantage_aggregation_kl_and_mismatch_is_among_the_cases():
    first = {case.name.split(",")[0] for case in CASES}
    for family in ("advantage", "token-advantage", "aggregation", "kl", "policy"):
        # Those of a covariance take a selection over the whole batch; without one they are clip.
        assert built_in(family) - {"clip-cov", "kl-cov"} <= first, family
    assert {f"weight: {level}" for level in LEVELS} <= first
    capped = {"truncate": "truncated", "mask": "masked", "reject": "rejected"}
    assert set(capped) == set(MODES)
    for word in capped.values():
        assert any(case.name == f"weight: sequence-product, {word}" for case in CASES)


@pytest.mark.slow
def test_the_documentation_has_this_table():
    assert markdown() in DOCS.read_text(encoding="utf-8")
