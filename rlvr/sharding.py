"""FSDP2: each process holds a part of every weight, and of its gradient and optimizer state.

`shard` wraps a model in place; it stays the `transformers` model that it was and computes the same.
What gathers whole weights (`rlvr.adapters.plain_weights`) does so one tensor at a time, and every
process has to take part in it. LoRA matrices are put in before a model is sharded.

A sampler never generates from a sharded model: every token would be an exchange, and processes
whose completions end sooner would leave the others waiting. It has a whole copy of the weights,
which is a quarter of what sharding divides (weights, gradient and two moments).

Weights are gathered in their own dtype, and narrower products are autocast's business as in one
process: gathered in bfloat16 (FSDP2's `param_dtype`), the embeddings and with them the residual
stream would be bfloat16 too, and gradients 4e-3 off those of one process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard
from transformers import PreTrainedModel

from rlvr.distributed import World
from rlvr.errors import ConfigError


def shard(model: PreTrainedModel, world: World) -> None:
    """Shard a model over all processes, in place; does nothing where the world is not sharded.

    Gradients come out summed over processes in float32, not averaged. Each layer is gathered when
    it is needed, forward and backward, and forgotten after that.

    Args:
        model: the same whole weights on every process; on the CPU, so that a GPU never holds more
            than one whole layer.
        world: the processes.

    Raises:
        ConfigError: the model does not say what its layers are.
    """
    if not world.sharded:
        return
    mesh = init_device_mesh(world.device, (world.size,))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    # Left to itself, FSDP2 keeps what is outside the layers gathered after a forward pass: without
    # a backward pass to follow, an optimizer made then would train tensors that nobody uses.
    for part in (*layers_of(model), model):
        fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def layers_of(model: PreTrainedModel) -> list[nn.Module]:
    """The blocks that `transformers` says are never to be split.

    Raises:
        ConfigError: it says of none.
    """
    names = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ConfigError(
            f"distributed.mode is fsdp, and {type(model).__name__} does not say what its layers "
            "are: use distributed.mode=data_parallel"
        )
    return layers


def is_sharded(model: nn.Module) -> bool:
    """Whether processes hold parts of the weights."""
    return isinstance(model, FSDPModule)


def most_of_all(model: nn.Module, count: int) -> int:
    """The highest of the counts that the processes give that share a model; else `count`.

    Every process calls. Each forward pass of a sharded model is an exchange, and so is its backward
    pass: all have to make as many.
    """
    if not is_sharded(model):
        return count
    part = next(p for p in model.parameters() if isinstance(p, DTensor))
    highest = torch.tensor(count, device=part.to_local().device)
    dist.all_reduce(highest, dist.ReduceOp.MAX, group=part.device_mesh.get_group())
    return int(highest)


def whole(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, on every process; any other tensor as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def rows_of(tensor: DTensor) -> tuple[int, int]:
    """The rows (first, after the last) of a sharded tensor that this process holds."""
    if tensor.placements != (Shard(0),):
        raise ValueError(f"{tensor.placements}: expected rows over one dimension of processes")
    count, size = tensor.shape[0], tensor.device_mesh.size()
    chunk = -(-count // size)
    start = min(count, chunk * tensor.device_mesh.get_local_rank())
    stop = min(count, start + chunk)
    assert stop - start == tensor.to_local().shape[0]
    return start, stop


def with_rows(like: DTensor, rows: Tensor) -> DTensor:
    """A tensor sharded as another one is, of which this process holds these rows."""
    own = rows.to(like.to_local().device)
    return DTensor.from_local(
        own,
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )


def load_rows(model: nn.Module, files: Mapping[str, Any]) -> list[str]:
    """Fill the weights of a sharded model from whole tensors, reading its own rows only.

    Args:
        model: sharded.
        files: by the name of each tensor, the open safetensors file that has it.

    Returns:
        Names that the model has and the files lack.
    """
    missing = []
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if name not in files:
                missing.append(name)
            elif isinstance(tensor, DTensor):
                start, stop = rows_of(tensor)
                tensor.to_local().copy_(files[name].get_slice(name)[start:stop])
            else:
                tensor.copy_(files[name].get_tensor(name))
    return missing


def open_files(paths: list[Any]) -> Iterator[tuple[str, Any]]:
    """Each tensor's name with the open file that has it."""
    for path in paths:
        file: Any = safe_open(path, framework="pt")
        for name in file.keys():  # noqa: SIM118  (not a mapping)
            yield name, file
