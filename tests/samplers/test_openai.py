"""The openai sampler against a faulty server on loopback, and against a real vLLM server."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from sampler_toys import rescored, sharpened_policy

from rlvr.errors import ConfigError, SamplerError
from rlvr.policy import save_policy
from rlvr.protocols import Sampler
from rlvr.registry import samplers
from rlvr.samplers import openai
from rlvr.samplers.hf import HFSampler
from rlvr.samplers.openai import OpenAISampler
from rlvr.types import FinishReason, SamplingParams

Reply = tuple[int, str | bytes] | tuple[int, str | bytes, dict[str, str]]


class Server:
    """A server on loopback whose replies a test writes, and that remembers what it was sent."""

    def __init__(self, reply: Callable[[int, dict[str, Any]], Reply]) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.at_once = self.most_at_once = 0
        lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    index = len(outer.requests)
                    outer.requests.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.paths.append(self.path)
                    outer.at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer.at_once)
                status, content, *extra = reply(index, body)
                with lock:
                    outer.at_once -= 1
                data = content if isinstance(content, bytes) else content.encode()
                self.send_response(status)
                for name, value in (extra[0] if extra else {}).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers, and stops them after the test."""
    started: list[Server] = []

    def start(reply: Callable[[int, dict[str, Any]], Reply]) -> Server:
        started.append(Server(reply))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "_FIRST_PAUSE", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def chat(text: str | None, finish_reason: str | None = "stop", **extra: Any) -> Reply:
    choice = {"message": {"content": text}, "finish_reason": finish_reason, **extra}
    return 200, json.dumps({"choices": [choice]})


def ask(url: str, prompts: list[Any] | None = None, **options: Any) -> list[Any]:
    prompts = ["q"] if prompts is None else prompts
    sampler = OpenAISampler(base_url=url, model="m", **options)
    return sampler.sample(prompts, SamplingParams(max_new_tokens=5), seeds=range(len(prompts)))


def test_answers_come_in_the_order_of_the_prompts(serve: Callable[..., Server]) -> None:
    def reply(index: int, body: dict[str, Any]) -> Reply:
        question = body["messages"][0]["content"]
        time.sleep(0.05 if question == "0" else 0)
        return chat("answer " + question)

    server = serve(reply)
    completions = ask(server.url, [str(i) for i in range(20)], concurrency=4)
    assert [c.text for c in completions] == [f"answer {i}" for i in range(20)]
    assert 1 < server.most_at_once <= 4


def test_the_request_says_what_was_asked_for(serve: Callable[..., Server]) -> None:
    server = serve(lambda index, body: chat("x"))
    sampler = samplers.create("openai", {"base_url": server.url + "/", "model": "m"})
    assert isinstance(sampler, Sampler)
    params = SamplingParams(max_new_tokens=7, temperature=0.5, top_p=0.9, top_k=3, stop=("\n",))
    messages = [{"role": "user", "content": "hi"}]
    sampler.sample([messages], params, seeds=[2**63 + 4])
    assert server.paths == ["/v1/chat/completions"]
    assert server.requests == [
        {
            "model": "m",
            "max_tokens": 7,
            "temperature": 0.5,
            "seed": 4,
            "messages": messages,
            "top_p": 0.9,
            "top_k": 3,
            "stop": ["\n"],
        }
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("content_filter", FinishReason.ABORT),
        (None, FinishReason.ABORT),
    ],
)
def test_finish_reasons_are_mapped(
    serve: Callable[..., Server], given: str | None, expected: FinishReason
) -> None:
    (completion,) = ask(serve(lambda index, body: chat(None, given)).url)
    assert (completion.finish_reason, completion.text) == (expected, "")


def test_token_ids_and_logprobs_are_taken_where_they_are_given(
    serve: Callable[..., Server],
) -> None:
    content = {"content": [{"logprob": -0.5}, {"logprob": -1.5}]}
    server = serve(
        lambda index, body: chat("ab", logprobs=content, token_ids=[4, 5] if index == 0 else None)
    )
    (both,) = ask(server.url, logprobs=True)
    (neither,) = ask(server.url, logprobs=True)
    assert (both.token_ids, both.logprobs) == ((4, 5), (-0.5, -1.5))
    assert (neither.token_ids, neither.logprobs) == ((), ())
    assert server.requests[0]["logprobs"] is True


FAULTS: dict[str, Reply] = {
    "too many requests": (429, '{"error": {"message": "slow down"}}'),
    "an asked-for pause": (429, "", {"retry-after": "0"}),
    "server error": (500, "<html>oops</html>"),
    "unavailable": (503, ""),
    "not JSON": (200, '{"choices": [{"mess'),
    "not text": (200, b"\xff\xfe\x00"),
    "JSON of another shape": (200, '{"choices": []}'),
    "a list": (200, "[1, 2]"),
    "null": (200, "null"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_tried_again(serve: Callable[..., Server], fault: str) -> None:
    server = serve(lambda index, body: FAULTS[fault] if index < 2 else chat("fine"))
    assert ask(server.url)[0].text == "fine"
    assert len(server.requests) == 3


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_pass_ends_in_an_error_that_names_the_url(
    serve: Callable[..., Server], fault: str
) -> None:
    server = serve(lambda index, body: FAULTS[fault])
    with pytest.raises(SamplerError, match=f"{server.url}/chat/completions failed 3 times; last: "):
        ask(server.url, retries=2)
    assert len(server.requests) == 3


def test_the_server_s_pause_is_kept(serve: Callable[..., Server]) -> None:
    server = serve(
        lambda index, body: (429, "", {"retry-after": "1"}) if index == 0 else chat("fine")
    )
    begin = time.monotonic()
    ask(server.url)
    assert time.monotonic() - begin >= 1


@pytest.mark.parametrize(
    ("status", "hint"), [(400, "max_tokens"), (401, "OPENAI_API_KEY is not set"), (404, "/v1")]
)
def test_a_refused_request_fails_at_once_with_the_server_s_words(
    serve: Callable[..., Server], status: int, hint: str
) -> None:
    server = serve(lambda index, body: (status, '{"error": {"message": "bad max_tokens"}}'))
    with pytest.raises(SamplerError, match="bad max_tokens") as caught:
        ask(server.url, ["a"] * 50, concurrency=2)
    assert hint in str(caught.value)
    assert len(server.requests) <= 4, "the rest is given up"


def test_a_slow_server_meets_the_deadline(serve: Callable[..., Server]) -> None:
    released = threading.Event()

    def reply(index: int, body: dict[str, Any]) -> Reply:
        released.wait(20)
        return chat("late")

    server = serve(reply)
    begin = time.monotonic()
    with pytest.raises(SamplerError, match=r"no completion within 0\.3 s"):
        ask(server.url, timeout=0.3)
    released.set()
    assert time.monotonic() - begin < 5


def test_a_server_that_drips_meets_the_deadline_as_well() -> None:
    """Each byte comes in time, the whole never does."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while not stop.wait(0.05):
            try:
                connection.sendall(b" ")
            except OSError:
                break
        connection.close()

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    with pytest.raises(SamplerError, match="no completion within"):
        ask(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout=0.5)
    stop.set()
    thread.join(5)
    listener.close()


def test_a_refused_connection_names_the_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    with pytest.raises(SamplerError, match=f"{url}.*ConnectError.*Is the server up"):
        ask(url, retries=1)


def test_the_key_is_sent_and_never_shown(
    serve: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    server = serve(lambda index, body: (401, '{"error": {"message": "no"}}'))
    with pytest.raises(SamplerError) as caught:
        ask(server.url)
    assert server.headers[0]["Authorization"] == "Bearer sk-very-secret"
    assert "OPENAI_API_KEY is set" in str(caught.value)
    assert "secret" not in str(caught.value) + caplog.text


def test_it_works_inside_a_running_event_loop(serve: Callable[..., Server]) -> None:
    server = serve(lambda index, body: chat("fine"))

    async def notebook() -> list[Any]:
        return ask(server.url)

    assert asyncio.run(notebook())[0].text == "fine"


def test_messages_do_not_fit_the_text_endpoint(serve: Callable[..., Server]) -> None:
    server = serve(
        lambda index, body: (200, '{"choices": [{"text": "t", "finish_reason": "stop"}]}')
    )
    assert ask(server.url, endpoint="completions")[0].text == "t"
    assert server.requests[0]["prompt"] == "q"
    with pytest.raises(ConfigError, match="use 'chat'"):
        ask(server.url, [[{"role": "user", "content": "q"}]], endpoint="completions")


@pytest.mark.parametrize(
    "options",
    [{"base_url": "localhost:80"}, {"endpoint": "x"}, {"concurrency": 0}, {"timeout": 0}],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        OpenAISampler(**({"base_url": "http://h/v1", "model": "m"} | options))


def test_no_prompts_need_no_server() -> None:
    assert ask("http://127.0.0.1:9/v1", []) == []


@pytest.fixture(scope="module")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """vLLM's own server with the tiny policy, on loopback.

    It is started as a module: the `vllm` command of the CPU distribution looks for a distribution
    named `vllm` and fails.
    """
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    folder = tmp_path_factory.mktemp("served")
    policy = sharpened_policy()
    policy.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}="
    save_policy(policy, folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    log = (folder / "server.log").open("w")
    options = ["--model", str(folder), "--served-model-name", "tiny"]
    options += ["--dtype", "float32", "--enforce-eager"]
    options += ["--host", "127.0.0.1", "--port", str(port)]
    options += ["--logprobs-mode", "processed_logprobs"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(process, url, folder / "server.log")
        yield f"{url}/v1"
    finally:
        _stop(process)
        log.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server with its workers, which are in its process group."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, kind)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(280):
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    pytest.fail("the server did not start: " + log.read_text()[-3000:])


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_real_server_answers_as_hf_does(vllm_server: str) -> None:
    policy = sharpened_policy()
    prompts = ["1+1=", "what is 12+34=", "a", "zebra crossing", "9"]
    greedy = SamplingParams(max_new_tokens=16, temperature=0.0)
    expected = HFSampler(policy=policy).sample(prompts, greedy, seeds=range(5))
    sampler = OpenAISampler(
        base_url=vllm_server, model="tiny", endpoint="completions", logprobs=True
    )
    for ours, theirs in zip(sampler.sample(prompts, greedy, seeds=range(5)), expected, strict=True):
        assert ours.text == theirs.text
        assert ours.token_ids == theirs.token_ids
        assert ours.prompt_token_ids == theirs.prompt_token_ids
        assert ours.finish_reason == theirs.finish_reason
        assert np.allclose(ours.logprobs, theirs.logprobs, atol=1e-4)

    chat_sampler = OpenAISampler(base_url=vllm_server, model="tiny", logprobs=True)
    params = SamplingParams(max_new_tokens=12, temperature=0.8)
    first = chat_sampler.sample(["1+1"] * 6, params, seeds=range(6))
    assert [c.text for c in chat_sampler.sample(["1+1"] * 6, params, seeds=range(6))] == [
        c.text for c in first
    ]
    assert len({c.text for c in first}) > 3
    for completion in first:
        assert policy.tokenizer.decode(completion.prompt_token_ids) == "1+1="
        assert np.allclose(completion.logprobs, rescored(policy, completion, 0.8), atol=1e-4)

    with pytest.raises(SamplerError, match="HTTP 404"):
        OpenAISampler(base_url=vllm_server, model="other").sample(["a"], params, seeds=[0])
