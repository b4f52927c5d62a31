"""One container, as a slot: how it starts, how it is reached, how it ends."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr.errors import SandboxError
from rlvr.sandbox.docker_engine import CONTROL_FOLDER, ContainerSpec, Engine, is_owner_dead, owner
from rlvr.sandbox.docker_stream import AttachedStream
from rlvr.sandbox.guest.relay import Relay
from rlvr.sandbox.limits import Limits
from rlvr.sandbox.local import AT_START
from rlvr.sandbox.slot import Slot, SlotDied
from rlvr.sandbox.staying import ANYWHERE
from rlvr.sandbox.waiting import readable

START_SECONDS = 60.0
_GUEST = Path(__file__).resolve().parent / "guest"
_BOOT, _RELAY = _GUEST / "container_boot.py", _GUEST / "relay.py"
_PYTHON = ("python3", "-S", "-s", "-P", "-B", "-X", "utf8")
_FOLDERS = "rlvr-docker"
_OWN_BYTES = 128 << 20  # process 1, the relay, and the kernel's memory for a program
_OWN_PROCESSES = 32  # those two, and the engine's own while it starts the relay


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """What the programs of a container may use at most; a container cannot grow."""

    memory_bytes: int
    file_bytes: int
    processes: int

    @classmethod
    def of(cls, limits: Limits) -> Size:
        """Enough for these limits."""
        return cls(
            memory_bytes=limits.memory_bytes,
            file_bytes=limits.file_bytes,
            processes=limits.processes,
        )

    def __or__(self, other: Size) -> Size:
        """Enough for both."""
        return Size(
            memory_bytes=max(self.memory_bytes, other.memory_bytes),
            file_bytes=max(self.file_bytes, other.file_bytes),
            processes=max(self.processes, other.processes),
        )


class ContainerSlot(Slot):
    """A container with a warm interpreter.

    Args:
        control: to it, or to the relay in front of it.
        engine: what it runs on.
        container: its id.
        size: what its programs may use.
        most_programs: how many it may run, before it is given up.
        stream: the one that it is reached over, where it is.
    """

    def __init__(
        self,
        control: socket.socket,
        engine: Engine,
        container: str,
        size: Size,
        most_programs: int,
        stream: AttachedStream | None = None,
    ) -> None:
        super().__init__(control)
        self.container = container
        self.size = size
        self._engine = engine
        self._programs_left = most_programs
        self._stream = stream
        self.grow: Callable[[Size], None] = lambda size: None

    def has_died(self) -> bool:
        """Whether it has ended, or has run enough."""
        return self._programs_left <= 0 or super().has_died()

    def begin(
        self, role: str, limits: Limits, descriptors: Sequence[int], processor: int = ANYWHERE
    ) -> None:
        """Start one program.

        Raises:
            SlotDied: the container is gone, or was not made for such limits (the next one is).
        """
        needed = self.size | Size.of(limits)
        if needed != self.size:
            self._programs_left = 0
            self.grow(needed)
            raise SlotDied(f"a container holds programs of at most {self.size}, not {limits}")
        self._programs_left -= 1
        here = self._stream is None  # else it may be on another machine
        super().begin(role, limits, descriptors, processor if here else ANYWHERE)

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next message; where there is none, with what the relay said at its end.

        Raises:
            SlotDied: none came in `timeout` seconds, or the container is gone.
        """
        try:
            return super().receive(timeout)
        except SlotDied as error:
            said = self._stream.errors.decode("utf-8", "replace").strip() if self._stream else ""
            raise SlotDied(
                f"{error}; its relay says: {said[-500:]}" if said else str(error)
            ) from None

    def close(self) -> None:
        """End and remove the container. May be called twice."""
        super().close()
        if self._stream is not None:
            self._stream.close()
        container, self.container = self.container, ""
        if container:
            self._engine.remove(container)

    def forget(self) -> None:
        """In a fork of the host: let go without touching what belongs to the parent."""
        super().forget()
        self.container = ""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                os.close(self._stream.fds()[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Starter:
    """Starts containers of one kind.

    Attributes:
        engine: where.
        image: with Python 3.11 or later.
        runtime: such as `runsc`; None for the engine's own.
        python_path: folders of the image with packages.
        preload: modules to import once.
        most_programs: how many one container may run.
    """

    engine: Engine
    image: str
    runtime: str | None
    python_path: tuple[str, ...]
    preload: tuple[str, ...]
    most_programs: int

    def by_socket(self, size: Size) -> ContainerSlot:
        """Start one that connects to a Unix socket of ours, on a bind mount.

        Raises:
            SocketRefused: it did not; there may be no file system that both sides see.
            SandboxError: it does not start.
        """
        with _socket_folder() as (folder, listener):
            user = self.engine.new_user()
            container = self._run(size, user, f"{CONTROL_FOLDER}/control", str(folder))
            try:
                control = self._accept(listener, container)
            except BaseException:
                self.engine.remove(container)
                raise
        return self._greet(ContainerSlot(control, self.engine, container, size, self.most_programs))

    def by_stream(self, size: Size) -> ContainerSlot:
        """Start one that is reached over the engine's own connection.

        Raises:
            SandboxError: it does not start.
        """
        user = self.engine.new_user()
        container = self._run(size, user, "-", None)
        try:
            command = ["python3", "-I", "-S", "-c", _RELAY.read_text(encoding="utf-8")]
            stream = AttachedStream(self.engine.attach(container, command, user + 1))
        except BaseException:
            self.engine.remove(container)
            raise
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        relay = Relay(theirs, stream)
        threading.Thread(target=_carry, args=[relay], name="rlvr-relay", daemon=True).start()
        slot = ContainerSlot(control, self.engine, container, size, self.most_programs, stream)
        return self._greet(slot)

    def _run(self, size: Size, user: int, place: str, folder: str | None) -> str:
        environment = [f"{name}={value}" for name, value in AT_START.items()]
        boot = _BOOT.read_text(encoding="utf-8")
        spec = ContainerSpec(
            image=self.image,
            command=["env", "-i", *environment, *_PYTHON, "-c", boot, place],
            user=user,
            memory_bytes=size.memory_bytes + 2 * size.file_bytes + _OWN_BYTES,
            scratch_bytes=size.file_bytes,
            processes=size.processes + _OWN_PROCESSES,
            control_folder=folder,
            runtime=self.runtime,
        )
        return self.engine.start(spec)

    def _accept(self, listener: socket.socket, container: str) -> socket.socket:
        deadline = time.monotonic() + START_SECONDS
        while not readable(listener.fileno(), 0.5):
            if not self.engine.is_running(container):
                raise SocketRefused(
                    f"a container of image {self.image!r} ended before it connected: expected "
                    "Python 3.11 or later as python3, and env "
                    f"(see `docker run --rm {self.image} python3 -V`)"
                )
            if time.monotonic() > deadline:
                raise SocketRefused(f"a container did not connect in {START_SECONDS:.0f} s")
        return listener.accept()[0]

    def _greet(self, slot: ContainerSlot) -> ContainerSlot:
        """Send the guest, and hear what it reached."""
        config = {"python_path": list(self.python_path), "preload": list(self.preload)}
        try:
            with tempfile.TemporaryFile() as file:
                file.write(_sources())
                file.seek(0)
                # Opened anew, to be read only: a relay has to know which way bytes go.
                sources = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)
            try:
                socket.send_fds(slot.control, [json.dumps(config).encode()], [sources])
            except OSError as error:
                raise SlotDied(f"a container ended at its start: {error}") from error
            finally:
                os.close(sources)
            ready = slot.receive(START_SECONDS)
            if not ready.get("ready"):
                raise SandboxError(
                    f"the sandbox's container did not start: {ready.get('failed', ready)}"
                )
        except BaseException:
            slot.close()
            raise
        slot.isolation = tuple(ready["reached"])
        return slot


def _carry(relay: Relay) -> None:
    """Until the end; the slot sees it as the container's death, whichever way it shows."""
    with contextlib.suppress(OSError, ValueError, struct.error):
        relay.run()


class SocketRefused(SlotDied):
    """A container did not come to the socket that it was shown."""


@functools.cache
def _sources() -> bytes:
    """The guest's modules as JSON, by name."""
    apart = {_BOOT, _RELAY, _GUEST / "selfattack.py", _GUEST / "container_attack.py"}
    modules = {
        f"rlvr_guest.{path.stem}".removesuffix(".__init__"): path.read_text(encoding="utf-8")
        for path in sorted(_GUEST.glob("*.py"))
        if path not in apart
    }
    return json.dumps(modules).encode()


@contextlib.contextmanager
def _socket_folder() -> Any:
    """A folder with a listening socket that only this user, and a container, can come to."""
    name = owner().replace("/", "_")
    try:
        parent = Path(tempfile.mkdtemp(prefix=f"{_FOLDERS}-{name}-"))  # for us alone
    except OSError as error:
        raise SlotDied(f"no folder for a container's socket can be made: {error}") from error
    folder = parent / "control"
    try:
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
            try:  # the name of a socket is at most 107 bytes long; that of the folder may be longer
                listener.bind(f"/proc/self/fd/{handle}/control")
            finally:
                os.close(handle)
            (folder / "control").chmod(0o666)
            listener.listen(1)
            yield folder, listener
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def remove_folders_of_the_dead() -> None:
    """What processes of this user left in the folder for temporary files when they were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}-*"):
        who = path.name.removeprefix(f"{_FOLDERS}-").rpartition("-")[0].replace("_", "/")
        if is_owner_dead(who):
            shutil.rmtree(path, ignore_errors=True)
