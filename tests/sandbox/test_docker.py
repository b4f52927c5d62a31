"""The Docker sandbox: the conformance suite over both ways to reach a container, faults, traces."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlvr.errors import SandboxError
from rlvr.sandbox import CallFailed, Limits, RunStatus
from rlvr.sandbox.conformance import Case, conformance, load_cases
from rlvr.sandbox.docker import DockerSandbox
from rlvr.sandbox.docker_engine import OWNER_LABEL, Engine, owner
from rlvr.sandbox.languages import LANGUAGES
from tests.sandbox.test_cgroup import UNCOUNTED

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SOCKET = "/var/run/docker.sock"


@pytest.fixture(scope="module")
def remote_url(engine) -> Iterator[str]:
    """The engine over TCP, as one of another machine is reached: no folder is shared with it."""
    with engine_over_tcp() as url:
        yield url


@contextlib.contextmanager
def engine_over_tcp() -> Iterator[str]:
    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(SOCKET)
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def sandbox(engine) -> Iterator[DockerSandbox]:
    with DockerSandbox(slots=1, spares=1) as made:
        yield made


@pytest.fixture(scope="module")
def remote(remote_url) -> Iterator[DockerSandbox]:
    with DockerSandbox(slots=1, spares=0, url=remote_url) as made:
        yield made


@pytest.fixture(params=["socket", "stream"])
def either(request, sandbox, remote) -> DockerSandbox:
    return sandbox if request.param == "socket" else remote


def containers(engine: Engine, who: str = "") -> list[dict[str, object]]:
    label = f"{OWNER_LABEL}={who or owner()}"
    return engine.client.api.containers(all=True, filters={"label": label})


def wait_until(condition, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def conformance_parameters() -> Iterator[object]:
    for case in load_cases():
        slow = case.name.startswith(("process_", "time_", "memory_", "output_"))
        yield pytest.param(case, id=case.name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("case", conformance_parameters())
def test_conformance(either, case: Case) -> None:
    (result,) = conformance(either, [case])
    assert result.passed, result.detail


def test_isolation_is_named_in_every_result(either) -> None:
    result = either.run("print(42)")
    assert result.isolation == either.isolation
    held = {"container", "net", "capabilities", "no_new_privs", "seccomp", "self-attack"}
    assert held <= set(result.isolation)


def test_sessions_and_their_failures(either) -> None:
    source = "def f(x): return [x, x]\ndef bad(): return [][1]\ndef spin():\n    while True: pass"
    with either.session(source, Limits(cpu_seconds=0.5)) as session:
        assert session.call("f", ["a" * 100_000]) == ["a" * 100_000] * 2
        with pytest.raises(CallFailed, match="IndexError"):
            session.call("bad")
        with pytest.raises(CallFailed) as caught:
            session.call("spin")
        assert caught.value.status is RunStatus.TIMEOUT
    assert either.run("print(1)").ok


def test_megabytes_go_in_and_out(either) -> None:
    data = os.urandom(1 << 20) * 8
    copy = "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"
    assert either.run(copy, data).stdout == data


def test_a_container_is_made_again_for_larger_limits(engine) -> None:
    source = "open('f', 'wb').write(bytes(100 << 20)); x = bytearray(700 << 20); print(len(x))"
    limits = Limits(memory_bytes=1 << 30, file_bytes=128 << 20)
    with DockerSandbox(slots=1, spares=0) as sandbox:
        assert not sandbox.run(source).ok
        assert sandbox.run(source, limits=limits).stdout == b"734003200\n"
        assert sandbox.run("print(1)").ok


# --------------------------------------------------------------------- what a program leaves behind

LEAVE_MUCH = """
import os
deep = os.open("/tmp", os.O_RDONLY)
for _ in range(3000):
    os.mkdir("d", dir_fd=deep)
    inner = os.open("d", os.O_RDONLY, dir_fd=deep)
    os.close(deep)
    deep = inner
for number in range(2000):
    open(f"/dev/shm/{number}", "w").close()
os.makedirs("/tmp/locked/in")
open("/tmp/locked/in/file", "w").close()
os.symlink("/etc", "/tmp/locked/link")
os.mkfifo("/tmp/locked/fifo")
os.chmod("/tmp/locked/in", 0)
os.chmod("/tmp/locked", 0)
os.chmod("/tmp/d", 0)
print("left")
"""


def test_whatever_is_left_is_removed_without_a_new_container(sandbox) -> None:
    sandbox.run("print(1)")
    (slot,) = sandbox._all
    assert sandbox.run(LEAVE_MUCH).stdout == b"left\n"
    look = "import os; print(os.listdir('/tmp'), os.listdir('/dev/shm'))"
    assert sandbox.run(look).stdout == b"[] []\n"
    assert sandbox._all == {slot}


def test_a_container_is_given_up_after_so_many_programs(engine, monkeypatch) -> None:
    monkeypatch.setattr("rlvr.sandbox.docker._MOST_PROGRAMS", 5)  # two of them prove the container
    with DockerSandbox(slots=1, spares=0) as sandbox:
        seen = []
        for _ in range(7):
            assert sandbox.run("print(1)").ok
            seen += [slot.container for slot in sandbox._all]
    assert [seen.count(container) for container in dict.fromkeys(seen)] == [3, 3, 1]


def test_the_time_of_children_that_nobody_waits_for_counts(sandbox) -> None:
    assert "cpu cgroup" in sandbox.isolation
    result = sandbox.run(UNCOUNTED, limits=Limits(cpu_seconds=1, wall_seconds=30))
    assert (result.status, result.stdout) == (RunStatus.TIMEOUT, b""), result


# --------------------------------------------------------------------------- the container itself


def test_a_container_is_made_as_it_should_be(engine, sandbox) -> None:
    sandbox.run("print(1)")
    (slot,) = sandbox._all
    made = engine.client.api.inspect_container(slot.container)
    host = made["HostConfig"]
    assert host["NetworkMode"] == "none" and host["IpcMode"] == "private"
    assert host["CapDrop"] == ["ALL"] and not host["CapAdd"] and not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges"]  # nothing that takes the profile away
    assert host["ReadonlyRootfs"] and host["AutoRemove"] and not host["Init"]
    assert host["Memory"] == host["MemorySwap"] > 0 and 0 < host["PidsLimit"] < 200
    assert set(host["Tmpfs"]) == {"/tmp", "/dev/shm"}
    assert all("size=" in options for options in host["Tmpfs"].values())
    assert int(made["Config"]["User"].split(":")[0]) >= 10_000
    assert [(mount["Destination"], mount["RW"]) for mount in made["Mounts"]] == [
        ("/run/rlvr", False)
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cap_drop": ["NET_RAW"]}, "no capability"),
        ({"security_opt": []}, "no-new-privileges"),
        ({"read_only": False}, "root file system"),
        ({"network_mode": "bridge"}, "network interfaces"),
        ({"pid_mode": "host"}, "expected 1, and not root"),
    ],
)
def test_a_container_that_does_not_hold_is_refused(engine, monkeypatch, change, said) -> None:
    api = type(engine.client.api)
    original = api.create_host_config
    monkeypatch.setattr(
        api, "create_host_config", lambda self, **given: original(self, **{**given, **change})
    )
    with DockerSandbox(slots=1, spares=0) as sandbox, pytest.raises(SandboxError, match=said):
        sandbox.run("print(1)")


def test_process_1_cannot_be_had(either) -> None:
    """Its attack of itself has a case for each way in; here all signals come from many at once."""
    source = """
    import os, signal
    for _ in range(20):
        if os.fork() == 0:
            for _ in range(50):
                for number in signal.valid_signals():
                    try:
                        os.kill(1, number)
                    except OSError:
                        pass
            os._exit(0)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    print("held")
    """
    either.run("print(1)")
    slots = set(either._all)
    assert either.run(textwrap.dedent(source)).stdout == b"held\n"
    assert either.run("print(1)").ok and either._all == slots


def test_memory_that_no_process_owns_is_the_programs_own(sandbox) -> None:
    """Files in `/dev/shm` and `/tmp` count against the container; what is left of it does not."""
    fill = "open('/dev/shm/x', 'wb').write(bytes(60 << 20)); print('full')"
    for _ in range(3):
        assert sandbox.run(fill).stdout == b"full\n"
    limits = Limits(memory_bytes=512 << 20)
    result = sandbox.run("x = bytearray(400 << 20); print('fits')", limits=limits)
    assert result.stdout == b"fits\n"


# ----------------------------------------------------------------------------------------- faults


def test_a_dead_container_is_replaced_without_a_verdict(engine, sandbox) -> None:
    for _ in range(2):
        assert sandbox.run("print(1)").ok
        for container in containers(engine):
            engine.remove(str(container["Id"]))
        assert sandbox.run("print(2)").stdout == b"2\n"


@pytest.mark.slow
def test_containers_killed_at_any_moment_change_no_verdict(engine) -> None:
    stop = threading.Event()
    killed = 0
    who = f"{owner()}"

    def kill() -> None:
        nonlocal killed
        while not stop.wait(1.0):
            for container in containers(engine, who)[:1]:
                with contextlib.suppress(Exception):
                    engine.client.api.kill(container["Id"])
                    killed += 1

    with DockerSandbox(slots=2, spares=2) as sandbox:
        killer = threading.Thread(target=kill)
        killer.start()
        try:
            wrong, refused, right = [], 0, 0
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline:
                try:
                    result = sandbox.run(f"import time; time.sleep(0.05); print({right})")
                except SandboxError:
                    refused += 1  # killed twice in a row: infrastructure, and said so
                    continue
                if result.stdout == b"%d\n" % right and result.ok:
                    right += 1
                else:
                    wrong.append(result)
        finally:
            stop.set()
            killer.join()
    assert killed > 3 and right > 20 and not wrong
    assert refused <= killed / 3


def test_a_session_whose_container_dies_is_infrastructure(engine) -> None:
    with DockerSandbox(slots=1, spares=0) as sandbox:
        session = sandbox.session("def f(): return 1")
        (slot,) = sandbox._all
        engine.remove(slot.container)
        with pytest.raises(SandboxError):
            session.call("f")
        assert sandbox.run("print(1)").ok


@pytest.mark.slow
def test_a_container_that_hangs_is_replaced(engine, monkeypatch) -> None:
    monkeypatch.setattr("rlvr.sandbox.slot.GRACE_SECONDS", 2.0)
    with DockerSandbox(slots=1, spares=0) as sandbox:
        assert sandbox.run("print(1)").ok
        (slot,) = sandbox._all
        engine.client.api.pause(slot.container)
        assert sandbox.run("print(2)", limits=Limits(wall_seconds=2)).stdout == b"2\n"
        assert slot not in sandbox._all
    assert not engine.is_running(slot.container)


def test_no_place_for_the_socket_is_our_fault(engine, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    with DockerSandbox(slots=1, spares=0) as sandbox, pytest.raises(SandboxError, match="nowhere"):
        sandbox.run("print(1)")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": "rlvr-no-such-image"}, "no image .*docker_image --tag rlvr-no-such-image"),
        ({"url": "unix:///nowhere/docker.sock"}, "no Docker engine answers.*systemctl start"),
        ({"url": "tcp://127.0.0.1:1"}, "no Docker engine answers at tcp://127.0.0.1:1"),
        ({"runtime": "no-such-runtime"}, "no-such-runtime.*daemon.json"),
    ],
)
def test_what_is_missing_is_said(engine, options, said) -> None:
    with DockerSandbox(slots=1, **options) as sandbox, pytest.raises(SandboxError, match=said):
        sandbox.run("print(1)")


# ------------------------------------------------------------------- an engine that stops and fills

START_ENGINE = """
set -e
mkdir -p "$1/data"
mount --make-rprivate /
test "$2" = 0 || mount -t tmpfs -o "size=$2m" tmpfs "$1/data"
ip link set lo up
exec dockerd -H "unix://$1/sock" --data-root "$1/data" --exec-root "$1/exec" \
    --pidfile "$1/pid" --bridge=none --iptables=false
"""


class OwnEngine:
    """A second engine with the same image, in namespaces of its own, away from the machine's."""

    def __init__(self, folder: Path, disk_mb: int) -> None:
        self.folder = folder
        self.disk_mb = disk_mb  # 0: as much as the folder has
        self.url = f"unix://{folder}/sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *["unshare", "-n", "-m", "sh", "-c"],
                    START_ENGINE,
                    "sh",
                    self.folder,
                    str(self.disk_mb),
                ],
                stdout=log,
                stderr=log,
            )

    def answers(self) -> bool:
        try:
            Engine(self.url).close()
        except SandboxError:
            return False
        return True

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(timeout=60)


@pytest.fixture
def own_engine(request, engine, tmp_path) -> Iterator[OwnEngine]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("dockerd", "unshare", "ip"))):
        pytest.skip("needs root, dockerd, unshare and ip")
    # The names of the sockets in it must be short: Linux takes 107 bytes.
    with tempfile.TemporaryDirectory(prefix="rlvr-engine-", ignore_cleanup_errors=True) as folder:
        made = OwnEngine(Path(folder), request.param)
        made.start()
        try:
            assert wait_until(made.answers, 60), (made.folder / "log").read_text()[-2000:]
            other = Engine(made.url)
            with (tmp_path / "image.tar").open("wb") as file:
                for piece in engine.client.images.get("rlvr-sandbox:latest").save(named=True):
                    file.write(piece)
            with (tmp_path / "image.tar").open("rb") as file:
                other.client.images.load(file)
            yield made
        finally:
            made.stop()


@pytest.mark.slow
@pytest.mark.parametrize("own_engine", [0], indirect=True)
def test_an_engine_that_stops_and_comes_back_changes_no_verdict(own_engine, monkeypatch) -> None:
    with DockerSandbox(slots=1, spares=0, url=own_engine.url) as sandbox:
        assert sandbox.run("print(1)").ok
        own_engine.stop()
        threading.Timer(2.0, own_engine.start).start()
        assert sandbox.run("print(2)").stdout == b"2\n"

        own_engine.stop()  # and this time for good
        monkeypatch.setattr("rlvr.sandbox.docker._PATIENCE", 1.0)
        with pytest.raises(SandboxError, match=r"no Docker engine answers at .*dockerd"):
            sandbox.run("print(3)")


@pytest.mark.slow
@pytest.mark.parametrize("own_engine", [1500], indirect=True)
def test_an_engine_whose_disk_is_full_is_infrastructure(own_engine) -> None:
    fill = Path(f"/proc/{own_engine.process.pid}/root{own_engine.folder}/data/fill")
    with DockerSandbox(slots=1, spares=0, url=own_engine.url) as sandbox:
        assert sandbox.run("print(1)").ok
        other = Engine(own_engine.url)
        for container in other.client.api.containers():
            other.remove(str(container["Id"]))
        with contextlib.suppress(OSError), fill.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
        with pytest.raises(SandboxError, match="no space left"):
            sandbox.run("print(2)")
        fill.unlink()
        assert sandbox.run("print(3)").stdout == b"3\n"


# -------------------------------------------------------------------------------- an ordinary user

ORDINARY = """
import sys
sys.path.insert(0, sys.argv[1])
from rlvr.errors import SandboxError
from rlvr.sandbox.conformance import conformance, load_cases
from rlvr.sandbox.docker import DockerSandbox
try:
    with DockerSandbox(slots=1, spares=0) as sandbox:
        sandbox.isolation
        cases = [case for case in load_cases() if case.name.startswith(sys.argv[2])]
        print("failed", [r for r in conformance(sandbox, cases) if not r.passed])
except SandboxError as error:
    print("refused", error)
"""


@pytest.fixture
def readable_copy(tmp_path_factory) -> Iterator[Path]:
    """The package and the SDK, where everybody can read them."""
    system = "/usr/bin/python3"
    if os.geteuid() != 0 or not shutil.which("setpriv") or not os.access(system, os.X_OK):
        pytest.skip("needs root, setpriv and a Python that other users can execute")
    import rlvr

    folder = Path("/tmp") / f"rlvr-docker-test-{os.getpid()}"
    names = ("docker", "requests", "urllib3", "idna", "certifi", "charset_normalizer")
    sources = [Path(importlib.import_module(name).__file__ or "").parent for name in names]
    for source in (Path(rlvr.__file__).resolve().parent, *sources):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, folder / source.name, ignore=ignored)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_nobody(folder: Path, group: str, cases: str) -> str:
    command = ["setpriv", "--reuid=65534", "--regid=65534", group, "/usr/bin/python3", "-c"]
    command += [ORDINARY, str(folder), cases]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    return done.stdout + done.stderr


@pytest.mark.parametrize("cases", ["privilege", pytest.param("", marks=pytest.mark.slow)])
def test_an_ordinary_user_in_the_group_docker_can_use_it(engine, readable_copy, cases) -> None:
    group = os.stat(SOCKET).st_gid
    assert "failed []\n" in as_nobody(readable_copy, f"--groups={group}", cases)


def test_who_may_not_use_the_engine_is_told_how(engine, readable_copy) -> None:
    said = as_nobody(readable_copy, "--clear-groups", "privilege")
    assert "refused user 'nobody' may not use the Docker engine" in said, said
    assert "usermod -aG docker" in said


# --------------------------------------------------------------------------- nothing is left there

HOST = """
import os, sys, time
from rlvr.sandbox.docker import DockerSandbox
from rlvr.sandbox.docker_engine import owner
sandbox = DockerSandbox(slots=2, spares=1, url=sys.argv[2] or None)
assert sandbox.run("print(1)").ok
print(owner(), flush=True)
if sys.argv[1] == "wait":
    session = sandbox.session("import time\\ndef f(): time.sleep(600)")
    session.call("f")
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["socket", "stream"])
def test_a_host_that_is_killed_leaves_no_container(engine, remote_url, way) -> None:
    command = [sys.executable, "-c", HOST, "wait", "" if way == "socket" else remote_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        who = host.stdout.readline().strip()
        assert who and containers(engine, who)
        os.kill(host.pid, signal.SIGKILL)
    # A spare that nobody has come to yet waits for a minute.
    ended = wait_until(lambda: all(c["State"] == "created" for c in containers(engine, who)), 100)
    assert ended, containers(engine, who)
    engine.reap()  # one that it had not started yet goes when the next process starts
    assert wait_until(lambda: not containers(engine, who))


@pytest.mark.parametrize("way", ["socket", "stream"])
def test_a_host_that_ends_leaves_no_container(engine, remote_url, way) -> None:
    command = [sys.executable, "-c", HOST, "end", "" if way == "socket" else remote_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not containers(engine, done.stdout.strip())


def test_containers_of_the_dead_are_reaped_and_no_others(engine) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], text=True, capture_output=True
    )
    machine = owner().split(":")[0]
    owners = {
        "dead": f"{machine}:{ended.stdout.strip()}:1",
        "another of that number": f"{machine}:{os.getpid()}:1",
        "alive": owner(),
        "of another machine": "0000/1:1:1",
        "not ours to read": "?",
    }
    made = {
        name: engine.client.api.create_container(
            "rlvr-sandbox", "true", labels={OWNER_LABEL: label}
        )["Id"]
        for name, label in owners.items()
    }
    try:
        assert engine.reap() >= 2
        left = {c["Id"] for c in engine.client.api.containers(all=True)}
        kept = {name for name, identity in made.items() if identity in left}
        assert kept == {"alive", "of another machine", "not ours to read"}
    finally:
        for identity in made.values():
            engine.remove(identity)


@pytest.mark.slow
@pytest.mark.parametrize("language", ["c", "cpp", "javascript"])
def test_other_languages_run_where_the_image_has_them(either, language) -> None:
    if missing := set(LANGUAGES[language].tools) - set(either.tools):
        pytest.skip(f"the image has no {', '.join(missing)}")
    program = either.build(LANGUAGES[language].hello, language)
    assert either.run(program).stdout == b"hello\n"


@pytest.mark.slow
@pytest.mark.gvisor
def test_under_gvisor_programs_run_and_process_1_is_out_of_reach(engine) -> None:
    if "runsc" not in engine.client.info()["Runtimes"]:
        pytest.skip("the engine has no runtime runsc")
    with DockerSandbox(slots=1, spares=0, runtime="runsc") as sandbox:
        assert {"gvisor", "tier:isolated", "self-attack"} <= set(sandbox.isolation)
        assert sandbox.run("print(input())", b"hello").stdout == b"hello\n"
        with sandbox.session("def f(x): return [x]") as session:
            assert session.call("f", [1]) == [1]
