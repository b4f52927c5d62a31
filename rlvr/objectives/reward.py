"""The loss of a reward model on pairs of a better and a worse completion."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from rlvr.objectives.checks import require_aligned


def bradley_terry_loss(
    chosen: Tensor, rejected: Tensor, margin: Tensor | None = None, centre: float = 0.0
) -> Tensor:
    """`-log sigmoid(chosen - rejected - margin) + centre * (chosen + rejected)^2`, per pair.

    Ouyang et al. 2022, arXiv:2203.02155, eq. 1; the margin from Touvron et al. 2023 (Llama 2),
    arXiv:2307.09288, eq. 2; the centring from Eisenstein et al. 2023, arXiv:2312.09244, eq. 2:
    only differences of rewards are determined by the first term, and the last one ties their
    level to 0 without changing which pairs are ranked right.

    Args:
        chosen: `[P]` float32 or float64, rewards of the better completions; gradients flow.
        rejected: `[P]`, rewards of the worse ones; gradients flow.
        margin: `[P]`, by how much the better one should lead; None is 0.
        centre: weight of the centring term, at least 0; 0.01 is usual.

    Returns:
        `[P]`, not reduced: divide the sum by the number of pairs in the whole optimisation batch.

    Raises:
        ValueError: shapes or dtypes differ, or `centre` is negative.
    """
    require_aligned(chosen=chosen, rejected=rejected)
    if centre < 0:
        raise ValueError(f"centre is {centre}: expected at least 0")
    lead = chosen - rejected
    if margin is not None:
        require_aligned(chosen=chosen, margin=margin)
        lead = lead - margin
    losses = -functional.logsigmoid(lead)
    if centre:
        losses = losses + centre * (chosen + rejected).square()
    return losses
