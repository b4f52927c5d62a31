"""Suites of tests in Python: `/v1/suite`, where there is somebody to run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Response

from rlvr.sandbox.service import schema
from rlvr.sandbox.service.core import Service

Suites = Callable[[Service, schema.SuiteRequest], dict[str, Any]]
"""Runs a suite and gives a `SuiteResponse`; blocking. Given by an upper layer: this one knows no
verifiers."""


def add_suites(app: FastAPI, service: Service, suites: Suites) -> None:
    """Add the route to an application."""

    @app.post("/v1/suite", response_model=schema.SuiteResponse, tags=["sandbox"])
    async def suite(request: schema.SuiteRequest) -> Response:
        """Run tests in Python against a program; they do not meet unless `weak` says so."""
        found = await service.run(lambda job: suites(service, request), request.deadline_seconds)
        # ASCII: a lone surrogate in a reason is escaped, and needs no special case.
        return Response(json.dumps(found).encode("ascii"), media_type="application/json")


__all__ = ["Suites", "add_suites"]
