"""The application: routes, and what they answer. Everything about connections is in `server`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from rlvr.errors import UserError
from rlvr.sandbox.guest import values
from rlvr.sandbox.languages import Program, find_language
from rlvr.sandbox.pool import AllPools, SlotPool
from rlvr.sandbox.service import schema
from rlvr.sandbox.service.admission import Admission, Turned
from rlvr.sandbox.service.core import Service, Settings
from rlvr.sandbox.service.fusion import Judge, add_fusion
from rlvr.sandbox.service.guard import Guard
from rlvr.sandbox.service.metrics import Metrics
from rlvr.sandbox.service.suites import Suites, add_suites
from rlvr.sandbox.service.wire import from_json
from rlvr.sandbox.service.work import Invalid, build, call_each, run_batch


def make_service(
    sandbox: SlotPool, settings: Settings, judge: Judge | None = None, suites: Suites | None = None
) -> Service:
    """The service around a sandbox; its `app` is an ASGI application.

    Args:
        sandbox: what runs programs.
        settings: everything else.
        judge: decides `/submit`, which is not there without it.
        suites: runs `/v1/suite`; the same.

    Raises:
        SandboxError: the sandbox does not start here; its first slot is started now.
    """
    isolation = sandbox.isolation
    metrics = Metrics()
    metrics.info.info({"sandbox": sandbox.name, "isolation": ", ".join(isolation)})
    admission = Admission(AllPools(), settings.slots, settings.queue, metrics)
    service = Service(
        sandbox=sandbox,
        isolation=isolation,
        settings=settings,
        metrics=metrics,
        admission=admission,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await admission.close()

    from rlvr import __version__

    app = FastAPI(
        title="rlvr sandbox",
        version=__version__,
        summary="Runs programs that nobody has read.",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        responses={
            code: {"model": schema.Problem, "description": about}
            for code, about in {
                400: "It asks for what is not there",
                401: "No token, or a wrong one",
                413: "The body is too large",
                422: "It is not of the form that is asked for",
                429: "Too many wait; Retry-After says for how long",
                503: "The sandbox failed, or the service stops",
                504: "The deadline has passed",
            }.items()
        },
    )
    _add_errors(app, metrics)
    _add_own(app, service)
    if suites is not None:
        add_suites(app, service, suites)
    add_fusion(app, service, judge)
    _add_health(app, service)
    paths = frozenset(getattr(route, "path", "") for route in app.routes)
    service.app = Guard(
        app,
        token=settings.token,
        hosts=settings.hosts,
        bounds=settings.bounds,
        metrics=metrics,
        paths=paths,
    )
    return service


def _problem(status: int, kind: str, detail: str, **headers: str) -> JSONResponse:
    return JSONResponse({"kind": kind, "detail": detail}, status, headers)


def _add_errors(app: FastAPI, metrics: Metrics) -> None:
    @app.exception_handler(Turned)
    async def turned(_: Request, error: Turned) -> Response:
        metrics.refused.labels(error.kind).inc()
        return _problem(
            error.status, error.kind, str(error), **{"retry-after": str(error.retry_after)}
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        metrics.refused.labels("invalid").inc()
        return _problem(422, "invalid", _first(error))

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> Response:
        return _problem(error.status_code, "invalid", str(error.detail))

    @app.exception_handler(UserError)
    async def unsupported(_: Request, error: UserError) -> Response:
        metrics.refused.labels("unsupported").inc()
        return _problem(400, "unsupported", str(error))

    @app.exception_handler(values.Refused)
    async def no_value(_: Request, error: values.Refused) -> Response:
        metrics.refused.labels("invalid").inc()
        return _problem(422, "invalid", str(error))


def _first(error: RequestValidationError) -> str:
    """The first mistake of a request, without what it holds."""
    one = error.errors()[0]
    return f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"


def _add_own(app: FastAPI, service: Service) -> None:
    @app.post("/v1/build", response_model=schema.BuildResponse, tags=["sandbox"])
    async def build_program(request: schema.BuildRequest) -> Response:
        """Compile a program, so that it can run many times."""
        source = schema.read_blob(request.source)
        files = {name: schema.read_blob(blob) for name, blob in request.files.items()}
        limits = service.limits(request.limits) if request.limits is not None else None
        found = await service.run(
            lambda job: build(service.sandbox, source, request.language, limits, files),
            request.deadline_seconds,
        )
        return _json({"program" if isinstance(found, Program) else "failure": schema.plain(found)})

    @app.post("/v1/run", response_model=schema.RunResponse, tags=["sandbox"])
    async def run(request: schema.RunRequest) -> Response:
        """Run a program on one or more inputs, each in a process of its own."""
        program = _program(request)
        inputs = [schema.read_blob(blob) for blob in request.inputs]
        limits = service.limits(request.limits)
        results = await service.run(
            lambda job: run_batch(service.sandbox, job, program, inputs, limits, service.metrics),
            request.deadline_seconds,
        )
        return _json({"results": [schema.plain(result) for result in results]})

    @app.post("/v1/calls", response_model=schema.CallsResponse, tags=["sandbox"])
    async def calls(request: schema.CallsRequest) -> Response:
        """Load a program once and call what it defines, in order."""
        source = schema.read_blob(request.source)
        limits = service.limits(request.limits)
        encoded = [(_request(call), call.max_bytes) for call in request.calls]
        found = await service.run(
            lambda job: call_each(service.sandbox, job, source, encoded, limits, service.metrics),
            request.deadline_seconds,
        )
        return _json({"isolation": service.isolation, **found})


def _program(request: schema.RunRequest) -> bytes | Program:
    """What is to run.

    Raises:
        UnknownNameError: there is no such language.
    """
    if request.source is not None:
        return schema.read_blob(request.source)
    given = request.program
    assert given is not None  # the model sees to it
    files = {name: schema.read_blob(blob) for name, blob in given.files.items()}
    language = find_language(given.language)
    if language == "python":
        if len(files) != 1 or given.arguments:
            raise Invalid("a Python program is one file, and is given no arguments")
        return next(iter(files.values()))
    return Program(language, tuple(given.command), files, tuple(given.arguments))


def _request(call: schema.CallModel) -> bytes:
    """A call as `guest.serve` reads it."""
    pairs = [[name, value] for name, value in call.kwargs.items()]
    return from_json({"tuple": ["call", call.name, call.args, {"dict": pairs}]})


def _json(content: Any) -> Response:
    # ASCII: a lone surrogate in a name or a message is escaped, and needs no special case.
    return Response(json.dumps(content).encode("ascii"), media_type="application/json")


def _add_health(app: FastAPI, service: Service) -> None:
    admission = service.admission

    def health(status: str) -> dict[str, Any]:
        return {
            "status": status,
            "sandbox": service.sandbox.name,
            "isolation": list(service.isolation),
            "slots": admission.slots,
            "in_flight": admission.in_flight,
            "queued": admission.queued,
            "queue": admission.queue,
        }

    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @app.get("/health/ready", response_model=schema.Health, tags=["health"])
    async def ready() -> Response:
        """Whether it takes work: it is not stopping, and the sandbox works.

        After a failure of the sandbox a small program is run to see whether it works again.
        """
        if admission.stopping:
            return JSONResponse(health("stopping"), 503)
        try:
            if admission.failing:
                await admission.run(lambda job: service.sandbox.run("pass"), 30.0)
        except Turned:
            return JSONResponse(health("failing"), 503)
        return JSONResponse(health("ready"))

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        """Everything that is counted, in Prometheus' text form."""
        return Response(service.metrics.text(), media_type=service.metrics.content_type)
