"""The background thread: order, errors of its own, and an end that does not wait for the work."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from rlvr.background import Background, Stopped, wait_for


def test_calls_run_in_order_in_one_thread() -> None:
    seen: list[tuple[int, int]] = []
    with Background("test") as background:
        futures = [
            background.submit(lambda i=i: seen.append((i, threading.get_ident())) or i)  # type: ignore[misc]
            for i in range(20)
        ]
        assert [wait_for(future) for future in futures] == list(range(20))
    assert [i for i, _ in seen] == list(range(20))
    assert len({thread for _, thread in seen}) == 1
    assert seen[0][1] != threading.get_ident()


@pytest.mark.parametrize("error", [ValueError("mine"), TimeoutError("mine"), KeyboardInterrupt()])
def test_an_error_is_its_own_and_ends_what_comes_after(error: BaseException) -> None:
    ran = []

    def fail() -> None:
        raise error

    with Background("test") as background:
        first = background.submit(fail)
        second = background.submit(lambda: ran.append(1))
        for future in (first, second):
            with pytest.raises(type(error)) as caught:
                wait_for(future)
            assert caught.value is error
    assert not ran


def test_closing_stops_a_call_and_lets_it_clean_up() -> None:
    began, cleaned = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        try:
            while True:
                time.sleep(0.01)
        finally:
            cleaned.set()

    background = Background("test")
    running, waiting = background.submit(work), background.submit(lambda: 1)
    began.wait()
    started = time.monotonic()
    background.close()
    background.close()
    assert time.monotonic() - started < 2.0
    assert cleaned.is_set()
    assert isinstance(running.exception(timeout=1), Stopped)
    assert not waiting.done()


def test_closing_an_idle_or_an_unused_one_is_immediate() -> None:
    started = time.monotonic()
    Background("unused").close()
    with Background("idle") as background:
        assert wait_for(background.submit(lambda: 3)) == 3
    assert time.monotonic() - started < 1.0


def test_a_stopped_call_lets_go_of_one_that_it_waits_for() -> None:
    """A round of several parts: the producer waits for its own verifying thread."""
    inner_stopped = threading.Event()

    def inner() -> None:
        try:
            while True:
                time.sleep(0.01)
        except Stopped:
            inner_stopped.set()
            raise

    def outer() -> None:
        with Background("inner") as background:
            wait_for(background.submit(inner))

    background = Background("outer")
    background.submit(outer)
    time.sleep(0.2)
    background.close()
    assert inner_stopped.wait(timeout=5)


def test_a_call_that_never_comes_back_does_not_keep_the_interpreter() -> None:
    program = (
        "import time; from rlvr.background import Background\n"
        "Background('left').submit(lambda: time.sleep(60))\n"
        "time.sleep(0.2); print('end')"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr
    assert time.monotonic() - started < 20
