"""`rlvr report`: one self-contained HTML page on evaluations and training runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="write an HTML page on evaluations and training runs",
        description="Write one self-contained HTML page with plots and rollouts on the folders of "
        "evaluations (rlvr eval) and training runs (rlvr train), in any mix.",
    )
    parser.add_argument(
        "directories", metavar="DIR", nargs="+", help="folder of an evaluation or a training run"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="the page; where not given, report.html in the first folder",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    from rlvr.evals.report import write_report

    output = arguments.output or Path(arguments.directories[0]) / "report.html"
    print(f"report: {write_report(arguments.directories, output)}")
    return 0
