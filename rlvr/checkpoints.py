"""Checkpoints that appear whole or not at all, and that show it when they are damaged.

A checkpoint is a folder `step_000050/` with the weights and tokenizer as `transformers` saves them,
`optimizer.safetensors` (a file a process where weights are sharded, see `checkpoints_optimizer`),
`state.json` (step, data position, schedule, random states), and `manifest.json` with the SHA-256 of
every other file. It is written beside its place, flushed and renamed. Nothing in it is a pickle.
Any number of processes goes on from it, whatever number wrote it.
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
from safetensors import SafetensorError

from rlvr.adapters import has_lora, load_adapter, plain_weights
from rlvr.checkpoints_optimizer import load_optimizer, save_optimizer
from rlvr.distributed import ALONE, World
from rlvr.errors import CheckpointError
from rlvr.files import json_text, sync, write_json
from rlvr.policy import ADAPTER, Policy, save_policy
from rlvr.sharding import is_sharded, load_rows, open_files

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
    world: World = ALONE,
) -> Path:
    """Write `folder/step_NNNNNN`, then remove all but the newest `keep` checkpoints.

    Every process calls, with the same arguments.

    Args:
        folder: where checkpoints live, on a disk that all processes share; made where missing.
        step: how many steps are behind this state.
        policy: weights and tokenizer.
        optimizer: its state is stored by parameter index.
        state: plain JSON values that the trainer needs besides (data position and the like).
        keep: how many stay.
        write_files: writes what is too large for `state` into the folder that it is given, beside
            the rest; the manifest covers it too. Each process calls it: what is to be written once
            is written by the main one.
        world: the processes.

    Returns:
        The new folder.

    Raises:
        CheckpointError: it cannot be written (the disk is full, say). The older ones stand.
    """
    final = folder / f"step_{step:06d}"
    temporary = folder / f".writing_step_{step:06d}"
    try:
        world.on_main(lambda: _make_empty(temporary))
        _write(temporary, step, policy, optimizer, state, write_files, world)
        world.on_main(lambda: _put_in_place(temporary, final, keep))
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(
            f"cannot write the checkpoint {final}: {reason}; the older ones stand: "
            "make room, and go on with --resume"
        ) from error
    return final


def _write(
    temporary: Path,
    step: int,
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    write_files: Callable[[Path], None] | None,
    world: World,
) -> None:
    """Write the files of a checkpoint, the manifest too, and flush them to disk."""
    save_policy(policy, temporary, world)
    rest = save_optimizer(optimizer, temporary, "optimizer", world)
    if write_files is not None:
        write_files(temporary)
    states = world.gather(_random_states())
    if world.is_main:
        write_json(
            temporary / "state.json",
            {"step": step, "optimizer": rest, "rng": states, "trainer": dict(state)},
        )
    world.barrier()
    files: list[str] = world.on_main(lambda: _files_of(temporary))
    digests: dict[str, str] = {}
    for part in world.gather([[name, _digest(temporary / name)] for name in world.share(files)]):
        digests.update(part)
    world.on_main(lambda: _seal(temporary, digests))


def _make_empty(folder: Path) -> None:
    """Make a folder, and clear away what earlier kills left beside it."""
    for leftover in [*folder.parent.glob(".writing_*"), *folder.parent.glob(".removing_*")]:
        shutil.rmtree(leftover, ignore_errors=True)
    folder.mkdir(parents=True)


def _files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _seal(folder: Path, digests: Mapping[str, str]) -> None:
    """Write the manifest, and flush everything to disk."""
    write_json(folder / MANIFEST, {"sha256": digests})
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def _put_in_place(temporary: Path, final: Path, keep: int) -> None:
    """Give a checkpoint its name, and forget old ones."""
    _remove(final)  # it is damaged, else the run would have gone on after it
    temporary.rename(final)
    sync(final.parent)
    for old in checkpoints(final.parent)[:-keep]:
        _remove(old)


def _remove(path: Path) -> None:
    """Remove a checkpoint; what is half removed no longer goes by the name of one."""
    if path.exists():
        doomed = path.with_name(f".removing_{path.name}")
        path.rename(doomed)
        shutil.rmtree(doomed)


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
    """What is wrong with a checkpoint, or `None`.

    The manifest has no digest of its own: it must be what would be written for the digests that it
    gives, byte for byte, so that a change in it either shows at once or names a wrong digest.
    """
    try:
        text = (path / MANIFEST).read_bytes().decode("utf-8")
        digests = dict(json.loads(text)["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{MANIFEST} is missing or unreadable"
    if text != json_text({"sha256": digests}):
        return f"{MANIFEST} is damaged"
    for name, digest in digests.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        try:
            found = _digest(file)
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        if found != digest:
            return f"{name} does not match its checksum"
    return None


def load_checkpoint(
    path: Path, *, policy: Policy, optimizer: torch.optim.Optimizer, world: World = ALONE
) -> Any:
    """Put weights, optimizer state and random states back in place; every process calls.

    It does not matter how many processes wrote them, nor whether those held them sharded. Random
    states are per process where there are as many as there were; else all take the first one's.

    Returns:
        The `state` that was given to `save_checkpoint`, with the key `step` added.

    Raises:
        CheckpointError: the checkpoint belongs to another model.
    """
    _load_weights(path, policy)
    saved = json.loads((path / "state.json").read_text(encoding="utf-8"))
    load_optimizer(optimizer, path, "optimizer", saved["optimizer"])
    states = saved["rng"]
    _restore_random_states(states[world.rank if len(states) == world.size else 0])
    return {**saved["trainer"], "step": saved["step"]}


def _load_weights(path: Path, policy: Policy) -> None:
    paths = [path / "model.safetensors", *sorted(path.glob("model-*.safetensors"))]
    files = dict(open_files([file for file in paths if file.exists()]))
    if has_lora(policy.model):
        _load_lora(path, policy, files)
        return
    if is_sharded(policy.model):
        unexpected = set(files) - set(policy.model.state_dict())
        missing = set() if unexpected else set(load_rows(policy.model, files))
    else:
        weights = {name: file.get_tensor(name) for name, file in files.items()}
        found = policy.model.load_state_dict(weights, strict=False)
        missing, unexpected = set(found.missing_keys), set(found.unexpected_keys)
        policy.model.tie_weights()
    wrong = sorted(unexpected | {name for name in missing if not name.endswith("lm_head.weight")})
    if wrong:
        raise CheckpointError(f"{path} belongs to another model: {wrong[0]!r} does not match")


def _load_lora(path: Path, policy: Policy, files: Mapping[str, Any]) -> None:
    """Load the matrices alone; the merged weights tell whether those beneath are as they were."""
    if not (path / ADAPTER).is_dir():
        raise CheckpointError(f"{path} has no LoRA matrices: it belongs to a run without lora")
    load_adapter(policy.model, path / ADAPTER)
    equal = {
        name
        for names, value in plain_weights(policy.model)
        for name in names
        if name in files and torch.equal(value.cpu(), files[name].get_tensor(name))
    }
    for name in sorted(files.keys() - equal):
        raise CheckpointError(
            f"{path} belongs to another model: {name!r} differs, so that the policy that the "
            "run began with is not the one that is loaded now"
        )


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
