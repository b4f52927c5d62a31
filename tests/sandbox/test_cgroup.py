"""Control groups: what the kernel holds and tells, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlvr.sandbox import Limits, LocalSandbox, RunStatus
from rlvr.sandbox.guest import cgroup, owner

pytestmark = pytest.mark.sandbox

MIB = 1 << 20


@pytest.fixture(scope="module")
def sandbox():
    with LocalSandbox(slots=1) as made:
        if "memory cgroup" not in made.isolation:
            pytest.skip("control groups cannot be written here")
        yield made


def groups() -> set[str]:
    """All folders of ours in the hierarchies of this process."""
    found = set()
    for _, folder in cgroup._own_folders():
        for parent in (folder, os.path.dirname(folder)):
            if os.path.isdir(parent):
                found |= {e.path for e in os.scandir(parent) if e.name.startswith("rlvr-slot-")}
    return found


def gone(paths: set[str]) -> bool:
    deadline = time.monotonic() + 10
    while paths & groups() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not paths & groups()


def test_the_peak_is_of_this_program_and_of_all_its_processes(sandbox) -> None:
    source = """
import os
full, write = os.pipe()
go, wait = os.pipe()
for _ in range(2):
    if os.fork() == 0:
        os.close(wait)
        data = bytearray(40 << 20)
        os.write(write, b"x")
        os.read(go, 1)
        os._exit(0)
os.read(full, 1); os.read(full, 1)
os.close(wait)
os.wait(); os.wait()
"""
    assert 75 * MIB < sandbox.run(source).peak_memory_bytes < 110 * MIB
    assert sandbox.run("print(1)").peak_memory_bytes < 8 * MIB
    with_file = sandbox.run("open('x', 'wb').write(bytes(20 << 20))")
    assert 19 * MIB < with_file.peak_memory_bytes < 30 * MIB


def test_the_kernel_ends_a_tree_at_once_that_is_over_its_memory(sandbox) -> None:
    """The polled limit lets a tree grow for 50 ms; this one never gets over."""
    source = """
import os, time
for _ in range(8):
    if os.fork() == 0:
        data = bytearray(60 << 20)
        time.sleep(10)
        os._exit(0)
time.sleep(10)
"""
    limit = 128 * MIB
    result = sandbox.run(source, limits=Limits(memory_bytes=limit))
    assert result.status is RunStatus.MEMORY_LIMIT
    assert result.peak_memory_bytes <= limit + cgroup._SLACK
    assert sandbox.run("print(1)").ok


def test_a_child_that_the_kernel_ended_ends_the_program(sandbox) -> None:
    source = """
import os, time
if os.fork() == 0:
    os.fork()
    data = bytearray(100 << 20)
    time.sleep(5)
    os._exit(0)
os.wait()
print("went on")
"""
    result = sandbox.run(source, limits=Limits(memory_bytes=128 * MIB))
    assert result.status is RunStatus.MEMORY_LIMIT


def test_socket_buffers_count(sandbox) -> None:
    source = """
import socket
kept = []
while len(kept) < 900:
    pair = socket.socketpair()
    kept.append(pair)
    for end in pair:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)
        try:
            while True:
                end.send(bytes(65536))
        except BlockingIOError:
            pass
print("held all")
"""
    limits = Limits(memory_bytes=64 * MIB, open_files=2000)
    result = sandbox.run(source, limits=limits)
    assert (result.status, result.stdout) == (RunStatus.MEMORY_LIMIT, b"")
    assert result.peak_memory_bytes <= 64 * MIB + cgroup._SLACK


def test_limits_change_from_program_to_program(sandbox) -> None:
    source = (
        "import os, time\npid = os.fork()\ndata = bytearray(70 << 20)\n"
        "os.wait() if pid else time.sleep(0.5)"
    )
    small, large = Limits(memory_bytes=100 * MIB), Limits(memory_bytes=300 * MIB)
    for _ in range(2):
        assert sandbox.run(source, limits=small).status is RunStatus.MEMORY_LIMIT
        assert sandbox.run(source, limits=large).ok


@pytest.mark.parametrize(
    ("mib", "status"), [(124, RunStatus.MEMORY_LIMIT), (100, RunStatus.TIMEOUT)]
)
def test_who_runs_out_of_time_with_all_memory_taken_ran_out_of_memory(sandbox, mib, status) -> None:
    """The kernel frees the pages of its code again and again, and has no need to kill anybody."""
    source = f"data = bytearray({mib} << 20)\nwhile True: pass"
    limits = Limits(memory_bytes=128 * MIB, cpu_seconds=0.4)
    result = sandbox.run(source, limits=limits)
    assert (result.status, result.stdout) == (status, b""), result


UNCOUNTED = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
began = time.monotonic()
while time.monotonic() - began < 8:
    if os.fork() == 0:
        while time.process_time() < 0.03:
            pass
        os._exit(0)
    time.sleep(0.02)
print("done")
"""


@pytest.mark.slow
def test_the_time_of_children_that_nobody_waits_for_counts(sandbox) -> None:
    """Reaped by the kernel, they add to no parent's times, and are gone before they are seen."""
    if "cpu cgroup" not in sandbox.isolation:
        pytest.skip("no control group that counts processor time can be written here")
    limits = Limits(cpu_seconds=1, wall_seconds=30)
    result = sandbox.run(UNCOUNTED, limits=limits)
    assert (result.status, result.stdout) == (RunStatus.TIMEOUT, b""), result
    assert result.cpu_seconds < 2.5
    counted = sandbox.run("import time\nwhile time.process_time() < 0.5: pass")
    assert 0.49 < counted.cpu_seconds < 0.7


def test_the_zygote_survives_where_memory_runs_out(sandbox) -> None:
    (slot,) = sandbox._all
    source = (
        "import os\nwhile True:\n    os.fork()\n    data = bytearray(9 << 20)\n    data[:] = data"
    )
    for _ in range(3):
        result = sandbox.run(source, limits=Limits(memory_bytes=64 * MIB, cpu_seconds=2))
        assert result.status is RunStatus.MEMORY_LIMIT
    assert sandbox._all == {slot}
    assert not slot.has_died()


def test_no_group_is_left(sandbox) -> None:
    before = groups()
    made = LocalSandbox(slots=2)
    assert made.run("print(1)").ok
    own = groups() - before
    assert own
    made.close()
    assert not own & groups()


HOST = """
import rlvr.sandbox, sys, time
box = rlvr.sandbox.LocalSandbox(slots=1)
box.run("1")
print(next(iter(box._all)).pid, flush=True)
box.run("import time; time.sleep(60)", limits=rlvr.sandbox.Limits(wall_seconds=60))
"""


def start_host() -> tuple[subprocess.Popen[str], int, set[str]]:
    host = subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    launcher = int(host.stdout.readline())
    return host, launcher, {path for path in groups() if f"/rlvr-slot-{launcher}-" in path}


def test_no_group_is_left_when_the_host_is_killed(sandbox) -> None:
    host, _, own = start_host()
    assert own
    host.kill()
    host.wait()
    assert gone(own)


def test_what_a_killed_launcher_left_is_removed_by_the_next(sandbox) -> None:
    host, launcher, own = start_host()
    os.kill(launcher, signal.SIGKILL)
    host.kill()
    host.wait()
    assert own <= groups()
    with LocalSandbox(slots=1) as made:
        made.run("print(1)")
        assert own <= groups()  # too young: its launcher might be one that we cannot see
    for path in own:
        os.utime(path, (time.time() - 3600,) * 2)
    with LocalSandbox(slots=1) as made:
        made.run("print(1)")
        assert gone(own)


def test_a_group_that_lives_is_not_removed(sandbox) -> None:
    assert sandbox.run("print(1)").ok
    own = {path for path in groups() if f"/rlvr-slot-{next(iter(sandbox._all)).pid}-" in path}
    assert own
    for path in own:
        os.utime(path, (time.time() - 3600,) * 2)
    with LocalSandbox(slots=1) as other:
        other.run("print(1)")
    assert own <= groups()


# ------------------------------------------- version 2, as far as this machine's kernel has it


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """A folder with the files of a version 2 group: the controllers may be bound to version 1."""
    files = {
        "cgroup.procs": "",
        "memory.max": "max",
        "memory.current": "1000000",
        "memory.peak": "1000000",
        "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 0\noom_group_kill 0\n",
        "memory.swap.max": "max",
        "pids.max": "max",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_version_2_has_its_own_files(unified) -> None:
    group = cgroup.Group({"memory": (2, str(unified)), "pids": (2, str(unified))})
    assert group.names == ["memory cgroup", "pids cgroup"]
    assert (unified / "memory.swap.max").read_text() == "0"
    (unified / "memory.peak").write_text("1000000")
    group.begin(64 * MIB, 20)
    assert int((unified / "memory.max").read_text()) == 1000000 + 64 * MIB + cgroup._SLACK
    assert (unified / "pids.max").read_text().startswith("21")
    (unified / "memory.peak").write_text("3000000")
    assert group.end() == (False, 2000000)
    (unified / "memory.peak").write_text(str(1000000 + 64 * MIB + cgroup._SLACK))
    (unified / "memory.events").write_text("low 0\noom 2\noom_kill 2\noom_group_kill 0\n")
    assert group.end()[0]


def test_a_version_2_group_is_made_and_entered_where_there_is_one() -> None:
    """With whatever controller is free; a process moves in, and the group goes when it ends."""
    mounts = dict(cgroup._own_folders())
    if "" not in mounts or not os.access(mounts[""], os.W_OK):
        pytest.skip("no version 2 hierarchy that can be written")
    folder = cgroup._child(mounts[""], owner.name())
    assert folder
    code = f"import os; os.write(os.open({folder + '/cgroup.procs'!r}, os.O_WRONLY), b'0'); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 10
    while not Path(folder, "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Path(folder, "cgroup.procs").read_text().split() == [str(child.pid)]
    assert not cgroup._removed(folder)
    child.kill()
    child.wait()
    assert cgroup._removed(folder)
