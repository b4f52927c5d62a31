"""Requests to a service of the sandbox that are tried until they are answered.

What may pass (no connection, a connection that breaks, 429, 5xx) is tried again with growing
pauses, at another of the services where there are several, until the time is up.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlvr.errors import ConfigError, SandboxError
from rlvr.sandbox.service.connections import Answer, Connections, NoAnswer

TOKEN_VARIABLE = "RLVR_SANDBOX_TOKEN"
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_FIRST_PAUSE = 0.1  # seconds; doubles with each attempt
_LONGEST_PAUSE = 5.0


class Asking:
    """One or several services that do the same; safe from any thread, and as good after a fork.

    Args:
        urls: of the services.
        token: what they ask for.
    """

    def __init__(self, urls: tuple[str, ...], token: str | None) -> None:
        self.urls = urls
        self.token = token
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._connections: dict[str, Connections] = {}

    def close(self) -> None:
        """End the connections; the next request makes new ones."""
        with self._lock:
            connections, self._connections = self._connections, {}
        if self._process == os.getpid():
            for one in connections.values():
                one.close()

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float
    ) -> dict[str, Any]:
        """One request, tried until it is answered, refused, or out of time.

        Args:
            method: of HTTP.
            path: what is asked.
            body: sent as JSON.
            seconds: for all attempts.

        Raises:
            SandboxError: it is refused, or there was no answer in time.
        """
        until = time.monotonic() + seconds
        problem = "no answer"
        pause = _FIRST_PAUSE
        url = ""
        while (left := until - time.monotonic()) > 0:
            url = random.choice([one for one in self.urls if one != url] or self.urls)
            content = None
            if body is not None:
                content = json.dumps({**body, "deadline_seconds": left}).encode()
            try:
                answer = self._client(url).ask(method, path, content, left)
            except NoAnswer as error:
                problem = str(error)
                asked = 0.0
            else:
                if answer.status == 200:
                    return _content(url + path, answer)
                problem = f"HTTP {answer.status}: {_said(answer)}"
                if answer.status not in _RETRIED:
                    hint = self._hint(answer)
                    raise SandboxError(f"{url}{path} refused the request, {problem}{hint}")
                asked = _retry_after(answer)
            wait = max(asked, pause * random.uniform(0.5, 1.0))
            time.sleep(max(0.0, min(wait, until - time.monotonic())))
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise SandboxError(f"{url}{path} gave no result within {seconds:g} s; last: {problem}")

    def _client(self, url: str) -> Connections:
        """The connections of this process; those from before a fork belong to the parent."""
        if self._process != os.getpid():
            self._reset()
        with self._lock:
            if url not in self._connections:
                headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
                self._connections[url] = Connections(url, headers)
            return self._connections[url]

    def _hint(self, answer: Answer) -> str:
        if answer.status in (401, 403):
            state = "was sent" if self.token else f"was sent ({TOKEN_VARIABLE} is not set)"
            return f" ({'a' if self.token else 'no'} token {state})"
        if answer.status == 404:
            return " (url should be the service's, without a path)"
        return ""


def read_token(token: str | None, token_file: str | None) -> str | None:
    """The token that was given, that a file holds, or that the environment has.

    Raises:
        ConfigError: the file cannot be read, or the token is not one word of ASCII.
    """
    where = "the token"
    if token is None and token_file is not None:
        where = f"the token in {token_file}"
        try:
            token = Path(token_file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read a token from {token_file}: {error}") from error
        if not token:
            raise ConfigError(f"{token_file} holds no token")
    elif token is None:
        where = f"the token in {TOKEN_VARIABLE}"
        token = os.environ.get(TOKEN_VARIABLE) or None
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError(f"{where} is not one word of printable ASCII")
    return token or None


def _content(url: str, answer: Answer) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise SandboxError(f"{url} gave what is not JSON: is it a service of rlvr?") from error
    if not isinstance(found, dict):
        raise SandboxError(f"{url} gave no JSON object: is it a service of rlvr?")
    return found


def _said(answer: Answer) -> str:
    """What the service says is wrong, on one line."""
    try:
        text = str(json.loads(answer.body)["detail"])
    except (ValueError, LookupError, TypeError, RecursionError):
        text = answer.body[:1000].decode("utf-8", "replace")
    return " ".join(text.split())[:300] or answer.reason


def _retry_after(answer: Answer) -> float:
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isdigit() else 0.0


__all__ = ["TOKEN_VARIABLE", "Asking", "read_token"]
