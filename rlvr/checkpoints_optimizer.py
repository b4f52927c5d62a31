"""An optimizer's state in files: written by any number of processes, read by any other number.

A tensor is named `INDEX.SLOT`, such as `3.exp_avg`: the place of its parameter in the optimizer,
and what it is of that parameter. Where weights are sharded, each process writes the rows that it
holds into a file of its own, `NAME-00001-of-00002.safetensors`, whose header says under `rows`
which ones they are: `{"3.exp_avg": [first, after the last, of how many]}`. Everything else is in
the first file, whole. Reading looks at nothing but the rows that are wanted, so that no process
ever holds the state of another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from rlvr.distributed import ALONE, World
from rlvr.errors import CheckpointError
from rlvr.files import sync
from rlvr.sharding import rows_of, with_rows


def save_optimizer(
    optimizer: torch.optim.Optimizer, folder: Path, name: str, world: World = ALONE
) -> dict[str, Any]:
    """Write the tensors of an optimizer's state; every process calls.

    Args:
        optimizer: any.
        folder: that all processes share.
        name: of the files.
        world: the processes.

    Returns:
        The rest of the state (the parameter groups), as plain JSON values.
    """
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    rows: dict[str, list[int]] = {}
    for index, slots in state["state"].items():
        for slot, value in slots.items():
            key = f"{index}.{slot}"
            if isinstance(value, DTensor):
                start, stop = rows_of(value)
                if start < stop:
                    tensors[key] = value.to_local().contiguous()
                    rows[key] = [start, stop, value.shape[0]]
            elif world.is_main:
                tensors[key] = torch.as_tensor(value).contiguous()
    if world.sharded or world.is_main:
        part = f"-{world.rank + 1:05d}-of-{world.size:05d}" if world.sharded else ""
        path = folder / f"{name}{part}.safetensors"
        save_file(tensors, path, metadata={"rows": json.dumps(rows, sort_keys=True)})
        sync(path)
    return {"param_groups": state["param_groups"]}


def load_optimizer(
    optimizer: torch.optim.Optimizer, folder: Path, name: str, rest: Mapping[str, Any]
) -> None:
    """Put an optimizer's state back, whatever number of processes wrote it; every process calls.

    Args:
        optimizer: over the same parameters, sharded or not.
        folder: as for `save_optimizer`.
        name: as for `save_optimizer`.
        rest: what `save_optimizer` returned.

    Raises:
        CheckpointError: rows of a tensor are missing, or its shape is another.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    stored = _Stored(folder, name)
    slots: dict[int, dict[str, Tensor]] = {}
    for key in stored.keys:
        index, _, slot = key.partition(".")
        if int(index) >= len(parameters):
            raise CheckpointError(f"{folder / name}: {key} is of no parameter of this run")
        like = parameters[int(index)]
        is_sharded = isinstance(like, DTensor) and stored.count(key) is not None
        value = stored.read(key, *rows_of(like)) if is_sharded else stored.read(key)
        slots.setdefault(int(index), {})[slot] = with_rows(like, value) if is_sharded else value
    groups = rest["param_groups"]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})


class _Stored:
    """The files of one optimizer, open.

    Args:
        folder: where they are.
        name: of the files.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._where = folder / name
        paths = [folder / f"{name}.safetensors", *sorted(folder.glob(f"{name}-*-of-*.safetensors"))]
        self._parts: dict[str, list[tuple[int, int, Any]]] = {}
        self._counts: dict[str, int | None] = {}
        for path in paths:
            if path.exists():
                self._add(safe_open(path, framework="pt"))

    def _add(self, file: Any) -> None:
        rows = json.loads((file.metadata() or {}).get("rows", "{}"))
        for key in file.keys():  # noqa: SIM118  (not a mapping)
            if key in rows:
                start, stop, count = rows[key]
            else:
                shape = file.get_slice(key).get_shape()
                start, stop, count = 0, shape[0] if shape else 0, shape[0] if shape else None
            self._parts.setdefault(key, []).append((start, stop, file))
            self._counts[key] = count

    @property
    def keys(self) -> list[str]:
        """The names of all tensors."""
        return list(self._parts)

    def count(self, key: str) -> int | None:
        """How many rows a tensor has; `None` for a single number."""
        return self._counts[key]

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Rows of a tensor, all of them where not said, put together from all files.

        Raises:
            CheckpointError: a file that has some of them is missing.
        """
        count = self._counts[key]
        parts = sorted(self._parts[key], key=lambda part: part[0])
        if count is None:
            value: Tensor = parts[0][2].get_tensor(key)
            return value
        stop = count if stop is None else stop
        found: list[Tensor] = []
        at = start
        for first, after, file in parts:
            if first <= at < min(after, stop):
                found.append(file.get_slice(key)[at - first : min(after, stop) - first])
                at = min(after, stop)
        if at < stop:
            raise CheckpointError(f"{self._where}: rows {at} to {stop} of {key} are in no file")
        if not found:  # this process has no rows
            return parts[0][2].get_slice(key)[0:0]  # type: ignore[no-any-return]
        return found[0] if len(found) == 1 else torch.cat(found)
