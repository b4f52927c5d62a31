"""How a model computes: bfloat16 products over float32 weights, activations made twice, compiled.

Gradients in a fixed order (`backward`) are a property of the process, each of the others of the
module, so that trainers and samplers use it as before. It works by giving the module, or its
layers, a class of their own that derives from the one they have and bears its name: copies keep it,
`save_pretrained` and FSDP do not notice.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from rlvr.errors import ConfigError

_strict = False


def fix_order(wanted: bool) -> None:
    """Choose whether this process's `backward` may only use kernels that add up in a fixed order.

    On a CPU they all do. On a GPU flash attention's backward pass does where torch is asked
    strictly (`warn_only=False`), and not otherwise. Asked for all the time, that would make an
    error of what has no such kernel and needs none, such as the sampler's cumulative sums.
    """
    global _strict
    _strict = wanted


def backward(loss: Tensor) -> None:
    """Add a loss's gradients to those of the parameters, in a fixed order where that was chosen.

    Raises:
        RuntimeError: it was, and torch has no such kernel for something on the way; it names it.
    """
    if not _strict:
        loss.backward()
        return
    torch.use_deterministic_algorithms(True)
    try:
        loss.backward()
    finally:
        torch.use_deterministic_algorithms(True, warn_only=True)


def compute_in(model: nn.Module, dtype: torch.dtype) -> None:
    """Let a model of float32 weights compute its products in a narrower dtype, by autocast.

    Weights, gradients and the optimiser's state stay float32 (master weights): in bfloat16 alone,
    updates below 1/256 of a weight are rounded away, which at usual learning rates is all of them.
    """
    kind = type(model)

    @functools.wraps(kind.forward)
    def forward(self: nn.Module, *arguments: Any, **options: Any) -> Any:
        with computing(self):
            return kind.forward(self, *arguments, **options)

    _derive(model, {"forward": forward, "compute_dtype": dtype})


def compute_dtype(model: nn.Module) -> torch.dtype:
    """What a model's products are computed in."""
    chosen = getattr(model, "compute_dtype", None)
    return chosen if isinstance(chosen, torch.dtype) else next(model.parameters()).dtype


def computing(model: nn.Module) -> AbstractContextManager[Any]:
    """Keep narrowed weights from one call of a model to the next, while they do not change."""
    parameter = next(model.parameters())
    if compute_dtype(model) == parameter.dtype:
        return contextlib.nullcontext()
    return torch.autocast(parameter.device.type, compute_dtype(model))


def checkpoint_activations(model: nn.Module) -> None:
    """Keep only the input of each layer for the backward pass, and compute the rest again.

    `transformers` does so in training mode only, which would turn on dropout as well.

    Raises:
        ConfigError: the model has no layers that are made for it.
    """
    for layer in _layers(model, "gradient_checkpointing"):
        _derive(layer, {"__call__": _checkpointed(type(layer))})


def _checkpointed(kind: type[nn.Module]) -> Callable[..., Any]:
    """A `__call__` for a class derived from `kind`, whatever (FSDP, say) derives from it."""

    def call(self: nn.Module, *arguments: Any, **options: Any) -> Any:
        run = functools.partial(kind.__call__, self, **options)
        if not torch.is_grad_enabled():
            return run(*arguments)
        return checkpoint(run, *arguments, use_reentrant=False)

    return call


def compile_layers(model: nn.Module) -> None:
    """Compile each layer at its first call (`torch.compile`), for inputs of any length.

    Raises:
        ConfigError: the model has no layers that are made for it.
    """
    for layer in _layers(model, "compile"):
        layer.compile(dynamic=True)


def _layers(model: nn.Module, option: str) -> Iterator[nn.Module]:
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    if not layers:
        raise ConfigError(f"{option}: {type(model).__name__} has no layers that this is known for")
    yield from cast(list[nn.Module], layers)


def _derive(module: nn.Module, members: dict[str, Any]) -> None:
    kind = type(module)
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    module.__class__ = type(kind.__name__, (kind,), {**names, **members})
