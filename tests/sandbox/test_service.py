"""The service and its client give what the sandbox gives at home."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from service_process import TOKEN, Running, in_threads

from rlvr import Outcome, Task, load_verifier, registry
from rlvr.errors import ConfigError, SandboxError, UnknownNameError
from rlvr.sandbox import CallFailed, Limits, LocalSandbox, RunStatus
from rlvr.sandbox.calling import Call
from rlvr.sandbox.conformance import conformance, load_cases
from rlvr.sandbox.languages import BuildFailed
from rlvr.sandbox.remote import RemoteSandbox

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

LONG = Limits(wall_seconds=100, cpu_seconds=100)
SLEEP = "import time; time.sleep(90)"


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with Running("--slots", "2") as running:
        yield running


@pytest.fixture(scope="module")
def remote(service: Running) -> Iterator[RemoteSandbox]:
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def local() -> Iterator[LocalSandbox]:
    with LocalSandbox(slots=1) as made:
        yield made


# ------------------------------------------------------------------------- the same as at home

PROGRAMS = {
    "bytes": "import sys; sys.stdout.buffer.write(bytes(range(256)) * 3)",
    "text": "print('Grüße', '\\0', chr(0x1F600))",
    "echo": "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())",
    "exit": "import sys; print('a'); print('b', file=sys.stderr); sys.exit(3)",
    "signal": "import ctypes; ctypes.string_at(0)",
    "syntax": "print(",
    "surrogate": "print(len('\ud800'))",
    "memory": "x = bytearray(1 << 30)",
    "output": "print('x' * 100_000_000)",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_result_is_the_same_as_at_home(name, local, remote) -> None:
    stdin = bytes(range(256))
    limits = Limits(memory_bytes=256 << 20, output_bytes=1 << 20)
    here = local.run(PROGRAMS[name], stdin, limits)
    there = remote.run(PROGRAMS[name], stdin, limits)
    for field in ("status", "exit_code", "signal", "stdout", "stderr"):
        assert getattr(there, field) == getattr(here, field)
    assert there.isolation == (*here.isolation, "remote")
    assert there.cpu_seconds > 0 and there.wall_seconds > 0


def test_ten_megabytes_come_whole(remote) -> None:
    data = os.urandom(10 << 20)
    assert remote.run(PROGRAMS["echo"], data).stdout == data


@pytest.mark.parametrize("prefix", ["honest", "input", "exit"])
def test_the_conformance_suite_holds_over_the_wire(remote, prefix) -> None:
    cases = [case for case in load_cases() if case.name.startswith(prefix)]
    assert cases
    assert [result for result in conformance(remote, cases) if not result.passed] == []


def test_each_input_has_a_result_in_order(remote, service) -> None:
    inputs = [str(n).encode() for n in range(100)]
    asked = service.metric('rlvr_sandbox_request_seconds_count{code="200",path="/v1/run"}')
    results = list(remote.run_each("print(int(input()) + 1)", inputs))
    assert [result.stdout for result in results] == [f"{n + 1}\n".encode() for n in range(100)]
    asked = service.metric('rlvr_sandbox_request_seconds_count{code="200",path="/v1/run"}') - asked
    assert asked < 20  # batches


def test_inputs_after_one_that_hits_a_limit_still_run(remote) -> None:
    source = "n = int(input())\nwhile n == 3: pass\nprint(n)"
    results = list(
        remote.run_each(source, [str(n).encode() for n in range(9)], Limits(cpu_seconds=0.3))
    )
    assert [result.status for result in results] == [
        RunStatus.TIMEOUT if n == 3 else RunStatus.OK for n in range(9)
    ]


def test_stopping_early_asks_for_little_more(remote, service) -> None:
    before = service.metric('rlvr_sandbox_programs_total{status="ok"}')
    for number, result in enumerate(remote.run_each("print(1)", [b""] * 1000)):
        assert result.ok
        if number == 2:
            break
    assert service.metric('rlvr_sandbox_programs_total{status="ok"}') - before == 3


CALLED = """
import os, sys
class Odd: pass
class Liar(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def same(*args, **kwargs): return args, kwargs
def odd(): return Odd()
def liar(): return Liar(3)
def bad(): return [][1]
def big(n): return "x" * n
def out(): print("{}", flush=True); sys.stdout.write("x"); return 7
def leave(): sys.exit(0)
def crash(): os._exit(3)
def hog(): raise MemoryError
"""
CALLS = {
    "values": [Call(name="same", args=[(1, 2.5, -0.0, None), {3: {4}}, b"\xff", 2**90, "\ud800"])],
    "names": [Call(name="same", kwargs={"a": [1], "ü": float("inf")}), Call(name="absent")],
    "goes on": [Call(name="bad"), Call(name="hog"), Call(name="liar"), Call(name="out")],
    "odd": [Call(name="odd"), Call(name="liar")],
    "too long": [Call(name="big", args=[99]), Call(name="big", args=[9999], max_bytes=1000)],
    "exit": [Call(name="liar"), Call(name="leave"), Call(name="liar")],
    "gone": [Call(name="crash"), Call(name="liar")],
    "too much": [Call(name="big", args=[4_000_000], max_bytes=32 << 20)] * 20,
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_give_the_same_as_at_home(name, local, remote) -> None:
    here = local.call_all(CALLED, CALLS[name])
    there = remote.call_all(CALLED, CALLS[name])
    assert there.names == here.names
    assert [as_seen(result) for result in there.results] == [
        as_seen(result) for result in here.results
    ]


def as_seen(result: Any) -> Any:
    if isinstance(result, CallFailed):
        return result.kind, str(result), result.status, result.error
    return type(result), repr(result)


@pytest.mark.parametrize("source", ["def f(:", "1 / 0", "exit()", "import os; os._exit(0)"])
def test_a_source_that_does_not_load_is_the_same_failure(source, local, remote) -> None:
    seen = []
    for sandbox in (local, remote):
        with pytest.raises(CallFailed) as caught:
            sandbox.call_all(source, [Call(name="f")])
        seen.append(as_seen(caught.value))
    assert seen[0] == seen[1]


CPP = """
#include <iostream>
#include "plus.h"
int main() { int n; std::cin >> n; std::cout << n + PLUS << std::endl; return 0; }
"""


def need_cpp(local: LocalSandbox) -> None:
    if "g++" not in local.tools:
        pytest.skip("no g++ where programs can see it")


def test_a_program_is_built_there_and_runs_there(local, remote) -> None:
    need_cpp(local)
    program = remote.build(CPP, "c++", files={"plus.h": b"#define PLUS 2\n"})
    assert program.language == "cpp"
    outputs = [result.stdout for result in remote.run_each(program, [b"1", b"2", b"3"])]
    assert outputs == [b"3\n", b"4\n", b"5\n"]
    assert pickle.loads(pickle.dumps(program)) == program


def test_a_source_that_is_not_built_is_told_apart(local, remote) -> None:
    need_cpp(local)
    with pytest.raises(BuildFailed, match="plus") as caught:
        remote.build(CPP, "cpp")
    assert caught.value.result.status is RunStatus.COMPILE_ERROR
    with pytest.raises(UnknownNameError, match="cobol"):
        remote.build("x", "cobol")
    python = remote.build("print(1)", "python")
    assert remote.run(python).stdout == b"1\n"


def test_a_language_that_is_not_there_is_an_error_at_once() -> None:
    patch = "from rlvr.sandbox.pool import SlotPool; SlotPool.tools = {}"
    with Running("--slots", "1", patch=patch) as running:
        started = time.monotonic()
        with pytest.raises(SandboxError, match="'cpp' is not present here"):
            running.client().build(CPP, "cpp")
        assert time.monotonic() - started < 10


# ----------------------------------------------------------------------------------- the client


def test_threads_and_forks_share_a_client(remote) -> None:
    outputs = in_threads(*[lambda n=n: remote.run(f"print({n})").stdout for n in range(16)])
    assert outputs == [f"{n}\n".encode() for n in range(16)]
    queue = multiprocessing.get_context("fork").SimpleQueue()
    child = multiprocessing.get_context("fork").Process(
        target=lambda: queue.put(remote.run("print('child')").stdout)
    )
    child.start()
    assert queue.get() == b"child\n"
    child.join()
    assert pickle.loads(pickle.dumps(remote)).run("print('copy')").stdout == b"copy\n"
    remote.close()
    assert remote.run("print('again')").stdout == b"again\n"


def test_the_registry_makes_one(service, monkeypatch, tmp_path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    made = registry.sandboxes.create("remote", {"url": service.url, "token_file": str(token_file)})
    assert made.run("print(1)").ok
    monkeypatch.setenv("RLVR_SANDBOX_URL", service.url)
    monkeypatch.setenv("RLVR_SANDBOX_TOKEN", TOKEN)
    assert made.isolation[-1] == "remote"
    assert registry.sandboxes.create("remote").isolation == made.isolation


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "sandboxes:8080"},
        {"url": "http://a,b"},
        {"url": ","},
        {"url": "http://a", "patience": 0},
        {"url": "http://a", "token": "two words"},
        {"url": "http://a", "token_file": "/nonexistent"},
    ],
)
def test_a_wrong_option_is_refused(options, monkeypatch) -> None:
    monkeypatch.delenv("RLVR_SANDBOX_URL", raising=False)
    with pytest.raises(ConfigError):
        RemoteSandbox(**options)


def test_no_service_is_an_error_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    nobody = RemoteSandbox(url=f"http://127.0.0.1:{port}", patience=1.5)
    started = time.monotonic()
    with pytest.raises(SandboxError, match="gave no result"):
        nobody.run("print(1)", limits=Limits(wall_seconds=0.5))
    assert 1.5 < time.monotonic() - started < 5


def test_a_service_that_hangs_is_an_error_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        waiting = RemoteSandbox(url=f"http://127.0.0.1:{port}", patience=1.0)
        started = time.monotonic()
        with pytest.raises(SandboxError, match="gave no result"):
            waiting.run("print(1)", limits=Limits(wall_seconds=0.5))
        assert time.monotonic() - started < 5


def test_of_several_services_one_that_works_is_found(service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with RemoteSandbox(url=f"{nobody}, {service.url}", token=TOKEN, patience=20) as client:
        for number in range(10):
            assert client.run(f"print({number})").stdout == f"{number}\n".encode()


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"results": []},
        {"results": [{"status": "odd"}]},
        {"results": [1]},
        {"results": [{"status": "ok", "stdout": 1, "stderr": "", "isolation": []}]},
        {"results": None, "replies": [], "names": None},
    ],
    ids=str,
)
def test_an_answer_that_cannot_be_read_is_an_error(answer) -> None:
    class Odd(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Odd) as odd:
        threading.Thread(target=odd.serve_forever, daemon=True).start()
        client = RemoteSandbox(url=f"http://127.0.0.1:{odd.server_port}", patience=2)
        with pytest.raises(SandboxError, match="cannot be read"):
            client.run("print(1)")
        with pytest.raises(SandboxError, match="cannot be read"):
            client.call_all("f = abs", [Call(name="f", args=[1])])
        with pytest.raises(SandboxError, match="cannot be read"):
            client.build("int main() {}", "cpp")
        odd.shutdown()


def test_something_else_than_a_service_is_an_error(tmp_path) -> None:
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        [*command, "-d", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as other:
        assert other.stdout is not None
        port = re.search(r"port (\d+)", other.stdout.readline())
        assert port
        with pytest.raises(SandboxError):
            RemoteSandbox(url=f"http://127.0.0.1:{port[1]}", patience=2).run("print(1)")
        other.kill()


# ---------------------------------------------------------------------------- SandboxFusion's forms


def test_run_code_answers_in_sandbox_fusions_form(service) -> None:
    status, _, answer = service.post(
        "/run_code", {"code": "print(input())", "language": "python", "stdin": "a", "unknown": 1}
    )
    run = answer.pop("run_result")
    assert status == 200
    assert answer == {
        "status": "Success",
        "message": "",
        "compile_result": None,
        "executor_pod_name": None,
        "files": {},
    }
    assert run.pop("execution_time") > 0
    assert run == {"status": "Finished", "return_code": 0, "stdout": "a\n", "stderr": ""}


@pytest.mark.parametrize(
    ("code", "status", "run_status", "return_code"),
    [
        ("import sys; sys.exit(3)", "Failed", "Finished", 3),
        ("print(", "Failed", "Finished", 1),
        ("import ctypes; ctypes.string_at(0)", "Failed", "Finished", -11),
        ("while True: pass", "Failed", "TimeLimitExceeded", None),
        ("import time; time.sleep(60)", "Failed", "TimeLimitExceeded", None),
        ("while True: print('x' * 9999)", "Failed", "Finished", -9),
    ],
)
def test_run_code_tells_endings_apart(service, code, status, run_status, return_code) -> None:
    body = {"code": code, "language": "python", "run_timeout": 0.5, "memory_limit_MB": 256}
    _, _, answer = service.post("/run_code", body)
    run = answer["run_result"]
    assert (answer["status"], run["status"], run["return_code"]) == (
        status,
        run_status,
        return_code,
    )


def test_run_code_compiles(service, local) -> None:
    need_cpp(local)
    code = '#include <cstdio>\nint main() { puts("hi"); return 2; }'
    _, _, answer = service.post("/run_code", {"code": code, "language": "cpp"})
    run = answer["run_result"]
    assert (answer["status"], run["return_code"], run["stdout"]) == ("Failed", 2, "hi\n")
    _, _, answer = service.post("/run_code", {"code": "int main() {", "language": "cpp"})
    assert (answer["status"], answer["run_result"]) == ("Failed", None)
    assert answer["compile_result"]["return_code"] == 1
    assert "error" in answer["compile_result"]["stderr"]


@pytest.mark.parametrize(
    "more",
    [
        {"language": "verilog"},
        {"fetch_files": ["a"]},
        {"memory_limit_MB": 1 << 20},
        {"run_timeout": 10_000},
    ],
)
def test_run_code_refuses_what_is_not_offered(service, more) -> None:
    status, _, answer = service.post("/run_code", {"code": "1", "language": "python", **more})
    assert (status, answer["kind"]) == (400, "unsupported")


# ------------------------------------------------------------------------------- judging answers

ECHO = "```python\nn = int(input())\nprint(n * 2.0)\n```"
CASES = [{"input": {"stdin": f"{n}\n"}, "output": {"stdout": f"{2 * n}\n"}} for n in range(4)]


def submitted(row: Any, completion: str, **config: Any) -> dict[str, Any]:
    return {
        "dataset": "anything",
        "id": 7,
        "completion": completion,
        "config": {"dataset_type": "CommonOJDataset", "language": "python", "provided_data": row}
        | config,
    }


@pytest.mark.parametrize("test", [CASES, json.dumps(CASES)], ids=["list", "text"])
def test_submit_accepts_a_right_program(service, test) -> None:
    status, _, answer = service.post("/submit", submitted({"id": 7, "test": test}, ECHO))
    assert status == 200
    assert (answer["id"], answer["accepted"]) == (7, True)
    assert "n * 2.0" in answer["extracted_code"]
    assert [test["passed"] for test in answer["tests"]] == [True] * 4
    assert answer["tests"][1]["exec_info"]["run_result"]["return_code"] == 0
    assert answer["tests"][1]["test_info"] == CASES[1]


@pytest.mark.parametrize(
    ("code", "passed", "run_status", "return_code"),
    [
        ("n = int(input())\nprint(n * 2 + (n == 2))", [True, True, False], "Finished", 0),
        ("import os\nprint(0, flush=True)\nos._exit(3)", [False], "Finished", 3),
        ("while True: pass", [False], "TimeLimitExceeded", None),
        ("print(", [False], "Finished", 1),
    ],
)
def test_submit_tells_what_failed(service, code, passed, run_status, return_code) -> None:
    body = submitted({"test": CASES}, f"```python\n{code}\n```", run_timeout=0.5)
    status, _, answer = service.post("/submit", body)
    assert (status, answer["accepted"]) == (200, False)
    assert [test["passed"] for test in answer["tests"]] == passed
    info = answer["tests"][-1]["exec_info"]
    command = info["run_result"] or info["compile_result"]
    assert (command["status"], command["return_code"]) == (run_status, return_code)


def test_submit_runs_all_cases_where_asked(service) -> None:
    code = "```python\nn = int(input())\nprint(n * 2 + (n == 1))\n```"
    body = submitted({"test": CASES}, code, extra={"run_all_cases": True})
    _, _, answer = service.post("/submit", body)
    assert [test["passed"] for test in answer["tests"]] == [True, False, True, True]
    assert not answer["accepted"]


def test_submit_judges_other_languages(service, local) -> None:
    need_cpp(local)
    code = "#include <iostream>\nint main() { int n; std::cin >> n; std::cout << 2 * n; }"
    body = submitted({"test": CASES}, f"```cpp\n{code}\n```", language="cpp")
    assert service.post("/submit", body)[2]["accepted"]
    body["completion"] = "```cpp\nint main() {\n```"
    _, _, answer = service.post("/submit", body)
    assert not answer["accepted"]
    assert answer["extra"]["outcome"] == "compile_error"


ROW: dict[str, Any] = {
    "labels": {"programming_language": "python"},
    "test": {"code": "#<INSERT>\n\nassert double(2) == 4\nassert double(5) == 10\n"},
}


@pytest.mark.parametrize(
    ("code", "accepted"),
    [
        ("def double(x):\n    return 2 * x", True),
        ("def double(x):\n    return x", False),
        ("import os\nos._exit(0)", False),
        ("class A:\n    __eq__ = lambda *a: True\ndef double(x):\n    return A()", False),
        ("raise SystemExit", False),
        ("", False),
    ],
)
def test_submit_keeps_the_tests_from_the_answer(service, code, accepted) -> None:
    auto = {"dataset_type": "AutoEvalDataset", "language": None}
    status, _, answer = service.post("/submit", submitted(ROW, f"```python\n{code}\n```", **auto))
    assert (status, answer["accepted"]) == (200, accepted)


AUTO = {"dataset_type": "AutoEvalDataset"}


@pytest.mark.parametrize(
    ("row", "config"),
    [
        (None, {}),
        ([{"test": CASES}], {}),
        ({}, {}),
        ({"test": []}, {}),
        ({"test": "["}, {}),
        ({"test": [{"input": {}, "output": {}}]}, {}),
        ({"test": [{"input": {"stdin": "", "a.txt": ""}, "output": {"stdout": ""}}]}, {}),
        ({"test": CASES}, {"language": None}),
        ({"test": CASES}, {"language": "verilog"}),
        ({"test": CASES}, {"dataset_type": "HumanEvalDataset"}),
        ({"test": CASES}, {"custom_extract_logic": "x"}),
        ({"test": CASES}, {"run_timeout": 10_000}),
        ({"test": CASES}, {"extra": {"checker": "nothing"}}),
        ({"test": CASES}, {"extra": {"checker": {"name": "program", "source": "x"}}}),
        (ROW | {"labels": {"programming_language": "java"}}, AUTO),
        (ROW | {"test": {"code": "assert True", "asset": {"a.csv": ""}}}, AUTO),
        (ROW | {"test": {"code": "x = '#<INSERT>'"}}, AUTO),
        (ROW | {"test": {"code": "assert 1 ="}}, AUTO),
    ],
    ids=lambda value: str(value)[:60],
)
def test_submit_gives_no_verdict_on_what_it_cannot_judge(service, row, config) -> None:
    right = "```python\ndef double(x):\n    return 2 * x\n```"
    status, _, answer = service.post("/submit", submitted(row, right, **config))
    assert (status, answer["kind"]) == (400, "unsupported")


# ------------------------------------------------------------------------------- for verifiers


@pytest.mark.parametrize(
    ("code", "reward"), [("return 2 * x", 1.0), ("return x", 0.0), ("raise SystemExit", 0.0)]
)
def test_a_verifier_judges_on_the_service(service, code, reward, monkeypatch) -> None:
    monkeypatch.setenv("RLVR_SANDBOX_TOKEN", TOKEN)
    verifier = load_verifier(
        "python_code", sandbox="remote", sandbox_options={"url": service.url}, timeout=2
    )
    calls = {
        "style": "calls",
        "entry_point": "double",
        "cases": [{"args": [n], "expected": 2 * n} for n in range(3)],
    }
    text = f"```python\ndef double(x):\n    {code}\n```"
    assert verifier.verify(Task(id="1", prompt="", answer=calls), text).reward == reward
    stdio = {"style": "stdio", "cases": [{"input": f"{n}", "output": f"{2 * n}"} for n in range(9)]}
    text = f"```python\ndef double(x):\n    {code}\nprint(double(int(input())))\n```"
    assert verifier.verify(Task(id="2", prompt="", answer=stdio), text).reward == reward


SUITES: dict[str, dict[str, Any]] = {
    "plain": {"style": "asserts", "tests": "assert double(2) == 4\nassert double(5) == 10"},
    "loop": {"style": "asserts", "tests": "for n in (2, 5):\n    assert double(n) == 2 * n"},
    "check": {
        "style": "asserts",
        "entry_point": "double",
        "tests": "def check(f):\n    assert f(2) == 4\n    assert f(5) == 10",
    },
    "pytest": {
        "style": "pytest",
        "tests": "import pytest\nfrom solution import double\n"
        "@pytest.mark.parametrize('n', [2, 5])\n"
        "def test_double(n):\n    assert double(n) == pytest.approx(2 * n)\n",
    },
    "weak": {
        "style": "asserts",
        "integrity": "weak",
        "tests": "assert double(2) == 4\nassert double(5) == 10",
    },
    "at fault": {"style": "asserts", "tests": "import nothing_of_this_name\nassert double(2) == 4"},
    "odd text": {"style": "asserts", "tests": "assert double(2) == 4, '\ud800'"},
}
ANSWERS = {
    "right": "def double(x):\n    return 2 * x",
    "wrong": "def double(x):\n    return 4",
    "raises": "def double(x):\n    return x / 0",
    "compiles not": "def double(x:",
    "other": "def other(x): pass",
    "loops": "def double(x):\n    while True: pass",
    "leaves": "import os\nos._exit(0)",
    "equals everything": "class A(int):\n    def __eq__(self, other): return True\n"
    "def double(x): return A(0)",
    "odd text": "def double(x):\n    raise ValueError('\\ud800' * 9)",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_tests_in_python_give_the_same_verdict_there_as_here(service, answer, monkeypatch) -> None:
    monkeypatch.setenv("RLVR_SANDBOX_TOKEN", TOKEN)
    options = {"timeout": 0.3, "allow_weak_integrity": True}
    here = load_verifier("python_code", **options)
    there = load_verifier(
        "python_code", sandbox="remote", sandbox_options={"url": service.url}, **options
    )
    for name, suite in SUITES.items():
        task = Task(id=name, prompt="", answer=suite)
        text = f"```python\n{ANSWERS[answer]}\n```"
        home, away = here.verify(task, text), there.verify(task, text)
        assert (away.outcome, away.reward) == (home.outcome, home.reward), (name, home, away)
        assert away.metrics == home.metrics
        assert (away.reason == home.reason) or answer == "loops", (name, home, away)
        assert away.details.get("integrity") == home.details.get("integrity")
        if home.outcome is not Outcome.VERIFIER_ERROR and "isolation" in home.details:
            assert away.details["isolation"] == [*home.details["isolation"], "remote"]


def test_a_suite_keeps_to_the_services_ceiling_and_names_what_it_takes(service) -> None:
    suite = {"source": "def f(): pass", "style": "asserts", "tests": "assert f() is None"}
    assert service.post("/v1/suite", suite)[2]["passed"] == 1
    for more, status in (
        ({"tester_seconds": 10_000.0}, 400),
        ({"limits": {"cpu_seconds": 10_000.0}}, 400),
        ({"packages": ["os.path"]}, 422),
        ({"style": "doctest"}, 422),
        ({"unknown": 1}, 422),
    ):
        assert service.post("/v1/suite", suite | more)[0] == status, more


def test_a_verifier_without_its_service_gives_no_reward(monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    options = {"url": url, "patience": 0.5}
    verifier = load_verifier("python_code", sandbox="remote", sandbox_options=options, timeout=0.1)
    stdio = {"style": "stdio", "cases": [{"input": "1", "output": "1"}]}
    verdict = verifier.verify(Task(id="1", prompt="", answer=stdio), "```python\nprint(1)\n```")
    assert (verdict.reward, verdict.outcome) == (None, Outcome.VERIFIER_ERROR)
