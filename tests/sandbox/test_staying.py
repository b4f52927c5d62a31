"""Threads, zygotes and programs share one processor for milliseconds, and nobody is left there."""

from __future__ import annotations

import os
import threading
import time

import pytest

from rlvr.sandbox import Limits, LocalSandbox
from rlvr.sandbox.calling import Call
from rlvr.sandbox.session import CallFailed, run_tests
from rlvr.sandbox.staying import ANYWHERE, Stay

pytestmark = pytest.mark.sandbox

ALL = os.sched_getaffinity(0)
SOURCE = """
import os, subprocess, sys, threading, time

def seen():
    return sorted(os.sched_getaffinity(0))

def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seen()

def early(seconds):
    found = []
    thread = threading.Thread(target=lambda: found.append(spin(seconds)))
    thread.start()
    code = "import os, time; time.sleep(%r); print(len(os.sched_getaffinity(0)))" % seconds
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    thread.join()
    return found[0], int(child.stdout)

def throng():
    found = []
    def one():
        time.sleep(0.2)
        found.append(len(seen()))
    threads = [threading.Thread(target=one) for _ in range(50)]
    for thread in threads:
        thread.start()
        spin(0.0005)
    for thread in threads:
        thread.join()
    return found

def narrow():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    time.sleep(0.2)
    return seen()

def sleep(seconds):
    time.sleep(seconds)

def leave():
    os._exit(3)
"""
TESTS = f"def check(candidate):\n    assert candidate(0.0) == sorted({sorted(ALL)!r})"

many = pytest.mark.skipif(len(ALL) < 2, reason="needs two processors")


@pytest.fixture(scope="module")
def sandbox():
    with LocalSandbox(slots=1) as made:
        yield made


@pytest.fixture(autouse=True)
def _thread_is_free_again():
    yield
    assert os.sched_getaffinity(0) == ALL


def test_one_turn_in_sixteen_is_for_the_kernel_to_choose() -> None:
    places = []
    for _ in range(32):
        with Stay() as stay:
            places.append(stay.processor)
            if stay.processor != ANYWHERE:
                assert os.sched_getaffinity(0) == {stay.processor}
        assert os.sched_getaffinity(0) == ALL
    assert places.count(ANYWHERE) == 2
    assert Stay(wanted=False).processor == ANYWHERE


def test_a_program_always_sees_all_processors(sandbox) -> None:
    source = "import os\nprint(sorted(os.sched_getaffinity(0)))"
    for _ in range(20):
        assert sandbox.run(source).stdout == f"{sorted(ALL)}\n".encode()


@many
def test_a_session_uses_all_processors_once_it_has_run_for_a_moment(sandbox) -> None:
    for at_once in (True, False):
        with sandbox.session(SOURCE, at_once=at_once) as session:
            assert set(session.call("spin", [0.06])) == ALL
            thread, child = session.call("early", [0.3])
            assert (set(thread), child) == (ALL, len(ALL))
        with sandbox.session(SOURCE, at_once=at_once) as session:
            assert session.call("throng") == [len(ALL)] * 50


@many
def test_what_a_program_takes_from_itself_is_left_alone(sandbox) -> None:
    with sandbox.session(SOURCE, at_once=True) as session:
        assert set(session.call("spin", [0.06])) == ALL
        assert len(session.call("narrow")) == 1


@many
def test_a_zygote_goes_where_its_thread_is_and_is_free_where_it_is_free(sandbox) -> None:
    with sandbox.session(SOURCE):
        pass  # not at once: the thread does not stay
    (slot,) = sandbox._all
    (zygote,) = children(slot.pid)
    both = [zygote, *children(zygote)]
    assert all(os.sched_getaffinity(pid) == ALL for pid in both)
    for here in ALL:
        os.sched_setaffinity(0, {here})
        try:
            places = []
            for _ in range(2):  # one of them may be a free turn
                sandbox.run("print(1)")
                places += [os.sched_getaffinity(pid) for pid in both]
            assert places.count({here}) >= len(both)
        finally:
            os.sched_setaffinity(0, ALL)


def children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


@many
def test_a_thread_that_waits_for_long_is_let_go(sandbox) -> None:
    def waiting(call) -> set[int]:
        thread = threading.Thread(target=call)
        thread.start()
        time.sleep(0.3)
        found = os.sched_getaffinity(thread.native_id)
        thread.join()
        return found

    call = Call(name="sleep", args=[0.8], kwargs={})
    assert waiting(lambda: sandbox.run("import time; time.sleep(0.8)")) == ALL
    assert waiting(lambda: sandbox.call_all(SOURCE, [call])) == ALL


def test_no_thread_is_left_on_one_processor(sandbox) -> None:
    for _ in range(3):
        sandbox.run("import os; os._exit(1)")
        sandbox.run("while True: pass", limits=Limits(cpu_seconds=0.2, wall_seconds=1))
        assert list(sandbox.run_each("print(input())", [b"1", b"2"]))
        sandbox.call_all(SOURCE, [Call(name="leave", args=[], kwargs={})])
        for broken in ("def", "1 / 0", "import os; os._exit(0)"):
            with pytest.raises(CallFailed):
                sandbox.call_all(broken, [])
            with pytest.raises(CallFailed), sandbox.session(broken, at_once=True):
                pass
        with pytest.raises(KeyError), sandbox.session(SOURCE, at_once=True):
            raise KeyError
        assert os.sched_getaffinity(0) == ALL


def test_tests_elsewhere_leave_nobody_behind(sandbox) -> None:
    spec = {"style": "asserts", "tests": TESTS, "entry_point": "spin", "setup": "", "prefix": ""}
    with LocalSandbox(slots=1) as tester:
        for _ in range(3):
            with sandbox.session(SOURCE, at_once=True) as session:
                session.call("spin", [0.06])
                report, _, _ = run_tests(tester, session, spec, Limits())
            assert report is not None
            assert (report["passed"], report["total"]) == (1, 1)
        (slot,) = tester._all
        assert os.sched_getaffinity(slot.pid) == ALL
