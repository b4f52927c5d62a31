r"""The Docker sandbox, `docker`: hostile programs in hardened containers that are kept warm.

    sandbox = DockerSandbox()                            # the engine of this machine
    sandbox = DockerSandbox(url="tcp://machine:2376")    # or another's
    sandbox = DockerSandbox(runtime="runsc")             # under gVisor
    sandbox.run("print(input())", b"hello").stdout       # b"hello\n"

A container runs one program at a time, and is wiped after each. `docs/sandbox.md` says what holds.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlvr.errors import ConfigError, SandboxError
from rlvr.sandbox import calibration, tiers
from rlvr.sandbox.calibration import slowness
from rlvr.sandbox.docker_engine import DEFAULT_IMAGE, Engine, EngineUnreachable
from rlvr.sandbox.docker_slot import (
    ContainerSlot,
    Size,
    SocketRefused,
    Starter,
    remove_folders_of_the_dead,
)
from rlvr.sandbox.limits import Limits
from rlvr.sandbox.pool import SlotPool
from rlvr.sandbox.running import run_on
from rlvr.sandbox.selfcheck import prove_container, prove_gvisor
from rlvr.sandbox.slot import Slot, SlotDied

_PATIENCE = 30.0  # for an engine that was there, and is being started again
_MOST_PROGRAMS = 10_000


class DockerSandbox(SlotPool):
    """Runs Python programs in containers of a Docker engine, on this machine or another.

    Args:
        slots: programs at once; by default as many as this machine has processors.
        image: with Python 3.11 or later; `python -m rlvr.sandbox.docker_image` builds the default.
        url: of the engine; by default what `DOCKER_HOST` says, or this machine's.
        runtime: the container runtime, such as `runsc` for gVisor; by default the engine's.
        spares: containers to keep started beside those in use.
        python_path: folders of the image with packages that programs may import.
        preload: modules to import once, before any program.
        calibrate: whether limits of processor time grow where the engine's machine is slower than
            the reference (`rlvr.sandbox.calibration`).
        require: the weakest tier to run at (`rlvr.sandbox.tiers`).

    Raises:
        ConfigError: `slots` is below 1, or `spares` below 0, or there is no such tier.
        SandboxError: on first use, where the engine or the image is missing, or the container does
            not hold.
    """

    name = "docker"
    has_own_packages = True

    def __init__(
        self,
        slots: int | None = None,
        image: str = DEFAULT_IMAGE,
        url: str | None = None,
        runtime: str | None = None,
        spares: int = 1,
        python_path: Sequence[str] = (),
        preload: Sequence[str] = (),
        calibrate: bool = True,
        require: str = "isolated",
    ) -> None:
        if spares < 0:
            raise ConfigError(f"sandbox 'docker': spares is {spares}: expected 0 or more")
        self._image, self._url, self._runtime = image, url, runtime
        self._most_spares = spares
        self._require = tiers.check_name(require)
        self._python_path, self._preload = tuple(python_path), tuple(preload)
        self._size_needed = Size.of(Limits())
        self._by_stream = runtime is not None  # gVisor lets no socket of the host in
        super().__init__(slots, calibrate)

    def __reduce__(self) -> Any:
        return (
            DockerSandbox,
            (
                self._size,
                self._image,
                self._url,
                self._runtime,
                self._most_spares,
                self._python_path,
                self._preload,
                self._calibrate,
                self._require,
            ),
        )

    def _reset(self) -> None:
        super()._reset()
        self._spares: list[ContainerSlot] = []
        self._refilling: threading.Thread | None = None
        self._closing = False
        self._starter: Starter | None = None
        self._remote_slowness: float | None = None
        self._connecting = threading.Lock()
        self._spare_lock = threading.Lock()

    # --------------------------------------------------------------------------------- containers

    def _start(self) -> Slot:
        """A spare where there is one; each taken is replaced behind our back."""
        slot = self._take_spare()
        if slot is None:
            slot = self._start_patiently()
        self._refill()
        return slot

    def _take_spare(self) -> ContainerSlot | None:
        while True:
            with self._spare_lock:
                if not self._spares:
                    return None
                slot = self._spares.pop()
            if slot.size == self._size_needed and not slot.has_died():
                return slot
            slot.close()

    def _refill(self) -> None:
        with self._spare_lock:
            busy = self._refilling is not None and self._refilling.is_alive()
            if busy or self._closing or len(self._spares) >= self._most_spares:
                return
            self._refilling = threading.Thread(
                target=self._start_spares, name="rlvr-spares", daemon=True
            )
            self._refilling.start()

    def _start_spares(self) -> None:
        """Until there are enough; a failure here shows when the next program needs a container."""
        with contextlib.suppress(SandboxError):
            while not self._closing and len(self._spares) < self._most_spares:
                slot = self._start_container()
                with self._spare_lock:
                    self._spares.append(slot)

    def _start_patiently(self) -> ContainerSlot:
        """Wait for an engine that was there before; at first use none is an error at once."""
        deadline = time.monotonic() + (_PATIENCE if self._starter is not None else 0.0)
        while True:
            try:
                return self._start_container()
            except EngineUnreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _start_container(self) -> ContainerSlot:
        """A container that was proved to hold."""
        starter = self._connect()
        size = self._size_needed
        if self._by_stream or not starter.engine.is_local:
            slot = starter.by_stream(size)
        else:
            try:
                slot = starter.by_socket(size)
            except SocketRefused:
                # The engine is behind a tunnel, in another mount namespace, or guarded by labels.
                slot = starter.by_stream(size)
                self._by_stream = True
        slot.grow = self._grow
        try:
            tiers.demand(self._require, slot.isolation)
            for attack in prove_gvisor if "gvisor" in slot.isolation else prove_container:
                with attack.program() as (source, stdin):
                    result = run_on(slot, source, stdin, Limits(wall_seconds=30))
                proved = attack.judge(result, slot.isolation)
            slot.isolation = tiers.named((*slot.isolation, *proved))
        except BaseException:
            slot.close()
            raise
        return slot

    def _slowness(self, slot: Slot) -> float:
        if self._starter is None or self._starter.engine.is_local:
            return slowness()
        if self._remote_slowness is None:
            source = Path(calibration.__file__).read_text(encoding="utf-8")
            try:
                result = run_on(slot, f"{source}\nprint(slowness())".encode(), b"", Limits())
                self._remote_slowness = float(result.stdout)
            except (SandboxError, ValueError) as error:
                slot.close()
                raise SlotDied(f"the engine's machine cannot be timed: {error}") from error
        return self._remote_slowness

    def _connect(self) -> Starter:
        """The engine, rid of what the dead have left there."""
        with self._connecting:
            if self._starter is None:
                engine = Engine(self._url)
                engine.reap()
                remove_folders_of_the_dead()
                self._starter = Starter(
                    engine=engine,
                    image=self._image,
                    runtime=self._runtime,
                    python_path=self._python_path,
                    preload=self._preload,
                    most_programs=_MOST_PROGRAMS,
                )
            return self._starter

    def _grow(self, size: Size) -> None:
        self._size_needed |= size

    def close(self) -> None:
        """End and remove every container. The sandbox can be used again afterwards."""
        self._closing = True
        try:
            super().close()
            if self._refilling is not None:
                self._refilling.join(timeout=30)
            with self._spare_lock:
                spares, self._spares = self._spares, []
            for slot in spares:
                slot.close()
        finally:
            self._closing = False
