"""Logprobs of a packed batch under a causal model: the forward pass that every trainer shares."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlvr.batch import Batch
from rlvr.objectives.logprobs import token_logprobs_and_entropy


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What a model says of the trained tokens of a batch, in packed order.

    Attributes:
        logprobs: `[N]` float32, natural log, at the given temperature.
        entropy: `[N]` float32, in nats, of the distribution of each token.
        sequence_ids: `[N]` int64, which sequence of the batch each token belongs to.
    """

    logprobs: Tensor
    entropy: Tensor
    sequence_ids: Tensor


def score_tokens(model: PreTrainedModel, batch: Batch, *, temperature: float = 1.0) -> TokenScores:
    """Score the trained tokens (`batch.loss_mask`) of a batch.

    The batch is padded on the right here and nowhere else. Only positions that predict a trained
    token reach the softmax, in float32.

    Args:
        model: a causal model; gradients flow unless the caller switched them off.
        batch: `S` sequences, `N` trained tokens.
        temperature: the one that the completions were sampled at; 0 (greedy) is scored as 1.
    """
    device = next(model.parameters()).device
    sequence_ids = batch.sequence_ids
    column = torch.arange(batch.input_ids.numel()) - batch.boundaries[:-1][sequence_ids]
    shape = (len(batch), int(batch.lengths.max()))
    ids = torch.zeros(shape, dtype=torch.int64)
    ids[sequence_ids, column] = batch.input_ids
    attention = torch.zeros(shape, dtype=torch.int64)
    attention[sequence_ids, column] = 1

    rows, columns = sequence_ids[batch.loss_mask], column[batch.loss_mask]
    output = model(input_ids=ids.to(device), attention_mask=attention.to(device), use_cache=False)
    logits = output.logits[rows.to(device), columns.to(device) - 1]
    targets = batch.input_ids[batch.loss_mask].to(device)
    logprobs, entropy = token_logprobs_and_entropy(logits, targets, temperature or 1.0)
    return TokenScores(logprobs, entropy, rows.to(device))
