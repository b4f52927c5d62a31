"""Who gets a slot, who is turned away, what is too much; stopping, and being killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_process import TOKEN, Running, descendants, in_threads, until

from rlvr.errors import SandboxError
from rlvr.sandbox import Limits
from rlvr.sandbox.remote import RemoteSandbox

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

LONG = Limits(wall_seconds=100, cpu_seconds=100)
SLEEP = "import time; time.sleep(90)"


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with Running("--slots", "2") as running:
        yield running


@pytest.fixture
def narrow() -> Iterator[Running]:
    """One slot, and one request that may wait."""
    with Running("--slots", "1", "--queue", "1") as running:
        yield running


# ------------------------------------------------------------------------------------ admission


def test_a_full_queue_turns_away_and_says_when_to_come_back(narrow) -> None:
    body = {"source": SLEEP, "limits": {"wall_seconds": 90, "cpu_seconds": 90}}
    first = narrow.hang_up_after_sending("/v1/run", body)
    assert until(lambda: narrow.state()["in_flight"] == 1)
    second = narrow.hang_up_after_sending("/v1/run", {"source": "print(1)"})
    assert until(lambda: narrow.state()["queued"] == 1)
    status, headers, answer = narrow.post("/v1/run", {"source": "print(1)"})
    assert (status, answer["kind"]) == (429, "full")
    assert int(headers["retry-after"]) >= 1
    first.close()
    assert second.recv(15) == b"HTTP/1.1 200 OK"
    second.close()
    assert narrow.metric('rlvr_sandbox_refused_total{kind="full"}') == 1


def test_a_client_waits_for_a_full_queue(narrow) -> None:
    """Ten at once, where one runs and one may wait: all come through."""
    with narrow.client(patience=90) as client:
        outputs = in_threads(*[lambda n=n: client.run(f"print({n})").stdout for n in range(10)])
    assert outputs == [f"{n}\n".encode() for n in range(10)]


def test_who_hangs_up_in_the_queue_leaves_it(narrow) -> None:
    body = {"source": SLEEP, "limits": {"wall_seconds": 90, "cpu_seconds": 90}}
    running = narrow.hang_up_after_sending("/v1/run", body)
    assert until(lambda: narrow.state()["in_flight"] == 1)
    waiting = narrow.hang_up_after_sending("/v1/run", {"source": "print('never')"})
    assert until(lambda: narrow.state()["queued"] == 1)
    waiting.close()
    assert until(lambda: narrow.state()["queued"] == 0)
    running.close()
    assert until(lambda: narrow.state()["in_flight"] == 0)
    assert narrow.metric('rlvr_sandbox_programs_total{status="ok"}') == 0  # it never ran
    assert narrow.metric("rlvr_sandbox_abandoned_total") == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/run", {"source": SLEEP, "inputs": ["", "", ""]}),
        ("/v1/run", {"source": "while True: pass"}),
        ("/v1/calls", {"source": "def f():\n while True: pass", "calls": [{"name": "f"}] * 3}),
        ("/v1/calls", {"source": SLEEP, "calls": []}),
        ("/v1/suite", {"source": SLEEP, "style": "asserts", "tests": "assert f() == 1"}),
        (
            "/v1/suite",
            {
                "source": "def f(): pass",
                "style": "asserts",
                "tests": f"assert f() is None\n{SLEEP}",
                "tester_seconds": 90,
            },
        ),
        ("/run_code", {"code": SLEEP, "language": "python", "run_timeout": 90}),
    ],
    ids=["run", "busy", "call", "load", "suite", "tests", "run_code"],
)
def test_who_hangs_up_ends_their_program(narrow, path, body) -> None:
    if path.startswith("/v1"):
        body = {**body, "limits": {"wall_seconds": 90, "cpu_seconds": 90}}
    connection = narrow.hang_up_after_sending(path, body)
    assert until(lambda: narrow.state()["in_flight"] == 1)
    time.sleep(0.3)
    connection.close()
    assert until(lambda: narrow.state()["in_flight"] == 0, 10)
    with narrow.client() as client:
        assert client.run("print('next')").stdout == b"next\n"


def test_the_deadline_counts_the_wait_and_the_program(narrow) -> None:
    body = {"source": SLEEP, "limits": {"wall_seconds": 90, "cpu_seconds": 90}}
    statuses = in_threads(
        *[lambda: narrow.post("/v1/run", {**body, "deadline_seconds": 1.5})[:3:2]] * 2
    )
    assert [(status, answer["kind"]) for status, answer in statuses] == [(504, "deadline")] * 2
    assert until(lambda: narrow.state()["in_flight"] == 0, 10)
    with narrow.client() as client:
        assert client.run("print('next')").stdout == b"next\n"


def test_a_hung_reader_holds_no_slot(narrow) -> None:
    """It asks for megabytes and never reads them."""
    body = {"source": "print('x' * (8 << 20))"}
    hung = [narrow.hang_up_after_sending("/v1/run", body) for _ in range(2)]
    with narrow.client() as client:
        for _ in range(3):
            assert client.run("print('next')").stdout == b"next\n"
    for connection in hung:
        connection.close()


# ------------------------------------------------------------------------- bounds and the token


def test_a_token_is_needed_for_all_but_health(service) -> None:
    for path in ("/health/live", "/health/ready"):
        assert service.ask("GET", path, Authorization="")[0] == 200
    for shown in ("", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"):
        for method, path in (("POST", "/v1/run"), ("GET", "/metrics"), ("GET", "/openapi.json")):
            body = {"source": "print(1)"} if method == "POST" else None
            status, headers, answer = service.ask(method, path, body, Authorization=shown)
            assert (status, answer["kind"]) == (401, "unauthorised")
            assert headers["www-authenticate"] == "Bearer"
    assert service.post("/v1/run", {"source": "print(1)"})[0] == 200
    assert TOKEN not in "".join(service.lines)
    with pytest.raises(SandboxError, match="a token was sent") as caught:
        RemoteSandbox(url=service.url, token="wrong-token").run("print(1)")
    assert "wrong-token" not in str(caught.value)


def test_without_a_token_only_this_machine_is_served() -> None:
    for host in ("0.0.0.0", "::"):
        command = [sys.executable, "-m", "rlvr.cli.main", "sandbox", "serve", "--host", host]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RLVR_SANDBOX")}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 2
        assert "there is no token" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_without_a_token_a_web_page_cannot_reach_it() -> None:
    """By a name of its own (rebinding), or by a form, which cannot send JSON."""
    with Running("--slots", "1", token=None) as running:
        body = {"source": "print(1)"}
        assert running.post("/v1/run", body)[0] == 200
        assert running.post("/v1/run", body, Host="localhost")[0] == 200
        assert running.post("/v1/run", body, Host="evil.example:8080")[0] == 403
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            assert running.post("/v1/run", body, **{"Content-Type": kind})[0] == 415


def test_what_is_too_large_or_too_slow_is_refused() -> None:
    patch = (
        "import rlvr.sandbox.service.core as core, rlvr.sandbox.service.server as server\n"
        "core.Bounds.__init__.__kwdefaults__.update(body_bytes=100_000, body_seconds=1.0)\n"
        "server.HEADER_SECONDS = 1.0\n"
    )
    with Running("--slots", "1", patch=patch) as running:
        status, _, answer = running.post("/v1/run", {"source": "#" * 200_000})
        assert (status, answer["kind"]) == (413, "too_large")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        head = (
            "POST /v1/run HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {TOKEN}\r\n"
        ).encode()
        answers = {
            "chunked": head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2,
            "slow body": head + b"Content-Length: 50\r\n\r\n{",
            "slow head": head,
            "silent": b"",
        }
        for name, sent in answers.items():
            with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
                connection.sendall(sent)
                try:
                    answers[name] = connection.recv(12)
                except ConnectionError:
                    answers[name] = b""
        assert answers == {
            "chunked": b"HTTP/1.1 413",
            "slow body": b"HTTP/1.1 408",
            "slow head": b"",
            "silent": b"",
        }
        # A head that drips in: each byte is quick, the whole is not.
        with socket.create_connection(("127.0.0.1", running.port), timeout=10) as connection:
            started = time.monotonic()
            with contextlib.suppress(ConnectionError):
                for byte in head:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.1)
            assert time.monotonic() - started < 5
        assert running.post("/v1/run", {"source": "print(1)"})[0] == 200


def test_a_head_without_end_is_refused(service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000)
        with contextlib.suppress(ConnectionError):
            assert connection.recv(12) in (b"HTTP/1.1 400", b"")
    assert service.state()["status"] == "ready"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/run", {}, 422),
        ("/v1/run", {"source": "1", "surce": "2"}, 422),
        ("/v1/run", {"source": "1", "inputs": []}, 422),
        ("/v1/run", {"source": {"base64": "*"}}, 422),
        ("/v1/run", {"source": "1", "limits": {"wall_seconds": 0}}, 422),
        ("/v1/run", {"source": "1", "limits": {"memory_bytes": 1 << 50}}, 400),
        ("/v1/run", {"program": {"language": "cobol", "command": [], "files": {}}}, 400),
        ("/v1/run", {"program": {"language": "python", "command": [], "files": {}}}, 400),
        ("/v1/build", {"source": "1", "language": "cobol"}, 400),
        ("/v1/calls", {"source": "1", "calls": [{"name": "f", "args": [{"a": 1}]}]}, 422),
        ("/v1/calls", {"source": "1", "calls": [{"name": "f", "args": [{"int": "x"}]}]}, 422),
        ("/v1/run", b"{", 422),
        ("/v1/run", b"\xff", 400),
        ("/v1/run", b"[" * 100_000, 400),
        ("/v1/run", b'{"source": ' + b"9" * 10_000 + b"}", 400),
        ("/v1/nothing", {}, 404),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_is_not_understood_is_refused_and_never_a_result(service, path, body, status) -> None:
    found, _, answer = service.post(path, body)
    assert found == status
    assert set(answer) == {"kind", "detail"}


def test_the_ceiling_is_what_the_service_was_told() -> None:
    with Running("--slots", "1", "--ceiling", "wall_seconds=20") as running:
        status, _, answer = running.post("/v1/run", {"source": "1", "limits": {"wall_seconds": 21}})
        assert (status, answer["detail"]) == (
            400,
            "limits.wall_seconds is 21: this service allows 20",
        )
        with pytest.raises(SandboxError, match="this service allows 20"):
            running.client().run("1", limits=Limits(wall_seconds=21))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ceiling", "wal_seconds=3"], "wall_seconds"),
        (["--ceiling", "wall_seconds=long"], "expected a number"),
        (["--ceiling", "wall_seconds=-3"], "more than 0"),
        (["--sandbox", "remote"], "of this machine"),
        (["--sandbox", "locl"], "local"),
        (["--slots", "0"], "1 or more"),
        (["--queue", "-1"], "0 or more"),
        (["--host", "no.such.host.invalid"], "no address"),
        (["--token-file", "/nonexistent"], "/nonexistent"),
    ],
)
def test_a_wrong_option_of_the_command_is_one_line(options, message) -> None:
    command = [sys.executable, "-m", "rlvr.cli.main", "sandbox", "serve", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


# ------------------------------------------------------------------------------------- stopping


def test_a_signal_lets_programs_end_and_turns_away_what_waits() -> None:
    with Running("--slots", "1") as running:
        body = {"source": "import time; time.sleep(2); print('whole')"}

        def stop() -> None:
            assert until(lambda: running.state()["in_flight"] == 1)
            waiting = threading.Thread(target=lambda: turned.append(running.post("/v1/run", body)))
            waiting.start()
            assert until(lambda: running.state()["queued"] == 1)
            running.process.send_signal(signal.SIGTERM)
            waiting.join()

        turned: list[Any] = []
        whole, stopped = in_threads(lambda: running.post("/v1/run", body), stop)
        assert stopped is None
        assert whole[2]["results"][0]["stdout"] == "whole\n"
        assert (turned[0][0], turned[0][2]["kind"]) == (503, "stopping")
        assert running.wait() == 0
        assert "stopping: 1 running to their end, 1 turned away" in "".join(running.lines)


def test_programs_that_do_not_end_are_ended_when_the_grace_is_over() -> None:
    with Running("--slots", "1", "--grace", "1") as running:
        body = {"source": SLEEP, "limits": {"wall_seconds": 90, "cpu_seconds": 90}}
        connection = running.hang_up_after_sending("/v1/run", body)
        assert until(lambda: running.state()["in_flight"] == 1)
        started = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - started < 15
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once_and_leaves_nothing(number) -> None:
    with Running("--slots", "1") as running:
        body = {"source": SLEEP, "limits": {"wall_seconds": 90, "cpu_seconds": 90}}
        connection = running.hang_up_after_sending("/v1/run", body)
        assert until(lambda: running.state()["in_flight"] == 1)
        below = descendants(running.process.pid)
        assert below
        running.process.send_signal(number)
        time.sleep(0.7)
        assert running.process.poll() is None
        started = time.monotonic()
        assert running.stop(number) == 128 + number
        assert time.monotonic() - started < 5
        assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below), 10)
        connection.close()


# --------------------------------------------------------------------------------------- killed


def test_a_service_killed_under_a_program_and_started_again_is_not_noticed() -> None:
    with Running("--slots", "1") as first:
        client = first.client(patience=60)
        source = "import time; time.sleep(1.5); print('whole')"
        results: list[Any] = []
        runner = threading.Thread(target=lambda: results.append(client.run(source)))
        runner.start()
        assert until(lambda: first.state()["in_flight"] == 1)
        first.process.kill()
        first.process.wait()
        time.sleep(0.5)
        with Running("--slots", "1", "--port", str(first.port)):
            runner.join(60)
    assert [result.stdout for result in results] == [b"whole\n"]


def test_a_service_killed_under_a_program_for_good_is_an_error_and_no_result() -> None:
    with Running("--slots", "1") as running:
        client = running.client(patience=3)
        found: list[Any] = []

        def run() -> None:
            try:
                found.append(client.run(SLEEP, limits=Limits(wall_seconds=2, cpu_seconds=2)))
            except SandboxError as error:
                found.append(error)

        runner = threading.Thread(target=run)
        runner.start()
        assert until(lambda: running.state()["in_flight"] == 1)
        running.process.kill()
        runner.join(30)
    assert len(found) == 1
    assert isinstance(found[0], SandboxError)
