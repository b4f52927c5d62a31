"""`rlvr eval`: sample, grade, measure, report. Called again on the same folder it resumes."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlvr.evals.summary import Summary
    from rlvr.protocols import Environment, Sampler


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "eval",
        help="evaluate a model, or grade saved completions",
        description="Sample completions of every task, grade them, and write rollouts.parquet, "
        "summary.json and report.html. Called again on the same folder it resumes.",
    )
    parser.add_argument(
        "environment", metavar="ENVIRONMENT", help="a registered name, or file.py:name"
    )
    _add_source(parser.add_argument_group("what is evaluated (one of the three)"))
    _add_size(parser.add_argument_group("how much"))
    _add_sampling(parser.add_argument_group("sampling"))
    _add_data(parser.add_argument_group("tasks"))
    grading = parser.add_argument_group("grading")
    grading.add_argument("--workers", type=int, default=8, metavar="N", help="verifier processes")
    grading.add_argument(
        "--timeout", type=float, default=10.0, metavar="S", help="seconds that a verdict may take"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print the numbers, write the report."""
    import rlvr
    from rlvr.errors import UserError

    _check_source(arguments)
    if arguments.timeout <= 0 or arguments.workers < 1:
        raise UserError(
            f"--workers {arguments.workers} --timeout {arguments.timeout:g}: expected at least "
            "one worker and more than 0 seconds"
        )
    options = environment_options(arguments)
    environment = rlvr.load_environment(arguments.environment, **options)
    config = {"environment_options": {key: _plain(value) for key, value in options.items()}}
    if arguments.completions is not None:
        summary = _grade(arguments, environment, config)
    else:
        summary = _sample(arguments, environment, config)
    return _finish(summary, Path(arguments.output))


def _sample(
    arguments: argparse.Namespace, environment: Environment, config: dict[str, Any]
) -> Summary:
    from rlvr.errors import ConfigError
    from rlvr.evals.runner import check_k, choose_tasks, evaluate
    from rlvr.types import SamplingParams

    n = 1 if arguments.n is None else arguments.n
    if arguments.temperature < 0 or not 0 < arguments.top_p <= 1 or arguments.max_new_tokens < 1:
        raise ConfigError(
            f"--temperature {arguments.temperature:g} --top-p {arguments.top_p:g} "
            f"--max-new-tokens {arguments.max_new_tokens}: expected 0 or more, more than 0 and at "
            "most 1, and at least 1"
        )
    check_k(arguments.k, n, f"n is {n} (--n)")
    choose_tasks(environment, arguments.limit)  # refuses before a model is loaded
    with _open_sampler(arguments) as sampler:
        return evaluate(
            environment,
            sampler,
            n=n,
            ks=arguments.k,
            output=arguments.output,
            params=SamplingParams(
                max_new_tokens=arguments.max_new_tokens,
                temperature=arguments.temperature,
                top_p=arguments.top_p,
                stop=tuple(arguments.stop),
            ),
            limit=arguments.limit,
            workers=arguments.workers,
            timeout=arguments.timeout,
            seed=arguments.seed,
            config=config | _describe_model(arguments),
        )


def _grade(
    arguments: argparse.Namespace, environment: Environment, config: dict[str, Any]
) -> Summary:
    from rlvr.evals.completions import read_completions
    from rlvr.evals.identity import file_digest
    from rlvr.evals.runner import grade

    completions = read_completions(arguments.completions)
    source = {
        "completions": arguments.completions,
        "completions_sha256": file_digest(Path(arguments.completions)),
        "partial": arguments.partial,
    }
    return grade(
        environment,
        completions,
        ks=arguments.k,
        output=arguments.output,
        n=arguments.n,
        limit=arguments.limit,
        partial=arguments.partial,
        workers=arguments.workers,
        timeout=arguments.timeout,
        config=config | source,
    )


def _finish(summary: Summary, output: Path) -> int:
    from rlvr.evals.report import write_report
    from rlvr.evals.text import format_summary

    print(format_summary(summary))
    print(f"report: {write_report([output], output / 'report.html')}")
    return 0 if summary.samples > summary.verifier_errors else 1


def environment_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the environment: `--data`, `--split` and every `--set`."""
    from rlvr.config import apply_override

    options: dict[str, Any] = {}
    for override in arguments.set:
        options = apply_override(options, override)
    for name in ("data", "split"):
        if getattr(arguments, name) is not None:
            options[name] = getattr(arguments, name)
    return options


def parse_ks(text: str) -> list[int]:
    """`"1,4,8"` as numbers, for argparse."""
    try:
        ks = [int(part) for part in text.split(",")]
    except ValueError:
        ks = []
    if not ks or min(ks) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of whole numbers from 1, such as 1,4,8"
        )
    return ks


def _check_source(arguments: argparse.Namespace) -> None:
    from rlvr.errors import ConfigError

    sources = (arguments.model, arguments.base_url, arguments.completions)
    if arguments.completions is not None and sources != (None, None, arguments.completions):
        raise ConfigError("--completions grades what was saved: it takes no --model, no --base-url")
    if arguments.completions is None and arguments.model is None:
        needed = "--base-url needs the --model that the server has" if arguments.base_url else None
        raise ConfigError(
            needed
            or "nothing to evaluate: give --model PATH, --base-url URL --model NAME, or "
            "--completions FILE"
        )
    if arguments.partial and arguments.completions is None:
        raise ConfigError("--partial goes with --completions")


@contextlib.contextmanager
def _open_sampler(arguments: argparse.Namespace) -> Iterator[Sampler]:
    import rlvr

    if arguments.base_url is not None:
        sampler = rlvr.load_sampler("openai", base_url=arguments.base_url, model=arguments.model)
    else:
        sampler = rlvr.load_sampler(arguments.sampler, model=arguments.model)
    try:
        yield sampler
    finally:
        sampler.close()


def _describe_model(arguments: argparse.Namespace) -> dict[str, Any]:
    from rlvr.evals.identity import model_digest

    described = {"model": arguments.model}
    if arguments.base_url is not None:
        return described | {"base_url": arguments.base_url}
    folder = Path(arguments.model).expanduser()
    return described | ({"model_sha256": model_digest(folder)} if folder.is_dir() else {})


def _plain(value: Any) -> Any:
    """As JSON can hold it: YAML also knows dates and the like."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _add_source(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model", metavar="PATH", help="a folder or a Hub name; with --base-url, the served name"
    )
    group.add_argument(
        "--base-url",
        metavar="URL",
        help="an OpenAI-compatible server, such as http://localhost:8000/v1",
    )
    group.add_argument(
        "--completions",
        metavar="FILE",
        help='saved completions: JSONL rows {"id" or "task_id", "completion"}, several rows of a '
        "task being several samples",
    )
    group.add_argument(
        "--partial",
        action="store_true",
        help="with --completions: leave out tasks that have none, with a note, instead of refusing",
    )


def _add_size(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--n",
        type=int,
        metavar="N",
        help="completions a task (default: 1; with --completions: all that there are)",
    )
    group.add_argument(
        "--k",
        type=parse_ks,
        default="1",
        metavar="K,...",
        help="for pass@k, pass^k and maj@k; none above --n",
    )
    group.add_argument("--limit", type=int, metavar="N", help="the first so many tasks only")
    group.add_argument(
        "--output", required=True, metavar="DIR", help="where the results go, and are resumed from"
    )


def _add_sampling(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--sampler", choices=["hf", "vllm"], default="hf", help="the engine for --model PATH"
    )
    group.add_argument("--temperature", type=float, default=1.0, metavar="T", help="0 is greedy")
    group.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="nucleus mass, above 0 to 1"
    )
    group.add_argument(
        "--max-new-tokens", type=int, default=256, metavar="N", help="tokens a completion"
    )
    group.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="ends a completion and is cut from it; may be given several times",
    )
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="what every completion's seed comes from"
    )


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--data", metavar="PATH", help="the environment's data: a file or Hub name")
    group.add_argument("--split", metavar="S", help="the environment's split, such as test")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the environment; may be given several times",
    )
