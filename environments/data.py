"""Tasks from data: a local file, a folder, or a Hub data set, checked row by row.

    data=None            the published file in the folder that RLVR_DATA names, else the Hub
    data="rows.jsonl"    a JSONL, CSV (both also .gz) or Parquet file; the split is not looked at
    data="folder"        the published file name in it, else the one file named {split}.*
    data="owner/name"    a Hub data set; "owner/name:config" picks a configuration

A malformed row is a `DataError` that names file and line. Files of up to 64 MiB become a list of
tasks, so that every row is checked before any work starts; larger ones are streamed, and a bad row
is found when it is reached. Local files need no network and leave nothing in any cache.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr.environments.readers import (
    PlacedRow,
    Row,
    file_format,
    read_file,
    read_hub,
)
from rlvr.errors import ConfigError, DataError
from rlvr.types import Task

log = logging.getLogger(__name__)

LARGE_BYTES = 64 * 2**20
"""Files above this are streamed."""

_HUB_NAME = re.compile(r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(?::(?P<config>[\w.-]+))?")
_TYPE_NAMES = {str: "text", int: "a whole number", list: "a list", dict: "an object"}


class RowLeftOut(Exception):
    """A row that no task can be made of though it is no mistake; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """How a data set is published.

    Attributes:
        file: its file name; `{split}` stands for the split.
        hub: its name on the Hub, where it has one.
        config: the configuration to take there.
    """

    file: str
    hub: str | None = None
    config: str | None = None


@dataclass(frozen=True)
class Rows:
    """Rows with the places they came from. Iterating starts again from the first row.

    Attributes:
        source: what they come from, for messages.
        read: starts reading.
        large: whether to stream rather than to hold everything.
    """

    source: str
    read: Callable[[], Iterator[PlacedRow]]
    large: bool

    def __iter__(self) -> Iterator[PlacedRow]:
        return self.read()

    def tasks(self, make: Callable[[int, Row], Task | None]) -> Iterable[Task]:
        """Turn every row into a task.

        Args:
            make: `make(index, row)`, with the index counted from 0; `None` leaves a row of
                another split out. A `DataError` that it raises is given the row's place; rows
                that it refuses with `RowLeftOut` are counted in a logged warning.

        Returns:
            A list, or, where the rows are streamed, an iterable that can be restarted.

        Raises:
            DataError: a row is malformed, there are no rows, or two tasks have the same id.
        """
        streamed = _StreamedTasks(self, make)
        return streamed if self.large else _unique(streamed, self.source)


@dataclass(frozen=True)
class _StreamedTasks:
    """Tasks made while iterating."""

    rows: Rows
    make: Callable[[int, Row], Task | None]

    def __iter__(self) -> Iterator[Task]:
        made = 0
        left_out: list[str] = []
        for index, (where, row) in enumerate(self.rows):
            try:
                task = self.make(index, row)
            except DataError as error:
                raise DataError(f"{where}: {error}") from error
            except RowLeftOut as reason:
                left_out.append(f"{where}: {reason}")
                continue
            if task is not None:
                made += 1
                yield task
        if left_out:
            log.warning("%d row(s) left out, the first at %s", len(left_out), left_out[0])
        if not made:
            raise DataError(f"{self.rows.source} holds no rows for this environment and split")


def _unique(tasks: Iterable[Task], source: str) -> list[Task]:
    by_id: dict[str, Task] = {}
    for task in tasks:
        if task.id in by_id:
            raise DataError(f"{source}: two rows have the id {task.id!r}")
        by_id[task.id] = task
    return list(by_id.values())


def load_rows(
    data: str | os.PathLike[str] | None,
    split: str,
    published: Published,
    columns: Mapping[str, type],
    *,
    streaming: bool | None = None,
) -> Rows:
    """Find the data and read it, checking the columns that every row must have.

    Args:
        data: see the top of this module.
        split: which part of the data set.
        published: where it is when `data` does not say.
        columns: needed columns and their types (`str`, `int`, `list` or `dict`). CSV cells are
            converted: whole numbers as such, lists and objects from JSON.
        streaming: hold nothing; `None` streams local files above 64 MiB.

    Raises:
        DataError: there is no such file, folder or Hub data set.
    """
    path, hub = _locate(data, split, published)
    if path is not None:
        large = path.stat().st_size > LARGE_BYTES if streaming is None else streaming
        from_csv = file_format(path) == ".csv"
        return Rows(str(path), lambda: _checked(read_file(path), columns, from_csv), large)
    assert hub is not None
    name, config = hub
    stream = bool(streaming)
    return Rows(
        f"{name} ({split})",
        lambda: _checked(read_hub(name, config, split, streaming=stream), columns, False),
        stream,
    )


def _locate(
    data: str | os.PathLike[str] | None, split: str, published: Published
) -> tuple[Path | None, tuple[str, str | None] | None]:
    """A path or a Hub name with its configuration."""
    file_name = published.file.replace("{split}", split)
    if data is None:
        return _locate_published(file_name, published)
    text = os.fspath(data)
    if not text:
        raise ConfigError("data is empty: expected a file, a folder or a Hub name (owner/name)")
    path = Path(text).expanduser()
    if os.path.isdir(path):
        return _in_folder(path, file_name, split), None
    if os.path.exists(path):  # pathlib's raises on names that no file can have
        return path, None
    match = _HUB_NAME.fullmatch(text)
    if match is None or file_format(path) is not None:
        raise DataError(f"no file or folder {text!r:.200}, and it is no Hub name (owner/name)")
    default = published.config if match["name"] == published.hub else None
    return None, (match["name"], match["config"] or default)


def _locate_published(
    file_name: str, published: Published
) -> tuple[Path | None, tuple[str, str | None] | None]:
    folder = os.environ.get("RLVR_DATA")
    if folder and (Path(folder).expanduser() / file_name).is_file():
        return Path(folder).expanduser() / file_name, None
    if published.hub is None:
        raise DataError(
            f"no {file_name} in the folder that RLVR_DATA names ({folder or 'not set'}): "
            "give data=FILE"
        )
    return None, (published.hub, published.config)


def _in_folder(folder: Path, file_name: str, split: str) -> Path:
    if (folder / file_name).is_file():
        return folder / file_name
    found = [
        path
        for path in sorted(folder.iterdir())
        if path.name.split(".")[0] == split and file_format(path) is not None
    ]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(
            f"{folder} has no {file_name}, and not exactly one file {split}.* of a known format "
            f"(found: {names})"
        )
    return found[0]


def _checked(
    rows: Iterator[PlacedRow], columns: Mapping[str, type], from_csv: bool
) -> Iterator[PlacedRow]:
    for where, row in rows:
        for column, kind in columns.items():
            try:
                if from_csv and column in row:
                    row[column] = _from_cell(row[column], kind)
                check_column(row, column, kind)
            except DataError as error:
                raise DataError(f"{where}: {error}") from error
        yield where, row


def check_column(row: Mapping[str, Any], column: str, kind: type) -> None:
    """Raise a `DataError` unless `row[column]` is there and of type `kind`."""
    value = row.get(column)
    if column not in row:
        raise DataError(f"no column {column!r}; the columns are {', '.join(row) or 'none'}")
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return
    shown = "nothing" if value is None else f"{value!r:.40} ({type(value).__name__})"
    raise DataError(f"column {column!r} holds {shown}: expected {_TYPE_NAMES[kind]}")


def _from_cell(cell: str, kind: type) -> Any:
    """Read a CSV cell as `kind`; what does not fit is left for `check_column` to refuse."""
    if kind is str:
        return cell
    try:
        return int(cell) if kind is int else json.loads(cell)
    except ValueError:
        return cell
