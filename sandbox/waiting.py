"""Waiting for one descriptor, whatever its number (`select` stops at 1,024)."""

from __future__ import annotations

import select


def readable(fd: int, seconds: float) -> bool:
    """Whether something can be read, or the other end is closed, within `seconds`."""
    return _wait(fd, select.POLLIN, seconds)


def writable(fd: int, seconds: float) -> bool:
    """Whether something can be written, or the other end is closed, within `seconds`."""
    return _wait(fd, select.POLLOUT, seconds)


def _wait(fd: int, event: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(max(0.0, seconds) * 1000))
