"""The family of policy losses, `policy/<name>`, and its first member: the clipped surrogate.

A policy loss is a function `(tokens: PolicyTokens, **options) -> (per-token loss [N], sums)`. The
loss is negated (to be minimised) and not reduced: `rlvr.objectives.aggregation.aggregate` does
that. The sums (`Sums`) are over the tokens, for the log: they add up over micro-batches and
processes, and the caller divides by the tokens of the whole optimisation batch.

A loss never takes a statistic of its micro-batch, which would change with the split. What depends
on the whole batch (which tokens have the largest covariance) comes in as `PolicyTokens.selected`,
from `rlvr.objectives.token_selection`.

The log-ratio `log pi(a) - log pi_old(a)` is bounded above by 20 before it is exponentiated. A ratio
of e^20 = 4.9e8 is far outside every clip range, so the bound changes a loss only on the branch
that PPO does not clip (negative advantage, ratio exploded), which overflows float32 a little later
and would turn the update into NaN. There the gradient becomes 0, and the tokens are counted
(`bounded`). `log_ratio_bounds` chooses: verl bounds at +-20, TRL not at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rlvr.errors import UnknownNameError
from rlvr.objectives.checks import require_aligned, require_ids
from rlvr.objectives.mismatch import importance_weights as importance_weights
from rlvr.registry import check_options, objectives

LOG_RATIO_BOUND = 20.0
LogRatioBounds = tuple[float, float]
DEFAULT_BOUNDS: LogRatioBounds = (-math.inf, LOG_RATIO_BOUND)

Sums = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class PolicyTokens:
    """The trained completion tokens of one micro-batch, as every policy loss takes them.

    Everything but `logprobs` is detached here, so that `old_logprobs=logprobs` is the on-policy
    case with its right gradient.

    Attributes:
        logprobs: `[N]` float32 or float64, under the policy being trained; gradients flow.
        old_logprobs: `[N]`, under the policy that the ratio is taken to: the one at the start of
            this optimisation phase, or the sampler's (verl's bypass mode), as the caller likes.
        advantages: `[N]`, each token's.
        sequence_ids: `[N]` int64 from 0, which sequence of the micro-batch a token belongs to, in
            any order; all trained tokens of a sequence are here.
        entropy: `[N]` nats of the distribution that each token came from; None where not computed.
        sampler_logprobs: `[N]`, as the sampler reported them; None where unknown.
        selected: `[N]` bool, this micro-batch's share of the `token-selection/<name>` over the
            whole optimisation batch, for the losses that share its name; None for all others.

    Raises:
        ValueError: shapes or dtypes differ.
    """

    logprobs: Tensor
    old_logprobs: Tensor
    advantages: Tensor
    sequence_ids: Tensor
    entropy: Tensor | None = None
    sampler_logprobs: Tensor | None = None
    selected: Tensor | None = None

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        present = {name: value for name, value in given.items() if value is not None}
        require_aligned(
            **{k: v for k, v in present.items() if k not in ("sequence_ids", "selected")}
        )
        require_ids("sequence_ids", self.sequence_ids, self.logprobs)
        if self.selected is not None and (
            self.selected.shape != self.logprobs.shape or self.selected.dtype != torch.bool
        ):
            raise ValueError(
                f"selected is {self.selected.dtype} of shape {list(self.selected.shape)}: "
                f"expected torch.bool of shape {list(self.logprobs.shape)}"
            )
        for name, value in present.items():
            if name != "logprobs":
                object.__setattr__(self, name, value.detach())

    def __len__(self) -> int:
        return len(self.logprobs)

    @property
    def sequences(self) -> int:
        """How many sequences there are, those without tokens included; 0 where N is 0."""
        return int(self.sequence_ids.max()) + 1 if len(self) else 0


def policy_loss(name: str, tokens: PolicyTokens, **options: Any) -> tuple[Tensor, Sums]:
    """The loss registered as `policy/<name>`, with its options checked against its signature.

    Args:
        name: `clip`, `gspo`, `cispo`, ...: `docs/objectives.md` has the table.
        tokens: the micro-batch.
        options: the loss's own, such as `clip_high=0.28`.

    Returns:
        The loss of each token, `[N]`, not reduced, and sums over tokens for the log: 0-D float64,
        detached.

    Raises:
        UnknownNameError: no policy loss has that name; the message gives the nearest ones.
        ConfigError: an option is unknown, or one that is needed is missing.
        ValueError: an option is out of range, tokens were selected for a loss that takes no
            selection, or the registered function gave the wrong shape.
    """
    function: Any = objectives.get(f"policy/{name}")
    check_options(partial(function, tokens), options, f"policy loss {name!r}")
    if tokens.selected is not None:
        _require_selection(name)
    per_token, sums = function(tokens, **options)
    if per_token.shape != tokens.logprobs.shape:
        raise ValueError(
            f"policy loss {name!r} gave a loss of shape {list(per_token.shape)}: expected one "
            f"value a token, {list(tokens.logprobs.shape)}, not reduced"
        )
    return per_token, sums


def _require_selection(name: str) -> None:
    """A selection that the loss would ignore must not pass in silence."""
    try:
        objectives.get(f"token-selection/{name}")
    except UnknownNameError as error:
        raise ValueError(
            f"policy loss {name!r} takes no selection: `selected` is for the losses that share "
            "their name with a token-selection; to train on some tokens only, use keep_only"
        ) from error


def clip(
    tokens: PolicyTokens,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
) -> tuple[Tensor, Sums]:
    """PPO's clipped surrogate, with clip-higher and dual clip: see `clipped_policy_loss`.

    With `token-mean` it is DAPO's loss, with `seq-mean-token-mean` GRPO's, with
    `seq-mean-token-sum-norm` (and advantages without scaling) Dr. GRPO's.
    """
    loss, diagnostics = clipped_policy_loss(
        tokens.logprobs,
        tokens.old_logprobs,
        tokens.advantages,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        log_ratio_bounds=log_ratio_bounds,
    )
    return loss, diagnostics.sums()


@dataclass(frozen=True, kw_only=True)
class PolicyDiagnostics:
    """Sums over the tokens of one loss call: 0-D float64 tensors, detached, on the loss's device.

    Add those of all micro-batches (and, across processes, the tensors), then take `means`.

    Attributes:
        tokens: how many tokens.
        clipped_low: tokens with A < 0 and ratio below `1 - clip_low`: their gradient is cut.
        clipped_high: tokens with A > 0 and ratio above `1 + clip_high`: their gradient is cut.
        dual_clipped: tokens with A < 0 and ratio above `dual_clip`: their gradient is cut.
        bounded: tokens whose log-ratio lay beyond `log_ratio_bounds` (above 20).
        approx_kl: sum of k3 estimates of KL(old || new), `ratio - 1 - log ratio`.
        ratio: sum of the probability ratios.
    """

    tokens: Tensor
    clipped_low: Tensor
    clipped_high: Tensor
    dual_clipped: Tensor
    bounded: Tensor
    approx_kl: Tensor
    ratio: Tensor

    def __add__(self, other: PolicyDiagnostics) -> PolicyDiagnostics:
        return PolicyDiagnostics(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )

    def sums(self) -> Sums:
        """Everything but `tokens`, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "tokens"}

    def means(self) -> dict[str, float]:
        """Token means of everything but `tokens`, by name; 0 where there were no tokens."""
        count = max(float(self.tokens), 1.0)
        return {name: float(value) / count for name, value in self.sums().items()}


def clipped_policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
    log_ratio_bounds: LogRatioBounds = DEFAULT_BOUNDS,
) -> tuple[Tensor, PolicyDiagnostics]:
    """PPO's clipped surrogate with separate bounds: `-min(r A, clip(r, 1-low, 1+high) A)`.

    Schulman et al. 2017 (PPO), arXiv:1707.06347, eq. 7 where `clip_low == clip_high`; Yu et al.
    2025 (DAPO), arXiv:2503.14476, eq. 10 (clip-higher) where not. `dual_clip` bounds the loss of
    tokens with a negative advantage at `-c A` (Ye et al. 2020, arXiv:1912.09729, dual-clip PPO);
    verl does so by default with c = 3; TRL's two-sided `delta` (INTELLECT-2, arXiv:2505.07291) is
    the same bound, off by default; here it is off unless asked for.

    Args:
        logprobs: `[N]` float32 or float64, under the policy being trained; gradients flow here.
        old_logprobs: `[N]`, under the policy at the start of this optimisation phase. Detached
            here, so that `old_logprobs=logprobs` is the on-policy case with its right gradient.
        advantages: `[N]`, each token's; detached here.
        clip_low: in [0, 1): the ratio's lower bound is `1 - clip_low`.
        clip_high: at least 0: the ratio's upper bound is `1 + clip_high`.
        dual_clip: c, above `1 + clip_high`; None switches it off.
        log_ratio_bounds: what the log-ratio is clamped to; beyond it the gradient is 0. verl's is
            `(-20, 20)`, TRL's `(-inf, inf)`.

    Returns:
        The loss of each token, `[N]`, not reduced; and sums for the log.

    Raises:
        ValueError: shapes or dtypes differ, or a bound is out of range.
    """
    require_aligned(logprobs=logprobs, old_logprobs=old_logprobs, advantages=advantages)
    difference = logprobs - old_logprobs.detach()
    log_ratio = bound_log_ratio(difference, log_ratio_bounds)
    loss, clipped = clipped_surrogate(
        log_ratio.exp(),
        advantages.detach(),
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
    )
    with torch.no_grad():
        count = torch.tensor(float(len(loss)), dtype=torch.float64, device=loss.device)
        sums = clipped | ratio_sums(difference, log_ratio)
    return loss, PolicyDiagnostics(tokens=count, **sums)


def clipped_surrogate(
    ratio: Tensor,
    advantages: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> tuple[Tensor, Sums]:
    """`-min(r A, clip(r) A)`, bounded by the dual clip, and how many tokens each bound cut.

    Raises:
        ValueError: a bound is out of range.
    """
    require_clip_bounds(clip_low, clip_high, dual_clip)
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    # Not torch.maximum: where both are equal it gives each half of the gradient.
    loss = torch.where(clipped > unclipped, clipped, unclipped)
    negative = advantages < 0
    dual = torch.zeros_like(negative)
    if dual_clip is not None:
        dual = negative & (ratio > dual_clip)
        loss = torch.where(dual, -advantages * dual_clip, loss)
    with torch.no_grad():
        return loss, {
            "clipped_low": sum_over_tokens(negative & (ratio < 1.0 - clip_low)),
            "clipped_high": sum_over_tokens((advantages > 0) & (ratio > 1.0 + clip_high)),
            "dual_clipped": sum_over_tokens(dual),
        }


@torch.no_grad()
def ratio_sums(difference: Tensor, log_ratio: Tensor) -> Sums:
    """What every loss with a ratio logs.

    Args:
        difference: `[N]` log-ratios.
        log_ratio: the same within their bounds.
    """
    return {
        "bounded": sum_over_tokens(log_ratio != difference),
        "approx_kl": sum_over_tokens(log_ratio.expm1() - log_ratio),
        "ratio": sum_over_tokens(log_ratio.exp()),
    }


def bound_log_ratio(log_ratio: Tensor, bounds: LogRatioBounds) -> Tensor:
    """`log_ratio` clamped to `bounds`, with gradient 0 beyond them.

    Raises:
        ValueError: the bounds do not enclose 0, where policies that agree lie.
    """
    low, high = bounds
    if not low < 0.0 < high:
        raise ValueError(f"log_ratio_bounds are {bounds}: expected low < 0 < high")
    return log_ratio.clamp(low, high)


def require_clip_bounds(clip_low: float, clip_high: float, dual_clip: float | None) -> None:
    """Refuse clip ranges that exclude ratio 1, and a dual clip inside the range."""
    if not 0.0 <= clip_low < 1.0:
        raise ValueError(f"clip_low is {clip_low}: expected 0 <= clip_low < 1")
    if not clip_high >= 0.0:
        raise ValueError(f"clip_high is {clip_high}: expected at least 0")
    if dual_clip is not None and not dual_clip > 1.0 + clip_high:
        raise ValueError(
            f"dual_clip is {dual_clip}: expected above 1 + clip_high ({1 + clip_high})"
        )


def sum_over_tokens(values: Tensor) -> Tensor:
    """A diagnostic's sum, in float64."""
    return values.sum(dtype=torch.float64)
