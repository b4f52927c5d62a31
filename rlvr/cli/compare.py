"""`rlvr compare`: two evaluations of the same tasks, paired."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="compare two evaluations of the same tasks",
        description="Compare two evaluations task by task: the paired difference B - A of every "
        "metric with its 95%% interval and a bootstrap, and McNemar's exact test on the tasks "
        "solved.",
    )
    parser.add_argument("a", metavar="DIR_A", help="folder of an evaluation, such as before")
    parser.add_argument("b", metavar="DIR_B", help="folder of an evaluation, such as after")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare and print."""
    from rlvr.evals.compare import compare, format_comparison

    print(format_comparison(compare(arguments.a, arguments.b)))
    return 0
