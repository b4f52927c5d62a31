"""The `openai` sampler: any server that speaks OpenAI's HTTP interface, for evaluation.

Requests run side by side up to a bound. What may pass (429, 5xx, a broken connection, an answer
that is not JSON) is tried again with growing pauses until the completion's deadline; what will not
(other 4xx) fails at once. The API key comes from `OPENAI_API_KEY`, goes into one header, and
appears in no message.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import httpx

from rlvr.errors import ConfigError, SamplerError
from rlvr.seeds import derive_seed
from rlvr.types import Completion, FinishReason, Prompt, SamplingParams

T = TypeVar("T")

_KEY_VARIABLE = "OPENAI_API_KEY"
_RETRIED = {408, 409, 425, 429}
_FIRST_PAUSE = 0.5  # seconds; doubles with each attempt
_LONGEST_PAUSE = 30.0
_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}


class OpenAISampler:
    """Any OpenAI-compatible server, over HTTP (for evaluation; its weights are its own).

    Args:
        base_url: up to and without `/chat/completions`, such as `http://localhost:8000/v1`.
        model: the name that the server knows the model by.
        endpoint: `chat` sends messages (a text prompt becomes one user message); `completions`
            sends the text as it stands.
        concurrency: at most this many requests at a time.
        timeout: seconds for one completion, its retries and pauses included.
        retries: at most this many further attempts a completion.
        logprobs: ask for token ids and log-probabilities (vLLM's servers give both).

    Raises:
        ConfigError: an option is wrong.
    """

    name = "openai"

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        endpoint: Literal["chat", "completions"] = "chat",
        concurrency: int = 32,
        timeout: float = 600.0,
        retries: int = 6,
        logprobs: bool = False,
    ) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ConfigError(f"base_url is {base_url!r}: expected http://... or https://...")
        if endpoint not in ("chat", "completions"):
            raise ConfigError(f"endpoint is {endpoint!r}: expected 'chat' or 'completions'")
        if concurrency < 1 or retries < 0 or not timeout > 0:
            raise ConfigError(
                f"concurrency is {concurrency}, retries {retries}, timeout {timeout}: expected at "
                "least 1, at least 0, above 0"
            )
        path = "/chat/completions" if endpoint == "chat" else "/completions"
        self._url = base_url.rstrip("/") + path
        self._model = model
        self._chat = endpoint == "chat"
        self._concurrency = concurrency
        self._timeout = timeout
        self._retries = retries
        self._logprobs = logprobs

    def sample(
        self, prompts: Sequence[Prompt], params: SamplingParams, *, seeds: Sequence[int]
    ) -> list[Completion]:
        """One completion for each prompt, in order.

        Raises:
            ConfigError: chat messages for the `completions` endpoint.
            SamplerError: the server refused a request, or did not answer in time; names the URL.
        """
        if len(prompts) != len(seeds):
            raise ValueError(
                f"{len(prompts)} prompts with {len(seeds)} seeds: expected equally many"
            )
        bodies = [
            self._body(prompt, params, seed) for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return _run(self._complete_all(bodies))

    def _body(self, prompt: Prompt, params: SamplingParams, seed: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "max_tokens": params.max_new_tokens,
            "temperature": params.temperature,
            "seed": seed & 0x7FFFFFFFFFFFFFFF,
        }
        if self._chat:
            is_text = isinstance(prompt, str)
            body["messages"] = (
                [{"role": "user", "content": prompt}] if is_text else [dict(m) for m in prompt]  # type: ignore[arg-type]
            )
        elif isinstance(prompt, str):
            body["prompt"] = prompt
        else:
            raise ConfigError(
                "the prompt is chat messages, and endpoint 'completions' takes text: use 'chat'"
            )
        # Only what differs from the servers' own defaults: not all servers know every parameter.
        if params.top_p != 1:
            body["top_p"] = params.top_p
        if params.top_k:
            body["top_k"] = params.top_k
        if params.stop:
            body["stop"] = list(params.stop)
        if self._logprobs:
            body |= {"logprobs": True if self._chat else 1, "return_token_ids": True}
        return body

    async def _complete_all(self, bodies: list[dict[str, Any]]) -> list[Completion]:
        key = os.environ.get(_KEY_VARIABLE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=self._concurrency)
        slots = asyncio.Semaphore(self._concurrency)
        async with httpx.AsyncClient(headers=headers, limits=limits, timeout=None) as client:

            async def bounded(body: dict[str, Any]) -> Completion:
                async with slots:
                    return await self._complete(client, body)

            tasks = [asyncio.create_task(bounded(body)) for body in bodies]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:  # after a failure the others are not worth waiting for
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _complete(self, client: httpx.AsyncClient, body: dict[str, Any]) -> Completion:
        """One completion, tried until it is there, refused, or out of attempts or time."""
        problem = "no answer"
        try:
            async with asyncio.timeout(self._timeout):
                for attempt in range(self._retries + 1):
                    pause = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE)
                    pause *= 0.5 + derive_seed(body["seed"], attempt) / 2**64  # half to all of it
                    try:
                        response = await client.post(self._url, json=body)
                        if response.is_success:
                            return self._completion(response.json())
                        problem = f"HTTP {response.status_code}: {_server_message(response)}"
                        if response.status_code < 500 and response.status_code not in _RETRIED:
                            raise SamplerError(self._refusal(response.status_code, problem))
                        pause = max(pause, _retry_after(response))
                    except httpx.TransportError as error:
                        problem = f"{type(error).__name__}: {error}"
                    except (ValueError, LookupError, TypeError, AttributeError) as error:
                        problem = (
                            f"the answer is not a completion ({type(error).__name__}: {error})"
                        )
                    if attempt < self._retries:
                        await asyncio.sleep(pause)
        except TimeoutError as error:
            raise SamplerError(
                f"{self._url} gave no completion within {self._timeout:g} s; last: {problem}"
            ) from error
        raise SamplerError(
            f"{self._url} failed {self._retries + 1} times; last: {problem}. Is the server up?"
        )

    def _refusal(self, status: int, problem: str) -> str:
        hint = ""
        if status in (401, 403):
            state = "set" if os.environ.get(_KEY_VARIABLE) else "not set"
            hint = f" (the environment variable {_KEY_VARIABLE} is {state})"
        elif status == 404:
            hint = f" (base_url should end where {self._url!r} goes on, often in /v1)"
        return f"{self._url} refused the request, {problem}{hint}"

    def _completion(self, answer: Any) -> Completion:
        """Read an answer; raises LookupError, TypeError or AttributeError where it is not one."""
        choice = answer["choices"][0]
        text = choice["message"]["content"] if self._chat else choice["text"]
        token_ids = tuple(int(token) for token in choice.get("token_ids") or ())
        logprobs = _token_logprobs(choice.get("logprobs")) if token_ids else ()
        prompt_ids = choice.get("prompt_token_ids") or answer.get("prompt_token_ids") or ()
        return Completion(
            text=text or "",
            token_ids=token_ids,
            logprobs=logprobs if len(logprobs) == len(token_ids) else (),
            prompt_token_ids=tuple(int(token) for token in prompt_ids),
            finish_reason=_FINISH.get(choice.get("finish_reason"), FinishReason.ABORT),
        )

    def close(self) -> None:
        """Nothing is held between calls."""


def _token_logprobs(given: Any) -> tuple[float, ...]:
    if not given:
        return ()
    if given.get("content") is not None:  # chat
        return tuple(float(position["logprob"]) for position in given["content"])
    return tuple(float(logprob) for logprob in given.get("token_logprobs") or ())


def _server_message(response: httpx.Response) -> str:
    """What the server says is wrong, on one line."""
    try:
        error = response.json().get("error")
        message = error["message"] if isinstance(error, dict) else error or response.text
    except (ValueError, LookupError, AttributeError):
        message = response.text
    return " ".join(str(message).split())[:300] or response.reason_phrase


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait; 0 where it does not say so in seconds."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else 0.0


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end; in a thread of its own where this one has an event loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()
