"""What a request does once it has a slot; blocking, in a thread of the service."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rlvr.errors import UserError
from rlvr.sandbox.calling import MOST_REPLY_BYTES
from rlvr.sandbox.guest import values
from rlvr.sandbox.languages import LANGUAGES, BuildFailed, Program, find_language
from rlvr.sandbox.limits import Limits, RunResult, RunStatus
from rlvr.sandbox.pool import SlotPool
from rlvr.sandbox.service.admission import Job
from rlvr.sandbox.service.metrics import Metrics
from rlvr.sandbox.service.wire import to_json
from rlvr.sandbox.session import CallFailed, Session

BATCH_SECONDS = 2.0
BATCH_BYTES = 8 << 20
_LIMIT_ENDINGS = (RunStatus.TIMEOUT, RunStatus.MEMORY_LIMIT, RunStatus.OUTPUT_LIMIT)


class Invalid(UserError):
    """A request asks for what it may not, or what is not there."""


def run_batch(
    sandbox: SlotPool,
    job: Job,
    source: bytes | Program,
    inputs: Sequence[bytes],
    limits: Limits,
    metrics: Metrics,
) -> list[RunResult]:
    """Run a program on inputs, and end early where `RunResponse` says so.

    Raises:
        SandboxError: the sandbox failed twice.
    """
    results: list[RunResult] = []
    until = time.monotonic() + BATCH_SECONDS
    size = 0
    for result in sandbox.run_each(source, inputs, limits):
        results.append(result)
        count_program(metrics, result)
        size += len(result.stdout) + len(result.stderr)
        over = size > BATCH_BYTES or time.monotonic() > until
        if job.stopped or over or result.status in _LIMIT_ENDINGS:
            break
    return results


def build(
    sandbox: SlotPool,
    source: bytes,
    language: str,
    limits: Limits | None,
    files: Mapping[str, bytes],
) -> Program | RunResult:
    """Compile a program.

    Returns:
        The program; or, where it does not compile, how building ended.

    Raises:
        UnknownNameError: there is no such language.
        Invalid: it is not present here.
        SandboxError: the sandbox failed twice.
    """
    name = find_language(language)
    if name != "python":
        absent = set(LANGUAGES[name].tools) - set(sandbox.tools)
        if absent:
            raise Invalid(f"language {name!r} is not present here: no {', '.join(sorted(absent))}")
    try:
        return sandbox.build(source, name, limits, files)
    except BuildFailed as failure:
        return failure.result


def count_program(metrics: Metrics, result: RunResult) -> None:
    """Tell the metrics of a program that ended."""
    metrics.programs.labels(result.status.value).inc()
    metrics.cpu.inc(result.cpu_seconds)
    metrics.ran.observe(result.wall_seconds)


def call_each(
    sandbox: SlotPool,
    job: Job,
    source: bytes,
    calls: Sequence[tuple[bytes, int]],
    limits: Limits,
    metrics: Metrics,
) -> dict[str, Any]:
    """Load a program and call it, as `SlotPool.call_all` does, without decoding what it says.

    Args:
        sandbox: where.
        job: looked at between calls.
        source: the program.
        calls: each an encoded request of `guest.serve`, and how long its reply may be.
        limits: for all of it.
        metrics: told of each call.

    Returns:
        A `CallsResponse`; `isolation` is left out where the program did not load.

    Raises:
        SandboxError: the sandbox failed.
    """
    replies: list[dict[str, Any]] = []
    try:
        session = sandbox.session(source, limits)
    except CallFailed as failure:
        metrics.calls.labels(failure.kind).inc()
        return {"names": [], "replies": [], "failure": failed(failure)}
    with session:
        for request, max_bytes in calls:
            most = min(max_bytes, MOST_REPLY_BYTES - session.reply_bytes)
            reply, went_on = _call(session, request, most)
            metrics.calls.labels(reply["failure"]["kind"] if "failure" in reply else "ok").inc()
            replies.append(reply)
            if job.stopped or not went_on:
                break
        names = session.definitions()
        isolation = session.isolation
        ending = session.finish()
    metrics.cpu.inc(ending.cpu_seconds)
    return {"names": names, "replies": replies, "isolation": isolation}


def _call(session: Session, request: bytes, max_bytes: int) -> tuple[dict[str, Any], bool]:
    """A `Reply`, and whether the program can be called again."""
    try:
        body = session.exchange(request, max_bytes)
        reply = _read(body)
    except CallFailed as failure:
        return {"failure": failed(failure)}, False
    except values.Refused as error:
        reply = {"failure": _failure("refused", f"the reply cannot be read: {error}")}
    return reply, "failure" not in reply or reply["failure"]["kind"] == "raise"


def _read(body: bytes) -> dict[str, Any]:
    """A reply of `guest.serve`, whatever the program made of it."""
    found = to_json(body)
    parts = found.get("tuple") if isinstance(found, Mapping) else None
    match parts:
        case ["ok", value, _]:
            return {"value": value}
        case ["raise", [first, *_], message]:
            error = _text(first, 100)
            status = RunStatus.MEMORY_LIMIT.value if error == "MemoryError" else None
            return {"failure": _failure("raise", f"{error}: {_text(message)}", status, error)}
        case ["exit", first, message]:
            error = _text(first, 100)
            return {"failure": _failure("exit", f"{error}: {_text(message)}", error=error)}
        case ["refused", str(why)]:
            return {"failure": _failure("refused", why[:500])}
    return {"failure": _failure("refused", "the reply cannot be read")}


def _text(value: Any, length: int = 500) -> str:
    """What a program says in words."""
    return value[:length] if isinstance(value, str) else "<no text>"


def failed(failure: CallFailed) -> dict[str, Any]:
    """A `Failure`."""
    status = failure.status.value if failure.status is not None else None
    return _failure(failure.kind, str(failure), status, failure.error)


def _failure(kind: str, message: str, status: str | None = None, error: str = "") -> dict[str, Any]:
    return {"kind": kind, "message": message, "status": status, "error": error}
