"""`rlvr train`: from a configuration file to a finished run folder.

Everything that a user can get wrong is looked at (`prepare`) before anything is written.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
import yaml

from rlvr.compute import fix_order
from rlvr.config import load_mapping
from rlvr.distributed import World, join
from rlvr.errors import UserError
from rlvr.files import prepare_folder, write_text
from rlvr.progress import show_progress
from rlvr.tracking_tools import check_trackers
from rlvr.trainers.config import (
    DPOConfig,
    PolicyGradientConfig,
    RewardConfig,
    RunConfig,
    SupervisedConfig,
    output_folder,
    parse_config,
)

Job = Callable[[Path, bool], None]
"""`job(folder, resume)` does the run, everything that it needs having been loaded."""

PREPARE: dict[type[RunConfig], str] = {
    PolicyGradientConfig: "rlvr.trainers.policy_gradient_run:prepare_policy_gradient",
    SupervisedConfig: "rlvr.trainers.sft_run:prepare_sft",
    RewardConfig: "rlvr.trainers.reward:prepare_reward",
    DPOConfig: "rlvr.trainers.dpo:prepare_dpo",
}
"""Who makes the job of a configuration, as `module:function`: a run imports what it needs."""
MAY_CHANGE = {"steps", "checkpoint", "output", "distributed", "tracking"}
"""Keys that may differ when a run is resumed; any other change makes it another run."""


def run_training(
    config_path: str | Path, overrides: Sequence[str] = (), *, resume: bool = False
) -> Path:
    """Run the training that a YAML file describes; under `torchrun`, with the other processes.

    Args:
        config_path: the YAML file.
        overrides: `"dotted.key=value"` strings, applied last.
        resume: go on from the newest whole checkpoint of the output folder, if there is one.

    Returns:
        The run's folder.

    Raises:
        UserError: the configuration, the data or the folder is wrong; nothing was written.
        DistributedError: the processes lost each other.
        CheckpointError: a checkpoint cannot be written.
    """
    config = parse_config(load_mapping(config_path, overrides), str(config_path))
    folder = output_folder(config)
    settings = config.distributed
    with join(mode=settings.mode, timeout=settings.timeout, device=config.device) as world:
        show_progress(world.is_main)
        world.check_equal("the configuration", config.model_dump(mode="json"))
        world.on_main(lambda: check_folder(folder, config, resume=resume))
        make_repeatable(config)
        job = prepare(config, world)
        world.on_main(lambda: str(prepare_folder(folder, "the run")))
        with sole_owner(folder) if world.is_main else nullcontext(), full_disk_told(folder):
            world.on_main(lambda: write_config(folder, config, resume=resume))
            job(folder, resume)
            world.barrier()
    return folder


def write_config(folder: Path, config: RunConfig, *, resume: bool) -> None:
    """Keep what the run was asked to do, in a folder that nobody else has taken meanwhile."""
    check_folder(folder, config, resume=resume)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_text(folder / "config.yaml", text)


def prepare(config: RunConfig, world: World) -> Job:
    """Load everything that a run needs; nothing is written.

    Raises:
        UserError: something that the configuration names cannot be loaded.
    """
    check_trackers(config.tracking)
    module, _, function = PREPARE[type(config)].partition(":")
    make: Callable[[RunConfig, World], Job] = getattr(importlib.import_module(module), function)
    return make(config, world)


def check_folder(folder: Path, config: RunConfig, *, resume: bool) -> None:
    """Refuse a folder that holds a run, unless it is this run and is to be resumed.

    Raises:
        UserError: the folder holds a run and `resume` is false, or it holds another run.
    """
    saved = folder / "config.yaml"
    if not saved.exists():
        return
    if not resume:
        raise UserError(
            f"{folder} holds a run already: go on with it (--resume) "
            "or choose another folder (--set output=...)"
        )
    before = yaml.safe_load(saved.read_text(encoding="utf-8"))
    now = config.model_dump(mode="json")
    for key in now:
        if key not in MAY_CHANGE and before.get(key) != now[key]:
            raise UserError(
                f"{folder} holds a run with another {key!r}: {before.get(key)!r} there, "
                f"{now[key]!r} here; resume with the same configuration or choose another folder"
            )


def make_repeatable(config: RunConfig) -> None:
    """Seed what is global, fix the number of threads, and ask torch for deterministic kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(config.seed)
    np.random.seed(config.seed % 2**32)
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    fix_order(config.deterministic)


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Turn the system's word that there is no room into one line that says what to do.

    Raises:
        UserError: something could not be written for want of room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise UserError(
            f"cannot go on writing to {folder}: {error.strerror}: make room, then --resume"
        ) from error


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, so that two runs never write into it together.

    Raises:
        UserError: another process holds it.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"another process is running in {folder}") from error
        yield
