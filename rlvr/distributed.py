"""Several processes that train one policy: who this process is, and what they tell each other.

`torchrun` starts the processes and says in the environment which one each of them is; `join` makes
them a `World`. Without `torchrun` the world is `ALONE`: one process, for which everything here does
nothing. Tensors on a GPU travel by NCCL, all else by gloo. What travels besides tensors is bytes
and JSON, never a pickle.

No error leaves the others waiting: the process that fails posts its message where all the others
look twice a second, and they end too. A process that was killed cannot post: `torchrun` notices
that and ends the others; where another launcher does not, the next exchange fails, at the latest
after `timeout` seconds.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from rlvr.errors import DistributedError, RlvrError

T = TypeVar("T")

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 30.0
"""How long a process that failed may take to end; then it is ended with its stack printed."""
_BUCKET_BYTES = 64 << 20
"""Gradients are summed in pieces of about this size: each needs a copy."""


@dataclass(frozen=True)
class World:
    """The processes of a run. Every method that communicates is called by all of them, in order.

    Attributes:
        rank: which process this is, from 0.
        size: how many there are.
        device: the kind of device that they compute on: `cpu` or `cuda`.
        sharded: whether each holds a part of the weights (FSDP) rather than all of them.
        timeout: seconds that a process waits for the others in one exchange.
        group: of torch; `None` is the one of all threads that have no other.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    sharded: bool = False
    timeout: float = 1800.0
    group: dist.ProcessGroup | None = None

    def apart(self) -> World:
        """The same processes, for another thread: what the two say does not get mixed up."""
        if self.size == 1:
            return self
        return dataclasses.replace(
            self, group=dist.new_group(backend="gloo", timeout=timedelta(seconds=self.timeout))
        )

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes what is written once."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The part of this process: neighbours, as many as the others have (give or take one).

        The shares of all processes one after the other, in the order of rank, are `items`.
        """
        start = self.start_of_share(len(items))
        return items[start : len(items) * (self.rank + 1) // self.size]

    def start_of_share(self, count: int) -> int:
        """Where the share of this process begins among `count` items."""
        return count * self.rank // self.size

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over processes, elementwise, the same on all of them."""
        total = tensor.detach().clone()
        if self.size > 1:
            with _named("summing"):
                dist.all_reduce(total, group=self.group)
        return total

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over processes, added up in float32 at least.

        A process without a gradient adds nothing; where none has one, there is none afterwards.
        """
        if self.size == 1:
            return
        parameters = list(parameters)
        if not parameters:
            return
        present = torch.tensor([float(p.grad is not None) for p in parameters])
        somewhere = self.sum(present).tolist()
        wanted = [p for p, count in zip(parameters, somewhere, strict=True) if count]
        for bucket in _buckets(wanted):
            for parameter in bucket:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            gradients = [p.grad for p in bucket if p.grad is not None]
            flat = torch.cat([_at_least_float32(gradient).flatten() for gradient in gradients])
            with _named("summing gradients"):
                dist.all_reduce(flat, group=self.group)
            pieces = flat.split([gradient.numel() for gradient in gradients])
            for gradient, piece in zip(gradients, pieces, strict=True):
                gradient.copy_(piece.view_as(gradient))

    def gather_bytes(self, data: bytes) -> list[bytes]:
        """What each process gives, by rank, to all of them."""
        if self.size == 1:
            return [data]
        with _named("gathering"):
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
            dist.all_gather(sizes, torch.tensor([len(data)]), group=self.group)
            longest = max(1, *(int(size) for size in sizes))
            own = torch.zeros(longest, dtype=torch.uint8)
            own[: len(data)] = torch.frombuffer(bytearray(data or b"\0"), dtype=torch.uint8)[
                : len(data)
            ]
            received = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
            dist.all_gather(received, own, group=self.group)
        return [
            part[: int(size)].numpy().tobytes() for part, size in zip(received, sizes, strict=True)
        ]

    def gather(self, value: Any) -> list[Any]:
        """The plain JSON values that the processes give, by rank, to all of them."""
        if self.size == 1:
            return [value]
        return [json.loads(data) for data in self.gather_bytes(json.dumps(value).encode())]

    def broadcast(self, value: Any) -> Any:
        """The main process's plain JSON value, on all processes; what the others give is unread."""
        if self.size == 1:
            return value
        data = json.dumps(value).encode() if self.is_main else b""
        with _named("broadcasting"):
            size = torch.tensor([len(data)])
            dist.broadcast(size, src=0, group=self.group)
            body = torch.frombuffer(bytearray(data.ljust(int(size), b"\0")), dtype=torch.uint8)
            dist.broadcast(body, src=0, group=self.group)
        return json.loads(body.numpy().tobytes())

    def on_main(self, action: Callable[[], Any]) -> Any:
        """Let the main process do something; its plain JSON result, on all processes.

        An error of the main process ends the others too, so that none waits for it.
        """
        return self.broadcast(action() if self.is_main else None)

    def add_up(self, sums: dict[str, float]) -> dict[str, float]:
        """Sums by name, added up over processes; a process may lack names that others have."""
        if self.size == 1:
            return sums
        added: dict[str, float] = {}
        for part in self.gather(sums):
            for name, value in part.items():
                added[name] = added.get(name, 0.0) + value
        return added

    def barrier(self) -> None:
        """Wait until all processes have come here."""
        if self.size > 1:
            with _named("waiting"):
                dist.all_reduce(torch.zeros(1), group=self.group)

    def check_equal(self, what: str, value: Any) -> None:
        """Make sure that a plain JSON value is the same on all processes.

        Raises:
            DistributedError: it is not: going on would mix different runs, or wait for ever.
        """
        values = self.gather(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise DistributedError(
                    f"{what} differs between process 0 ({values[0]}) and process {rank} ({other}): "
                    "something in the environment or the verifier does not depend on the seed alone"
                )


ALONE = World()
"""One process."""


def launched() -> bool:
    """Whether a launcher such as `torchrun` says in the environment which process this is."""
    return all(os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))


@contextmanager
def join(*, mode: str, timeout: float, device: str) -> Iterator[World]:
    """Be one of the processes that `torchrun` started, or alone where it did not.

    Args:
        mode: `data_parallel`, `fsdp`, or `auto`: `fsdp` on GPUs.
        timeout: seconds that a process waits for the others in one exchange.
        device: `auto` or a torch device; on GPUs each process takes that of its local rank.

    Raises:
        DistributedError: another process was lost, or did not answer in time.
    """
    if not launched():
        yield ALONE
        return
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    limit = timedelta(seconds=timeout)
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=limit)))
        store.set_timeout(limit)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
            store=PrefixStore("group", store),
            rank=rank,
            world_size=size,
            timeout=limit,
        )
    except (dist.DistError, RuntimeError) as error:
        raise DistributedError(f"the processes did not find each other: {error}") from error
    board = _Board(store, rank)
    kind = "cuda" if on_gpu else "cpu"
    try:
        sharded = mode == "fsdp" or (mode == "auto" and on_gpu)
        world = World(rank, size, kind, sharded, timeout)
        yield world
        board.stop()
        world.barrier()
    except BaseException as error:
        faulthandler.dump_traceback_later(_GRACE_SECONDS, exit=True)
        if not board.post(_message(error)):
            raise SystemExit(1) from error  # another process failed first, and says why
        if isinstance(error, RlvrError) or not _is_lost_contact(error):
            raise
        raise DistributedError(_lost_contact("training", error)) from error
    dist.destroy_process_group()


class _Board:
    """Where the first process that fails says why, and the others learn of it.

    Args:
        store: that all processes share.
        rank: of this process.
    """

    def __init__(self, store: Store, rank: int) -> None:
        clone: Callable[[], Store] = store.clone  # type: ignore[attr-defined]  # one for a thread
        self._store = PrefixStore("failure", clone())
        self._watched = PrefixStore("failure", clone())
        self._rank = rank
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="failures", daemon=True)
        self._thread.start()

    def post(self, message: str) -> bool:
        """Say why this process fails; whether it is the first one to."""
        self.stop()
        own = json.dumps([self._rank, message])
        try:
            return bool(self._store.compare_set("first", "", own).decode() == own)
        except (dist.DistError, RuntimeError):  # the store went down with its process
            return True

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            try:
                if not self._watched.check(["first"]):
                    continue
                rank, message = json.loads(self._watched.get("first"))
                reason = f"process {rank} failed: {message}"
            except (dist.DistError, RuntimeError):
                reason = "the process that holds the others together is gone"
            print(f"rlvr: process {self._rank} ends: {reason}", file=sys.stderr, flush=True)
            os._exit(1)  # the main thread may be waiting for the process that failed


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn a failed exchange into an error that says what it was for."""
    try:
        yield
    except (dist.DistError, RuntimeError) as error:
        raise DistributedError(_lost_contact(what, error)) from error


def _is_lost_contact(error: BaseException) -> bool:
    """Whether an error of torch is that of an exchange, rather than of a computation."""
    text = str(error)
    signs = ("Connection", "connection", "Timed out", "timed out", "NCCL", "gloo")
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(sign in text for sign in signs)
    )


def _lost_contact(what: str, error: BaseException) -> str:
    reason = " ".join(str(error).split())
    return (
        f"another process was lost, or did not answer within distributed.timeout, while {what}: "
        f"{reason[:300]}"
    )


def _message(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _buckets(parameters: Sequence[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Neighbours on one device, up to about `_BUCKET_BYTES` of float32 together."""
    bucket: list[torch.nn.Parameter] = []
    size = 0
    for parameter in parameters:
        if bucket and size + 4 * parameter.numel() > _BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += 4 * parameter.numel()
    if bucket:
        yield bucket


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
