"""The service over many requests, most of them nonsense: it holds no more, and never fails."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service_process import Running, in_threads, until

from rlvr.sandbox import Limits

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=10,
)
REFUSALS = {400, 413, 415, 422}


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with Running("--slots", "2") as running:
        yield running


def from_schema(schema: dict[str, Any], whole: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that the document allows, now and then one that it does not."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return st.deferred(lambda: from_schema(whole["components"]["schemas"][name], whole))
    if "anyOf" in schema:
        return st.one_of(*(from_schema(one, whole) for one in schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "object" if "properties" in schema:
            needed = set(schema.get("required", ()))
            fields = {n: from_schema(one, whole) for n, one in schema["properties"].items()}
            fields = {n: one if n in needed else one | ANY for n, one in fields.items()}
            required = {name: field for name, field in fields.items() if name in needed}
            optional = {name: field for name, field in fields.items() if name not in needed}
            return st.fixed_dictionaries(required, optional=optional)
        case "object":
            inner = schema.get("additionalProperties")
            inner = from_schema(inner if isinstance(inner, dict) else {}, whole)
            return st.dictionaries(st.text(max_size=8), inner, max_size=3)
        case "array":
            return st.lists(from_schema(schema.get("items", {}), whole), max_size=3)
        case "string":
            return st.sampled_from(["print(1)", "python", "def f(x): return x", "f", "a.txt"]) | (
                st.text(max_size=20)
            )
        case "integer":
            return st.integers(-1, 2000) | st.integers()
        case "number":
            return st.floats(0.01, 0.5) | st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    return ANY


def test_no_request_breaks_it(service) -> None:
    """Bodies made from the service's own document: each is answered, or refused in words."""
    document = service.ask("GET", "/openapi.json")[2]
    posts = {
        path: one["post"]["requestBody"]["content"]["application/json"]["schema"]
        for path, one in document["paths"].items()
        if "post" in one
    }
    own = {"/v1/run", "/v1/calls", "/v1/build", "/v1/suite"}
    assert set(posts) == own | {"/run_code", "/submit"}
    seen: dict[str, set[int]] = {path: set() for path in posts}

    @settings(
        deadline=None,
        max_examples=400,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(
        st.sampled_from(sorted(posts)).flatmap(
            lambda path: st.tuples(st.just(path), from_schema(posts[path], document) | ANY)
        )
    )
    def ask(case: tuple[str, Any]) -> None:
        path, body = case
        if isinstance(body, dict):
            body.pop("deadline_seconds", None)  # a deadline may well pass
        status, _, answer = service.post(path, json.dumps(body).encode())
        seen[path].add(status)
        assert status == 200 or status in REFUSALS, (status, answer)
        if status in REFUSALS:
            assert set(answer) == {"kind", "detail"}

    ask()
    assert all(statuses & REFUSALS for statuses in seen.values())
    assert 200 in seen["/v1/run"] | seen["/v1/calls"]
    assert service.state()["status"] == "ready"
    assert service.metric("rlvr_sandbox_infrastructure_errors_total") == 0


def test_two_thousand_requests_leave_nothing(service) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{service.process.pid}/fd"))

    def resident() -> int:
        return int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[1]) * 4096

    big = json.dumps({"source": "print(input()[:1] * 3_000_000)", "inputs": ["y" * 3_000_000]})

    def some(count: int) -> None:
        with service.client() as client:
            for number in range(count):
                assert client.run(f"print({number})").stdout == f"{number}\n".encode()
                if number % 20 == 0:
                    assert service.post("/v1/run", big.encode())[0] == 200
                    limits = Limits(cpu_seconds=0.1, wall_seconds=5)
                    assert not client.run("while True: pass", limits=limits).ok
                    service.post("/v1/run", {"source": 1})
                    service.hang_up_after_sending("/v1/run", {"source": "print(1)"}).close()

    in_threads(*[lambda: some(100)] * 4)
    assert until(lambda: service.state()["in_flight"] == 0)
    before, held = descriptors(), resident()
    found = in_threads(*[lambda: some(400)] * 4)
    assert found == [None] * 4
    assert until(lambda: service.state()["in_flight"] == 0)
    assert until(lambda: descriptors() <= before + 4), (before, descriptors())
    assert resident() < held + (24 << 20), (held, resident())
