"""`write_report`: evaluations and training runs as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rlvr.evals.report.load import load_groups
from rlvr.evals.report.page import render
from rlvr.files import prepare_folder, write_text


def write_report(directories: Sequence[str | Path], output: str | Path) -> Path:
    """Write the page, whole or not at all.

    Args:
        directories: folders of evaluations and training runs, in any mix.
        output: the HTML file.

    Returns:
        `output` as a path.

    Raises:
        DataError: a folder is neither an evaluation nor a training run, or is damaged.
        UserError: the page cannot be written.
    """
    groups = load_groups(directories)
    path = Path(output)
    prepare_folder(path.parent, "the report")
    write_text(path, render(groups))
    return path


__all__ = ["write_report"]
