"""Losses on preference pairs with a reference model: the DPO family.

Each kind is one function, registered as `dpo/<kind>`, from the two log-ratios
`log pi(y|x) - log ref(y|x)` of the chosen and the rejected completion, `[P]` each, to `[P]` losses:

    def kind(chosen: Tensor, rejected: Tensor, *, beta: float, label_smoothing: float) -> Tensor

Log-probabilities of a completion are sums over its tokens, in nats
(`rlvr.objectives.aggregation.sequence_sums`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional

from rlvr.objectives.checks import require_aligned
from rlvr.registry import objectives

DPOKind = Literal["sigmoid", "hinge", "ipo"]


@dataclass(frozen=True)
class PreferenceLoss:
    """What a preference loss found out about P pairs.

    Attributes:
        losses: `[P]`, with gradients, not reduced: divide the sum by the number of pairs in the
            whole optimisation batch.
        chosen_rewards: `[P]`, `beta` times the chosen log-ratio, detached.
        rejected_rewards: `[P]`, the same of the rejected completions.
    """

    losses: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor

    @property
    def margins(self) -> Tensor:
        """`[P]`: chosen minus rejected implicit reward; above 0 where the pair is ranked right."""
        return self.chosen_rewards - self.rejected_rewards


def dpo_loss(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    *,
    beta: float,
    kind: DPOKind | str = "sigmoid",
    label_smoothing: float = 0.0,
) -> PreferenceLoss:
    """Direct preference optimisation of P pairs with the loss that is registered as `dpo/<kind>`.

    Args:
        chosen_logps: `[P]` float32 or float64, of the preferred completions; gradients flow.
        rejected_logps: `[P]`, of the others; gradients flow.
        ref_chosen: `[P]`, of the preferred ones under the reference; detached here.
        ref_rejected: `[P]`, of the others under the reference; detached here.
        beta: strength of the pull to the reference, above 0.
        kind: `"sigmoid"`, `"hinge"` or `"ipo"`.
        label_smoothing: in [0, 0.5): the share of pairs taken to be labelled the wrong way round;
            the kinds that have no such form refuse any but 0.

    Returns:
        Per-pair losses and implicit rewards.

    Raises:
        ValueError: shapes or dtypes differ, or `beta` or `label_smoothing` is out of range.
        UnknownNameError: no loss has that name.
    """
    require_aligned(
        chosen_logps=chosen_logps,
        rejected_logps=rejected_logps,
        ref_chosen=ref_chosen,
        ref_rejected=ref_rejected,
    )
    if not beta > 0:
        raise ValueError(f"beta is {beta}: expected above 0")
    if not 0.0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}: expected 0 <= it < 0.5")
    loss: Any = objectives.get(f"dpo/{kind}")
    chosen = chosen_logps - ref_chosen.detach()
    rejected = rejected_logps - ref_rejected.detach()
    return PreferenceLoss(
        losses=loss(chosen, rejected, beta=beta, label_smoothing=label_smoothing),
        chosen_rewards=beta * chosen.detach(),
        rejected_rewards=beta * rejected.detach(),
    )


def sigmoid(chosen: Tensor, rejected: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """DPO: `-log sigma(beta (chosen - rejected))`; with label smoothing, conservative DPO.

    Rafailov et al. 2023, arXiv:2305.18290, eq. 7. With label smoothing e it is
    `-(1 - e) log sigmoid(z) - e log sigmoid(-z)` (Mitchell 2023, "A note on DPO with noisy
    preferences").
    """
    score = beta * (chosen - rejected)
    losses = -functional.logsigmoid(score)
    if label_smoothing:
        flipped = -functional.logsigmoid(-score)
        losses = (1.0 - label_smoothing) * losses + label_smoothing * flipped
    return losses


def hinge(chosen: Tensor, rejected: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """SLiC's hinge on the DPO score: `max(0, 1 - beta (chosen - rejected))`.

    Zhao et al. 2023, arXiv:2305.10425, in the form of Liu et al. 2024 (RSO), arXiv:2309.06657.
    """
    _refuse_smoothing("hinge", label_smoothing)
    return functional.relu(1.0 - beta * (chosen - rejected))


def ipo(chosen: Tensor, rejected: Tensor, *, beta: float, label_smoothing: float) -> Tensor:
    """IPO: `(chosen - rejected - 1 / (2 beta))^2`, beta being the paper's tau.

    Azar et al. 2023, arXiv:2310.12036, eq. 17. Given sums of log-probabilities it is the formula
    as printed (OpenRLHF); given means over each completion's tokens it is the form that the
    paper's authors used (TRL), whose target does not grow with length.
    """
    _refuse_smoothing("ipo", label_smoothing)
    return (chosen - rejected - 1.0 / (2.0 * beta)).square()


def _refuse_smoothing(kind: str, label_smoothing: float) -> None:
    if label_smoothing:
        raise ValueError(f"dpo/{kind} has no label_smoothing: expected 0, found {label_smoothing}")
