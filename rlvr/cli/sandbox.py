"""`rlvr sandbox serve`: the sandbox for other machines, over HTTP."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlvr.sandbox.limits import Limits


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "sandbox",
        help="offer the sandbox to other machines",
        description="Commands about the sandbox.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    add_serve(actions)


def add_serve(actions: Any) -> None:
    """Add `serve`."""
    from rlvr.cli.main import HelpFormatter

    parser: argparse.ArgumentParser = actions.add_parser(
        "serve",
        formatter_class=HelpFormatter,
        help="run programs that come over HTTP",
        description="Run programs that come over HTTP, for trainers on other machines. They "
        "reach it as the sandbox `remote` (RLVR_SANDBOX_URL and RLVR_SANDBOX_TOKEN say where and "
        "how), or in the form of SandboxFusion's /run_code and /submit; GET /openapi.json "
        "describes everything, GET /health/ready says whether it takes work, GET /metrics is for "
        "Prometheus. It speaks plain HTTP: put a reverse proxy with TLS in front where the "
        "network is not yours.",
        epilog="The first SIGTERM or ctrl-C lets running programs end and takes no more; the "
        "second ends everything at once.",
    )
    add = parser.add_argument
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen on; others than loopback need a token",
    )
    add(
        "--port",
        type=int,
        default=8080,
        help="port to listen on; 0 takes a free one, and says which",
    )
    add("--sandbox", default="local", metavar="NAME", help="what runs programs (see `rlvr list`)")
    add(
        "--set",
        dest="options",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of that sandbox, the value in YAML; may be given several times",
    )
    add(
        "--require",
        metavar="TIER",
        help="refuse to start below this tier of isolation: full, isolated, contained or basic",
    )
    add("--slots", type=int, metavar="N", help="programs at once; as many as processors by default")
    add(
        "--queue",
        type=int,
        default=1024,
        metavar="N",
        help="requests that may wait; one more gets 429",
    )
    add(
        "--ceiling",
        action="append",
        default=[],
        metavar="LIMIT=N",
        help="the most that a request may ask for: wall_seconds, cpu_seconds, memory_bytes, "
        "processes, open_files, file_bytes or output_bytes; may be given several times",
    )
    add(
        "--token-file",
        metavar="FILE",
        help="holds the token that clients must show; without it RLVR_SANDBOX_TOKEN does",
    )
    add(
        "--grace",
        type=int,
        default=30,
        metavar="S",
        help="seconds that running programs have to end when it stops",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal comes.

    Returns:
        0 after a gentle stop.
    """
    from rlvr import registry
    from rlvr.cli.verify import read_options
    from rlvr.errors import ConfigError, MissingExtraError
    from rlvr.sandbox.service.asking import read_token
    from rlvr.verifiers.code_sandboxes import answers_sandbox

    try:
        from rlvr.sandbox.service.app import make_service
        from rlvr.sandbox.service.core import Settings
        from rlvr.sandbox.service.server import bind, serve
        from rlvr.verifiers.code_places import make_suites
        from rlvr.verifiers.sandbox_fusion import make_judge
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("rlvr"):
            raise
        raise MissingExtraError(error.name, "serve", "`rlvr sandbox serve`") from error
    if arguments.queue < 0 or arguments.grace < 0:
        raise ConfigError("--queue and --grace must be 0 or more")
    if arguments.sandbox == "remote":
        raise ConfigError("--sandbox is remote: serve a sandbox of this machine")
    token = read_token(None, arguments.token_file)
    options = read_options(arguments.options)
    if arguments.slots is not None:
        options["slots"] = arguments.slots
    if arguments.require is not None:
        options["require"] = arguments.require
    registry.check_options(
        registry.sandboxes.get(arguments.sandbox), options, f"sandbox {arguments.sandbox!r}"
    )
    sandbox = answers_sandbox(arguments.sandbox, options)  # the one that the judge uses
    settings = Settings(
        slots=sandbox.size,
        queue=arguments.queue,
        token=token,
        ceiling=read_ceiling(arguments.ceiling),
    )
    with bind(arguments.host, arguments.port, token) as listener, sandbox:
        judge = make_judge(arguments.sandbox, options)
        suites = make_suites(arguments.sandbox, options)
        service = make_service(sandbox, settings, judge, suites)
        announce(arguments.host, listener.getsockname()[1], service)
        serve(service, listener, arguments.grace)
    return 0


def read_ceiling(assignments: Sequence[str]) -> Limits:
    """The most that a request may ask for.

    Raises:
        ConfigError: one is no limit, or no number.
    """
    import dataclasses

    from rlvr.cli.verify import read_options
    from rlvr.errors import ConfigError, nearest
    from rlvr.sandbox.service.core import CEILING

    given = read_options(assignments)
    known = {field.name: getattr(CEILING, field.name) for field in dataclasses.fields(CEILING)}
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"--ceiling: there is no limit {name!r}{nearest(name, known)}")
        if isinstance(value, bool) or not isinstance(value, type(known[name]) | int):
            raise ConfigError(f"--ceiling: {name} is {value!r}: expected a number")
    return dataclasses.replace(CEILING, **given)


def announce(host: str, port: int, service: Any) -> None:
    """Say what is served, where, and how programs are held."""
    import sys

    shown = f"[{host}]" if ":" in host else host
    admission = service.admission
    lines = [
        f"{service.sandbox.name}, {admission.slots} programs at once, "
        f"{admission.queue:,} requests may wait",
        f"isolation: {', '.join(service.isolation)}",
        f"listening on http://{shown}:{port}, "
        + ("with a token" if service.settings.token else "without a token: this machine only"),
    ]
    for line in lines:
        print(f"rlvr sandbox: {line}", file=sys.stderr, flush=True)
