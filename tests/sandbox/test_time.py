"""Time limits that mean the same on a slow machine and on a busy one."""

from __future__ import annotations

import pickle
import time

import pytest

from rlvr.sandbox import Limits, LocalSandbox, RunStatus, calibration, pool
from rlvr.sandbox.guest import queueing
from rlvr.sandbox.slot import MachineBusy

pytestmark = pytest.mark.sandbox

BURN = """
import time
while time.process_time() < {seconds}:
    pass
print("done")
"""


@pytest.fixture(scope="module")
def sandbox():
    with LocalSandbox(slots=1, calibrate=False) as made:
        assert made.run("1").ok
        yield made


@pytest.mark.slow
def test_waiting_for_a_processor_is_not_charged(sandbox, busy_machine) -> None:
    limits = Limits(cpu_seconds=5, wall_seconds=2.0)
    with busy_machine(per_processor=6):
        result = sandbox.run(BURN.format(seconds=0.5), limits=limits)
    assert result.ok, result
    assert result.wall_seconds > 2.0  # longer than its limit by the clock
    assert result.wall_seconds - result.waited_seconds < 2.0


@pytest.mark.slow
def test_a_sleeper_and_a_busy_loop_run_out_of_time_under_load_too(sandbox, busy_machine) -> None:
    with busy_machine(per_processor=4):
        started = time.monotonic()
        slept = sandbox.run("import time; time.sleep(60)", limits=Limits(wall_seconds=1.0))
        assert time.monotonic() - started < 20
        limits = Limits(cpu_seconds=0.3, wall_seconds=2.0)
        looped = sandbox.run("while True: pass", limits=limits)
    assert (slept.status, looped.status) == (RunStatus.TIMEOUT, RunStatus.TIMEOUT)
    assert slept.cpu_seconds < 0.3 <= looped.cpu_seconds


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("threads", "waited"),
    [
        ([[("1", SECOND // 4, SECOND * 3 // 4)]], 0.75),  # ready for all of a second, ran a quarter
        ([[("1", 0, 0)]], 0.0),  # asleep
        ([[(str(n), SECOND // 5, SECOND * 4 // 5) for n in range(10)]], 0.0),  # for each other
        ([[("1", 0, SECOND // 10), ("2", 0, SECOND // 5)]], 0.2),  # both at once
        ([[("1", 0, SECOND // 2)], [("2", 0, SECOND // 2)]], 0.5),  # the first may have run on
        ([[("1", SECOND // 2, 0)], [("1", SECOND // 2, SECOND)]], 1.0),  # told late
        ([[("1", SECOND // 2, 2 * SECOND)]], 0.5),  # no more than nobody ran
        ([[]], 0.0),  # nothing to be seen
    ],
)
def test_the_wait_of_a_program(monkeypatch, threads, waited) -> None:
    now = [100.0]
    monkeypatch.setattr(queueing.time, "monotonic", lambda: now[0])
    waits = queueing.Waits(1)
    for seen in threads:
        now[0] += 1.0
        monkeypatch.setattr(queueing, "_threads", lambda pids, seen=seen: seen)
        waits.update([1])
    assert waits.seconds == pytest.approx(waited)


@pytest.mark.parametrize(("births", "waited"), [(0, 1.0), (1, 0.5), (1000, 0.5)])
def test_what_was_born_and_ended_unseen_may_have_run_all_the_time(
    monkeypatch, births, waited
) -> None:
    now, born = [100.0], [1]
    monkeypatch.setattr(queueing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(queueing, "_last_born", lambda: born[0])
    monkeypatch.setattr(queueing.os, "getpid", lambda: 1)
    waits = queueing.Waits(born[0] + 1)
    for interval in (1, 2):
        now[0] += 1.0
        born[0] += 1 if interval == 1 else births
        seen = [("1", 0, interval * SECOND // 2)]
        monkeypatch.setattr(queueing, "_threads", lambda pids, seen=seen: seen)
        waits.update([1])
    assert waits.seconds == pytest.approx(waited)


def test_who_once_waited_by_choice_gains_nothing_more(monkeypatch) -> None:
    """A child could be nice, collect waits, and be gone when it was looked at in the end."""
    now, chosen = [100.0], iter([False, True, False])
    monkeypatch.setattr(queueing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(queueing, "waits_by_choice", lambda pids: next(chosen))
    waits = queueing.Waits(1)
    for interval in (1, 2, 3, 4):
        now[0] += 1.0
        seen = [("1", 0, interval * SECOND // 2)]
        monkeypatch.setattr(queueing, "_threads", lambda pids, seen=seen: seen)
        waits.update([1])
    assert waits.seconds == pytest.approx(0.5)


@pytest.mark.slow
def test_a_machine_too_busy_to_tell_is_no_time_out(sandbox, busy_machine) -> None:
    limits = Limits(cpu_seconds=5, wall_seconds=0.3)
    with busy_machine(per_processor=12), pytest.raises(MachineBusy, match="too busy"):
        sandbox.run(BURN.format(seconds=0.28), limits=limits)
    assert sandbox.run("print(1)").ok


NICE_THREAD = """
import os, threading, time
def work():
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    while True:
        pass
threading.Thread(target=work, daemon=True).start()
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.nice(19)\nwhile True: pass",
        "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nwhile True: pass",
        NICE_THREAD,
    ],
    ids=["nice", "affinity", "nice thread"],
)
def test_no_program_makes_the_machine_look_too_busy(sandbox, busy_machine, source) -> None:
    with busy_machine(per_processor=12):
        result = sandbox.run(source, limits=Limits(cpu_seconds=5, wall_seconds=0.3))
    assert result.status is RunStatus.TIMEOUT


def test_a_slow_machine_gives_more_time(monkeypatch) -> None:
    monkeypatch.setattr(pool, "slowness", lambda: 3.0)
    limits = Limits(cpu_seconds=0.3, wall_seconds=0.6)
    burn = BURN.format(seconds=0.6)
    with LocalSandbox(slots=1) as slow, LocalSandbox(slots=1, calibrate=False) as as_stated:
        result = slow.run(burn, limits=limits)
        assert (result.status, result.slowness) == (RunStatus.OK, 3.0)
        result = as_stated.run(burn, limits=limits)
        assert (result.status, result.slowness) == (RunStatus.TIMEOUT, 1.0)
        assert pickle.loads(pickle.dumps(as_stated))._calibrate is False


def test_the_factor_is_measured_within_its_bounds(monkeypatch) -> None:
    for seconds, factor in (
        (calibration.REFERENCE_SECONDS / 3, 1.0),
        (calibration.REFERENCE_SECONDS * 2, 2.0),
        (calibration.REFERENCE_SECONDS * 50, 4.0),
    ):
        calibration.slowness.cache_clear()
        monkeypatch.setattr(calibration, "_try", lambda seconds=seconds: seconds)
        assert calibration.slowness() == factor
    calibration.slowness.cache_clear()
    monkeypatch.undo()
    started = time.thread_time()
    assert 1.0 <= calibration.slowness() <= 4.0
    assert time.thread_time() - started < 1.0
    calibration.slowness.cache_clear()
