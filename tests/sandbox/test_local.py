"""The embedded sandbox: the conformance suite, and what happens around programs."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from rlvr.errors import ConfigError, SandboxError
from rlvr.sandbox import CallFailed, Limits, LocalSandbox, RunStatus
from rlvr.sandbox.conformance import Case, conformance, load_cases
from rlvr.sandbox.guest.values import Refused

pytestmark = pytest.mark.sandbox

SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def sandbox():
    with LocalSandbox(slots=2) as made:
        yield made


def conformance_parameters():
    """All cases; those that work up to a limit are slow."""
    for case in load_cases():
        slow = case.name.startswith(("process_", "time_", "memory_", "output_"))
        yield pytest.param(case, id=case.name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("case", conformance_parameters())
def test_conformance(sandbox, case: Case) -> None:
    (result,) = conformance(sandbox, [case])
    assert result.passed, result.detail


def test_isolation_is_named_in_every_result(sandbox) -> None:
    result = sandbox.run("print(42)")
    assert result.isolation == sandbox.isolation
    assert {"pid", "mount", "net", "ipc", "private root", "seccomp", "self-attack"} <= set(
        result.isolation
    )


def test_the_ending_is_told_in_full(sandbox) -> None:
    result = sandbox.run("import sys; print('a'); print('b', file=sys.stderr); sys.exit(3)")
    assert (result.status, result.exit_code, result.signal) == (RunStatus.NONZERO_EXIT, 3, None)
    assert (result.stdout, result.stderr, result.ok) == (b"a\n", b"b\n", False)
    killed = sandbox.run("while True: pass", limits=Limits(cpu_seconds=0.2))
    assert (killed.status, killed.signal) == (RunStatus.TIMEOUT, signal.SIGKILL)
    assert 0.15 < killed.cpu_seconds < 2.0


def test_a_megabyte_of_input_is_read(sandbox) -> None:
    result = sandbox.run("import sys; print(len(sys.stdin.buffer.read()))", b"x" * (1 << 20))
    assert result.stdout == b"1048576\n"


def test_sleeping_does_not_count_as_processor_time(sandbox) -> None:
    limits = Limits(cpu_seconds=0.2, wall_seconds=10)
    assert sandbox.run("import time; time.sleep(0.6)", limits=limits).ok


def test_a_session_keeps_its_state_and_gives_plain_values(sandbox) -> None:
    source = (
        "seen = []\ndef add(x, *, twice=False):\n    seen.append(x)\n    return seen * (1 + twice)"
    )
    with sandbox.session(source) as session:
        assert session.call("add", [1]) == [1]
        assert session.call("add", [(2, None)], {"twice": True}) == [1, (2, None)] * 2


@pytest.mark.parametrize(
    "value",
    [
        *(
            -0.0,
            2**70,
            True,
            "\udc80 and \u00e9",
            b"\0",
            1j,
            None,
            [],
            (),
            {},
            {(1, "a"): [{2: ()}]},
        ),
        *(bytearray(b"x"), {1, 2}, frozenset([3]), range(3), Decimal("1.50"), Fraction(1, 3), int),
        *([[bytearray(b"y")]], IntEnum("Kind", "A").A, [[[[1]]]] * 3),  # type: ignore[attr-defined]
    ],
    ids=repr,
)
def test_arguments_arrive_as_they_are(sandbox, value) -> None:
    source = "def f(*args, **named): return [repr(args[0]), type(args[0]).__name__, named]"
    plain = int(value) if isinstance(value, IntEnum) else value
    with sandbox.session(source) as session:
        found = session.call("f", [value], {"key": value})
    assert found == [repr(plain), type(plain).__name__, {"key": plain}]


def test_arguments_that_contain_themselves_are_refused(sandbox) -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    with sandbox.session("def f(x): return x") as session:
        with pytest.raises(Refused):
            session.call("f", [cyclic])
        assert session.call("f", [1]) == 1


def test_what_a_session_defines_is_told_by_names_that_can_be_used(sandbox) -> None:
    source = (
        "import math\nglobals()['a b\\nc class'] = 1\nclass E(ValueError): pass\ndef f(): 1\nx = 2"
    )
    with sandbox.session(source) as session:
        kinds = {"math": "module:math", "f": "function", "x": "value"}
        told = session.kinds()
        assert told.pop("E").startswith("exception:ValueError,Exception")
        assert told == kinds


def test_a_session_tells_how_a_call_failed(sandbox) -> None:
    source = (
        "import os, sys\ndef bad(): return [][1]\ndef leave(): sys.exit(0)\n"
        "def crash(): os._exit(3)\ndef opaque(): return object\n"
    )
    with sandbox.session(source) as session:
        with pytest.raises(CallFailed, match="IndexError") as caught:
            session.call("bad")
        assert (caught.value.kind, caught.value.error) == ("raise", "IndexError")
        with pytest.raises(CallFailed) as caught:
            session.call("opaque")
        assert caught.value.kind == "refused"
        with pytest.raises(CallFailed) as caught:
            session.call("crash")
        assert (caught.value.kind, caught.value.status) == ("gone", RunStatus.NONZERO_EXIT)
    with sandbox.session(source) as session, pytest.raises(CallFailed) as caught:
        session.call("leave")
    assert caught.value.kind == "exit"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("def f(:", "syntax"),
        ("1 / 0", "raise"),
        ("exit()", "exit"),
        ("import os; os._exit(0)", "gone"),
    ],
)
def test_a_source_that_does_not_load_is_told_apart(sandbox, source, kind) -> None:
    with pytest.raises(CallFailed) as caught:
        sandbox.session(source)
    assert caught.value.kind == kind


def test_a_session_out_of_time_ends(sandbox) -> None:
    limits = Limits(cpu_seconds=0.3)
    with sandbox.session("def f():\n    while True: pass", limits) as session:
        with pytest.raises(CallFailed) as caught:
            session.call("f")
        assert (caught.value.kind, caught.value.status) == ("gone", RunStatus.TIMEOUT)
        with pytest.raises(CallFailed):
            session.call("f")
    assert sandbox.run("print(1)").ok


def kill_zygotes(sandbox) -> None:
    """Kill them, and wait until they are gone: a busy machine takes its time."""
    slots = list(sandbox._all)
    for slot in slots:
        os.kill(slot.pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not all(slot.has_died() for slot in slots) and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_dead_zygote_is_replaced_without_a_verdict(sandbox) -> None:
    assert sandbox.run("print(1)").ok
    kill_zygotes(sandbox)
    assert sandbox.run("print(2)").stdout == b"2\n"
    kill_zygotes(sandbox)
    with sandbox.session("def f(): return 3") as session:
        assert session.call("f") == 3


def test_a_zygote_that_dies_under_a_program_is_retried(sandbox) -> None:
    assert sandbox.run("print(1)").ok

    def kill_soon() -> None:
        time.sleep(0.4)
        for slot in list(sandbox._all):
            os.kill(slot.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_soon)
    killer.start()
    result = sandbox.run("import time; time.sleep(1.0); print('done')")
    killer.join()
    assert result.stdout == b"done\n"


def test_a_sandbox_that_cannot_start_is_an_error(monkeypatch) -> None:
    monkeypatch.setattr(sys, "_base_executable", "/nonexistent/python")
    with LocalSandbox(slots=1) as broken, pytest.raises(SandboxError, match="/nonexistent/python"):
        broken.run("print(1)")


def test_threads_share_a_sandbox(sandbox) -> None:
    outputs: dict[int, bytes] = {}

    def work(number: int) -> None:
        for _ in range(5):
            outputs[number] = sandbox.run(f"print({number} ** 2)").stdout

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == {n: f"{n * n}\n".encode() for n in range(8)}
    assert len(sandbox._all) <= 2


def test_a_fork_of_the_host_starts_its_own(sandbox) -> None:
    assert sandbox.run("print(1)").ok
    parents = {slot.pid for slot in sandbox._all}
    queue = multiprocessing.get_context("fork").SimpleQueue()

    def child() -> None:
        own = sandbox.run("print(2)").stdout
        queue.put((own, {slot.pid for slot in sandbox._all}))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    output, slots = queue.get()
    process.join()
    assert output == b"2\n"
    assert not slots & parents
    assert sandbox.run("print(3)").stdout == b"3\n"
    assert {slot.pid for slot in sandbox._all} >= set(list(parents)[:1])


def test_a_pickled_sandbox_is_as_good(sandbox) -> None:
    with pickle.loads(pickle.dumps(sandbox)) as again:
        assert again.run("print(1)").ok


def test_nothing_is_left_when_the_host_is_killed(tmp_path: Path) -> None:
    script = (
        "import rlvr.sandbox as s, sys\n"
        "box = s.LocalSandbox(slots=1)\n"
        "box.run('1')\n"
        "print(next(iter(box._all)).pid, flush=True)\n"
        "box.run('import os, time, ctypes; ctypes.CDLL(None).prctl(1, 0)\\n'\n"
        "        'os.fork(); os.setsid() if os.getpid() > 1 else 0\\n'\n"
        "        'time.sleep(60)  # left-over-marker', limits=s.Limits(wall_seconds=60))\n"
    )
    host = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    launcher = int(host.stdout.readline())
    time.sleep(0.3)
    below = _tree(launcher)
    assert len(below) >= 3  # zygote, program, its child
    host.kill()
    host.wait()
    deadline = time.monotonic() + 5
    while any(_alive(pid) for pid in [launcher, *below]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in [launcher, *below] if _alive(pid)] == []


def test_a_closed_sandbox_leaves_no_process_and_can_be_used_again() -> None:
    made = LocalSandbox(slots=1)
    assert made.run("print(1)").ok
    (slot,) = made._all
    pids = [slot.pid, *_tree(slot.pid)]
    made.close()
    time.sleep(0.05)
    assert not any(_alive(pid) for pid in pids)
    assert made.run("print(2)").stdout == b"2\n"
    made.close()


def test_many_programs_leave_no_descriptor_behind(sandbox) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    sandbox.run("print(1)")
    before = descriptors()
    for _ in range(20):
        sandbox.run("print(1)")
        sandbox.run("while True: print('x' * 9999)", limits=Limits(output_bytes=10_000))
        with sandbox.session("def f(): return 1") as session:
            session.call("f")
        with pytest.raises(CallFailed):
            sandbox.session("1/0")
    assert descriptors() == before


def test_descriptors_above_1024_work() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("the limit on descriptors is too low")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        with LocalSandbox(slots=1) as made:
            assert made.run("print(1)").ok
            with made.session("def f(): return 1") as session:
                assert session.call("f") == 1
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("options", [{"slots": 0}, {"slots": -1}])
def test_a_wrong_option_is_refused(options) -> None:
    with pytest.raises(ConfigError):
        LocalSandbox(**options)


@pytest.mark.parametrize("name", ["wall_seconds", "memory_bytes", "processes"])
def test_a_limit_of_nothing_is_refused(name) -> None:
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: 0})


def test_packages_can_be_shown_to_programs(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text("value = 42\n")
    with LocalSandbox(slots=1, python_path=[str(tmp_path)], preload=["shown"]) as made:
        assert made.run("import shown; print(shown.value)").stdout == b"42\n"
        result = made.run("import shown; open(shown.__file__, 'w')")
        assert b"Read-only" in result.stderr or b"Permission" in result.stderr
    assert (tmp_path / "shown.py").read_text() == "value = 42\n"


# ------------------------------------------------------------------------- as an ordinary user

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import rlvr.sandbox as s
from rlvr.sandbox.conformance import conformance, load_cases
try:
    print("strict", s.LocalSandbox(slots=1).isolation)
except Exception as error:
    print("refused", type(error).__name__, error)
weak = s.LocalSandbox(slots=1, allow_weaker=True)
result = weak.run("print(6 * 7)")
print("weaker", result.stdout, result.isolation)
if len(sys.argv) > 2:
    cases = [case for case in load_cases() if case.name.startswith(sys.argv[2])]
    print("failed", [r for r in conformance(weak, cases) if not r.passed])
"""


def test_numpy_can_be_preloaded_and_then_multiplies() -> None:
    """Its library would leave threads in the zygote, for which every program would wait."""
    import numpy

    packages = str(Path(numpy.__file__).resolve().parent.parent)
    with LocalSandbox(slots=1, python_path=[packages], preload=["numpy"]) as made:
        source = "import numpy\nones = numpy.ones((300, 300))\nprint(int((ones @ ones)[0, 0]))"
        assert made.run(source).stdout == b"300\n"


def test_a_preloaded_module_that_leaves_threads_behind_is_refused(tmp_path) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading as t, time\nt.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )
    made = LocalSandbox(slots=1, python_path=[str(tmp_path)], preload=["threaded"])
    with made, pytest.raises(SandboxError, match="preloading threaded left 1 threads running"):
        made.run("print(1)")


@pytest.mark.parametrize("cases", [["privilege"], pytest.param([""], marks=pytest.mark.slow)])
def test_an_ordinary_user_has_the_whole_isolation(ordinary_user, cases) -> None:
    folder, become = ordinary_user
    command = [*become, SYSTEM_PYTHON, "-c", PROGRAM, str(folder), *cases]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    if "refused SandboxError" in done.stdout:
        pytest.skip("ordinary users may not make namespaces here")
    assert "failed []" in done.stdout, done.stdout + done.stderr
    assert "'user'" in done.stdout


HOG = """
import fcntl, os, sys
held = []
for _ in range(100):
    held.append(os.pipe())
    try:
        fcntl.fcntl(held[-1][1], fcntl.F_SETPIPE_SZ, 1 << 20)
    except OSError:
        pass
def pipe():
    return fcntl.fcntl(os.pipe()[1], fcntl.F_GETPIPE_SZ)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give each slot a user of its own")
def test_what_the_kernel_counts_for_each_user_is_not_shared_by_slots() -> None:
    other = "import fcntl, os\ndef pipe(): return fcntl.fcntl(os.pipe()[1], fcntl.F_GETPIPE_SZ)"
    with (
        LocalSandbox(slots=2) as made,
        made.session(HOG) as hog,
        made.session(other) as session,
    ):
        assert hog.call("pipe") < 65536
        assert session.call("pipe") == 65536


MANY_PIPES = """
import sys, time
sys.path.insert(0, sys.argv[1])
import fcntl, os
from rlvr.errors import SandboxError
from rlvr.sandbox import Limits, LocalSandbox
held = []
for _ in range(150):
    held.append(os.pipe())
    try:
        fcntl.fcntl(held[-1][1], fcntl.F_SETPIPE_SZ, 1 << 20)
    except OSError:
        pass
print("pipes of", fcntl.fcntl(os.pipe()[1], fcntl.F_GETPIPE_SZ))
source = "".join(f"def f{n}(x):\\n    return x, 'a text {n}'\\n" for n in range(150))
try:
    with LocalSandbox(slots=1) as sandbox:
        started = time.monotonic()
        program, limits = source + "print(f7(1)[0])", Limits(wall_seconds=9)
        done = list(sandbox.run_each(program, [b"", b""], limits))
        print([(r.status.value, r.stdout) for r in done], time.monotonic() - started < 5)
        with sandbox.session(source) as session:
            print(session.call("f3", [4]), len(session.call("f3", ["a" * 99_999])[0]))
except SandboxError as error:
    print("refused", error)
"""


def test_a_user_with_many_pipes_gets_small_ones_and_the_same_results(ordinary_user) -> None:
    """From 64 MiB of pipes on (those of programs count too), the kernel makes them of two pages."""
    folder, become = ordinary_user
    command = [*become, SYSTEM_PYTHON, "-c", MANY_PIPES, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    if "refused" in done.stdout and "namespaces" in done.stdout:
        pytest.skip("ordinary users may not make namespaces here")
    said = done.stdout.splitlines()
    if said[:1] and int(said[0].split()[-1]) > 8192:
        pytest.skip("this machine lets an ordinary user have as many pipes as it likes")
    assert said[1:] == ["[('ok', b'1\\n'), ('ok', b'1\\n')] True", "(4, 'a text 3') 99999"], done


def test_where_isolation_is_missing_it_refuses_and_says_what(ordinary_user) -> None:
    folder, become = ordinary_user
    shell = (
        "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --no-new-privs --inh-caps=-all "
        '--bounding-set=-all "$@"'
    )
    unshare = ["unshare", "-Ur", "sh", "-c", shell, "sh"]
    command = [*become, *unshare, SYSTEM_PYTHON, "-c", PROGRAM, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if "unshare" in done.stderr:
        pytest.skip("cannot make a place without namespaces here")
    assert "refused SandboxError" in done.stdout, done.stdout + done.stderr
    for name in ("pid", "mount", "net", "allow_weaker=true"):
        assert name in done.stdout
    assert "weaker b'42\\n'" in done.stdout
    assert "'pid'" not in done.stdout


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _tree(root: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]
