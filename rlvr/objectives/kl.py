"""Estimators of KL(policy || reference) from the log-probabilities of sampled tokens.

John Schulman, "Approximating KL divergence" (2020), http://joschu.net/blog/kl-approx.html. With
`d = log pi(a) - log ref(a)` for a token `a` drawn from the policy:

    kind   value               expected value    expected gradient, where it is a loss term
    k1     d                   KL, unbiased      0: as a loss it does nothing
    k2     d^2 / 2             biased            that of KL(policy || reference), unbiased
    k3     exp(-d) - 1 + d     KL, unbiased      that of KL(reference || policy): biased

The gradients are those of differentiating the estimate at the sampled tokens, as every trainer with
KL "in the loss" does. k1 belongs into the reward, where its value alone matters. k3 is GRPO's
choice (Shao et al. 2024, arXiv:2402.03300, eq. 4): never negative and of low variance.

All are per token, `[N]` in, `[N]` out, not reduced. In k3, `-d` is bounded above by 20, which keeps
float32 finite. verl bounds k3's value at 10 as well, which stops its gradient just where the policy
has moved furthest from the reference (-d > 2.6, d > 11): not done here.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from rlvr.objectives.checks import require_aligned
from rlvr.objectives.policy import LOG_RATIO_BOUND
from rlvr.registry import objectives

KLKind = Literal["k1", "k2", "k3"]


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, kind: KLKind | str) -> Tensor:
    """The per-token estimate of KL(policy || reference) that is registered as `kl/<kind>`.

    Args:
        logprobs: `[N]` float32 or float64, under the policy; gradients flow here.
        ref_logprobs: `[N]`, under the reference; detached here.
        kind: `"k1"`, `"k2"` or `"k3"`; see the table above for which gradient each gives.

    Returns:
        `[N]`, in nats, not reduced.

    Raises:
        ValueError: shapes or dtypes differ.
        UnknownNameError: no estimator has that name.
    """
    require_aligned(logprobs=logprobs, ref_logprobs=ref_logprobs)
    estimator: Any = objectives.get(f"kl/{kind}")
    estimate: Tensor = estimator(logprobs, ref_logprobs.detach())
    return estimate


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """The log-ratio: unbiased value of any sign; as a loss its expected gradient is 0."""
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """Half the squared log-ratio: biased value, unbiased gradient of KL(policy || reference)."""
    return 0.5 * (logprobs - ref_logprobs).square()


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """`exp(-d) - 1 + d`: unbiased value, never negative; gradient of KL(reference || policy)."""
    bounded = (ref_logprobs - logprobs).clamp(max=LOG_RATIO_BOUND)
    # expm1 keeps the digits that exp(x) - 1 loses near x = 0, where a policy starts out.
    return bounded.expm1() - bounded
