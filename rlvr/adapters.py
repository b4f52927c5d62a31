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
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from rlvr.distributed import ALONE, World
from rlvr.errors import CheckpointError, ConfigError, MissingExtraError, nearest
from rlvr.sharding import is_sharded, rows_of, whole

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


def plain_weights(model: nn.Module) -> Iterator[tuple[list[str], Tensor]]:
    """Each weight under the names, and with the value, of a model without LoRA: merged, and whole.

    Sharded ones are gathered, one after another: every process has to go through all of them.

    Yields:
        The names (several where weights are tied), and the weight; it is copied only where it was
        merged or gathered.
    """
    state = model.state_dict(keep_vars=True)
    names: dict[int, list[str]] = {}
    for name, tensor in state.items():
        if not _is_lora(name):
            names.setdefault(id(tensor), []).append(name)
    modules = model.named_modules()
    layers = {f"{name}.base_layer.weight": part for name, part in modules if _has_matrices(part)}
    for tied in names.values():
        value = whole(state[tied[0]].detach())
        as_they_are = [name.replace(".base_layer.", ".") for name in tied if name not in layers]
        if as_they_are:
            yield as_they_are, value
        for name in tied:
            if name in layers:
                yield [name.replace(".base_layer.", ".")], _merged(value, layers[name])


def _merged(base: Tensor, layer: Any) -> Tensor:
    first, second = (whole(side[NAME].weight.detach()) for side in (layer.lora_A, layer.lora_B))
    delta: Tensor = (second @ first) * layer.scaling[NAME]
    if layer.fan_in_fan_out:
        delta = delta.T
    return (base.to(delta.dtype) + delta).to(base.dtype)


def plain_state_dict(model: nn.Module, *, keep: bool = True) -> dict[str, Tensor]:
    """All of `plain_weights`; those of a sharded model on the CPU.

    Args:
        model: every process calls where it is sharded.
        keep: whether this process wants them; it takes part all the same, and gets an empty dict.
    """
    found: dict[str, Tensor] = {}
    for names, value in plain_weights(model):
        if keep:
            # Tied weights stay tied, as `save_pretrained` needs them.
            found |= dict.fromkeys(names, value.cpu() if is_sharded(model) else value)
    return found


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy `plain_weights` of a model to a whole one of the same architecture without LoRA."""
    own = target.state_dict(keep_vars=True)
    with torch.no_grad():
        for names, value in plain_weights(source):
            for name in names:
                own[name].copy_(value)


def save_adapter(model: nn.Module, folder: Path, world: World = ALONE) -> None:
    """Write the matrices alone, as `peft.PeftModel.from_pretrained` loads them.

    Every process calls; the main one writes.
    """
    tensors = {}
    for name, value in model.named_parameters():
        if _is_lora(name):
            gathered = whole(value.detach())
            if world.is_main:
                key = f"base_model.model.{name.replace(f'.{NAME}.', '.')}"
                tensors[key] = gathered.cpu().contiguous()
    if not world.is_main:
        return
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    cast(Any, model).peft_config[NAME].save_pretrained(str(folder))


@torch.no_grad()
def load_adapter(model: nn.Module, folder: Path) -> None:
    """Put back what `save_adapter` wrote, of sharded matrices the rows that are held here.

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
        if isinstance(value, DTensor):
            start, stop = rows_of(value)
            value.to_local().copy_(saved[name][start:stop])
        else:
            value.copy_(saved[name])


def _layers(model: nn.Module) -> list[Any]:
    return [layer for layer in model.modules() if _has_matrices(layer)]


def _has_matrices(layer: nn.Module) -> bool:
    return hasattr(layer, "lora_A")


def _is_lora(name: str) -> bool:
    return ".lora_" in name or name.startswith("lora_")
