"""What the two ends of the verifier pool share: framing, and whether this process is a worker.

Frames travel over stream sockets: eight bytes of length, then the bytes. What goes to a worker is
pickled by its own parent; what comes back is JSON, so that nothing a verifier did in a worker can
run code in the caller.
"""

from __future__ import annotations

import math
import socket
import struct
import time

LENGTH = struct.Struct("!Q")
MAX_REPLY_BYTES = 64 << 20

FORK = b"F"
"""To the nursery, with one descriptor: fork a worker on it. It answers with its pid (`LENGTH`)."""

KILL = b"K"
"""To the nursery, with a pid: kill that worker and all it started. It answers with the wait status
(`LENGTH`)."""

inside_worker = False
"""Whether this process is a worker of a pool: then nested grading runs where it is."""

deadline: float | None = None
"""In a worker: when (`time.monotonic`) the item at hand is stopped from outside."""


def seconds_left() -> float | None:
    """How long the item at hand may still take; `None` outside a worker."""
    return None if deadline is None else deadline - time.monotonic()


def before_the_deadline(seconds: float, spare: float) -> float:
    """`seconds`, or less, so that a share of what the pool allows (of 10 s at most) is left.

    Args:
        seconds: outside a worker, what comes back.
        spare: the share, from 0 to 1.
    """
    left = seconds_left()
    if left is None:
        return seconds
    until = left - spare * min(left, 10.0)
    # In tenths: limits that are the same again cost the sandbox less.
    return max(0.1, min(seconds, math.floor(10 * until) / 10))


def send_frame(connection: socket.socket, data: bytes) -> None:
    """Send one frame, whole."""
    connection.sendall(LENGTH.pack(len(data)) + data)


def receive_frame(connection: socket.socket) -> bytes | None:
    """Receive one frame, or `None` where the other end closed before its end."""
    header = receive_exactly(connection, LENGTH.size)
    if header is None:
        return None
    return receive_exactly(connection, LENGTH.unpack(header)[0])


def receive_exactly(connection: socket.socket, size: int) -> bytes | None:
    """Receive `size` bytes, or `None` where the other end closed before."""
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(min(size - len(data), 1 << 20))
        if not chunk:
            return None
        data += chunk
    return bytes(data)
