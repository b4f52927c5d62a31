"""Batches that were made and not yet trained on, as files of a checkpoint.

They cannot be made again on resume: the weights that sampled them are gone by then. Each batch is a
table of groups with an outline beside it (which of them train).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlvr.files import write_json
from rlvr.rollout_table import read_groups, write_groups
from rlvr.rollouts import Collected
from rlvr.types import RolloutGroup

FOLDER = "in_flight"


def save_batches(folder: Path, batches: Mapping[int, Collected]) -> None:
    """Write batches, by the step that they are for, into the folder of a checkpoint."""
    if not batches:
        return
    (folder / FOLDER).mkdir()
    for step, batch in batches.items():
        groups = list({id(group): group for group in [*batch.sampled, *batch.groups]}.values())
        write_groups(folder / FOLDER / f"step_{step:06d}.parquet", groups)
        write_json(folder / FOLDER / f"step_{step:06d}.json", _outline(batch, groups))


def load_batches(folder: Path) -> dict[int, Collected]:
    """Read what `save_batches` wrote."""
    batches = {}
    for path in sorted((folder / FOLDER).glob("step_*.json")):
        outline = json.loads(path.read_text(encoding="utf-8"))
        step = int(path.stem.removeprefix("step_"))
        batches[step] = _fill(outline, read_groups(path.with_suffix(".parquet")))
    return batches


def _outline(batch: Collected, groups: list[RolloutGroup]) -> dict[str, Any]:
    """The batch with numbers in place of its groups; every other field as it is."""
    numbers = {id(group): number for number, group in enumerate(groups)}
    fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return fields | {
        "sampled": [numbers[id(group)] for group in batch.sampled],
        "groups": [numbers[id(group)] for group in batch.groups],
    }


def _fill(outline: dict[str, Any], groups: list[RolloutGroup]) -> Collected:
    lists = {name: [groups[i] for i in outline[name]] for name in ("sampled", "groups")}
    return Collected(**(outline | lists))
