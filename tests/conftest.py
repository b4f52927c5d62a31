"""What all tests share: real data, required capabilities, and a tiny policy.

`RLVR_REQUIRE` (a comma-separated list, set by CI) names what must be present: a skip for the want
of it is then a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from rlvr.errors import SandboxError

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several of these share the processors; before torch is imported, here and in what tests start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REQUIRED = {name for name in os.environ.get("RLVR_REQUIRE", "").split(",") if name}

SPECIFIC = {"languages", "gvisor"}
"""Capabilities beyond those that the rest of a test's module needs; they alone decide for it."""


def require(capability: str, present: bool, reason: str) -> None:
    """Skip with a reason where something is missing, or fail where it must not be."""
    if present:
        return
    if capability in REQUIRED:
        pytest.fail(f"{capability} is required here (RLVR_REQUIRE), but {reason}")
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turn a skipped test of a required capability into a failure."""
    report = yield
    marks = {mark.name for mark in item.iter_markers()}
    needed = REQUIRED & (marks & SPECIFIC or marks)
    if report.skipped and needed and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = (
            f"skipped, though {', '.join(sorted(needed))} is required: {report.longrepr}"
        )
    return report


@pytest.fixture
def busy_machine() -> Callable[..., AbstractContextManager[None]]:
    """`with busy_machine(per_processor=4):` runs so many endless loops beside the test."""

    @contextmanager
    def load(per_processor: int) -> Iterator[None]:
        count = per_processor * len(os.sched_getaffinity(0))
        command = [sys.executable, "-S", "-c", "while True: pass"]
        busy = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
        try:
            time.sleep(0.5)
            yield
        finally:
            for process in busy:
                process.kill()
            for process in busy:
                process.wait()

    return load


@pytest.fixture(scope="session")
def engine() -> Any:
    """The Docker engine of this machine, with the image that the sandbox needs."""
    docker_engine = pytest.importorskip("rlvr.sandbox.docker_engine")
    try:
        made = docker_engine.Engine()
        images = [tag for image in made.client.images.list() for tag in image.tags]
    except SandboxError as error:
        require("docker", False, str(error))
    has_image = "rlvr-sandbox:latest" in images
    require("docker", has_image, "the engine has no image rlvr-sandbox: run `make sandbox-image`")
    return made


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data."""
    folder = os.environ.get("RLVR_DATA", "")
    require("data", bool(folder) and Path(folder).is_dir(), "RLVR_DATA names no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 of a few thousand weights, saved."""
    from rlvr.policy import make_policy, save_policy

    folder = tmp_path_factory.mktemp("tiny-policy")
    save_policy(make_policy(hidden_size=32, layers=2, heads=2, seed=1), folder)
    return folder
