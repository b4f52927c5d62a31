"""Policies for the sampler tests, and what a plain forward pass says of a completion."""

from __future__ import annotations

import torch

from rlvr.policy import Policy, make_policy
from rlvr.types import Completion

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789+= "


def sharpened_policy(seed: int = 0) -> Policy:
    """Random weights, scaled so that the likeliest token leads clearly and the text varies.

    A head is 32 wide because vLLM has no attention kernel for narrower ones on a CPU.
    """
    policy = make_policy(alphabet=LETTERS, hidden_size=32, layers=2, heads=1, max_length=64)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return policy


def rescored(policy: Policy, completion: Completion, temperature: float = 1.0) -> torch.Tensor:
    """Log-probabilities of the completion's tokens by one plain forward pass."""
    ids = torch.tensor([completion.prompt_token_ids + completion.token_ids])
    with torch.no_grad():
        logits = policy.model(input_ids=ids).logits[0].double() / temperature
    begin = len(completion.prompt_token_ids)
    targets = ids[0, begin:].unsqueeze(-1)
    return logits[begin - 1 : -1].log_softmax(-1).gather(-1, targets).squeeze(-1)
