"""`rlvr train`: run the training that a YAML file describes."""

from __future__ import annotations

import argparse
from typing import Any

from rlvr.errors import ConfigError


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="train a policy or a reward model",
        description="Run the training that a YAML file describes: algorithm grpo, dapo, dr_grpo, "
        "rloo, sft, reward or dpo. --keys ALGORITHM lists every key that the file may have.",
    )
    parser.add_argument("config", metavar="CONFIG.yaml", nargs="?", help="the configuration file")
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
    parser.add_argument(
        "--keys",
        metavar="ALGORITHM",
        help="list the keys of an algorithm's file with their defaults, and do nothing else",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train, or list the keys."""
    if arguments.keys:
        return show_keys(arguments.keys)
    if arguments.config is None:
        raise ConfigError("rlvr train needs a configuration file: rlvr train CONFIG.yaml")
    from rlvr.api import train

    train(arguments.config, arguments.overrides, resume=arguments.resume)
    return 0


def show_keys(algorithm: str) -> int:
    """Print each key with its type, default and meaning."""
    from rlvr.trainers.keys import keys_of

    for key in keys_of(algorithm):
        print(f"{key.name}: {key.type} = {key.default}")
        if key.meaning:
            print(f"    {key.meaning}")
    return 0
