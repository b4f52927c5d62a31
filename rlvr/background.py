"""Work in one background thread: in order, with its own errors, and ended at once when asked to.

Unlike `concurrent.futures.ThreadPoolExecutor`, closing stops the call that runs (a token loop, a
verification), so that Ctrl-C and a failure elsewhere do not wait for minutes of work that nobody
will use; and what comes after a call that failed is not run.
"""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

Call = tuple[Future[Any], Callable[[], Any]]

_WAKE_SECONDS = 0.5
_ASK_SECONDS = 2.0
_CLOSE_SECONDS = 10.0


class Stopped(BaseException):
    """Raised in the background thread by `Background.close`, at its next step of Python."""


class Background:
    """Runs calls one after the other in a daemon thread. Use as a context manager, or `close` it.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._closing = threading.Event()
        self._error: BaseException | None = None

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Queue a call. Where an earlier one failed, this one fails with the same error."""
        future: Future[T] = Future()
        self._calls.put((future, call))
        if self._thread.ident is None:
            self._thread.start()
        return future

    def close(self) -> None:
        """Drop what waits and stop what runs. May be called twice.

        A call that is inside foreign code which does not come back to Python for some seconds is
        left behind; the thread does not keep the interpreter alive.
        """
        self._closing.set()
        self._calls.put(None)  # wakes a thread that has nothing to do
        deadline = time.monotonic() + _CLOSE_SECONDS
        while self._thread.is_alive() and time.monotonic() < deadline:
            identity = ctypes.c_ulong(self._thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, ctypes.py_object(Stopped))
            self._thread.join(_ASK_SECONDS)

    def __enter__(self) -> Background:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _work(self) -> None:
        try:
            while (call := self._calls.get()) is not None and not self._closing.is_set():
                self._run(*call)
        except Stopped:
            return

    def _run(self, future: Future[Any], call: Callable[[], Any]) -> None:
        if self._error is not None:
            future.set_exception(self._error)
            return
        try:
            result = call()
        except BaseException as error:
            self._error = error
            future.set_exception(error)
        else:
            future.set_result(result)


def wait_for(future: Future[T]) -> T:
    """The result of a call, waited for in short spells, so that `Background.close` gets through.

    Raises:
        BaseException: whatever the call raised.
    """
    while not future.done():
        try:
            future.exception(timeout=_WAKE_SECONDS)
        except TimeoutError:
            continue
    return future.result()
