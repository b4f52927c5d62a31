"""Advantages for each token: rewards along a sequence, returns, GAE, and the loss of a critic.

Packed tensors: `[N]` over the trained tokens of all sequences, `sequence_ids` `[N]` says whose each
is, and the tokens of one sequence stand together, in their order. Tokens that the policy did not
write (prompts, what tools answered) are not there: rewards flow past them. Everything is computed
in float64, without gradients but for the value loss, and comes back in the dtype of the rewards.

`token-advantage/<name>` in the registry: `(rewards[N], sequence_ids[N], **options) ->
(advantages[N], returns[N])`; `gae` needs `values` as well. They are not normalised: `whiten` is a
step of its own, because its statistics are those of the whole optimisation batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rlvr.objectives.checks import require_aligned, require_ids


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations; `+` merges those of parts of a batch.

    So that each process can take its own and all whiten alike (Chan et al. 1979).
    """

    count: float
    mean: float
    deviations: float

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Those of all elements of `values`."""
        if not values.numel():
            return cls(0.0, 0.0, 0.0)
        wide = values.detach().to(torch.float64)
        mean = wide.mean()
        return cls(float(wide.numel()), float(mean), float((wide - mean).square().sum()))

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        if not count:
            return self
        gap = other.mean - self.mean
        return Moments(
            count,
            self.mean + gap * other.count / count,
            self.deviations + other.deviations + gap * gap * self.count * other.count / count,
        )

    @property
    def variance(self) -> float:
        """Unbiased (n - 1); 0 for less than two values."""
        return self.deviations / (self.count - 1.0) if self.count > 1 else 0.0


def token_rewards(
    rewards: Tensor,
    sequence_ids: Tensor,
    *,
    kl: Tensor | None = None,
    kl_coefficient: float = 0.0,
) -> Tensor:
    """The reward of each sequence at its last token, less `kl_coefficient * kl` at every token.

    KL in the reward (Ziegler et al. 2019, arXiv:1909.08593; Ouyang et al. 2022, arXiv:2203.02155,
    eq. 2): `kl` are the values of an estimate on the sampled tokens, such as k1.

    Args:
        rewards: `[S]` float32 or float64, one a sequence.
        sequence_ids: `[N]` int64 in 0..S-1.
        kl: `[N]`, of the dtype of `rewards`; detached here.
        kl_coefficient: at least 0.

    Returns:
        `[N]`, of the dtype of `rewards`.

    Raises:
        ValueError: a shape or dtype is wrong, or the tokens of a sequence do not stand together.
    """
    _, last = _ends(sequence_ids)
    if len(sequence_ids) and int(sequence_ids.max()) >= len(rewards):
        raise ValueError(
            f"sequence_ids has {int(sequence_ids.max())}: expected below {len(rewards)}, "
            "the number of rewards"
        )
    result = rewards.detach()[sequence_ids].masked_fill(~last, 0.0)
    if kl is not None:
        require_aligned(rewards_of_tokens=result, kl=kl)
        result = result - kl_coefficient * kl.detach()
    return result


def discounted_returns(
    rewards: Tensor, sequence_ids: Tensor, *, gamma: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The return of each token: the sum of its reward and the later ones, discounted by gamma.

    As advantages these are REINFORCE with rewards to go; whitened over the batch, REINFORCE++ (Hu
    et al. 2025, arXiv:2501.03262).

    Args:
        rewards: `[N]` float32 or float64.
        sequence_ids: `[N]` int64; the tokens of a sequence stand together, in their order.
        gamma: in [0, 1].

    Returns:
        Advantages and returns, `[N]` each: the same tensor.

    Raises:
        ValueError: a shape or dtype is wrong, gamma is out of range, or a sequence is split.
    """
    require_aligned(rewards=rewards)
    _require_share("gamma", gamma)
    returns = _backward_sums(rewards.detach().to(torch.float64), sequence_ids, gamma)
    returns = returns.to(rewards.dtype)
    return returns, returns


def generalized_advantages(
    rewards: Tensor,
    sequence_ids: Tensor,
    *,
    values: Tensor,
    gamma: float = 1.0,
    lam: float = 0.95,
) -> tuple[Tensor, Tensor]:
    """GAE: `A_t = sum over l of (gamma lam)^l (r_{t+l} + gamma V_{t+l+1} - V_{t+l})`.

    Schulman et al. 2016, arXiv:1506.02438, eq. 16. A sequence ends where its tokens end: the value
    after the last one is 0. With `lam=1` it is the return less the value, unbiased whatever the
    critic; with `lam=0` the TD error, unbiased only for a critic that is right.

    Args:
        rewards: `[N]` float32 or float64.
        sequence_ids: `[N]` int64; the tokens of a sequence stand together, in their order.
        values: `[N]`, the critic's for the state before each token.
        gamma: in [0, 1].
        lam: in [0, 1].

    Returns:
        Advantages, and returns to fit the critic to (advantages + values), `[N]` each.

    Raises:
        ValueError: a shape or dtype is wrong, gamma or lam is out of range, or a sequence is split.
    """
    require_aligned(rewards=rewards, values=values)
    _require_share("gamma", gamma)
    _require_share("lam", lam)
    _, last = _ends(sequence_ids)
    wide = values.detach().to(torch.float64)
    following = torch.cat([wide[1:], wide.new_zeros(1)])[: len(wide)].masked_fill(last, 0.0)
    errors = rewards.detach().to(torch.float64) + gamma * following - wide
    advantages = _backward_sums(errors, sequence_ids, gamma * lam)
    return advantages.to(rewards.dtype), (advantages + wide).to(rewards.dtype)


def whiten(values: Tensor, moments: Moments | None = None, *, eps: float = 1e-8) -> Tensor:
    """`(x - mean) / sqrt(variance + eps)`, with the unbiased variance; verl's `masked_whiten`.

    Args:
        values: `[N]`.
        moments: of the whole optimisation batch; of `values` if not given.
        eps: added to the variance.

    Returns:
        `[N]`, detached, of the dtype of `values`; exactly 0 where the batch is equal up to noise:
        its std is at most 1e-9 of its size (5e-7 in float32).
    """
    moments = Moments.of(values) if moments is None else moments
    tolerance = 1e-9 if values.dtype == torch.float64 else 5e-7
    if math.sqrt(moments.variance) <= tolerance * max(1.0, abs(moments.mean)):
        return torch.zeros_like(values)
    centred = values.detach().to(torch.float64) - moments.mean
    return (centred / math.sqrt(moments.variance + eps)).to(values.dtype)


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """A critic's loss per token: `max((V - R)^2, (V_clipped - R)^2) / 2`.

    `V_clipped` is V kept within `clip` of the value that the rollout had (Schulman et al. 2017,
    as in OpenAI's baselines; Huang et al. 2022, "The 37 implementation details of PPO").

    Args:
        values: `[N]` float32 or float64; gradients flow here.
        old_values: `[N]`, of the critic that the advantages were taken with; detached here.
        returns: `[N]`, what to fit to; detached here.
        clip: above 0, in units of value; None for the plain squared error.

    Returns:
        The loss of each token, `[N]`, not reduced; and sums over tokens (0-D float64): `clipped`
        (tokens whose gradient is cut), `squared_error`, `value`, `return`.

    Raises:
        ValueError: shapes or dtypes differ, or `clip` is not positive.
    """
    require_aligned(values=values, old_values=old_values, returns=returns)
    if clip is not None and not clip > 0:
        raise ValueError(f"clip is {clip}: expected above 0, or None")
    old_values, returns = old_values.detach(), returns.detach()
    loss = plain = (values - returns).square()
    cut = torch.zeros_like(plain, dtype=torch.bool)
    if clip is not None:
        kept = torch.clamp(values, old_values - clip, old_values + clip)
        held = (kept - returns).square()
        cut = held > plain
        loss = torch.where(cut, held, plain)
    parts = {"clipped": cut, "squared_error": plain, "value": values, "return": returns}
    sums = {name: part.detach().sum(dtype=torch.float64) for name, part in parts.items()}
    return 0.5 * loss, sums


def explained_variance(returns: Moments, residuals: Moments) -> float:
    """`1 - Var(R - V) / Var(R)`: 1 is a perfect critic, 0 one that predicts a constant.

    Below 0 it is worse than none.

    Args:
        returns: moments of the returns R over the whole batch.
        residuals: moments of R - V.

    Returns:
        At most 1; NaN where the returns do not vary.
    """
    if not returns.variance > 0.0:
        return float("nan")
    return 1.0 - residuals.variance / returns.variance


def _backward_sums(values: Tensor, sequence_ids: Tensor, decay: float) -> Tensor:
    """`y_t = x_t + decay * y_{t+1}` within each sequence, by doubling: log2(longest) steps."""
    longest, last = _ends(sequence_ids)
    sums = values.clone()
    reach = torch.full_like(values, decay).masked_fill(last, 0.0)
    step = 1
    while step < longest:
        # Here sums[t] covers t .. t + step - 1, and reach[t] is what t + step still counts for.
        sums = torch.cat([sums[:-step] + reach[:-step] * sums[step:], sums[-step:]])
        reach = torch.cat([reach[:-step] * reach[step:], torch.zeros_like(reach[-step:])])
        step *= 2
    return sums


def _ends(sequence_ids: Tensor) -> tuple[int, Tensor]:
    """The length of the longest sequence, and `[N]` whether a token is the last of its own."""
    require_ids("sequence_ids", sequence_ids, sequence_ids.flatten())
    last = torch.ones_like(sequence_ids, dtype=torch.bool)
    last[:-1] = sequence_ids[1:] != sequence_ids[:-1]
    _, counts = torch.unique(sequence_ids, return_counts=True)
    if int(last.sum()) != len(counts):
        raise ValueError("sequence_ids: expected the tokens of each sequence to stand together")
    return int(counts.max()) if len(counts) else 0, last


def _require_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is {value}: expected 0 to 1")
