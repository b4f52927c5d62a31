"""Objectives: losses, advantages, KL estimators and their aggregation, as pure functions.

The contract of this package:

- Input is torch tensors and numbers, output is tensors. Nothing here knows a model, a trainer, a
  tokenizer or a configuration.
- A batch is packed. A per-token tensor is `[N]`, over trained completion tokens only; there is no
  padding and no mask. `sequence_ids` `[N]` int64 says which sequence each token belongs to.
- A loss function returns one value for each token or pair. What turns those into the scalar to be
  differentiated divides by totals of the whole optimisation batch, which the caller gives: the sum
  of the micro-batch losses is the loss of the batch, however it is split.
- Losses are to be minimised. Log-probabilities are natural logarithms, float32 or float64.

Every part has a name in `rlvr.registry.objectives` (`kl/k3`, `aggregation/token-mean`,
`dpo/sigmoid`, ...); `docs/objectives.md` gives the signature that each family shares.
"""
