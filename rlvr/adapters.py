"""LoRA (Hu et al. 2021, arXiv:2106.09685) through `peft`: small matrices beside frozen weights.

The matrices are put into the model in place, so that it stays the `transformers` class that it was:
whoever holds the module (a sampler, say) sees them too. What leaves the process, to files or to a
sampler with weights of its own, is merged: plain weights under their plain names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlvr.errors import CheckpointError, ConfigError, MissingExtraError, nearest

NAME = "default"
_WEIGHTS = "adapter_model.safetensors"


def require_peft() -> Any:
    """The module `peft`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import peft
    except ModuleNotFoundError as error:
        raise MissingExtraError("peft", "lora", "lora") from error
    return peft


def add_lora(
    model: PreTrainedModel,
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    targets: Sequence[str] = (),
    seed: int = 0,
) -> None:
    """Freeze a model and put LoRA matrices, in float32, beside its linear layers.

    As long as the second matrix of each pair is zero, as it begins, the model computes what it did.

    Args:
        model: changed in place.
        rank: of each product of matrices.
        alpha: the product is scaled by `alpha / rank`.
        dropout: share of the inputs of the matrices that are dropped inside `active_dropout`.
        targets: names (or ends of names) of the layers; every linear layer but the output head
            where not given.
        seed: of the first matrix of each pair.

    Raises:
        MissingExtraError: `peft` is not installed.
        ConfigError: no layer has one of these names.
    """
    check_lora(model, targets)
    peft = require_peft()
    settings = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=list(targets) or "all-linear",
        task_type="CAUSAL_LM",
        base_model_name_or_path=model.config._name_or_path or None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(settings, model, adapter_name=NAME)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_is_lora(name))
        if _is_lora(name):
            parameter.data = parameter.data.float()
    model.eval()


def check_lora(model: nn.Module, targets: Sequence[str]) -> None:
    """Refuse early what `add_lora` would refuse.

    Raises:
        MissingExtraError: `peft` is not installed.
        ConfigError: no layer has one of these names.
    """
    require_peft()
    names = {name for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    for target in targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            last = {name.rpartition(".")[2] for name in names}
            raise ConfigError(
                f"lora.targets: no linear layer is called {target!r}{nearest(target, last)}"
            )


def has_lora(model: nn.Module) -> bool:
    """Whether `add_lora` was called on it."""
    return any(_is_lora(name) for name, _ in model.named_parameters())


@contextmanager
def without_lora(model: nn.Module) -> Iterator[None]:
    """Let the model compute what it computed before `add_lora`: the reference of a KL term."""
    layers = _layers(model)
    for layer in layers:
        # Not peft's `enable_adapters`, which would also change what is trained.
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


@contextmanager
def active_dropout(model: nn.Module, seed: int) -> Iterator[None]:
    """Switch the dropout of the LoRA matrices on, drawn from `seed`; no other dropout."""
    drops = [drop for layer in _layers(model) for drop in layer.lora_dropout.values()]
    if not any(getattr(drop, "p", 0.0) for drop in drops):
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for drop in drops:
            drop.train()
        try:
            yield
        finally:
            for drop in drops:
                drop.eval()


@torch.no_grad()
def plain_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """The weights under the names, and with the values, of a model without LoRA: merged.

    Without LoRA in the model, simply its own; nothing is copied that is not merged.
    """
    state = cast(dict[str, Tensor], model.state_dict())
    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "lora_A")}
    if not layers:
        return state
    merged = {
        name.replace(".base_layer.", "."): value
        for name, value in state.items()
        if not _is_lora(name)
    }
    for name, layer in layers.items():
        base = merged[f"{name}.weight"]
        delta = cast(Any, layer).get_delta_weight(NAME)
        merged[f"{name}.weight"] = (base.to(delta.dtype) + delta).to(base.dtype)
    return merged


def save_adapter(model: nn.Module, folder: Path) -> None:
    """Write the matrices alone, as `peft.PeftModel.from_pretrained` loads them."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"base_model.model.{name.replace(f'.{NAME}.', '.')}": value.detach().contiguous()
        for name, value in model.named_parameters()
        if _is_lora(name)
    }
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    cast(Any, model).peft_config[NAME].save_pretrained(str(folder))


@torch.no_grad()
def load_adapter(model: nn.Module, folder: Path) -> None:
    """Put back what `save_adapter` wrote.

    Raises:
        CheckpointError: it belongs to another model or to other settings.
    """
    saved = load_file(folder / _WEIGHTS)
    own = {
        f"base_model.model.{name.replace(f'.{NAME}.', '.')}": value
        for name, value in model.named_parameters()
        if _is_lora(name)
    }
    for name in sorted(saved.keys() ^ own.keys()):
        raise CheckpointError(f"{folder} belongs to another model: {name!r} does not match")
    for name, value in own.items():
        if value.shape != saved[name].shape:
            raise CheckpointError(
                f"{folder} belongs to another model: {name!r} is {tuple(saved[name].shape)}, "
                f"expected {tuple(value.shape)}"
            )
        value.copy_(saved[name])


def _layers(model: nn.Module) -> list[Any]:
    return [layer for layer in model.modules() if hasattr(layer, "lora_A")]


def _is_lora(name: str) -> bool:
    return ".lora_" in name or name.startswith("lora_")
