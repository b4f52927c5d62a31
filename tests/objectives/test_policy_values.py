"""Values and gradients of each policy loss, computed by hand, and where exactly each is cut."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from padded_reference import SETTINGS

from rlvr.objectives.policy import PolicyTokens, policy_loss

LN2 = math.log(2)


def run(name, ratios, advantages, ids=None, old=0.5, selected=None, **options):
    """Loss and gradient a token, and sums, for probability ratios to a policy with `old`."""
    previous = torch.full((len(ratios),), old, dtype=torch.float64).log()
    new = (previous + torch.tensor(ratios, dtype=torch.float64).log()).requires_grad_()
    tokens = PolicyTokens(
        logprobs=new,
        old_logprobs=previous,
        advantages=torch.tensor(advantages, dtype=torch.float64),
        sequence_ids=torch.tensor(ids if ids is not None else [0] * len(ratios)),
        selected=None if selected is None else torch.tensor(selected),
    )
    loss, sums = policy_loss(name, tokens, **options)
    (gradient,) = torch.autograd.grad(loss.sum(), new)
    return loss.tolist(), gradient.tolist(), {k: float(v) for k, v in sums.items()}


def test_gspo_uses_the_geometric_mean_of_the_sequence():
    loss, gradient, sums = run("gspo", [4.0, 1.0], [1.0, 1.0], clip_low=0.5, clip_high=2.0)
    assert loss == pytest.approx([-2, -2])  # sqrt(4 * 1)
    assert gradient == pytest.approx([-2, -2])  # both tokens' losses, each half through each token
    assert sums["ratio"] == pytest.approx(4)
    loss, gradient, sums = run("gspo", [4.0, 1.0], [1.0, 1.0], clip_low=0.5, clip_high=0.9)
    assert loss == pytest.approx([-1.9, -1.9])
    assert gradient == [0, 0] and sums["clipped_high"] == 2


def test_gspo_token_credits_a_token_with_its_own_advantage():
    loss, gradient, _ = run("gspo-token", [4.0, 1.0], [1.0, 3.0], clip_low=0.5, clip_high=2.0)
    assert loss == pytest.approx([-2, -6])
    assert gradient == pytest.approx([-2, -6])
    _, mixed, _ = run("gspo", [4.0, 1.0], [1.0, 3.0], clip_low=0.5, clip_high=2.0)
    assert mixed == pytest.approx([-4, -4])


def test_rloo_uses_the_product():
    loss, gradient, _ = run("rloo", [4.0, 0.5, 3.0], [1.0, 1.0, -1.0], [0, 0, 1], clip_high=2.0)
    assert loss == pytest.approx([-2, -2, 3])
    assert gradient == pytest.approx([-4, -4, 3])  # two tokens carry the sequence's loss


def test_gmpo_clips_tokens_before_the_mean():
    e = math.exp
    loss, gradient, sums = run("gmpo", [e(0.6), e(0.1)], [2.0, 2.0])
    assert loss == pytest.approx([-2 * e(0.25)] * 2)  # the mean of 0.4 and 0.1
    assert gradient == pytest.approx([0, -2 * e(0.25)])
    assert sums["clipped_high"] == 1 and sums["clipped_low"] == 0
    loss, gradient, sums = run("gmpo", [e(0.6), e(-0.8)], [-2.0, -2.0])
    assert loss == pytest.approx([2 * e(0.1)] * 2)  # the mean of 0.6 and -0.4
    assert gradient == pytest.approx([2 * e(0.1), 0]) and sums["clipped_low"] == 1


def test_cispo_bounds_the_weight_and_keeps_the_gradient():
    loss, gradient, sums = run("cispo", [8.0, 0.1, 1.0], [1.0, -1.0, 2.0], clip_low=0.2,
                               clip_high=0.3)  # fmt: skip
    assert gradient == pytest.approx([-1.3, 0.8, -2.0])
    assert loss == pytest.approx([-1.3 * math.log(4), 0.8 * math.log(0.05), -2 * math.log(0.5)])
    assert (sums["clipped_low"], sums["clipped_high"]) == (1, 1)
    assert run("cispo", [8.0, 0.1], [1.0, -1.0])[1] == pytest.approx([-5.0, 0.1])
    assert run("cispo", [8.0, 0.1], [1.0, -1.0], cap=2.0)[1] == pytest.approx([-2.0, 0.1])


def test_sapo_gates_softly_with_a_temperature_for_each_sign():
    loss, gradient, _ = run("sapo", [2.0, 2.0], [1.0, -1.0], temperature_positive=1.0,
                            temperature_negative=3.0)  # fmt: skip

    def gate(tau):
        s = 1 / (1 + math.exp(-tau))
        return 4 / tau * s, 4 * s * (1 - s) * 2  # value, and slope times the ratio

    assert loss == pytest.approx([-gate(1)[0], gate(3)[0]])
    assert gradient == pytest.approx([-gate(1)[1], gate(3)[1]])


def test_vespo_weighs_by_the_product_of_the_sequence():
    _, gradient, _ = run("vespo", [2.0, 2.0, 0.5], [1.0, 1.0, -1.0], [0, 0, 1])
    positive = math.exp(3) * 4**2 * math.exp(-3 * 4)
    negative = math.exp(2) * 0.5**3 * math.exp(-2 * 0.5)
    assert gradient == pytest.approx([-positive, -positive, negative])


def test_vespo_bounds_each_log_ratio_before_it_sums_them():
    _, gradient, _ = run("vespo", [math.exp(25), math.exp(-20)], [1.0, 1.0])
    assert gradient == pytest.approx([-1, -1])  # 20 - 20, not 25 - 20


def test_dppo_tv_masks_by_the_difference_of_probabilities():
    # From 0.5: 0.55 is within 0.1; 0.75 and 0.35 are not, and only matter on the way out.
    ratios, advantages = [1.1, 1.5, 1.5, 0.7, 0.7], [1.0, 1.0, -1.0, -1.0, 1.0]
    _, gradient, sums = run("dppo-tv", ratios, advantages, clip_low=0.1, clip_high=0.1)
    assert gradient == pytest.approx([-1.1, 0, 1.5, 0, -0.7])
    assert (sums["clipped_low"], sums["clipped_high"]) == (1, 1)
    _, gradient, sums = run("dppo-tv", [3.0], [1.0], old=0.01, clip_high=0.1, cap=2.0)
    assert gradient == pytest.approx([-2.0]) and sums["capped"] == 1  # 0.01 to 0.03: no distance


def test_dppo_kl_masks_by_the_divergence_of_the_two_outcomes():
    def divergence(new):
        return 0.5 * math.log(0.5 / new) + 0.5 * math.log(0.5 / (1 - new))

    for advantage, ratio in [(1.0, 1.5), (-1.0, 0.5)]:
        bound = divergence(0.5 * ratio)
        for threshold, trains in [(bound * 1.001, True), (bound * 0.999, False)]:
            _, gradient, _ = run("dppo-kl", [ratio], [advantage], clip_low=threshold,
                                 clip_high=threshold)  # fmt: skip
            assert gradient == pytest.approx([-advantage * ratio if trains else 0.0])
        _, gradient, _ = run("dppo-kl", [ratio], [-advantage], clip_low=1e-9, clip_high=1e-9)
        assert gradient == pytest.approx([advantage * ratio])  # on its way back


def test_dppo_kl_keeps_its_digits_where_a_token_is_nearly_certain():
    new, old = torch.tensor([-1e-9]).requires_grad_(), torch.tensor([-1e-3])
    tokens = PolicyTokens(
        logprobs=new,
        old_logprobs=old,
        advantages=torch.ones(1),
        sequence_ids=torch.zeros(1, dtype=torch.int64),
    )
    # 1e-3 log(1e-3 / 1e-9) - 1e-3 is 0.0128 nats (0.0105 with the epsilon); both round to p = 1.
    assert float(policy_loss("dppo-kl", tokens, clip_high=0.009)[1]["clipped_high"]) == 1
    assert float(policy_loss("dppo-kl", tokens, clip_high=0.02)[1]["clipped_high"]) == 0


def test_dppo_kl_takes_a_logprob_that_rounding_lifted_above_zero_for_certainty():
    new, old = torch.tensor([2e-7]).requires_grad_(), torch.tensor([-1e-3])
    for logprobs, previous in [(new, old), (old.requires_grad_(), new)]:
        tokens = PolicyTokens(
            logprobs=logprobs,
            old_logprobs=previous,
            advantages=torch.sign(logprobs.detach() - previous.detach()),
            sequence_ids=torch.zeros(1, dtype=torch.int64),
        )
        _, sums = policy_loss("dppo-kl", tokens, clip_low=0.05, clip_high=0.05)
        assert float(sums["clipped_low"] + sums["clipped_high"]) == 0  # 0.0105 nats at most


def test_reinforce_and_importance():
    loss, gradient, _ = run("reinforce", [4.0, 0.5], [1.0, -2.0], old=0.25)
    assert loss == pytest.approx([0.0, 2 * math.log(0.125)])
    assert gradient == pytest.approx([-1, 2])
    loss, gradient, _ = run("importance", [4.0, 0.5], [1.0, -2.0])
    assert loss == pytest.approx([-4, 1]) and gradient == pytest.approx([-4, 1])


def test_clip_cov_drops_what_is_selected():
    loss, gradient, sums = run("clip-cov", [1.1, 1.1, 1.5], [1.0, 1.0, 1.0],
                               selected=[True, False, False])  # fmt: skip
    assert loss == pytest.approx([0, -1.1, -1.2]) and gradient == pytest.approx([0, -1.1, 0])
    assert sums["selected"] == 1 and sums["clipped_high"] == 1


def test_kl_cov_punishes_what_is_selected():
    loss, gradient, _ = run("kl-cov", [2.0, 2.0, 0.5], [1.0, 1.0, 1.0],
                            selected=[True, False, True], kl_coefficient=3.0)  # fmt: skip
    assert loss == pytest.approx([-2 + 3 * LN2, -2, -0.5 + 3 * LN2])
    assert gradient == pytest.approx([-2 + 3, -2, -0.5 - 3])


ratios = st.floats(0.05, 20).filter(lambda r: min(abs(r - b) for b in (0.8, 1.3, 3.0)) > 1e-6)


@given(ratios, st.floats(-3, 3).filter(lambda a: abs(a) > 1e-3))
@settings(**SETTINGS)
def test_the_gradient_is_zero_exactly_where_the_ratio_is_clipped(ratio, advantage):
    cut = (ratio > 1.3) if advantage > 0 else (ratio < 0.8 or ratio > 3.0)
    options = {"clip_low": 0.2, "clip_high": 0.3, "dual_clip": 3.0}
    for name in ("clip", "gspo", "gspo-token", "rloo"):  # of one token, all are the same
        loss, gradient, sums = run(name, [ratio], [advantage], **options)
        assert gradient == pytest.approx([0.0 if cut else -advantage * ratio])
        assert sums["clipped_low"] + sums["clipped_high"] + sums["dual_clipped"] == cut
        clipped = min(max(ratio, 0.8), 1.3)
        expected = min(ratio * advantage, clipped * advantage)
        assert loss == pytest.approx([-max(expected, 3 * min(advantage, 0) or expected)])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gspo", {"clip_low": 1.0}, "clip_low is 1.0"),
        ("gspo", {"clip_high": 0.3, "dual_clip": 1.2}, "dual_clip is 1.2"),
        ("gmpo", {"clip_low": 0.0}, "clip_low is 0.0"),
        ("cispo", {"clip_high": 0.2, "cap": 5.0}, "give one"),
        ("cispo", {"cap": 0.5}, "upper bound of at least 1"),
        ("cispo", {"clip_low": 1.5}, "0 <= clip_low <= 1"),
        ("sapo", {"temperature_negative": 0.0}, "temperature_negative 0.0"),
        ("vespo", {"decay_negative": -1.0}, "expected above 0"),
        ("dppo-tv", {"clip_low": 0.0}, "clip_low is 0.0"),
        ("dppo-kl", {"cap": 0.0}, "cap 0.0"),
        ("clip", {"log_ratio_bounds": (0.1, 20.0)}, "expected low < 0 < high"),
        ("clip", {"log_ratio_bounds": (-20.0, 0.0)}, "expected low < 0 < high"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        run(name, [1.0], [1.0], **options)
    with pytest.raises(ValueError, match="kl_coefficient is -1"):
        run("kl-cov", [1.0], [1.0], selected=[True], kl_coefficient=-1)


def test_the_bounds_of_the_log_ratio_are_chosen():
    far = [math.exp(25), math.exp(-25)]
    ours = run("clip", far, [-1.0, 1.0])
    assert ours[1] == pytest.approx([0.0, -math.exp(-25)]) and ours[2]["bounded"] == 1
    verl = run("clip", far, [-1.0, 1.0], log_ratio_bounds=(-20, 20))
    assert verl[0] == pytest.approx([math.exp(20), -math.exp(-20)])
    assert verl[1] == [0, 0] and verl[2]["bounded"] == 2
    trl = run("clip", far, [-1.0, 1.0], log_ratio_bounds=(-math.inf, math.inf))
    assert trl[1] == pytest.approx([math.exp(25), -math.exp(-25)]) and trl[2]["bounded"] == 0
