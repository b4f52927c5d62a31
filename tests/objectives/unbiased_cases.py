"""Every estimator with what its expectation is, in closed form.

`python tests/objectives/unbiased_cases.py` prints the table of docs/objectives.md.

Closed forms are written here from the definitions, with plain Python where a formula needs the
rewards of a batch, and never call the estimator that they are compared with. J is the expected
reward, n the size of a group, p the probability of a reward of 1.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tree_mdp import BANDIT, BINARY_BANDIT, BINARY_TREE, STALE_TREE, TREE, Batch, Problem

from rlvr.objectives.advantages import RewardGroups, estimate_advantages
from rlvr.objectives.aggregation import Totals, aggregate, sequence_sums
from rlvr.objectives.kl import kl_estimate
from rlvr.objectives.mismatch import importance_weights, mismatch_weights
from rlvr.objectives.policy import PolicyTokens, policy_loss
from rlvr.objectives.values import discounted_returns, generalized_advantages, token_rewards

Loss = Callable[[Batch], Tensor]
NORMALISER = 5.0
BETA = 0.3


@dataclass(frozen=True)
class Case:
    """One estimator: its loss on a batch of n sequences, and the closed form of its expectation.

    Attributes:
        section: which part of the table it is in.
        name: how the table calls it.
        expectation: the closed form, in words.
        problem: where it is measured.
        n: sequences in a batch.
        loss: of one batch; minus its gradient is the estimate.
        truth: the closed form's value.
        target: what one would like it to be: the gradient of J if not given.
    """

    section: str
    name: str
    expectation: str
    problem: Problem
    n: int
    loss: Loss
    truth: Callable[[Problem], Tensor]
    target: Callable[[Problem], Tensor] | None = None

    def wanted(self) -> Tensor:
        return (self.target or policy_gradient)(self.problem)


# Losses, through the code under test.


def reduced(batch: Batch, per_token: Tensor, how: str = "seq-mean-token-sum") -> Tensor:
    totals = Totals(tokens=len(per_token), sequences=len(batch.leaves))
    return aggregate(per_token, batch.sequence_ids, how=how, totals=totals, normaliser=NORMALISER)


def with_advantages(
    batch: Batch,
    advantages: Tensor,
    *,
    policy: str = "reinforce",
    how: str = "seq-mean-token-sum",
    weights: Callable[[Batch], Tensor] | None = None,
    old: str = "logprobs",
    **options: Any,
) -> Tensor:
    tokens = PolicyTokens(
        logprobs=batch.logprobs,
        old_logprobs=getattr(batch, old).detach(),
        advantages=advantages.to(torch.float64),
        sequence_ids=batch.sequence_ids,
    )
    losses, _ = policy_loss(policy, tokens, **options)
    return reduced(batch, losses if weights is None else losses * weights(batch), how)


def groups_of(batch: Batch, problem: Problem, groups: int) -> RewardGroups:
    greedy = max(range(len(problem.leaves)), key=lambda leaf: greedily(problem, leaf))
    n = len(batch.leaves)
    return RewardGroups(
        rewards=batch.rewards,
        group_ids=torch.arange(n) // (n // groups),
        lengths=batch.lengths,
        baseline=torch.full_like(batch.rewards, problem.rewards[greedy]),
        parts=torch.stack([batch.rewards, batch.rewards**2], dim=1),
    )


def greedily(problem: Problem, leaf: int) -> bool:
    """Whether each action of a leaf's path is the most probable one of its state."""
    parts = torch.tensor(problem.logits).split(problem.actions)
    return all(int(parts[state].argmax()) == action for state, action in problem.leaves[leaf])


def outcome(
    name: str, problem: Problem, *, groups: int = 1, loss: Any = None, **options: Any
) -> Loss:
    def of(batch: Batch) -> Tensor:
        advantages = estimate_advantages(name, groups_of(batch, problem, groups), **options)
        return with_advantages(batch, advantages[batch.sequence_ids], **(loss or {}))

    return of


def tokens(
    estimate: Callable[[Batch, Tensor], Tensor],
    kl: str | None = None,
    **loss: Any,
) -> Loss:
    """Rewards at the last token, with KL in the reward where `kl` names an estimator."""

    def of(batch: Batch) -> Tensor:
        estimates = None if kl is None else kl_estimate(batch.logprobs, batch.ref_logprobs, kl)
        rewards = token_rewards(
            batch.rewards, batch.sequence_ids, kl=estimates, kl_coefficient=BETA
        )
        return with_advantages(batch, estimate(batch, rewards), **loss)

    return of


def returns(batch: Batch, rewards: Tensor, gamma: float = 1.0) -> Tensor:
    return discounted_returns(rewards, batch.sequence_ids, gamma=gamma)[0]


def raw(**loss: Any) -> Loss:
    return tokens(returns, **loss)


def gae(values: Callable[[Batch], Tensor], lam: float) -> Loss:
    def estimate(batch: Batch, rewards: Tensor) -> Tensor:
        return generalized_advantages(rewards, batch.sequence_ids, values=values(batch), lam=lam)[0]

    return tokens(estimate)


def rloo_with_kl(batch: Batch) -> Tensor:
    kl = sequence_sums(
        kl_estimate(batch.logprobs, batch.ref_logprobs, "k1"), batch.sequence_ids, len(batch.leaves)
    )
    groups = RewardGroups(
        rewards=(batch.rewards - BETA * kl).detach(),
        group_ids=torch.zeros(len(batch.leaves), dtype=torch.int64),
    )
    advantages = estimate_advantages("leave-one-out", groups)
    return with_advantages(batch, advantages[batch.sequence_ids])


def kl_loss(kind: str, ratio: bool = False) -> Loss:
    """Minus the KL term, so that the estimate is one of the gradient of KL itself."""

    def of(batch: Batch) -> Tensor:
        old = batch.logprobs.detach() if ratio else None
        return -reduced(
            batch, kl_estimate(batch.logprobs, batch.ref_logprobs, kind, old_logprobs=old)
        )

    return of


def weighted(level: str, mode: str, high: float = math.inf) -> Callable[[Batch], Tensor]:
    def weights(batch: Batch) -> Tensor:
        return mismatch_weights(
            batch.logprobs.detach(),
            batch.sampler_logprobs,
            batch.sequence_ids,
            level=level,
            mode=mode,
            high=high,
        )[0]

    return weights


# Closed forms.


def policy_gradient(problem: Problem) -> Tensor:
    return problem.policy_gradient


def times(factor: float) -> Callable[[Problem], Tensor]:
    return lambda problem: factor * problem.policy_gradient


def success(problem: Problem) -> float:
    return float(problem.sampling_probs @ problem.reward)


def best_of(k: int, factor: float = 1.0) -> Callable[[Problem], Tensor]:
    """The gradient of E[max of k rewards], which is pass@k for rewards of 0 and 1."""

    def objective(problem: Problem, logits: Tensor) -> Tensor:
        probs = problem.leaf_probs(logits)
        total = torch.zeros((), dtype=torch.float64)
        for chosen in itertools.product(range(len(probs)), repeat=k):
            total = total + probs[list(chosen)].prod() * max(problem.rewards[i] for i in chosen)
        return total

    return lambda problem: factor * problem.gradient(lambda logits: objective(problem, logits))


def by_pattern(
    n: int, advantages: Callable[[list[float]], list[float]]
) -> Callable[[Problem], Tensor]:
    """For rewards of 0 and 1 each estimate is `w grad p`: w from the 2^n patterns of rewards.

    E[A_1 S_1] = (E[A_1 | r_1 = 1] - E[A_1 | r_1 = 0]) grad p, since the score of a sequence has
    mean grad p / p where it is right and - grad p / (1 - p) where it is wrong.
    """

    def truth(problem: Problem) -> Tensor:
        p, weight = success(problem), 0.0
        for pattern in itertools.product((0.0, 1.0), repeat=n):
            found = advantages(list(pattern))
            prob = math.prod(p if r else 1.0 - p for r in pattern)
            for r, a in zip(pattern, found, strict=True):
                weight += prob * (a / p if r else -a / (1.0 - p)) / n
        return weight * problem.policy_gradient

    return truth


def centred(values: list[float]) -> list[float]:
    mean = statistics.fmean(values)
    return [value - mean for value in values]


def standardised(values: list[float]) -> list[float]:
    return over(centred(values), statistics.stdev(values))


def over(values: list[float], divisor: float) -> list[float]:
    return [value / divisor if value else 0.0 for value in values]


def in_pairs(values: list[float]) -> list[float]:
    return centred(values[:2]) + centred(values[2:])


def lead(values: list[float]) -> list[float]:
    """The gap of the best to the second best, in units of the std."""
    second, best = sorted(values)[-2:]
    gaps = [best - second if value == best else 0.0 for value in values]
    return over(gaps, statistics.stdev(values))


def chen(k: int) -> Callable[[list[float]], list[float]]:
    """The mean over the subsets of k that hold a rollout of their advantage, literally."""

    def advantages(values: list[float]) -> list[float]:
        subsets = list(itertools.combinations(range(len(values)), k))
        best = {subset: max(values[i] for i in subset) for subset in subsets}
        mean, std = statistics.fmean(best.values()), statistics.pstdev(best.values())
        mine = [[v for s, v in best.items() if i in s] for i in range(len(values))]
        return over([statistics.fmean(m) - mean for m in mine], std)

    return advantages


def gpg_truth(problem: Problem) -> Tensor:
    """Two groups of 2: mixed with probability q; alone, the mixed one counts double."""
    q = 2.0 * success(problem) * (1.0 - success(problem))
    return (2.0 - q) / 2.0 * problem.policy_gradient


def maxrl_truth(n: int) -> Callable[[Problem], Tensor]:
    """`sum over k < n of grad pass@k / k`, with `grad pass@k = k (1 - p)^(k - 1) grad p`."""
    return lambda problem: (
        sum((1.0 - success(problem)) ** (k - 1) for k in range(1, n)) * problem.policy_gradient
    )


def opo_truth(problem: Problem, n: int = 3) -> Tensor:
    """`grad J - grad E[b] / n`, for a baseline b that is one number of the batch."""

    def expected_baseline(logits: Tensor) -> Tensor:
        probs, lengths = problem.leaf_probs(logits), [len(path) for path in problem.leaves]
        total = torch.zeros((), dtype=torch.float64)
        for chosen in problem.batches(n):
            weight = sum(lengths[i] * problem.rewards[i] for i in chosen)
            total = total + probs[list(chosen)].prod() * weight / sum(lengths[i] for i in chosen)
        return total

    return problem.policy_gradient - problem.gradient(expected_baseline) / n


def gdpo_unscaled(problem: Problem) -> Tensor:
    both = problem.reward + 0.5 * problem.reward**2
    return 2.0 / 3.0 * problem.gradient(lambda logits: problem.leaf_probs(logits) @ both)


def over_lengths(problem: Problem) -> Tensor:
    shortened = problem.reward / problem.lengths
    return problem.gradient(lambda logits: problem.leaf_probs(logits) @ shortened)


def length_means(problem: Problem) -> Tensor:
    """`grad E[r / length] - J grad E[1 / length]`: sequences of unequal length weigh unequally."""
    expected = success(problem)
    shifted = (problem.reward - expected) / problem.lengths
    return problem.gradient(lambda logits: problem.leaf_probs(logits) @ shifted)


def token_means(problem: Problem) -> Tensor:
    """Each batch's gradient over its own number of tokens, written out."""

    def weights(rewards: list[float], lengths: list[int]) -> list[float]:
        n = len(rewards)
        others = [(sum(rewards) - r) / (n - 1) for r in rewards]
        return [(r - o) / sum(lengths) for r, o in zip(rewards, others, strict=True)]

    return problem.enumerated(3, weights)


def whitened_over_tokens(problem: Problem) -> Tensor:
    def weights(rewards: list[float], lengths: list[int]) -> list[float]:
        repeated = [r for r, length in zip(rewards, lengths, strict=True) for _ in range(length)]
        if len(set(repeated)) == 1:
            return [0.0] * len(rewards)
        mean, std = statistics.fmean(repeated), statistics.stdev(repeated)
        return [(r - mean) / std / len(rewards) for r in rewards]

    return problem.enumerated(3, weights)


def state_values(problem: Problem) -> list[float]:
    """The expected reward from each state on."""
    values = []
    for state in range(len(problem.actions)):
        through = [
            i for i, path in enumerate(problem.leaves) if state in [where for where, _ in path]
        ]
        probs = problem.leaf_probs().detach()[through]
        values.append(float((probs * problem.reward[through]).sum() / probs.sum()))
    return values


RIGHT_CRITIC = torch.tensor(state_values(TREE), dtype=torch.float64)
WRONG_CRITIC = torch.tensor([0.9, -0.4, 1.5, 0.3], dtype=torch.float64)


def per_token(
    weigh: Callable[[Problem, int, int], float], probs: str = "sampling_probs"
) -> Callable[[Problem], Tensor]:
    """`sum over leaves of prob * sum over steps of weigh(leaf, step) * score of the step`."""

    def truth(problem: Problem) -> Tensor:
        total = torch.zeros_like(problem.theta)
        for leaf, path in enumerate(problem.leaves):
            for step in range(len(path)):
                scale = getattr(problem, probs)[leaf] * weigh(problem, leaf, step)
                total = total + scale * problem.token_scores[leaf][step]
        return total.detach()

    return truth


def td_error(problem: Problem, leaf: int, step: int) -> float:
    path = problem.leaves[leaf]
    last = step == len(path) - 1
    ahead = problem.rewards[leaf] if last else float(WRONG_CRITIC[path[step + 1][0]])
    return ahead - float(WRONG_CRITIC[path[step][0]])


def wrong_gae(problem: Problem, leaf: int, step: int) -> float:
    length = len(problem.leaves[leaf])
    return sum(0.95 ** (t - step) * td_error(problem, leaf, t) for t in range(step, length))


def discounted(problem: Problem, leaf: int, step: int) -> float:
    return 0.5 ** (len(problem.leaves[leaf]) - 1 - step) * problem.rewards[leaf]


def kl_of_sequences(problem: Problem) -> Tensor:
    """The gradient of KL(policy || reference) over whole sequences."""
    reference = problem.leaf_probs(torch.tensor(problem.reference, dtype=torch.float64))

    def kl(logits: Tensor) -> Tensor:
        probs = problem.leaf_probs(logits)
        return (probs * (probs / reference).log()).sum()

    return problem.gradient(kl)


def divergence_of_states(measure: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """`sum over states of visits * gradient of a divergence there`, visits held fixed."""

    def truth(problem: Problem) -> Tensor:
        reference = problem.log_policy(torch.tensor(problem.reference, dtype=torch.float64))
        visits = [
            sum(
                float(prob)
                for prob, path in zip(problem.sampling_probs, problem.leaves, strict=True)
                if state in [where for where, _ in path]
            )
            for state in range(len(problem.actions))
        ]

        def total(logits: Tensor) -> Tensor:
            policy = problem.log_policy(logits).split(problem.actions)
            parts = zip(visits, policy, reference.split(problem.actions), strict=True)
            return torch.stack([v * measure(ours, ref) for v, ours, ref in parts]).sum()

        return problem.gradient(total)

    return truth


forward_kl = divergence_of_states(lambda ours, ref: (ours.exp() * (ours - ref)).sum())
reverse_kl = divergence_of_states(lambda ours, ref: (ref.exp() * (ref - ours)).sum())
variation = divergence_of_states(lambda ours, ref: (ours.exp() - ref.exp()).abs().sum())


def nothing(problem: Problem) -> Tensor:
    return torch.zeros_like(problem.theta).detach()


def penalised(problem: Problem) -> Tensor:
    """The gradient of J - beta KL(policy || reference)."""
    return problem.policy_gradient - BETA * kl_of_sequences(problem)


def penalised_by_k3(problem: Problem) -> Tensor:
    """One step: `grad J - beta (grad KL(policy || ref) - grad KL(ref || policy))`."""
    return penalised(problem) + BETA * reverse_kl(problem)


def ratios(problem: Problem, leaf: int) -> list[float]:
    sampler = problem.log_policy(torch.tensor(problem.sampler, dtype=torch.float64))
    policy = problem.log_policy(problem.theta.detach())
    return [math.exp(float(policy[token] - sampler[token])) for token in problem.tokens[leaf]]


def off_policy(
    weigh: Callable[[list[float], int, float], float],
) -> Callable[[Problem], Tensor]:
    """Under the sampler: `weigh(ratios of the sequence, step, reward) * reward` a token."""
    return per_token(
        lambda problem, leaf, step: (
            weigh(ratios(problem, leaf), step, problem.rewards[leaf]) * problem.rewards[leaf]
        )
    )


def unclipped(ratio: list[float], step: int, reward: float) -> float:
    """PPO's: a token's ratio where its gradient is not cut, with the reward as advantage."""
    r = ratio[step]
    cut = r > 1.2 if reward > 0 else r < 0.8
    return 0.0 if cut else r


CAP = 1.2


def cases() -> list[Case]:
    return [
        *baselines(),
        *several(),
        *aggregations(),
        *critics(),
        *policies(),
        *divergences(),
        *mismatches(),
    ]


def baselines() -> list[Case]:
    def case(
        name: str, says: str, problem: Problem, n: int, truth: Any, groups: int = 1, **options: Any
    ) -> Case:
        of = options.pop("of", name)
        loss = outcome(of, problem, groups=groups, **options)
        return Case("Advantages of rollouts", name, says, problem, n, loss, truth)

    two_groups = "the batch is two groups of 2"
    return [
        case("reinforce", "grad J", TREE, 1, policy_gradient),
        case("remax", "grad J", TREE, 1, policy_gradient),
        case("leave-one-out", "grad J", TREE, 3, policy_gradient),
        case("group, scale none", "(n - 1)/n grad J", TREE, 3, times(2 / 3), of="group",
             scale="none"),
        case("opo", "grad J - grad E[baseline] / n", TREE, 3, opo_truth),
        case("group, scale group", "w(p, n) grad p, w towards 1/sqrt(p(1 - p))", BINARY_TREE, 3,
             by_pattern(3, standardised), of="group", eps=0.0),
        case("group, scale batch", f"w(p, n) grad p; {two_groups}", BINARY_BANDIT, 4,
             by_pattern(4, lambda v: over(in_pairs(v), statistics.stdev(v))), groups=2, of="group",
             scale="batch", eps=0.0),
        case("reinforce++", "w(p, n) grad p", BINARY_TREE, 3, by_pattern(3, standardised), eps=0.0),
        case("reinforce++, over tokens", "enumerated; weighs by length", TREE, 3,
             whitened_over_tokens, of="reinforce++", over="tokens"),
        case("reinforce++-baseline", f"w(p, n) grad p; {two_groups}", BINARY_BANDIT, 4,
             by_pattern(4, lambda v: over(in_pairs(v), statistics.stdev(in_pairs(v)))), groups=2,
             eps=0.0),
        case("gpg", f"(2 - q)/2 grad p, q = 2p(1 - p); {two_groups}", BINARY_BANDIT, 4, gpg_truth,
             groups=2),
        case("maxrl", "sum over k < n of grad pass@k / k", BINARY_TREE, 3, maxrl_truth(3)),
    ]  # fmt: skip


def several() -> list[Case]:
    def case(name: str, says: str, problem: Problem, n: int, truth: Any, target: Any, of: str,
             **options: Any) -> Case:  # fmt: skip
        loss = outcome(of, problem, **options)
        return Case("Best of k, several rewards", name, says, problem, n, loss, truth, target)

    pass_at_2 = best_of(2)
    return [
        case("pass-at-k, k 2", "grad E[max of k]", BANDIT, 4, pass_at_2, pass_at_2, "pass-at-k",
             k=2),
        case("pass-at-k-group, k 2, not scaled", "(1/k - 1/n) grad pass@k", BINARY_BANDIT, 4,
             best_of(2, 1 / 2 - 1 / 4), pass_at_2, "pass-at-k-group", k=2, scale=False),
        case("pass-at-k-group, k 2", "w(p, n, k) grad p", BINARY_BANDIT, 4,
             by_pattern(4, chen(2)), pass_at_2, "pass-at-k-group", k=2),
        case("max-gap, not scaled", "grad E[max of n] / n", TREE, 3, best_of(3, 1 / 3), best_of(3),
             "max-gap", scale=False),
        case("max-gap", "w(p, n) grad p", BINARY_TREE, 3, by_pattern(3, lead), best_of(3),
             "max-gap", eps=0.0),
        case("gdpo, not scaled", "(n - 1)/n grad of the weighted sum", TREE, 3, gdpo_unscaled,
             lambda problem: 1.5 * gdpo_unscaled(problem), "gdpo", scale="none", over="none",
             weights=[1.0, 0.5]),
    ]  # fmt: skip


def aggregations() -> list[Case]:
    def case(how: str, says: str, problem: Problem, truth: Any) -> Case:
        loss = outcome("leave-one-out", problem, loss={"how": how})
        name = f"{how}, one length" if problem is BANDIT else how
        return Case("Aggregation, of leave-one-out", name, says, problem, 3, loss, truth)

    return [
        case("seq-mean-token-sum", "grad J", TREE, policy_gradient),
        case("seq-mean-token-sum-norm", "grad J / L", TREE, times(1 / NORMALISER)),
        case("token-sum", "n grad J", TREE, times(3.0)),
        case("seq-mean-token-mean", "grad E[r/length] - J grad E[1/length]", TREE, length_means),
        case("token-mean", "enumerated: E[gradient of the batch / its tokens]", TREE, token_means),
        case("token-mean", "grad J / length", BANDIT, policy_gradient),
    ]


def critics() -> list[Case]:
    def right(batch: Batch) -> Tensor:
        return RIGHT_CRITIC[batch.states]

    def wrong(batch: Batch) -> Tensor:
        return WRONG_CRITIC[batch.states]

    def case(name: str, says: str, loss: Loss, truth: Any) -> Case:
        return Case("Advantages of tokens", name, says, TREE, 2, loss, truth)

    return [
        case("returns", "grad J", raw(), policy_gradient),
        case("returns, gamma 0.5", "later tokens weigh more",
             tokens(lambda batch, rewards: returns(batch, rewards, 0.5)), per_token(discounted)),
        case("gae, lambda 1, right critic", "grad J", gae(right, 1.0), policy_gradient),
        case("gae, lambda 1, wrong critic", "grad J", gae(wrong, 1.0), policy_gradient),
        case("gae, lambda 0.95, right critic", "grad J", gae(right, 0.95), policy_gradient),
        case("gae, lambda 0, right critic", "grad J", gae(right, 0.0), policy_gradient),
        case("gae, lambda 0.95, wrong critic", "enumerated: discounted TD errors",
             gae(wrong, 0.95), per_token(wrong_gae)),
        case("gae, lambda 0, wrong critic", "enumerated: TD errors", gae(wrong, 0.0),
             per_token(td_error)),
    ]  # fmt: skip


def policies() -> list[Case]:
    """On-policy, with the reward as advantage: what is left of each loss where all ratios are 1."""

    def case(name: str, how: str, says: str, truth: Any) -> Case:
        label = f"{name}, {how}"
        loss = raw(policy=name, how=how, **({"beta": 0.3} if name == "dro" else {}))
        return Case("Policy losses, on-policy", label, says, TREE, 1, loss, truth)

    by_token = (
        *("reinforce", "importance", "clip", "cispo", "sapo", "vespo", "dppo-tv", "dppo-kl"),
        "dro",
    )
    mean, total = "seq-mean-token-mean", "seq-mean-token-sum"
    return [
        *(case(name, total, "grad J", policy_gradient) for name in by_token),
        case("rloo", mean, "grad J", policy_gradient),
        case("gspo", total, "grad J", policy_gradient),
        *(
            case(name, mean, "grad E[r/length]", over_lengths)
            for name in ("gspo", "gspo-token", "gmpo")
        ),
    ]


def divergences() -> list[Case]:
    def reward(name: str, says: str, problem: Problem, n: int, loss: Loss, truth: Any) -> Case:
        return Case("KL in the reward", name, says, problem, n, loss, truth, penalised)

    def loss(name: str, says: str, problem: Problem, truth: Any, ratio: bool = False) -> Case:
        label = f"{name} x ratio" if ratio else name
        label = f"{label}, one step" if problem is BANDIT else label
        return Case("KL in the loss", label, says, problem, 1, kl_loss(name, ratio), truth,
                    kl_of_sequences)  # fmt: skip

    both = "grad KL(policy, ref) of each state, visits held fixed"
    found = [
        reward("k1 at each token, returns", "grad (J - beta KL)", TREE, 1,
               tokens(returns, kl="k1"), penalised),
        reward("k1 summed, leave-one-out", "grad (J - beta KL)", TREE, 3, rloo_with_kl, penalised),
        reward("k3, one step", "grad (J - beta KL) + beta grad KL(ref, policy)", BANDIT, 1,
               tokens(returns, kl="k3"), penalised_by_k3),
        loss("k1", "0", TREE, nothing),
        loss("abs", "twice grad of the total variation", TREE, variation),
        loss("k2", both, TREE, forward_kl),
        loss("k2", "grad KL(policy, ref)", BANDIT, kl_of_sequences),
        loss("k3", "grad KL(ref, policy) of each state", TREE, reverse_kl),
        loss("k3", "grad KL(ref, policy)", BANDIT, reverse_kl),
    ]  # fmt: skip
    found += [loss(name, both, TREE, forward_kl) for name in ("k1+", "abs+", "k3+")]
    found += [loss(name, both, TREE, forward_kl, ratio=True) for name in ("k1", "k3")]
    return found


def mismatches() -> list[Case]:
    def case(name: str, says: str, loss: Loss, truth: Any, n: int = 1) -> Case:
        return Case("Off-policy: sampled by another policy", name, says, STALE_TREE, n, loss, truth)

    def stale(policy: str, **options: Any) -> Loss:
        return raw(policy=policy, old="sampler_logprobs", **options)

    no_clip = {"clip_low": 0.999, "clip_high": 1e6}
    product = math.prod
    return [
        case("reinforce, no weight", "E under the sampler", raw(),
             off_policy(lambda ratio, step, reward: 1.0)),
        case("rloo, not clipped", "grad J", stale("rloo", how="seq-mean-token-mean", **no_clip),
             policy_gradient),
        case("rloo, not clipped, of leave-one-out", "grad J",
             outcome("leave-one-out", STALE_TREE, loss={
                 "policy": "rloo", "how": "seq-mean-token-mean", "old": "sampler_logprobs",
                 **no_clip}), policy_gradient, n=3),
        case("importance", "tokens right for their states, states the sampler's",
             stale("importance"), off_policy(lambda ratio, step, reward: ratio[step])),
        case("clip, 0.2", "the same without the tokens that are cut",
             stale("clip", clip_low=0.2, clip_high=0.2), off_policy(unclipped)),
        case("weight: sequence-product", "grad J",
             raw(weights=weighted("sequence-product", "truncate")), policy_gradient),
        case("weight: sequence-geometric", "weights w^(1/length)",
             raw(weights=weighted("sequence-geometric", "truncate")),
             off_policy(lambda ratio, step, reward: product(ratio) ** (1 / len(ratio)))),
        case("weight: token", "as importance", raw(weights=weighted("token", "truncate")),
             off_policy(lambda ratio, step, reward: ratio[step])),
        case("weight: token, truncated", "weights min(w, cap)",
             raw(weights=lambda batch: importance_weights(
                 batch.logprobs.detach(), batch.sampler_logprobs, cap=CAP)),
             off_policy(lambda ratio, step, reward: min(ratio[step], CAP))),
        case("weight: sequence-product, truncated", "the mass beyond the cap is missing",
             raw(weights=weighted("sequence-product", "truncate", CAP)),
             off_policy(lambda ratio, step, reward: min(product(ratio), CAP))),
        case("weight: sequence-product, masked", "all beyond the cap is missing",
             raw(weights=weighted("sequence-product", "mask", CAP)),
             off_policy(lambda ratio, step, reward: product(ratio) * (product(ratio) <= CAP))),
        case("weight: sequence-product, rejected", "E under the sampler, within the cap",
             raw(weights=weighted("sequence-product", "reject", CAP)),
             off_policy(lambda ratio, step, reward: float(product(ratio) <= CAP))),
    ]  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """Exact moments of an estimate over all batches, beside its closed form."""

    table: Tensor
    probs: Tensor
    truth: Tensor
    wanted: Tensor

    @classmethod
    def of(cls, case: Case) -> Measured:
        table = case.problem.table(case.n, case.loss)
        probs = case.problem.batch_probs(case.n)
        return cls(table, probs, case.truth(case.problem).detach(), case.wanted().detach())

    @property
    def mean(self) -> Tensor:
        return self.probs @ self.table

    @property
    def bias(self) -> float:
        """How far the closed form is from what is wanted, as a share of its size."""
        return float((self.truth - self.wanted).norm() / self.wanted.norm())

    @property
    def turned(self) -> float:
        """The angle between them in degrees; NaN where the expectation is 0."""
        if not float(self.truth.norm()) > 0.0:
            return math.nan
        cosine = torch.nn.functional.cosine_similarity(self.truth, self.wanted, dim=0)
        return math.degrees(math.acos(min(1.0, max(-1.0, float(cosine)))))

    @property
    def noise(self) -> float:
        """The std of the estimate from one batch, as a share of the size of what is wanted."""
        spread = self.probs @ (self.table - self.mean).square().sum(1)
        return float(spread.sqrt() / self.wanted.norm())


def markdown() -> str:
    """The table, a line a case."""
    lines, section = [], ""
    for case in cases():
        found = Measured.of(case)
        if case.section != section:
            section = case.section
            lines += [f"| **{section}** | | | | |"]
        bias = "none" if found.bias < 1e-6 else f"{found.bias:.2f}"
        turned = "" if found.bias < 1e-6 or math.isnan(found.turned) else f"{found.turned:.0f}°"
        lines.append(
            f"| {case.name} | {case.expectation} | {bias} | {turned} | {found.noise:.1f} |"
        )
    head = "| estimator | expected value | bias | turned by | noise |\n|---|---|---|---|---|\n"
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
