"""`rlvr train`: run the training that a YAML file describes."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="train a policy or a reward model",
        description="Run the training that a YAML file describes: algorithm grpo, dapo, dr_grpo, "
        "rloo, sft, reward or dpo. docs/training.md lists every key.",
    )
    parser.add_argument("config", metavar="CONFIG.yaml", help="the configuration file")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set one key, dotted, such as optimizer.lr=1e-5; may be given several times",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest whole checkpoint of the output folder",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    from rlvr.api import train

    train(arguments.config, arguments.overrides, resume=arguments.resume)
    return 0
