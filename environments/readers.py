"""Reading rows of JSONL, CSV, Parquet and Hub data sets, each row with the place it came from.

JSONL and CSV are read here, line by line, because an error has to name the line and no cache of an
earlier version of the file may answer; Parquet and the Hub go through `datasets`, streamed. Nothing
here decides what a row means: that is `rlvr.environments.data`.
"""

from __future__ import annotations

import csv
import glob
import gzip
import io
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from rlvr.errors import DataError

Row = dict[str, Any]
PlacedRow = tuple[str, Row]
"""Where a row stands (`"data.jsonl, line 7"`), and the row."""

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")
"""File formats; all but Parquet may be followed by `.gz`."""


def file_format(path: Path) -> str | None:
    """Which of `SUFFIXES` a file name says it has, or `None`."""
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    zipped_parquet = suffix == ".parquet" and path.name.lower().endswith(".gz")
    return suffix if suffix in SUFFIXES and not zipped_parquet else None


def read_file(path: Path) -> Iterator[PlacedRow]:
    """The rows of a local file, in order, read as they are asked for.

    Raises:
        DataError: the file cannot be read or a row is malformed; the message names the line (the
            row, counted from 1, in Parquet).
    """
    reader = _READERS.get(file_format(path) or "")
    if reader is None:
        raise DataError(
            f"cannot tell the format of {path}: expected a name that ends in "
            f"{', '.join(SUFFIXES)} (.gz after it is fine, except for Parquet)"
        )
    try:
        yield from reader(path)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"cannot read {path}: {reason}") from error


def _read_jsonl(path: Path) -> Iterator[PlacedRow]:
    with _open(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{path}, line {number}"
                yield where, _parse_object(line, where)


def _parse_object(line: bytes, where: str) -> Row:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text (byte {error.start + 1})") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON: {error.msg} at character {error.colno}") from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"{where}: JSON that cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: holds a JSON {type(value).__name__}: expected one object a line "
            '({"column": value, ...})'
        )
    return value


def _read_csv(path: Path) -> Iterator[PlacedRow]:
    with _open(path) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        cells = csv.reader(text, strict=True)
        header = _next_record(cells, path)
        if header is None:
            return
        if len(set(header)) < len(header):
            raise DataError(f"{path}, line 1: two columns have the same name ({header})")
        while True:
            where = f"{path}, line {cells.line_num + 1}"
            record = _next_record(cells, path)
            if record is None:
                return
            if not record:
                continue
            if len(record) != len(header):
                raise DataError(
                    f"{where}: has {len(record)} cells where the header has {len(header)}"
                )
            yield where, dict(zip(header, record, strict=True))


def _next_record(cells: Any, path: Path) -> list[str] | None:
    where = f"{path}, line {cells.line_num + 1}"
    try:
        record: list[str] | None = next(cells, None)
    except csv.Error as error:
        raise DataError(f"{where}: not CSV: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text: {error.reason}") from error
    return record


def _read_parquet(path: Path) -> Iterator[PlacedRow]:
    import pyarrow
    from datasets import load_dataset

    # Streaming keeps no copy of the data; the builder's lock file goes where it is forgotten.
    with tempfile.TemporaryDirectory() as scratch, path.open("rb"):
        try:
            rows = load_dataset(
                "parquet",
                data_files=glob.escape(str(path.resolve())),
                split="train",
                streaming=True,
                cache_dir=scratch,
            )
            for number, row in enumerate(rows, start=1):
                yield f"{path}, row {number}", dict(row)
        except (pyarrow.ArrowException, ValueError) as error:
            raise DataError(f"cannot read {path} as Parquet: {first_line(error)}") from error


def _open(path: Path) -> IO[bytes]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


_READERS: dict[str, Callable[[Path], Iterator[PlacedRow]]] = {
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


def read_hub(name: str, config: str | None, split: str, *, streaming: bool) -> Iterator[PlacedRow]:
    """The rows of a Hub data set, downloaded into the Hub cache, or streamed.

    Raises:
        DataError: the Hub cannot be reached, or has no such data set, configuration or split.
    """
    from datasets import load_dataset

    _ask_hub(name)
    try:
        rows = load_dataset(name, config, split=split, streaming=streaming)
    except Exception as error:
        raise DataError(f"cannot load {name!r} from the Hub: {first_line(error)}") from error
    for number, row in enumerate(rows, start=1):
        yield f"{name} ({split}), row {number}", dict(row)


def _ask_hub(name: str) -> None:
    """Ask the Hub for `name` once: `load_dataset` would try an unreachable one for half a minute.

    With `HF_HUB_OFFLINE` set, nothing is asked and the cache answers.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.is_offline_mode() or os.environ.get("HF_DATASETS_OFFLINE") == "1":
        return
    try:
        HfApi().dataset_info(name, timeout=10)
    except HfHubHTTPError as error:
        raise DataError(f"the Hub has no data set {name!r} for you: {first_line(error)}") from error
    except Exception as error:
        raise DataError(
            f"{name!r} is no file or folder here, and the Hub cannot be reached "
            f"({first_line(error)}): give data=FILE, put the file in the folder that RLVR_DATA "
            "names, or set HF_HUB_OFFLINE=1 to use the Hub cache"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
