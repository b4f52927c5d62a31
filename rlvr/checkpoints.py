"""Checkpoints that appear whole or not at all, and that show it when they are damaged.

A checkpoint is a folder `step_000050/` with the weights and tokenizer as `transformers` saves them,
`optimizer.safetensors`, `state.json` (step, data position, schedule, random states), and
`manifest.json` with the SHA-256 of every other file. It is written beside its place, flushed and
renamed. Nothing in it is a pickle.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from rlvr.errors import CheckpointError
from rlvr.files import sync, write_json
from rlvr.policy import Policy, save_policy

MANIFEST = "manifest.json"


def save_checkpoint(
    folder: Path,
    step: int,
    *,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    keep: int,
    write_files: Callable[[Path], None] | None = None,
) -> Path:
    """Write `folder/step_NNNNNN`, then remove all but the newest `keep` checkpoints.

    Args:
        folder: where checkpoints live; made where missing.
        step: how many steps are behind this state.
        policy: weights and tokenizer.
        optimizer: its state is stored by parameter index.
        state: plain JSON values that the trainer needs besides (data position and the like).
        keep: how many stay.
        write_files: writes what is too large for `state` into the folder that it is given, beside
            the rest; the manifest covers it too.

    Returns:
        The new folder.
    """
    final = folder / f"step_{step:06d}"
    temporary = folder / f".writing_step_{step:06d}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_policy(policy, temporary)
    tensors, scalars = split_optimizer(optimizer)
    save_file(tensors, temporary / "optimizer.safetensors")
    if write_files is not None:
        write_files(temporary)
    write_json(
        temporary / "state.json",
        {"step": step, "optimizer": scalars, "rng": _random_states(), "trainer": dict(state)},
    )
    files = sorted(path for path in temporary.rglob("*") if path.is_file())
    digests = {str(path.relative_to(temporary)): _digest(path) for path in files}
    write_json(temporary / MANIFEST, {"sha256": digests})
    for path in files:
        sync(path)
    sync(temporary)
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    sync(folder)
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first, whole or damaged."""
    return sorted(path for path in folder.glob("step_*") if path.is_dir())


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint whose every file has the digest that its manifest gives.

    Damaged ones are named on standard error and passed over.
    """
    for path in reversed(checkpoints(folder)):
        damage = find_damage(path)
        if damage is None:
            return path
        print(f"warning: checkpoint {path} is damaged ({damage}): passed over", file=sys.stderr)
    return None


def find_damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or `None`."""
    try:
        digests = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError):
        return f"{MANIFEST} is missing or unreadable"
    for name, digest in digests.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if _digest(file) != digest:
            return f"{name} does not match its checksum"
    return None


def load_checkpoint(path: Path, *, policy: Policy, optimizer: torch.optim.Optimizer) -> Any:
    """Put weights, optimizer state and random states back in place.

    Returns:
        The `state` that was given to `save_checkpoint`, with the key `step` added.

    Raises:
        CheckpointError: the checkpoint belongs to another model.
    """
    weights = load_file(path / "model.safetensors") if (path / "model.safetensors").exists() else {}
    for shard in sorted(path.glob("model-*.safetensors")):
        weights.update(load_file(shard))
    missing, unexpected = policy.model.load_state_dict(weights, strict=False)
    tied = {name for name in missing if name.endswith("lm_head.weight")}
    if set(missing) - tied or unexpected:
        name = next(iter([*unexpected, *(set(missing) - tied)]))
        raise CheckpointError(f"{path} belongs to another model: {name!r} does not match")
    policy.model.tie_weights()
    saved = json.loads((path / "state.json").read_text(encoding="utf-8"))
    restore_optimizer(optimizer, load_file(path / "optimizer.safetensors"), saved["optimizer"])
    _restore_random_states(saved["rng"])
    return {**saved["trainer"], "step": saved["step"]}


def split_optimizer(
    optimizer: torch.optim.Optimizer,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimizer's state as tensors, by `index.slot`, and the rest as plain JSON values."""
    state = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    for index, slots in state["state"].items():
        for name, value in slots.items():
            tensors[f"{index}.{name}"] = torch.as_tensor(value).contiguous()
    return tensors, {"param_groups": state["param_groups"]}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor], scalars: Any
) -> None:
    """The inverse of `split_optimizer`."""
    slots: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        slots.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": slots, "param_groups": scalars["param_groups"]})


def _random_states() -> dict[str, Any]:
    version, internal, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    states: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": [str(kind), np.asarray(keys).tolist(), position, has_gauss, cached],
        "torch": _encode(torch.get_rng_state()),
    }
    if torch.cuda.is_available():
        states["cuda"] = [_encode(state) for state in torch.cuda.get_rng_state_all()]
    return states


def _restore_random_states(states: Mapping[str, Any]) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), position, has_gauss, cached))
    torch.set_rng_state(_decode(states["torch"]))
    if torch.cuda.is_available() and len(states.get("cuda", [])) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([_decode(state) for state in states["cuda"]])


def _encode(state: torch.Tensor) -> str:
    return base64.b64encode(state.cpu().numpy().tobytes()).decode("ascii")


def _decode(text: str) -> torch.Tensor:
    return torch.tensor(list(base64.b64decode(text)), dtype=torch.uint8)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
