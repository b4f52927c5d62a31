"""Tiny learners on real environments, for the tests of policy gradient training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rlvr.batch import Batch, Example
from rlvr.config import merge
from rlvr.policy import Policy, make_policy
from rlvr.registry import environments
from rlvr.samplers.hf import HFSampler
from rlvr.trainers.config import PolicyGradientConfig, parse_config
from rlvr.trainers.objective import check
from rlvr.trainers.policy_gradient import PolicyGradientLearner
from rlvr.types import Completion, FinishReason, Outcome, Rollout, RolloutGroup, Task, Verdict

TINY: dict[str, Any] = {
    "algorithm": "grpo",
    "policy": "new",
    "new_policy": {"hidden_size": 16, "layers": 1, "heads": 2, "alphabet": "0123456789+=A: \n"},
    "environment": {"name": "arithmetic", "digits": 1, "size": 200},
    "sampling": {"max_new_tokens": 6},
    "rollout": {"tasks_per_step": 4, "group_size": 4, "workers": 1, "save_every": 1000},
    "evaluation": None,
    "steps": 2,
}

EVEN = Path(__file__).with_name("even_verifier.py")


def configured(folder: Path, **changes: Any) -> PolicyGradientConfig:
    """A tiny run whose verifier finds about half of all completions right; checked."""
    base = merge(TINY, {"verifier": f"{EVEN}:even", "output": str(folder / "run")})
    config = parse_config(merge(base, changes), "test")
    assert isinstance(config, PolicyGradientConfig)
    check(config)
    return config


def new_policy(config: PolicyGradientConfig) -> Policy:
    return make_policy(**config.new_policy.model_dump(), seed=config.seed)


def learner(folder: Path, **changes: Any) -> PolicyGradientLearner:
    """A learner on a tiny new policy."""
    config = configured(folder, **changes)
    torch.set_num_threads(config.threads)
    policy = new_policy(config)
    return PolicyGradientLearner(
        config,
        policy=policy,
        reference=new_policy(config) if config.objective.kl_coefficient else None,
        environment=environments.create("arithmetic", config.environment.options),
        held_out=None,
        sampler=HFSampler(policy=policy),
        folder=folder,
    )


def group(
    name: str, rewards: list[float | None], *, version: int = 0, greedy: float | None = None
) -> RolloutGroup:
    """A group with these rewards, its tokens made up."""
    task = Task(id=name, prompt="1+1=", answer="2")

    def rollout(reward: float | None, seed: int) -> Rollout:
        outcome = Outcome.CORRECT if reward == 1 else Outcome.INCORRECT
        if reward is None:
            outcome = Outcome.VERIFIER_ERROR
        return Rollout(
            task=task,
            completion=Completion(
                text="2",
                token_ids=(4, 5, 1)[: 1 + seed % 3],
                logprobs=(-0.5, -1.25, -0.1)[: 1 + seed % 3],
                prompt_token_ids=(3, 2, 3),
                finish_reason=FinishReason.STOP,
            ),
            verdict=Verdict(reward=reward, outcome=outcome),
            policy_version=version,
            seed=seed,
        )

    return RolloutGroup(
        task=task,
        rollouts=tuple(rollout(reward, i) for i, reward in enumerate(rewards)),
        greedy=None if greedy is None else rollout(greedy, 0),
    )


def ragged(sampler_logprob: float = -1.0) -> Batch:
    """Uneven lengths, one sequence left out of the loss."""
    generator = torch.Generator().manual_seed(3)
    examples = []
    for i, length in enumerate((1, 7, 3, 5, 2, 6)):
        ids = torch.randint(2, 16, (length + 3,), generator=generator).tolist()
        examples.append(
            Example(
                prompt_ids=tuple(ids[:3]),
                completion_ids=tuple(ids[3:]),
                sampler_logprobs=(sampler_logprob,) * length,
                advantage=(-1.0) ** i * (i + 1) / 3,
                trained=i != 3,
            )
        )
    return Batch.pack(examples)


def weights(one: PolicyGradientLearner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in one.policy.model.parameters()])


def blur(one: PolicyGradientLearner) -> None:
    """Make the policy unlike a new one, so that entropies and ratios differ between tokens."""
    with torch.no_grad():
        one.policy.model.get_output_embeddings().weight.mul_(30)  # type: ignore[operator]
