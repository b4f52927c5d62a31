"""New weights for the sampler, and the proof that they got there.

After every hand-over the sampler answers a few fixed prompts, and the trainer scores the answers:
their logprobs must agree. A sampler that goes on with old weights while the policy moves shows it
by a disagreement as large as that movement, and ends the run; smaller ones are logged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from rlvr.batch import Batch, Example
from rlvr.errors import SamplerError
from rlvr.forward import score_tokens
from rlvr.protocols import TrainableSampler
from rlvr.seeds import derive_seed
from rlvr.types import Completion, Prompt, SamplingParams

PROMPTS = 8
TOKENS = 8
"""Of a probe: prompts, and tokens of each answer."""
MOVED = 0.02
"""Nats a token that the policy must have moved before anything is concluded (movements add up until
then): above what float32 differs by (1e-6). For bfloat16 and other kernels it is 10 times what was
found at first, if that is more."""


class WeightSync:
    """Hands weights to a sampler and checks that it samples from them.

    Args:
        sampler: what samples.
        prompts: what it is asked after each hand-over.
        temperature: of training; the whole distribution is looked at, without top_p and top_k.
        max_new_tokens: of training; a probe has 8 at the most.
        seed: of the run.
    """

    def __init__(
        self,
        sampler: TrainableSampler,
        prompts: Sequence[Prompt],
        *,
        temperature: float,
        max_new_tokens: int,
        seed: int,
    ) -> None:
        self.sampler = sampler
        self._prompts = list(prompts)
        self._params = SamplingParams(
            max_new_tokens=min(TOKENS, max_new_tokens), temperature=temperature or 1.0
        )
        self._seeds = [derive_seed(seed, "sync", i) for i in range(len(self._prompts))]
        self._before: list[Completion] | None = None
        self._noise: float | None = None

    def push(self, model: nn.Module) -> float:
        """Hand the weights of `model` over.

        Returns:
            The mean difference between the sampler's logprobs and those of `model`, in nats a
            token.

        Raises:
            SamplerError: the policy has moved, and the sampler has not moved with it.
        """
        if self._before is None:
            self._before = self._ask()
        self.sampler.update_weights(model)
        answers = self._ask()
        gap, moved = self._gap(model, answers), self._gap(model, self._before)
        noise = MOVED if self._noise is None else self._noise
        if moved > max(MOVED, 10.0 * noise):
            if not gap <= 0.5 * moved:
                raise SamplerError(
                    f"sampler {self.sampler.name!r} did not take the new weights: its logprobs "
                    f"differ from the trainer's by {gap:.3g} nats a token, after the policy moved "
                    f"by {moved:.3g}; expected {noise:.1g}. Look at its update_weights"
                )
            self._before = answers
        if self._noise is None:
            self._noise = gap
        return gap

    def _ask(self) -> list[Completion]:
        return self.sampler.sample(self._prompts, self._params, seeds=self._seeds)

    @torch.no_grad()
    def _gap(self, model: nn.Module, answers: Sequence[Completion]) -> float:
        batch = Batch.pack(
            [
                Example(
                    prompt_ids=answer.prompt_token_ids,
                    completion_ids=answer.token_ids,
                    sampler_logprobs=answer.logprobs,
                )
                for answer in answers
            ]
        )
        scores = score_tokens(model, batch, temperature=self._params.temperature, entropy="none")
        theirs = batch.sampler_logprobs[batch.loss_mask].to(scores.logprobs.device)
        return (scores.logprobs - theirs).abs().mean().item()
