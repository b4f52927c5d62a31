r"""The sandbox of another machine, `remote`: a client of `rlvr sandbox serve`.

    sandbox = RemoteSandbox(url="http://sandboxes:8080")    # the token from RLVR_SANDBOX_TOKEN
    sandbox.run("print(input())", b"hello").stdout           # b"hello\n"

Every request stands alone, so each can be sent again: what may pass (no connection, a connection
that breaks, 429, 5xx) is tried again with growing pauses until its time is up, and is then a
`SandboxError`. It is never a result.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import islice
from typing import Any, Self

from rlvr.errors import ConfigError, SandboxError
from rlvr.sandbox.calling import Call, Called
from rlvr.sandbox.guest import values
from rlvr.sandbox.languages import LANGUAGES, BuildFailed, Program, find_language
from rlvr.sandbox.limits import Limits, RunResult, RunStatus
from rlvr.sandbox.service.asking import Asking, read_token
from rlvr.sandbox.service.wire import from_json, pack, to_json, unpack
from rlvr.sandbox.session import CallFailed

URL_VARIABLE = "RLVR_SANDBOX_URL"
_BY_THE_CLOCK = 4.0  # as much longer than its wall limit a program may be, on a busy machine
_LARGEST_BATCH = 32
_BATCH_BYTES = 1 << 20


class RemoteSandbox:
    """Runs programs on a machine that runs `rlvr sandbox serve`.

    Safe from any thread, picklable, and as good after a fork. What holds a program is what the
    service says.

    Args:
        url: of the service, or of several with commas between: each request goes to one of them by
            chance, and to another after a failure. By default what `RLVR_SANDBOX_URL` says.
        token: what the service asks for; by default what `RLVR_SANDBOX_TOKEN` says.
        token_file: a file with the token, for configurations that are kept.
        patience: seconds that a request may take beyond what its programs may: the wait for a
            slot, the network, and all further attempts.

    Raises:
        ConfigError: an option is wrong.
    """

    name = "remote"

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        token_file: str | None = None,
        patience: float = 60.0,
    ) -> None:
        given = url or os.environ.get(URL_VARIABLE) or ""
        urls = tuple(one.strip().rstrip("/") for one in given.split(",") if one.strip())
        wrong = [one for one in urls if not one.startswith(("http://", "https://"))]
        if wrong or not urls:
            raise ConfigError(
                f"sandbox 'remote': url is {(wrong or [given])[0]!r}: expected http://... or "
                f"https://..., as an option or in {URL_VARIABLE}"
            )
        if not patience > 0:
            raise ConfigError(f"sandbox 'remote': patience is {patience}: expected more than 0")
        self._patience = patience
        self._asking = Asking(urls, read_token(token, token_file))

    def __reduce__(self) -> Any:
        asking = self._asking
        return (RemoteSandbox, (",".join(asking.urls), asking.token, None, self._patience))

    @property
    def isolation(self) -> tuple[str, ...]:
        """What holds a program there, by name.

        Raises:
            SandboxError: the service cannot be reached, or is not ready.
        """
        found = self._asking.ask("GET", "/health/ready", None, self._patience)
        with _reading("/health/ready"):
            return (*map(str, found["isolation"]), "remote")

    def build(
        self,
        source: str | bytes,
        language: str,
        limits: Limits | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> Program:
        """Compile a program there, so that it can run many times.

        Raises:
            BuildFailed: the source does not compile, or ran into a limit.
            UnknownNameError: there is no such language.
            SandboxError: the tool chain is not there, or the service failed until the time was up.
        """
        if find_language(language) == "python":
            text = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
            return Program("python", (), {"solution.py": text})
        body = {
            "source": _blob(source),
            "language": language,
            "files": {name: pack(data) for name, data in (files or {}).items()},
            "limits": None if limits is None else asdict(limits),
        }
        seconds = (limits or LANGUAGES[find_language(language)].build_limits).wall_seconds
        found = self._asking.ask(
            "POST", "/v1/build", body, self._patience + _BY_THE_CLOCK * seconds
        )
        with _reading("/v1/build"):
            if found.get("failure"):
                raise BuildFailed(_result(found["failure"]))
            program = found["program"]
            return Program(
                str(program["language"]),
                tuple(program["command"]),
                {name: unpack(blob) for name, blob in program["files"].items()},
                tuple(program["arguments"]),
            )

    def run(
        self, source: str | bytes | Program, stdin: bytes = b"", limits: Limits | None = None
    ) -> RunResult:
        """Run a whole program, as `python solution.py` would.

        Raises:
            SandboxError: the service could not be reached, or failed, until the time was up.
        """
        return self._run(source, [stdin], limits or Limits())[0]

    def run_each(
        self,
        source: str | bytes | Program,
        inputs: Iterable[bytes],
        limits: Limits | None = None,
    ) -> Iterator[RunResult]:
        """Run one program on several inputs, each in a process of its own; in order.

        Inputs travel in batches that grow, so that stopping early wastes little.

        Raises:
            SandboxError: the service could not be reached, or failed, until the time was up.
        """
        limits = limits or Limits()
        waiting = iter(inputs)
        batch: list[bytes] = []
        size = 1
        while True:
            batch += islice(waiting, size - len(batch))
            if not batch:
                return
            sent = _within(batch, _BATCH_BYTES)
            results = self._run(source, batch[:sent], limits)
            yield from results
            del batch[: len(results)]
            size = min(2 * size, _LARGEST_BATCH)

    def _run(
        self, source: str | bytes | Program, inputs: Sequence[bytes], limits: Limits
    ) -> list[RunResult]:
        what: dict[str, Any]
        if isinstance(source, Program):
            what = {"program": _program(source)}
        else:
            what = {"source": _blob(source)}
        body = {
            **what,
            "inputs": [pack(stdin) for stdin in inputs],
            "limits": asdict(limits),
        }
        # The service answers after some seconds, or after the first that hits a limit.
        found = self._asking.ask(
            "POST", "/v1/run", body, self._patience + _BY_THE_CLOCK * limits.wall_seconds
        )
        with _reading("/v1/run"):
            results = [_result(one) for one in found["results"]]
            if not 1 <= len(results) <= len(inputs):
                raise ValueError(f"{len(results)} results for {len(inputs)} inputs")
        return results

    def call_all(
        self, source: str | bytes, calls: Sequence[Call], limits: Limits | None = None
    ) -> Called:
        """Load `source` once and make calls, until it ends or gives what cannot be carried.

        Raises:
            CallFailed: the source does not compile or load.
            Refused: an argument is no plain value.
            SandboxError: the service could not be reached, or failed, until the time was up.
        """
        limits = limits or Limits()
        body = {
            "source": _blob(source),
            "calls": [_call(call) for call in calls],
            "limits": asdict(limits),
        }
        found = self._asking.ask(
            "POST", "/v1/calls", body, self._patience + _BY_THE_CLOCK * limits.wall_seconds
        )
        with _reading("/v1/calls"):
            if found.get("failure"):
                raise _failure(found["failure"])
            return Called(
                names=frozenset(found["names"]),
                results=tuple(_reply(reply) for reply in found["replies"]),
                isolation=(*found["isolation"], "remote"),
            )

    def run_suite(
        self,
        source: str | bytes,
        spec: Mapping[str, Any],
        *,
        packages: Sequence[str],
        weak: bool,
        limits: Limits,
        tester_seconds: float,
    ) -> dict[str, Any]:
        """Run tests in Python there, against a program in a sandbox of its own.

        Args:
            source: the program.
            spec: what the tester reads (`rlvr.sandbox.guest.tester`).
            packages: modules outside the standard library that the tests import.
            weak: whether the tests run in the program's own interpreter.
            limits: for the program.
            tester_seconds: by the clock, for the tests.

        Returns:
            What the service says: its `SuiteResponse`.

        Raises:
            SandboxError: the service could not be reached, or failed, until the time was up.
        """
        texts = ("tests", "setup", "prefix")
        body = {
            **{name: value for name, value in spec.items() if name not in texts},
            **{name: _blob(spec[name]) for name in texts if name in spec},
            "source": _blob(source),
            "packages": list(packages),
            "weak": weak,
            "limits": asdict(limits),
            "tester_seconds": tester_seconds,
        }
        seconds = self._patience + _BY_THE_CLOCK * max(limits.wall_seconds, tester_seconds)
        found = self._asking.ask("POST", "/v1/suite", body, seconds)
        with _reading("/v1/suite"):
            if "isolation" in found.get("facts", {}):
                found["facts"]["isolation"] = [*found["facts"]["isolation"], "remote"]
        return found

    def close(self) -> None:
        """End the connections. The sandbox can be used again afterwards. May be called twice."""
        self._asking.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """What is not of the form that a service gives is an error of its own kind."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise SandboxError(
            f"{path} answered what cannot be read, {type(error).__name__}: {error}; is it a "
            "service of this version of rlvr?"
        ) from error


def _blob(source: str | bytes) -> Any:
    return pack(source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source)


def _program(program: Program) -> dict[str, Any]:
    return {
        "language": program.language,
        "command": list(program.command),
        "files": {name: pack(data) for name, data in program.files.items()},
        "arguments": list(program.arguments),
    }


def _within(batch: Sequence[bytes], most: int) -> int:
    """How many of a batch's first inputs come to no more than `most` bytes; at least one."""
    size = 0
    for count, stdin in enumerate(batch):
        size += len(stdin)
        if count and size > most:
            return count
    return len(batch)


def _result(found: Mapping[str, Any]) -> RunResult:
    known = {one.name: found[one.name] for one in fields(RunResult) if one.name in found}
    known |= {
        "status": RunStatus(found["status"]),
        "stdout": unpack(found["stdout"]),
        "stderr": unpack(found["stderr"]),
        "isolation": (*found["isolation"], "remote"),
    }
    return RunResult(**known)


def _call(call: Call) -> dict[str, Any]:
    args = to_json(values.encode(list(call.args)))
    kwargs = {name: to_json(values.encode(value)) for name, value in call.kwargs.items()}
    return {"name": call.name, "args": args, "kwargs": kwargs, "max_bytes": call.max_bytes}


def _reply(reply: Mapping[str, Any]) -> Any:
    if reply.get("failure"):
        return _failure(reply["failure"])
    try:
        return values.decode(from_json(reply.get("value")))
    except values.Refused as error:
        return CallFailed("refused", f"the reply cannot be read: {error}")


def _failure(found: Mapping[str, Any]) -> CallFailed:
    status = found.get("status")
    return CallFailed(
        str(found["kind"]),
        str(found["message"]),
        RunStatus(status) if status else None,
        str(found.get("error", "")),
    )


__all__ = ["RemoteSandbox"]
